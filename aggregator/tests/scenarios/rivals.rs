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
