//! POOL12 by pods that are older than their Node, and POOL15.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::around::{NodePods, PodAddresses, PodRecord};
use cidrift_aggregator::cluster::objects::{Resource, Watched};
use jiff::Timestamp;

use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

/// A pod that got its sandbox as soon as it was made.
pub(crate) fn pod(name: &str, address: &str, since: Timestamp) -> PodRecord {
    PodRecord {
        name: format!("shop/{name}").into(),
        uid: format!("uid-{name}").into(),
        addresses: PodAddresses {
            v4: address.parse::<Ipv4Addr>().ok(),
            v6: None,
        },
        sandbox_since: since.as_second(),
        created: since.as_second(),
    }
}

pub(crate) fn pods(world: &mut World, node: &str, pods: Vec<PodRecord>) {
    world.around.pods.insert(node.to_owned(), Arc::new(NodePods { pods }));
    world.around.watches.insert(Resource::Pods, Watched::Live(world.now));
}

/// node-c is made again with 10.244.9.0/24, and its host and the others follow at once.
fn reborn(world: &mut World) {
    let now = world.now;
    let node = world.assign("node-c", &["10.244.9.0/24"]);
    (node.uid, node.created_at) = ("uid-node-c-2".to_owned(), Some(now));
    world.publish();
    for name in ["node-a", "node-b"] {
        world.delta(name, vec![world.route("10.244.9.0/24", "node-c")], &["10.244.3.0/24"]);
    }
    let bridge = cidrift_proto::landing::Landing::Local {
        device: "cni0".to_owned(),
        carrier: true,
    };
    world.delta("node-c", vec![world.entry("10.244.9.0/24", bridge)], &["10.244.3.0/24"]);
}

#[test]
fn pods_that_run_on_with_the_old_cidr_are_told_until_they_are_replaced() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let before = world.now;
    world.pass(SETTLE);
    pods(
        &mut world,
        "node-c",
        vec![pod("web", "10.244.3.7", before), pod("db", "10.244.3.8", before)],
    );
    reborn(&mut world);
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["POOL12/node-c open"]);
    let finding = world.finding("POOL12/node-c");
    insta::assert_yaml_snapshot!("outlived", finding.claim);
    // One is replaced, then the watch breaks, then it is whole again and so is the other.
    let now = world.now;
    pods(
        &mut world,
        "node-c",
        vec![pod("web", "10.244.3.7", before), pod("db-2", "10.244.9.8", now)],
    );
    world.publish();
    assert_eq!(world.finding("POOL12/node-c").claim.affected_total, 1);
    world.around.pods.clear();
    world
        .around
        .watches
        .insert(Resource::Pods, Watched::Broken("410 Gone".to_owned()));
    world.publish();
    assert_eq!(world.standing(), ["POOL12/node-c open stale"]);
    let now = world.now;
    pods(&mut world, "node-c", vec![pod("web-2", "10.244.9.7", now)]);
    world.publish();
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn after_a_restart_pods_older_than_their_node_still_show_it() {
    let mut world = World::bare(Plane::HostGw, pool());
    let before = world.now;
    world.now += Duration::from_secs(3_600);
    for name in THREE {
        world.add(name);
    }
    pods(&mut world, "node-c", vec![pod("web", "10.244.77.7", before)]);
    world.publish();
    for name in THREE {
        world.connect(name);
    }
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["POOL12/node-c open"]);
    let summary = &world.finding("POOL12/node-c").claim.summary;
    assert_eq!(
        summary,
        "node-c was made again with 10.244.3.0/24; 1 pod runs on with addresses that it does not have"
    );
}

