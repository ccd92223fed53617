//! From what is found to what is done about it.
//!
//! Every finding that stands either becomes a need of one node, or is said to be for somebody else, with the reason. Needs of
//! a node are put together: the least that removes all of them is its plan.

mod along;
mod guards;
mod migrate;
mod need;
mod node;
mod release;
mod routes;
mod steps;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, FindingState, Severity};
use serde::{Deserialize, Serialize};

use self::need::Need;
pub(super) use self::need::{foreign, stale};
pub(super) use self::node::wanted;
use super::choose::Chooser;
use super::drain::{Allowed, Drains};
use super::ground::Ground;
use super::migrate::Target;
use super::plan::{ByHand, NodePlan, Plan};

/// What the operator wants planned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wish {
    /// Only these nodes; empty: all.
    pub nodes: BTreeSet<String>,
    /// What a drain may take along.
    pub allowed: Allowed,
    /// `--include-control-plane`.
    pub control_plane: bool,
    /// `--allow-managed`: Nodes of a cloud's instances may be deleted.
    pub managed: bool,
    /// `--rotate`: Nodes are not made again, but registered anew by their kubelets.
    #[serde(default)]
    pub rotate: bool,
    /// `--migrate`: not what is found is mended, but every node is moved to these ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Target>,
}

impl Wish {
    fn wants(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.contains(node)
    }
}

/// The plan for what stands in `ground`.
pub fn plan(ground: &Ground, wish: &Wish) -> Plan {
    if let Some(target) = &wish.migrate {
        return migrate::plan(ground, wish, target);
    }
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    let mut left = Vec::new();
    // Those that others explain come after their causes.
    let (consequences, causes): (Vec<&Finding>, Vec<&Finding>) = ground
        .findings
        .iter()
        .filter(|finding| finding.stands() && finding.claim.severity > Severity::Info)
        .partition(|finding| !finding.explained_by.is_empty());
    for finding in causes {
        sort(ground, wish, finding, &mut needs, &mut left);
    }
    left.retain(|(finding, _)| !along::along(ground, wish, finding, &mut needs));
    for finding in follow(ground, wish, consequences, &mut needs, &mut left) {
        if concerns(wish, finding) {
            let causes = finding.explained_by.join(", ");
            left.push((finding, format!("{causes} explains it: mend that first")));
        }
    }
    let left = left.into_iter();
    let mut by_hand: Vec<ByHand> = left.map(|(finding, why)| need::by_hand(finding, why)).collect();
    let (nodes, refused) = nodes(ground, wish, needs);
    by_hand.extend(refused);
    along::remedies(ground, &nodes, &mut by_hand);
    by_hand.sort_by(|a, b| a.finding.cmp(&b.finding));
    Plan {
        nodes,
        by_hand,
        release: release::release(ground, wish),
        unseen: ground.gaps.clone(),
        ..Plan::new(ground.at, wish.clone())
    }
}

/// What does not go with its cause: a kubelet that does not look, and a route that nobody removes.
const LASTING: [Code; 2] = [Code::Host08, Code::Path03];

/// Puts what follows from others to those, or where it lasts to what it needs itself; returns what follows from nothing that
/// is planned.
fn follow<'a>(
    ground: &Ground,
    wish: &Wish,
    mut consequences: Vec<&'a Finding>,
    needs: &mut BTreeMap<String, Need>,
    left: &mut Vec<(&'a Finding, String)>,
) -> Vec<&'a Finding> {
    loop {
        let before = consequences.len();
        consequences.retain(|finding| {
            let explains = |need: &Need| need.mends.iter().any(|id| finding.explained_by.contains(id));
            if !needs.values().any(explains) {
                return true;
            }
            if LASTING.contains(&finding.claim.code) {
                sort(ground, wish, finding, needs, left);
                return false;
            }
            // Of several that share the cause the last one sees it gone.
            for need in needs.values_mut().filter(|need| explains(need)) {
                need.mends.push(finding.id.clone());
            }
            false
        });
        if consequences.len() == before {
            return consequences;
        }
    }
}

fn concerns(wish: &Wish, finding: &Finding) -> bool {
    wish.nodes.is_empty() || finding.claim.nodes.iter().any(|node| wish.wants(node))
}

/// Puts a finding to the nodes that are to do something about it, or to what is left, with the reason.
fn sort<'a>(
    ground: &Ground,
    wish: &Wish,
    finding: &'a Finding,
    needs: &mut BTreeMap<String, Need>,
    left: &mut Vec<(&'a Finding, String)>,
) {
    if !concerns(wish, finding) {
        return;
    }
    if finding.state == FindingState::Pending {
        let why = "it is not open yet, and may go by itself: plan again when it has lasted";
        return left.push((finding, why.to_owned()));
    }
    if finding.stale {
        let why = "its witness is quiet, so that it may be outdated: mend that first (SEEN01)";
        return left.push((finding, why.to_owned()));
    }
    match need::of(ground, finding) {
        Ok(found) => {
            if !found.iter().any(|(node, _)| wish.wants(node)) {
                let others: Vec<&str> = found.iter().map(|(node, _)| node.as_str()).collect();
                let why = format!("it is planned for {}, which was not asked for", others.join(", "));
                return left.push((finding, why));
            }
            for (node, what) in found {
                if wish.wants(&node) {
                    needs.entry(node).or_default().add(finding, what);
                }
            }
        }
        Err(why) => left.push((finding, why)),
    }
}

/// The nodes' plans in the order in which they are to be done, and the findings of those that cannot have one.
fn nodes(ground: &Ground, wish: &Wish, needs: BTreeMap<String, Need>) -> (Vec<NodePlan>, Vec<ByHand>) {
    let mut refused = Vec::new();
    let mut chooser = Chooser::new(ground);
    let drains = Drains::new(ground);
    let mut plans: Vec<(Severity, bool, NodePlan)> = Vec::new();
    let broken: BTreeSet<&str> = needs.keys().map(String::as_str).collect();
    for (name, need) in &needs {
        let Some(node) = ground.nodes.get(name) else {
            refused.extend(need.refuse(ground, "there is no such Node any more"));
            continue;
        };
        // A node without a CIDR shows no sign of its IPAM itself: POOL01 has judged it by its peers.
        let assign = need.only_assigns();
        if let Some(why) = words::not_ours(name, node, assign) {
            refused.extend(need.refuse(ground, &why));
            continue;
        }
        match node::plan(ground, wish, name, need, &mut chooser, &drains, &broken) {
            Ok(plan) => plans.push((need.severity, node.control_plane(), plan)),
            Err(why) => refused.extend(need.refuse(ground, &why)),
        }
    }
    (ordered(plans), refused)
}

/// What can be done comes first, the control plane last; then the gravest, the least destructive, the fewest pods.
fn ordered(mut plans: Vec<(Severity, bool, NodePlan)>) -> Vec<NodePlan> {
    plans.sort_by(|(a_severity, a_plane, a), (b_severity, b_plane, b)| {
        let key = |plane: &bool, plan: &NodePlan| (!plan.blocked.is_empty(), *plane);
        key(a_plane, a)
            .cmp(&key(b_plane, b))
            .then(b_severity.cmp(a_severity))
            .then(a.method.cmp(&b.method))
            .then(a.interrupts.pods.len().cmp(&b.interrupts.pods.len()))
            .then(a.node.cmp(&b.node))
    });
    plans.into_iter().map(|(_, _, plan)| plan).collect()
}
