//! What is stale on a host, while its Node is right.

use cidrift_proto::catalogue::Code;

use super::super::super::plan::Method;
use super::{blocked_by, kinds, only, planned};
use crate::fix::fixture::World;
use crate::fix::ground::Budget;

#[test]
fn what_was_rendered_is_rendered_anew_without_touching_node_or_pods_that_are_right() {
    let mut world = World::of(2);
    world.configured("n2", "10.244.7.0/24", Some("containerd template"));
    world.pod("n2", "right", &["10.244.2.5"]);
    world.pod("n2", "foreign", &["10.244.7.5"]);
    world.find(Code::Host01, "n2", &["n2"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!((plan.method, &plan.to), (Method::Host, &plan.from));
    assert_eq!(kinds(plan), ["remove-file", "render", "replace-pods", "verify"]);
    assert_eq!(plan.interrupts.pods, ["default/foreign"]);
}

#[test]
fn pods_that_are_deleted_and_not_evicted_are_guarded_all_the_same() {
    let mut world = World::of(2);
    world.pod("n2", "foreign", &["10.244.7.5"]).budgets = vec!["default/web".to_owned()];
    world.find(Code::Host03, "n2", &["n2"]);
    let mut budget = Budget {
        allowed: 1,
        desired: 2,
        healthy: 3,
        expected: 3,
        current: true,
    };
    world.ground.budgets.insert("default/web".to_owned(), budget.clone());
    let plan = planned(&world);
    assert_eq!(kinds(only(&plan)), ["replace-pods", "verify"]);
    assert_eq!(
        (only(&plan).blocked.len(), only(&plan).interrupts.budgets.len()),
        (0, 1)
    );
    budget.allowed = 0;
    world.ground.budgets.insert("default/web".to_owned(), budget);
    blocked_by(only(&planned(&world)), "would be deleted, which does not ask it");
    let pod = world.ground.pods.last_on("n2");
    (pod.owner, pod.budgets) = (None, Vec::new());
    blocked_by(only(&planned(&world)), "default/foreign has no controller");
}

#[test]
fn a_file_that_nobody_is_known_to_write_is_for_whoever_did() {
    let mut world = World::of(2);
    world.configured("n2", "10.244.7.0/24", None);
    world.find(Code::Host01, "n2", &["n2"]);
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    assert!(plan.by_hand[0].why.contains("nobody is known to write"), "{plan:#?}");
}

#[test]
fn a_bridge_goes_only_once_its_pods_are_gone() {
    let mut world = World::of(2);
    world.bridge("n2", "10.244.7.1/24");
    world.pod("n2", "web", &["10.244.2.5"]);
    world.find(Code::Host02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(
        kinds(only(&plan)),
        ["cordon", "drain", "remove-link", "replace-pods", "verify", "uncordon"]
    );
}

#[test]
fn somebody_elses_cordon_is_kept() {
    let mut world = World::of(2);
    world.node("n2").unschedulable = true;
    world.bridge("n2", "10.244.7.1/24");
    world.find(Code::Host02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(kinds(only(&plan)), ["drain", "remove-link", "replace-pods", "verify"]);
}

#[test]
fn a_missing_route_is_the_daemons_matter_where_there_is_one() {
    let mut world = World::of(2);
    world.find(Code::Path01, "n1", &["n1", "n2"]);
    assert!(planned(&world).nodes.is_empty());
    world.daemon("n1", "flannel");
    let plan = planned(&world);
    assert_eq!(
        (only(&plan).method, kinds(only(&plan))),
        (Method::Restart, vec!["restart-daemon", "verify"])
    );
    assert_eq!(only(&plan).node, "n1");
}
