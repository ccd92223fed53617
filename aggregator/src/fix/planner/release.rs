//! Nodes whose CIDRs could go back to a pool that is full or short.

use cidrift_proto::catalogue::Code;

use super::super::drain::{Departure, departure};
use super::super::ground::Ground;
use super::super::plan::Release;
use super::Wish;
use crate::correlate::words::count;

/// Those that nobody seems to use: not Ready and without a living agent, or without a pod that a drain would evict. The
/// unused first.
pub(super) fn release(ground: &Ground, wish: &Wish) -> Vec<Release> {
    let short = |code: Code| matches!(code, Code::Pool04 | Code::Pool05);
    let mut findings = ground.findings.iter().filter(|finding| finding.stands());
    if !findings.any(|finding| short(finding.claim.code)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (name, node) in &ground.nodes {
        if node.cidrs.is_empty() || node.control_plane() || !wish.wants(name) {
            continue;
        }
        let on_it = ground.pods.on(name).iter();
        let evicted = on_it.filter(|pod| departure(pod) == Departure::Evicted).count();
        let silent = node.view.as_ref().is_none_or(|view| {
            !matches!(
                view.summary.report,
                crate::cluster::ReportState::Live | crate::cluster::ReportState::Syncing
            )
        });
        let why = match (node.ready, silent, evicted) {
            (false, true, 0) => "it is not Ready, its agent is silent, and no pod is bound to it".to_owned(),
            (false, true, pods) => {
                let (pods, are) = (count(pods, "pod", "pods"), if pods == 1 { "is" } else { "are" });
                format!("it is not Ready and its agent is silent; {pods} {are} still bound to it")
            }
            (_, _, 0) => "no pod is on it that a drain would evict".to_owned(),
            _ => continue,
        };
        found.push((
            (node.ready, evicted),
            Release {
                node: name.clone(),
                cidrs: node.cidrs.clone(),
                why,
                text: format!(
                    "kubectl drain {name} --ignore-daemonsets && kubectl delete node {name}   # then end its machine, or its \
                     kubelet, which would register it again"
                ),
            },
        ));
    }
    found.sort_by(|(a, one), (b, other)| a.cmp(b).then(one.node.cmp(&other.node)));
    found.into_iter().map(|(_, release)| release).collect()
}
