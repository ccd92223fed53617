//! Hosts for tests, written as iproute2 would show them.

use std::net::IpAddr;

use cidrift_proto::facts::VxlanFact;
use cidrift_proto::landing::{Discard, MacAddress};
use ipnet::IpNet;

use crate::view::{
    FdbEntry, Hop, Hops, Kernel, Link, LinkAddress, LinkDetail, Neighbour, Route, RouteKind, Rule, RuleAction,
};

pub(crate) const ETH0: u32 = 2;
pub(crate) const CNI0: u32 = 3;
pub(crate) const FLANNEL: u32 = 4;

/// A flannel host: eth0 (192.168.1.1), cni0 (10.244.1.1), flannel.1, the kernel's first rules and its own routes.
pub(crate) fn host() -> Kernel {
    let mut kernel = Kernel::default();
    add_link(&mut kernel, 1, "lo", "", &["127.0.0.1/8", "::1/128"]);
    add_link(&mut kernel, ETH0, "eth0", "", &["192.168.1.1/24", "fd00::1/64"]);
    add_link(&mut kernel, CNI0, "cni0", "bridge", &["10.244.1.1/24", "fd01:1::1/64"]);
    add_link(&mut kernel, FLANNEL, "flannel.1", "vxlan", &["10.244.1.0/32"]);
    for ipv6 in [false, true] {
        for (priority, table) in [(0, 255), (32766, 254)] {
            kernel.rules.push(rule(ipv6, priority, RuleAction::Table(table)));
        }
    }
    kernel.rules.push(rule(false, 32767, RuleAction::Table(253)));
    for text in [
        "local 10.244.1.1/32 dev cni0 table 255",
        "local 192.168.1.1/32 dev eth0 table 255",
        "192.168.1.0/24 dev eth0",
        "10.244.1.0/24 dev cni0",
        "fd00::/64 dev eth0",
        "fd01:1::/64 dev cni0",
    ] {
        add(&mut kernel, text);
    }
    kernel
}

pub(crate) fn add_link(kernel: &mut Kernel, index: u32, name: &str, kind: &str, addresses: &[&str]) {
    let detail = match kind {
        "vxlan" => LinkDetail::Vxlan {
            fact: VxlanFact {
                vni: 1,
                port: 8472,
                learning: false,
                local: None,
            },
            remote: None,
            external: false,
        },
        "ipip" | "sit" => LinkDetail::Ipip { remote: None },
        _ => LinkDetail::Plain,
    };
    let link = Link {
        index,
        name: name.to_owned(),
        kind: kind.to_owned(),
        up: true,
        carrier: true,
        loopback: name == "lo",
        mtu: 1500,
        lladdr: None,
        master: None,
        peer_elsewhere: false,
        addresses: addresses
            .iter()
            .map(|net| LinkAddress {
                net: net.parse().unwrap(),
                unusable: false,
            })
            .collect(),
        detail,
    };
    kernel.links.insert(index, link);
}

pub(crate) fn link<'k>(kernel: &'k mut Kernel, name: &str) -> &'k mut Link {
    kernel.links.values_mut().find(|link| link.name == name).unwrap()
}

pub(crate) fn rule(ipv6: bool, priority: u32, action: RuleAction) -> Rule {
    Rule {
        ipv6,
        priority,
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
        action,
    }
}

/// Adds a rule and keeps the kernel's order.
pub(crate) fn add_rule(kernel: &mut Kernel, rule: Rule) {
    kernel.rules.push(rule);
    kernel.rules.sort_by_key(|rule| rule.priority);
}

/// The IPv4 rule with that priority.
pub(crate) fn rule_at(kernel: &mut Kernel, priority: u32) -> &mut Rule {
    let mut rules = kernel.rules.iter_mut();
    rules.find(|rule| !rule.ipv6 && rule.priority == priority).unwrap()
}

/// Adds what `ip route add` would: `[TYPE] PREFIX [via G] [dev D] [nhid N]
/// [table T] [metric M] [tos T] [linkdown] [dead] [nexthop via G dev D weight W]…`.
pub(crate) fn add(kernel: &mut Kernel, text: &str) {
    let route = route(kernel, text);
    push(kernel, route);
}

