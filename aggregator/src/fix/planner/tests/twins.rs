//! Nodes that have the same addresses: which of them leave.

use cidrift_proto::catalogue::Code;

use super::super::super::plan::Method;
use super::{only, planned};
use crate::fix::fixture::{World, nets};

#[test]
fn of_twins_the_one_that_is_reached_stays() {
    for reached in ["n1", "n2"] {
        let mut world = World::of(4);
        world.node("n2").cidrs = nets(&["10.244.1.0/24"]);
        let address = if reached == "n1" { "172.30.0.1" } else { "172.30.0.2" };
        world.route("n3", "10.244.1.0/24", address);
        world.route("n4", "10.244.1.0/24", address);
        world.find(Code::Pool03, "10.244.1.0/24", &["n1", "n2"]);
        let plan = planned(&world);
        let other = if reached == "n1" { "n2" } else { "n1" };
        assert_eq!((only(&plan).node.as_str(), only(&plan).method), (other, Method::Swap));
        assert_ne!(only(&plan).to, nets(&["10.244.1.0/24"]));
    }
}

#[test]
fn of_three_twins_two_are_swapped_and_each_with_what_follows() {
    let mut world = World::of(4);
    for node in ["n2", "n3"] {
        world.node(node).cidrs = nets(&["10.244.1.0/24"]);
    }
    world.find(Code::Pool03, "10.244.1.0/24", &["n1", "n2", "n3"]);
    world.find(Code::Path02, "n4", &["n4", "n1"]).explained_by = vec!["POOL03/10.244.1.0/24".to_owned()];
    let plan = planned(&world);
    let swapped: Vec<_> = plan
        .nodes
        .iter()
        .map(|plan| (plan.node.as_str(), plan.method))
        .collect();
    assert_eq!(swapped, [("n2", Method::Swap), ("n3", Method::Swap)]);
    for plan in &plan.nodes {
        assert_eq!(plan.mends, ["POOL03/10.244.1.0/24", "PATH02/n4"]);
    }
    assert_ne!(plan.nodes[0].to, plan.nodes[1].to);
}

#[test]
fn no_more_nodes_leave_than_must() {
    let mut world = World::of(3);
    // n2's holds n1's and n3's, which do not touch each other.
    world.node("n2").cidrs = nets(&["10.244.0.0/22"]);
    for (name, packets) in [("n1", "172.30.0.1"), ("n3", "172.30.0.3")] {
        let cidr = world.node(name).cidrs[0].to_string();
        world.route("n2", &cidr, packets);
    }
    world.find(Code::Pool03, "10.244.0.0/22", &["n1", "n2", "n3"]);
    let plan = planned(&world);
    assert_eq!(
        (only(&plan).node.as_str(), &only(&plan).from),
        ("n2", &nets(&["10.244.0.0/22"]))
    );
}

#[test]
fn a_cidr_over_a_hosts_own_address_is_left_and_one_that_is_right_by_now_is_kept() {
    let mut world = World::of(2);
    world.node("n1").addresses = vec!["10.244.2.9".parse().unwrap()];
    world.find(Code::Pool03, "10.244.2.0/24", &["n2"]);
    let plan = planned(&world);
    assert_eq!((only(&plan).node.as_str(), only(&plan).method), ("n2", Method::Swap));
    assert_ne!(only(&plan).to, only(&plan).from);
    // The finding is older than the mend.
    let mut world = World::of(2);
    world.find(Code::Pool02, "n2", &["n2"]);
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    assert!(plan.by_hand[0].why.contains("nothing is seen to be wrong"), "{plan:#?}");
}

#[test]
fn a_host_interface_in_the_way_is_nothing_that_a_node_can_be_swapped_for() {
    let mut world = World::of(2);
    world.find(Code::Pool03, "n1", &["n1"]);
    let plan = planned(&world);
    assert!(plan.nodes.is_empty() && plan.by_hand.len() == 1, "{plan:#?}");
}
