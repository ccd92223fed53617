//! POOL04: a pool that is full, by three witnesses.

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_aggregator::cluster::objects::{Resource, Watched};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{FindingState, Severity};
use jiff::SignedDuration;

use super::*;

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
