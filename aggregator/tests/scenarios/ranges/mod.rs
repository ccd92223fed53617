//! POOL04 to POOL07, POOL09 and POOL10, each with the situations that look alike and must stay silent.

use std::sync::Arc;

use cidrift_aggregator::cluster::around::{AllocationEvents, Told};
use cidrift_aggregator::cluster::objects::{
    ClusterCidr, Delegates, Manager, ManagerFlags, PoolMetric, RangeWitness, Resource, Watched,
};
use cidrift_aggregator::cluster::{FlannelAnnotations, NodeRecord, PoolConfig};
use cidrift_proto::catalogue::Code;
use jiff::{SignedDuration, Timestamp};

use crate::world::*;

mod differ;
mod exhausted;
mod low;
mod off;
mod shapes;

fn of(world: &World, code: Code) -> Vec<String> {
    let standing = world.standing().into_iter();
    standing.filter(|id| id.starts_with(code.as_str())).collect()
}

fn pool_of(ranges: &[&str]) -> PoolConfig {
    PoolConfig {
        ranges: ranges.iter().map(|range| net(range)).collect(),
        witness: "--cluster-cidr".to_owned(),
        mask_v4: Some(24),
        mask_v6: Some(64),
        service_ranges: Vec::new(),
    }
}

/// A Node of a flannel cluster without an agent, so many days old.
fn node<'a>(world: &'a mut World, name: &str, cidrs: &[&str], days: i64) -> &'a mut NodeRecord {
    let record = NodeRecord {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        created_at: Some(world.now - SignedDuration::from_hours(24 * days)),
        ready: Some(true),
        flannel: Some(FlannelAnnotations {
            backend: "vxlan".to_owned(),
            public_ip: None,
            vtep_mac: None,
            vni: None,
        }),
        changed_at: world.now,
        ..NodeRecord::default()
    };
    world.nodes.insert(name.to_owned(), record);
    world.assign(name, cidrs)
}

/// So many Nodes of 10.244.0.0/16, all of them so many days old.
fn nodes(world: &mut World, from: usize, to: usize, days: i64) {
    for n in from..to {
        node(world, &format!("n{n:03}"), &[&format!("10.244.{n}.0/24")], days);
    }
}

fn delegate(world: &mut World) {
    for node in world.nodes.values_mut() {
        node.flannel = None;
        node.annotations
            .insert("ovn.kubernetes.io/allocated".to_owned(), "true".to_owned());
    }
}

fn cluster_cidr(world: &mut World, v4: &str) {
    let object = ClusterCidr {
        name: "default".to_owned(),
        per_node_host_bits: 8,
        v4: Some(net(v4)),
        v6: None,
        selector: Vec::new(),
        deleting: false,
    };
    world.around.delegates = Arc::new(Delegates {
        cluster_cidrs: vec![object],
        ..Delegates::default()
    });
}

fn not_available(world: &mut World, name: &str, last: Timestamp) {
    let told = Told {
        component: "cidrAllocator".to_owned(),
        message: format!("Node {name} status is now: CIDRNotAvailable"),
        count: 3,
        first: Some(last),
        last: Some(last),
    };
    let events = AllocationEvents {
        uid: name.to_owned(),
        not_available: Some(told),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert(name.to_owned(), events);
    world.around.watches.insert(Resource::Events, Watched::Live(world.now));
}

fn metric(world: &mut World, range: &str, usage: f64, max: u64) {
    world.around.pool_metrics = vec![PoolMetric {
        manager: "kube-controller-manager-cp-1".to_owned(),
        range: net(range),
        usage: Some(usage),
        max: Some(max),
        read_at: world.now,
    }];
    world
        .around
        .watches
        .insert(Resource::ManagerMetrics, Watched::Live(world.now));
}

fn manager(world: &mut World, name: &str, flags: ManagerFlags) {
    let manager = Manager {
        name: format!("kube-system/{name}"),
        flags,
        ready: true,
        ..Manager::default()
    };
    world.around.managers.insert(manager.name.clone(), manager);
    world
        .around
        .watches
        .insert(Resource::ManagerPods, Watched::Live(world.now));
}

fn allocating(ranges: &[&str]) -> ManagerFlags {
    ManagerFlags {
        allocate_node_cidrs: Some(true),
        cluster_cidr: ranges.iter().map(|range| net(range)).collect(),
        ..ManagerFlags::default()
    }
}

fn says(world: &mut World, resource: Resource, what: &str, ranges: &[&str]) {
    let witness = RangeWitness {
        resource,
        what: what.to_owned(),
        ranges: ranges.iter().map(|range| net(range)).collect(),
        service_ranges: Vec::new(),
        mask_v4: None,
        mask_v6: None,
        odd: Vec::new(),
    };
    world.around.ranges.insert(resource, vec![witness]);
    world.around.watches.insert(resource, Watched::Live(world.now));
}

/// Four blocks, four nodes, and a fifth that waits.
fn full() -> World {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/22"]));
    nodes(&mut world, 0, 4, 100);
    node(&mut world, "n900", &[], 0);
    world
}

fn settle(world: &mut World) {
    world.publish();
    world.pass(SETTLE + HOLD);
}
