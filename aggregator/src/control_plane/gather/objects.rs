//! ConfigMaps and the objects of CNI allocators.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::mark;
use crate::cluster::PlaneEvent;
use crate::cluster::objects::{
    Block, CiliumNode, ClusterCidr, Delegates, IpPool, NodeNetworkConfig, RangeWitness, Resource,
};
use crate::control_plane::kind::Kind;
use crate::control_plane::record::{
    Named, Object, antrea, aws, azure, calico, cilium, cluster_cidr, flannel, kube_proxy, kubeadm, openshift,
};

/// What one object says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Range(RangeWitness),
    CiliumConfig(RangeWitness, Option<String>),
    CiliumNode(CiliumNode),
    Pool(IpPool),
    Block(Block),
    ClusterCidr(ClusterCidr),
    NetworkConfig(NodeNetworkConfig),
    Name(String),
}

/// Objects by kind and name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    says: BTreeMap<Kind, BTreeMap<String, Says>>,
    changed: BTreeSet<Kind>,
}

impl Objects {
    /// Takes an object; gives its name.
    pub(super) fn put(&mut self, kind: Kind, object: &(impl Object + ?Sized)) -> Result<(String, String), String> {
        let named: Named = object.read()?;
        let key = named.metadata.key();
        let value: Value = object.read()?;
        let says = read(kind, &value)?;
        let of_kind = self.says.entry(kind).or_default();
        if of_kind.get(&key) != Some(&says) {
            of_kind.insert(key.clone(), says);
            self.changed.insert(kind);
        }
        Ok((String::new(), key))
    }

    pub(super) fn forget(&mut self, kind: Kind, key: &str) {
        if self.says.get_mut(&kind).is_some_and(|says| says.remove(key).is_some()) {
            self.changed.insert(kind);
        }
    }

    /// After a list: only those that it had are left.
    pub(super) fn sweep(&mut self, kind: Kind, seen: &HashSet<u64>) {
        let Some(says) = self.says.get_mut(&kind) else { return };
        let before = says.len();
        says.retain(|key, _| seen.contains(&mark(("", key))));
        if says.len() != before {
            self.changed.insert(kind);
        }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Says> {
        self.says.get(&kind).into_iter().flat_map(|says| says.values())
    }

    /// Label keys that ClusterCIDRs select Nodes by.
    pub(super) fn label_keys(&self) -> BTreeSet<String> {
        let requirements = self.of(Kind::ClusterCidrs).flat_map(|says| match says {
            Says::ClusterCidr(range) => range.selector.as_slice(),
            _ => &[],
        });
        let labels = requirements.flatten().filter(|requirement| !requirement.field);
        labels.map(|requirement| requirement.key.clone()).collect()
    }

    /// What changed.
    pub(super) fn changes(&mut self, known: &BTreeSet<Kind>, all: bool, events: &mut Vec<PlaneEvent>) {
        let (changed, later) = std::mem::take(&mut self.changed)
            .into_iter()
            .partition(|kind| known.contains(kind) && (all || !many(*kind)));
        self.changed = later;
        let mut resources: BTreeSet<Resource> = BTreeSet::new();
        let mut delegates = false;
        let changed: BTreeSet<Kind> = changed;
        for kind in changed {
            match kind {
                Kind::KubeadmConfig
                | Kind::KubeProxyConfig
                | Kind::FlannelConfig
                | Kind::OldFlannelConfig
                | Kind::AntreaConfig
                | Kind::OpenShiftNetworks => _ = resources.insert(kind.resource()),
                Kind::CiliumConfig => {
                    resources.insert(kind.resource());
                    delegates = true;
                }
                _ => delegates = true,
            }
        }
        for resource in resources {
            let kinds = Kind::ALL.into_iter().filter(|kind| kind.resource() == resource);
            let words = kinds.flat_map(|kind| self.of(kind)).filter_map(|says| match says {
                Says::Range(word) | Says::CiliumConfig(word, _) => Some(word.clone()),
                _ => None,
            });
            events.push(PlaneEvent::Ranges(resource, words.collect()));
        }
        if delegates {
            events.push(PlaneEvent::Delegates(Box::new(self.delegates(known))));
        }
    }

    fn delegates(&self, known: &BTreeSet<Kind>) -> Delegates {
        let mut delegates = Delegates::default();
        let listed = self.says.iter().filter(|(kind, _)| known.contains(kind));
        for says in listed.flat_map(|(_, says)| says.values()) {
            match says {
                Says::Range(_) => {}
                Says::CiliumConfig(_, ipam) => delegates.cilium_ipam.clone_from(ipam),
                Says::CiliumNode(node) => delegates.cilium_nodes.push(node.clone()),
                Says::Pool(pool) => delegates.ip_pools.push(pool.clone()),
                Says::Block(block) => delegates.blocks.push(block.clone()),
                Says::ClusterCidr(range) => delegates.cluster_cidrs.push(range.clone()),
                Says::NetworkConfig(config) => delegates.node_network_configs.push(config.clone()),
                Says::Name(name) => delegates.cni_nodes.push(name.clone()),
            }
        }
        delegates
            .blocks
            .sort_by(|a, b| (&a.node, a.cidr).cmp(&(&b.node, b.cidr)));
        delegates.node_network_configs.sort_by(|a, b| a.node.cmp(&b.node));
        delegates
    }
}

/// Kinds of which there is one object a node, or more.
fn many(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::CiliumNodes | Kind::BlockAffinities | Kind::NodeNetworkConfigs | Kind::CniNodes
    )
}

fn read(kind: Kind, value: &Value) -> Result<Says, String> {
    Ok(match kind {
        Kind::KubeadmConfig => Says::Range(kubeadm::record(value)?),
        Kind::KubeProxyConfig => Says::Range(kube_proxy::record(value)?),
        Kind::FlannelConfig | Kind::OldFlannelConfig => Says::Range(flannel::record(value)?),
        Kind::AntreaConfig => Says::Range(antrea::record(value)?),
        Kind::OpenShiftNetworks => Says::Range(openshift::record(value)?),
        Kind::CiliumConfig => {
            let (word, ipam) = cilium::config(value);
            Says::CiliumConfig(word, ipam)
        }
        Kind::CiliumNodes => Says::CiliumNode(cilium::node(value)?),
        Kind::IpPools => Says::Pool(calico::pool(value)?),
        Kind::BlockAffinities => Says::Block(calico::block(value)?),
        Kind::ClusterCidrs => Says::ClusterCidr(cluster_cidr::record(value)?),
        Kind::NodeNetworkConfigs => Says::NetworkConfig(azure::record(value)?),
        Kind::CniNodes => Says::Name(aws::name(value)?),
        Kind::Nodes | Kind::Pods | Kind::SandboxEvents | Kind::NodeEvents => {
            return Err("it is read elsewhere".to_owned());
        }
    })
}
