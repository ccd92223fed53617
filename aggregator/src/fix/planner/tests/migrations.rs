//! Another `--cluster-cidr`.

use std::time::Duration;

use crate::fix::drain::Allowed;
use crate::fix::fixture::{World, nets};
use crate::fix::migrate::{Migration, Target, what_if};
use crate::fix::planner::{Wish, plan};

fn to(world: &World, ranges: &[&str], mask_v4: Option<u8>) -> Migration {
    let target = Target {
        ranges: nets(ranges),
        mask_v4,
        mask_v6: None,
        per_node: Duration::from_secs(300),
    };
    what_if(&world.ground, &target, Allowed::default())
}

fn against(migration: &Migration, words: &str) {
    assert!(
        migration.conflicts.iter().any(|line| line.contains(words)),
        "{words:?} is not in {:?}",
        migration.conflicts
    );
}

#[test]
fn a_range_around_the_old_one_touches_no_node() {
    let migration = to(&World::of(3), &["10.240.0.0/12"], None);
    assert!(
        migration.contains_old && migration.nodes.is_empty() && migration.conflicts.is_empty(),
        "{migration:#?}"
    );
    assert_eq!(
        (migration.to[0].capacity, migration.to[0].headroom, migration.seconds),
        (4096, 136_533, 0)
    );
    assert!(migration.steps[0].starts_with("start kube-controller-manager with --cluster-cidr=10.240.0.0/12"));
}

#[test]
fn another_range_needs_every_node_in_its_order_and_a_controller_manager_that_is_not_restarted() {
    let mut world = World::of(4);
    let label = "node-role.kubernetes.io/control-plane".to_owned();
    world.node("n1").labels.insert(label, String::new());
    world.pod("n2", "a", &[]);
    // Nodes that are there already are left alone.
    world.node("n4").cidrs = nets(&["10.200.4.0/24"]);
    let migration = to(&world, &["10.200.0.0/16"], None);
    assert!(
        !migration.contains_old && migration.conflicts.is_empty(),
        "{migration:#?}"
    );
    let names: Vec<&str> = migration.nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(names, ["n3", "n2", "n1"]);
    let given: Vec<_> = migration.nodes.iter().flat_map(|node| node.to.clone()).collect();
    assert_eq!(given, nets(&["10.200.255.0/24", "10.200.254.0/24", "10.200.253.0/24"]));
    assert_eq!(migration.seconds, 900);
    assert!(migration.steps[0].starts_with("do not start any kube-controller-manager"));
    assert!(
        migration
            .steps
            .iter()
            .any(|step| step.contains("--cluster-cidr=10.192.0.0/10")),
        "{:#?}",
        migration.steps
    );
    // Nothing but 10.0.0.0/8 is around both, and the services are in that.
    let far = to(&World::of(2), &["10.64.0.0/16"], None);
    assert!(
        !far.steps.iter().any(|step| step.contains("contains both")),
        "{:#?}",
        far.steps
    );
    let near = to(&World::of(2), &["10.245.0.0/16"], None);
    assert!(
        near.steps
            .iter()
            .any(|step| step.contains("--cluster-cidr=10.244.0.0/15")),
        "{:#?}",
        near.steps
    );
}

#[test]
fn what_cannot_work_is_said_before() {
    let mut world = World::of(3);
    against(
        &to(&world, &["10.100.0.0/23"], None),
        "has 2 blocks of /24, and there are 3 nodes",
    );
    assert!(to(&world, &["10.100.0.0/22"], None).warnings[0].contains("less than twice"));
    against(
        &to(&world, &["10.100.0.0/25"], None),
        "a node's /24 is wider than 10.100.0.0/25",
    );
    against(
        &to(&world, &["10.96.0.0/14"], None),
        "overlaps the service range 10.96.0.0/12",
    );
    against(&to(&world, &["172.30.0.0/16"], None), "n1's own address 172.30.0.1");
    against(
        &to(&world, &["10.240.0.0/12"], Some(25)),
        "counts in blocks of one size",
    );
    against(&to(&world, &["10.100.1.0/16"], None), "has host bits");
    against(
        &to(&world, &["10.100.0.0/16", "10.101.0.0/16"], None),
        "one range a family",
    );
    against(
        &to(&world, &["fd00::/48"], None),
        "Nodes have IPv4 CIDRs, and the new ranges have no IPv4",
    );
    against(
        &to(&world, &["10.100.0.0/16", "fd00::/32"], None),
        "more than 2^16 blocks",
    );
    against(&to(&world, &["10.100.0.0/16"], Some(33)), "/33 is no length");
    world.link("n2", "docker0", "10.100.7.1/24");
    against(
        &to(&world, &["10.100.0.0/16"], None),
        "overlaps 10.100.7.1/24 of docker0 on n2",
    );
}

