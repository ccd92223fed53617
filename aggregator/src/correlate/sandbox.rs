//! SAND01: pods of a node that get no sandbox, what kubelet says of it through the API and the host by its own logs, and
//! the other witness: who does get one. A failure that was tried again and went well is nothing.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, ROWS, Severity};
use cidrift_proto::signature::{Signature, stable};
use jiff::Timestamp;

use super::{Scene, cap_affected, words};
use crate::cluster::NodeRecord;
use crate::cluster::around::{FailingPod, PodRecord, SandboxFailures};
use crate::cluster::objects::Resource;
use crate::ipam::Ipam;

/// Tries of one pod that failed before it counts alone: kubelet tries about every 15 s, so this is most of a
/// minute. A node where two pods fail and none succeeds need not wait for that.
const TRIES: u32 = 4;

/// Where pods cannot be seen, a failure not told again for this long is over: kubelet repeats it, and its own
/// limit lets one event of a kind through every 5 minutes at least.
const QUIET: i64 = 15 * 60;

/// A node this young may still be getting its CNI, whose images it pulls first. Autoscalers wait three times as
/// long for a node to come up (max-node-provision-time).
const START: i64 = 5 * 60;

/// The claim of one node.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let around = &scene.plane.around;
    // Most of the events are of pods that have their sandboxes by now: which, only the list of pods will say.
    if around.unlisted(Resource::Pods) {
        return None;
    }
    let told = host_claim(scene, &node.name);
    let seen = around.sandboxes.get(&node.name);
    let seen = seen.and_then(|failures| by_events(scene, node, failures));
    join(scene, node, seen, told)
}

/// What a host's own logs tell of failing sandboxes.
fn host_claim<'a>(scene: &Scene<'a>, name: &str) -> Option<&'a Claim> {
    let claims = &scene.host(name)?.claims;
    claims.iter().find(|claim| claim.code == Code::Sand01)
}

/// Both halves as one. Who sees events and pods knows which pods still want a sandbox, so that the host's logs are
/// further evidence there; where either cannot be seen, they stand for themselves.
fn join(scene: &Scene<'_>, node: &NodeRecord, seen: Option<Claim>, told: Option<&Claim>) -> Option<Claim> {
    let Some(told) = told else { return seen };
    if let Some(mut claim) = seen {
        let logs = told.evidence.iter().filter(|row| row.source.ends_with(&on(&node.name)));
        claim.evidence.extend(logs.cloned());
        claim.evidence.truncate(ROWS);
        return Some(claim);
    }
    let around = &scene.plane.around;
    let unseen: Vec<String> = [Resource::Events, Resource::Pods]
        .into_iter()
        .filter_map(|resource| around.unseen(resource))
        .collect();
    if unseen.is_empty() || matches!(scene.ipam(node), Ipam::NoDataPlane(_)) {
        return None;
    }
    let mut claim = told.clone();
    claim.subject.clone_from(&node.name);
    claim.nodes = vec![node.name.clone()];
    claim.evidence.truncate(ROWS);
    claim.affected.truncate(ROWS);
    claim.unseen.extend(unseen);
    claim.unseen.truncate(ROWS);
    Some(claim)
}

/// How the source of what a host's logs tell ends.
fn on(node: &str) -> String {
    format!(" on {node}")
}

/// Whether a host whose logs showed this still reports and tells of no failing pods any more.
pub fn host_recovered(scene: &Scene<'_>, claim: &Claim) -> bool {
    let end = on(&claim.subject);
    let mut logs = claim.evidence.iter();
    logs.any(|row| row.source.ends_with(&end))
        && scene.host(&claim.subject).is_some()
        && host_claim(scene, &claim.subject).is_none()
}

/// When claims may change by time alone: when a node is young no more, or kubelet has been silent for long where pods
/// cannot be seen.
pub fn ripens(scene: &Scene<'_>) -> Option<Timestamp> {
    let names = scene.plane.around.sandboxes.keys();
    names.filter_map(|name| ripens_of(scene, name)).min()
}

