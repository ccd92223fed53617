//! The flattened table: what it holds, and that it agrees with lookups.

use std::collections::BTreeMap;

use cidrift_proto::landing::Landing;
use ipnet::IpNet;
use jiff::Timestamp;

use super::fixture::{CNI0, add, add_rule, host, link, rule, rule_at};
use super::{Fib, Scope};
use crate::view::{Changes, Kernel, RuleAction};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn scope(interest: &[&str]) -> Scope {
    Scope {
        interest: interest.iter().map(|text| net(text)).collect(),
        internal_ips: vec!["192.168.1.1".parse().unwrap()],
        pod_cidrs: vec![net("10.244.1.0/24")],
        pod_device: None,
    }
}

fn changed(prefixes: &[&str], second: i64) -> Changes {
    Changes {
        prefixes: prefixes.iter().map(|text| net(text)).collect(),
        ..Changes::none(at(second))
    }
}

fn rows(fib: &Fib) -> BTreeMap<IpNet, String> {
    fib.entries()
        .map(|entry| (entry.prefix, entry.landing.to_string()))
        .collect()
}

#[test]
fn nothing_is_of_interest_until_a_scope_says_so() {
    let mut fib = Fib::new();
    assert!(fib.rebuild(&host(), at(1)).is_empty());
    assert!(fib.is_empty());
}

#[test]
fn what_nothing_covers_has_an_entry_that_says_no_route() {
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16", "10.244.2.0/24"]));
    let diff = fib.rebuild(&host(), at(1));
    assert_eq!(diff.upserts.len(), 3);
    assert_eq!(
        rows(&fib),
        BTreeMap::from([
            (net("10.244.0.0/16"), "no route".to_owned()),
            (net("10.244.1.0/24"), "on-link dev cni0".to_owned()),
            (net("10.244.1.1/32"), "local dev cni0".to_owned()),
        ])
    );
}

#[test]
fn a_default_route_shows_as_the_landing_of_the_interest() {
    let mut kernel = host();
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0");
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(1));
    let coverage = fib.covering(net("10.244.7.0/24"));
    let base = coverage.base.unwrap();
    assert_eq!(base.prefix, net("10.244.0.0/16"));
    assert_eq!(base.route.unwrap().prefix, net("0.0.0.0/0"));
    assert!(fib.covering(net("10.0.0.0/8")).base.is_none());
}

#[test]
fn a_change_is_told_once_and_dated() {
    let mut kernel = host();
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.update(&kernel, &Changes::none(at(1)), at(1));
    add(&mut kernel, "10.244.2.0/24 via 192.168.1.2 dev eth0");
    let diff = fib.update(&kernel, &changed(&["10.244.2.0/24"], 2), at(2));
    assert_eq!(diff.upserts.len(), 1);
    assert_eq!(diff.upserts[0].changed_at, at(2));
    assert!(fib.update(&kernel, &changed(&["10.244.2.0/24"], 3), at(3)).is_empty());
    assert!(fib.rebuild(&kernel, at(4)).is_empty());
    let base = fib.covering(net("10.244.2.0/24")).base.cloned();
    assert_eq!(base, Some(diff.upserts[0].as_ref().clone()));
    kernel
        .routes
        .v4
        .get_mut(&254)
        .unwrap()
        .remove(&"10.244.2.0/24".parse().unwrap());
    let diff = fib.update(&kernel, &changed(&["10.244.2.0/24"], 5), at(5));
    assert_eq!(diff.removed, [net("10.244.2.0/24")]);
    assert!(diff.upserts.is_empty());
}

#[test]
fn a_change_of_links_moves_every_landing_that_depends_on_them() {
    let mut kernel = host();
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(1));
    link(&mut kernel, "cni0").carrier = false;
    let changes = Changes {
        wide: true,
        ..Changes::none(at(2))
    };
    let diff = fib.update(&kernel, &changes, at(2));
    assert_eq!(diff.upserts.len(), 1);
    assert_eq!(diff.upserts[0].landing.to_string(), "on-link dev cni0 (no carrier)");
}

#[test]
fn a_narrower_scope_takes_entries_away() {
    let mut fib = Fib::new();
    fib.set_scope(Scope::everything());
    fib.rebuild(&host(), at(1));
    assert!(rows(&fib).contains_key(&net("::/0")));
    fib.set_scope(scope(&["10.244.1.0/24"]));
    let diff = fib.update(&host(), &Changes::none(at(2)), at(2));
    assert!(diff.removed.contains(&net("::/0")));
    assert_eq!(rows(&fib).len(), 2);
}

#[test]
fn a_rules_destination_splits_what_no_route_splits() {
    let mut kernel = host();
    let mut diverting = rule(false, 10, RuleAction::Blackhole);
    diverting.destination = Some(net("10.244.9.0/24"));
    add_rule(&mut kernel, diverting);
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(1));
    assert_eq!(rows(&fib)[&net("10.244.9.0/24")], "blackhole");
    assert_eq!(rows(&fib)[&net("10.244.0.0/16")], "no route");
}

#[test]
fn a_rule_for_one_pod_is_not_one_for_pods() {
    let mut kernel = host();
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.9 dev eth0 table 100");
    let mut egress = rule(false, 10, RuleAction::Table(100));
    egress.source = Some(net("10.244.1.7/32"));
    add_rule(&mut kernel, egress);
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(1));
    assert_eq!(rows(&fib)[&net("10.244.0.0/16")], "no route");
    fib.set_scope(Scope {
        pod_cidrs: Vec::new(),
        ..scope(&["10.244.0.0/16"])
    });
    fib.rebuild(&kernel, at(2));
    assert_eq!(
        rows(&fib)[&net("10.244.0.0/16")],
        "not in the FIB (rule 10 decides by from: not the same for every pod)"
    );
    rule_at(&mut kernel, 10).source = Some(net("10.244.0.0/16"));
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(3));
    assert_eq!(rows(&fib)[&net("10.244.0.0/16")], "via 192.168.1.9 dev eth0");
}

#[test]
fn a_rule_for_the_pods_device_counts_once_that_is_known() {
    let mut kernel = host();
    let mut input = rule(false, 10, RuleAction::Prohibit);
    input.iif = Some("cni0".to_owned());
    add_rule(&mut kernel, input);
    let mut fib = Fib::new();
    fib.set_scope(scope(&["10.244.0.0/16"]));
    fib.rebuild(&kernel, at(1));
    assert_eq!(rows(&fib)[&net("10.244.0.0/16")], "prohibit");
    kernel.links.get_mut(&CNI0).unwrap().addresses.clear();
    fib.rebuild(&kernel, at(2));
    assert!(matches!(
        fib.covering(net("10.244.0.0/16")).base.unwrap().landing,
        Landing::Opaque { .. }
    ));
}

#[test]
fn a_kernel_without_anything_gives_no_route_and_no_panic() {
    let mut fib = Fib::new();
    fib.set_scope(Scope::everything());
    fib.rebuild(&Kernel::default(), at(1));
    assert_eq!(rows(&fib).len(), 2);
    assert!(fib.entries().all(|entry| entry.landing == Landing::NoRoute));
}
