//! Every silent change of the kernel's that is known: the watcher ends with
//! what a fresh dump says, by events alone.

use cidrift_agent::view::{Hops, Kernel, Route};
use cidrift_lab::require::{Need, have};
use rtnetlink::RouteMessageBuilder;

use crate::follow::nets;
use crate::host::{Host, How, leg, to};

/// eth0 and eth1 with an address each, their other ends up.
async fn two_uplinks() -> (Host, u32, u32) {
    let host = Host::new("uplinks").await;
    let eth0 = host.veth("eth0", "switch0").await;
    host.add_address(eth0, "172.18.0.2/24").await;
    host.add_address(eth0, "fd00:18::2/64").await;
    let eth1 = host.veth("eth1", "switch1").await;
    host.add_address(eth1, "172.19.0.2/24").await;
    host.add_address(eth1, "fd00:19::2/64").await;
    (host, eth0, eth1)
}

fn main_routes(kernel: &Kernel, prefix: &str) -> Vec<Route> {
    kernel.routes.at(254, &prefix.parse().unwrap()).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_set_down_takes_its_ipv4_routes_without_a_message() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = two_uplinks().await;
    for (prefix, gateway) in [("10.244.2.0/24", "172.18.0.3"), ("fd00:2::/64", "fd00:18::3")] {
        host.route(How::Add, to(prefix, Some(gateway), None).build())
            .await
            .unwrap();
    }
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24").len(), 1);
    host.set_up("eth0", false).await;
    let changes = host.follow(&mut watcher).await;
    assert!(changes.links && changes.wide);
    let gone = nets(["10.244.2.0/24", "172.18.0.0/24", "fd00:2::/64"]);
    assert!(changes.prefixes.is_superset(&gone), "{changes:?}");
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
    assert_eq!(main_routes(watcher.kernel(), "fd00:2::/64"), []);
    // Up again: the connected route comes back, the others do not.
    host.set_up("eth0", true).await;
    host.follow(&mut watcher).await;
    assert_eq!(main_routes(watcher.kernel(), "172.18.0.0/24").len(), 1);
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_carrier_marks_routes_and_keeps_them() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = two_uplinks().await;
    let route = to("10.244.2.0/24", Some("172.18.0.3"), None);
    host.route(How::Add, route.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    let state = |kernel: &Kernel| match &main_routes(kernel, "10.244.2.0/24")[0].hops {
        Hops::One(hop) => (hop.dead, hop.linkdown),
        other => panic!("{other:?}"),
    };
    assert_eq!(state(watcher.kernel()), (false, false));
    host.set_up("switch0", false).await;
    let changes = host.follow(&mut watcher).await;
    assert!(changes.prefixes.is_superset(&nets(["10.244.2.0/24"])), "{changes:?}");
    assert_eq!(state(watcher.kernel()), (false, true));
    // The sysctl makes it dead, and says so itself.
    host.sysctl("ipv4/conf/eth0/ignore_routes_with_linkdown", "1");
    let changes = host.follow(&mut watcher).await;
    assert!(changes.wide);
    assert_eq!(watcher.kernel().sysctls.ipv4_ignore_linkdown, ["eth0"]);
    assert_eq!(state(watcher.kernel()), (true, true));
    host.set_up("switch0", true).await;
    host.follow(&mut watcher).await;
    assert_eq!(state(watcher.kernel()), (false, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sysctls_of_all_devices_and_of_ipv6_are_followed() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = two_uplinks().await;
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    host.sysctl("ipv4/conf/all/ignore_routes_with_linkdown", "1");
    host.sysctl("ipv6/conf/eth1/ignore_routes_with_linkdown", "1");
    host.follow(&mut watcher).await;
    let sysctls = &watcher.kernel().sysctls;
    assert!(sysctls.ipv4_ignore_linkdown_all && !sysctls.ipv6_ignore_linkdown_all);
    assert_eq!(sysctls.ipv6_ignore_linkdown, ["eth1"]);
    host.sysctl("ipv4/conf/all/ignore_routes_with_linkdown", "0");
    host.follow(&mut watcher).await;
    assert!(!watcher.kernel().sysctls.ipv4_ignore_linkdown_all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_ipv4_address_takes_the_devices_routes_with_it() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0, _) = two_uplinks().await;
    host.add_address(eth0, "172.20.0.2/24").await;
    let route = to("10.244.2.0/24", Some("172.20.0.3"), None);
    host.route(How::Add, route.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    // Its subnet's address goes, another stays: the route stays and is used.
    host.delete_address(eth0, "172.20.0.2/24").await;
    host.follow(&mut watcher).await;
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24").len(), 1);
    host.delete_address(eth0, "172.18.0.2/24").await;
    let changes = host.follow(&mut watcher).await;
    assert!(changes.prefixes.is_superset(&nets(["10.244.2.0/24"])), "{changes:?}");
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preferred_source_takes_its_routes_with_it() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0, _) = two_uplinks().await;
    host.add_address(eth0, "172.20.0.2/24").await;
    let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .destination_prefix([10, 244, 2, 0].into(), 24)
        .gateway([172, 18, 0, 3].into())
        .pref_source([172, 20, 0, 2].into());
    host.route(How::Add, route.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.delete_address(eth0, "172.20.0.2/24").await;
    host.follow(&mut watcher).await;
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_link_takes_routes_neighbours_and_addresses_with_it() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0, _) = two_uplinks().await;
    let route = to("10.244.2.0/24", Some("172.18.0.3"), None);
    host.route(How::Add, route.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    host.delete_link("eth0").await;
    let changes = host.follow(&mut watcher).await;
    assert!(changes.links && changes.wide);
    assert!(!watcher.kernel().links.contains_key(&eth0));
    assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_multipath_leg_dies_and_revives_without_a_message() {
    if !have(Need::Netns) {
        return;
    }
    let (host, eth0, eth1) = two_uplinks().await;
    let route = to("10.244.2.0/24", None, None).multipath(vec![leg("172.18.0.3", eth0), leg("172.19.0.3", eth1)]);
    host.route(How::Add, route.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    let dead = |kernel: &Kernel| match &main_routes(kernel, "10.244.2.0/24")[0].hops {
        Hops::Many(hops) => hops.iter().map(|hop| hop.dead).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(dead(watcher.kernel()), [false, false]);
    host.set_up("eth1", false).await;
    host.follow(&mut watcher).await;
    assert_eq!(dead(watcher.kernel()), [false, true]);
    host.set_up("eth1", true).await;
    host.follow(&mut watcher).await;
    assert_eq!(dead(watcher.kernel()), [false, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nexthop_objects_take_their_routes_with_them() {
    if !have(Need::Netns) {
        return;
    }
    for compatible in ["1", "0"] {
        let (host, eth0, eth1) = two_uplinks().await;
        host.sysctl("ipv4/nexthop_compat_mode", compatible);
        host.nexthop(10, eth0, [172, 18, 0, 3].into());
        host.nexthop(11, eth1, [172, 19, 0, 3].into());
        host.nexthop_group(20, &[10, 11]);
        for (prefix, id) in [("10.244.2.0/24", 10), ("10.244.3.0/24", 20)] {
            host.route(How::Add, to(prefix, None, None).nhid(id).build())
                .await
                .unwrap();
        }
        let mut watcher = host.watch().await;
        host.follow(&mut watcher).await;
        assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24")[0].hops, Hops::Object(10));
        // Replaced: other gateway, same id.
        host.nexthop(10, eth0, [172, 18, 0, 4].into());
        let changes = host.follow(&mut watcher).await;
        assert!(changes.wide, "compat mode {compatible}: {changes:?}");
        host.delete_nexthop(10);
        let changes = host.follow(&mut watcher).await;
        assert!(
            changes.prefixes.contains(&"10.244.2.0/24".parse().unwrap()),
            "{changes:?}"
        );
        assert_eq!(main_routes(watcher.kernel(), "10.244.2.0/24"), []);
        assert_eq!(main_routes(watcher.kernel(), "10.244.3.0/24")[0].hops, Hops::Object(20));
        // The device of the group's last member goes down: object, group and route go.
        host.set_up("eth1", false).await;
        host.follow(&mut watcher).await;
        assert!(watcher.kernel().nexthops.is_empty());
        assert_eq!(main_routes(watcher.kernel(), "10.244.3.0/24"), []);
    }
}
