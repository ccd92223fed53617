//! The rows of what was compared: what the kubelet took over, and what the CNI has written down.

use std::collections::BTreeMap;

use cidrift_proto::facts::{Agrees, Compared};

use super::pods_outside_cidr::{Node, id};
use super::*;
use crate::check::compare;
use crate::view::host::{KubeletCidr, Process, Program};
use crate::view::{Missing, Observed};

/// The row of that name; `None`: there is none.
fn row(node: &Node, what: &str) -> Option<Compared> {
    let input = node.input();
    let mut rows = compare::rows(&input, &check(&input)).into_iter();
    rows.find(|row| row.what == what)
}

fn says(node: &Node, what: &str) -> (String, Agrees) {
    let row = row(node, what).unwrap();
    (row.value, row.agrees)
}

fn node() -> Node {
    Node::new(Host::bridge(&["10.244.1.0/24"]))
}

fn kubelet(cidrs: &[&str]) -> Node {
    node().with(|node| {
        let told = KubeletCidr {
            cidrs: nets(cidrs),
            before: Vec::new(),
            said_at: at(5),
            error: None,
        };
        node.seen.kubelet = Observed::seen(at(9), "journal of kubelet.service", told);
    })
}

#[test]
fn what_the_kubelet_took_over_agrees_where_it_is_the_nodes() {
    assert_eq!(
        says(&kubelet(&["10.244.1.0/24"]), "kubelet"),
        ("10.244.1.0/24".into(), Agrees::Yes)
    );
    let other = kubelet(&["10.244.9.0/24"]);
    assert_ne!(says(&other, "kubelet").1, Agrees::Yes);
    let nobody = kubelet(&["10.244.1.0/24"]).with(|node| node.host.expectation.node_known = false);
    assert_eq!(says(&nobody, "kubelet").1, Agrees::Unknown);
}

#[test]
fn a_kubelet_that_does_not_show_it_is_unknown_and_no_kubelet_has_no_row() {
    assert_eq!(row(&node(), "kubelet"), None);
    let runs = node().with(|node| {
        let kubelet = Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: BTreeMap::new(),
            problem: None,
        };
        node.seen.processes = Observed::seen(at(9), "/proc", vec![kubelet]);
        node.seen.kubelet.value = Err(Missing::Absent("no log of it is kept".into()));
    });
    assert_eq!(
        says(&runs, "kubelet"),
        ("unknown: no log of it is kept".into(), Agrees::Unknown)
    );
    let refused = node().with(|node| node.seen.kubelet.value = Err(Missing::Unreadable("denied".into())));
    assert_eq!(says(&refused, "kubelet"), ("unknown: denied".into(), Agrees::Unknown));
}

#[test]
fn the_cnis_record_is_that_of_the_chosen_network() {
    assert_eq!(says(&node(), "CNI's record"), ("none".into(), Agrees::Nothing));
    let other = node().lease("podman", &id(1), "10.88.0.5");
    assert_eq!(says(&other, "CNI's record"), ("none".into(), Agrees::Nothing));
    let own = node().lease("cbr0", &id(1), "10.244.1.5");
    assert_eq!(says(&own, "CNI's record"), ("10.244.1.5".into(), Agrees::Yes));
}

#[test]
fn a_lease_of_another_range_counts_where_its_pod_runs() {
    let left = node().lease("cbr0", &id(1), "10.244.9.5");
    assert_eq!(
        says(&left, "CNI's record"),
        ("1 address, 1 outside: 10.244.9.5".into(), Agrees::Nothing)
    );
    let runs = left.pod(1, "10.244.9.5");
    assert_eq!(says(&runs, "CNI's record").1, Agrees::No);
    let unread = node().with(|node| node.seen.leases.value = Err(Missing::Unreadable("denied".into())));
    assert_eq!(
        says(&unread, "CNI's record"),
        ("unknown: denied".into(), Agrees::Unknown)
    );
}
