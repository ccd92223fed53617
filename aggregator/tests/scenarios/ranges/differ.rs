//! POOL10: somebody names another range.

use cidrift_aggregator::cluster::objects::{Manager, PoolMetric, Resource, Watched};
use cidrift_aggregator::cluster::{PlaneEvent, PoolConfig};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Severity;
use jiff::{SignedDuration, Timestamp};

use super::*;

#[test]
fn flannels_network_that_does_not_hold_the_nodes_is_an_error_until_it_does() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    manager(&mut world, "kcm", allocating(&["10.244.0.0/16"]));
    says(
        &mut world,
        Resource::FlannelConfig,
        "ConfigMap kube-flannel/kube-flannel-cfg",
        &["10.42.0.0/16"],
    );
    settle(&mut world);
    let finding = world.finding("POOL10/flannel");
    assert_eq!(
        (finding.claim.severity, finding.claim.affected_total),
        (Severity::Error, 3)
    );
    insta::assert_yaml_snapshot!("disagree_flannel", finding.claim);
    world.around.ranges.clear();
    world
        .around
        .watches
        .insert(Resource::FlannelConfig, Watched::Refused("forbidden".to_owned()));
    world.publish();
    assert_eq!(of(&world, Code::Pool10), ["POOL10/flannel open stale"]);
    says(
        &mut world,
        Resource::FlannelConfig,
        "ConfigMap kube-flannel/kube-flannel-cfg",
        &["10.0.0.0/8"],
    );
    world.publish();
    assert_eq!(of(&world, Code::Pool10), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL10/flannel".to_owned()));
}

#[test]
fn an_instance_with_another_range_is_critical_before_it_leads() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    manager(&mut world, "kcm-1", allocating(&["10.244.0.0/16"]));
    manager(&mut world, "kcm-2", allocating(&["10.244.0.0/16"]));
    manager(&mut world, "kcm-3", allocating(&["10.100.0.0/16"]));
    settle(&mut world);
    let claim = world.finding("POOL10/kube-controller-manager").claim.clone();
    assert_eq!(claim.severity, Severity::Critical);
    assert!(
        claim
            .summary
            .starts_with("flags of kube-system/kcm-3 names 10.100.0.0/16"),
        "{}",
        claim.summary
    );
    assert!(
        claim.cause.contains("Every node's CIDR is inside 10.244.0.0/16"),
        "{}",
        claim.cause
    );
    manager(&mut world, "kcm-3", allocating(&["10.244.0.0/16"]));
    world.publish();
    assert_eq!(of(&world, Code::Pool10), Vec::<String>::new());
}

#[test]
fn metrics_of_an_instance_die_with_it_and_with_its_flags() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    let name = "kube-system/kcm".to_owned();
    let instance = |started: Timestamp, range: &str| Manager {
        name: "kube-system/kcm".to_owned(),
        flags: allocating(&[range]),
        ready: true,
        started_at: Some(started),
        ..Manager::default()
    };
    let read = |world: &World| {
        vec![PoolMetric {
            manager: name.clone(),
            range: net("10.244.0.0/16"),
            usage: Some(0.1),
            max: Some(256),
            read_at: world.now,
        }]
    };
    let tell = |world: &mut World, event: PlaneEvent| world.engine.plane_event(event, world.now);
    let managers = |instances: &[&Manager]| {
        let instances = instances
            .iter()
            .map(|instance| (instance.name.clone(), (*instance).clone()));
        PlaneEvent::Managers(instances.collect())
    };
    world.publish();
    let before = world.now - SignedDuration::from_hours(1);
    let first = instance(before, "10.244.0.0/16");
    tell(&mut world, managers(&[&first]));
    let metrics = read(&world);
    tell(&mut world, PlaneEvent::PoolMetrics(metrics));
    world.pass(SETTLE);
    let kept = |world: &World| world.engine.read(|state| state.plane().around.pool_metrics.len());
    assert_eq!(kept(&world), 1);
    // It is started again with a wider range: what it said before is not so any more.
    let second = instance(world.now, "10.240.0.0/12");
    tell(&mut world, managers(&[&second]));
    world.pass(SETTLE);
    assert_eq!(
        (of(&world, Code::Pool10), kept(&world)),
        (Vec::new(), 0),
        "it has been restarted"
    );
    let metrics = read(&world);
    tell(&mut world, PlaneEvent::PoolMetrics(metrics.clone()));
    assert_eq!(kept(&world), 1);
    let down = Manager { ready: false, ..second };
    tell(&mut world, managers(&[&down]));
    assert_eq!(kept(&world), 0, "it does not run");
    tell(&mut world, managers(&[]));
    tell(&mut world, PlaneEvent::PoolMetrics(metrics));
    assert_eq!(kept(&world), 0, "it is gone, and an answer on its way counts no more");
}

