//! Two agents that report under one node's name.

use std::time::Duration;

use cidrift_aggregator::cluster::{HostEvent, ReportState};
use cidrift_aggregator::summary::Health;
use cidrift_proto::verdict::{Standing, Verdict};

use crate::world::*;

const WHO: &str = "two agents report for this node (instances 1, 2, from addresses 172.30.0.11, 172.30.0.12)";

#[test]
fn a_node_that_two_agents_speak_for_is_unknown_and_says_why_until_one_has_been_gone_for_a_minute() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    let rivals = HostEvent::Rivals {
        reason: WHO.to_owned(),
        until: world.now + Duration::from_secs(60),
    };
    world.engine.host_event("node-b", rivals, world.now);
    // The other host's view, whole, in which a route is missing.
    world.connect_with("node-b", vec![]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
    let Verdict::Unknown { reason } = world.verdict("node-b", "node-a") else {
        panic!("judged by a view that may be another host's")
    };
    assert_eq!(reason, WHO);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, Health::Unknown);
    assert!(
        status.unknowns.contains(&format!("node-b: {WHO}")),
        "{:?}",
        status.unknowns
    );
    let node = world.engine.read(|state| state.node("node-b", world.now)).unwrap();
    assert_eq!(
        (node.summary.report, node.summary.report_problem.as_str()),
        (ReportState::Syncing, WHO)
    );
    world.connect("node-b");
    world.pass(SETTLE + HOLD);
    assert_eq!(world.verdict("node-b", "node-a").standing(), Standing::Delivered);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, Health::Healthy, "{:?}", status.unknowns);
}

/// One of two agents takes the other's place, which `ingest` remembers for a minute.
fn takeover(world: &World) {
    let rivals = HostEvent::Rivals {
        reason: WHO.to_owned(),
        until: world.now + Duration::from_secs(60),
    };
    world.engine.host_event("node-b", rivals, world.now);
}

#[test]
fn an_old_pod_beside_the_new_one_of_a_rollout_is_no_finding() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    // For the whole of the old one's grace period, and once more much later.
    for _ in 0..4 {
        takeover(&world);
        world.pass(Duration::from_secs(10));
    }
    world.pass(Duration::from_secs(61));
    takeover(&world);
    world.pass(Duration::from_secs(61));
    assert_eq!((world.standing(), world.resolved()), (vec![], vec![]));
}

#[test]
fn agents_that_go_on_taking_each_others_place_are_found_and_it_is_over_a_minute_after_the_last_time() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    let since = world.now;
    for _ in 0..7 {
        takeover(&world);
        world.pass(Duration::from_secs(10));
    }
    assert_eq!(world.standing(), ["SEEN04/node-b open"]);
    let claim = world.finding("SEEN04/node-b").claim.clone();
    assert_eq!(claim.evidence[0].text, format!("{WHO}, in turn since {since}"));
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, Health::Findings);
    assert_eq!(world.verdict("node-b", "node-a").standing(), Standing::Unknown);
    world.pass(Duration::from_secs(49));
    assert_eq!(world.standing(), ["SEEN04/node-b open"]);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.resolved(), ["SEEN04/node-b"]);
    // It began anew.
    takeover(&world);
    world.pass(HOLD * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn it_is_over_too_when_both_of_them_have_gone_and_with_the_node() {
    for gone in [false, true] {
        let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
        for _ in 0..7 {
            takeover(&world);
            world.pass(Duration::from_secs(10));
        }
        world.hush("node-b");
        if gone {
            world.nodes.remove("node-b");
            world.publish();
        } else {
            world.pass(Duration::from_secs(61));
        }
        assert!(
            !world.standing().contains(&"SEEN04/node-b open".to_owned()),
            "{:?}",
            world.standing()
        );
    }
}

#[test]
fn an_agent_of_no_node_is_named_as_what_is_not_understood() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world
        .facts
        .insert("node-z".to_owned(), facts(Plane::Vxlan, "node-z", world.now));
    world.connect_with("node-z", vec![]);
    let unknowns = world.engine.read(|state| state.status(world.now)).unknowns;
    assert_eq!(
        unknowns,
        ["node-z: an agent reports under this name, but the control plane has no such Node"]
    );
    world.hush("node-z");
    assert_eq!(
        world.engine.read(|state| state.status(world.now)).health,
        Health::Healthy
    );
}
