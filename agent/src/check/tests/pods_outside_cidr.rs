//! HOST03, and what tests of HOST05 share with it: a host with pods.

use proptest::prelude::*;

use super::*;
use crate::view;
use crate::view::Observed;
use crate::view::growth::LeaseGrowth;
use crate::view::host::{CachedResult, Lease, Sandbox};

/// A host, and the pods on it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) host: Host,
    pub(super) seen: view::Host,
    pub(super) growth: Vec<LeaseGrowth>,
    pub(super) now: Timestamp,
}

/// An id as containerd gives it.
pub(super) fn id(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

impl Node {
    pub(super) fn new(host: Host) -> Self {
        let mut seen = view::Host::bare(at(9));
        seen.sandboxes = Observed::seen(at(9), "/run/containerd/containerd.sock", Vec::new());
        seen.leases = Observed::seen(at(9), "/var/lib/cni/networks", Vec::new());
        seen.results = Observed::seen(at(9), "/var/lib/cni/results", Vec::new());
        Self {
            host,
            seen,
            growth: Vec::new(),
            now: at(10),
        }
    }

    /// A running pod with this address.
    pub(super) fn pod(mut self, number: u8, address: &str) -> Self {
        self.seen.sandboxes.value.as_mut().unwrap().push(Sandbox {
            id: id(number),
            pod: format!("default/web-{number}"),
            uid: String::new(),
            created_at: Some(at(6)),
            ready: true,
            host_network: false,
            addresses: vec![address.parse().unwrap()],
        });
        self
    }

    pub(super) fn last_pod(mut self, change: impl FnOnce(&mut Sandbox)) -> Self {
        change(self.seen.sandboxes.value.as_mut().unwrap().last_mut().unwrap());
        self
    }

    pub(super) fn lease(mut self, network: &str, container: &str, address: &str) -> Self {
        self.seen.leases.value.as_mut().unwrap().push(Lease {
            network: network.into(),
            directory: format!("/var/lib/cni/networks/{network}").into(),
            address: address.parse().unwrap(),
            container: container.into(),
            given_at: Some(at(5)),
        });
        self
    }

    fn result(mut self, network: &str, number: u8, address: &str, ranges: &[&str]) -> Self {
        self.seen.results.value.as_mut().unwrap().push(CachedResult {
            network: network.into(),
            container: id(number),
            pod: Some(format!("default/web-{number}")),
            addresses: nets(&[address]),
            ranges: nets(ranges),
            made_at: Some(at(6)),
        });
        self
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// What one rule says.
    pub(super) fn judge(&self, code: Code) -> Judged {
        let mut judged = check(&self.input());
        judged.claims.retain(|claim| claim.code == code);
        judged.unjudged.retain(|row| row.code == code);
        judged
    }

    pub(super) fn input(&self) -> Input<'_> {
        let host = &self.host;
        Input {
            node: "node-a",
            expectation: Some(&host.expectation),
            kernel: &host.kernel,
            kernel_at: at(10),
            kernel_gaps: &host.gaps,
            links_changed_at: Some(at(4)),
            cni: &host.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &host.rows,
            host: &self.seen,
            lease_growth: &self.growth,
            now: self.now,
        }
    }

    pub(super) fn assert_silent(&self, code: Code) {
        assert_eq!(self.judge(code), Judged::default());
    }

    pub(super) fn unjudged(&self, code: Code) -> String {
        let judged = self.judge(code);
        assert_eq!((judged.claims.len(), judged.unjudged.len()), (0, 1), "{judged:?}");
        judged.unjudged[0].reason.clone()
    }
}

fn bridge(ranges: &[&str]) -> Node {
    Node::new(Host::bridge(ranges))
}

#[test]
fn pods_of_the_nodes_cidr_are_fine_to_its_last_address() {
    bridge(&["10.244.1.0/24"])
        .pod(1, "10.244.1.2")
        .pod(2, "10.244.1.255")
        .assert_silent(CODE);
    let judged = bridge(&["10.244.1.0/24"]).pod(1, "10.244.2.0").judge(CODE);
    assert_eq!(judged.claims.len(), 1);
}

const CODE: Code = Code::Host03;

#[test]
fn pods_of_a_stale_configuration_are_outside_and_more_are_to_come() {
    let node = bridge(&["10.244.7.0/24"])
        .pod(1, "10.244.7.5")
        .result("cbr0", 1, "10.244.7.5/24", &["10.244.7.0/24"])
        .lease("cbr0", &id(1), "10.244.7.5");
    insta::assert_snapshot!(text(&node.judge(CODE)));
    let claim = node.judge(CODE).claims.remove(0);
    assert_eq!(
        claim.affected[0].detail,
        "default/web-1 has 10.244.7.5 (sandbox 0101010101010, since 2026-09-21T14:13:26Z)"
    );
    assert_eq!((claim.changed_at, claim.trigger), (Some(at(6)), Trigger::Host));
}

#[test]
fn pods_of_another_network_came_from_a_file_that_was_first_for_a_while() {
    let node = bridge(&["10.244.1.0/24"])
        .pod(1, "10.88.0.5")
        .result("podman", 1, "10.88.0.5/16", &["10.88.0.0/16"]);
    insta::assert_snapshot!(text(&node.judge(CODE)));
}

#[test]
fn why_a_pod_is_outside_is_told_by_the_surest_witness() {
    let cause = |node: &Node| node.judge(CODE).claims.remove(0).cause;
    let node = bridge(&["10.244.1.0/24"]).pod(1, "10.244.7.5");
    assert!(cause(&node).starts_with("They may be older than the Node's present podCIDR"));
    let known = node.clone().with(|node| node.host.expectation.since = Some(at(3)));
    assert!(cause(&known).starts_with("They started when the Node had its present podCIDR already"));
    let reborn = node.clone().with(|node| node.host.expectation.since = Some(at(7)));
    assert!(cause(&reborn).starts_with("They may be older"));
    assert_eq!(reborn.judge(CODE).claims[0].trigger, Trigger::ControlPlane);
    let former = known.clone().result("cbr0", 1, "10.244.7.5/24", &["10.244.7.0/24"]);
    assert!(cause(&former).starts_with("They started under an earlier CNI configuration"));
    let written = known.with(|node| node.host.cni.chosen.as_mut().unwrap().modified_at = Some(at(8)));
    assert!(cause(&written).starts_with("They started under an earlier CNI configuration"));
}

#[test]
fn a_stale_subnet_env_is_named_as_the_cause() {
    let node = Node::new(Host::flannel()).pod(1, "10.244.7.5").with(|node| {
        node.host.cni.flannel.as_mut().unwrap().subnets = nets(&["10.244.7.0/24"]);
    });
    let claim = node.judge(CODE).claims.remove(0);
    assert!(claim.cause.contains("/run/flannel/subnet.env still names (HOST01)"));
    assert_eq!(
        claim.unseen,
        ["whether flanneld runs with --kube-subnet-mgr (the Node's annotations)"]
    );
}

#[test]
fn stopped_and_host_network_pods_are_not_judged() {
    bridge(&["10.244.1.0/24"])
        .pod(1, "10.244.7.5")
        .last_pod(|pod| pod.ready = false)
        .pod(2, "10.0.0.11")
        .last_pod(|pod| pod.host_network = true)
        .assert_silent(CODE);
}

#[test]
fn an_address_of_the_host_itself_is_no_pods() {
    bridge(&["10.244.1.0/24"]).pod(1, "10.0.0.11").assert_silent(CODE);
}

#[test]
fn an_address_of_the_underlay_may_be_meant() {
    assert_eq!(
        bridge(&["10.244.1.0/24"]).pod(1, "10.0.0.77").unjudged(CODE),
        "default/web-1 has 10.0.0.77, of the network of eth0: whether that is meant is not known"
    );
}

#[test]
fn a_family_that_the_node_has_no_cidr_of_is_not_judged() {
    bridge(&["10.244.1.0/24"]).pod(1, "fd00:9::5").assert_silent(CODE);
    let dual = bridge(&["10.244.1.0/24"])
        .pod(1, "fd00:9::5")
        .with(|node| node.host.expectation.pod_cidrs.push(net("fd00:1::/64")));
    assert_eq!(dual.judge(CODE).claims.len(), 1);
}

#[test]
fn behind_multus_only_what_the_default_network_gave_is_outside() {
    let node = bridge(&["10.244.1.0/24"]).pod(1, "192.168.9.5").with(|node| {
        node.host.cni.chosen.as_mut().unwrap().generated_by =
            Some("delegate of Multus in /etc/cni/net.d/00-multus.conf".into());
    });
    let asked = node.clone().result("storage", 1, "192.168.9.5/24", &[]);
    for node in [&node, &asked] {
        assert_eq!(
            node.unjudged(CODE),
            "default/web-1 has 192.168.9.5, perhaps of a network that it asked Multus for: whether that is meant is not known"
        );
    }
    let given = node.result("cbr0", 1, "192.168.9.5/24", &[]);
    assert_eq!(given.judge(CODE).claims.len(), 1);
}

#[test]
fn many_pods_are_counted_and_the_node_is_to_be_drained() {
    let mut node = bridge(&["10.244.1.0/24"]);
    for number in 1..=100 {
        node = node.pod(number, &format!("10.244.7.{number}"));
    }
    let claim = node.judge(CODE).claims.remove(0);
    assert_eq!(
        claim.summary,
        "100 running pods have addresses outside 10.244.1.0/24: default/web-1 10.244.7.1, default/web-2 10.244.7.2, \
         default/web-3 10.244.7.3 and 97 more"
    );
    assert_eq!((claim.affected.len(), claim.affected_total), (ROWS, 100));
    assert!(claim.remedy.starts_with("Replace them: kubectl drain node-a"));
}

#[test]
fn without_the_runtime_records_prove_nothing_and_that_is_said() {
    let records = |missing| {
        bridge(&["10.244.1.0/24"])
            .result("cbr0", 1, "10.244.7.5/24", &[])
            .result("cbr0", 2, "10.244.1.5/24", &[])
            .lease("cbr0", &id(3), "10.244.7.6")
            .with(|node| node.seen.sandboxes.value = Err(missing))
    };
    let absent = records(Missing::Absent("no socket".into()));
    assert_eq!(
        absent.unjudged(CODE),
        "default/web-1 in /var/lib/cni/results has 10.244.7.5, 1 more, outside 10.244.1.0/24: whether those pods still \
         run only the runtime could tell"
    );
    let refused = records(Missing::Unreadable("permission denied".into())).judge(CODE);
    assert_eq!((refused.claims.len(), refused.unjudged.len()), (0, 2));
    let nothing = bridge(&["10.244.1.0/24"]).with(|node| node.seen = view::Host::bare(at(9)));
    nothing.assert_silent(CODE);
    assert_eq!(
        bridge(&[])
            .with(|node| node.seen = view::Host::default())
            .judge(CODE)
            .claims
            .len(),
        0
    );
}

#[test]
fn a_pod_whose_address_is_not_known_is_not_taken_for_right() {
    let node = bridge(&["10.244.1.0/24"])
        .pod(1, "10.244.1.5")
        .last_pod(|pod| pod.addresses.clear());
    assert_eq!(
        node.unjudged(CODE),
        "/run/containerd/containerd.sock: 1 running sandboxes without their addresses"
    );
}

proptest! {
    /// A running pod is outside exactly when none of the Node's CIDRs of its family holds its address.
    #[test]
    fn outside_means_an_address_that_is_not_the_nodes(
        cidr in (any::<[u8; 2]>(), 8..=30u8),
        addresses in prop::collection::vec(any::<[u8; 2]>(), 1..4),
        ready in any::<bool>(),
    ) {
        let cidr = IpNet::new([10, 200, cidr.0[0], cidr.0[1]].into(), cidr.1).unwrap().trunc();
        let addresses: Vec<std::net::IpAddr> = addresses.iter().map(|[a, b]| [10, 200, *a, *b].into()).collect();
        let node = bridge(&["10.244.1.0/24"]).pod(1, "10.244.1.1").last_pod(|pod| {
            pod.addresses.clone_from(&addresses);
            pod.ready = ready;
        });
        let node = node.with(|node| node.host.expectation.pod_cidrs = vec![cidr]);
        let outside = ready && addresses.iter().any(|address| !cidr.contains(address));
        prop_assert_eq!(!node.judge(CODE).claims.is_empty(), outside);
    }
}
