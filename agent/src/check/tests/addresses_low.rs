//! HOST05.

use std::collections::BTreeMap;

use cidrift_proto::finding::Severity;
use jiff::SignedDuration;

use super::pods_outside_cidr::{Node, id};
use super::*;
use crate::view::growth::LeaseGrowth;
use crate::view::host::{Process, Program, RangeSet, Setting};

const CODE: Code = Code::Host05;

/// A bridge with this range, long after the last pod started.
fn node(range: &str) -> Node {
    let mut node = Node::new(Host::bridge(&[range]));
    node.seen.ranges = Observed::seen(at(9), "/etc/cni/net.d/10-x", vec![RangeSet::whole(net(range)).unwrap()]);
    node.now = at(1000);
    node.seen.sandboxes.at = at(990);
    told(node, "v", "2")
}

fn address(number: u8) -> String {
    format!("10.244.1.{number}")
}

/// Pods with their leases.
fn running(mut node: Node, numbers: std::ops::RangeInclusive<u8>) -> Node {
    for number in numbers {
        node = node
            .pod(number, &address(number))
            .lease("cbr0", &id(number), &address(number));
    }
    node
}

fn leaked(mut node: Node, numbers: std::ops::RangeInclusive<u8>) -> Node {
    for number in numbers {
        node = node.lease("cbr0", &id(number), &address(number));
    }
    node
}

fn max_pods(node: Node, value: &str) -> Node {
    told(node, "max-pods", value)
}

/// A kubelet with one setting.
fn told(node: Node, field: &str, value: &str) -> Node {
    node.with(|node| {
        let setting = Setting {
            value: value.into(),
            source: "/var/lib/kubelet/config.yaml".into(),
        };
        let kubelet = Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: BTreeMap::from([(field.to_owned(), setting)]),
            problem: None,
        };
        node.seen.processes = Observed::seen(at(9), "/proc", vec![kubelet]);
    })
}

#[test]
fn a_range_with_room_is_fine_up_to_nine_in_ten() {
    running(node("10.244.1.0/24"), 2..=228).assert_silent(CODE);
    let judged = running(node("10.244.1.0/24"), 2..=229).judge(CODE);
    assert_eq!(judged.claims[0].severity, Severity::Warning);
    assert_eq!(
        judged.claims[0].summary,
        "228 of 253 addresses of 10.244.1.1-10.244.1.254 are given out, 25 left"
    );
}

#[test]
fn a_full_range_is_an_error() {
    let judged = running(node("10.244.1.0/28"), 2..=14).judge(CODE);
    assert_eq!(judged.claims[0].severity, Severity::Error);
    insta::assert_snapshot!(text(&judged));
}

#[test]
fn a_node_that_may_start_no_more_pods_needs_no_more_addresses() {
    let full = running(node("10.244.1.0/24"), 2..=251);
    max_pods(full.clone(), "250").assert_silent(CODE);
    max_pods(full.clone(), "253").assert_silent(CODE);
    assert_eq!(max_pods(full, "254").judge(CODE).claims.len(), 1);
}

#[test]
fn more_pods_than_addresses_are_foreseen() {
    let node = running(node("10.244.1.0/26"), 2..=4);
    insta::assert_snapshot!(text(&max_pods(node.clone(), "110").judge(CODE)));
    max_pods(node.clone(), "61").assert_silent(CODE);
    let host_network = node.pod(9, "10.0.0.11").last_pod(|pod| pod.host_network = true);
    max_pods(host_network, "62").assert_silent(CODE);
}

#[test]
fn leases_of_sandboxes_that_are_gone_are_leaked() {
    let node = leaked(running(node("10.244.1.0/24"), 2..=3), 10..=15).lease("cbr0", "", "10.244.1.16");
    insta::assert_snapshot!(text(&node.judge(CODE)));
    let claim = node.judge(CODE).claims.remove(0);
    assert_eq!((claim.severity, claim.affected_total), (Severity::Warning, 7));
    assert_eq!(
        claim.affected[6].detail,
        "the lease of 10.244.1.16 names no sandbox, given 2026-09-21T14:13:25Z"
    );
}

#[test]
fn a_handful_of_leaks_with_room_is_not_worth_a_word() {
    leaked(running(node("10.244.1.0/24"), 2..=3), 10..=13).assert_silent(CODE);
    assert_eq!(
        leaked(running(node("10.244.1.0/24"), 2..=3), 10..=14)
            .judge(CODE)
            .claims
            .len(),
        1
    );
    assert_eq!(
        leaked(running(node("10.244.1.0/28"), 2..=3), 10..=10)
            .judge(CODE)
            .claims
            .len(),
        1
    );
}

#[test]
fn a_range_full_of_leaks_is_an_error_that_names_them() {
    let judged = leaked(running(node("10.244.1.0/28"), 2..=3), 4..=14).judge(CODE);
    assert_eq!(judged.claims[0].severity, Severity::Error);
    assert!(judged.claims[0].summary.contains("all 13 addresses"));
    assert!(
        judged.claims[0]
            .summary
            .contains("11 leases are of no sandbox: 10.244.1.4, ")
    );
}

