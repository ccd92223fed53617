//! POOL01: a node that the control plane's own IPAM left without a CIDR, and why.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim};
use ipnet::IpNet;

use super::pool::{self, Ground, Space};
use super::{Scene, manager, words};
use crate::cluster::NodeRecord;
use crate::cluster::around::Told;
use crate::cluster::objects::{Manager, Resource};
use crate::ipam::Ipam;

/// How many nodes use the field, and how.
#[derive(Debug, Default)]
struct Peers<'a> {
    with: usize,
    without: usize,
    delegated: usize,
    /// Controllers that wrote nodes' CIDRs.
    allocators: BTreeSet<&'a str>,
}

/// Up to this many nodes that wait are told again at once when the counts that their evidence quotes change.
const FEW: usize = 32;

/// What these claims rest on besides their own Node; where it changes, so may all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footing {
    /// In words, if the pool is full.
    full: Option<String>,
    /// More nodes have a CIDR than have none, one that waits left out.
    most_have: bool,
    /// More nodes are delegated than have a CIDR.
    most_delegated: bool,
    allocators: Vec<String>,
    /// Nodes with a CIDR and without, as evidence quotes them; while many wait they are made anew in their turn instead.
    counts: Option<(usize, usize)>,
}

fn peers<'a>(scene: &Scene<'a>) -> Peers<'a> {
    let (users, unclear) = (scene.census.pod_cidr(), scene.census.unclear());
    let without = users.without + unclear.without;
    Peers {
        with: users.all + unclear.all - without,
        without,
        delegated: scene.census.delegated().all,
        allocators: scene.census.allocators().collect(),
    }
}

/// What all of them rest on now.
pub fn footing(scene: &Scene<'_>, ground: &Ground) -> Footing {
    let peers = peers(scene);
    Footing {
        full: full(scene, &ground.spaces),
        most_have: peers.with > peers.without.saturating_sub(1),
        most_delegated: peers.delegated > peers.with,
        allocators: peers.allocators.iter().map(|writer| (*writer).to_owned()).collect(),
        counts: (scene.census.waiting().len() <= FEW).then_some((peers.with, peers.without)),
    }
}

/// The claim of one node.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord, footing: &Footing) -> Option<Claim> {
    if !scene.census.waits(&node.name) {
        return None;
    }
    claim_of(scene, node, &scene.ipam(node), &peers(scene), footing.full.as_deref())
}

/// In words, if no CIDR is left of some family: kube-controller-manager assigns all families or none.
fn full(scene: &Scene<'_>, spaces: &[Space]) -> Option<String> {
    ["ipv4", "ipv6"].into_iter().find_map(|family| {
        let of_family = || spaces.iter().filter(move |space| space.family() == family);
        let full = of_family().next().is_some() && of_family().all(|space| pool::left(scene, space) == 0);
        let used: u64 = of_family().map(|space| space.count.used).sum();
        full.then(|| format!("The pool is full: all {used} node CIDRs are taken."))
    })
}

