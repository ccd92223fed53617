//! One look at a host as flannel's vxlan backend makes it.

use std::net::IpAddr;

use cidrift_agent::observe::netlink::{Answer, Query};
use cidrift_agent::view::{Hops, LinkDetail, RouteKind, RuleAction};
use cidrift_lab::require::{Need, have};
use cidrift_proto::landing::{Discard, MacAddress};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteType;
use nix::libc;

use crate::host::{Host, How, to};

const VTEP: [u8; 6] = [0x12, 0xc6, 0x65, 0x89, 0xb4, 0xe3];

async fn flannel() -> Host {
    let host = Host::new("flannel").await;
    let eth0 = host.veth("eth0", "switch").await;
    host.add_address(eth0, "172.18.0.2/24").await;
    let cni0 = host.bridge("cni0").await;
    host.add_address(cni0, "10.244.1.1/24").await;
    let vxlan = host.vxlan("flannel.1", 1, [172, 18, 0, 2].into()).await;
    host.add_address(vxlan, "10.244.1.0/32").await;
    host.neighbour(vxlan, "10.244.2.0", VTEP, NeighbourState::Permanent)
        .await;
    host.fdb(vxlan, VTEP, "172.18.0.3").await;
    let peer = to("10.244.2.0/24", Some("10.244.2.0"), Some(vxlan)).onlink();
    host.route(How::Add, peer.build()).await.unwrap();
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flannels_route_neighbour_and_fdb_are_seen() {
    if !have(Need::Netns) {
        return;
    }
    let host = flannel().await;
    let look = host.look().await;
    assert_eq!(look.gaps, []);
    assert_eq!(look.counters.undecodable_messages, 0);
    let kernel = look.kernel;
    let vxlan = kernel.links.values().find(|link| link.name == "flannel.1").unwrap();
    assert_eq!(vxlan.kind, "vxlan");
    let LinkDetail::Vxlan {
        fact,
        remote: None,
        external: false,
    } = vxlan.detail
    else {
        panic!("{:?}", vxlan.detail)
    };
    assert_eq!((fact.vni, fact.port, fact.learning), (1, 8472, false));
    assert_eq!(fact.local, Some(IpAddr::from([172, 18, 0, 2])));
    let gateway = IpAddr::from([10, 244, 2, 0]);
    let route = &kernel.routes.at(254, &"10.244.2.0/24".parse().unwrap())[0];
    let Hops::One(hop) = &route.hops else {
        panic!("{route:?}")
    };
    assert_eq!(
        (hop.device, hop.gateway, hop.onlink),
        (Some(vxlan.index), Some(gateway), true)
    );
    let neighbour = kernel.neighbours[&(vxlan.index, gateway)];
    assert_eq!((neighbour.lladdr, neighbour.permanent), (Some(MacAddress(VTEP)), true));
    let fdb = &kernel.fdb[&(vxlan.index, MacAddress(VTEP))];
    assert_eq!(fdb[0].destination, Some(IpAddr::from([172, 18, 0, 3])));
    assert!(kernel.fdb.keys().all(|(device, _)| *device == vxlan.index));
    let tables: Vec<(u32, i32)> = kernel
        .rules
        .iter()
        .filter(|rule| !rule.ipv6)
        .map(|rule| match rule.action {
            RuleAction::Table(table) => (table, i32::try_from(rule.priority).unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tables, [(255, 0), (254, 32766), (253, 32767)]);
    assert_eq!(kernel.sysctls.unreadable, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_beyond_255_and_every_discard_are_seen() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new("tables").await;
    let eth0 = host.veth("eth0", "switch").await;
    for (kind, prefix) in [
        (RouteType::BlackHole, "10.65.0.0/26"),
        (RouteType::Unreachable, "10.65.0.64/26"),
        (RouteType::Prohibit, "10.65.0.128/26"),
        (RouteType::Throw, "10.65.0.192/26"),
    ] {
        let route = to(prefix, None, None).kind(kind).table_id(100_000);
        host.route(How::Add, route.build()).await.unwrap();
    }
    let six = to("fd00:2::/64", None, None).kind(RouteType::BlackHole);
    host.route(How::Add, six.build()).await.unwrap();
    host.route(How::Add, to("fd00:1::/64", None, Some(eth0)).build())
        .await
        .unwrap();
    let kernel = host.look().await.kernel;
    let kind = |table, prefix: &str| kernel.routes.at(table, &prefix.parse().unwrap())[0].kind;
    assert_eq!(kind(100_000, "10.65.0.0/26"), RouteKind::Discard(Discard::Blackhole));
    assert_eq!(kind(100_000, "10.65.0.64/26"), RouteKind::Discard(Discard::Unreachable));
    assert_eq!(kind(100_000, "10.65.0.128/26"), RouteKind::Discard(Discard::Prohibit));
    assert_eq!(kind(100_000, "10.65.0.192/26"), RouteKind::Throw);
    let six = &kernel.routes.at(254, &"fd00:2::/64".parse().unwrap())[0];
    assert_eq!(
        (six.kind, &six.hops, six.metric),
        (RouteKind::Discard(Discard::Blackhole), &Hops::None, 1024)
    );
    assert_eq!(kind(254, "fd00:1::/64"), RouteKind::Unicast);
    assert_eq!(kind(255, "127.0.0.1/32"), RouteKind::Host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_referee_names_the_matching_route_or_the_discard() {
    if !have(Need::Netns) {
        return;
    }
    let host = flannel().await;
    for (kind, prefix) in [
        (RouteType::BlackHole, "10.65.0.0/26"),
        (RouteType::Unreachable, "10.65.0.64/26"),
        (RouteType::Prohibit, "10.65.0.128/26"),
    ] {
        host.route(How::Add, to(prefix, None, None).kind(kind).build())
            .await
            .unwrap();
    }
    let vxlan = host.index("flannel.1").await;
    let mut referee = host.referee().await;
    let answer = referee.lookup(&Query::to([10, 244, 2, 9].into())).await.unwrap();
    let Answer::Route {
        prefix, device, table, ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!(prefix, Some("10.244.2.0/24".parse().unwrap()));
    assert_eq!((device, table), (Some(vxlan), u32::from(libc::RT_TABLE_MAIN)));
    for (last, expected) in [
        (1, Answer::Discard(Discard::Blackhole)),
        (65, Answer::Discard(Discard::Unreachable)),
        (129, Answer::Discard(Discard::Prohibit)),
        (193, Answer::NoRoute),
    ] {
        let answer = referee.lookup(&Query::to([10, 65, 0, last].into())).await.unwrap();
        assert_eq!(answer, expected, "10.65.0.{last}");
    }
}
