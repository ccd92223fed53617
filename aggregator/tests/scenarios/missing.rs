//! PATH01: routes that are missing, and those that only seem to be.

use cidrift_proto::finding::{FindingState, Severity};
use cidrift_proto::verdict::{Standing, Verdict};

use crate::world::*;

#[test]
fn a_healthy_cluster_delivers_everywhere() {
    for plane in [Plane::Vxlan, Plane::HostGw] {
        let world = World::healthy(plane, &["node-a", "node-b", "node-c"]);
        let status = world.engine.read(|state| state.status(world.now));
        assert_eq!(status.pairs.delivered, 9);
        assert_eq!(status.unknowns, Vec::<String>::new());
        assert_eq!(status.health, cidrift_aggregator::summary::Health::Healthy);
        assert_eq!(world.verdict("node-a", "node-a"), Verdict::Local);
        assert_eq!(world.verdict("node-a", "node-b"), Verdict::Delivered);
    }
}

#[test]
fn a_deleted_route_is_missing_at_once_and_counts_after_the_hold() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b", "node-c"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    assert_eq!(
        world.drain(),
        [
            ("PATH01/node-a".to_owned(), FindingState::Pending),
            ("PATH07/node-a".to_owned(), FindingState::Pending)
        ]
    );
    assert!(matches!(world.verdict("node-a", "node-b"), Verdict::NoRoute { .. }));
    world.pass(HOLD);
    let finding = world.finding("PATH01/node-a");
    assert_eq!(finding.state, FindingState::Open);
    assert_eq!(finding.claim.severity, Severity::Error);
    assert_eq!(finding.claim.nodes, ["node-a", "node-b"]);
    insta::assert_yaml_snapshot!("missing_route", finding.claim);
    assert_eq!(world.finding("PATH07/node-a").explained_by, ["PATH01/node-a"]);

    world.delta("node-a", vec![world.route("10.244.2.0/24", "node-b")], &[]);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.resolved(), ["PATH07/node-a", "PATH01/node-a"]);
    let resolved = world.engine.read(|state| state.history());
    assert!(
        resolved[1]
            .resolution
            .as_deref()
            .is_some_and(|text| text.contains("flannel.1"))
    );
}

#[test]
fn a_route_that_is_back_within_the_hold_never_counted() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.delta("node-a", vec![world.route("10.244.2.0/24", "node-b")], &[]);
    world.pass(SETTLE);
    let told = world.drain();
    assert_eq!(
        told.last(),
        Some(&("PATH07/node-a".to_owned(), FindingState::Withdrawn))
    );
    assert_eq!(world.resolved(), Vec::<String>::new());
}

#[test]
fn a_new_node_has_the_settle_time_to_be_routed() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.add("node-c");
    world.publish();
    world.connect("node-c");
    world.delta("node-a", vec![], &[]);
    world.pass(SETTLE - HOLD);
    assert_eq!(
        world
            .drain()
            .iter()
            .filter(|(_, state)| *state == FindingState::Open)
            .count(),
        0
    );
    world.delta("node-a", vec![world.route("10.244.3.0/24", "node-c")], &[]);
    world.delta("node-b", vec![world.route("10.244.3.0/24", "node-c")], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_new_node_that_is_never_routed_is_missing() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.add("node-c");
    world.publish();
    world.connect("node-c");
    world.delta("node-a", vec![world.route("10.244.3.0/24", "node-c")], &[]);
    world.delta("node-b", vec![], &[]);
    world.pass(SETTLE);
    assert_eq!(world.finding("PATH01/node-b").state, FindingState::Open);
}

#[test]
fn what_is_only_pending_does_not_join_what_counts() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    world.add("node-c");
    world.publish();
    world.delta("node-a", vec![], &[]);
    let rows = |world: &World| world.finding("PATH01/node-a").claim.affected.len();
    assert_eq!(rows(&world), 1, "node-c is new: its route may be on its way");
    world.pass(SETTLE);
    assert_eq!(rows(&world), 2);
}

#[test]
fn a_node_that_flannel_has_not_registered_is_not_missing() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.add("node-c").flannel = None;
    world.publish();
    world.connect("node-c");
    for name in ["node-a", "node-b"] {
        world.delta(name, vec![], &[]);
    }
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-c").standing(), Standing::Unknown);
}

