//! POOL04 to POOL07, POOL09 and POOL10, each with the situations that look alike and must stay silent.

use std::sync::Arc;

use cidrift_aggregator::cluster::around::{AllocationEvents, Told};
use cidrift_aggregator::cluster::objects::{
    ClusterCidr, Delegates, Manager, ManagerFlags, PoolMetric, RangeWitness, Resource, Watched,
};
use cidrift_aggregator::cluster::{FlannelAnnotations, NodeRecord, PlaneEvent, PoolConfig};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{FindingState, Severity};
use jiff::{SignedDuration, Timestamp};

use crate::world::*;

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

#[test]
fn a_full_pool_with_a_node_that_waits_is_told_by_all_three_witnesses_and_explains_the_node() {
    let mut world = full();
    let now = world.now;
    not_available(&mut world, "n900", now);
    metric(&mut world, "10.244.0.0/22", 1.0, 4);
    settle(&mut world);
    let finding = world.finding("POOL04/ipv4");
    assert_eq!(
        (finding.state, finding.claim.severity),
        (FindingState::Open, Severity::Error)
    );
    insta::assert_yaml_snapshot!("exhausted", finding.claim);
    assert_eq!(world.finding("POOL01/n900").explained_by, ["POOL04/ipv4"]);
    // The Node of a dead machine goes, and the one that waits gets its block.
    world.nodes.remove("n003");
    node(&mut world, "n900", &["10.244.3.0/24"], 0);
    world.publish();
    assert_eq!(
        of(&world, Code::Pool04),
        ["POOL04/ipv4 open"],
        "it is full again, though nobody waits"
    );
    world.nodes.remove("n002");
    world.publish();
    assert_eq!(of(&world, Code::Pool04), Vec::<String>::new());
    let history = world.engine.read(|state| state.history());
    let resolved = history.iter().find(|finding| finding.id == "POOL04/ipv4");
    let why = resolved.and_then(|finding| finding.resolution.as_deref());
    assert_eq!(why, Some("file nodes.yaml: 1 block is free"));
}

#[test]
fn a_full_pool_where_nobody_waits_is_a_warning_unless_its_own_books_show_room() {
    let mut world = full();
    world.nodes.remove("n900");
    settle(&mut world);
    assert_eq!(world.finding("POOL04/ipv4").claim.severity, Severity::Warning);
    metric(&mut world, "10.244.0.0/22", 0.75, 4);
    world.publish();
    assert_eq!(of(&world, Code::Pool04), Vec::<String>::new());
    let silent = Watched::Broken("no answer within 20 s".to_owned());
    world.around.watches.insert(Resource::ManagerMetrics, silent);
    world.publish();
    assert_eq!(
        of(&world, Code::Pool04),
        ["POOL04/ipv4 pending"],
        "what its books showed once is no room now"
    );
}

#[test]
fn cidr_not_available_is_benign_where_the_cni_ignores_the_field() {
    let mut world = full();
    let now = world.now;
    not_available(&mut world, "n900", now);
    delegate(&mut world);
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool04), Vec::<String>::new());
    assert_eq!(of(&world, Code::Pool05), Vec::<String>::new());
}

#[test]
fn a_service_range_is_taken_out_only_where_kube_controller_manager_knows_it() {
    // Half of the pool is the service range by kubeadm's and the operator's word.
    let free = |own: Option<&[&str]>| {
        let mut world = World::bare(
            Plane::Vxlan,
            PoolConfig {
                service_ranges: vec![net("10.244.2.0/23")],
                ..pool_of(&["10.244.0.0/22"])
            },
        );
        nodes(&mut world, 0, 2, 100);
        if let Some(own) = own {
            let mut flags = allocating(&["10.244.0.0/22"]);
            flags.service_cidr = own.iter().map(|range| net(range)).collect();
            manager(&mut world, "kcm", flags);
        }
        settle(&mut world);
        let report = world.engine.read(|state| state.pool_report());
        assert_eq!(
            report.service_ranges,
            [net("10.244.2.0/23")],
            "overlaps with it are told whoever knows it"
        );
        report.ranges[0].free
    };
    assert_eq!(free(None), 0, "nobody can be asked");
    assert_eq!(free(Some(&["10.244.2.0/23"])), 0);
    assert_eq!(free(Some(&["10.244.3.0/24"])), 1);
    assert_eq!(free(Some(&[])), 2, "it gives out blocks of it");
}

