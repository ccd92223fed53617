//! POOL01, POOL02 and POOL11: what kube-controller-manager does, will do, or has left undone.

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_aggregator::cluster::around::{AllocationEvents, Told};
use cidrift_aggregator::cluster::objects::{
    ClusterCidr, Manager, ManagerFlags, PoolMetric, RangeWitness, Resource, Watched,
};
use cidrift_proto::finding::{FindingState, Severity};

use cidrift_aggregator::summary::Health;

use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

/// The words of a kube-controller-manager 1.36 that met node-d.
const EXIT: &str = "E1123 10:00:00.000000 1 controllermanager.go:259] \"Error building controllers\" err=\"failed to mark \
                    cidr[10.200.4.0/24] at idx [0] as occupied for node: node-d: cidr 10.200.4.0/24 is out the range of \
                    cluster cidr 10.244.0.0/16\"";

fn manager(name: &str, ranges: &[&str]) -> Manager {
    Manager {
        name: format!("kube-system/kube-controller-manager-{name}"),
        node: Some(name.to_owned()),
        flags: ManagerFlags {
            allocate_node_cidrs: Some(true),
            cluster_cidr: ranges.iter().map(|range| net(range)).collect(),
            ..ManagerFlags::default()
        },
        ready: true,
        ..Manager::default()
    }
}

fn managers(world: &mut World, managers: impl IntoIterator<Item = Manager>) {
    world.around.managers = managers
        .into_iter()
        .map(|manager| (manager.name.clone(), manager))
        .collect();
    for resource in [Resource::ManagerPods, Resource::Events, Resource::Pods] {
        world.around.watches.insert(resource, Watched::Live(world.now));
    }
}

fn told(world: &World, reason: &str, name: &str) -> Told {
    Told {
        component: "cidrAllocator".to_owned(),
        message: format!("Node {name} status is now: {reason}"),
        count: 1,
        first: Some(world.now),
        last: Some(world.now),
    }
}

/// node-d joins without a CIDR, its CNI being flannel by its configuration.
fn without(world: &mut World) {
    world.add("node-d");
    world.assign("node-d", &[]);
}

fn cause(world: &mut World) -> String {
    world.publish();
    world.pass(SETTLE);
    let finding = world.finding("POOL01/node-d");
    assert_eq!(finding.state, FindingState::Open);
    finding.claim.cause.clone()
}

/// Ids that stand, of these codes.
fn of(world: &World, codes: &[&str]) -> Vec<String> {
    let ours = |id: &String| codes.iter().any(|code| id.starts_with(code));
    world.standing().into_iter().filter(ours).collect()
}

#[test]
fn a_crash_looping_allocator_is_named_with_the_node_that_makes_it_exit() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.200.4.0/24"]);
    world.add("node-e");
    world.assign("node-e", &[]);
    let mut down = manager("cp-1", &["10.244.0.0/16"]);
    (down.ready, down.waiting) = (false, Some("CrashLoopBackOff".to_owned()));
    down.last_exit = Some((1, EXIT.to_owned()));
    managers(&mut world, [down]);
    world.publish();
    world.pass(SETTLE);
    let latent = world.finding("POOL02/node-d");
    assert!(
        latent
            .claim
            .summary
            .ends_with("kube-controller-manager-cp-1 exits because of it"),
        "{}",
        latent.claim.summary
    );
    let quoted = |row: &cidrift_proto::finding::Evidence| row.text.contains("failed to mark cidr[10.200.4.0/24]");
    assert!(latent.claim.evidence.iter().any(quoted), "{:?}", latent.claim.evidence);
    let finding = world.finding("POOL01/node-e");
    assert!(
        finding.claim.cause.contains("because of the CIDR of node-d"),
        "{}",
        finding.claim.cause
    );
    assert_eq!(finding.explained_by, ["POOL02/node-d"]);
    insta::assert_yaml_snapshot!("crash_loop", latent.claim);
}

#[test]
fn an_exit_whose_words_nobody_kept_is_still_told_by_the_same_check() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.200.4.0/24"]);
    world.add("node-e");
    world.assign("node-e", &[]);
    let mut down = manager("cp-1", &["10.244.0.0/16"]);
    (down.ready, down.waiting) = (false, Some("CrashLoopBackOff".to_owned()));
    down.last_exit = Some((1, String::new()));
    managers(&mut world, [down]);
    world.publish();
    assert_eq!(world.finding("POOL01/node-e").explained_by, ["POOL02/node-d"]);
    let unseen = &world.finding("POOL02/node-d").claim.unseen;
    assert!(unseen.iter().any(|line| line.contains("--previous")), "{unseen:?}");
}

