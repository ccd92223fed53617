//! The lab's hosts without any program of ours: their traffic flows, and each
//! break stops the traffic that it says it stops.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use cidrift_lab::breaks::Break;
use cidrift_lab::control::Request;
use cidrift_lab::held::Held;
use cidrift_lab::reach::{measure, silent};
use cidrift_lab::require::{Need, have};
use cidrift_lab::topology::{Dataplane, Plan};
use cidrift_lab::world::World;

fn build(dataplane: Dataplane, dual_stack: bool) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        hosts: 3,
        dataplane,
        dual_stack,
    };
    (World::build(plan, directory.path()).unwrap(), directory)
}

fn every_break_stops_the_traffic_that_it_says(dataplane: Dataplane, dual_stack: bool) {
    let (mut world, _directory) = build(dataplane, dual_stack);
    assert_eq!(silent(&measure(&world.topology).unwrap()), [], "before any break");
    for which in Break::ALL.into_iter().filter(|which| which.applies_to(dataplane)) {
        let name = which.name();
        let plan = which.plan(&world).unwrap();
        world.apply_all(&plan.steps).unwrap();
        assert_eq!(silent(&measure(&world.topology).unwrap()), plan.silent, "{name}");
        world.apply_all(&plan.undo).unwrap();
        assert_eq!(silent(&measure(&world.topology).unwrap()), [], "{name} undone");
    }
}

#[test]
fn on_vxlan_every_break_stops_the_traffic_that_it_says_and_its_undoing_brings_it_back() {
    if !have(Need::Netns) {
        return;
    }
    every_break_stops_the_traffic_that_it_says(Dataplane::Vxlan, false);
}

#[test]
fn on_host_gw_every_break_stops_the_traffic_that_it_says_and_its_undoing_brings_it_back() {
    if !have(Need::Netns) {
        return;
    }
    every_break_stops_the_traffic_that_it_says(Dataplane::HostGw, false);
}

#[test]
fn pods_of_both_families_reach_each_other_on_both_dataplanes() {
    if !have(Need::Netns) {
        return;
    }
    for dataplane in [Dataplane::Vxlan, Dataplane::HostGw] {
        let (world, _directory) = build(dataplane, true);
        assert_eq!(silent(&measure(&world.topology).unwrap()), [], "{dataplane}");
    }
}

#[test]
fn a_host_has_the_files_that_flannel_leaves() {
    if !have(Need::Netns) {
        return;
    }
    let (world, _directory) = build(Dataplane::Vxlan, false);
    let root = world.host_root("h2");
    let env = std::fs::read_to_string(root.join("run/flannel/subnet.env")).unwrap();
    assert_eq!(
        env,
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.2.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
    let conflist = std::fs::read_to_string(root.join("etc/cni/net.d/10-flannel.conflist")).unwrap();
    assert!(conflist.contains("\"type\": \"flannel\""), "{conflist}");
}

#[test]
fn a_held_lab_breaks_and_mends_as_it_is_asked_and_refuses_what_makes_no_sense() {
    if !have(Need::Netns) {
        return;
    }
    let (mut world, _directory) = build(Dataplane::HostGw, false);
    let mut held = Held::default();
    let mut ask = |world: &mut World, request| held.answer(world, &request);
    let blackhole = || "blackhole".to_owned();

    assert!(!ask(&mut world, Request::Mend(blackhole())).ok);
    assert!(!ask(&mut world, Request::Break("earthquake".to_owned())).ok);
    assert!(!ask(&mut world, Request::Break("fdb-to-wrong-host".to_owned())).ok);

    let answer = ask(&mut world, Request::Break(blackhole()));
    assert!(
        answer.ok && answer.text.contains("expected: PATH04 on h1"),
        "{}",
        answer.text
    );
    assert_eq!(answer.broken, ["blackhole"]);
    assert_eq!(silent(&measure(&world.topology).unwrap()).len(), 2);
    assert!(!ask(&mut world, Request::Break(blackhole())).ok);

    // The route that it would delete is not there; what stands is left as it was.
    let answer = ask(&mut world, Request::Break("peer-route-deleted".to_owned()));
    assert!(!answer.ok && answer.text.contains("another break"), "{}", answer.text);
    assert_eq!(silent(&measure(&world.topology).unwrap()).len(), 2);

    let answer = ask(&mut world, Request::Mend(blackhole()));
    assert!(answer.ok && answer.broken.is_empty(), "{}", answer.text);
    assert_eq!(silent(&measure(&world.topology).unwrap()), []);
}
