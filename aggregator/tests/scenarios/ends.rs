//! What the far end's own host says of the way to it, and remedies that fit the layer that is off.

use cidrift_proto::facts::HostFacts;
use cidrift_proto::landing::{Discard, Landing, Via};
use cidrift_proto::verdict::{Standing, Verdict};

use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

/// Tells the engine that this node's host is now so.
fn change(world: &mut World, name: &str, change: impl FnOnce(&mut HostFacts)) {
    let mut facts = world.facts[name].clone();
    change(&mut facts);
    world.delta_with(name, vec![], vec![], Some(facts), None);
}

#[test]
fn nothing_is_called_delivered_to_a_host_whose_tunnel_is_down_or_gone() {
    for gone in [false, true] {
        let mut world = World::healthy(Plane::Vxlan, THREE);
        change(&mut world, "node-b", |facts| {
            facts.links[2].up = false;
            if gone {
                facts.links.truncate(2);
            }
        });
        world.delta("node-b", vec![], &["10.244.1.0/24", "10.244.3.0/24"]);
        world.pass(HOLD);
        assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Unknown);
        // node-a does not reach node-b, so it is not one-way.
        assert_eq!(world.standing(), ["PATH01/node-b open"]);

        let right = world.facts["node-b"].clone();
        world.delta_with("node-b", world.view("node-b"), vec![], Some(right), None);
        assert_eq!(world.standing(), Vec::<String>::new());
        assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
    }
}

#[test]
fn an_internal_ip_that_no_link_of_its_host_has_is_not_known_to_deliver() {
    for plane in [Plane::HostGw, Plane::Vxlan] {
        let mut world = World::healthy(plane, THREE);
        change(&mut world, "node-b", |facts| {
            facts.links[0].addresses = vec![net("172.30.0.99/24")];
        });
        world.pass(SETTLE);
        assert_eq!(world.standing(), Vec::<String>::new());
        assert_eq!(
            world.verdict("node-a", "node-b"),
            Verdict::Unknown {
                reason: "172.30.0.12 is node-b's InternalIP, but its agent sees it on no link of node-b".to_owned()
            }
        );
        let right = world.facts["node-b"].clone();
        change(&mut world, "node-b", |facts| *facts = right);
        assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
    }
}

#[test]
fn a_second_address_of_the_owner_delivers_as_well_as_its_internal_ip() {
    for plane in [Plane::HostGw, Plane::Vxlan] {
        let mut world = World::healthy(plane, THREE);
        change(&mut world, "node-b", |facts| {
            facts.links[0].addresses.push(net("172.30.0.112/24"));
        });
        let mut entry = world.route("10.244.2.0/24", "node-b");
        if let Landing::Underlay { address, .. } = &mut entry.landing {
            *address = ip("172.30.0.112");
        }
        world.delta("node-a", vec![entry], &[]);
        world.pass(SETTLE);
        assert_eq!(world.standing(), Vec::<String>::new());
        assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
    }
}

#[test]
fn a_neighbour_with_another_nodes_mac_is_mended_there_and_that_nodes_fdb_entry_left_alone() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let wrong = Landing::Underlay {
        address: address("node-c"),
        via: Via::Vxlan {
            device: "flannel.1".to_owned(),
            vni: 1,
            gateway: cidr("node-b").network(),
            lladdr: mac("node-c"),
        },
    };
    world.delta("node-a", vec![world.entry("10.244.2.0/24", wrong)], &[]);
    world.pass(HOLD);
    let remedy = world.finding("PATH06/node-a").claim.remedy.clone();
    assert!(!remedy.contains("bridge fdb"), "{remedy}");
    let right = "on node-a: ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent";
    assert!(remedy.ends_with(right), "{remedy}");
}

#[test]
fn a_rule_that_discards_is_not_mended_by_deleting_a_route() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let mut entry = world.entry(
        "10.244.2.0/24",
        Landing::Discard {
            how: Discard::Unreachable,
        },
    );
    entry.route = None;
    world.delta("node-a", vec![entry], &[]);
    world.pass(HOLD);
    let claim = world.finding("PATH04/node-a").claim.clone();
    assert!(claim.cause.starts_with("A policy rule"), "{}", claim.cause);
    assert!(claim.remedy.contains("find it with ip rule"), "{}", claim.remedy);
    assert!(!claim.remedy.contains("route del"), "{}", claim.remedy);
}

#[test]
fn what_leads_a_part_of_a_cidr_astray_is_taken_away_by_hand() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.delta("node-a", vec![world.route("10.244.2.64/26", "node-c")], &[]);
    world.pass(HOLD);
    assert_eq!(
        world.finding("PATH02/node-a").claim.remedy,
        "Once you know who set it, on node-a: ip route del 10.244.2.64/26"
    );

    let mut world = World::healthy(Plane::Vxlan, THREE);
    let own = Landing::Host {
        device: "cni0".to_owned(),
    };
    world.delta("node-a", vec![world.entry("10.244.2.9/32", own)], &[]);
    world.pass(HOLD);
    assert_eq!(
        world.finding("PATH02/node-a").claim.remedy,
        "10.244.2.9 is an address of node-a. Once you know who set it, on node-a: ip addr del 10.244.2.9/32 dev cni0"
    );
}
