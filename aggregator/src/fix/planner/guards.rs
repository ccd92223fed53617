//! Why a node's plan must not be begun as things are.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use ipnet::IpNet;

use super::super::ground::{Ground, NodeGround};
use super::super::plan::{Does, Method, NodePlan, Step};
use super::Wish;
use super::need::daemons_elsewhere;
use super::words::owner;
use crate::cluster::ReportState;
use crate::correlate::words::list;

/// Nodes that are unavailable for any reason count; those that wait to be mended themselves are not made worse.
pub(super) fn unavailable(ground: &Ground, name: &str, broken: &BTreeSet<&str>) -> Vec<String> {
    let others = ground.nodes.iter().filter(|(other, node)| {
        let waits = !node.ready && !node.unschedulable && broken.contains(other.as_str());
        other.as_str() != name && !node.available() && !waits
    });
    others
        .map(|(other, node)| {
            let why = match (node.deleting, node.unschedulable, &node.fix) {
                (true, ..) => "is being deleted".to_owned(),
                (false, true, Some(fix)) => format!("is unschedulable, by fix {fix}"),
                (false, true, None) => "is unschedulable".to_owned(),
                (false, false, _) => "is not Ready".to_owned(),
            };
            format!("{other} {why}: never two nodes at a time")
        })
        .collect()
}

/// A cordon of a fix that is over or whose Lease was deleted is nobody's any more, and no other fix takes it away.
pub(super) fn left_behind(name: &str, node: &NodeGround) -> Option<String> {
    let fix = node.fix.as_ref().filter(|_| node.unschedulable)?;
    Some(format!(
        "{name} was cordoned by fix {fix}: where kubectl cidrift fix --resume knows none, it stays so until you have looked at it, \
         and kubectl uncordon {name}"
    ))
}

pub(super) fn undeletable(name: &str, node: &NodeGround, wish: &Wish) -> Vec<String> {
    let mut blocked = Vec::new();
    if node.deleting {
        blocked.push(format!("somebody is deleting Node {name}"));
    }
    if !node.finalizers.is_empty() {
        blocked.push(format!(
            "finalizers ({}) keep a deleted Node {name}, so that it cannot be made again at once",
            node.finalizers.join(", ")
        ));
    }
    if let Some(owner) = owner(node)
        && !wish.managed
    {
        blocked.push(format!(
            "{owner} owns the instance of {name} ({}), and may end it when its Node is deleted; where it does not, --allow-managed \
             says so",
            node.provider
        ));
    }
    blocked
}

/// Without a controller manager nobody makes a pod anew that goes. A node may still be given CIDRs; and the one that lies
/// outside of the pool, for which every controller manager ends at its start (POOL02), is swapped first and drained then.
pub(super) fn without_controllers(ground: &Ground, name: &str, plan: &NodePlan) -> Option<String> {
    let why = ground.controllers.as_ref()?;
    // What goes of a host, and a kubelet, needs nobody to make it anew.
    let goes = |step: &Step| step.does.deletes_pods() || matches!(step.does, Does::Recreate | Does::Rotate);
    if !plan.steps.iter().any(goes) {
        return None;
    }
    let outside = |node: &NodeGround| {
        let mut cidrs = node.cidrs.iter();
        cidrs.any(|cidr| !ground.pool.ranges.iter().any(|range| range.range.contains(cidr)))
    };
    let others = ground
        .nodes
        .iter()
        .filter(|(other, node)| *other != name && outside(node));
    let others: Vec<&str> = others.map(|(other, _)| other.as_str()).collect();
    match plan.method {
        Method::Assign => None,
        Method::Swap if others.is_empty() && plan.mends.iter().any(|id| id.starts_with(Code::Pool02.as_str())) => None,
        Method::Swap if !others.is_empty() => Some(format!(
            "{why}; nobody would make its pods anew, and it ends at its start while {} lie outside of the pool, too: start it with \
             the --cluster-cidr from before, or with one around all, until the last of them is mended",
            others.join(", ")
        )),
        _ => Some(format!("{why}; nobody would make anew what goes: start it first")),
    }
}

/// flanneld ends at its start, again and again, where its Node's CIDR lies outside of the network that it was told.
pub(super) fn outside_of_flannel(node: &NodeGround, to: &[IpNet]) -> Option<String> {
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let networks = &facts.and_then(|facts| facts.cni.flannel.as_ref())?.networks;
    let told = |net: &IpNet| {
        networks
            .iter()
            .any(|network| network.addr().is_ipv4() == net.addr().is_ipv4())
    };
    let outside = to
        .iter()
        .find(|net| told(net) && !networks.iter().any(|network| network.contains(*net)))?;
    Some(format!(
        "flannel's Network ({}) does not hold {outside}: widen it in net-conf.json and restart flannel's pods first",
        list(networks)
    ))
}

/// A kubelet that starts rejects the pods that run where its Node tells no room for them.
pub(super) fn roomless(name: &str, node: &NodeGround) -> Option<String> {
    (node.allocatable.pods == 0).then(|| {
        format!(
            "Node {name} does not tell how many pods it can run: a kubelet that is restarted now rejects those that run; drain it \
             first, and restart it by hand"
        )
    })
}

/// Other nodes must lead to new CIDRs, and where no CNI's daemon runs on them nobody is seen to make them.
pub(super) fn unrouted(ground: &Ground, plan: &NodePlan) -> Option<String> {
    let new: Vec<&IpNet> = plan.to.iter().filter(|net| !plan.from.contains(net)).collect();
    let what = match plan.method {
        Method::Rotate => format!("what {} gets", plan.node),
        _ if new.is_empty() => return None,
        _ => list(new),
    };
    let mut others = ground.nodes.iter().filter(|(name, _)| **name != plan.node);
    let alone = ground.nodes.len() < 2;
    // k3s has flannel built in.
    let built_in = others.any(|(_, node)| node.flannel());
    (!alone && !built_in && !daemons_elsewhere(ground, &plan.node)).then(|| {
        format!(
            "nobody is known to make routes to {what} on the other nodes: give --after-command, or make them while it verifies"
        )
    })
}

/// Without the agent's view nothing shows whether it worked.
pub(super) fn unseen(name: &str, node: &NodeGround) -> Option<String> {
    let state = node.view.as_ref().map(|view| view.summary.report);
    (state != Some(ReportState::Live))
        .then(|| format!("the agent of {name} does not report: nothing could show whether it worked"))
}