#[test]
fn an_allocator_that_is_down_for_another_reason_blames_no_node() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    without(&mut world);
    let mut down = manager("cp-1", &["10.244.0.0/16"]);
    (down.ready, down.last_exit) = (false, Some((255, "leaderelection lost".to_owned())));
    managers(&mut world, [down]);
    let cause = cause(&mut world);
    assert!(
        cause.contains("does not run") && !cause.contains("because of the CIDR"),
        "{cause}"
    );
    assert_eq!(of(&world, &["POOL02"]), Vec::<String>::new());
}

#[test]
fn flags_that_do_not_allocate_are_the_cause_and_no_latent_exit() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    without(&mut world);
    let mut off = manager("cp-1", &["10.100.0.0/16"]);
    off.flags.allocate_node_cidrs = None;
    managers(&mut world, [off]);
    assert_eq!(
        cause(&mut world),
        "kube-controller-manager runs without handing out node CIDRs: --allocate-node-cidrs is not given, which means false."
    );
    assert_eq!(
        of(&world, &["POOL02"]),
        Vec::<String>::new(),
        "it marks nothing at its start"
    );
}

#[test]
fn the_allocators_own_word_counts_only_for_this_life_of_the_node() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    let old = AllocationEvents {
        not_available: Some(told(&world, "CIDRNotAvailable", "node-d")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-d".to_owned(), old.clone());
    world.pass(SETTLE * 2);
    without(&mut world);
    let cause_of_old = cause(&mut world);
    assert!(!cause_of_old.contains("no CIDR is left"), "{cause_of_old}");
    let new = AllocationEvents {
        not_available: Some(told(&world, "CIDRNotAvailable", "node-d")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-d".to_owned(), new);
    assert!(cause(&mut world).contains("no CIDR is left"));
}

#[test]
fn an_assignment_that_failed_is_told_as_such_and_is_nothing_to_chase_once_there_is_a_cidr() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    without(&mut world);
    let failed = AllocationEvents {
        assignment_failed: Some(told(&world, "CIDRAssignmentFailed", "node-d")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-d".to_owned(), failed);
    assert!(cause(&mut world).contains("could not write it into the Node"));
    world.assign("node-d", &["10.244.4.0/24"]);
    world.publish();
    world.connect("node-d");
    world.pass(SETTLE);
    assert_eq!(of(&world, &["POOL01", "POOL11"]), ["POOL11/node-d open"]);
    assert_eq!(world.finding("POOL11/node-d").claim.severity, Severity::Info);
    world.around.allocation.clear();
    world.publish();
    assert_eq!(of(&world, &["POOL11"]), Vec::<String>::new());
}

#[test]
fn information_is_no_fault_of_the_cluster_or_of_a_node() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    let health = |world: &World| world.engine.read(|state| state.status(world.now)).health;
    let before = health(&world);
    let failed = AllocationEvents {
        assignment_failed: Some(told(&world, "CIDRAssignmentFailed", "node-c")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-c".to_owned(), failed);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["POOL11/node-c open"]);
    assert_eq!((health(&world), before), (Health::Healthy, Health::Healthy));
    let nodes = world.engine.read(|state| state.node_summaries(world.now));
    assert!(nodes.iter().all(|node| node.health == Health::Healthy), "{nodes:?}");
}

#[test]
fn cidr_not_available_that_a_cidr_followed_is_nothing_at_all() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    let events = AllocationEvents {
        not_available: Some(told(&world, "CIDRNotAvailable", "node-c")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-c".to_owned(), events);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn events_that_cannot_be_read_resolve_nothing() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    let events = AllocationEvents {
        assignment_failed: Some(told(&world, "CIDRAssignmentFailed", "node-c")),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-c".to_owned(), events);
    world.publish();
    world.pass(SETTLE);
    world.around.allocation.clear();
    world
        .around
        .watches
        .insert(Resource::Events, Watched::Broken("410 Gone".to_owned()));
    world.publish();
    assert_eq!(of(&world, &["POOL11"]), ["POOL11/node-c open stale"]);
}

#[test]
fn a_pool_full_in_one_family_gives_no_node_anything() {
    let dual = PoolConfig {
        ranges: vec![net("10.244.0.0/16"), net("fd00::/63")],
        mask_v6: Some(64),
        witness: "--cluster-cidr".to_owned(),
        ..PoolConfig::default()
    };
    let mut world = World::bare(Plane::Vxlan, dual);
    world.add("node-a");
    world.assign("node-a", &["10.244.1.0/24", "fd00::/64"]);
    world.add("node-b");
    world.assign("node-b", &["10.244.2.0/24", "fd00:0:0:1::/64"]);
    without(&mut world);
    assert!(cause(&mut world).starts_with("The pool is full: all 2 node CIDRs"));
}

#[test]
fn a_node_without_a_cidr_is_left_alone_while_it_is_being_deleted() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    without(&mut world);
    world.nodes.get_mut("node-d").expect("it is there").deleting = true;
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, &["POOL01"]), Vec::<String>::new());
}

#[test]
fn one_member_with_another_range_is_told_before_it_becomes_leader() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(
        &mut world,
        [manager("cp-1", &["10.244.0.0/16"]), manager("cp-2", &["10.100.0.0/16"])],
    );
    world.publish();
    world.pass(SETTLE);
    assert_eq!(
        of(&world, &["POOL02"]),
        ["POOL02/node-a open", "POOL02/node-b open", "POOL02/node-c open"]
    );
    let finding = world.finding("POOL02/node-a");
    assert_eq!(finding.claim.severity, Severity::Critical);
    insta::assert_yaml_snapshot!("one_member", finding.claim);
    managers(
        &mut world,
        [manager("cp-1", &["10.244.0.0/16"]), manager("cp-2", &["10.244.0.0/16"])],
    );
    world.publish();
    assert_eq!(of(&world, &["POOL02"]), Vec::<String>::new());
}

#[test]
fn kubeadms_plan_is_a_warning_while_the_flags_still_take_the_nodes() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    let plan = |range: &str| RangeWitness {
        resource: Resource::KubeadmConfig,
        what: "ConfigMap kube-system/kubeadm-config, networking.podSubnet".to_owned(),
        ranges: vec![net(range)],
        service_ranges: Vec::new(),
        mask_v4: None,
        mask_v6: None,
        odd: Vec::new(),
    };
    world
        .around
        .ranges
        .insert(Resource::KubeadmConfig, vec![plan("10.244.0.0/16")]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, &["POOL02"]), Vec::<String>::new());
    world
        .around
        .ranges
        .insert(Resource::KubeadmConfig, vec![plan("10.100.0.0/16")]);
    world.publish();
    let claim = &world.finding("POOL02/node-a").claim;
    assert_eq!(claim.severity, Severity::Warning);
    assert!(
        claim.cause.contains("next upgrade") || claim.cause.contains("upgrade"),
        "{}",
        claim.cause
    );
}

