//! POOL08: `spec.podCIDR` and `spec.podCIDRs[0]` differ.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Claim;
use ipnet::IpNet;

use super::Scene;
use crate::cluster::NodeRecord;

/// The claim of one node: the API server keeps the two fields equal, so this comes from a foreign writer.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let single = node.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty());
    let first = node.pod_cidrs_raw.first().map(String::as_str);
    if single == first {
        return None;
    }
    // "10.244.1.0/24" and another spelling of it are the same.
    let same = single
        .and_then(|cidr| cidr.parse::<IpNet>().ok())
        .map(|net| net.trunc());
    if same.is_some() && same == first.and_then(|cidr| cidr.parse::<IpNet>().ok()).map(|net| net.trunc()) {
        return None;
    }
    let name = &node.name;
    let mut claim = scene.claim_of(Code::Pool08, node);
    claim.summary = format!(
        "{name}: spec.podCIDR is {}, but spec.podCIDRs[0] is {}",
        single.unwrap_or("empty"),
        first.unwrap_or("empty")
    );
    claim.evidence.push(scene.plane_evidence(
        format!("Node {name}"),
        format!("spec.podCIDR {}", single.unwrap_or("empty")),
    ));
    claim.cause =
        "Something else than kube-controller-manager wrote the Node: both fields are always written together."
            .to_owned();
    claim.remedy = format!(
        "kubectl get node {name} --show-managed-fields -o yaml names the writer. The fields cannot be changed once set: \
         the Node must be deleted and created again."
    );
    Some(claim)
}
