//! The flattened table against lookups, address by address, through random
//! changes of random hosts: what the table says, the lookup says; what the
//! diffs tell, the table holds; and following changes ends where evaluating anew does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cidrift_proto::landing::{Discard, ForwardingEntry};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::fixture::{CNI0, ETH0, FLANNEL, add_rule, hop, host, push, rule};
use super::{Diff, Fib, Flow, Input, Resolver, Scope};
use crate::view::{Changes, Hops, Kernel, Nexthop, Route, RouteKind, RuleAction};

const POD: &str = "10.244.1.200";
const POD6: &str = "fd01:1::200";

/// A small universe, so that prefixes nest and meet: 10.{0,1}.{0,1}.x and its like in IPv6.
fn prefix() -> impl Strategy<Value = IpNet> {
    (any::<bool>(), 0..8u32, select(vec![0u8, 8, 15, 16, 24, 25, 31, 32])).prop_map(|(ipv6, bits, length)| {
        let (a, b, c) = (bits >> 2 & 1, bits >> 1 & 1, (bits & 1) * 0x80);
        if ipv6 {
            let address = Ipv6Addr::from(0x0a00_0000_u128 << 96 | u128::from(a << 16 | b << 8 | c) << 96);
            IpNet::V6(Ipv6Net::new(address, length).unwrap().trunc())
        } else {
            let address = Ipv4Addr::from(0x0a00_0000 | a << 16 | b << 8 | c);
            IpNet::V4(Ipv4Net::new(address, length).unwrap().trunc())
        }
    })
}

fn table() -> impl Strategy<Value = u32> {
    select(vec![254, 254, 100, 101, 253, 255])
}

#[derive(Debug, Clone)]
enum Step {
    Add(IpNet, u32, u32, Way),
    Remove(Index),
    Rule(u32, Option<IpNet>, Option<IpNet>, RuleAction, bool, Option<u32>),
    RemoveRule(Index),
    Carrier(u32, bool),
    Up(u32, bool),
}

#[derive(Debug, Clone)]
enum Way {
    Drop(RouteKind),
    Via(u32, u8),
    OnLink(u32),
    Legs(u8, u8),
    Object(u32),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        2 => select(vec![
            RouteKind::Throw,
            RouteKind::Discard(Discard::Blackhole),
            RouteKind::Discard(Discard::Prohibit),
            RouteKind::Host,
        ])
        .prop_map(Way::Drop),
        4 => (select(vec![ETH0, CNI0, FLANNEL, 99]), 1..5u8).prop_map(|(device, gateway)| Way::Via(device, gateway)),
        2 => select(vec![ETH0, CNI0]).prop_map(Way::OnLink),
        1 => (1..4u8, 1..4u8).prop_map(|(a, b)| Way::Legs(a, b)),
        1 => (1..5u32).prop_map(Way::Object),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let source = select(vec![
        "10.244.1.0/24",
        "10.244.0.0/16",
        "10.244.2.0/24",
        "fd01::/16",
        "0.0.0.0/0",
    ]);
    let action = prop_oneof![
        4 => table().prop_map(RuleAction::Table),
        1 => (1..20u32).prop_map(RuleAction::Goto),
        1 => Just(RuleAction::Unreachable),
        1 => Just(RuleAction::Nop),
    ];
    prop_oneof![
        30 => (prefix(), table(), 0..3u32, way()).prop_map(|(at, table, metric, way)| Step::Add(at, table, metric, way)),
        10 => any::<Index>().prop_map(Step::Remove),
        3 => (
            1..20u32,
            proptest::option::of(prefix()),
            proptest::option::of(source.prop_map(|net| net.parse().unwrap())),
            action,
            proptest::bool::weighted(0.2),
            proptest::option::weighted(0.2, 0..33u32),
        )
            .prop_map(|(priority, to, from, action, invert, suppress)| {
                Step::Rule(priority, to, from, action, invert, suppress)
            }),
        1 => any::<Index>().prop_map(Step::RemoveRule),
        1 => (select(vec![ETH0, CNI0, FLANNEL]), any::<bool>()).prop_map(|(link, on)| Step::Carrier(link, on)),
        1 => (select(vec![ETH0, CNI0, FLANNEL]), any::<bool>()).prop_map(|(link, on)| Step::Up(link, on)),
    ]
}

