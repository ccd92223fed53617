//! POOL15: Nodes come and go at a rate at which hosts and allocators cannot follow.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Trigger};

use super::{Scene, cap_affected, words};
use crate::engine::churn::{Churn, ShortLife, WINDOW};

/// The finding is about the cluster.
pub const SUBJECT: &str = "cluster";

/// What one short life weighs. A node that comes and goes is what an autoscaler does; one that comes again under its
/// own name within the hour was deleted under a running kubelet, which no autoscaler does, and loses its CIDR each time.
const LIFE: u32 = 1;
/// See [`LIFE`].
const AGAIN: u32 = 3;

/// What the lives of an hour must weigh at least: an autoscaler that removes a node after its usual 10 minutes of
/// idleness and adds it again makes at most 6 of one spare node, so this is two of them flapping all the time.
const LEAST: u32 = 12;

/// How heavy the last hour is, and from where on that is unusual. Rotations and growth do not count, since those nodes
/// live on. Half of the cluster living for less than an hour is more than scale-downs of spare nodes give; with the twofold
/// headroom that pools should have, kube-controller-manager's ring then comes round every 4 hours and hands ranges out whose
/// routes still stand.
pub fn weigh(churn: &Churn, scene: &Scene<'_>) -> (u32, u32) {
    let weight = churn
        .recent(scene.now)
        .map(|life| if life.again { AGAIN } else { LIFE })
        .sum();
    let nodes = u32::try_from(scene.plane.nodes.len()).unwrap_or(u32::MAX);
    (weight, LEAST.max(nodes / 2))
}

/// The claim, if it is unusual.
pub fn claim(scene: &Scene<'_>, churn: &Churn) -> Option<Claim> {
    let (weight, limit) = weigh(churn, scene);
    if weight < limit {
        return None;
    }
    let lives: Vec<&ShortLife> = churn.recent(scene.now).collect();
    let mut by_name: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for life in &lives {
        let (count, again) = by_name.entry(&life.node).or_default();
        *count += 1;
        *again |= life.again;
    }
    let again = lives.iter().filter(|life| life.again).count();
    let mut affected: Vec<Affected> = by_name
        .iter()
        .map(|(name, (count, again))| Affected {
            prefix: None,
            node: Some((*name).to_owned()),
            detail: match (count, again) {
                (1, false) => "came and went".to_owned(),
                (1, true) => "went and came again under its name".to_owned(),
                (count, false) => format!("came and went {count} times"),
                (count, true) => format!("went and came again {count} times"),
            },
        })
        .collect();
    let affected_total = cap_affected(&mut affected);
    let minutes = WINDOW.as_secs() / 60;
    let nodes = scene.plane.nodes.len();
    let shortest = lives.iter().map(|life| life.lived.as_secs()).min().unwrap_or_default();
    let text = format!(
        "{} that lived for less than {minutes} minutes ended in the last {minutes} ({again} of them came again under the same \
         name); the shortest lived {shortest} s; the cluster has {}",
        words::count(lives.len(), "Node", "Nodes"),
        words::count(nodes, "Node", "Nodes")
    );
    let same_name = again * 2 > lives.len();
    Some(Claim {
        code: Code::Pool15,
        subject: SUBJECT.to_owned(),
        severity: Code::Pool15.entry().severity,
        nodes: affected.iter().filter_map(|row| row.node.clone()).collect(),
        summary: format!(
            "{} came and went within an hour, {again} of them again under the same name, in a cluster of {nodes}",
            words::count(lives.len(), "Node", "Nodes")
        ),
        affected,
        affected_total,
        evidence: vec![scene.plane_evidence("watch of Nodes".to_owned(), text)],
        unseen: Vec::new(),
        cause: if same_name {
            "Nodes are deleted under running kubelets and register again: a cloud controller that does not find their instances, or \
             a script that deletes NotReady Nodes. Each time the node gets another CIDR and its pods keep the old one."
        } else {
            "An autoscaler that flaps, or instances that are taken away soon after they came (spot)."
        }
        .to_owned(),
        remedy: if same_name {
            "Find who deletes them: kubectl get events -A | grep -E 'RemovingNode|DeletingNode|RegisteredNode'; the audit log names the \
             user. Stop that first, then mend POOL12 of each node."
        } else {
            "Slow it down: a longer scale-down delay, smaller batches, one rotation at a time. Look at POOL03, POOL12 and PATH03 of \
             the same hour."
        }
        .to_owned(),
        changed_at: lives.iter().map(|life| life.until).max(),
        trigger: Trigger::ControlPlane,
    })
}
