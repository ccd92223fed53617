//! kube-controller-manager as agents find it on their hosts: a further word on the pod range.

use cidrift_aggregator::cluster::objects::{Manager, ManagerFlags, Resource, Watched};
use cidrift_proto::facts::{HostFacts, ProgramFact, SettingFact};
use cidrift_proto::finding::Severity;

use crate::world::*;

const TWO: &[&str] = &["node-a", "node-b"];

fn with_manager(world: &World, name: &str, range: &str, allocates: &str) -> HostFacts {
    let setting = |name: &str, value: &str| SettingFact {
        name: name.to_owned(),
        value: value.to_owned(),
        source: "command line".to_owned(),
    };
    HostFacts {
        programs: vec![ProgramFact {
            name: "kube-controller-manager".to_owned(),
            embedded_in: Some("k3s".to_owned()),
            pid: Some(812),
            started_at: Some(world.now),
            settings: vec![
                setting("allocate-node-cidrs", allocates),
                setting("cluster-cidr", range),
            ],
            problem: None,
        }],
        ..facts(Plane::HostGw, name, world.now)
    }
}

fn tell(world: &mut World, facts: HostFacts) {
    world.delta_with("node-a", vec![], vec![], Some(facts), None);
}

fn standing(world: &World) -> Vec<String> {
    world
        .standing()
        .into_iter()
        .filter(|id| id.starts_with("POOL"))
        .collect()
}

#[test]
fn one_with_another_range_than_the_pool_contradicts_until_it_has_the_same() {
    let mut world = World::healthy(Plane::HostGw, TWO);
    let told = with_manager(&world, "node-a", "10.100.0.0/16", "true");
    tell(&mut world, told);
    world.pass(SETTLE);
    assert_eq!(standing(&world), ["POOL10/kcm-process open"]);
    let finding = world.finding("POOL10/kcm-process");
    assert_eq!(finding.claim.severity, Severity::Warning);
    let mut rows = finding.claim.evidence.iter();
    let row = rows.find(|row| row.source == "kube-controller-manager in k3s on node-a");
    assert!(
        row.is_some_and(|row| !row.stale && row.text == "10.100.0.0/16"),
        "{finding:?}"
    );

    let told = with_manager(&world, "node-a", "10.244.0.0/16", "true");
    tell(&mut world, told);
    world.pass(SETTLE);
    assert_eq!(standing(&world), Vec::<String>::new());
}

#[test]
fn an_instance_whose_pod_says_the_same_is_one_witness() {
    let mut world = World::healthy(Plane::HostGw, TWO);
    let instance = |range: &str| Manager {
        name: "kube-system/kube-controller-manager-node-a".to_owned(),
        node: Some("node-a".to_owned()),
        flags: ManagerFlags {
            allocate_node_cidrs: Some(true),
            cluster_cidr: vec![net(range)],
            ..ManagerFlags::default()
        },
        ready: true,
        ..Manager::default()
    };
    let place = |world: &mut World, range: &str| {
        let manager = instance(range);
        world.around.managers = [(manager.name.clone(), manager)].into();
        for resource in [Resource::ManagerPods, Resource::Events, Resource::Pods] {
            world.around.watches.insert(resource, Watched::Live(world.now));
        }
        world.publish();
    };
    place(&mut world, "10.100.0.0/16");
    let told = with_manager(&world, "node-a", "10.100.0.0/16", "true");
    tell(&mut world, told);
    world.pass(SETTLE);
    let words = standing(&world);
    assert!(
        !words.iter().any(|id| id.starts_with("POOL10/kcm-process")),
        "{words:?}"
    );
    // Its manifest is changed, and it has not restarted: the pod still says the old.
    let told = with_manager(&world, "node-a", "10.101.0.0/16", "true");
    tell(&mut world, told);
    world.pass(2 * SETTLE);
    let words = standing(&world);
    assert!(words.contains(&"POOL10/kcm-process open".to_owned()), "{words:?}");
}

#[test]
fn one_that_does_not_allocate_says_nothing_and_none_settles_the_pool() {
    let mut world = World::healthy(Plane::HostGw, TWO);
    let told = with_manager(&world, "node-a", "10.100.0.0/16", "false");
    tell(&mut world, told);
    world.pass(SETTLE);
    assert_eq!(standing(&world), Vec::<String>::new());

    // Where nobody else names a range, one host's word is no pool: nothing is said to lie outside it.
    let mut world = World::bare(Plane::HostGw, cidrift_aggregator::cluster::PoolConfig::default());
    for name in TWO {
        world.add(name);
    }
    world.publish();
    for name in TWO {
        world.connect(name);
    }
    let told = with_manager(&world, "node-a", "10.100.0.0/16", "true");
    tell(&mut world, told);
    world.pass(SETTLE);
    assert_eq!(standing(&world), Vec::<String>::new());
}