fn start() -> Kernel {
    let mut kernel = host();
    for (id, device) in [(1, ETH0), (2, CNI0)] {
        let mut hop = hop(Some(device));
        hop.gateway = Some("192.168.1.77".parse().unwrap());
        kernel.nexthops.insert(id, Nexthop::Hop(hop));
    }
    kernel.nexthops.insert(3, Nexthop::Group(vec![(1, 1), (2, 3)]));
    kernel.sysctls.ipv4_ignore_linkdown_all = true;
    kernel.sysctls.ipv6_ignore_linkdown.push("eth0".to_owned());
    kernel
}

fn gateway(ipv6: bool, last: u8) -> IpAddr {
    let text = if ipv6 {
        format!("fd00::{last}")
    } else {
        format!("192.168.1.{last}")
    };
    text.parse().unwrap()
}

fn hops(ipv6: bool, way: &Way) -> Hops {
    let via = |device, last| {
        let mut hop = hop(Some(device));
        hop.gateway = Some(gateway(ipv6, last));
        hop
    };
    match *way {
        Way::Drop(RouteKind::Host) => Hops::One(hop(Some(CNI0))),
        Way::Drop(_) => Hops::None,
        Way::Via(device, last) => Hops::One(via(device, last)),
        Way::OnLink(device) => Hops::One(hop(Some(device))),
        Way::Legs(a, b) => Hops::Many(vec![via(ETH0, a), via(CNI0, b)]),
        Way::Object(id) => Hops::Object(id),
    }
}

/// Applies a step and tells what an observer would tell of it.
fn apply(kernel: &mut Kernel, step: &Step, at: Timestamp) -> Changes {
    let mut changes = Changes::none(at);
    match step {
        Step::Add(prefix, table, metric, way) => {
            let kind = match way {
                Way::Drop(kind) => *kind,
                _ => RouteKind::Unicast,
            };
            let ipv6 = matches!(prefix, IpNet::V6(_));
            let route = Route {
                prefix: *prefix,
                table: *table,
                metric: *metric,
                tos: 0,
                protocol: 4,
                scope: 0,
                kind,
                hops: hops(ipv6, way),
            };
            push(kernel, route);
            changes.prefixes.insert(*prefix);
        }
        Step::Remove(index) => {
            let all: Vec<(u32, IpNet)> = all_routes(kernel);
            if !all.is_empty() {
                let (table, prefix) = all[index.index(all.len())];
                match prefix {
                    IpNet::V4(net) => drop(kernel.routes.v4.get_mut(&table).unwrap().remove(&net)),
                    IpNet::V6(net) => drop(kernel.routes.v6.get_mut(&table).unwrap().remove(&net)),
                }
                changes.prefixes.insert(prefix);
            }
        }
        Step::Rule(priority, to, from, action, invert, suppress) => {
            for ipv6 in [false, true] {
                let mut rule = rule(ipv6, *priority, *action);
                rule.destination = *to;
                rule.source = *from;
                rule.invert = *invert;
                rule.suppress_prefix_length = *suppress;
                let family = |net: &Option<IpNet>| net.is_none_or(|net| matches!(net, IpNet::V6(_)) == ipv6);
                if family(to) && family(from) {
                    add_rule(kernel, rule);
                }
            }
            changes.wide = true;
        }
        Step::RemoveRule(index) => {
            if !kernel.rules.is_empty() {
                kernel.rules.remove(index.index(kernel.rules.len()));
            }
            changes.wide = true;
        }
        Step::Carrier(link, on) => {
            kernel.links.get_mut(link).unwrap().carrier = *on;
            changes.wide = true;
        }
        Step::Up(link, on) => {
            kernel.links.get_mut(link).unwrap().up = *on;
            changes.wide = true;
        }
    }
    changes
}

