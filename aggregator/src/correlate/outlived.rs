//! Pods that outlived their Node: they run on with addresses that the Node, made again under its name, does
//! not have. They show a rebirth that nobody watched, after a restart of the aggregator too.

use std::net::IpAddr;

use cidrift_proto::finding::{Affected, Evidence};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{Scene, words};
use crate::cluster::NodeRecord;
use crate::cluster::around::PodRecord;
use crate::cluster::objects::Resource;
use crate::engine::memory::Former;
use crate::ipam::Ipam;

/// kube-router takes its range from here where it is set, not from `spec.podCIDR`.
const KUBE_ROUTER: &str = "kube-router.io/pod-cidr";

/// A pod with an address that its Node does not have any more.
#[derive(Debug, Clone)]
pub struct Leftover<'a> {
    /// The pod.
    pub pod: &'a PodRecord,
    /// The address.
    pub address: IpAddr,
    /// It got the address after the Node was made again: the host still hands out the old CIDR.
    pub late: bool,
}

/// All of a node: those with addresses of a CIDR that it is known to have had, and those that are older than the Node.
pub fn of<'a>(scene: &Scene<'a>, node: &NodeRecord, former: &[&Former]) -> Vec<Leftover<'a>> {
    let Some(pods) = scene.plane.around.pods.get(&node.name) else {
        return Vec::new();
    };
    let clear = match scene.ipam(node) {
        Ipam::Delegated(_) | Ipam::NoDataPlane(_) => return Vec::new(),
        Ipam::PodCidr => true,
        Ipam::Unclear(_) => false,
    };
    if node.annotations.keys().any(|key| key.starts_with(KUBE_ROUTER)) {
        return Vec::new();
    }
    let Some(made) = node.created_at.map(Timestamp::as_second) else {
        return Vec::new();
    };
    let inside = |address: IpAddr| node.pod_cidrs.iter().any(|cidr| cidr.contains(&address));
    // Where it is not known what the CNI does, its newer pods must show that it uses the field.
    let newer = |pod: &PodRecord| pod.sandbox_since >= made && pod.addresses.iter().any(inside);
    let used = clear || pods.pods.iter().any(newer);
    let mut found = Vec::new();
    for pod in pods.pods.iter().filter(|pod| pod.sandbox_since > 0) {
        for address in pod.addresses.iter() {
            let family = node
                .pod_cidrs
                .iter()
                .any(|cidr| cidr.addr().is_ipv4() == address.is_ipv4());
            if !family || inside(address) {
                continue;
            }
            let known = former.iter().any(|former| former.cidr.contains(&address));
            let older = pod.created < made && pod.sandbox_since < made;
            if known || (older && used) {
                found.push(Leftover {
                    pod,
                    address,
                    late: pod.sandbox_since >= made,
                });
            }
        }
    }
    found
}

/// A row for each.
pub fn rows(node: &NodeRecord, left: &[Leftover<'_>]) -> Vec<Affected> {
    let row = |left: &Leftover<'_>| Affected {
        prefix: Some(IpNet::from(left.address)),
        node: Some(node.name.clone()),
        detail: if left.late {
            format!(
                "pod {} got it though {} does not have it any more",
                left.pod.name, node.name
            )
        } else {
            format!("pod {} runs on with it", left.pod.name)
        },
    };
    left.iter().map(row).collect()
}

/// What shows it.
pub fn evidence(scene: &Scene<'_>, node: &NodeRecord, left: &[Leftover<'_>]) -> Evidence {
    let shown: Vec<String> = left
        .iter()
        .take(4)
        .map(|left| format!("{} has {}", left.pod.name, left.address))
        .collect();
    let more = left.len().saturating_sub(shown.len());
    let mut text = words::list(shown);
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    if let Some(made) = node.created_at {
        text.push_str(&format!("; the Node was made at {made}"));
    }
    scene.around_evidence(Resource::Pods, format!("pods of {}", node.name), text)
}
