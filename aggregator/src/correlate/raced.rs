//! POOL11: the allocator reported that it could not assign a CIDR, and the node has one.
//! It is listed so that nobody chases the event.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Claim;

use super::{Scene, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::Resource;
use crate::ipam::Ipam;

/// The claim of one node. `CIDRNotAvailable` that a CIDR followed is nothing at all: an allocator that had none left found one.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let told = scene
        .plane
        .around
        .allocation
        .get(&node.name)?
        .assignment_failed
        .as_ref()?;
    let of_this_node = node.created_at.is_none_or(|made| told.last >= Some(made));
    if node.pod_cidrs.is_empty()
        || !of_this_node
        || matches!(scene.ipam(node), Ipam::Delegated(_) | Ipam::NoDataPlane(_))
    {
        return None;
    }
    let name = &node.name;
    let mut claim = scene.claim_of(Code::Pool11, node);
    let source = format!("event CIDRAssignmentFailed of {} on Node {name}", told.component);
    let mut event = scene.around_evidence(Resource::Events, source, told.message.clone());
    event.observed_at = told.last.or(event.observed_at);
    claim.evidence.push(event);
    claim.summary = format!(
        "{name} has {}, though CIDRAssignmentFailed was reported of it",
        words::list(&node.pod_cidrs)
    );
    claim.cause = "Either two workers of kube-controller-manager took up the same new Node, and the one that came second gave its \
                   CIDR back and reported a failure; or a first try could not be written into the Node, and a later one could."
        .to_owned();
    claim.remedy = "Nothing: the node is fine, and the event expires within the hour.".to_owned();
    Some(claim)
}