#[test]
fn what_is_leaked_is_told_with_the_sandboxes_and_whether_it_is_all() {
    let mut node = leaked(running(node("10.244.1.0/24"), 2..=3), 10..=15).lease("cbr0", "", "10.244.1.16");
    // One is young: its sandbox may be about to be listed.
    node.seen.leases.value.as_mut().unwrap()[2].given_at = Some(at(980));
    let told = node.judge(CODE).leaks.unwrap();
    let [network] = told.networks.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(network.directory, "/var/lib/cni/networks/cbr0");
    let addresses: Vec<String> = network.leases.iter().map(|lease| lease.address.to_string()).collect();
    assert_eq!(addresses, (11..=15).map(address).collect::<Vec<_>>());
    assert_eq!(network.leases[0].container, id(11));
    assert_eq!((told.omitted, told.nameless, told.others), (0, 1, false));
    // Nothing is told where nothing is said.
    assert_eq!(
        leaked(running(self::node("10.244.1.0/24"), 2..=3), 10..=13)
            .judge(CODE)
            .leaks,
        None
    );
    let others = |node: Node| node.judge(CODE).leaks.unwrap().others;
    // A range full of leaks has room without them; not one that is too small for the node, or full of pods.
    let full = leaked(running(self::node("10.244.1.0/28"), 2..=3), 4..=14);
    assert!(!others(full.clone()) && others(max_pods(full, "20")));
    assert!(others(leaked(running(self::node("10.244.1.0/28"), 2..=13), 14..=14)));
    // Leases that name nobody stay, and keep it open where they are many.
    let nameless = |last: u8| {
        let node = leaked(running(self::node("10.244.1.0/24"), 2..=3), 10..=15);
        (20..=last).fold(node, |node, number| node.lease("cbr0", "", &address(number)))
    };
    assert!(!others(nameless(23)) && others(nameless(24)));
}

#[test]
fn a_lease_is_young_for_five_minutes() {
    let node = leaked(running(node("10.244.1.0/24"), 2..=3), 10..=19);
    node.clone().with(|node| node.now = at(304)).assert_silent(CODE);
    assert_eq!(node.clone().with(|node| node.now = at(305)).judge(CODE).claims.len(), 1);
    // Sandboxes listed before the lease was given say nothing of it.
    node.clone()
        .with(|node| node.seen.sandboxes.at = at(5))
        .assert_silent(CODE);
    // A kubelet may have been told to wait longer for its runtime, and asks it twice.
    for (value, last, minutes) in [("10m0s", 1264, 21), ("130s", 324, 6), ("1m", 304, 5), ("soon", 304, 5)] {
        let node = told(node.clone(), "runtime-request-timeout", value);
        let node = node.with(|node| node.seen.sandboxes.at = at(1300));
        node.clone().with(|node| node.now = at(last)).assert_silent(CODE);
        let claims = node.with(|node| node.now = at(last + 1)).judge(CODE).claims;
        assert!(claims[0].remedy.contains(&format!("-mmin +{minutes} ")), "{claims:?}");
    }
}

#[test]
fn leases_are_not_told_for_removal_where_a_sandbox_may_be_set_up_for_longer() {
    let leaks = |node: Node| node.judge(CODE).leaks.is_some();
    let node = leaked(running(node("10.244.1.0/24"), 2..=3), 10..=19);
    assert!(leaks(node.clone()) && leaks(told(node.clone(), "runtime-request-timeout", "3m")));
    // It is found all the same.
    let unsure = told(node.clone(), "runtime-request-timeout", "soon");
    let remedy = |node: &Node| node.judge(CODE).claims.remove(0).remedy;
    assert!(remedy(&unsure).contains("not known here") && !remedy(&node).contains("not known here"));
    assert!(!leaks(unsure));
    let torn = node.clone().with(|node| {
        node.seen.processes.value.as_mut().unwrap()[0].problem = Some("its file cannot be read".into());
    });
    assert!(!leaks(torn));
    let unread = node.with(|node| node.seen.processes.value = Err(Missing::Unreadable("denied".into())));
    assert!(!leaks(unread));
}

#[test]
fn what_cri_did_not_set_up_is_no_leak_and_stopped_sandboxes_are_none() {
    let mut others = running(node("10.244.1.0/24"), 2..=3);
    for number in 10..20 {
        others = others.lease("cbr0", &format!("default-job{number}"), &address(number));
        others = others.lease("podman", &id(number), &format!("10.88.0.{number}"));
    }
    others.assert_silent(CODE);
    let mut stopped = running(node("10.244.1.0/24"), 2..=3);
    for number in 10..20 {
        stopped = running(stopped, number..=number).last_pod(|pod| pod.ready = false);
    }
    stopped.assert_silent(CODE);
}

#[test]
fn leases_of_which_the_runtime_knows_none_may_be_anothers() {
    let node = leaked(node("10.244.1.0/24"), 10..=30).pod(1, "10.244.1.99");
    assert_eq!(
        node.unjudged(CODE),
        "no lease of network cbr0 in /var/lib/cni/networks is of a sandbox that the runtime knows: they may be another runtime's"
    );
}