#[test]
fn a_witness_that_holds_every_node_is_left_alone() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    manager(&mut world, "kcm", allocating(&["10.100.0.0/16"]));
    says(
        &mut world,
        Resource::KubeadmConfig,
        "ConfigMap kube-system/kubeadm-config",
        &["10.244.0.0/16"],
    );
    settle(&mut world);
    let claim = world.finding("POOL10/kubeadm-config").claim.clone();
    assert!(claim.remedy.contains("Leave it as it is"), "{}", claim.remedy);
    assert!(
        claim.remedy.contains("10.100.0.0/16 back to 10.244.0.0/16"),
        "{}",
        claim.remedy
    );
}

#[test]
fn what_differs_by_right_is_no_contradiction() {
    let told = |resource, ranges: &[&str], change: &dyn Fn(&mut World)| {
        let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
        nodes(&mut world, 0, 3, 50);
        manager(&mut world, "kcm", allocating(&["10.244.0.0/16"]));
        says(&mut world, resource, "it", ranges);
        change(&mut world);
        settle(&mut world);
        of(&world, Code::Pool10)
    };
    assert_eq!(
        told(Resource::KubeProxyConfig, &["10.9.0.0/16"], &|_| {}),
        ["POOL10/kube-proxy open"],
        "the control"
    );
    assert!(
        told(Resource::KubeProxyConfig, &[], &|_| {}).is_empty(),
        "an empty clusterCIDR is legal"
    );
    assert!(
        told(Resource::KubeProxyConfig, &["10.0.0.0/8"], &|_| {}).is_empty(),
        "it holds the pool"
    );
    assert!(
        told(Resource::IpPools, &["192.168.0.0/16"], &|_| {}).is_empty(),
        "Calico's own pool"
    );
    assert!(
        told(Resource::CiliumConfig, &["10.0.0.0/8"], &|_| {}).is_empty(),
        "Cilium's own pool"
    );
    let left_behind = |world: &mut World| {
        for node in world.nodes.values_mut() {
            node.flannel = None;
        }
    };
    assert!(
        told(Resource::FlannelConfig, &["10.42.0.0/16"], &left_behind).is_empty(),
        "nobody uses flannel"
    );
    assert!(
        told(Resource::KubeProxyConfig, &["192.168.0.0/16"], &delegate).is_empty(),
        "the CNI allocates"
    );
    let objects = |world: &mut World| cluster_cidr(world, "10.64.0.0/12");
    assert!(
        told(Resource::KubeProxyConfig, &["10.9.0.0/16"], &objects).is_empty(),
        "ClusterCIDRs decide"
    );
}

#[test]
fn without_a_settled_pool_two_witnesses_are_held_against_each_other() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    says(
        &mut world,
        Resource::KubeProxyConfig,
        "ConfigMap kube-proxy",
        &["10.244.0.0/16"],
    );
    says(
        &mut world,
        Resource::FlannelConfig,
        "ConfigMap kube-flannel-cfg",
        &["10.42.0.0/16"],
    );
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool10), ["POOL10/flannel open"]);
    assert_eq!(
        world.finding("POOL10/flannel").claim.summary,
        "ConfigMap kube-flannel-cfg names 10.42.0.0/16, and ConfigMap kube-proxy names 10.244.0.0/16"
    );
}
