//! Changes that the kernel does tell, and what must be made of them.

use std::net::IpAddr;
use std::time::Duration;

use cidrift_agent::observe::netlink::{Answer, Query};
use cidrift_agent::view::{Hops, Kernel, RuleAction};
use cidrift_lab::require::{Need, have};
use cidrift_proto::landing::MacAddress;
use netlink_packet_route::neighbour::NeighbourState;
use tokio::time::timeout;

use crate::follow::nets;
use crate::host::{Host, How, to};

const MAC: [u8; 6] = [0x12, 0xc6, 0x65, 0x89, 0xb4, 0xe3];

async fn uplink() -> (Host, u32) {
    let host = Host::new("uplink").await;
    let eth0 = host.veth("eth0", "switch").await;
    host.add_address(eth0, "172.18.0.2/24").await;
    host.add_address(eth0, "fd00:18::2/64").await;
    (host, eth0)
}

fn gateways(kernel: &Kernel, prefix: &str) -> Vec<Vec<IpAddr>> {
    let routes = kernel.routes.at(254, &prefix.parse().unwrap());
    let of = |hops: &Hops| match hops {
        Hops::One(hop) => hop.gateway.into_iter().collect(),
        Hops::Many(hops) => {
            let mut all: Vec<IpAddr> = hops.iter().filter_map(|hop| hop.gateway).collect();
            all.sort();
            all
        }
        Hops::None | Hops::Object(_) => Vec::new(),
    };
    routes.iter().map(|route| of(&route.hops)).collect()
}

