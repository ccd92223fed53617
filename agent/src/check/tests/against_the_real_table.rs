//! The rules and the effective forwarding table together.

use super::*;
use crate::resolve::{Fib, Scope};
use crate::view::{Hop, Hops, Route, RouteKind};

/// Both kinds of lookup agree on what a prefix's own route is.
#[test]
fn the_effective_table_answers_as_the_rules_expect() {
    let mut kernel = Host::flannel().kernel;
    let bridge = kernel.links.values().find(|link| link.name == "cni0").unwrap().index;
    let rule = |priority, table| crate::view::Rule {
        ipv6: false,
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
        action: crate::view::RuleAction::Table(table),
    };
    kernel.rules = vec![rule(32766, 254)];
    let route = |prefix: &str, device, gateway: Option<&str>| Route {
        prefix: net(prefix),
        table: 254,
        metric: 0,
        tos: 0,
        protocol: 2,
        scope: 253,
        kind: RouteKind::Unicast,
        hops: Hops::One(Hop {
            device: Some(device),
            gateway: gateway.map(|text| text.parse().unwrap()),
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        }),
    };
    let eth0 = kernel.links.values().find(|link| link.name == "eth0").unwrap().index;
    let main = kernel.routes.v4.entry(254).or_default();
    for route in [
        route("0.0.0.0/0", eth0, Some("10.0.0.1")),
        route("10.244.1.0/24", bridge, None),
        route("10.244.1.128/25", eth0, Some("10.0.0.2")),
    ] {
        let IpNet::V4(prefix) = route.prefix else {
            unreachable!()
        };
        main.insert(prefix, vec![route]);
    }
    let mut fib = Fib::new();
    fib.set_scope(Scope {
        interest: nets(&["10.244.1.0/24"]),
        internal_ips: vec!["10.0.0.11".parse().unwrap()],
        pod_cidrs: nets(&["10.244.1.0/24"]),
        pod_device: Some("cni0".into()),
    });
    fib.rebuild(&kernel, at(5));
    let coverage = fib.coverage(net("10.244.1.0/24")).unwrap();
    assert_eq!(coverage.base.unwrap().landing, local("cni0"));
    assert_eq!(coverage.specifics.len(), 1);
    assert_eq!(coverage.specifics[0].prefix, net("10.244.1.128/25"));
    assert_eq!(fib.coverage(net("10.9.0.0/24")), None);
}
