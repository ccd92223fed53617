use std::sync::Arc;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::CniConfig;
use cidrift_proto::finding::{Evidence, Severity, Trigger};
use cidrift_proto::signature::Signature;

use super::*;
use crate::view::host::{FailureClass, Failures, Lease, RangeSet};
use crate::view::{Hop, Hops, Link, LinkAddress, LinkDetail, Observed, Route, RouteKind, Rule, RuleAction};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn link(index: u32, name: &str, kind: &str, address: &str) -> Link {
    Link {
        index,
        name: name.into(),
        kind: kind.into(),
        up: true,
        carrier: true,
        loopback: false,
        mtu: 1500,
        lladdr: None,
        master: None,
        peer_elsewhere: false,
        addresses: vec![LinkAddress {
            net: address.parse().unwrap(),
            unusable: false,
        }],
        detail: LinkDetail::Plain,
    }
}

fn route(prefix: &str, device: u32, gateway: Option<&str>) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        table: 254,
        metric: 0,
        tos: 0,
        protocol: 3,
        scope: 0,
        kind: RouteKind::Unicast,
        hops: Hops::One(Hop {
            device: Some(device),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        }),
    }
}

/// A host with an uplink, a bridge and a route to a peer.
fn kernel(with_peer: bool) -> Kernel {
    let mut kernel = Kernel::default();
    for link in [
        link(2, "eth0", "", "192.168.0.1/24"),
        link(3, "cni0", "bridge", "10.244.1.1/24"),
    ] {
        kernel.links.insert(link.index, link);
    }
    let mut routes = vec![route("192.168.0.0/24", 2, None), route("10.244.1.0/24", 3, None)];
    if with_peer {
        routes.push(route("10.244.2.0/24", 2, Some("192.168.0.2")));
    }
    for route in routes {
        let IpNet::V4(prefix) = route.prefix else {
            unreachable!()
        };
        let table = kernel.routes.v4.entry(254).or_default();
        table.insert(prefix, vec![route]);
    }
    kernel.rules.push(Rule {
        ipv6: false,
        priority: 32766,
        invert: false,
        source: None,
        destination: None,
        iif: None,
        oif: None,
        mark: None,
        tos: 0,
        ip_protocol: None,
        source_ports: None,
        destination_ports: None,
        uids: None,
        suppress_prefix_length: None,
        unmodelled: None,
        action: RuleAction::Table(254),
    });
    kernel
}

fn expectation(revision: u64, cidr: &str) -> Expectation {
    Expectation {
        revision,
        node_uid: Some("uid-1".into()),
        pod_cidrs: vec![cidr.parse().unwrap()],
        internal_ips: vec!["192.168.0.1".parse().unwrap()],
        interest: vec!["10.244.0.0/16".parse().unwrap()],
    }
}

fn cni() -> CniFacts {
    CniFacts {
        directory: "/etc/cni/net.d".into(),
        chosen: Some(CniConfig {
            path: "/etc/cni/net.d/10-bridge.conflist".into(),
            network: "pods".into(),
            cni_version: "1.0.0".into(),
            plugins: vec!["bridge".into()],
            ipam: Some("host-local".into()),
            ranges: vec!["10.244.1.0/24".parse().unwrap()],
            subnets: vec!["10.244.1.0/24".parse().unwrap()],
            bridge: Some("cni0".into()),
            generated_by: None,
            modified_at: None,
        }),
        ..CniFacts::default()
    }
}

fn wide(second: i64) -> Changes {
    Changes {
        wide: true,
        ..Changes::none(at(second))
    }
}

fn round(witness: &mut Witness, kernel: &Kernel, changes: &Changes) -> Option<Update> {
    let now = changes.observed_at;
    let diff = witness.resolve(kernel, changes, now);
    witness.tell(Seen { kernel, at: now }, diff, now, now)
}

fn prefixes(update: &Update) -> Vec<String> {
    update.upserts.iter().map(|entry| entry.prefix.to_string()).collect()
}

/// A witness that has seen the kernel and the expectation, and has told it.
fn witness() -> Witness {
    let mut witness = Witness::new("node-a", "6.18.44", at(0));
    witness.gaps(Vec::new(), false);
    witness.cni(&cni(), at(0), None);
    witness.expect(expectation(1, "10.244.1.0/24"), at(0));
    round(&mut witness, &kernel(true), &wide(1)).unwrap();
    witness
}