#[test]
fn an_event_that_is_old_or_was_overtaken_is_no_evidence() {
    let with_event = |age: SignedDuration, success: Option<i64>, node_age: i64| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
        nodes(&mut world, 0, 20, 100);
        node(&mut world, "n900", &[], 0).created_at = Some(world.now - SignedDuration::from_secs(node_age));
        if let Some(seconds) = success {
            node(&mut world, "n901", &["10.244.99.0/24"], 0).created_at =
                Some(world.now - SignedDuration::from_secs(seconds));
        }
        let last = world.now - age;
        not_available(&mut world, "n900", last);
        settle(&mut world);
        of(&world, Code::Pool04)
    };
    let minute = SignedDuration::from_secs(60);
    assert_eq!(
        with_event(minute, None, 600),
        ["POOL04/ipv4 open"],
        "the control: a fresh one counts"
    );
    assert!(
        with_event(SignedDuration::from_hours(2), None, 90_000).is_empty(),
        "expired"
    );
    assert!(
        with_event(minute * 10, Some(60), 900).is_empty(),
        "another node got a CIDR since"
    );
    assert!(
        with_event(minute * 10, None, 60).is_empty(),
        "of a Node that had this name before"
    );
}

#[test]
fn an_event_against_the_arithmetic_is_told_as_such_and_does_not_end_by_expiring() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    nodes(&mut world, 0, 20, 100);
    node(&mut world, "n900", &[], 0);
    let now = world.now;
    not_available(&mut world, "n900", now);
    settle(&mut world);
    let finding = world.finding("POOL04/ipv4");
    assert!(
        finding.claim.cause.starts_with("By the Nodes there are free blocks"),
        "{}",
        finding.claim.cause
    );
    world.around.allocation.clear();
    world.publish();
    assert_eq!(of(&world, Code::Pool04), ["POOL04/ipv4 open stale"]);
    node(&mut world, "n900", &["10.244.77.0/24"], 0);
    world.publish();
    assert_eq!(of(&world, Code::Pool04), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL04/ipv4".to_owned()));
}

#[test]
fn blocks_that_leaked_are_seen_by_its_metrics_and_a_restart_returns_them() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/20"]));
    nodes(&mut world, 0, 10, 100);
    node(&mut world, "n900", &[], 0);
    metric(&mut world, "10.244.0.0/20", 1.0, 16);
    settle(&mut world);
    let finding = world.finding("POOL04/ipv4");
    assert!(
        finding.claim.cause.contains("counts 6 blocks as used that no Node has"),
        "{}",
        finding.claim.cause
    );
    let pool = world.engine.read(|state| state.pool_report());
    assert_eq!((pool.ranges[0].leaked, pool.ranges[0].free), (Some(6), 0));
}

#[test]
fn without_a_known_range_the_allocators_own_word_counts_and_nothing_else() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 4, 100);
    node(&mut world, "n900", &[], 0);
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool04), Vec::<String>::new());
    let now = world.now;
    not_available(&mut world, "n900", now);
    settle(&mut world);
    let finding = world.finding("POOL04/pool");
    assert_eq!(finding.claim.unseen, ["--cluster-cidr: how many blocks there are"]);
}

#[test]
fn a_control_plane_that_cannot_be_read_leaves_an_exhausted_pool_as_it_is() {
    let mut world = full();
    settle(&mut world);
    world.problem = Some("connection refused".to_owned());
    world.nodes.remove("n003");
    world.publish();
    world.pass(SETTLE);
    assert_eq!(world.finding("POOL04/ipv4").state, FindingState::Open);
}