/// The same of one node.
pub fn ripens_of(scene: &Scene<'_>, name: &str) -> Option<Timestamp> {
    let after = |at: Timestamp, seconds: i64| at.checked_add(jiff::SignedDuration::from_secs(seconds)).ok();
    let failures = scene.plane.around.sandboxes.get(name)?;
    let made = scene.node(name).and_then(|node| node.created_at);
    let young = made.and_then(|made| after(made, START));
    let unseen = !scene.plane.around.complete(Resource::Pods);
    let pods = failures.failing.iter().filter(|_| unseen);
    let silent = pods.filter_map(|pod| after(pod.told.last?, QUIET));
    young.into_iter().chain(silent).filter(|at| *at > scene.now).min()
}

/// A node that is still getting its CNI: it is young, nothing has ever started on it, and what fails is what is not there yet.
fn starting(scene: &Scene<'_>, node: &NodeRecord, now: &Situation<'_>) -> bool {
    let Some(made) = node.created_at.map(Timestamp::as_second) else {
        return false;
    };
    let pods = scene.plane.around.pods.get(&node.name);
    let worked = pods.is_some_and(|pods| succeeds(&pods.pods, made));
    scene.now.as_second() - made < START && !worked && now.by_class.keys().all(|class| class.at_start())
}

/// Whether this pod still has no sandbox.
fn fails(scene: &Scene<'_>, node: &str, failing: &FailingPod) -> bool {
    let around = &scene.plane.around;
    if around.unseen(Resource::Pods).is_some() && !around.pods.contains_key(node) {
        let recent = |last: Timestamp| scene.now.as_second() - last.as_second() < QUIET;
        return failing.told.last.is_none_or(recent);
    }
    let pods = around
        .pods
        .get(node)
        .map(|pods| pods.pods.as_slice())
        .unwrap_or_default();
    match pods.iter().find(|pod| *pod.uid == *failing.uid) {
        // Both clocks count whole seconds: a sandbox of the same second came after the failure.
        Some(pod) if pod.sandbox_since > 0 => failing
            .told
            .last
            .is_some_and(|last| last.as_second() > pod.sandbox_since),
        Some(_) => true,
        // Deleted, ended, or moved to hostNetwork: it wants no sandbox any more.
        None => false,
    }
}

/// Whether a node's pods got a sandbox since then.
fn succeeds(pods: &[PodRecord], since: i64) -> bool {
    pods.iter().any(|pod| pod.sandbox_since > since)
}

/// What is so on a node now.
struct Situation<'a> {
    /// Pods that fail, by the class of what is told of them last.
    by_class: BTreeMap<Signature, Vec<&'a FailingPod>>,
    /// When the first of them failed.
    first: Timestamp,
    /// Other pods of the node got a sandbox since.
    success: bool,
}

impl<'a> Situation<'a> {
    /// `None`: no pod fails.
    fn of(scene: &Scene<'a>, node: &str, failures: &'a SandboxFailures) -> Option<Self> {
        let mut by_class: BTreeMap<Signature, Vec<&FailingPod>> = BTreeMap::new();
        for pod in failures.failing.iter().filter(|pod| fails(scene, node, pod)) {
            by_class.entry(Signature::of(&pod.told.message)).or_default().push(pod);
        }
        let pods = by_class.values().flatten();
        let first = pods.filter_map(|pod| pod.told.first.or(pod.told.last)).min()?;
        let here = scene.plane.around.pods.get(node);
        let success = here.is_some_and(|pods| succeeds(&pods.pods, first.as_second()));
        Some(Self {
            by_class,
            first,
            success,
        })
    }

    fn failing(&self) -> impl Iterator<Item = &'a FailingPod> {
        self.by_class.values().flatten().copied()
    }
}

/// Whether a node of which it was told still starts nothing: then it is not over, though fewer pods show it.
pub fn still_fails(scene: &Scene<'_>, node: &str) -> bool {
    let failures = scene.plane.around.sandboxes.get(node);
    let now = failures.and_then(|failures| Situation::of(scene, node, failures));
    now.is_some_and(|now| !now.success)
}

