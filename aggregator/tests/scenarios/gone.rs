//! PATH03 and POOL12: what is left of nodes that are gone or were made again.

use std::collections::BTreeSet;

use cidrift_aggregator::cluster::PlaneEvent;
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, FindingState, Severity, Trigger};
use cidrift_proto::landing::{Discard, Landing};
use cidrift_proto::verdict::Verdict;

use crate::world::*;

#[test]
fn a_node_that_cannot_be_read_when_all_are_listed_stays_as_it_was_known() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let mut listed = world.nodes.clone();
    listed.remove("node-b");
    // One that was never known is not made up.
    let unread = ["node-b", "node-z"].map(str::to_owned).into();
    let event = PlaneEvent::Nodes(listed.clone(), unread);
    world.engine.plane_event(event, world.now);
    world.pass(SETTLE + HOLD);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
    let known = world.engine.read(|state| state.plane().nodes.len());
    assert_eq!(known, 2);
    let event = PlaneEvent::Nodes(listed, BTreeSet::new());
    world.engine.plane_event(event, world.now);
    assert_eq!(world.engine.read(|state| state.plane().nodes.len()), 1);
}

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

fn remove(world: &mut World, name: &str) {
    world.nodes.remove(name);
    world.hush(name);
    world.publish();
}

#[test]
fn a_route_of_a_removed_node_is_stale_until_it_is_deleted() {
    // C6: node-a's flannel was down when the node went.
    let mut world = World::healthy(Plane::Vxlan, THREE);
    remove(&mut world, "node-c");
    world.delta("node-b", vec![], &["10.244.3.0/24"]);
    assert_eq!(world.standing(), ["PATH03/node-a pending"]);
    world.pass(SETTLE);
    let finding = world.finding("PATH03/node-a");
    assert_eq!(
        (finding.state, finding.claim.severity),
        (FindingState::Open, Severity::Warning)
    );
    assert_eq!(finding.claim.affected[0].node.as_deref(), Some("node-c"));
    world.delta("node-a", vec![], &["10.244.3.0/24"]);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.resolved(), ["PATH03/node-a"]);
}

#[test]
fn a_route_that_hosts_remove_in_time_was_never_stale() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    remove(&mut world, "node-c");
    for name in ["node-a", "node-b"] {
        world.delta(name, vec![], &["10.244.3.0/24"]);
    }
    world.pass(SETTLE);
    let opened: Vec<_> = world
        .drain()
        .into_iter()
        .filter(|(_, state)| *state == FindingState::Open)
        .collect();
    assert_eq!(opened, []);
}

#[test]
fn a_route_in_the_pool_that_nobody_ever_owned_is_stale_too() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    world.delta("node-a", vec![world.route("10.244.77.0/24", "node-b")], &[]);
    let blackhole = Landing::Discard {
        how: Discard::Blackhole,
    };
    world.delta("node-b", vec![world.entry("10.244.78.0/24", blackhole)], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["PATH03/node-a open", "PATH03/node-b open"]);
}

#[test]
fn a_route_to_where_nodes_themselves_are_is_no_stale_one() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    world.delta("node-a", vec![world.route("10.244.77.0/24", "node-b")], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["PATH03/node-a open"]);
    let node = world.nodes.get_mut("node-c").expect("it is there");
    node.internal_ips.push(ip("10.244.77.9"));
    world.publish();
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    let history = world.engine.read(|state| state.history());
    let gone = history[0].resolution.clone().unwrap_or_default();
    assert!(gone.contains("Node node-c has 10.244.77.9 of it itself"), "{gone}");
}