#[test]
fn without_an_expectation_facts_are_told_and_no_entries() {
    let mut witness = Witness::new("node-a", "6.18.44", at(0));
    witness.gaps(Vec::new(), false);
    witness.cni(&cni(), at(0), None);
    let update = round(&mut witness, &kernel(true), &wide(1)).unwrap();
    assert_eq!(update.expectation, 0);
    assert!(update.upserts.is_empty());
    let facts = update.facts.unwrap();
    assert_eq!(facts.links.len(), 2);
    assert!(
        facts.gaps.iter().any(|gap| gap.what.starts_with("HOST01")),
        "{:?}",
        facts.gaps
    );
}

#[test]
fn with_one_every_landing_of_interest_is_told() {
    let mut witness = Witness::new("node-a", "6.18.44", at(0));
    witness.gaps(Vec::new(), false);
    witness.host(Arc::new(Host::bare(at(0))));
    witness.cni(&cni(), at(0), None);
    witness.host(Arc::new(Host::bare(at(0))));
    witness.expect(expectation(4, "10.244.1.0/24"), at(0));
    let update = round(&mut witness, &kernel(true), &wide(1)).unwrap();
    assert_eq!(update.expectation, 4);
    assert_eq!(prefixes(&update), ["10.244.0.0/16", "10.244.1.0/24", "10.244.2.0/24"]);
    assert!(update.facts.unwrap().gaps.is_empty());
    assert_eq!(witness.whole().entries, update.upserts);
}

#[test]
fn failing_sandboxes_are_told() {
    let class = FailureClass {
        signature: Signature::AddressesExhausted,
        count: 9,
        first: at(0),
        last: at(1),
        pods: vec!["ns/a".into(), "ns/b".into()],
        text: "no IP addresses available in range set: 10.244.1.1-10.244.1.6".into(),
        component: "containerd".into(),
        addresses: vec![],
        plugin: None,
    };
    let failures = Failures {
        classes: vec![class],
        ..Failures::default()
    };
    let mut witness = witness();
    witness.host(Arc::new(Host {
        failures: Observed::seen(at(1), "/var/log/containerd.log", failures),
        ..Host::bare(at(0))
    }));
    round(&mut witness, &kernel(true), &wide(2));
    assert!(witness.whole().claims.iter().any(|claim| claim.code == Code::Sand01));
}

/// A host that has given out this many addresses of its range.
fn leased(second: i64, count: u8) -> Arc<Host> {
    let lease = |number: u8| Lease {
        network: "pods".into(),
        directory: "/var/lib/cni/networks/pods".into(),
        address: [10, 244, 1, number].into(),
        container: "0".repeat(64),
        given_at: Some(at(0)),
    };
    let range = RangeSet::whole("10.244.1.0/24".parse().unwrap()).unwrap();
    Arc::new(Host {
        ranges: Observed::seen(at(second), "/etc/cni/net.d/10-bridge.conflist", vec![range]),
        leases: Observed::seen(at(second), "/var/lib/cni/networks", (2..2 + count).map(lease).collect()),
        ..Host::bare(at(second))
    })
}

fn growth_told(witness: &Witness) -> Option<String> {
    let claims = witness.whole().claims;
    let low = claims.iter().find(|claim| claim.code == Code::Host05)?;
    let row = low
        .evidence
        .iter()
        .find(|row| row.text.contains(" grow") || row.text.contains(" grew"))?;
    Some(row.text.clone())
}

#[test]
fn how_leases_grew_changes_a_claim_every_ten_minutes_at_most() {
    let mut witness = witness();
    let mut told = Vec::new();
    for second in (0..=2 * 3600).step_by(10) {
        witness.host(leased(second, 240));
        let update = round(&mut witness, &kernel(true), &Changes::none(at(second)));
        if update.is_some_and(|update| update.claims.is_some()) {
            told.push((second / 60, growth_told(&witness)));
        }
    }
    let flat = |window: &str| Some(format!("10.244.1.1-10.244.1.254 did not grow in the last {window}"));
    assert_eq!(
        told,
        [
            (0, None),
            (10, flat("10 min")),
            (20, flat("20 min")),
            (30, flat("30 min")),
            (40, flat("40 min")),
            (50, flat("50 min")),
            (60, flat("hour")),
        ]
    );
}

