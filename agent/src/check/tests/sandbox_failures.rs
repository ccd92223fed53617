//! SAND01, as one host's logs tell it.

use cidrift_proto::facts::SetupSpan;
use cidrift_proto::finding::Severity;
use cidrift_proto::signature::Signature;

use super::*;
use crate::view::host::{FailureClass, Failures, Process, Program, Sandbox};
use crate::view::setup::{Counted, Counting, Operations, Setups};

const FULL: &str = "plugin type=\"bridge\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.1.1-10.244.1.6";

fn class(count: u32, pods: &[&str], text: &str) -> FailureClass {
    FailureClass {
        signature: Signature::of(text),
        count,
        first: at(100),
        last: at(160),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        text: text.to_owned(),
        component: "containerd".to_owned(),
        addresses: vec!["10.244.1.1-10.244.1.6".to_owned()],
        plugin: Some("bridge".to_owned()),
    }
}

fn sandbox(created: i64, host_network: bool) -> Sandbox {
    Sandbox {
        id: "3f2a".into(),
        pod: "ns/other".into(),
        uid: "u".into(),
        created_at: Some(at(created)),
        ready: true,
        host_network,
        addresses: vec![],
    }
}

/// What the host's logs and runtime say besides.
struct Told {
    classes: Vec<FailureClass>,
    last_success: Option<Timestamp>,
    sandboxes: Vec<Sandbox>,
    kubelet_started: Timestamp,
    setups: Observed<Setups>,
    operations: Vec<Observed<Operations>>,
}

fn told(classes: &[FailureClass]) -> Told {
    Told {
        classes: classes.to_vec(),
        last_success: None,
        sandboxes: vec![],
        kubelet_started: at(-5000),
        setups: Observed::not_yet(),
        operations: Vec::new(),
    }
}

impl Told {
    fn judge(&self) -> Judged {
        let failures = Failures {
            since: Some(at(-700)),
            classes: self.classes.clone(),
            last_success: self.last_success,
        };
        let kubelet = Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: Some(self.kubelet_started),
            settings: std::collections::BTreeMap::new(),
            problem: None,
        };
        let other = crate::view::Host {
            processes: Observed::seen(at(199), "/proc", vec![kubelet]),
            failures: Observed::seen(at(199), "/var/log/containerd.log", failures),
            sandboxes: Observed::seen(at(199), "containerd.sock", self.sandboxes.clone()),
            setups: self.setups.clone(),
            operations: self.operations.clone(),
            ..crate::view::Host::bare(at(0))
        };
        let mut judged = Host::bridge(&["10.244.1.0/24"]).judge_with(&other, at(200));
        judged.claims.retain(|claim| claim.code == Code::Sand01);
        judged
    }

    fn severity(&self) -> Option<Severity> {
        self.judge().claims.first().map(|claim| claim.severity)
    }
}

#[test]
fn two_pods_that_fail_while_none_succeeds_are_a_wedge() {
    insta::assert_snapshot!(text(&told(&[class(2, &["ns/a", "ns/b"], FULL)]).judge()));
}

#[test]
fn one_pod_counts_alone_after_four_tries() {
    assert_eq!(told(&[class(3, &["ns/a"], FULL)]).severity(), None);
    assert_eq!(told(&[class(4, &["ns/a"], FULL)]).severity(), Some(Severity::Error));
}

#[test]
fn where_others_start_it_is_the_pods_and_not_the_node() {
    let mut told = told(&[class(6, &["ns/a", "ns/b"], FULL)]);
    told.sandboxes = vec![sandbox(101, false)];
    assert_eq!(told.severity(), None);
    told.classes = vec![class(7, &["ns/a", "ns/b"], FULL)];
    assert_eq!(
        told.severity(),
        Some(Severity::Warning),
        "one of them was tried four times"
    );
    told.classes = vec![class(2, &["ns/a", "ns/b"], FULL)];
    told.sandboxes = vec![sandbox(100, false)];
    assert_eq!(told.severity(), Some(Severity::Error), "that was before");
}

#[test]
fn a_pod_of_the_hosts_network_is_no_success() {
    let mut told = told(&[class(2, &["ns/a", "ns/b"], FULL)]);
    told.sandboxes = vec![sandbox(150, true)];
    assert_eq!(told.severity(), Some(Severity::Error));
    told.last_success = Some(at(152));
    assert_eq!(
        told.severity(),
        Some(Severity::Error),
        "the log tells of that same sandbox"
    );
    told.sandboxes.clear();
    assert_eq!(told.severity(), None, "nothing speaks against the log's word");
}

