//! The plan of one node: the least that removes everything that is asked of it.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use ipnet::IpNet;

use super::super::choose::{Chooser, Family};
use super::super::drain::{self, Drain, Drains};
use super::super::ground::{Ground, NodeGround};
use super::super::plan::{Does, Hop, Interrupts, Method, NodePlan, Step};
use super::Wish;
use super::along::gone;
use super::guards::{
    left_behind, outside_of_flannel, roomless, unavailable, undeletable, unrouted, unseen, without_controllers,
};
use super::need::{Need, What};
use super::steps::Planner;
use crate::correlate::words::list;

/// The plan of a node; `Err`: there is none, and why.
pub(super) fn plan(
    ground: &Ground,
    wish: &Wish,
    name: &str,
    need: &Need,
    chooser: &mut Chooser<'_>,
    drains: &Drains<'_>,
    broken: &BTreeSet<&str>,
) -> Result<NodePlan, String> {
    let node = ground.nodes.get(name).ok_or("there is no such Node")?;
    let swap = need.has(&What::Swap);
    let rotate = swap && wish.rotate;
    let to = if rotate {
        Vec::new()
    } else if swap || need.has(&What::Assign) {
        wanted(ground, name, node, chooser)?
    } else {
        node.cidrs.clone()
    };
    // A Node's fields may differ from each other (POOL08) while its CIDRs are right.
    let fields = need.mends.iter().any(|id| id.starts_with(Code::Pool08.as_str()));
    if swap && to == node.cidrs && !fields {
        return Err(format!("nothing is seen to be wrong with {} now", list(&to)));
    }
    let mut planner = Planner {
        ground,
        name,
        node,
        to: &to,
        allowed: wish.allowed,
        steps: Vec::new(),
    };
    let method = if rotate {
        planner.leftovers(need);
        planner.rotate(&need.twins);
        Method::Rotate
    } else {
        planner.steps(need)
    };
    let steps = planner.steps;
    let drain = drains.look(name, wish.allowed);
    let drained = steps.iter().any(|step| step.does == Does::Drain);
    let mut plan = NodePlan {
        node: name.to_owned(),
        uid: node.uid.clone(),
        mends: need.mends.clone(),
        method,
        from: node.cidrs.clone(),
        verify: Vec::new(),
        risks: risks(name, node, method),
        interrupts: interrupts(&steps, &drain, drained),
        blocked: Vec::new(),
        to,
        steps,
    };
    plan.verify = verify(ground, node, &plan);
    let restarted = plan.steps.iter().any(|step| step.does == Does::RestartKubelet);
    if drained || restarted {
        plan.blocked.extend(unavailable(ground, name, broken));
    }
    if restarted {
        plan.blocked.extend(roomless(name, node));
    }
    plan.risks.extend(leaving(node, &plan));
    if drained {
        plan.risks.extend(drain.risks);
        plan.blocked.extend(drain.blocked);
        if node.control_plane() && !wish.control_plane {
            plan.blocked.push(format!(
                "{name} carries a part of the control plane: it comes last, and only with --include-control-plane"
            ));
        }
    }
    plan.risks.extend(left_behind(name, node));
    plan.risks.extend(to_write(node, &plan));
    let replaced = plan.steps.iter().filter_map(|step| match &step.does {
        Does::ReplacePods { pods } => Some(drain::replace(ground, name, pods, wish.allowed)),
        _ => None,
    });
    for cost in replaced.collect::<Vec<_>>() {
        plan.risks.extend(cost.risks);
        plan.blocked.extend(cost.blocked);
        plan.interrupts.budgets.extend(cost.budgets);
    }
    if method == Method::Assign {
        plan.risks.push(format!(
            "a controller manager that comes back meanwhile may assign one itself: the API server then refuses this, and nothing \
             of {name} has changed"
        ));
    }
    plan.risks.extend(unrouted(ground, &plan));
    if matches!(method, Method::Swap | Method::Rotate) {
        plan.blocked.extend(undeletable(name, node, wish));
    }
    plan.blocked.extend(without_controllers(ground, name, &plan));
    if matches!(method, Method::Swap | Method::Assign) {
        plan.blocked.extend(outside_of_flannel(node, &plan.to));
    }
    plan.blocked.extend(unseen(name, node));
    Ok(plan)
}

