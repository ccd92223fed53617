//! Lookups and landings on hosts of every kind.

use cidrift_proto::landing::{Discard, Landing};

use super::fixture::{
    CNI0, ETH0, FLANNEL, add, add_fdb, add_link, add_neighbour, add_rule, hop, host, link, rule, rule_at,
};
use super::{Flow, Input, Resolver, lookup};
use crate::view::{Kernel, LinkDetail, Nexthop, RuleAction};

fn land(kernel: &Kernel, destination: &str) -> Landing {
    lookup(kernel, &Flow::to(destination.parse().unwrap())).landing
}

/// As people read it.
fn text(kernel: &Kernel, destination: &str) -> String {
    let internal = ["192.168.1.1".parse().unwrap()];
    let resolver = Resolver::new(kernel, &internal);
    resolver
        .lookup(&Flow::to(destination.parse().unwrap()))
        .landing
        .to_string()
}

fn flannel() -> Kernel {
    let mut kernel = host();
    add(&mut kernel, "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
    kernel
}

#[test]
fn a_flannel_route_lands_on_the_fdb_entrys_destination() {
    let mut kernel = flannel();
    add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
    add_fdb(&mut kernel, FLANNEL, "02:00:00:00:00:02", "192.168.1.2");
    assert_eq!(
        text(&kernel, "10.244.2.9"),
        "via 10.244.2.0 dev flannel.1, lladdr 02:00:00:00:00:02, vni 1 dst 192.168.1.2"
    );
}

#[test]
fn a_vxlan_gateway_without_neighbour_or_fdb_entry_is_unresolved() {
    let mut kernel = flannel();
    assert_eq!(
        text(&kernel, "10.244.2.9"),
        "via 10.244.2.0 dev flannel.1: no neighbour entry, and nobody to ask"
    );
    add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
    assert_eq!(
        text(&kernel, "10.244.2.9"),
        "via 10.244.2.0 dev flannel.1: no FDB entry for 02:00:00:00:00:02"
    );
}

#[test]
fn a_vxlan_device_with_one_default_destination_sends_unknown_stations_there() {
    let mut kernel = flannel();
    add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
    add_fdb(&mut kernel, FLANNEL, "00:00:00:00:00:00", "192.168.1.7");
    assert!(text(&kernel, "10.244.2.9").ends_with("dst 192.168.1.7"));
    add_fdb(&mut kernel, FLANNEL, "00:00:00:00:00:00", "192.168.1.8");
    assert!(matches!(land(&kernel, "10.244.2.9"), Landing::Opaque { .. }));
}

#[test]
fn a_learning_vxlan_device_is_opaque_until_it_has_learned() {
    let mut kernel = flannel();
    if let LinkDetail::Vxlan { fact, .. } = &mut link(&mut kernel, "flannel.1").detail {
        fact.learning = true;
    }
    assert!(matches!(land(&kernel, "10.244.2.9"), Landing::Opaque { .. }));
    add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
    assert!(matches!(land(&kernel, "10.244.2.9"), Landing::Opaque { .. }));
}

#[test]
fn an_fdb_nexthop_group_of_one_is_its_member() {
    let mut kernel = flannel();
    add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
    let lladdr = "02:00:00:00:00:02".parse().unwrap();
    kernel.fdb.insert(
        (FLANNEL, lladdr),
        vec![crate::view::FdbEntry {
            destination: None,
            nexthop: Some(10),
            permanent: true,
        }],
    );
    assert!(
        matches!(land(&kernel, "10.244.2.9"), Landing::Opaque { .. }),
        "not in the view"
    );
    kernel.nexthops.insert(10, Nexthop::Group(vec![(1, 1)]));
    kernel.nexthops.insert(1, Nexthop::Fdb("192.168.1.3".parse().unwrap()));
    assert!(text(&kernel, "10.244.2.9").ends_with("dst 192.168.1.3"));
}

#[test]
fn on_link_is_local_behind_a_bridge_and_underlay_out_of_the_uplink() {
    let mut kernel = host();
    assert_eq!(text(&kernel, "10.244.1.9"), "on-link dev cni0");
    assert_eq!(text(&kernel, "192.168.1.9"), "on-link dev eth0 (underlay)");
    assert_eq!(text(&kernel, "10.244.1.1"), "local dev cni0");
    link(&mut kernel, "cni0").carrier = false;
    assert_eq!(text(&kernel, "10.244.1.9"), "on-link dev cni0 (no carrier)");
    link(&mut kernel, "eth0").carrier = false;
    assert_eq!(text(&kernel, "192.168.1.9"), "dev eth0 is dead: no carrier");
}

#[test]
fn a_veth_with_the_internal_ip_is_an_uplink() {
    let mut kernel = host();
    link(&mut kernel, "eth0").kind = "veth".to_owned();
    assert_eq!(text(&kernel, "192.168.1.9"), "on-link dev eth0 (underlay)");
    assert_eq!(land(&kernel, "192.168.1.9").to_string(), "on-link dev eth0");
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0");
    assert_eq!(
        land(&kernel, "192.168.1.9").to_string(),
        "on-link dev eth0 (underlay)",
        "the default route's device where InternalIPs are not known"
    );
}

#[test]
fn a_gateway_lands_on_its_address_unless_nobody_answers_for_it() {
    let mut kernel = host();
    add(&mut kernel, "10.244.3.0/24 via 192.168.1.3 dev eth0");
    assert_eq!(text(&kernel, "10.244.3.9"), "via 192.168.1.3 dev eth0");
    add_neighbour(&mut kernel, ETH0, "192.168.1.3", "02:00:00:00:00:03");
    assert_eq!(text(&kernel, "10.244.3.9"), "via 192.168.1.3 dev eth0");
    for neighbour in kernel.neighbours.values_mut() {
        neighbour.failed = true;
    }
    assert!(matches!(
        land(&kernel, "10.244.3.9"),
        Landing::UnresolvedNeighbour { .. }
    ));
}

#[test]
fn what_is_not_in_the_fib_is_opaque() {
    let mut kernel = host();
    add_link(&mut kernel, 10, "cilium_host", "veth", &["10.0.1.88/32"]);
    add_link(&mut kernel, 11, "wg0", "wireguard", &[]);
    add_link(&mut kernel, 12, "ovn-k8s-mp0", "openvswitch", &[]);
    add_link(&mut kernel, 13, "genev0", "geneve", &[]);
    add_link(&mut kernel, 14, "cilium_vxlan", "vxlan", &[]);
    add_link(&mut kernel, 15, "thing0", "frobnicator", &[]);
    if let LinkDetail::Vxlan { external, .. } = &mut link(&mut kernel, "cilium_vxlan").detail {
        *external = true;
    }
    for (at, route) in [
        "via 10.0.1.88 dev cilium_host",
        "dev wg0",
        "via 10.128.0.1 dev ovn-k8s-mp0",
        "dev genev0",
        "via 10.9.9.9 dev cilium_vxlan",
        "dev thing0",
        "via 192.168.1.9 dev eth0 encap mpls",
        "dev lo",
        "nhid 77",
    ]
    .into_iter()
    .enumerate()
    {
        add(&mut kernel, &format!("10.20.{at}.0/24 {route}"));
        let landing = land(&kernel, &format!("10.20.{at}.1"));
        assert!(matches!(landing, Landing::Opaque { .. }), "{route}: {landing:?}");
    }
}

#[test]
fn an_ipip_route_lands_on_its_gateway_or_the_devices_remote() {
    let mut kernel = host();
    add_link(&mut kernel, 10, "tunl0", "ipip", &[]);
    add(&mut kernel, "10.65.2.0/26 via 192.168.1.2 dev tunl0 onlink");
    add(&mut kernel, "10.65.3.0/26 dev tunl0");
    assert_eq!(text(&kernel, "10.65.2.1"), "via 192.168.1.2 dev tunl0 (ipip)");
    assert!(matches!(land(&kernel, "10.65.3.1"), Landing::Opaque { .. }));
    link(&mut kernel, "tunl0").detail = LinkDetail::Ipip {
        remote: Some("192.168.1.3".parse().unwrap()),
    };
    assert_eq!(text(&kernel, "10.65.3.1"), "via 192.168.1.3 dev tunl0 (ipip)");
}

#[test]
fn a_link_local_gateway_is_the_node_that_its_station_is_known_as() {
    let mut kernel = host();
    add(&mut kernel, "fd01:2::/64 via fe80::2 dev eth0");
    add(&mut kernel, "::/0 via fe80::2 dev eth0");
    assert!(matches!(land(&kernel, "fd01:2::9"), Landing::Opaque { .. }));
    assert_eq!(text(&kernel, "2001:db8::1"), "via fe80::2 dev eth0");
    add_neighbour(&mut kernel, ETH0, "fe80::2", "02:00:00:00:00:02");
    add_neighbour(&mut kernel, ETH0, "fd00::2", "02:00:00:00:00:02");
    add_neighbour(&mut kernel, CNI0, "fd00::3", "02:00:00:00:00:02");
    assert_eq!(text(&kernel, "fd01:2::9"), "via fd00::2 dev eth0");
}

#[test]
fn a_gateway_of_the_hosts_own_is_no_gateway_on_an_uplink_and_opaque_elsewhere() {
    let mut kernel = host();
    add(&mut kernel, "10.244.2.0/24 via 192.168.1.1 dev eth0");
    add(&mut kernel, "10.244.3.0/24 via 192.168.1.1 dev cni0");
    assert_eq!(text(&kernel, "10.244.2.9"), "on-link dev eth0 (underlay)");
    assert!(text(&kernel, "10.244.3.9").contains("an address of this host"));
}

#[test]
fn routes_that_drop_land_as_their_type_and_throw_goes_on() {
    let mut kernel = host();
    add(&mut kernel, "blackhole 10.1.0.0/16");
    add(&mut kernel, "unreachable 10.2.0.0/16");
    add(&mut kernel, "prohibit 10.3.0.0/16");
    add(&mut kernel, "throw 10.4.0.0/16");
    let discard = |how| Landing::Discard { how };
    assert_eq!(land(&kernel, "10.1.0.1"), discard(Discard::Blackhole));
    assert_eq!(land(&kernel, "10.2.0.1"), discard(Discard::Unreachable));
    assert_eq!(land(&kernel, "10.3.0.1"), discard(Discard::Prohibit));
    assert_eq!(land(&kernel, "10.4.0.1"), Landing::NoRoute);
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0 table 253");
    assert_eq!(text(&kernel, "10.4.0.1"), "via 192.168.1.254 dev eth0");
}

#[test]
fn live_legs_are_told_and_a_single_one_is_no_multipath() {
    let mut kernel = host();
    add(
        &mut kernel,
        "10.5.0.0/16 nexthop via 192.168.1.2 dev eth0 weight 1 nexthop via 192.168.1.3 dev eth0 weight 2",
    );
    assert_eq!(
        text(&kernel, "10.5.0.1"),
        "nexthop via 192.168.1.2 dev eth0 weight 1; nexthop via 192.168.1.3 dev eth0 weight 2"
    );
    add(
        &mut kernel,
        "10.6.0.0/16 nexthop via 192.168.1.2 dev eth0 dead nexthop via 192.168.1.3 dev eth0",
    );
    assert_eq!(text(&kernel, "10.6.0.1"), "via 192.168.1.3 dev eth0");
}

#[test]
fn a_group_passes_over_a_member_whose_neighbour_failed() {
    let mut kernel = host();
    for (id, gateway) in [(1, "192.168.1.2"), (2, "192.168.1.3")] {
        let mut hop = hop(Some(ETH0));
        hop.gateway = Some(gateway.parse().unwrap());
        kernel.nexthops.insert(id, Nexthop::Hop(hop));
    }
    kernel.nexthops.insert(3, Nexthop::Group(vec![(1, 1), (2, 1)]));
    kernel.nexthops.insert(4, Nexthop::Blackhole);
    add(&mut kernel, "10.7.0.0/16 nhid 3");
    add(&mut kernel, "10.8.0.0/16 nhid 4");
    assert!(matches!(land(&kernel, "10.7.0.1"), Landing::Multipath { .. }));
    add_neighbour(&mut kernel, ETH0, "192.168.1.2", "02:00:00:00:00:02");
    for neighbour in kernel.neighbours.values_mut() {
        neighbour.failed = true;
    }
    assert_eq!(text(&kernel, "10.7.0.1"), "via 192.168.1.3 dev eth0");
    assert_eq!(
        land(&kernel, "10.8.0.1"),
        Landing::Discard {
            how: Discard::Blackhole
        }
    );
}

#[test]
fn a_route_without_carrier_is_passed_over_only_where_the_sysctl_says_so() {
    let mut kernel = host();
    add(&mut kernel, "10.9.0.0/16 via 10.244.1.9 dev cni0");
    add(&mut kernel, "10.0.0.0/8 via 192.168.1.254 dev eth0");
    link(&mut kernel, "cni0").carrier = false;
    assert_eq!(text(&kernel, "10.9.0.1"), "dev cni0 is dead: no carrier");
    kernel.sysctls.ipv4_ignore_linkdown.push("cni0".to_owned());
    assert_eq!(text(&kernel, "10.9.0.1"), "via 192.168.1.254 dev eth0");
    assert_eq!(
        text(&kernel, "fd01:1::9"),
        "on-link dev cni0 (no carrier)",
        "IPv6 has its own sysctl"
    );
}

#[test]
fn a_dead_route_that_nothing_replaces_names_its_device() {
    let mut kernel = host();
    add(&mut kernel, "10.9.0.0/16 via 10.244.1.9 dev cni0");
    link(&mut kernel, "cni0").up = false;
    assert_eq!(text(&kernel, "10.9.0.1"), "dev cni0 is dead: down");
    assert!(lookup(&kernel, &Flow::to("10.9.0.1".parse().unwrap())).hops.is_empty());
    kernel.links.remove(&CNI0);
    assert_eq!(text(&kernel, "10.9.0.1"), "dev if3 is dead: gone");
}

#[test]
fn rules_are_asked_in_order_and_goto_jumps_forward() {
    let mut kernel = host();
    add(&mut kernel, "10.0.0.0/8 via 192.168.1.5 dev eth0 table 100");
    add(&mut kernel, "10.0.0.0/8 via 192.168.1.6 dev eth0 table 101");
    add_rule(&mut kernel, rule(false, 10, RuleAction::Goto(30)));
    add_rule(&mut kernel, rule(false, 20, RuleAction::Table(100)));
    add_rule(&mut kernel, rule(false, 30, RuleAction::Table(101)));
    assert_eq!(text(&kernel, "10.1.0.1"), "via 192.168.1.6 dev eth0");
    kernel.rules.retain(|rule| rule.priority != 30);
    assert_eq!(
        text(&kernel, "10.1.0.1"),
        "via 192.168.1.5 dev eth0",
        "no target, no jump"
    );
}

#[test]
fn selectors_count_as_the_kernel_counts_them() {
    let mut kernel = host();
    add(&mut kernel, "10.0.0.0/8 via 192.168.1.5 dev eth0 table 100");
    let mut selecting = rule(false, 10, RuleAction::Table(100));
    selecting.source = Some("10.244.1.0/24".parse().unwrap());
    selecting.iif = Some("cni0".to_owned());
    selecting.mark = Some((0x100, 0x300));
    add_rule(&mut kernel, selecting);
    let mut flow = Flow::to("10.1.0.1".parse().unwrap());
    assert_eq!(lookup(&kernel, &flow).landing, Landing::NoRoute);
    flow.source = Some("10.244.1.7".parse().unwrap());
    flow.input = Input::Device(CNI0);
    assert_eq!(lookup(&kernel, &flow).landing, Landing::NoRoute);
    flow.mark = 0x1ff;
    assert_eq!(lookup(&kernel, &flow).route.unwrap().table, 100);
    rule_at(&mut kernel, 10).invert = true;
    assert_eq!(lookup(&kernel, &flow).landing, Landing::NoRoute);
}

#[test]
fn a_suppressed_match_does_not_count_but_a_discard_does() {
    let mut kernel = host();
    let mut suppressing = rule(false, 10, RuleAction::Table(254));
    suppressing.suppress_prefix_length = Some(0);
    add_rule(&mut kernel, suppressing);
    add_rule(&mut kernel, rule(false, 20, RuleAction::Table(100)));
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.5 dev eth0 table 100");
    add(&mut kernel, "0.0.0.0/0 via 192.168.1.6 dev eth0");
    assert_eq!(text(&kernel, "8.8.8.8"), "via 192.168.1.5 dev eth0");
    assert_eq!(text(&kernel, "10.244.1.9"), "on-link dev cni0");
    let table = kernel.routes.v4.get_mut(&254).unwrap();
    table.remove(&"0.0.0.0/0".parse().unwrap());
    add(&mut kernel, "blackhole 0.0.0.0/0");
    assert_eq!(text(&kernel, "8.8.8.8"), "blackhole");
}

#[test]
fn an_unmodelled_rule_is_no_guess() {
    let mut kernel = host();
    let mut strange = rule(false, 10, RuleAction::Table(100));
    strange.unmodelled = Some("tun_id 7".to_owned());
    strange.destination = Some("10.0.0.0/8".parse().unwrap());
    add_rule(&mut kernel, strange);
    assert_eq!(
        text(&kernel, "10.1.0.1"),
        "not in the FIB (rule 10 uses tun_id 7, which is not modelled)"
    );
    assert_eq!(text(&kernel, "192.168.1.9"), "on-link dev eth0 (underlay)");
}

#[test]
fn an_l3mdev_rule_passes_what_is_in_no_vrf() {
    let mut kernel = host();
    let mut l3mdev = rule(false, 1000, RuleAction::Table(0));
    l3mdev.unmodelled = Some("l3mdev".to_owned());
    add_rule(&mut kernel, l3mdev);
    assert_eq!(text(&kernel, "192.168.1.9"), "on-link dev eth0 (underlay)");
    add_link(&mut kernel, 10, "red", "vrf", &[]);
    link(&mut kernel, "cni0").master = Some(10);
    let mut flow = Flow::to("192.168.1.9".parse().unwrap());
    flow.input = Input::Device(CNI0);
    assert!(matches!(lookup(&kernel, &flow).landing, Landing::Opaque { .. }));
}

#[test]
fn without_rules_there_is_no_route() {
    let mut kernel = host();
    kernel.rules.retain(|rule| rule.ipv6);
    assert_eq!(land(&kernel, "10.244.1.9"), Landing::NoRoute);
    assert_eq!(text(&kernel, "fd01:1::9"), "on-link dev cni0");
}

#[test]
fn a_rule_that_ipv6_lost_counts_only_once_there_are_others() {
    let mut kernel = host();
    kernel.rules.retain(|rule| !rule.ipv6 || rule.priority != 32766);
    assert_eq!(text(&kernel, "fd01:1::9"), "on-link dev cni0");
    add_rule(&mut kernel, rule(true, 10, RuleAction::Table(100)));
    assert_eq!(land(&kernel, "fd01:1::9"), Landing::NoRoute);
}

#[test]
fn a_longer_prefix_in_main_wins_over_table_local_until_there_are_rules() {
    let mut kernel = host();
    add(&mut kernel, "local 10.9.0.0/16 dev lo table 255");
    add(&mut kernel, "10.9.9.0/24 via 192.168.1.2 dev eth0");
    assert_eq!(text(&kernel, "10.9.9.1"), "via 192.168.1.2 dev eth0");
    add_rule(&mut kernel, rule(false, 10, RuleAction::Nop));
    assert_eq!(text(&kernel, "10.9.9.1"), "local dev lo");
}

#[test]
fn the_tos_decides_before_the_metric() {
    let mut kernel = host();
    add(&mut kernel, "10.9.0.0/16 via 192.168.1.2 dev eth0 metric 5");
    add(&mut kernel, "10.9.0.0/16 via 192.168.1.3 dev eth0 metric 9");
    add(&mut kernel, "10.9.0.0/16 via 192.168.1.4 dev eth0 tos 8 metric 20");
    let mut flow = Flow::to("10.9.0.1".parse().unwrap());
    assert_eq!(lookup(&kernel, &flow).route.unwrap().metric, 5);
    flow.tos = 8;
    assert_eq!(lookup(&kernel, &flow).route.unwrap().metric, 20);
    flow.tos = 4;
    assert_eq!(lookup(&kernel, &flow).route.unwrap().metric, 5);
}
