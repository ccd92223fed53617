//! SAND01 sandbox-failures: sandboxes fail, as the host's own logs tell it.
//!
//! Never by counting errors alone: a node on which others start, and a pod that starts in the end, have the same
//! texts. What counts is that pods go on failing and none succeeds.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Evidence, Severity};
use cidrift_proto::signature::Signature;
use jiff::{SignedDuration, Timestamp};

use super::{Input, Judged, Says};
use crate::facts;
use crate::view::host::{FailureClass, Failures, Program};

const CODE: Code = Code::Sand01;

/// Tries of one pod that failed before it counts alone: kubelet tries about every 15 s, so this is most of a minute.
const TRIES: u32 = 4;

/// A class names no more pods than this: then nothing follows from its count for one of them.
const NAMED: usize = 64;

/// A kubelet this young may still be waiting for its CNI, whose images are pulled first.
const START: SignedDuration = SignedDuration::from_mins(5);

/// A sandbox is listed as made when its making began, the log says so when it ended: one takes 4 minutes at most.
const MAKING: SignedDuration = SignedDuration::from_mins(4);

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let Some(failures) = judged.need(CODE, &input.host.failures) else {
        return;
    };
    let classes: Vec<&FailureClass> = failures.classes.iter().filter(|class| !class.pods.is_empty()).collect();
    let Some(first) = classes.iter().map(|class| class.first).min() else {
        return;
    };
    if starting(input, failures, &classes) {
        return;
    }
    let pods: BTreeSet<&String> = classes.iter().flat_map(|class| &class.pods).collect();
    let success = success(input, failures, first);
    let repeated = classes.iter().any(|class| repeated(class));
    if !repeated && (pods.len() < 2 || success.is_some()) {
        return;
    }
    let says = says(input, failures, &classes, &pods, success.as_deref());
    let worst = worst(&classes);
    let mut claim = input.claim(CODE, says, Some(first));
    if success.is_some() || worst == Signature::Runtime {
        claim.severity = Severity::Warning;
    }
    judged.claims.push(claim);
}

/// Some pod of the class has been tried often: with more failures than three for each there must be one.
fn repeated(class: &FailureClass) -> bool {
    let pods = u32::try_from(class.pods.len()).unwrap_or(u32::MAX);
    class.pods.len() < NAMED && class.count > pods.saturating_mul(TRIES - 1)
}

/// What most pods fail by; a text that says something before one that says nothing.
fn worst(classes: &[&FailureClass]) -> Signature {
    let worst = classes.iter().max_by_key(|class| {
        (
            class.signature != Signature::Unknown,
            class.pods.len(),
            std::cmp::Reverse(class.signature),
        )
    });
    worst.map_or(Signature::Unknown, |class| class.signature)
}

/// A host that is still getting its CNI: its kubelet is young, nothing was ever set up, and what fails is what is not
/// there yet.
fn starting(input: &Input<'_>, failures: &Failures, classes: &[&FailureClass]) -> bool {
    let processes = input.host.processes.get().into_iter().flatten();
    let kubelet = processes.filter(|process| process.program == Program::Kubelet);
    let Some(started) = kubelet.filter_map(|kubelet| kubelet.started_at).max() else {
        return false;
    };
    input.now.duration_since(started) < START
        && failures.last_success.is_none_or(|at| at < started)
        && classes.iter().all(|class| class.signature.at_start())
}