#[test]
fn nothing_is_missing_where_the_cloud_routes() {
    // GKE: one default route, per-pod routes, no route to any peer on any node.
    let mut world = World::bare(Plane::HostGw, pool());
    for name in ["node-a", "node-b"] {
        world.add(name).flannel = None;
        if let Some(facts) = world.facts.get_mut(name) {
            facts.cni.chosen = Some(config("ptp", Some("host-local")));
        }
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        let view = world.view(name);
        world.connect_with(name, vec![view[0].clone()]);
    }
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(
        status.health,
        cidrift_aggregator::summary::Health::Unknown,
        "not seen is not healthy"
    );
}

#[test]
fn nothing_is_missing_where_calico_allocates() {
    // C10: calico-ipam ignores spec.podCIDR; its blocks and blackholes are its own business.
    let mut world = World::bare(Plane::HostGw, pool());
    for name in ["node-a", "node-b"] {
        world.add(name).flannel = None;
        if let Some(facts) = world.facts.get_mut(name) {
            facts.cni.chosen = Some(config("calico", Some("calico-ipam")));
        }
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        let mut view = vec![world.view(name)[0].clone()];
        let discard = cidrift_proto::landing::Landing::Discard {
            how: cidrift_proto::landing::Discard::Blackhole,
        };
        view.push(world.entry("10.244.66.128/26", discard));
        view.push(world.route("10.244.77.0/26", if name == "node-a" { "node-b" } else { "node-a" }));
        world.connect_with(name, view);
    }
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_node_that_is_not_ready_is_not_missed() {
    let mut world = World::healthy(Plane::HostGw, &["node-a", "node-b", "node-c"]);
    if let Some(node) = world.nodes.get_mut("node-b") {
        node.ready = Some(false);
    }
    world.publish();
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Unknown);
}

#[test]
fn a_gateway_data_plane_is_not_expected_to_route_to_another_segment() {
    let mut world = World::bare(Plane::HostGw, pool());
    for name in ["node-a", "node-b", "node-c"] {
        world.add(name).flannel = None;
    }
    if let Some(node) = world.nodes.get_mut("node-c") {
        node.internal_ips = vec![ip("172.31.0.13")];
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        let view = world
            .view(name)
            .into_iter()
            .filter(|entry| entry.prefix != cidr("node-c"))
            .collect();
        world.connect_with(name, view);
    }
    world.pass(SETTLE * 2);
    let standing = world.standing();
    assert_eq!(standing, ["SEEN01/node-c open"]);
    assert_eq!(world.verdict("node-a", "node-c").standing(), Standing::Unknown);
}

#[test]
fn a_cidr_that_the_agent_was_not_asked_about_is_not_missing() {
    let mut world = World::bare(Plane::HostGw, cidrift_aggregator::cluster::PoolConfig::default());
    for name in ["node-a", "node-b"] {
        world.add(name);
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        world.connect(name);
    }
    world.pass(SETTLE + HOLD);
    world.add("node-c");
    // The agents' views still are of the old expectation.
    world.publish();
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), ["SEEN01/node-c open"]);
    assert_eq!(
        world.verdict("node-a", "node-c"),
        Verdict::Unknown {
            reason: "its agent has not reported on this CIDR yet".to_owned()
        }
    );
}

/// As agents report where only single CIDRs are of interest: the default route, cut to them.
fn cut(world: &World, prefix: &str) -> cidrift_proto::landing::ForwardingEntry {
    let mut entry = world.view("node-a")[0].clone();
    entry.prefix = net(prefix);
    entry
}

