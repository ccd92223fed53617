//! NodeNetworkConfigs of Azure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cidrift_proto::finding::{Affected, Claim, Severity};
use ipnet::IpNet;

use super::{frame, overlapping};
use crate::cluster::objects::Resource;
use crate::correlate::{Scene, cap_affected, words};

pub(super) fn claims(scene: &Scene<'_>) -> Vec<Claim> {
    let configs = &scene.plane.around.delegates.node_network_configs;
    // Only in overlay mode a prefix is one node's; else it is the subnet that all of them share.
    let overlay = |name: &str| {
        let labels = scene.node(name).map(|node| &node.labels);
        labels.is_some_and(|labels| {
            let is = |key: &str, value: &str| labels.get(key).is_some_and(|label| label == value);
            is("kubernetes.azure.com/podnetwork-type", "overlay")
                || is("kubernetes.azure.com/azure-cni-overlay", "true")
        })
    };
    let owned: Vec<(&str, IpNet)> = configs
        .iter()
        .filter(|config| overlay(&config.node))
        .flat_map(|config| config.cidrs.iter().map(|cidr| (config.node.as_str(), *cidr)))
        .collect();
    let mut claims = overlapping(
        scene,
        Resource::NodeNetworkConfigs,
        "NodeNetworkConfig",
        &owned,
        "Azure's allocator gave two nodes of the overlay the same addresses.",
        |names| {
            format!(
                "Cordon and drain {}, and replace its instance; report it to Azure.",
                names.last().unwrap_or(&"one of them")
            )
        },
    );
    let mut holders: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for config in configs {
        for address in &config.addresses {
            holders.entry(*address).or_default().push(&config.node);
        }
    }
    let mut doubles: BTreeMap<&str, Vec<(IpAddr, Vec<&str>)>> = BTreeMap::new();
    for (address, mut nodes) in holders {
        nodes.sort_unstable();
        nodes.dedup();
        if let [first, _, ..] = nodes.as_slice() {
            doubles.entry(first).or_default().push((address, nodes));
        }
    }
    for (name, addresses) in doubles {
        let mut claim = frame(scene, name.to_owned(), Severity::Error, Resource::NodeNetworkConfigs);
        let (address, nodes) = &addresses[0];
        claim.summary = format!("{} hold {address}", words::list(nodes));
        claim.nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        claim.affected = addresses
            .iter()
            .map(|(address, nodes)| Affected {
                prefix: Some(IpNet::from(*address)),
                node: None,
                detail: format!("held by {}", words::list(nodes)),
            })
            .collect();
        claim.affected_total = cap_affected(&mut claim.affected);
        claim.evidence = nodes
            .iter()
            .map(|node| {
                let source = format!("NodeNetworkConfig {node}");
                scene.around_evidence(Resource::NodeNetworkConfigs, source, format!("{address}"))
            })
            .collect();
        claim.cause = "Azure's allocator assigned an address to two nodes.".to_owned();
        claim.remedy = format!(
            "kubectl -n kube-system get nodenetworkconfig {name} -o yaml; delete the pod that has {address} on one of them."
        );
        claims.push(claim);
    }
    claims
}