#[test]
fn flags_that_were_changed_while_it_runs_are_told_with_what_it_runs_with() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let changed = manager("cp-1", &["10.100.0.0/16"]);
    world.around.pool_metrics = vec![PoolMetric {
        manager: changed.name.clone(),
        range: net("10.244.0.0/16"),
        usage: Some(0.01),
        max: Some(256),
        read_at: world.now,
    }];
    managers(&mut world, [changed]);
    world.publish();
    let claim = &world.finding("POOL02/node-a").claim;
    let runs = |row: &cidrift_proto::finding::Evidence| row.text == "it runs with 10.244.0.0/16 until it is restarted";
    assert!(claim.evidence.iter().any(runs), "{:?}", claim.evidence);
}

#[test]
fn an_order_that_is_not_the_flags_order_makes_it_exit_too() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    world.add("node-a");
    world.assign("node-a", &["10.244.1.0/24", "fd00:0:0:1::/64"]);
    world.add("node-b");
    world.assign("node-b", &["fd00:0:0:2::/64", "10.244.2.0/24"]);
    world.add("node-c");
    world.assign("node-c", &["10.244.3.0/24"]);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16", "fd00::/56"])]);
    world.publish();
    assert_eq!(of(&world, &["POOL02"]), ["POOL02/node-b pending"]);
    let claim = &world.finding("POOL02/node-b").claim;
    assert!(claim.summary.contains("in another order"), "{}", claim.summary);
    assert!(claim.cause.contains("not by family"), "{}", claim.cause);
}

#[test]
fn a_cidr_that_contains_the_range_does_not_make_it_exit() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    world.add("node-a");
    world.assign("node-a", &["10.240.0.0/12"]);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    world.publish();
    let claim = &world.finding("POOL02/node-a").claim;
    assert_eq!(claim.severity, Severity::Error);
    assert!(claim.cause.contains("without a word"), "{}", claim.cause);
}

