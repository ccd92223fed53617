//! SEEN02.

use super::*;
use crate::view::{Missing, Observed};

fn refused(what: &str) -> Observed<Vec<crate::view::host::Sandbox>> {
    Observed::missing(at(8), what, Missing::Unreadable("Permission denied".into()))
}

#[test]
fn what_is_there_and_may_not_be_read_is_told_with_its_reason() {
    let host = Host::flannel().with(|host| host.seen.sandboxes = refused("/run/containerd/containerd.sock"));
    let judged = host.judge();
    let claim = judged.claims.iter().find(|claim| claim.code == Code::Seen02).unwrap();
    assert_eq!(
        claim.summary,
        "the agent of node-a cannot read /run/containerd/containerd.sock"
    );
    assert_eq!(
        claim.affected[0].detail,
        "/run/containerd/containerd.sock: Permission denied"
    );
    assert_eq!(claim.severity, Code::Seen02.entry().severity);
}

#[test]
fn several_of_them_are_one_finding() {
    let host = Host::flannel().with(|host| {
        host.seen.sandboxes = refused("/run/containerd/containerd.sock");
        host.seen.kubelet = Observed::missing(at(8), "journal", Missing::Unreadable("no answer within 5 s".into()));
        host.gaps.push(Gap {
            what: "routes".into(),
            why: "Operation not permitted".into(),
        });
    });
    let judged = host.judge();
    let claims: Vec<_> = judged
        .claims
        .iter()
        .filter(|claim| claim.code == Code::Seen02)
        .collect();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].affected_total, 3);
    assert!(
        claims[0]
            .affected
            .iter()
            .any(|row| row.detail == "the kernel's routes: Operation not permitted")
    );
}

#[test]
fn what_is_not_on_this_host_and_what_was_not_looked_at_is_not_restricted() {
    Host::flannel().assert_healthy();
    let host = Host::flannel().with(|host| host.seen.sandboxes = Observed::not_yet());
    assert!(!host.codes().contains(&Code::Seen02));
}
