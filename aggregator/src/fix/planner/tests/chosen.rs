//! Which CIDR a node gets.

use std::net::Ipv4Addr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::landing::Landing;
use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use super::super::super::choose::{Chooser, Family, NoChoice};
use super::{kinds, only, outside, planned};
use crate::fix::fixture::{World, nets};
use crate::netmap::overlap;

#[test]
fn what_the_host_hands_out_of_already_is_taken_where_it_is_free() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    world.configured("n2", "10.244.77.0/24", None);
    // As a host with pods shows it: the bridge, what leads to it, its own address, a pod.
    world.bridge("n2", "10.244.77.1/24");
    let device = || "cni0".to_owned();
    let local = Landing::Local {
        device: device(),
        carrier: true,
    };
    world.lands("n2", "10.244.77.0/24", local);
    world.lands("n2", "10.244.77.1/32", Landing::Host { device: device() });
    world.pod("n2", "web", &["10.244.77.5"]);
    let plan = planned(&world);
    assert_eq!(only(&plan).to, nets(&["10.244.77.0/24"]));
    assert!(!kinds(only(&plan)).contains(&"by-hand"));
    // Not where somebody else has a part of it.
    world.pod("n1", "stray", &["10.244.77.9"]);
    assert_eq!(only(&planned(&world)).to, nets(&["10.244.255.0/24"]));
}

#[test]
fn what_a_host_without_a_node_shows_is_in_use() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    world.stray(255);
    assert_eq!(only(&planned(&world)).to, nets(&["10.244.254.0/24"]));
}

#[test]
fn a_block_is_free_only_where_nobody_at_all_has_a_part_of_it() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    // From the top: a pod without a node, a route that nobody owns, an interface, another's configuration, the services.
    world.pod("n1", "stray", &["10.244.255.9"]);
    world.route("n3", "10.244.254.0/24", "172.30.0.99");
    world.link("n1", "docker0", "10.244.253.1/26");
    world.configured("n3", "10.244.252.0/24", None);
    world.ground.pool.service_ranges = nets(&["10.244.248.0/22"]);
    world.node("n1").addresses = vec!["10.244.247.3".parse().unwrap()];
    let plan = planned(&world);
    assert_eq!(only(&plan).to, nets(&["10.244.246.0/24"]));
}

#[test]
fn two_nodes_are_not_given_the_same_block_and_come_one_after_the_other() {
    let mut world = World::of(3);
    for name in ["n2", "n3"] {
        outside(&mut world, name, "10.99.2.0/24");
    }
    let plan = planned(&world);
    let to: Vec<_> = plan.nodes.iter().flat_map(|node| node.to.clone()).collect();
    assert_eq!(to, nets(&["10.244.255.0/24", "10.244.254.0/24"]));
}

#[test]
fn a_full_pool_leaves_no_choice_and_says_so() {
    let mut world = World::of(3);
    world.ground.pool.ranges[0].range = "10.244.0.0/22".parse().unwrap();
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.pod("n1", "stray", &["10.244.0.9"]);
    world.pod("n1", "other", &["10.244.2.9"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    assert!(
        plan.by_hand[0].why.contains("no /24 of 10.244.0.0/22 is free"),
        "{plan:#?}"
    );
}

proptest! {
    /// Against the slow way: every block of the range, held against everything that is used.
    #[test]
    fn the_chosen_block_is_the_last_that_nobody_has(
        used in prop::collection::vec((any::<u16>(), 17_u8..=32), 0..40),
        times in 1_usize..4,
    ) {
        let mut world = World::of(1);
        world.ground.pool.ranges[0].range = "10.244.0.0/18".parse().unwrap();
        let mut all = nets(&["10.244.1.0/24", "172.30.0.1/32", "10.96.0.0/12"]);
        for (address, length) in used {
            let address = Ipv4Addr::from((10 << 24) + (244 << 16) + u32::from(address));
            let net = IpNet::new(address.into(), length).unwrap().trunc();
            world.route("n1", &net.to_string(), "172.30.0.99");
            // What is around the whole range is nobody's block.
            if !net.contains(&world.ground.pool.ranges[0].range) {
                all.push(net);
            }
        }
        let mut chooser = Chooser::new(&world.ground);
        for _ in 0..times {
            let blocks: Vec<Ipv4Net> = "10.244.0.0/18".parse::<Ipv4Net>().unwrap().subnets(24).unwrap().collect();
            let mut blocks = blocks.into_iter().rev().map(IpNet::V4);
            let free = blocks.find(|block| !all.iter().any(|net| overlap(net, block)));
            let chosen = chooser.give(Family::V4, "n9", &[]);
            match free {
                Some(block) => prop_assert_eq!(chosen, Ok(block)),
                None => prop_assert!(matches!(chosen, Err(NoChoice::Full { .. })), "{:?}", chosen),
            }
            all.extend(free);
        }
    }
}
