//! SEEN01, and what becomes of findings whose witness goes quiet.

use std::time::Duration;

use cidrift_aggregator::summary::Health;
use cidrift_proto::finding::FindingState;
use cidrift_proto::pace::BACK;
use cidrift_proto::verdict::Standing;

use crate::world::*;

/// The longest that an agent pauses, jitter and all.
const PAUSE: Duration = Duration::from_secs(15);

#[test]
fn a_node_without_an_agent_is_silent_and_unknown() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.hush("node-b");
    world.pass(SILENCE + HOLD * 2);
    assert_eq!(world.standing(), ["SEEN01/node-b open"]);
    assert_eq!(world.verdict("node-b", "node-a").standing(), Standing::Unknown);
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Delivered);
    world.connect("node-b");
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.resolved(), ["SEEN01/node-b"]);
}

#[test]
fn a_finding_is_not_resolved_by_its_witness_going_quiet() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    world.hush("node-a");
    world.pass(SILENCE + HOLD * 2);
    assert_eq!(
        world.standing(),
        [
            "PATH01/node-a open stale",
            "PATH07/node-a open stale",
            "SEEN01/node-a open"
        ]
    );
    world.connect("node-a");
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_finding_goes_with_its_node() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    world.hush("node-a");
    world.pass(SILENCE * 2);
    world.nodes.remove("node-a");
    world.publish();
    world.pass(HOLD);
    let standing: Vec<String> = world
        .standing()
        .into_iter()
        .filter(|id| id.contains("node-a"))
        .collect();
    assert_eq!(standing, Vec::<String>::new());
}

#[test]
fn a_finding_that_comes_back_is_the_next_episode() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    for episode in 1..=3 {
        world.delta("node-a", vec![], &["10.244.2.0/24"]);
        world.pass(HOLD);
        let finding = world.finding("PATH01/node-a");
        assert_eq!((finding.state, finding.episode), (FindingState::Open, episode));
        world.delta("node-a", vec![world.route("10.244.2.0/24", "node-b")], &[]);
    }
}

#[test]
fn looking_again_is_no_news() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    world.drain();
    world.publish();
    world.pass(SETTLE * 2);
    world.delta("node-a", vec![], &["10.244.77.0/24"]);
    assert_eq!(world.drain(), []);
}

#[test]
fn what_stood_is_taken_up_again_after_the_agent_restarts() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    let mut view = world.view("node-a");
    view.retain(|entry| entry.prefix != cidr("node-b"));
    world.connect_with("node-a", view);
    assert_eq!(world.standing(), ["PATH01/node-a open", "PATH07/node-a open"]);
    assert_eq!(world.finding("PATH01/node-a").episode, 1);
}

/// An engine as it starts, with these Nodes and an impatient `--settle`.
fn started(names: &[&str]) -> World {
    let mut world = World::impatient(Plane::Vxlan);
    for name in names {
        world.add(name);
    }
    world.publish();
    world
}

#[test]
fn an_agent_that_pauses_when_the_aggregator_starts_is_not_called_silent_and_one_that_never_comes_is() {
    let mut world = started(&["node-a", "node-b", "node-c"]);
    world.connect("node-a");
    world.pass(PAUSE);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Delivered);
    assert_eq!(world.verdict("node-b", "node-a").standing(), Standing::Unknown);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, Health::Unknown, "nobody knows of node-b yet");
    assert!(status.unknowns.contains(&"node-b: no agent reports".to_owned()));
    world.connect("node-b");
    world.pass(BACK - PAUSE - HOLD);
    assert_eq!(world.standing(), Vec::<String>::new());
    world.pass(HOLD * 3);
    assert_eq!(world.standing(), ["SEEN01/node-c open"]);
    // Later it is as ever.
    world.add("node-d");
    world.publish();
    world.pass(HOLD * 2);
    assert!(world.standing().contains(&"SEEN01/node-d open".to_owned()));
}

#[test]
fn an_agent_that_was_heard_and_goes_right_after_the_start_is_silent_in_its_time() {
    let mut world = started(&["node-a", "node-b"]);
    world.pass(HOLD);
    world.connect("node-a");
    world.connect("node-b");
    world.hush("node-b");
    world.pass(SILENCE + HOLD * 2);
    assert_eq!(world.standing(), ["SEEN01/node-b open"]);
}

#[test]
fn when_all_come_back_to_a_listener_that_was_down_none_is_called_silent_too_early() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b", "node-c"]);
    for name in ["node-a", "node-b", "node-c"] {
        world.hush(name);
    }
    world.pass(SILENCE - HOLD);
    // The listener is back; the last pauses are the longest.
    world.connect("node-a");
    world.pass(PAUSE);
    assert_eq!(world.standing(), Vec::<String>::new());
    world.connect("node-b");
    world.pass(BACK - PAUSE + HOLD * 2);
    assert_eq!(world.standing(), ["SEEN01/node-c open"]);
}

#[test]
fn when_all_have_gone_and_none_comes_back_all_are_silent() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.hush("node-a");
    world.hush("node-b");
    world.pass(BACK + HOLD * 2);
    assert_eq!(world.standing(), ["SEEN01/node-a open", "SEEN01/node-b open"]);
    // That the first is back does not mend the others.
    world.connect("node-a");
    assert_eq!(world.standing(), ["SEEN01/node-b open"]);
}