pub(crate) fn push(kernel: &mut Kernel, route: Route) {
    let routes = match route.prefix {
        IpNet::V4(net) => kernel.routes.v4.entry(route.table).or_default().entry(net).or_default(),
        IpNet::V6(net) => kernel.routes.v6.entry(route.table).or_default().entry(net).or_default(),
    };
    routes.push(route);
    routes.sort_by_key(|route| (std::cmp::Reverse(route.tos), route.metric));
}

pub(crate) fn route(kernel: &Kernel, text: &str) -> Route {
    let mut words = text.split_whitespace().peekable();
    let kind = match *words.peek().unwrap() {
        "local" | "broadcast" => RouteKind::Host,
        "blackhole" => RouteKind::Discard(Discard::Blackhole),
        "unreachable" => RouteKind::Discard(Discard::Unreachable),
        "prohibit" => RouteKind::Discard(Discard::Prohibit),
        "throw" => RouteKind::Throw,
        _ => RouteKind::Unicast,
    };
    if kind != RouteKind::Unicast {
        words.next();
    }
    let prefix: IpNet = words.next().unwrap().parse().unwrap();
    let mut route = Route {
        prefix,
        table: 254,
        metric: 0,
        tos: 0,
        protocol: 3,
        scope: 0,
        kind,
        hops: Hops::None,
    };
    let mut hops: Vec<Hop> = Vec::new();
    let mut several = false;
    while let Some(word) = words.next() {
        if word == "nexthop" {
            several = true;
            hops.push(hop(None));
            continue;
        }
        if hops.is_empty() && matches!(word, "via" | "dev") {
            hops.push(hop(None));
        }
        match word {
            "dead" => hops.last_mut().unwrap().dead = true,
            "linkdown" => hops.last_mut().unwrap().linkdown = true,
            "onlink" => hops.last_mut().unwrap().onlink = true,
            _ => {
                let value = words.next().unwrap();
                match word {
                    "via" => hops.last_mut().unwrap().gateway = Some(value.parse().unwrap()),
                    "dev" => {
                        let link = kernel.links.values().find(|link| link.name == value);
                        hops.last_mut().unwrap().device = Some(link.map_or(99, |link| link.index));
                    }
                    "weight" => hops.last_mut().unwrap().weight = value.parse().unwrap(),
                    "encap" => hops.last_mut().unwrap().encap = Some(value.to_owned()),
                    "nhid" => route.hops = Hops::Object(value.parse().unwrap()),
                    "table" => route.table = value.parse().unwrap(),
                    "metric" => route.metric = value.parse().unwrap(),
                    "tos" => route.tos = value.parse().unwrap(),
                    _ => panic!("{word}?"),
                }
            }
        }
    }
    match hops.len() {
        0 => {}
        1 if !several => route.hops = Hops::One(hops.remove(0)),
        _ => route.hops = Hops::Many(hops),
    }
    route
}

pub(crate) fn hop(device: Option<u32>) -> Hop {
    Hop {
        device,
        gateway: None,
        weight: 1,
        dead: false,
        linkdown: false,
        onlink: false,
        encap: None,
    }
}

pub(crate) fn add_neighbour(kernel: &mut Kernel, device: u32, address: &str, lladdr: &str) {
    let neighbour = Neighbour {
        lladdr: Some(lladdr.parse().unwrap()),
        permanent: true,
        failed: false,
    };
    kernel.neighbours.insert((device, address.parse().unwrap()), neighbour);
}

pub(crate) fn add_fdb(kernel: &mut Kernel, device: u32, lladdr: &str, destination: &str) {
    let lladdr: MacAddress = lladdr.parse().unwrap();
    let destination: IpAddr = destination.parse().unwrap();
    kernel.fdb.entry((device, lladdr)).or_default().push(FdbEntry {
        destination: Some(destination),
        nexthop: None,
        permanent: true,
    });
}
