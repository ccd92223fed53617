//! What is planned while no kube-controller-manager runs, and for another `--cluster-cidr`.

use std::time::Duration;

use cidrift_proto::catalogue::Code;

use super::super::super::migrate::Target;
use super::super::super::plan::Method;
use super::super::{Wish, plan};
use super::{kinds, only, planned};
use crate::fix::fixture::{World, nets};

const GONE: &str = "no kube-controller-manager runs";

fn outside(world: &mut World, node: &str, cidr: &str) {
    world.node(node).cidrs = nets(&[cidr]);
    world.configured(node, cidr, Some("containerd template"));
    world.bridge(node, &cidr.replace(".0/24", ".1/24"));
    world.find(Code::Pool02, node, &[node]);
}

#[test]
fn the_last_node_outside_of_the_pool_is_swapped_first_and_drained_then() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    world.ground.controllers = Some(GONE.to_owned());
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(plan.blocked, [""; 0]);
    assert_eq!(
        kinds(plan),
        [
            "cordon",
            "remove-file",
            "recreate",
            "controllers",
            "adopt",
            "drain",
            "remove-link",
            "replace-pods",
            "verify",
            "uncordon"
        ]
    );
}

#[test]
fn of_several_none_is_begun() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    outside(&mut world, "n3", "10.99.3.0/24");
    world.ground.controllers = Some(GONE.to_owned());
    for plan in planned(&world).nodes {
        let why = plan.blocked.first().unwrap();
        assert!(
            why.starts_with(GONE) && why.contains("the --cluster-cidr from before"),
            "{why}"
        );
    }
}

#[test]
fn nothing_is_evicted_or_started_anew_that_nobody_would_make_but_a_cidr_is_given() {
    let mut world = World::of(3);
    world.ground.controllers = Some(GONE.to_owned());
    world.daemon("n2", "flannel");
    world.find(Code::Path01, "n2", &["n2"]);
    let restart = planned(&world);
    assert!(only(&restart).blocked[0].contains("start it first"), "{restart:#?}");

    let mut world = World::of(3);
    world.ground.controllers = Some(GONE.to_owned());
    world.node("n2").cidrs.clear();
    world.find(Code::Pool01, "n2", &["n2"]);
    let assign = planned(&world);
    let assign = only(&assign);
    assert_eq!((assign.method, &assign.blocked), (Method::Assign, &Vec::new()));
    assert_eq!(kinds(assign)[..3], ["assign", "controllers", "adopt"]);
}

fn to(range: &str) -> Wish {
    Wish {
        migrate: Some(Target {
            ranges: nets(&[range]),
            mask_v4: None,
            mask_v6: None,
            per_node: Duration::from_secs(300),
        }),
        ..Wish::default()
    }
}

#[test]
fn a_migration_swaps_every_node_that_lies_outside_and_none_that_does_not() {
    let mut world = World::of(3);
    world.node("n3").cidrs = nets(&["10.200.3.0/24"]);
    world.pod("n1", "web-1", &["10.244.1.5"]);
    let moved = plan(&world.ground, &to("10.200.0.0/16"));
    assert_eq!(moved.by_hand, []);
    let names: Vec<&str> = moved.nodes.iter().map(|plan| plan.node.as_str()).collect();
    assert_eq!(names, ["n2", "n1"], "the fewest pods first");
    let given: Vec<_> = moved.nodes.iter().flat_map(|plan| plan.to.clone()).collect();
    assert_eq!(given, nets(&["10.200.254.0/24", "10.200.255.0/24"]));
    assert!(
        moved
            .nodes
            .iter()
            .all(|plan| plan.method == Method::Swap && plan.blocked.is_empty())
    );
    // The next ones are planned the same once one is done.
    world.node("n2").cidrs = nets(&["10.200.254.0/24"]);
    let rest = plan(&world.ground, &to("10.200.0.0/16"));
    assert_eq!(
        (only(&rest).node.as_str(), &only(&rest).to),
        ("n1", &nets(&["10.200.255.0/24"]))
    );
    // One range around both needs nobody.
    assert_eq!(plan(&world.ground, &to("10.0.0.0/8")).nodes, []);
}

#[test]
fn what_is_against_the_new_range_or_the_cnis_own_blocks_every_node() {
    let mut world = World::of(2);
    world.link("n1", "docker0", "10.200.0.1/24");
    for plan in plan(&world.ground, &to("10.200.0.0/16")).nodes {
        assert!(
            plan.blocked.iter().any(|why| why.contains("docker0")),
            "{:?}",
            plan.blocked
        );
    }
    let mut world = World::of(2);
    world.flannel("n2", "10.244.0.0/16", "10.244.2.0/24");
    let moved = plan(&world.ground, &to("10.200.0.0/16"));
    let blocked = |name: &str| &moved.nodes.iter().find(|plan| plan.node == name).unwrap().blocked;
    assert_eq!(blocked("n1"), &[""; 0]);
    assert!(
        blocked("n2")[0].starts_with("flannel's Network (10.244.0.0/16) does not hold 10.200."),
        "{:?}",
        blocked("n2")
    );
}