fn by_events(scene: &Scene<'_>, node: &NodeRecord, failures: &SandboxFailures) -> Option<Claim> {
    let name = &node.name;
    if matches!(scene.ipam(node), Ipam::NoDataPlane(_)) {
        return None;
    }
    let now = Situation::of(scene, name, failures)?;
    if starting(scene, node, &now) {
        return None;
    }
    let Situation {
        by_class,
        first,
        success,
    } = &now;
    let (first, success) = (*first, *success);
    let failing = || now.failing();
    let count = failing().count();
    let repeated = failing().any(|pod| pod.told.count >= TRIES);
    // Where others get theirs on the same node, it is these pods that are at fault, until they have tried often.
    if !repeated && (count < 2 || success) {
        return None;
    }
    let (class, worst) = by_class
        .iter()
        .max_by_key(|(class, pods)| (**class != Signature::Unknown, pods.len(), std::cmp::Reverse(**class)))?;
    let mut claim = scene.claim_of(Code::Sand01, node);
    if success || *class == Signature::Runtime {
        claim.severity = Severity::Warning;
    }
    claim.affected = failing()
        .map(|pod| Affected {
            prefix: None,
            node: Some(name.clone()),
            detail: format!("{}: {}", pod.pod, Signature::of(&pod.told.message).words()),
        })
        .collect();
    claim.affected_total = cap_affected(&mut claim.affected);
    let hidden = failures
        .total
        .saturating_sub(u32::try_from(failures.failing.len()).unwrap_or(u32::MAX));
    claim.affected_total = claim.affected_total.saturating_add(hidden);
    claim.summary = format!(
        "{} of {name} {} no sandbox: {}",
        words::count(count, "pod", "pods"),
        if count == 1 { "gets" } else { "get" },
        class.words()
    );
    for (class, pods) in by_class {
        let newest = pods.iter().max_by_key(|pod| pod.told.last);
        if let Some(pod) = newest.filter(|pod| !pod.told.message.is_empty()) {
            let source = format!(
                "event FailedCreatePodSandBox of {} on Pod {}",
                pod.told.component, pod.pod
            );
            let mut evidence = scene.around_evidence(Resource::Events, source, stable(&pod.told.message));
            evidence.observed_at = pod.told.last.or(evidence.observed_at);
            claim.evidence.push(evidence);
        }
        if by_class.len() > 1 {
            let text = format!("{}: {}", words::count(pods.len(), "pod", "pods"), class.words());
            claim
                .evidence
                .push(scene.around_evidence(Resource::Events, "events".to_owned(), text));
        }
    }
    witness_success(scene, node, first, success, &mut claim);
    let last = worst.iter().filter_map(|pod| pod.told.last).max();
    claim.changed_at = last.or(claim.changed_at);
    around_it(scene, node, &mut claim);
    claim.cause = class.cause(name, node.pod_cidrs_raw.is_empty());
    claim.remedy = class.remedy(name);
    Some(claim)
}

/// The other witness: who got a sandbox since.
fn witness_success(scene: &Scene<'_>, node: &NodeRecord, first: Timestamp, success: bool, claim: &mut Claim) {
    let around = &scene.plane.around;
    if let Some(why) = around.unseen(Resource::Pods)
        && around.pods.is_empty()
    {
        claim
            .unseen
            .push(format!("which pods got their sandboxes since: {why}"));
        return;
    }
    let since = first.as_second();
    let other = around
        .pods
        .iter()
        .filter(|(other, _)| **other != node.name)
        .find(|(_, pods)| succeeds(&pods.pods, since));
    let here = if success {
        "other pods of this node got theirs"
    } else {
        "none on this node"
    };
    let text = match other {
        Some((other, _)) => format!("{here}; pods on other nodes got theirs ({other})"),
        None => format!("{here}; no pod on another node got one either"),
    };
    claim
        .evidence
        .push(scene.around_evidence(Resource::Pods, format!("pods since {first}"), text));
}

/// What else the control plane says of the node that bears on it.
fn around_it(scene: &Scene<'_>, node: &NodeRecord, claim: &mut Claim) {
    let name = &node.name;
    if let Some(why) = &node.not_ready {
        claim
            .evidence
            .push(scene.plane_evidence(format!("Node {name}"), format!("not Ready: {why}")));
    }
    claim.evidence.extend(scene.network_evidence(node));
    let daemons = scene.plane.around.daemons.get(name).into_iter().flatten();
    for daemon in daemons.filter(|daemon| !daemon.ready && daemon.kind != "kube-proxy") {
        let trouble = daemon
            .trouble
            .as_ref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        let text = format!("{} is not ready{trouble}", daemon.kind);
        claim
            .evidence
            .push(scene.around_evidence(Resource::CniPods, format!("pod {}", daemon.pod), text));
    }
}