fn all_routes(kernel: &Kernel) -> Vec<(u32, IpNet)> {
    let mut all = Vec::new();
    for (table, map) in &kernel.routes.v4 {
        all.extend(map.keys().map(|net| (*table, IpNet::V4(net))));
    }
    for (table, map) in &kernel.routes.v6 {
        all.extend(map.keys().map(|net| (*table, IpNet::V6(net))));
    }
    all.sort();
    all
}

/// Both ends of the prefix and their neighbours inside it.
fn probes(prefix: IpNet) -> Vec<IpAddr> {
    let mut found = vec![prefix.network(), prefix.broadcast()];
    match prefix {
        IpNet::V4(net) => {
            let first = u32::from(net.network());
            found
                .extend((0..8).map(|bits| IpAddr::V4((first | (bits & 1) | (bits & 2) << 6 | (bits & 4) << 6).into())));
        }
        IpNet::V6(net) => {
            let first = u128::from(net.network());
            found.extend((0..4u128).map(|bits| IpAddr::V6((first | (bits & 1) | (bits & 2) << 102).into())));
        }
    }
    found.retain(|address| prefix.contains(address));
    found
}

fn scope(interest: &[IpNet]) -> Scope {
    Scope {
        interest: interest.to_vec(),
        internal_ips: Vec::new(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd01:1::/64".parse().unwrap()],
        pod_device: Some("cni0".to_owned()),
    }
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
}

fn follow(mirror: &mut BTreeMap<IpNet, ForwardingEntry>, diff: Diff) {
    for prefix in diff.removed {
        assert!(mirror.remove(&prefix).is_some(), "{prefix} removed, but was not there");
    }
    for entry in diff.upserts {
        let before = mirror.insert(entry.prefix, entry.as_ref().clone());
        assert!(
            before.is_none_or(|before| before.landing != entry.landing || before.route != entry.route),
            "{} told again without a change",
            entry.prefix
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_table_says_for_every_address_what_a_lookup_says(
        bursts in vec(vec(step(), 1..5), 1..16),
        wide_open in any::<bool>(),
        mut interest in vec(prefix(), 1..4),
    ) {
        if wide_open {
            interest = Scope::everything().interest;
        }
        let mut kernel = start();
        let mut fib = Fib::new();
        fib.set_scope(scope(&interest));
        let mut mirror = BTreeMap::new();
        follow(&mut mirror, fib.rebuild(&kernel, at(0)));
        for (number, burst) in bursts.iter().enumerate() {
            let mut changes = Changes::none(at(number));
            for step in burst {
                let more = apply(&mut kernel, step, at(number));
                changes.prefixes.extend(more.prefixes);
                changes.wide |= more.wide;
            }
            follow(&mut mirror, fib.update(&kernel, &changes, at(number)));
        }
        prop_assert_eq!(
            fib.entries().cloned().collect::<Vec<_>>(),
            mirror.values().cloned().collect::<Vec<_>>()
        );

        let mut anew = Fib::new();
        anew.set_scope(scope(&interest));
        anew.rebuild(&kernel, at(0));
        let undated = |fib: &Fib| fib.entries().map(|e| (e.prefix, e.landing.clone(), e.route)).collect::<Vec<_>>();
        prop_assert_eq!(undated(&fib), undated(&anew));

        let resolver = Resolver::new(&kernel, &[]);
        let universe = all_routes(&kernel).into_iter().map(|(_, prefix)| prefix).chain(interest.iter().copied());
        for address in universe.flat_map(probes) {
            let host = IpNet::from(address);
            if !interest.iter().any(|wide| wide.contains(&address)) || fib.covering(host).base.is_none() {
                continue;
            }
            let mut flow = Flow::to(address);
            flow.source = Some(if address.is_ipv4() { POD } else { POD6 }.parse().unwrap());
            flow.input = Input::Device(CNI0);
            let decision = resolver.lookup(&flow);
            let entry = fib.covering(host).base.unwrap();
            prop_assert_eq!(&entry.landing, &decision.landing, "{} by entry {}", address, entry.prefix);
            prop_assert_eq!(entry.route, decision.route, "{} by entry {}", address, entry.prefix);
        }
        for prefix in &interest {
            prop_assert!(fib.covering(*prefix).base.is_some(), "{} is of interest and has no entry", prefix);
        }
    }
}