#[test]
fn a_piece_of_the_default_route_is_no_route_of_its_own() {
    let mut world = World::bare(Plane::HostGw, cidrift_aggregator::cluster::PoolConfig::default());
    for name in ["node-a", "node-b", "node-c"] {
        world.add(name);
    }
    world.publish();
    for name in ["node-a", "node-b", "node-c"] {
        world.connect(name);
    }
    world.pass(SETTLE + HOLD);
    world.delta("node-a", vec![cut(&world, "10.244.2.0/24")], &[]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH01/node-a open", "PATH07/node-a open"]);
    assert_eq!(
        world.finding("PATH01/node-a").claim.affected[0].detail,
        "no route: falls to the default route, via 172.30.0.1 dev eth0"
    );
    // node-c goes; its CIDR stays of interest, and falls to the default route everywhere.
    world.nodes.remove("node-c");
    world.hush("node-c");
    world.publish();
    let entries = vec![cut(&world, "10.244.3.0/24"), world.route("10.244.2.0/24", "node-b")];
    world.delta("node-a", entries.clone(), &[]);
    world.delta("node-b", vec![cut(&world, "10.244.3.0/24")], &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_reborn_nodes_old_cidr_that_falls_to_the_default_route_is_not_routed() {
    let mut world = World::bare(Plane::HostGw, cidrift_aggregator::cluster::PoolConfig::default());
    for name in ["node-a", "node-b"] {
        world.add(name);
    }
    world.publish();
    for name in ["node-a", "node-b"] {
        world.connect(name);
    }
    world.pass(SETTLE + HOLD);
    world.assign("node-b", &["10.244.9.0/24"]).uid = "uid-node-b-2".to_owned();
    world.publish();
    let entries = vec![cut(&world, "10.244.2.0/24"), world.route("10.244.9.0/24", "node-b")];
    world.delta("node-a", entries, &[]);
    let own = world
        .view("node-b")
        .into_iter()
        .find(|entry| entry.prefix == net("10.244.9.0/24"));
    let entries = vec![cut(&world, "10.244.2.0/24"), own.expect("its own CIDR")];
    world.delta("node-b", entries, &[]);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn default_routes_do_not_show_that_routes_to_peers_are_programmed() {
    // AKS kubenet: nodes on one wide segment, pod CIDRs assigned, the cloud routes; no pool is known.
    let mut world = World::bare(Plane::HostGw, cidrift_aggregator::cluster::PoolConfig::default());
    let names = ["node-a", "node-b", "node-c"];
    for name in names {
        world.add(name).flannel = None;
        if let Some(facts) = world.facts.get_mut(name) {
            facts.cni.chosen = Some(config("bridge", Some("host-local")));
        }
    }
    world.publish();
    for name in names {
        let view = names.map(|peer| cut(&world, &cidr(peer).to_string())).to_vec();
        world.connect_with(name, view);
    }
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Unknown);
}

#[test]
fn a_node_without_pods_is_idle_and_its_cluster_healthy() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    // Before the first pod there is no bridge, and no route for the own CIDR.
    // Its tunnel's own address is there from the start.
    let tunnel = cidrift_proto::landing::Landing::Host {
        device: "flannel.1".to_owned(),
    };
    let own = vec![cut(&world, "10.244.1.0/24"), world.entry("10.244.1.0/32", tunnel)];
    world.delta("node-a", own, &[]);
    assert_eq!(world.verdict("node-a", "node-a"), Verdict::Idle);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, cidrift_aggregator::summary::Health::Healthy);
    assert_eq!((status.pairs.delivered, status.pairs.unknown), (3, 0));

    let dropped = cidrift_proto::landing::Landing::Discard {
        how: cidrift_proto::landing::Discard::Blackhole,
    };
    world.delta("node-a", vec![world.entry("10.244.1.0/24", dropped)], &[]);
    assert_eq!(world.verdict("node-a", "node-a").standing(), Standing::Unknown);
}

#[test]
fn what_is_pending_is_not_healthy() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.assign("node-b", &["10.99.2.0/24"]).uid = "uid-node-b-2".to_owned();
    world.publish();
    let status = world.engine.read(|state| state.status(world.now));
    assert!(status.pending > 0);
    assert_eq!(status.health, cidrift_aggregator::summary::Health::Unknown);
}

#[test]
fn pods_that_no_route_leads_to_are_not_healthy() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    // The bridge was deleted under its pods: their ports stay.
    let mut facts = world.facts["node-a"].clone();
    facts.links.retain(|link| link.name != "cni0");
    facts.links_omitted = 2;
    let own = vec![cut(&world, "10.244.1.0/24")];
    world.delta_with("node-a", own, Vec::new(), Some(facts), None);
    assert_eq!(world.verdict("node-a", "node-a").standing(), Standing::Unknown);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, cidrift_aggregator::summary::Health::Unknown);
}
