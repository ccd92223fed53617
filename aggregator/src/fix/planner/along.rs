//! What goes with the CIDRs that a plan takes away, and what is said of it.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, FindingState};
use ipnet::IpNet;

use super::super::ground::Ground;
use super::super::plan::{ByHand, Method, NodePlan};
use super::Wish;
use super::need::{Need, What};
use crate::correlate::words::list;
use crate::netmap::overlap;

/// What nobody has any more once `name` has `to`: a CIDR that another Node keeps is still led to.
pub(super) fn gone(ground: &Ground, name: &str, from: &[IpNet], to: &[IpNet]) -> Vec<IpNet> {
    let kept = |cidr: &IpNet| {
        let mut others = ground.nodes.iter().filter(|(other, _)| *other != name);
        others.any(|(_, node)| node.cidrs.iter().any(|net| overlap(net, cidr)))
    };
    let leaves = from.iter().filter(|cidr| !to.contains(cidr) && !kept(cidr));
    leaves.copied().collect()
}

/// Puts to a swap what goes with it though nothing else could mend it: a CNI configuration that nobody is known to write. It is
/// right for the new CIDRs, or a step has it written. A rotation does not know them before.
pub(super) fn along(ground: &Ground, wish: &Wish, finding: &Finding, needs: &mut BTreeMap<String, Need>) -> bool {
    let claim = &finding.claim;
    let sure = finding.state == FindingState::Open && !finding.stale && !wish.rotate && claim.code == Code::Host01;
    let view = ground.nodes.get(&claim.subject).and_then(|node| node.view.as_ref());
    let config = view
        .and_then(|view| view.facts.as_ref())
        .and_then(|facts| facts.cni.chosen.as_ref());
    let need = needs.get_mut(&claim.subject).filter(|need| need.has(&What::Swap));
    match need {
        Some(need) if sure && config.is_some() => {
            need.follow(finding);
            true
        }
        _ => false,
    }
}

/// No remedy is for a CIDR that the plan takes away: it would be done, and undone by the plan.
pub(super) fn remedies(ground: &Ground, plans: &[NodePlan], by_hand: &mut [ByHand]) {
    let moves = plans
        .iter()
        .filter(|plan| matches!(plan.method, Method::Swap | Method::Rotate));
    let moves = moves.map(|plan| (plan, gone(ground, &plan.node, &plan.from, &plan.to)));
    let moves: Vec<(&NodePlan, Vec<IpNet>)> = moves.filter(|(_, gone)| !gone.is_empty()).collect();
    if moves.is_empty() {
        return;
    }
    let all: Vec<IpNet> = moves.iter().flat_map(|(_, gone)| gone).copied().collect();
    let findings: BTreeMap<&str, &Finding> = ground
        .findings
        .iter()
        .map(|finding| (finding.id.as_str(), finding))
        .collect();
    for row in by_hand {
        let Some(finding) = findings.get(row.finding.as_str()) else {
            continue;
        };
        let concerned = moves.iter().filter(|(plan, gone)| {
            of_host(finding, &plan.node) || of_ways(finding, gone).is_some() || names(&finding.claim.remedy, gone)
        });
        let concerned: Vec<&NodePlan> = concerned.map(|(plan, _)| *plan).collect();
        if concerned.is_empty() {
            continue;
        }
        let whole = concerned.iter().any(|plan| of_host(finding, &plan.node)) || of_ways(finding, &all) == Some(true);
        row.remedy = format!(
            "{} with {}: plan again after it",
            if whole { "goes" } else { "a part of it goes" },
            list(concerned.iter().map(|plan| change(plan)))
        );
    }
}

fn change(plan: &NodePlan) -> String {
    match plan.method {
        Method::Rotate => format!("the rotation of {}", plan.node),
        _ => format!("the swap of {} to {}", plan.node, list(&plan.to)),
    }
}

/// Whether it is what the host of a node has of the Node's CIDRs.
fn of_host(finding: &Finding, node: &str) -> bool {
    let claim = &finding.claim;
    matches!(claim.code, Code::Host01 | Code::Host02 | Code::Host03) && claim.subject == node
}

/// Whether ways to these are in it, and nothing else.
fn of_ways(finding: &Finding, gone: &[IpNet]) -> Option<bool> {
    let claim = &finding.claim;
    let ways = [Code::Path01, Code::Path02, Code::Path03, Code::Path06, Code::Pool12];
    if !ways.contains(&claim.code) {
        return None;
    }
    let about = |prefix: &IpNet| gone.iter().any(|net| overlap(net, prefix));
    let prefixes: Vec<&IpNet> = claim.affected.iter().filter_map(|row| row.prefix.as_ref()).collect();
    let some = prefixes.iter().any(|prefix| about(prefix));
    let all = prefixes.len() == claim.affected_total as usize && prefixes.iter().all(|prefix| about(prefix));
    some.then_some(all)
}

fn names(remedy: &str, gone: &[IpNet]) -> bool {
    gone.iter().any(|net| remedy.contains(&net.to_string()))
}