#[test]
fn leases_are_counted_before_they_are_too_many() {
    let mut witness = witness();
    for minute in 0..30 {
        witness.host(leased(minute * 60, 200 + u8::try_from(minute).unwrap()));
        round(&mut witness, &kernel(true), &Changes::none(at(minute * 60)));
    }
    assert_eq!(
        growth_told(&witness).unwrap(),
        "10.244.1.1-10.244.1.254 grew by 20 leases in the last 20 min; at that pace it is full in about 30 min"
    );
}

#[test]
fn seeing_the_same_again_is_no_news() {
    let mut witness = witness();
    assert_eq!(round(&mut witness, &kernel(true), &wide(60)), None);
}

#[test]
fn a_new_revision_is_told_even_if_nothing_else_changes() {
    let mut witness = witness();
    witness.expect(expectation(2, "10.244.1.0/24"), at(2));
    let update = round(&mut witness, &kernel(true), &wide(2)).unwrap();
    assert_eq!((update.expectation, update.upserts.len(), update.facts), (2, 0, None));
}

#[test]
fn a_kernel_that_cannot_be_seen_is_told_as_a_gap_and_not_as_missing_routes() {
    let mut witness = witness();
    let gap = Gap {
        what: "routes".into(),
        why: "EPERM".into(),
    };
    witness.gaps(vec![gap.clone()], true);
    let update = round(&mut witness, &Kernel::default(), &wide(2)).unwrap();
    assert_eq!(update.expectation, 0, "unknown, whatever the entries say");
    assert!(update.facts.unwrap().gaps.contains(&gap));
    let whole = witness.whole();
    assert_eq!((whole.expectation, whole.entries.len()), (0, 0));

    witness.gaps(Vec::new(), false);
    let update = round(&mut witness, &kernel(true), &wide(3)).unwrap();
    assert_eq!((update.expectation, update.upserts.len()), (1, 3));
}

#[test]
fn a_loss_that_the_kernel_denies_is_opaque_until_its_route_changes() {
    let mut witness = witness();
    let lost: IpNet = "10.244.2.0/24".parse().unwrap();
    let kernel_without = kernel(false);
    let mut diff = witness.resolve(&kernel_without, &wide(2), at(2));
    assert_eq!(diff.removed, [lost]);
    diff.upserts.push(Arc::new(witness.deny(
        lost,
        "the kernel's lookup finds it".into(),
        at(2),
    )));
    diff.removed.clear();
    let seen = Seen {
        kernel: &kernel_without,
        at: at(2),
    };
    let update = witness.tell(seen, diff, at(2), at(2)).unwrap();
    assert!(matches!(update.upserts[0].landing, Landing::Opaque { .. }));
    assert!(witness.whole().entries.contains(&update.upserts[0]));

    let again = witness.resolve(&kernel_without, &wide(3), at(3));
    assert_eq!(again.removed, [lost], "put before the kernel once more");
    witness.deny(lost, "still".into(), at(3));

    let update = round(&mut witness, &kernel(true), &wide(4)).unwrap();
    assert_eq!(prefixes(&update), ["10.244.2.0/24"]);
    assert!(!matches!(update.upserts[0].landing, Landing::Opaque { .. }));
    assert_eq!(witness.whole().entries.len(), 3);
}

#[test]
fn a_node_with_another_cidr_makes_the_hosts_claims() {
    let mut witness = witness();
    witness.expect(expectation(2, "10.244.9.0/24"), at(5));
    let update = round(&mut witness, &kernel(true), &wide(5)).unwrap();
    let codes: Vec<Code> = update.claims.unwrap().iter().map(|claim| claim.code).collect();
    assert!(
        codes.contains(&Code::Host01) && codes.contains(&Code::Host02),
        "{codes:?}"
    );
    assert!(witness.whole().claims.iter().all(|claim| claim.nodes == ["node-a"]));
    assert_eq!(
        round(&mut witness, &kernel(true), &wide(6)),
        None,
        "claims are told once"
    );
}

#[test]
fn that_evidence_was_seen_once_more_does_not_make_a_claim_another() {
    let claim = |second| Claim {
        code: Code::Host01,
        subject: "node-a".into(),
        severity: Severity::Error,
        nodes: vec!["node-a".into()],
        summary: String::new(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: vec![Evidence {
            source: "kernel".into(),
            text: "it".into(),
            observed_at: Some(at(second)),
            stale: false,
        }],
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger: Trigger::Host,
    };
    assert!(!claims_differ(&[claim(1)], &[claim(2)]));
    assert!(claims_differ(&[claim(1)], &[]));
}