/// What keeps the allocator from giving this node a CIDR.
enum Why<'a> {
    /// No instance runs; the node whose CIDR makes it exit, where that is known.
    Down(Vec<&'a Manager>, Option<(String, Option<IpNet>)>),
    /// No instance allocates.
    Off(Vec<&'a Manager>),
    /// No ClusterCIDR fits it, or those that do are full: node-ipam-controller allocates.
    ClusterCidrs,
    /// Arithmetic, or the allocator's own word.
    Full(Option<&'a Told>),
    /// The Node could not be patched.
    Failed(&'a Told),
    /// Another controller than kube-controller-manager wrote the other nodes' CIDRs.
    Other(&'a str),
    /// Nothing shows it.
    Unknown,
}

fn why<'a>(scene: &Scene<'a>, node: &NodeRecord, peers: &Peers<'a>, full: Option<&str>) -> Why<'a> {
    let around = &scene.plane.around;
    // Events name the Node by its name only: those of an earlier Node of this name say nothing of this one.
    let events = around.allocation.get(&node.name);
    let told = |told: Option<&'a Told>| told.filter(|told| node.created_at.is_none_or(|made| told.last >= Some(made)));
    let refused = told(events.and_then(|events| events.not_available.as_ref()));
    let failed = told(events.and_then(|events| events.assignment_failed.as_ref()));
    let managers: Vec<&Manager> = around.managers.values().collect();
    let allocating = managers.iter().filter(|manager| manager::allocates(&manager.flags));
    if !around.delegates.cluster_cidrs.is_empty() {
        return Why::ClusterCidrs;
    }
    if !managers.is_empty() && managers.iter().all(|manager| manager.down().is_some()) {
        return Why::Down(managers.clone(), because_of(scene, &managers));
    }
    if !managers.is_empty() && allocating.clone().next().is_none() {
        let other = peers
            .allocators
            .iter()
            .find(|writer| **writer != "kube-controller-manager");
        return other.map_or(Why::Off(managers), |other| Why::Other(other));
    }
    if full.is_some() || refused.is_some() {
        return Why::Full(refused);
    }
    if let Some(failed) = failed {
        return Why::Failed(failed);
    }
    match peers
        .allocators
        .iter()
        .find(|writer| **writer != "kube-controller-manager")
    {
        Some(other) if !peers.allocators.contains("kube-controller-manager") => Why::Other(other),
        _ => Why::Unknown,
    }
}

/// The node whose CIDR makes these instances exit: by their last words, else by their own check.
fn because_of(scene: &Scene<'_>, managers: &[&Manager]) -> Option<(String, Option<IpNet>)> {
    let cidr = |name: &str, manager: &Manager| {
        let node = scene.node(name)?;
        let misfits = manager::misfits(&manager.flags.cluster_cidr, node);
        misfits.first().map(|misfit| misfit.cidr)
    };
    managers.iter().find_map(|manager| {
        let (_, words) = manager.last_exit.as_ref()?;
        if let Some(name) = manager::culprit(words) {
            let cidr = cidr(&name, manager);
            return Some((name, cidr));
        }
        if !manager::exits_at_a_node(manager) {
            return None;
        }
        let unfit = scene
            .plane
            .nodes
            .keys()
            .find_map(|name| Some((name.clone(), cidr(name, manager)?)));
        let marks = manager::allocates(&manager.flags) && manager::by_range(&manager.flags);
        let (name, cidr) = unfit.filter(|_| marks)?;
        Some((name, Some(cidr)))
    })
}

fn claim_of(scene: &Scene<'_>, node: &NodeRecord, ipam: &Ipam, peers: &Peers<'_>, full: Option<&str>) -> Option<Claim> {
    let built_in = !scene.pool.ranges.is_empty() || peers.with > peers.without.saturating_sub(1);
    // The node's own CNI is not known, and its peers' CNIs do not use the field: nor will its own.
    let like_its_peers = !matches!(ipam, Ipam::PodCidr) && peers.delegated > peers.with;
    // A daemon that hands out addresses itself may be among the pods that are not listed yet.
    let open = matches!(ipam, Ipam::Unclear(_)) && scene.plane.around.unlisted(Resource::CniPods);
    if !built_in || like_its_peers || open {
        return None;
    }
    let name = &node.name;
    let mut claim = scene.claim_of(Code::Pool01, node);
    claim.summary = format!("{name} has no pod CIDR");
    claim.evidence.push(if scene.pool.ranges.is_empty() {
        let (with, without) = (peers.with, peers.without.saturating_sub(1));
        let text = format!("{with} other nodes have a pod CIDR, {without} have none");
        scene.plane_evidence("Nodes".to_owned(), text)
    } else {
        let text = format!("the pool is {}", words::list(&scene.pool.ranges));
        scene.plane_evidence(scene.pool.witness.clone(), text)
    });
    if let Ipam::Unclear(why) = ipam {
        claim.unseen.push(format!("{name}: {why}"));
    }
    let why = why(scene, node, peers, full);
    let around = &scene.plane.around;
    if !matches!(why, Why::Down(..) | Why::Off(_)) && around.managers.is_empty() {
        let unseen = around.unseen(Resource::ManagerPods);
        claim.unseen.push(format!(
            "whether kube-controller-manager runs and allocates: {}",
            unseen.unwrap_or_else(|| "none of its pods is in the API".to_owned())
        ));
    }
    if !matches!(why, Why::Full(Some(_)) | Why::Failed(_))
        && let Some(unseen) = around.unseen(Resource::Events)
    {
        claim.unseen.push(format!("what the allocator says of it: {unseen}"));
    }
    explain(scene, node, why, full, &mut claim);
    if peers.allocators.len() > 1 {
        let who = words::list(&peers.allocators);
        claim.evidence.push(scene.plane_evidence(
            "managedFields of Nodes".to_owned(),
            format!("{who} wrote spec.podCIDRs: two allocators at once hand out the same CIDR twice"),
        ));
    }
    Some(claim)
}

fn event(scene: &Scene<'_>, node: &NodeRecord, reason: &str, told: &Told) -> cidrift_proto::finding::Evidence {
    let source = format!("event {reason} of {} on Node {}", told.component, node.name);
    let mut evidence = scene.around_evidence(Resource::Events, source, told.message.clone());
    evidence.observed_at = told.last.or(evidence.observed_at);
    evidence
}

/// Cause and remedy for this very case.
fn explain(scene: &Scene<'_>, node: &NodeRecord, why: Why<'_>, full: Option<&str>, claim: &mut Claim) {
    let name = &node.name;
    let ask = format!("kubectl get events -A --field-selector involvedObject.name={name}");
    match why {
        Why::Down(managers, culprit) => {
            let names = words::list(managers.iter().map(|manager| &manager.name));
            claim.evidence.extend(
                managers
                    .iter()
                    .filter_map(|manager| manager::state_evidence(scene, manager)),
            );
            let logs = managers
                .first()
                .map(|manager| manager::logs(manager))
                .unwrap_or_default();
            match culprit {
                Some((culprit, cidr)) => {
                    claim.affected.push(Affected {
                        prefix: cidr,
                        node: Some(culprit.clone()),
                        detail: "its CIDR makes kube-controller-manager exit".to_owned(),
                    });
                    claim.affected_total = 1;
                    claim.cause = format!(
                        "kube-controller-manager does not run ({names}): it exits at its start because of the CIDR of {culprit}."
                    );
                    claim.remedy = format!(
                        "Mend POOL02 of {culprit}; kube-controller-manager gives {name} a CIDR once it runs. Its last words: {logs}"
                    );
                }
                None => {
                    claim.cause = format!("kube-controller-manager does not run ({names}), so nobody assigns a CIDR.");
                    claim.remedy = format!(
                        "See why it ends: {logs}. It assigns a CIDR by itself once it runs; nothing is to be done on {name}."
                    );
                }
            }
        }
        Why::Off(managers) => {
            claim
                .evidence
                .extend(managers.iter().map(|manager| manager::flags_evidence(scene, manager)));
            let manifests = words::list(managers.iter().map(|manager| manager::manifest(manager)));
            let why: BTreeSet<String> = managers
                .iter()
                .filter_map(|manager| manager::idle(&manager.flags))
                .collect();
            let mend = managers
                .first()
                .map(|manager| manager::mend(&manager.flags))
                .unwrap_or_default();
            claim.cause = format!(
                "kube-controller-manager runs without handing out node CIDRs: {}.",
                words::list(why)
            );
            claim.remedy = format!(
                "{mend} that contains the CIDR of every node ({manifests}); one that does not makes it exit (POOL02). It then fills \
                 every Node without a CIDR."
            );
        }
        Why::ClusterCidrs => {
            claim.cause = "node-ipam-controller allocates here (there are ClusterCIDR objects), and it has given this node nothing: \
                           no ClusterCIDR selects it, those that do are full, or the controller does not run."
                .to_owned();
            claim.remedy = format!(
                "kubectl get clustercidrs.networking.x-k8s.io -o yaml; {ask}. Add a ClusterCIDR that selects {name}: the controller \
                 assigns by itself."
            );
        }
        Why::Full(told) => {
            claim
                .evidence
                .extend(told.map(|told| event(scene, node, "CIDRNotAvailable", told)));
            claim.cause = full.map_or_else(
                || {
                    "The allocator says that no CIDR is left for it, though the count here still shows some: they are leaked or \
                     reserved until kube-controller-manager restarts, or its range is another one."
                        .to_owned()
                },
                str::to_owned,
            );
            claim.remedy = "Delete Node objects that are not in use (kubectl get nodes shows those NotReady for long): \
                            their CIDRs return to the pool at once. Lasting: a wider --cluster-cidr that contains the present one."
                .to_owned();
        }
        Why::Failed(told) => {
            claim.evidence.push(event(scene, node, "CIDRAssignmentFailed", told));
            claim.cause = "kube-controller-manager took a CIDR for it and could not write it into the Node: the API server refused \
                           the patch or did not answer in time. It tries again by itself."
                .to_owned();
            claim.remedy = format!(
                "kubectl -n kube-system logs -l component=kube-controller-manager --tail=-1 | grep {name} says what refused it \
                 (an admission webhook, permissions). Each try that timed out keeps a CIDR until it restarts."
            );
        }
        Why::Other(other) => {
            claim.cause = format!("{other} wrote the CIDRs of other nodes, and has given this one none.");
            claim.remedy = format!("Read the log of {other}, which allocates here; then {ask}.");
        }
        Why::Unknown => {
            let running: Vec<&Manager> = scene.plane.around.managers.values().collect();
            claim
                .evidence
                .extend(running.iter().map(|manager| manager::flags_evidence(scene, manager)));
            claim.cause = if running.is_empty() {
                "kube-controller-manager does not run, runs without --allocate-node-cidrs, or could not patch the Node."
                    .to_owned()
            } else {
                "kube-controller-manager runs and allocates, and has said nothing of this Node: it may not be the leader's turn \
                 yet, or it does not see the Node."
                    .to_owned()
            };
            claim.remedy = format!(
                "{ask} (CIDRNotAvailable says that the pool is full); \
                 then the log of kube-controller-manager. It assigns a CIDR by itself once it can."
            );
            if scene.pool.ranges.is_empty() {
                claim.unseen.push("--cluster-cidr: whether the pool is full".to_owned());
            }
        }
    }
}