#[test]
fn a_pool_that_grows_full_is_low_and_says_when() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    nodes(&mut world, 0, 150, 300);
    for (at, days) in (150..170).zip((1..=20).rev()) {
        nodes(&mut world, at, at + 1, days);
    }
    settle(&mut world);
    let finding = world.finding("POOL05/ipv4");
    assert_eq!(finding.claim.severity, Severity::Warning);
    assert_eq!(
        finding.claim.summary,
        "170 nodes have a CIDR of 10.244.0.0/16, and 86 more fit, and it is full in 129 days at the growth of the last month"
    );
    // A wider range that contains the present one ends it.
    let flags = ManagerFlags {
        cluster_cidr: vec![net("10.244.0.0/15")],
        ..allocating(&[])
    };
    let mut wider = World::bare(Plane::Vxlan, PoolConfig::default());
    wider.nodes = world.nodes.clone();
    manager(&mut wider, "kcm", allocating(&["10.244.0.0/16"]));
    settle(&mut wider);
    assert_eq!(of(&wider, Code::Pool05), ["POOL05/ipv4 open"]);
    manager(&mut wider, "kcm", flags);
    wider.publish();
    assert_eq!(of(&wider, Code::Pool05), Vec::<String>::new());
    assert!(wider.resolved().contains(&"POOL05/ipv4".to_owned()));
}

#[test]
fn room_is_not_low_where_nobody_will_need_it() {
    let low = |range: &str, count: usize, days: i64| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&[range]));
        nodes(&mut world, 0, count, days);
        settle(&mut world);
        let told = !of(&world, Code::Pool05).is_empty();
        told.then(|| world.finding("POOL05/ipv4").claim.severity)
    };
    assert_eq!(low("10.244.0.0/16", 3, 0), None, "a /16 with three nodes");
    assert_eq!(low("10.244.0.0/22", 3, 0), None, "a small cluster in a small pool");
    assert_eq!(low("10.244.0.0/16", 128, 5), None, "twice the present number fits");
    assert_eq!(
        low("10.244.0.0/16", 200, 100),
        None,
        "it has not grown for months, and upgrades fit"
    );
    assert_eq!(
        low("10.244.0.0/16", 250, 100),
        Some(Severity::Info),
        "upgrades do not fit"
    );
    assert_eq!(
        low("10.244.0.0/16", 200, 5),
        Some(Severity::Warning),
        "a young cluster may grow on"
    );
}

#[test]
fn room_for_as_many_again_is_low_where_it_is_full_within_ninety_days() {
    // 110 nodes, so many of which came in the last month, and 146 more that fit.
    let low = |new: usize| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
        nodes(&mut world, 0, 110 - new, 300);
        for at in 110 - new..110 {
            nodes(&mut world, at, at + 1, 1 + i64::try_from(at % 20).expect("small"));
        }
        settle(&mut world);
        let told = !of(&world, Code::Pool05).is_empty();
        told.then(|| world.finding("POOL05/ipv4").claim.clone())
    };
    let claim = low(55).expect("55 a month take 146 in 79 days");
    assert_eq!(claim.severity, Severity::Warning);
    assert!(
        claim.summary.contains("146 more fit, and it is full in 79 days"),
        "{}",
        claim.summary
    );
    assert!(claim.cause.contains("slower growth"), "{}", claim.cause);
    assert!(low(45).is_none(), "45 a month take them in 97");
}

#[test]
fn a_pool_that_is_out_of_sight_is_no_pool_with_room() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 200, 5);
    manager(&mut world, "kcm", allocating(&["10.244.0.0/16"]));
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool05), ["POOL05/ipv4 open"]);
    world.around.managers.clear();
    world
        .around
        .watches
        .insert(Resource::ManagerPods, Watched::Refused("forbidden".to_owned()));
    world.publish();
    assert_eq!(of(&world, Code::Pool05), ["POOL05/ipv4 open stale"]);
}

fn dual(world: &mut World, count: usize) {
    for n in 0..count {
        node(
            world,
            &format!("n{n:03}"),
            &[&format!("10.244.{n}.0/24"), &format!("fd00:0:0:{n}::/64")],
            50,
        );
    }
}

