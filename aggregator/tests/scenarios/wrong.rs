//! PATH02, PATH04, PATH05 and PATH07: routes that lead to the wrong place.

use cidrift_proto::finding::{FindingState, Trigger};
use cidrift_proto::landing::{Discard, Landing, Leg, Via};
use cidrift_proto::verdict::{Standing, Verdict};

use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

#[test]
fn a_route_to_the_wrong_host_misdelivers() {
    for plane in [Plane::HostGw, Plane::Vxlan] {
        let mut world = World::healthy(plane, THREE);
        world.delta("node-a", vec![world.route("10.244.3.0/24", "node-b")], &[]);
        world.pass(HOLD);
        assert_eq!(world.standing(), ["PATH02/node-a open", "PATH07/node-a open"]);
        let finding = world.finding("PATH02/node-a");
        assert_eq!(finding.claim.trigger, Trigger::Host);
        assert_eq!(
            finding.claim.summary,
            "packets of node-a for 10.244.3.0/24 of node-c go wrong: it sends them to node-b"
        );
        assert_eq!(
            world.verdict("node-a", "node-c"),
            Verdict::Misdelivered {
                to: "node-b".to_owned()
            }
        );
        world.delta("node-a", vec![world.route("10.244.3.0/24", "node-c")], &[]);
        assert_eq!(world.standing(), Vec::<String>::new());
    }
}

#[test]
fn a_gateway_that_is_no_nodes_address_any_more_leaves_the_cluster() {
    // C7: node-c got another InternalIP, peers still send to the old one.
    let mut world = World::healthy(Plane::HostGw, THREE);
    if let Some(node) = world.nodes.get_mut("node-c") {
        node.internal_ips = vec![ip("172.30.0.99")];
        node.flannel.as_mut().expect("flannel runs here").public_ip = Some(ip("172.30.0.99"));
    }
    let mut facts = world.facts["node-c"].clone();
    facts.links[0].addresses = vec![net("172.30.0.99/24")];
    world.delta_with("node-c", vec![], vec![], Some(facts), None);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.finding("PATH02/node-a").claim.trigger, Trigger::ControlPlane);
    assert_eq!(
        world.verdict("node-b", "node-c"),
        Verdict::LeavesCluster { to: address("node-c") }
    );
}

#[test]
fn a_router_between_segments_is_not_called_wrong() {
    let mut world = World::bare(Plane::HostGw, pool());
    for name in THREE {
        world.add(name).flannel = None;
    }
    if let Some(node) = world.nodes.get_mut("node-c") {
        node.internal_ips = vec![ip("172.31.0.13")];
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        let mut view = world.view(name);
        let router = Landing::Underlay {
            address: ip("172.30.0.1"),
            via: Via::Gateway {
                device: "eth0".to_owned(),
            },
        };
        view.retain(|entry| entry.prefix != cidr("node-c"));
        view.push(world.entry("10.244.3.0/24", router));
        world.connect_with(name, view);
    }
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), ["SEEN01/node-c open"]);
    assert_eq!(world.verdict("node-a", "node-c").standing(), Standing::Unknown);
}

#[test]
fn an_old_blackhole_inside_a_peers_cidr_drops_a_part_of_it() {
    // B9: node-c has 10.244.4.0/22 now, node-a kept the blackhole of its former /24.
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.add("node-c");
    world.assign("node-c", &["10.244.4.0/22"]);
    world.publish();
    world.connect("node-c");
    for name in ["node-a", "node-b"] {
        world.delta(name, vec![world.route("10.244.4.0/22", "node-c")], &[]);
    }
    let blackhole = Landing::Discard {
        how: Discard::Blackhole,
    };
    world.delta("node-a", vec![world.entry("10.244.5.0/24", blackhole)], &[]);
    world.pass(HOLD);
    let finding = world.finding("PATH04/node-a");
    assert_eq!(finding.claim.remedy, "On node-a: ip route del blackhole 10.244.5.0/24");
    let verdicts = world.engine.read(|state| state.verdicts_from("node-a"));
    let parts: Vec<String> = verdicts[2]
        .landings
        .iter()
        .map(|part| part.prefix.to_string())
        .collect();
    assert_eq!(parts, ["10.244.4.0/22", "10.244.5.0/24"]);
    world.delta("node-a", vec![], &["10.244.5.0/24"]);
    assert_eq!(world.resolved(), ["PATH07/node-a", "PATH04/node-a"]);
}

