//! An agent that shows one node's token and names another.

use std::time::Duration;

use cidrift_aggregator::cluster::{RefusedReport, ReportState};
use cidrift_aggregator::summary::Health;
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::FindingState;

use crate::world::*;

fn attempt(named: &str) -> RefusedReport {
    RefusedReport {
        named: named.to_owned(),
        from: Some(ip("172.30.0.11")),
    }
}

#[test]
fn a_report_under_another_name_is_found_on_the_tokens_node_and_is_over_ten_minutes_after_the_last() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.engine.report_refused("node-a", attempt("node-b"), world.now);
    world.pass(HOLD);
    let findings = world.engine.read(|state| state.findings());
    let [finding] = &findings[..] else {
        panic!("{findings:#?}")
    };
    assert_eq!(
        (finding.id.as_str(), finding.claim.code, finding.state),
        ("SEEN03/node-a", Code::Seen03, FindingState::Open)
    );
    let evidence = &finding.claim.evidence[0];
    assert!(
        evidence.text.contains("from 172.30.0.11") && evidence.text.contains("in Hello that it is node-b"),
        "{evidence:?}"
    );
    assert_eq!(finding.claim.nodes, ["node-a"], "the node that was named did nothing");
    // Tried again, it is the same finding; and nobody was heard by it.
    for _ in 0..9 {
        world.pass(Duration::from_secs(60));
        world.engine.report_refused("node-a", attempt("node-b"), world.now);
    }
    world.pass(Duration::from_secs(599));
    let again = world.engine.read(|state| state.findings());
    assert_eq!((again.len(), again[0].episode), (1, 1));
    assert_eq!(again[0].claim.evidence[0].text, evidence.text);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.standing(), Vec::<String>::new());
    let over = world.engine.read(|state| state.history());
    assert!(
        over[0].resolution.as_ref().unwrap().contains("10 minutes"),
        "{:?}",
        over[0].resolution
    );
}

#[test]
fn a_refused_report_is_no_sign_of_life_of_either_node() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.hush("node-a");
    for _ in 0..3 {
        world.engine.report_refused("node-a", attempt("node-b"), world.now);
        world.pass(Duration::from_secs(10));
    }
    let node = world.engine.read(|state| state.node("node-a", world.now)).unwrap();
    assert_eq!(node.summary.report, ReportState::Silent);
    assert_eq!(world.standing(), ["SEEN01/node-a open", "SEEN03/node-a open"]);
    let status = world.engine.read(|state| state.status(world.now));
    assert_eq!(status.health, Health::Findings);
}

#[test]
fn of_a_node_that_is_none_nothing_is_claimed_and_one_that_goes_takes_its_finding_along() {
    let mut world = World::healthy(Plane::Vxlan, &["node-a", "node-b"]);
    world.engine.report_refused("node-z", attempt("node-b"), world.now);
    world.engine.report_refused("node-a", attempt("node-b"), world.now);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["SEEN03/node-a open"]);
    world.nodes.remove("node-a");
    world.publish();
    let standing = world.standing();
    assert!(!standing.iter().any(|id| id.starts_with("SEEN03")), "{standing:?}");
}