/// A sandbox with a network of its own that was set up after the first failure, and who says so. One that shares the
/// host's network asks no CNI: where the runtime lists such a one for what the log told, the log has told nothing.
fn success(input: &Input<'_>, failures: &Failures, first: Timestamp) -> Option<String> {
    let sandboxes = input.host.sandboxes.get();
    let after = |at: Option<Timestamp>| at.filter(|at| *at > first);
    let mut ready = sandboxes
        .into_iter()
        .flatten()
        .filter(|sandbox| sandbox.ready && !sandbox.host_network);
    if let Some(made) = ready.find(|sandbox| after(sandbox.created_at).is_some()) {
        return Some(format!("{} got its sandbox since", made.pod));
    }
    let told = after(failures.last_success)?;
    let of_the_host = sandboxes.into_iter().flatten().filter(|sandbox| sandbox.host_network);
    let mut made = of_the_host.filter_map(|sandbox| sandbox.created_at);
    let explained = made.any(|made| made <= told && told.duration_since(made) <= MAKING);
    (!explained).then(|| format!("a sandbox was set up at {told:.0}"))
}

/// How sandboxes fare here altogether: whether the making of one takes long before it fails, and how many are made all
/// the same. By the runtime's log where that tells it, else by what programs count; never a finding by itself.
fn setups(input: &Input<'_>) -> Vec<Evidence> {
    let observed = &input.host.setups;
    if let Some(logged) = facts::logged(observed) {
        // A runtime that hangs ends nothing: that some wait is then all that there is.
        let ended = logged.lately().map(|span| span.words());
        let texts: Vec<String> = ended.into_iter().chain(logged.waits()).collect();
        if !texts.is_empty() {
            return vec![input.observed_evidence(observed, texts.join("; "))];
        }
    }
    let counted = facts::setups(input.host)
        .map(|setups| setups.counted)
        .unwrap_or_default();
    let rows = counted.iter().filter(|row| row.total.failed > 0);
    rows.map(|row| Evidence {
        source: format!("{} on {}", row.source, input.node),
        text: row.words(),
        observed_at: Some(row.observed_at),
        stale: false,
    })
    .collect()
}

fn says(
    input: &Input<'_>,
    failures: &Failures,
    classes: &[&FailureClass],
    pods: &BTreeSet<&String>,
    success: Option<&str>,
) -> Says {
    let node = input.node;
    let worst = worst(classes);
    let count = pods.len();
    let summary = match count {
        1 => format!("1 pod of {node} gets no sandbox: {}", worst.words()),
        count => format!("{count} pods of {node} get no sandbox: {}", worst.words()),
    };
    let affected = classes.iter().flat_map(|class| {
        class.pods.iter().map(|pod| Affected {
            prefix: None,
            node: Some(node.to_owned()),
            detail: format!("{pod}: {}", class.signature.words()),
        })
    });
    let observed = &input.host.failures;
    let mut evidence = Vec::new();
    for class in classes.iter().filter(|class| !class.text.is_empty()) {
        let mut row = input.observed_evidence(observed, format!("{}: {}", class.component, class.text));
        row.observed_at = Some(class.last);
        evidence.push(row);
        if let [name, ..] = class.addresses.as_slice() {
            let more = class.addresses.len() - 1;
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            evidence.push(input.observed_evidence(observed, format!("the texts name {name}{more}")));
        }
        if classes.len() > 1 {
            let text = format!(
                "pods: {}, failures: {}: {}",
                class.pods.len(),
                class.count,
                class.signature.words()
            );
            evidence.push(input.observed_evidence(observed, text));
        }
    }
    let mut unseen = Vec::new();
    let here = success.unwrap_or("no pod of this node got a sandbox since").to_owned();
    evidence.push(input.observed_evidence(observed, here));
    evidence.extend(setups(input));
    if let Some(why) = input.host.sandboxes.unreadable() {
        unseen.push(format!("which sandboxes there are: {why}"));
    }
    if let Some(since) = failures.since {
        evidence.push(input.observed_evidence(observed, format!("read from {since:.0} on")));
    }
    let waits = input
        .expectation
        .is_some_and(|expectation| expectation.node_known && expectation.pod_cidrs.is_empty());
    Says {
        summary,
        affected: affected.collect(),
        evidence,
        unseen,
        cause: worst.cause(node, waits),
        remedy: worst.remedy(node),
    }
}