#[test]
fn a_blackhole_that_longer_routes_cover_wholly_does_no_harm() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let halves = ["10.244.2.0/25", "10.244.2.128/25"].map(|half| world.route(half, "node-b"));
    world.delta("node-a", halves.to_vec(), &[]);
    let blackhole = Landing::Discard {
        how: Discard::Blackhole,
    };
    world.delta("node-a", vec![world.entry("10.244.2.0/24", blackhole)], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
}

#[test]
fn a_neighbour_that_does_not_answer_is_a_blackhole_unless_its_node_is_down() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let failed = Landing::UnresolvedNeighbour {
        device: "eth0".to_owned(),
        gateway: address("node-b"),
        reason: "it does not answer (FAILED)".to_owned(),
    };
    world.delta("node-a", vec![world.entry("10.244.2.0/24", failed.clone())], &[]);
    world.pass(HOLD);
    assert_eq!(world.finding("PATH04/node-a").state, FindingState::Open);

    // The node turns out to be down: nothing shows that the route got right, so it stays, as stale.
    world.nodes.get_mut("node-b").expect("it is there").ready = Some(false);
    world.publish();
    assert!(world.finding("PATH04/node-a").stale);
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Unknown);
    world.nodes.remove("node-b");
    world.hush("node-b");
    world.publish();
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.delta("node-c", vec![], &["10.244.2.0/24"]);
    assert_eq!(world.standing(), Vec::<String>::new());

    let mut world = World::healthy(Plane::HostGw, THREE);
    world.nodes.get_mut("node-b").expect("it is there").ready = Some(false);
    world.publish();
    world.delta("node-a", vec![world.entry("10.244.2.0/24", failed)], &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn one_bad_leg_of_a_multipath_route_is_enough() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let leg = |peer: &str| Leg {
        weight: 1,
        landing: world.route("10.244.2.0/24", peer).landing,
    };
    let legs = vec![leg("node-b"), leg("node-c")];
    world.delta(
        "node-a",
        vec![world.entry("10.244.2.0/24", Landing::Multipath { legs })],
        &[],
    );
    world.pass(HOLD);
    assert_eq!(
        world.verdict("node-a", "node-b"),
        Verdict::Misdelivered {
            to: "node-c".to_owned()
        }
    );
    assert_eq!(world.finding("PATH02/node-a").state, FindingState::Open);
}

#[test]
fn two_nodes_that_pass_packets_to_each_other_are_a_loop_and_nothing_else() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    world.delta("node-a", vec![world.route("10.244.3.0/24", "node-b")], &[]);
    world.delta("node-b", vec![world.route("10.244.3.0/24", "node-a")], &[]);
    world.pass(HOLD);
    assert_eq!(
        world.standing(),
        [
            "PATH05/node-a open",
            "PATH05/node-b open",
            "PATH07/node-a open",
            "PATH07/node-b open"
        ]
    );
    assert_eq!(
        world.verdict("node-a", "node-c"),
        Verdict::Loop {
            reason: "node-a → node-b → node-a".to_owned()
        }
    );
    // One half mended: the other is misdelivered, to a node that passes it on rightly.
    world.delta("node-b", vec![world.route("10.244.3.0/24", "node-c")], &[]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH02/node-a open", "PATH07/node-a open"]);
}

#[test]
fn a_decision_outside_the_fib_is_never_healthy_and_never_a_fault() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let opaque = Landing::Opaque {
        device: Some("wg0".to_owned()),
        reason: "WireGuard's peers decide".to_owned(),
    };
    world.delta("node-a", vec![world.entry("10.244.2.0/24", opaque)], &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, cidrift_aggregator::summary::Health::Unknown);
    assert!(status.unknowns[0].contains("WireGuard"), "{:?}", status.unknowns);
}

#[test]
fn both_ways_broken_is_not_one_way() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    world.delta("node-b", vec![], &["10.244.1.0/24"]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH01/node-a open", "PATH01/node-b open"]);
}
