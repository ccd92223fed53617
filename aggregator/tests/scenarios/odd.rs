//! Node fields that cannot be read as they stand, and what is said of rules that are not judged.

use cidrift_aggregator::summary::Health;
use cidrift_proto::facts::Gap;

use crate::world::*;

fn unknowns(world: &World) -> Vec<String> {
    world.engine.read(|state| state.status(world.now)).unknowns
}

#[test]
fn a_route_for_a_cidr_that_a_node_may_have_meant_is_not_stale() {
    for odd in ["10.244.2.0/33", "10.244.2.0/", "nonsense"] {
        let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
        let node = world.nodes.get_mut("node-b").unwrap();
        node.pod_cidrs.clear();
        node.pod_cidrs_raw = vec![odd.to_owned()];
        world.publish();
        world.pass(SETTLE + HOLD);
        let stale: Vec<String> = world
            .standing()
            .into_iter()
            .filter(|id| id.contains("PATH03"))
            .collect();
        assert_eq!(stale, Vec::<String>::new(), "{odd}");
        let line = format!("node-b: spec.podCIDRs has {odd:?}, which is no prefix");
        assert!(unknowns(&world).contains(&line), "{:?}", unknowns(&world));
    }
}

#[test]
fn a_stale_route_elsewhere_is_found_while_a_node_cannot_be_read() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world
        .nodes
        .get_mut("node-b")
        .unwrap()
        .pod_cidrs_raw
        .push("10.244.9.0/33".to_owned());
    world.publish();
    world.delta("node-a", vec![world.route("10.244.77.0/24", "node-b")], &[]);
    world.delta("node-a", vec![world.route("10.244.9.0/24", "node-b")], &[]);
    world.pass(SETTLE + HOLD);
    let finding = world.finding("PATH03/node-a");
    let prefixes: Vec<_> = finding.claim.affected.iter().filter_map(|row| row.prefix).collect();
    assert_eq!(prefixes, [net("10.244.77.0/24")]);
}

#[test]
fn a_stale_route_is_not_over_because_a_node_cannot_be_read_any_more() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![world.route("10.244.77.0/24", "node-b")], &[]);
    world.pass(SETTLE + HOLD);
    assert_eq!(world.standing(), ["PATH03/node-a open"]);
    world
        .nodes
        .get_mut("node-b")
        .unwrap()
        .pod_cidrs_raw
        .push("10.244.77.0/33".to_owned());
    world.publish();
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH03/node-a open stale"]);
    // Its agent is live: what is missing is another thing, and that is said.
    let lines = unknowns(&world);
    let why = "it cannot be said whether it is still so: node-b may own 10.244.77.0/24";
    assert!(lines.iter().any(|line| line.contains(why)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("quiet")), "{lines:?}");
}

#[test]
fn host_bits_are_said_with_the_prefix_that_they_are_taken_for() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.nodes.get_mut("node-b").unwrap().pod_cidrs_raw = vec!["10.244.2.7/24".to_owned()];
    world.publish();
    assert!(
        unknowns(&world).contains(
            &"node-b: spec.podCIDRs has \"10.244.2.7/24\", which has host bits set; it is taken for 10.244.2.0/24"
                .to_owned()
        )
    );
    let health = |name: &str| {
        world
            .engine
            .read(|state| state.node(name, world.now))
            .unwrap()
            .summary
            .health
    };
    assert_eq!((health("node-a"), health("node-b")), (Health::Healthy, Health::Unknown));
}

#[test]
fn a_rule_that_could_not_be_applied_is_not_called_unreadable() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let mut told = world.facts["node-a"].clone();
    let gap = |what: &str, why: &str| Gap {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    told.gaps = vec![
        gap("HOST01", "Node node-a has no podCIDR"),
        gap("rules", "not permitted"),
    ];
    world.delta_with("node-a", vec![], vec![], Some(told), None);
    assert_eq!(
        unknowns(&world),
        [
            "node-a: HOST01 is not judged: Node node-a has no podCIDR",
            "node-a: rules cannot be read: not permitted"
        ]
    );
}

#[test]
fn a_part_that_goes_astray_is_named_and_not_the_whole() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b", "node-c"]);
    world.delta("node-a", vec![world.route("10.244.2.64/26", "node-c")], &[]);
    world.pass(HOLD);
    let summary = world.finding("PATH02/node-a").claim.summary.clone();
    assert!(
        summary.contains("for 10.244.2.64/26 (a part of 10.244.2.0/24 of node-b)"),
        "{summary}"
    );
}

#[test]
fn a_rule_that_leads_to_a_table_without_the_route_is_to_blame_and_not_the_cni() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    let mut entry = world.view("node-a")[0].clone();
    entry.prefix = cidr("node-b");
    let route = entry.route.as_mut().unwrap();
    route.table = 100;
    world.delta("node-a", vec![entry], &[]);
    world.pass(HOLD);
    let claim = world.finding("PATH01/node-a").claim.clone();
    assert!(
        claim.summary.contains("table 100, which has only 0.0.0.0/0"),
        "{}",
        claim.summary
    );
    assert!(claim.remedy.contains("ip rule show table 100"), "{}", claim.remedy);
    assert!(!claim.remedy.contains("restart"), "{}", claim.remedy);
}