/// The CIDRs that a Node shall have, one a family of the pool: what is right of its own is kept.
pub(in crate::fix) fn wanted(
    ground: &Ground,
    name: &str,
    node: &NodeGround,
    chooser: &mut Chooser<'_>,
) -> Result<Vec<IpNet>, String> {
    let mut families: Vec<Family> = Vec::new();
    // In the order of the Node's own, then of the pool's: podCIDRs[0] is podCIDR.
    let own = node.cidrs.iter();
    let pool = ground.pool.ranges.iter().map(|range| &range.range);
    for net in own.chain(pool) {
        if !families.contains(&Family::of(net)) {
            families.push(Family::of(net));
        }
    }
    if families.is_empty() {
        let why = ground.pool.unknown.as_deref().unwrap_or("nobody names it");
        return Err(format!(
            "the pool is not known ({why}): --cluster-cidr of the aggregator says it"
        ));
    }
    let near = configured(node);
    let right = |cidr: &&IpNet| {
        let in_pool = ground.pool.ranges.iter().any(|range| range.range.contains(*cidr));
        let others = ground.nodes.iter().filter(|(other, _)| *other != name);
        let mut shared = others
            .flat_map(|(_, other)| &other.cidrs)
            .chain(&ground.pool.service_ranges);
        let mut hosts = ground.nodes.values().flat_map(|node| &node.addresses);
        in_pool && !shared.any(|net| crate::netmap::overlap(net, cidr)) && !hosts.any(|host| cidr.contains(host))
    };
    let mut wanted = Vec::new();
    for family in families {
        let mut own = node.cidrs.iter().filter(|cidr| Family::of(cidr) == family);
        match own.find(right) {
            Some(cidr) => wanted.push(*cidr),
            None => wanted.push(chooser.give(family, name, &near).map_err(|error| error.to_string())?),
        }
    }
    Ok(wanted)
}

/// What the host hands out of now.
fn configured(node: &NodeGround) -> Vec<IpNet> {
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let chosen = facts.and_then(|facts| facts.cni.chosen.as_ref());
    chosen.map(|config| config.subnets.clone()).unwrap_or_default()
}

fn interrupts(steps: &[Step], drain: &Drain, drains: bool) -> Interrupts {
    let mut interrupts = Interrupts::default();
    if drains {
        interrupts.pods.extend(drain.evicted.iter().cloned());
        interrupts.budgets.extend(drain.budgets.iter().cloned());
    }
    for step in steps {
        match &step.does {
            Does::ReplacePods { pods } => interrupts.pods.extend(pods.iter().cloned()),
            Does::RestartDaemon { pod } => interrupts.pods.push(pod.clone()),
            _ => {}
        }
    }
    interrupts.pods.sort();
    interrupts.pods.dedup();
    interrupts
}

/// What is left behind where it cannot be told whose it is.
fn leaving(node: &NodeGround, plan: &NodePlan) -> Vec<String> {
    let mut risks = Vec::new();
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let nameless = facts
        .and_then(|facts| facts.leaks.as_ref())
        .map_or(0, |leaks| leaks.nameless);
    let leases = plan
        .steps
        .iter()
        .any(|step| matches!(step.does, Does::RemoveLeases { .. }));
    if leases && nameless > 0 {
        risks.push(format!(
            "{nameless} leases name no sandbox: they stay, and a person must tell whose they were"
        ));
    }
    if leases {
        risks.push(
            "containers that other programs than the kubelet's runtime started with the same CNI network (nerdctl, podman) are not \
             seen: their leases look like those of sandboxes that are gone"
                .to_owned(),
        );
    }
    let stale = plan.steps.iter().any(|step| {
        matches!(&step.does, Does::RemoveRoute { by: Hop::Via(_), .. }) && !step.does.sets_up_pods(&plan.to)
    });
    if stale {
        risks.push(
            "a machine that is no Node any more may still run pods there, whom nobody sees: they lose their way"
                .to_owned(),
        );
    }
    risks
}

