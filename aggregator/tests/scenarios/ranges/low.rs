//! POOL05: a pool with little room left.

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_aggregator::cluster::objects::{ManagerFlags, Resource, Watched};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Severity;

use super::*;

#[test]
fn a_pool_that_grows_full_is_low_and_says_when() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    nodes(&mut world, 0, 150, 300);
    for (at, days) in (150..170).zip((1..=20).rev()) {
        nodes(&mut world, at, at + 1, days);
    }
    settle(&mut world);
    let finding = world.finding("POOL05/ipv4");
    assert_eq!(finding.claim.severity, Severity::Warning);
    assert_eq!(
        finding.claim.summary,
        "170 nodes have a CIDR of 10.244.0.0/16, and 86 more fit, and it is full in 129 days at the growth of the last month"
    );
    // A wider range that contains the present one ends it.
    let flags = ManagerFlags {
        cluster_cidr: vec![net("10.244.0.0/15")],
        ..allocating(&[])
    };
    let mut wider = World::bare(Plane::Vxlan, PoolConfig::default());
    wider.nodes = world.nodes.clone();
    manager(&mut wider, "kcm", allocating(&["10.244.0.0/16"]));
    settle(&mut wider);
    assert_eq!(of(&wider, Code::Pool05), ["POOL05/ipv4 open"]);
    manager(&mut wider, "kcm", flags);
    wider.publish();
    assert_eq!(of(&wider, Code::Pool05), Vec::<String>::new());
    assert!(wider.resolved().contains(&"POOL05/ipv4".to_owned()));
}

#[test]
fn room_is_not_low_where_nobody_will_need_it() {
    let low = |range: &str, count: usize, days: i64| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&[range]));
        nodes(&mut world, 0, count, days);
        settle(&mut world);
        let told = !of(&world, Code::Pool05).is_empty();
        told.then(|| world.finding("POOL05/ipv4").claim.severity)
    };
    assert_eq!(low("10.244.0.0/16", 3, 0), None, "a /16 with three nodes");
    assert_eq!(low("10.244.0.0/22", 3, 0), None, "a small cluster in a small pool");
    assert_eq!(low("10.244.0.0/16", 128, 5), None, "twice the present number fits");
    assert_eq!(
        low("10.244.0.0/16", 200, 100),
        None,
        "it has not grown for months, and upgrades fit"
    );
    assert_eq!(
        low("10.244.0.0/16", 250, 100),
        Some(Severity::Info),
        "upgrades do not fit"
    );
    assert_eq!(
        low("10.244.0.0/16", 200, 5),
        Some(Severity::Warning),
        "a young cluster may grow on"
    );
}

#[test]
fn room_for_as_many_again_is_low_where_it_is_full_within_ninety_days() {
    // 110 nodes, so many of which came in the last month, and 146 more that fit.
    let low = |new: usize| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
        nodes(&mut world, 0, 110 - new, 300);
        for at in 110 - new..110 {
            nodes(&mut world, at, at + 1, 1 + i64::try_from(at % 20).expect("small"));
        }
        settle(&mut world);
        let told = !of(&world, Code::Pool05).is_empty();
        told.then(|| world.finding("POOL05/ipv4").claim.clone())
    };
    let claim = low(55).expect("55 a month take 146 in 79 days");
    assert_eq!(claim.severity, Severity::Warning);
    assert!(
        claim.summary.contains("146 more fit, and it is full in 79 days"),
        "{}",
        claim.summary
    );
    assert!(claim.cause.contains("slower growth"), "{}", claim.cause);
    assert!(low(45).is_none(), "45 a month take them in 97");
}

#[test]
fn a_pool_that_is_out_of_sight_is_no_pool_with_room() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 200, 5);
    manager(&mut world, "kcm", allocating(&["10.244.0.0/16"]));
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool05), ["POOL05/ipv4 open"]);
    world.around.managers.clear();
    world
        .around
        .watches
        .insert(Resource::ManagerPods, Watched::Refused("forbidden".to_owned()));
    world.publish();
    assert_eq!(of(&world, Code::Pool05), ["POOL05/ipv4 open stale"]);
}