#[test]
fn a_node_of_one_family_in_a_dual_stack_cluster_is_told_until_it_is_swapped() {
    for ranges in [&["10.244.0.0/16", "fd00::/56"][..], &[]] {
        let mut world = World::bare(Plane::Vxlan, pool_of(ranges));
        dual(&mut world, 4);
        node(&mut world, "n900", &["10.244.90.0/24"], 1).internal_ips = vec![ip("172.30.0.90")];
        settle(&mut world);
        assert_eq!(of(&world, Code::Pool06), ["POOL06/n900 open"], "{ranges:?}");
        let claim = world.finding("POOL06/n900").claim.clone();
        assert_eq!(claim.severity, Severity::Error);
        assert_eq!(
            claim.summary,
            "n900 has 10.244.90.0/24 and no IPv6 pod CIDR, in a dual-stack cluster"
        );
        node(&mut world, "n900", &["10.244.90.0/24", "fd00:0:0:90::/64"], 0);
        world.publish();
        assert_eq!(of(&world, Code::Pool06), Vec::<String>::new());
        assert!(world.resolved().contains(&"POOL06/n900".to_owned()));
    }
}

#[test]
fn one_family_is_right_in_a_single_stack_cluster_and_where_the_cni_allocates() {
    let mut single = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    dual(&mut single, 1);
    nodes(&mut single, 10, 13, 50);
    settle(&mut single);
    assert_eq!(of(&single, Code::Pool06), Vec::<String>::new());
    let mut delegated = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/56"]));
    nodes(&mut delegated, 0, 3, 50);
    delegate(&mut delegated);
    settle(&mut delegated);
    assert_eq!(of(&delegated, Code::Pool06), Vec::<String>::new());
}

#[test]
fn a_missing_family_is_explained_by_its_exhausted_pool() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/62"]));
    dual(&mut world, 4);
    node(&mut world, "n900", &["10.244.90.0/24"], 1);
    settle(&mut world);
    assert_eq!(world.finding("POOL06/n900").explained_by, ["POOL04/ipv6"]);
}

#[test]
fn a_cluster_on_its_way_to_two_families_is_a_warning() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/56"]));
    dual(&mut world, 1);
    nodes(&mut world, 10, 13, 50);
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool06).len(), 3);
    assert_eq!(world.finding("POOL06/n010").claim.severity, Severity::Warning);
}

#[test]
fn a_mask_changed_on_a_living_cluster_names_who_has_the_old_one() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    node(&mut world, "n-old", &["10.244.1.0/26"], 200);
    node(&mut world, "n-wide", &["10.244.8.0/21"], 200);
    node(&mut world, "n-new", &["10.244.2.0/24"], 1);
    settle(&mut world);
    let claim = world.finding("POOL07/ipv4").claim.clone();
    assert_eq!(claim.severity, Severity::Info, "it costs room, and there is plenty");
    assert_eq!(claim.nodes, ["n-old", "n-wide"]);
    assert!(
        claim.cause.starts_with("The mask was changed on a living cluster"),
        "{}",
        claim.cause
    );
    let details: Vec<_> = claim.affected.iter().map(|row| row.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "/26 where /24 is asked for: it keeps a whole /24 from others",
            "/21 where /24 is asked for: it holds 8 blocks"
        ]
    );
    let range = world.engine.read(|state| state.pool_report()).ranges[0].clone();
    assert_eq!((range.used, range.partial, range.free), (10, 1, 246));
    // A second one in the same block: whichever goes first frees it under the other.
    node(&mut world, "n-old2", &["10.244.1.64/26"], 200);
    world.publish();
    assert_eq!(world.finding("POOL07/ipv4").claim.severity, Severity::Warning);
    for name in ["n-old", "n-old2", "n-wide"] {
        world.nodes.remove(name);
    }
    world.publish();
    assert_eq!(of(&world, Code::Pool07), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL07/ipv4".to_owned()));
}