#[test]
fn a_host_that_is_still_getting_its_cni_is_left_alone_unless_something_else_is_wrong() {
    let waiting = "no network config found in /etc/cni/net.d: cni plugin not initialized";
    let mut told = told(&[class(9, &["ns/a", "ns/b"], waiting)]);
    told.kubelet_started = at(-99);
    assert_eq!(told.severity(), None);
    told.kubelet_started = at(-100);
    assert_eq!(told.severity(), Some(Severity::Error));
    told.kubelet_started = at(-99);
    told.classes.push(class(1, &["ns/c"], FULL));
    assert_eq!(told.severity(), Some(Severity::Error));
}

#[test]
fn the_runtimes_own_failure_is_a_warning() {
    let text = "failed to create containerd task: failed to create shim task: OCI runtime create failed";
    assert_eq!(
        told(&[class(2, &["ns/a", "ns/b"], text)]).severity(),
        Some(Severity::Warning)
    );
}

#[test]
fn a_known_text_is_named_before_an_unknown_one() {
    let unknown = class(9, &["ns/a", "ns/b", "ns/c"], "nobody has seen this");
    let judged = told(&[unknown, class(1, &["ns/d"], FULL)]).judge();
    assert_eq!(
        judged.claims[0].summary,
        "4 pods of node-a get no sandbox: the node's address range is used up"
    );
}

#[test]
fn logs_that_cannot_be_read_are_unknown_and_none_is_nothing() {
    let host = Host::bridge(&["10.244.1.0/24"]);
    let with = |why| crate::view::Host {
        failures: Observed::missing(at(0), "logs", why),
        ..crate::view::Host::bare(at(0))
    };
    assert_eq!(
        host.judge_with(&with(Missing::Absent("none".into())), at(9)),
        Judged::default()
    );
    let judged = host.judge_with(&with(Missing::Unreadable("denied".into())), at(9));
    assert_eq!(
        (judged.unjudged[0].code, judged.unjudged[0].reason.as_str()),
        (Code::Sand01, "logs: denied")
    );
}

/// Nine failed in ten minutes, and twelve were made.
fn setups() -> Observed<Setups> {
    let span = SetupSpan {
        seconds: 600,
        made: 12,
        failed: 9,
        median_ms: Some(400),
        slowest_ms: Some(41_000),
        ..SetupSpan::default()
    };
    let setups = Setups {
        since: Some(at(-700)),
        spans: vec![span],
        waiting: 1,
        waiting_since: Some(at(90)),
    };
    Observed::seen(at(199), "/var/log/containerd.log", setups)
}

fn operations() -> Observed<Operations> {
    let total = Counted {
        calls: 21,
        failed: 9,
        micros: 2_100_000,
        within: vec![],
    };
    let operations = Operations {
        program: Program::Containerd,
        of: Counting::Networks,
        total,
        grown: None,
    };
    Observed::seen(at(180), "containerd's metrics at 127.0.0.1:1338", operations)
}

#[test]
fn how_sandboxes_fare_is_evidence_of_the_failures_and_no_finding_by_itself() {
    let mut told = told(&[]);
    told.setups = setups();
    told.operations = vec![operations()];
    assert_eq!(told.severity(), None);
    told.classes = vec![class(4, &["ns/a"], FULL)];
    let evidence = |told: &Told| {
        let claims = told.judge().claims;
        let rows = claims[0]
            .evidence
            .iter()
            .map(|row| format!("{}: {}", row.source, row.text));
        rows.filter(|text| text.contains("in 10 min") || text.contains("calls"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        evidence(&told),
        [
            "/var/log/containerd.log on node-a: 12 sandboxes in 10 min, half of them within 0.4 s, slowest 41 s; 9 tries \
          failed; 1 that was asked for at 2026-09-21T14:14:50Z has neither come nor failed"
        ]
    );
    // A runtime that hangs ends nothing.
    told.setups = Observed::seen(
        at(199),
        "/var/log/containerd.log",
        Setups {
            spans: Vec::new(),
            ..setups().get().cloned().unwrap()
        },
    );
    let waits = "1 that was asked for at 2026-09-21T14:14:50Z has neither come nor failed";
    let told_of = |told: &Told| told.judge().claims[0].evidence.iter().any(|row| row.text == waits);
    assert!(told_of(&told), "{:?}", told.judge().claims[0].evidence);
    told.setups = Observed::not_yet();
    assert_eq!(
        evidence(&told),
        [
            "containerd's metrics at 127.0.0.1:1338 on node-a: 21 calls to set up a pod's network since it started: 9 \
          failed, 0.1 s on average"
        ]
    );
    told.operations = vec![];
    assert_eq!(evidence(&told), Vec::<String>::new());
}