fn ips<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.into_iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_added_replaced_and_deleted_is_told_by_its_prefix_alone() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    let redumps = watcher.counters().redumps;
    let route = |gateway| to("10.244.2.0/24", Some(gateway), None).build();
    for (how, gateway) in [
        (How::Add, "172.18.0.3"),
        (How::Replace, "172.18.0.4"),
        (How::Replace, "172.18.0.5"),
    ] {
        host.route(how, route(gateway)).await.unwrap();
        let changes = watcher.changed().await.unwrap();
        assert_eq!(
            (changes.prefixes, changes.wide, changes.links),
            (nets(["10.244.2.0/24"]), false, false)
        );
        assert_eq!(gateways(watcher.kernel(), "10.244.2.0/24"), [ips([gateway])]);
    }
    // Another metric: a second route, behind.
    let second = to("10.244.2.0/24", Some("172.18.0.9"), None).priority(50);
    host.route(How::Replace, second.build()).await.unwrap();
    watcher.changed().await.unwrap();
    assert_eq!(
        gateways(watcher.kernel(), "10.244.2.0/24"),
        [ips(["172.18.0.5"]), ips(["172.18.0.9"])]
    );
    host.delete_route(route("172.18.0.5")).await.unwrap();
    watcher.changed().await.unwrap();
    assert_eq!(gateways(watcher.kernel(), "10.244.2.0/24"), [ips(["172.18.0.9"])]);
    assert_eq!(watcher.counters().redumps, redumps, "no dump was needed for any of it");
    host.follow(&mut watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_route_that_is_replaced_is_lost_and_seen_to_be() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let cni0 = host.bridge("cni0").await;
    host.add_address(cni0, "10.244.1.1/24").await;
    let mut watcher = host.watch().await;
    let wrong = to("10.244.1.0/24", Some("172.18.0.3"), None);
    host.route(How::Add, wrong.build()).await.unwrap_err();
    let wrong = to("10.244.1.0/24", Some("172.18.0.3"), None);
    host.route(How::Replace, wrong.build()).await.unwrap();
    host.follow(&mut watcher).await;
    assert_eq!(gateways(watcher.kernel(), "10.244.1.0/24"), [ips(["172.18.0.3"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_routes_of_one_metric_become_multipath_and_lose_their_legs() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let mut watcher = host.watch().await;
    let route = |gateway| to("fd00:2::/64", Some(gateway), None).priority(1024).build();
    let three = ips(["fd00:18::3", "fd00:18::4", "fd00:18::5"]);
    for gateway in ["fd00:18::3", "fd00:18::4", "fd00:18::5"] {
        host.route(How::Append, route(gateway)).await.unwrap();
    }
    host.follow(&mut watcher).await;
    assert_eq!(gateways(watcher.kernel(), "fd00:2::/64"), [three]);
    host.delete_route(route("fd00:18::4")).await.unwrap();
    host.follow(&mut watcher).await;
    assert_eq!(
        gateways(watcher.kernel(), "fd00:2::/64"),
        [ips(["fd00:18::3", "fd00:18::5"])]
    );
    host.delete_route(route("fd00:18::3")).await.unwrap();
    host.follow(&mut watcher).await;
    assert_eq!(gateways(watcher.kernel(), "fd00:2::/64"), [ips(["fd00:18::5"])]);
    host.delete_route(route("fd00:18::5")).await.unwrap();
    host.follow(&mut watcher).await;
    assert_eq!(gateways(watcher.kernel(), "fd00:2::/64").len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv4_routes_of_one_key_keep_the_kernels_order() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let mut watcher = host.watch().await;
    let route = |gateway| to("10.244.2.0/24", Some(gateway), None).build();
    for gateway in ["172.18.0.3", "172.18.0.4", "172.18.0.5"] {
        host.route(How::Append, route(gateway)).await.unwrap();
    }
    host.follow(&mut watcher).await;
    // The kernel replaces the first and leaves the others.
    host.route(How::Replace, route("172.18.0.9")).await.unwrap();
    host.follow(&mut watcher).await;
    assert_eq!(
        gateways(watcher.kernel(), "10.244.2.0/24"),
        [ips(["172.18.0.9"]), ips(["172.18.0.4"]), ips(["172.18.0.5"])]
    );
    let mut referee = host.referee().await;
    let answer = referee.lookup(&Query::to([10, 244, 2, 1].into())).await.unwrap();
    assert!(
        matches!(answer, Answer::Route { gateway, .. } if gateway == Some([172, 18, 0, 9].into())),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_come_in_the_kernels_order_with_what_they_select() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let mut watcher = host.watch().await;
    let rule = || host.ip.rule().add().v4();
    rule()
        .destination_prefix([10, 244, 1, 7].into(), 32)
        .priority(512)
        .table_id(254)
        .action(netlink_packet_route::rule::RuleAction::ToTable)
        .execute()
        .await
        .unwrap();
    rule()
        .source_prefix([10, 244, 1, 7].into(), 32)
        .priority(1536)
        .table_id(10_100)
        .fw_mark(0x80)
        .input_interface("eth0")
        .action(netlink_packet_route::rule::RuleAction::ToTable)
        .execute()
        .await
        .unwrap();
    let changes = host.follow(&mut watcher).await;
    assert!(changes.wide);
    let rules: Vec<_> = watcher.kernel().rules.iter().filter(|rule| !rule.ipv6).collect();
    assert_eq!(
        rules.iter().map(|rule| rule.priority).collect::<Vec<_>>(),
        [0, 512, 1536, 32766, 32767]
    );
    assert_eq!(rules[1].destination, Some("10.244.1.7/32".parse().unwrap()));
    assert_eq!(rules[2].action, RuleAction::Table(10_100));
    assert_eq!(rules[2].mark, Some((0x80, u32::MAX)));
    assert_eq!(rules[2].iif.as_deref(), Some("eth0"));
    assert!(rules.iter().all(|rule| rule.unmodelled.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_that_only_ages_is_not_a_change() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0) = uplink().await;
    host.neighbour(eth0, "172.18.0.3", MAC, NeighbourState::Reachable).await;
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    let events = watcher.counters().events;
    host.neighbour(eth0, "172.18.0.3", MAC, NeighbourState::Stale).await;
    while watcher.counters().events == events {
        let waited = timeout(Duration::from_millis(50), watcher.changed()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    // No route leads by it.
    host.neighbour(eth0, "172.18.0.3", MAC, NeighbourState::Permanent).await;
    assert!(!host.follow(&mut watcher).await.wide);
    let route = to("10.244.3.0/24", Some("172.18.0.3"), None).build();
    host.route(How::Add, route).await.unwrap();
    host.follow(&mut watcher).await;
    host.neighbour(eth0, "172.18.0.3", MAC, NeighbourState::Stale).await;
    let changes = watcher.changed().await.unwrap();
    assert!(changes.wide && changes.prefixes.is_empty());
    host.follow(&mut watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_fdb_entry_that_points_elsewhere_has_one_destination() {
    if !have(Need::Netns) {
        return;
    }
    let (host, _) = uplink().await;
    let mut watcher = host.watch().await;
    let vxlan = host.vxlan("flannel.1", 1, [172, 18, 0, 2].into()).await;
    for destination in ["172.18.0.3", "172.18.0.4"] {
        host.fdb(vxlan, MAC, destination).await;
        let changes = host.follow(&mut watcher).await;
        assert!(changes.wide);
        let entries = &watcher.kernel().fdb[&(vxlan, MacAddress(MAC))];
        let found: Vec<_> = entries.iter().filter_map(|entry| entry.destination).collect();
        assert_eq!(found, ips([destination]));
    }
    host.delete_link("flannel.1").await;
    host.follow(&mut watcher).await;
    assert!(watcher.kernel().fdb.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_leaves_its_bridge_is_still_a_link() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0) = uplink().await;
    let cni0 = host.bridge("cni0").await;
    let mut watcher = host.watch().await;
    host.set_master("eth0", cni0).await;
    host.follow(&mut watcher).await;
    assert_eq!(watcher.kernel().links[&eth0].master, Some(cni0));
    host.set_master("eth0", 0).await;
    host.follow(&mut watcher).await;
    assert_eq!(watcher.kernel().links[&eth0].master, None);
}