#[test]
fn pods_that_are_younger_than_their_node_say_nothing_of_its_past() {
    // Their host's configuration is wrong: that is the agent's to say.
    let mut world = World::healthy(Plane::HostGw, THREE);
    let now = world.now;
    pods(&mut world, "node-c", vec![pod("web", "10.88.0.7", now)]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_node_that_came_back_with_its_cidr_kept_its_pods() {
    let mut world = World::bare(Plane::HostGw, pool());
    let before = world.now;
    world.now += Duration::from_secs(3_600);
    for name in THREE {
        world.add(name);
    }
    pods(&mut world, "node-c", vec![pod("web", "10.244.3.7", before)]);
    world.publish();
    for name in THREE {
        world.connect(name);
    }
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn old_pods_of_a_node_whose_cni_has_its_own_addresses_are_where_they_belong() {
    let mut world = World::bare(Plane::HostGw, pool());
    let before = world.now;
    world.now += Duration::from_secs(3_600);
    world.add("node-c").flannel = None;
    if let Some(facts) = world.facts.get_mut("node-c") {
        facts.cni.chosen = Some(config("calico", Some("calico-ipam")));
    }
    // Nothing is known of this one's CNI, and none of its pods shows that it uses the field.
    world.add("node-d").flannel = None;
    for name in ["node-c", "node-d"] {
        pods(&mut world, name, vec![pod("web", "192.168.7.7", before)]);
    }
    world.publish();
    world.connect("node-c");
    world.pass(SETTLE);
    let twelve: Vec<String> = world
        .standing()
        .into_iter()
        .filter(|id| id.starts_with("POOL12"))
        .collect();
    assert_eq!(twelve, Vec::<String>::new());
}

/// A Node lives for five minutes.
fn flap(world: &mut World, name: &str, life: usize) {
    world.add(name).uid = format!("uid-{name}-{life}");
    world.publish();
    world.pass(Duration::from_secs(290));
    world.publish();
    world.nodes.remove(name);
    world.publish();
    world.pass(Duration::from_secs(2));
}

fn churn(world: &World) -> Vec<String> {
    world
        .standing()
        .into_iter()
        .filter(|id| id.starts_with("POOL15"))
        .collect()
}

#[test]
fn nodes_that_are_deleted_and_register_again_and_again_are_churn_until_they_stay() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    for life in 0..4 {
        assert_eq!(churn(&world), Vec::<String>::new(), "life {life}");
        flap(&mut world, "node-d", life);
    }
    world.add("node-d").uid = "uid-node-d-last".to_owned();
    world.publish();
    world.pass(SETTLE);
    assert_eq!(churn(&world), ["POOL15/cluster open"]);
    let claim = &world.finding("POOL15/cluster").claim;
    assert!(
        claim
            .summary
            .starts_with("4 Nodes came and went within an hour, 4 of them again"),
        "{}",
        claim.summary
    );
    assert!(claim.cause.contains("under running kubelets"), "{}", claim.cause);
    // It ends by time alone, and not before half of that is forgotten.
    for _ in 0..45 {
        world.pass(Duration::from_secs(60));
        world.publish();
    }
    assert_eq!(churn(&world), ["POOL15/cluster open"]);
    for _ in 0..10 {
        world.pass(Duration::from_secs(60));
        world.publish();
    }
    assert_eq!(churn(&world), Vec::<String>::new());
}

#[test]
fn growth_a_rotation_and_spare_nodes_are_no_churn() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    for name in THREE {
        world.nodes.get_mut(*name).expect("it is there").created_at = Some(world.now - Duration::from_secs(90_000));
    }
    world.publish();
    // Every node is swapped at once, each under its own name.
    let now = world.now;
    for name in THREE {
        let node = world.nodes.get_mut(*name).expect("it is there");
        (node.uid, node.created_at) = (format!("uid-{name}-2"), Some(now));
    }
    world.publish();
    // A spare node is flapped by an autoscaler, under a new name each time.
    for name in ["node-d", "node-e", "node-f", "node-g", "node-h", "node-i"] {
        flap(&mut world, name, 1);
    }
    world.pass(SETTLE);
    assert_eq!(churn(&world), Vec::<String>::new());
}