#[test]
fn a_finding_with_many_rows_ends_at_the_price_of_one_look_at_all_nodes() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    for n in 0..2_000u32 {
        let cidr = format!("10.{}.{}.0/26", n / 256, n % 256);
        node(&mut world, &format!("n{n:04}"), &[&cidr], 100);
    }
    let mut publish = |mask: u8| {
        let mut flags = allocating(&["10.0.0.0/8"]);
        flags.mask_v4 = Some(mask);
        manager(&mut world, "kcm", flags);
        let begun = std::time::Instant::now();
        world.publish();
        (begun.elapsed(), of(&world, Code::Pool07).len())
    };
    // The best of some, since others use the machine too.
    let (mut changes, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        assert_eq!(publish(24).1, 1);
        let (change, stands) = publish(25);
        let (end, ended) = publish(26);
        assert_eq!((stands, ended), (1, 0));
        changes.push(change);
        ends.push(end);
    }
    let (change, end) = (changes.iter().min(), ends.iter().min());
    assert!(
        end < change.map(|change| *change * 2).as_ref(),
        "{end:?} for the end, {change:?} for a change"
    );
}

#[test]
fn many_masks_are_normal_on_gke_with_cluster_cidrs_and_where_nobody_states_one() {
    let masks = |change: &dyn Fn(&mut World)| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
        nodes(&mut world, 0, 3, 50);
        node(&mut world, "n-odd", &["10.244.9.0/26"], 50);
        change(&mut world);
        settle(&mut world);
        of(&world, Code::Pool07)
    };
    assert_eq!(masks(&|_| {}), ["POOL07/ipv4 open"], "the control");
    let gke = masks(&|world| {
        for node in world.nodes.values_mut() {
            node.labels
                .insert("cloud.google.com/gke-nodepool".to_owned(), "p".to_owned());
        }
    });
    assert!(gke.is_empty());
    assert!(masks(&delegate).is_empty());
    let mut objects = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut objects, 0, 3, 50);
    node(&mut objects, "n-odd", &["10.244.9.0/26"], 50);
    cluster_cidr(&mut objects, "10.244.0.0/16");
    settle(&mut objects);
    assert_eq!(of(&objects, Code::Pool07), Vec::<String>::new());
    let mut unstated = World::bare(Plane::Vxlan, pool());
    nodes(&mut unstated, 0, 3, 50);
    node(&mut unstated, "n-odd", &["10.244.9.0/26"], 50);
    settle(&mut unstated);
    assert_eq!(of(&unstated, Code::Pool07), Vec::<String>::new());
}

/// Nodes that kube-controller-manager gave their CIDRs, and one that waits.
fn switched_off() -> World {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut world, 0, 3, 50);
    for node in world.nodes.values_mut() {
        node.cidr_writers = vec!["kube-controller-manager".to_owned()];
    }
    node(&mut world, "n900", &[], 0);
    let off = ManagerFlags {
        allocate_node_cidrs: Some(false),
        ..allocating(&["10.244.0.0/16"])
    };
    manager(&mut world, "kcm", off);
    world
}

