//! What is said of the CIDRs that a plan takes away.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Finding, FindingState};

use super::super::Wish;
use super::{blocked_by, only, outside, planned};
use crate::fix::fixture::{World, nets};

/// n3 is outside of the pool, and its host is not: everything else that is found follows from that.
fn drifted() -> World {
    let mut world = World::of(3);
    world.node("n3").cidrs = nets(&["10.99.3.0/24"]);
    let remedy = "Put 10.99.3.0/24 into the ipam block";
    world.find(Code::Host01, "n3", &["n3"]).claim.remedy = remedy.to_owned();
    world.find(Code::Host02, "n3", &["n3"]).explained_by = vec!["HOST01/n3".to_owned()];
    world.find(Code::Pool02, "n3", &["n3"]);
    world
}

fn about(finding: &mut Finding, prefixes: &[&str]) {
    let rows = nets(prefixes).into_iter().map(|prefix| Affected {
        prefix: Some(prefix),
        node: None,
        detail: String::new(),
    });
    finding.claim.affected = rows.collect();
    finding.claim.affected_total = prefixes.len() as u32;
}

#[test]
fn what_the_host_has_goes_with_the_swap_and_is_no_advice_against_it() {
    let world = drifted();
    let plan = planned(&world);
    assert_eq!(only(&plan).to, nets(&["10.244.3.0/24"]));
    assert_eq!(only(&plan).mends, ["POOL02/n3", "HOST01/n3", "HOST02/n3"]);
    assert_eq!(plan.by_hand, []);
}

#[test]
fn a_configuration_that_is_for_nobody_is_written_by_hand_and_goes_with_the_swap() {
    let mut world = drifted();
    world.configured("n3", "10.66.3.0/24", None);
    let plan = planned(&world);
    let hand: Vec<&str> = only(&plan)
        .steps
        .iter()
        .filter(|step| step.does.kind() == "by-hand")
        .map(|step| step.text.as_str())
        .collect();
    assert_eq!(hand.len(), 1);
    assert!(hand[0].ends_with("write it for 10.244.255.0/24"), "{hand:?}");
    assert!(only(&plan).mends.contains(&"HOST01/n3".to_owned()));
}

#[test]
fn what_is_not_sure_to_go_is_listed_without_a_remedy_for_what_is_taken_away() {
    let goes = "goes with the swap of n3 to 10.244.3.0/24: plan again after it";
    let mut world = drifted();
    world.ground.findings[0].state = FindingState::Pending;
    let plan = planned(&world);
    let rows: Vec<(&str, &str)> = plan
        .by_hand
        .iter()
        .map(|row| (row.finding.as_str(), row.remedy.as_str()))
        .collect();
    assert_eq!(rows, [("HOST01/n3", goes), ("HOST02/n3", goes)]);
    assert!(plan.by_hand[0].why.contains("not open yet"));
}

#[test]
fn ways_to_the_old_cidr_are_looked_at_again_after_the_swap() {
    let mut world = drifted();
    for code in [Code::Path01, Code::Path02, Code::Path03, Code::Path06] {
        about(world.find(code, "n1", &["n1", "n3"]), &["10.99.3.0/24"]);
    }
    // One of two ways, and one that is somebody else's.
    about(
        world.find(Code::Path01, "n2", &["n2", "n3"]),
        &["10.99.3.0/24", "10.244.1.0/24"],
    );
    about(world.find(Code::Path03, "n3", &["n3"]), &["10.244.99.0/24"]);
    // What only its remedy tells.
    world.find(Code::Path07, "n2", &["n2"]).claim.remedy = "Let 10.99.3.0/24 through.".to_owned();
    let plan = planned(&world);
    let remedy = |id: &str| {
        let row = plan.by_hand.iter().find(|row| row.finding == id);
        row.unwrap().remedy.as_str()
    };
    let goes = "goes with the swap of n3 to 10.244.3.0/24: plan again after it";
    for id in ["PATH01/n1", "PATH02/n1", "PATH03/n1", "PATH06/n1"] {
        assert_eq!(remedy(id), goes, "{id}");
    }
    for id in ["PATH01/n2", "PATH07/n2"] {
        assert_eq!(remedy(id), format!("a part of it {goes}"), "{id}");
    }
    assert_eq!(remedy("PATH03/n3"), "do it right");
    assert!(plan.by_hand.iter().all(|row| !row.remedy.contains("10.99.3.0")));
    assert_eq!(only(&plan).mends, ["POOL02/n3", "HOST01/n3", "HOST02/n3"]);
}