/// Each node's own plan would say that no pool is known, which the operator has just named.
#[test]
fn ranges_that_cannot_be_are_said_once_and_no_node_is_planned() {
    let against = |ranges: &[&str], mask_v4: Option<u8>| {
        let target = Target {
            ranges: nets(ranges),
            mask_v4,
            mask_v6: None,
            per_node: Duration::from_secs(300),
        };
        let wish = Wish {
            migrate: Some(target),
            ..Wish::default()
        };
        let plan = plan(&World::of(2).ground, &wish);
        assert!(plan.nodes.is_empty(), "{plan:#?}");
        plan.by_hand
    };
    let wide = against(&["10.250.0.0/16"], Some(8));
    assert_eq!((wide.len(), wide[0].finding.as_str()), (1, "--cluster-cidr"));
    assert_eq!(wide[0].why, "a node's /8 is wider than 10.250.0.0/16");
    assert_eq!(wide[0].nodes, ["n1", "n2"]);
    let other = against(&["fd00:250::/48"], None);
    assert_eq!(other.len(), 1);
    assert!(other[0].why.contains("the new ranges have no IPv4"), "{other:?}");
    let long = against(&["10.250.0.0/16"], Some(33));
    assert!(long[0].why.contains("/33 is no length"), "{long:?}");
}

#[test]
fn what_was_not_seen_is_said() {
    let mut world = World::of(2);
    world.view("n2").facts = None;
    world.ground.pool.service_ranges.clear();
    let migration = to(&world, &["10.100.0.0/16"], None);
    for words in ["interfaces of n2", "the service range", "routes of hosts"] {
        assert!(
            migration.unseen.iter().any(|line| line.contains(words)),
            "{:?}",
            migration.unseen
        );
    }
}

fn dual() -> World {
    let mut world = World::of(2);
    world.second_range("fd00:244::/48", 64);
    world.node("n1").cidrs.extend(nets(&["fd00:244:0:1::/64"]));
    world.node("n2").cidrs.extend(nets(&["fd00:244:0:2::/64"]));
    world
}

#[test]
fn of_two_families_the_one_that_does_not_move_is_kept() {
    let migration = to(&dual(), &["10.250.0.0/16", "fd00:244::/48"], None);
    let given: Vec<_> = migration.nodes.iter().map(|node| node.to.clone()).collect();
    let wanted = [
        nets(&["10.250.255.0/24", "fd00:244:0:1::/64"]),
        nets(&["10.250.254.0/24", "fd00:244:0:2::/64"]),
    ];
    assert_eq!(given, wanted);
}

#[test]
fn ranges_around_old_and_new_are_named_for_both_families_where_the_controller_manager_takes_them() {
    let around = |ranges: &[&str]| {
        let steps = to(&dual(), ranges, None).steps;
        steps.into_iter().find(|step| step.contains("contains both"))
    };
    let both = around(&["10.245.0.0/16", "fd00:244::/48"]).unwrap();
    assert!(both.contains("--cluster-cidr=10.244.0.0/15,fd00:244::/48 "), "{both}");
    // fd00:240::/27 in /64 would be 2^37 blocks.
    assert_eq!(around(&["10.245.0.0/16", "fd00:250::/48"]), None);
    // Nodes have IPv6 CIDRs.
    assert_eq!(around(&["10.245.0.0/16"]), None);
}