#[test]
fn pods_of_the_manager_that_cannot_be_read_any_more_resolve_nothing() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    world.add("node-a");
    world.assign("node-a", &["10.200.1.0/24"]);
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    world.publish();
    world.pass(SETTLE);
    world.around.managers.clear();
    world
        .around
        .watches
        .insert(Resource::ManagerPods, Watched::Refused("forbidden".to_owned()));
    world.publish();
    assert_eq!(of(&world, &["POOL02"]), ["POOL02/node-a open stale"]);
}

#[test]
fn until_its_pods_are_listed_nobody_elses_range_stands_in_for_its_flags() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    for name in THREE {
        world.add(name);
    }
    // kubeadm-config was never changed, and flannel has yet another range.
    for (resource, range) in [
        (Resource::KubeadmConfig, "10.100.0.0/16"),
        (Resource::FlannelConfig, "10.244.0.0/16"),
    ] {
        let witness = RangeWitness {
            resource,
            what: resource.to_string(),
            ranges: vec![net(range)],
            service_ranges: Vec::new(),
            mask_v4: None,
            mask_v6: None,
            odd: Vec::new(),
        };
        world.around.ranges.insert(resource, vec![witness]);
    }
    for resource in [Resource::ManagerPods, Resource::Pods, Resource::CniPods] {
        world.around.watches.insert(resource, Watched::Unlisted(None));
    }
    world.publish();
    for name in THREE {
        world.connect(name);
    }
    world.pass(SETTLE * 3);
    assert_eq!(world.standing(), Vec::<String>::new(), "450,000 pods take a while");
    // They may not be listed at all: then kubeadm's word is the best there is.
    let mut refused = world.around.clone();
    let listed = std::mem::take(&mut world.around);
    for resource in [Resource::ManagerPods, Resource::Pods, Resource::CniPods] {
        refused
            .watches
            .insert(resource, Watched::Refused("forbidden".to_owned()));
    }
    world.around = refused;
    world.publish();
    assert_eq!(
        of(&world, &["POOL02", "POOL10"]),
        [
            "POOL02/node-a pending",
            "POOL02/node-b pending",
            "POOL02/node-c pending",
            "POOL10/flannel pending"
        ]
    );
    world.around = listed;
    managers(&mut world, [manager("cp-1", &["10.244.0.0/16"])]);
    world.publish();
    assert_eq!(world.finding("POOL02/node-a").claim.severity, Severity::Warning);
    assert_eq!(of(&world, &["POOL10"]), ["POOL10/kubeadm-config pending"]);
}

#[test]
fn a_node_whose_cni_may_be_among_the_pods_to_come_is_not_said_to_lack_a_cidr() {
    let mut world = World::bare(Plane::Vxlan, pool());
    for name in THREE {
        world.add(name).flannel = None;
    }
    world.assign("node-c", &[]);
    world.around.watches.insert(Resource::CniPods, Watched::Unlisted(None));
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, &["POOL"]), Vec::<String>::new());
    world.around.watches.insert(Resource::CniPods, Watched::Live(world.now));
    world.publish();
    assert_eq!(of(&world, &["POOL"]), ["POOL01/node-c pending"]);
}

#[test]
fn node_ipam_controller_does_not_exit_at_a_node_outside_of_its_pools() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let mut delegates = cidrift_aggregator::cluster::objects::Delegates::default();
    delegates.cluster_cidrs.push(ClusterCidr {
        name: "default".to_owned(),
        per_node_host_bits: 8,
        v4: Some(net("10.100.0.0/16")),
        v6: None,
        selector: Vec::new(),
        deleting: false,
    });
    world.around.delegates = std::sync::Arc::new(delegates);
    let mut off = manager("cp-1", &["10.100.0.0/16"]);
    off.flags.allocate_node_cidrs = Some(false);
    managers(&mut world, [off]);
    world.publish();
    assert_eq!(of(&world, &["POOL02"]), Vec::<String>::new());
}

#[test]
fn another_allocator_that_wrote_the_peers_cidrs_is_named() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    for name in THREE {
        let node = world.nodes.get_mut(*name).expect("it is there");
        node.cidr_writers = vec!["gcp-cloud-controller-manager".to_owned()];
    }
    let mut off = manager("cp-1", &["10.244.0.0/16"]);
    off.flags.allocate_node_cidrs = Some(false);
    managers(&mut world, [off]);
    without(&mut world);
    assert!(cause(&mut world).starts_with("gcp-cloud-controller-manager wrote"));
}
