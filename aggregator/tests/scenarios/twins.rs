//! POOL03 between nodes: how it came about, and who will lose.

use cidrift_proto::finding::Evidence;

use crate::world::*;

/// node-d gets node-b's CIDR; the others go on routing it to node-b.
fn twins() -> World {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b", "node-c"]);
    world.pass(SETTLE * 2);
    world.add("node-d");
    world.assign("node-d", &["10.244.2.0/24"]);
    world
}

fn evidence(world: &World, part: &str) -> Option<Evidence> {
    let finding = world.finding("POOL03/10.244.2.0/24");
    finding
        .claim
        .evidence
        .iter()
        .find(|row| row.text.contains(part))
        .cloned()
}

#[test]
fn the_twin_that_the_others_reach_is_kept() {
    let mut world = twins();
    world.publish();
    let remedy = &world.finding("POOL03/10.244.2.0/24").claim.remedy;
    assert!(
        remedy.starts_with("Give node-d another CIDR, not node-b, which the others reach"),
        "{remedy}"
    );
    let routed = evidence(&world, "all that route 10.244.2.0/24 route it to node-b");
    assert!(routed.is_some_and(|row| row.observed_at.is_some()));
    // The peers follow the younger: then it is the elder that is cut off.
    for name in ["node-a", "node-c"] {
        world.delta(name, vec![world.route("10.244.2.0/24", "node-d")], &[]);
    }
    world.publish();
    let finding = world.finding("POOL03/10.244.2.0/24");
    assert!(
        finding.claim.remedy.starts_with("Give node-b another CIDR"),
        "{}",
        finding.claim.remedy
    );
}

#[test]
fn two_allocators_are_told_by_who_wrote_the_field() {
    let mut world = twins();
    world.nodes.get_mut("node-b").expect("it is there").cidr_writers = vec!["kube-controller-manager".to_owned()];
    world.nodes.get_mut("node-d").expect("it is there").cidr_writers = vec!["cloud-controller-manager".to_owned()];
    world.publish();
    let finding = world.finding("POOL03/10.244.2.0/24");
    assert!(
        finding.claim.cause.starts_with("Two allocators at once"),
        "{}",
        finding.claim.cause
    );
    insta::assert_yaml_snapshot!("two_allocators", finding.claim);
}

#[test]
fn one_allocator_and_a_person_are_not_two_allocators() {
    let mut world = twins();
    world.nodes.get_mut("node-b").expect("it is there").cidr_writers = vec!["kube-controller-manager".to_owned()];
    world.nodes.get_mut("node-d").expect("it is there").cidr_writers = vec!["kubectl-create".to_owned()];
    world.publish();
    let cause = &world.finding("POOL03/10.244.2.0/24").claim.cause;
    assert!(cause.starts_with("Written by hand (kubectl-create)"), "{cause}");
}

#[test]
fn a_cidr_released_when_deletion_began_names_the_node_that_will_lose() {
    // The regression of 1.31: node-b waits for its finalizers, node-d already has its CIDR.
    let mut world = twins();
    let leaving = world.nodes.get_mut("node-b").expect("it is there");
    (leaving.deleting, leaving.kubelet_version) = (true, Some("v1.31.1".to_owned()));
    world.publish();
    let finding = world.finding("POOL03/10.244.2.0/24");
    assert!(
        finding.claim.cause.contains("when deletion of node-b began"),
        "{}",
        finding.claim.cause
    );
    assert!(
        finding.claim.cause.contains("nodes here run 1.31"),
        "{}",
        finding.claim.cause
    );
    assert!(
        finding.claim.remedy.contains("node-d will lose its routes"),
        "{}",
        finding.claim.remedy
    );
}

#[test]
fn a_node_that_is_being_deleted_alone_is_no_overlap() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.nodes.get_mut("node-b").expect("it is there").deleting = true;
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
}