#[test]
fn a_rotation_does_not_know_what_will_be_right_and_says_no_cidr() {
    let wish = Wish {
        rotate: true,
        ..Wish::default()
    };
    let plan = super::super::plan(&drifted().ground, &wish);
    assert_eq!(only(&plan).mends, ["POOL02/n3"]);
    let remedies: Vec<&str> = plan.by_hand.iter().map(|row| row.remedy.as_str()).collect();
    assert_eq!(remedies, ["goes with the rotation of n3: plan again after it"; 2]);
}

#[test]
fn where_nothing_is_swapped_the_remedy_is_the_findings_own() {
    let mut world = drifted();
    world
        .ground
        .findings
        .retain(|finding| finding.claim.code != Code::Pool02);
    assert!(planned(&world).by_hand[0].remedy.starts_with("Put 10.99.3.0/24"));
    // It cannot be: what allocates is not known.
    let mut world = drifted();
    world.view("n3").classification = None;
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    let host = plan.by_hand.iter().find(|row| row.finding == "HOST01/n3").unwrap();
    assert!(host.remedy.starts_with("Put 10.99.3.0/24"), "{host:?}");
}

/// n1 keeps it, and is led to.
#[test]
fn a_cidr_that_another_node_keeps_is_still_led_to() {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.244.1.0/24"]);
    world.route("n3", "10.244.1.0/24", "172.30.0.1");
    world.find(Code::Pool03, "10.244.1.0/24", &["n1", "n2"]);
    about(world.find(Code::Path02, "n3", &["n3", "n1"]), &["10.244.1.0/24"]);
    let nothing = |line: &String| line.starts_with("nothing leads to");
    let plan = planned(&world);
    assert_eq!(only(&plan).from, nets(&["10.244.1.0/24"]));
    assert!(!only(&plan).verify.iter().any(nothing), "{:?}", only(&plan).verify);
    assert_eq!(plan.by_hand[0].remedy, "do it right");
    // Of two families only the one that nobody else has is gone.
    let mut world = World::of(3);
    world.second_range("fd00:244::/48", 64);
    world.node("n1").cidrs.extend(nets(&["fd00:244:0:1::/64"]));
    world.node("n2").cidrs = nets(&["10.99.2.0/24", "fd00:244:0:1::/64"]);
    world.node("n3").cidrs.extend(nets(&["fd00:244:0:3::/64"]));
    world.find(Code::Pool02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(
        only(&plan).verify.last().map(String::as_str),
        Some("nothing leads to 10.99.2.0/24 any more")
    );
}

#[test]
fn that_nobody_is_known_to_make_routes_to_new_cidrs_is_a_risk() {
    let risk = "nobody is known to make routes to 10.244.255.0/24 on the other nodes: give --after-command, or make them while it verifies";
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    let told = |world: &World| only(&planned(world)).risks.iter().any(|line| line == risk);
    assert!(told(&world));
    // Its own daemon, and kube-proxy, make none on others.
    world.daemon("n2", "flannel");
    world.daemon("n1", "kube-proxy");
    assert!(told(&world));
    world.daemon("n1", "flannel");
    assert!(!told(&world));
    // Built in, as k3s has it.
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    world.flannel("n1", "10.244.0.0/16", "10.244.1.0/24");
    assert!(!told(&world));
    // Where no CIDR changes none is needed; and where there is no other node.
    let mut world = World::of(3);
    world.bridge("n2", "10.244.7.1/24");
    world.find(Code::Host02, "n2", &["n2"]);
    let routes = |world: &World| {
        let plan = planned(world);
        only(&plan).risks.iter().any(|line| line.contains("make routes"))
    };
    assert!(!routes(&world));
    let mut world = World::of(1);
    outside(&mut world, "n1", "10.99.2.0/24");
    assert!(!routes(&world));
    let mut world = World::of(2);
    world.node("n2").cidrs.clear();
    world.find(Code::Pool01, "n2", &["n2"]);
    assert!(routes(&world));
    world.view("n2").summary.report = crate::cluster::ReportState::Silent;
    blocked_by(only(&planned(&world)), "does not report");
}
