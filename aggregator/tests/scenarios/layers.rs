//! PATH06: tunnels whose layers do not agree.

use cidrift_proto::finding::FindingState;
use cidrift_proto::landing::{ForwardingEntry, Landing, MacAddress, Via};
use cidrift_proto::verdict::Verdict;

use crate::world::*;

/// node-a's route to node-c, with other layers than it should have.
fn tunnel(world: &World, dst: &str, lladdr: MacAddress, vni: u32) -> ForwardingEntry {
    let landing = Landing::Underlay {
        address: address(dst),
        via: Via::Vxlan {
            device: "flannel.1".to_owned(),
            vni,
            gateway: ip("10.244.3.0"),
            lladdr,
        },
    };
    world.entry("10.244.3.0/24", landing)
}

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

#[test]
fn an_fdb_entry_that_points_at_another_host_is_named_as_the_layer_that_is_off() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.delta("node-a", vec![tunnel(&world, "node-b", mac("node-c"), 1)], &[]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH06/node-a open", "PATH07/node-a open"]);
    let finding = world.finding("PATH06/node-a");
    insta::assert_yaml_snapshot!("fdb_points_elsewhere", finding.claim);
    world.delta("node-a", vec![tunnel(&world, "node-c", mac("node-c"), 1)], &[]);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_neighbour_entry_with_another_mac_is_dropped_by_the_peer() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let old = MacAddress([2, 9, 9, 9, 9, 9]);
    world.delta("node-a", vec![tunnel(&world, "node-c", old, 1)], &[]);
    world.pass(HOLD);
    let finding = world.finding("PATH06/node-a");
    assert_eq!(finding.state, FindingState::Open);
    assert!(
        finding.claim.summary.contains("02:09:09:09:09:09"),
        "{}",
        finding.claim.summary
    );
    assert!(matches!(world.verdict("node-a", "node-c"), Verdict::Blackholed { .. }));
}

#[test]
fn a_tunnel_device_made_anew_on_the_peer_breaks_everybody_who_has_the_old_mac() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let mut facts = world.facts["node-c"].clone();
    for link in facts.links.iter_mut().filter(|link| link.vxlan.is_some()) {
        link.lladdr = Some(MacAddress([2, 7, 7, 7, 7, 7]));
    }
    world.delta_with("node-c", vec![], vec![], Some(facts), None);
    world.pass(SETTLE);
    for name in ["node-a", "node-b"] {
        let finding = world.finding(&format!("PATH06/{name}"));
        assert!(
            finding.claim.summary.contains("flannel.1 on node-c"),
            "{}",
            finding.claim.summary
        );
    }
    let facts = world.facts["node-c"].clone();
    world.delta_with("node-c", vec![], vec![], Some(facts), None);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn a_stale_annotation_does_no_harm_while_the_device_is_right() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    if let Some(flannel) = world.nodes.get_mut("node-c").and_then(|node| node.flannel.as_mut()) {
        flannel.vtep_mac = Some(MacAddress([2, 7, 7, 7, 7, 7]));
    }
    world.publish();
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn other_vnis_and_ports_do_not_meet() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.delta("node-a", vec![tunnel(&world, "node-c", mac("node-c"), 4096)], &[]);
    world.pass(HOLD);
    let summary = &world.finding("PATH06/node-a").claim.summary;
    assert!(summary.contains("VNI 4096"), "{summary}");

    let mut world = World::healthy(Plane::Vxlan, THREE);
    let mut facts = world.facts["node-c"].clone();
    for vxlan in facts.links.iter_mut().filter_map(|link| link.vxlan.as_mut()) {
        vxlan.port = 4789;
    }
    world.delta_with("node-c", vec![], vec![], Some(facts), None);
    world.pass(SETTLE);
    let summary = &world.finding("PATH06/node-a").claim.summary;
    assert!(summary.contains("UDP port 8472"), "{summary}");
}

#[test]
fn a_route_that_is_consistently_somebody_elses_is_misdelivered() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.delta("node-a", vec![world.route("10.244.3.0/24", "node-b")], &[]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH02/node-a open", "PATH07/node-a open"]);
}