#[test]
fn routes_that_are_not_for_the_pool_are_nobodys_business() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let bridge = Landing::Local {
        device: "docker0".to_owned(),
        carrier: true,
    };
    let entries = vec![
        world.route("192.168.7.0/24", "node-b"),
        world.route("10.0.0.0/8", "node-b"),
        world.entry("10.244.200.0/24", bridge),
    ];
    world.delta("node-a", entries, &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn no_route_is_called_stale_while_the_control_plane_cannot_be_read() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    world.problem = Some("connection refused".to_owned());
    world.publish();
    world.delta("node-a", vec![world.route("10.244.77.0/24", "node-b")], &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

/// node-c is deleted and made again with 10.244.9.0/24; its own host follows.
fn reborn(world: &mut World) {
    let node = world.assign("node-c", &["10.244.9.0/24"]);
    node.uid = "uid-node-c-2".to_owned();
    world.publish();
}

#[test]
fn a_reborn_node_is_told_until_nobody_routes_its_old_cidr() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    reborn(&mut world);
    for name in ["node-a", "node-b"] {
        world.delta(name, vec![world.route("10.244.9.0/24", "node-c")], &[]);
    }
    let bridge = Landing::Local {
        device: "cni0".to_owned(),
        carrier: true,
    };
    world.delta("node-c", vec![world.entry("10.244.9.0/24", bridge)], &["10.244.3.0/24"]);
    world.pass(SETTLE);
    assert_eq!(
        world.standing(),
        ["PATH03/node-a open", "PATH03/node-b open", "POOL12/node-c open"]
    );
    let finding = world.finding("POOL12/node-c");
    insta::assert_yaml_snapshot!("reborn", finding.claim);
    assert_eq!(world.finding("PATH03/node-a").explained_by, ["POOL12/node-c"]);
    world.delta("node-a", vec![], &["10.244.3.0/24"]);
    assert_eq!(world.finding("POOL12/node-c").claim.affected.len(), 1);
    world.delta("node-b", vec![], &["10.244.3.0/24"]);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn peers_that_keep_the_old_route_and_never_add_the_new_miss_it() {
    // flannel, when the delete and the create are coalesced into one update.
    let mut world = World::healthy(Plane::HostGw, THREE);
    reborn(&mut world);
    for name in THREE {
        world.delta(name, vec![], &[]);
    }
    world.pass(SETTLE);
    assert_eq!(world.finding("PATH01/node-a").explained_by, ["POOL12/node-c"]);
    assert_eq!(world.finding("PATH03/node-a").explained_by, ["POOL12/node-c"]);
}

#[test]
fn a_route_to_a_cidr_that_was_given_to_another_node_misdelivers() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    remove(&mut world, "node-c");
    world.add("node-d");
    world.assign("node-d", &["10.244.3.0/24"]);
    world.publish();
    world.connect("node-d");
    world.delta("node-b", vec![world.route("10.244.3.0/24", "node-d")], &[]);
    world.pass(SETTLE);
    assert_eq!(world.finding("PATH02/node-a").claim.trigger, Trigger::ControlPlane);
}

#[test]
fn a_node_whose_earlier_life_was_not_seen_is_not_called_reborn() {
    let mut world = World::bare(Plane::HostGw, pool());
    for name in ["node-a", "node-b"] {
        world.add(name);
    }
    world.nodes.get_mut("node-b").expect("it is there").uid = "uid-node-b-2".to_owned();
    world.publish();
    for name in ["node-a", "node-b"] {
        world.connect(name);
    }
    world.delta("node-a", vec![world.route("10.244.3.0/24", "node-b")], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["PATH03/node-a open"]);
}

#[test]
fn a_bridge_with_the_old_address_is_the_hosts_own_finding_and_not_told_twice() {
    // node-a was reborn; its cni0 still has 10.244.1.1/24, which is node-d's now.
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let node = world.assign("node-a", &["10.244.8.0/24"]);
    node.uid = "uid-node-a-2".to_owned();
    world.add("node-d");
    world.assign("node-d", &["10.244.1.0/24"]);
    world.publish();
    world.connect("node-d");
    let host02 = Claim {
        code: Code::Host02,
        subject: "somebody-else".to_owned(),
        severity: Severity::Error,
        nodes: vec!["somebody-else".to_owned()],
        summary: "cni0 has 10.244.1.1/24".to_owned(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: Vec::new(),
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger: Trigger::ControlPlane,
    };
    let view = vec![world.route("10.244.2.0/24", "node-b")];
    world.delta_with("node-a", view, vec![], None, Some(vec![host02]));
    world.delta(
        "node-b",
        vec![
            world.route("10.244.8.0/24", "node-a"),
            world.route("10.244.1.0/24", "node-d"),
        ],
        &[],
    );
    world.pass(SETTLE);
    let errors: Vec<String> = world
        .standing()
        .into_iter()
        .filter(|id| id.contains("node-a"))
        .collect();
    assert_eq!(
        errors,
        ["HOST02/node-a open"],
        "a host speaks for itself only, and once"
    );
    // Its agent finds it no more.
    let bridge = Landing::Local {
        device: "cni0".to_owned(),
        carrier: true,
    };
    let right = vec![
        world.entry("10.244.8.0/24", bridge),
        world.route("10.244.1.0/24", "node-d"),
    ];
    world.delta_with("node-a", right, vec![], None, Some(Vec::new()));
    world.pass(HOLD);
    assert_eq!(world.standing(), Vec::<String>::new());
}