/// What must be at hand once the node is drained.
fn to_write(node: &NodeGround, plan: &NodePlan) -> Option<String> {
    let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
    let config = facts.and_then(|facts| facts.cni.chosen.as_ref())?;
    let by_hand = plan.steps.iter().any(|step| step.does == Does::ByHand);
    by_hand.then(|| {
        format!(
            "fix keeps {} cordoned until it sees that you have written {} for {}: have it ready",
            plan.node,
            config.path,
            list(&plan.to)
        )
    })
}

fn verify(ground: &Ground, node: &NodeGround, plan: &NodePlan) -> Vec<String> {
    let (name, to, method) = (&plan.node, plan.to.as_slice(), plan.method);
    let alone = plan.steps.iter().all(|step| {
        matches!(
            step.does,
            Does::RemoveRoute { .. }
                | Does::RemoveLeases { .. }
                | Does::RestartKubelet
                | Does::Reach { .. }
                | Does::Verify
        )
    });
    if alone && !plan.probes() {
        return few(plan);
    }
    let cidrs = match method {
        Method::Rotate => "what the controller manager gives it".to_owned(),
        _ => list(to),
    };
    let mut lines = Vec::new();
    if matches!(method, Method::Swap | Method::Assign | Method::Rotate) {
        lines.push(format!(
            "Node {name} has {cidrs} and is Ready; its kubelet has taken them over (kubectl cidrift node {name})"
        ));
    }
    if matches!(method, Method::Swap | Method::Rotate) {
        lines.push("labels, taints and annotations are those from before".to_owned());
    }
    if plan.probes() {
        lines.push(format!(
            "CNI configuration and bridge of {name} are of {cidrs}, and so is the address of a new pod on it"
        ));
    }
    lines.push(format!(
        "the packets of every other node for {cidrs} land on {name}, and its own land on their owners"
    ));
    let gone = gone(ground, name, &node.cidrs, to);
    if !gone.is_empty() {
        lines.push(format!("nothing leads to {} any more", list(&gone)));
    }
    lines
}

/// Where nothing of the node's pods has changed.
fn few(plan: &NodePlan) -> Vec<String> {
    let (name, mut lines) = (&plan.node, Vec::new());
    for step in &plan.steps {
        match &step.does {
            Does::RestartKubelet => lines.push(format!(
                "the kubelet of {name} has taken {} over, and Node {name} is Ready",
                list(&plan.to)
            )),
            Does::Reach { nodes } => {
                lines.push(format!("packets of {name} for pods of {} land there", nodes.join(", ")))
            }
            _ => {}
        }
    }
    lines.push(format!("what it mends is found no more, and nothing new of {name}"));
    lines
}

fn risks(name: &str, node: &NodeGround, method: Method) -> Vec<String> {
    if method == Method::Rotate {
        return vec![format!(
            "there is no Node {name} until its kubelet was restarted and has registered it; the allocator may choose what another \
             host still routes"
        )];
    }
    if method != Method::Swap {
        return Vec::new();
    }
    let mut risks = vec![format!(
        "between delete and create there is no Node {name}: if that is cut short, create it from the saved copy; its kubelet does \
         not register it by itself, and after 40 s its pods are removed"
    )];
    if !node.drivers.is_empty() {
        risks.push(format!(
            "CSINode {name} belongs to the old Node, and goes with it where these commands are typed (fix gives it to the new one): \
             drivers {} must then register again (their pods on {name} are made anew), else volumes cannot be attached",
            node.drivers.join(", ")
        ));
    }
    risks
}