#[test]
fn an_allocator_that_is_off_is_told_until_its_flag_is_back() {
    let mut world = switched_off();
    settle(&mut world);
    let finding = world.finding("POOL09/kube-controller-manager");
    assert_eq!(finding.claim.severity, Severity::Error);
    insta::assert_yaml_snapshot!("allocator_off", finding.claim);
    assert_eq!(
        world.finding("POOL01/n900").explained_by,
        ["POOL09/kube-controller-manager"]
    );
    world.around.managers.clear();
    world.publish();
    assert_eq!(
        of(&world, Code::Pool09),
        ["POOL09/kube-controller-manager open stale"],
        "out of sight is not mended"
    );
    manager(&mut world, "kcm", allocating(&["10.244.0.0/16"]));
    world.publish();
    assert_eq!(of(&world, Code::Pool09), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL09/kube-controller-manager".to_owned()));
}

#[test]
fn an_allocator_that_is_off_before_anybody_waits_is_a_warning() {
    let mut world = switched_off();
    world.nodes.remove("n900");
    settle(&mut world);
    assert_eq!(
        world.finding("POOL09/kube-controller-manager").claim.severity,
        Severity::Warning
    );
    let mut one = switched_off();
    one.nodes.remove("n900");
    manager(&mut one, "kcm-2", allocating(&["10.244.0.0/16"]));
    settle(&mut one);
    let claim = one.finding("POOL09/kube-controller-manager").claim.clone();
    assert_eq!(
        claim.summary,
        "1 of 2 instances of kube-controller-manager do not allocate node CIDRs"
    );
}

#[test]
fn a_clouds_allocator_that_it_does_not_have_is_off_and_said_so() {
    let mut world = switched_off();
    let cloud = ManagerFlags {
        allocator_type: Some("CloudAllocator".to_owned()),
        ..allocating(&["10.244.0.0/16"])
    };
    manager(&mut world, "kcm", cloud);
    settle(&mut world);
    let claim = world.finding("POOL09/kube-controller-manager").claim.clone();
    assert!(
        claim.evidence[0]
            .text
            .starts_with("--cidr-allocator-type=CloudAllocator"),
        "{:?}",
        claim.evidence
    );
    assert!(claim.cause.contains("lost with 1.31"), "{}", claim.cause);
    let node = world.finding("POOL01/n900").claim.clone();
    for claim in [claim, node] {
        assert!(
            claim.remedy.contains("Take --cidr-allocator-type out")
                && !claim.remedy.contains("Set --allocate-node-cidrs"),
            "{}",
            claim.remedy
        );
    }
}

#[test]
fn a_node_made_by_hand_shows_no_other_allocator() {
    for writer in ["kubectl-create", "kubectl-cidrift", "velero", "Go-http-client"] {
        let mut world = switched_off();
        let made = node(&mut world, "n800", &["10.244.80.0/24"], 0);
        made.cidr_writers = vec![writer.to_owned()];
        settle(&mut world);
        assert_eq!(
            of(&world, Code::Pool09),
            ["POOL09/kube-controller-manager open"],
            "{writer}"
        );
    }
    // Nor does one that comes later end what is told.
    let mut world = switched_off();
    settle(&mut world);
    let made = node(&mut world, "n800", &["10.244.80.0/24"], 0);
    made.cidr_writers = vec!["kubectl-cidrift".to_owned()];
    world.publish();
    assert_eq!(of(&world, Code::Pool09), ["POOL09/kube-controller-manager open"]);
}

#[test]
fn an_allocator_may_be_off_where_another_allocates_or_none_is_needed() {
    let told = |change: &dyn Fn(&mut World)| {
        let mut world = switched_off();
        change(&mut world);
        settle(&mut world);
        of(&world, Code::Pool09)
    };
    assert_eq!(told(&|_| {}), ["POOL09/kube-controller-manager open"], "the control");
    assert!(
        told(&|world| cluster_cidr(world, "10.244.0.0/16")).is_empty(),
        "node-ipam-controller demands it"
    );
    assert!(told(&delegate).is_empty(), "the CNI allocates");
    assert!(
        told(&|world| world.around.managers.clear()).is_empty(),
        "a managed control plane, k3s"
    );
    assert!(
        told(&|world| says(world, Resource::AntreaConfig, "antrea-config", &["10.244.0.0/16"])).is_empty(),
        "Antrea's own node IPAM"
    );
    let by_hand = |world: &mut World| {
        world.nodes.remove("n900");
        for node in world.nodes.values_mut() {
            node.cidr_writers = vec!["cloud-controller-manager".to_owned()];
        }
    };
    assert!(told(&by_hand).is_empty(), "a cloud-controller-manager writes the field");
    let unseen = |world: &mut World| {
        world.nodes.remove("n900");
        for node in world.nodes.values_mut() {
            node.cidr_writers.clear();
        }
    };
    assert!(
        told(&unseen).is_empty(),
        "nobody waits, and who wrote the field is not known"
    );
}

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