#[test]
fn a_running_pod_without_a_lease_will_have_its_address_given_out_again() {
    let node = running(node("10.244.1.0/24"), 2..=3)
        .pod(9, "10.244.1.9")
        .pod(8, "10.9.9.9");
    let judged = node.judge(CODE);
    assert_eq!(judged.claims[0].severity, Severity::Error);
    insta::assert_snapshot!(text(&judged));
}

#[test]
fn without_the_runtime_only_the_count_is_judged() {
    let node = leaked(node("10.244.1.0/28"), 2..=14)
        .with(|node| node.seen.sandboxes.value = Err(Missing::Unreadable("it hangs".into())));
    let judged = node.judge(CODE);
    assert_eq!(judged.unjudged[0].reason, "/run/containerd/containerd.sock: it hangs");
    assert_eq!(
        judged.claims[0].summary,
        "all 13 addresses of 10.244.1.1-10.244.1.14 are given out"
    );
}

#[test]
fn leases_that_may_not_be_read_are_unknown() {
    let node = node("10.244.1.0/24").with(|node| node.seen.leases.value = Err(Missing::Unreadable("denied".into())));
    assert_eq!(node.unjudged(CODE), "/var/lib/cni/networks: denied");
}

#[test]
fn a_narrowed_range_counts_as_it_is() {
    let node = running(node("10.244.1.0/24"), 100..=120).with(|node| {
        let set = &mut node.seen.ranges.value.as_mut().unwrap()[0];
        set.ranges[0].first = "10.244.1.100".parse().unwrap();
        set.ranges[0].last = "10.244.1.120".parse().unwrap();
    });
    assert!(
        node.judge(CODE).claims[0]
            .summary
            .starts_with("all 21 addresses of 10.244.1.100-10.244.1.120")
    );
}

#[test]
fn flannels_range_is_in_subnet_env_and_calicos_is_the_nodes() {
    let mut flannel = Node::new(Host::flannel());
    flannel.now = at(1000);
    flannel.seen.sandboxes.at = at(990);
    let flannel = running(flannel, 2..=254);
    assert_eq!(flannel.judge(CODE).claims[0].severity, Severity::Error);
    let calico = flannel.with(|node| {
        node.host.cni = config("10-canal.conflist", "calico", Some("host-local"), &[], None);
    });
    assert_eq!(calico.judge(CODE).claims[0].severity, Severity::Error);
}

#[test]
fn another_allocator_is_not_judged() {
    let node = leaked(running(Node::new(Host::flannel()), 2..=3), 10..=250);
    node.with(|node| node.host.cni.chosen.as_mut().unwrap().ipam = Some("static".into()))
        .assert_silent(CODE);
}

#[test]
fn far_more_addresses_than_pods_are_not_taken_for_a_full_node() {
    // Young leases: nobody can say yet whether they are leaked.
    let young = leaked(running(node("10.244.1.0/28"), 2..=3), 4..=14).with(|node| {
        for lease in node.seen.leases.value.as_mut().unwrap().iter_mut().skip(2) {
            lease.given_at = Some(at(980));
        }
    });
    let claim = young.judge(CODE).claims.remove(0);
    assert!(
        claim
            .cause
            .starts_with("Far more addresses are given out than pods run"),
        "{claim:?}"
    );
    assert!(claim.remedy.starts_with("Wait some minutes"), "{claim:?}");
    let full = running(node("10.244.1.0/28"), 2..=14).judge(CODE).claims.remove(0);
    assert!(full.cause.starts_with("As many pods run here"), "{full:?}");
}

#[test]
fn how_the_range_grew_is_told_beside_it_as_of_when_it_was_concluded() {
    let growth = |network: &str, range: &str| LeaseGrowth {
        network: network.into(),
        set: RangeSet::whole(net(range)).unwrap(),
        at: at(400),
        over: SignedDuration::from_mins(31),
        before: 200,
        now: 240,
    };
    let low = running(node("10.244.1.0/24"), 2..=244).with(|node| {
        node.growth = vec![
            growth("podman", "10.244.1.0/24"),
            growth("cbr0", "10.244.9.0/24"),
            growth("cbr0", "10.244.1.0/24"),
        ];
    });
    let claim = low.judge(CODE).claims.remove(0);
    let told: Vec<_> = claim.evidence.iter().filter(|row| row.text.contains("grew")).collect();
    assert_eq!(told.len(), 1, "{claim:?}");
    assert_eq!(
        told[0].text,
        "10.244.1.1-10.244.1.254 grew by 40 leases in the last 30 min; at that pace it is full in about 10 min"
    );
    assert_eq!(told[0].observed_at, Some(at(400)));
    // It is no fault by itself.
    running(node("10.244.1.0/24"), 2..=20)
        .with(|node| node.growth = vec![growth("cbr0", "10.244.1.0/24")])
        .assert_silent(CODE);
}
