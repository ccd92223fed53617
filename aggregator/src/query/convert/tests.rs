use std::net::IpAddr;

use cidrift_proto::{Malformed, v1};
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::cluster::ReportState;
use crate::query::answer::StatusAnswer;
use crate::summary::{NodeSummary, PoolNode, PoolRange, PoolReport, PoolWitness, Status, Tally};

#[test]
fn health_that_is_not_known_here_is_unknown() {
    assert_eq!(health_from_wire(0), Health::Unknown);
    assert_eq!(health_from_wire(99), Health::Unknown);
    for health in [Health::Healthy, Health::Findings, Health::Unknown] {
        assert_eq!(health_from_wire(health_to_wire(health).into()), health);
    }
}

#[test]
fn an_answer_that_lacks_what_it_promises_is_an_error() {
    assert_eq!(
        status_from_wire(&v1::Status::default()),
        Err(Malformed::Missing("status.at"))
    );
    assert_eq!(
        detail_from_wire(&v1::NodeDetail::default()),
        Err(Malformed::Missing("node.summary"))
    );
    assert!(matches!(
        summary_from_wire(&v1::NodeSummary::default()),
        Err(Malformed::UnknownValue { .. })
    ));
    let pool = v1::Pool {
        ranges: vec![v1::PoolRange::default()],
        ..Default::default()
    };
    assert_eq!(pool_from_wire(&pool), Err(Malformed::Missing("pool.range")));
}

#[test]
fn a_message_of_a_later_version_is_passed_over() {
    assert_eq!(event_from_wire(&v1::FindingEvent::default()), Ok(None));
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Health::Healthy), Just(Health::Findings), Just(Health::Unknown)]
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_i64, 0..1_000_000_000).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(a, l)| IpNet::new(IpAddr::from(a), l).unwrap().trunc()),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(a, l)| IpNet::new(IpAddr::from(a), l).unwrap().trunc()),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prefix().prop_map(|net| net.addr())
}

fn tally() -> impl Strategy<Value = Tally> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(delivered, broken, unknown)| Tally {
        delivered: delivered.into(),
        broken: broken.into(),
        unknown: unknown.into(),
    })
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-z]{1,8}", 0..3)
}

prop_compose! {
    fn status()(
        health in health(),
        control_plane_source in "[a-z]{0,8}",
        control_plane_problem in option::of("[a-z]{1,8}"),
        control_plane_at in option::of(time()),
        counts in any::<[u32; 7]>(),
        pairs in tally(),
        unknowns in words(),
        at in time(),
    ) -> Status {
        let [nodes, nodes_reporting, critical, errors, warnings, infos, pending] = counts;
        Status {
            health, control_plane_source, control_plane_problem, control_plane_at,
            nodes, nodes_reporting, critical, errors, warnings, infos, pending,
            pairs, unknowns, at,
        }
    }
}

prop_compose! {
    fn summary()(
        (name, uid, agent_version, plugin, ipam, model) in ("[a-z]{1,8}", "[a-z]{0,8}", "[0-9.]{0,5}", "[a-z]{0,8}", "[a-z]{0,8}", "[a-z]{0,8}"),
        (in_control_plane, ready, report_problem) in (any::<bool>(), any::<bool>(), "[a-z]{0,8}"),
        pod_cidrs in prop::collection::vec(prefix(), 0..3),
        internal_ips in prop::collection::vec(address(), 0..3),
        not_ready in "[a-zA-Z: ]{0,16}",
        report in prop_oneof![
            Just(ReportState::Live), Just(ReportState::Syncing), Just(ReportState::Silent), Just(ReportState::Never),
        ],
        last_report in option::of(time()),
        pairs in tally(),
        findings in words(),
        health in health(),
    ) -> NodeSummary {
        NodeSummary {
            name, uid, in_control_plane, ready, not_ready, pod_cidrs, internal_ips, report, report_problem,
            agent_version, last_report, pairs, findings, health, plugin, ipam, model,
        }
    }
}

prop_compose! {
    fn pool()(
        ranges in prop::collection::vec(
            (prefix(), "[a-z]{0,8}", any::<u8>(), any::<bool>(), any::<[u64; 6]>(), any::<[Option<u64>; 3]>()), 0..3,
        ),
        witnesses in prop::collection::vec(
            ("[a-z]{0,8}", prop::collection::vec(prefix(), 0..3), "[a-z]{0,8}", "[a-z]{0,8}"), 0..3,
        ),
        growth in "[a-z]{0,8}",
        nodes in prop::collection::vec(("[a-z]{1,8}", prefix(), any::<bool>(), words()), 0..3),
        unknown in option::of("[a-z]{1,8}"),
        service_ranges in prop::collection::vec(prefix(), 0..3),
    ) -> PoolReport {
        let known = !ranges.is_empty();
        let range = |(range, witness, node_mask, mask_stated, figures, perhaps): (_, _, _, _, [u64; 6], [_; 3])| {
            let [capacity, used, free, service, partial, left_over] = figures;
            let [leaked, headroom, full_in_days] = perhaps;
            PoolRange {
                range, witness, node_mask, mask_stated, capacity, used, free, service, partial, left_over,
                leaked, headroom, full_in_days,
            }
        };
        let witness = |(who, ranges, stance, why)| PoolWitness { who, ranges, stance, why };
        let node = |(node, cidr, in_pool, overlaps): (_, _, bool, _)| PoolNode {
            node, cidr, in_pool: known.then_some(in_pool), overlaps,
        };
        PoolReport {
            ranges: ranges.into_iter().map(range).collect(),
            nodes: nodes.into_iter().map(node).collect(),
            unknown,
            service_ranges,
            witnesses: witnesses.into_iter().map(witness).collect(),
            growth,
        }
    }
}

proptest! {
    #[test]
    fn the_wire_loses_nothing_of_a_status(status in status(), version in "[0-9.]{0,8}", warning in prop::option::of("[a-z]{1,8}")) {
        let answer = StatusAnswer { aggregator_version: version, identity_warning: warning, status };
        let wire = status_to_wire(&answer);
        prop_assert_eq!(status_from_wire(&wire), Ok(answer));
    }

    #[test]
    fn the_wire_loses_nothing_of_a_node(node in summary()) {
        prop_assert_eq!(summary_from_wire(&summary_to_wire(&node)), Ok(node));
    }

    #[test]
    fn the_wire_loses_nothing_of_the_pool(pool in pool()) {
        prop_assert_eq!(pool_from_wire(&pool_to_wire(&pool)), Ok(pool));
    }
}
