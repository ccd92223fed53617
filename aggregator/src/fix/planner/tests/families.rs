//! Nodes of both families.

use cidrift_proto::catalogue::Code;
use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::super::super::ground::Pods;
use super::super::super::plan::{Does, Hop};
use super::{kinds, only, planned};
use crate::fix::fixture::{World, nets};

const TEMPLATE: Option<&str> = Some("containerd template");

/// Every node has both, n1 10.244.1.0/24 and fd00:244:0:1::/64, and so on.
fn dual() -> World {
    let mut world = World::of(3);
    world.second_range("fd00:244::/48", 64);
    for n in 1..=3 {
        let name = format!("n{n}");
        let node = world.node(&name);
        node.cidrs.extend(nets(&[&format!("fd00:244:0:{n}::/64")]));
        node.addresses.push(format!("fd00:30::{n}").parse().unwrap());
    }
    world
}

#[test]
fn the_missing_family_is_added_and_the_other_is_kept() {
    let mut world = World::of(2);
    world.second_range("fd00:244::/48", 64);
    world.find(Code::Pool06, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(only(&plan).to, nets(&["10.244.2.0/24", "fd00:244:0:ffff::/64"]));
}

/// The runtime renders only what is missing: a file of one family would stay.
#[test]
fn what_was_rendered_for_one_family_goes_where_the_node_gets_both() {
    let mut world = World::of(2);
    world.second_range("fd00:244::/48", 64);
    world.find(Code::Pool06, "n2", &["n2"]);
    world.configured("n2", "10.244.2.0/24", TEMPLATE);
    let plan = planned(&world);
    let steps = kinds(only(&plan));
    let at = |kind: &str| steps.iter().position(|one| *one == kind);
    assert!(
        at("drain") < at("remove-file") && at("remove-file") < at("recreate"),
        "{steps:?}"
    );
    let containing = only(&plan).steps.iter().find_map(|step| match &step.does {
        Does::RemoveFile { containing, .. } => Some(containing.as_str()),
        _ => None,
    });
    assert_eq!(containing, Some(""), "what is right in it tells nothing");
    // Whoever wrote it by hand writes it anew.
    world.configured("n2", "10.244.2.0/24", None);
    let text = by_hand(&world).unwrap();
    assert!(text.contains("fd00:244:0:ffff::/64"), "{text}");
    let plan = planned(&world);
    let risk = "fix keeps n2 cordoned until it sees that you have written /etc/cni/net.d/10-net.conflist for 10.244.2.0/24 and \
                fd00:244:0:ffff::/64: have it ready";
    assert!(
        only(&plan).risks.iter().any(|text| text == risk),
        "{:#?}",
        only(&plan).risks
    );
}

#[test]
fn a_file_that_somebody_wrote_for_one_family_of_both_is_left_alone() {
    let mut world = dual();
    world.node("n2").cidrs = nets(&["10.244.2.0/24", "fd00:99:0:2::/64"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    world.configured("n2", "10.244.2.0/24", None);
    assert_eq!(by_hand(&world), None);
    // The runtime renders all that there is.
    world.configured("n2", "10.244.2.0/24", TEMPLATE);
    assert!(kinds(only(&planned(&world))).contains(&"remove-file"));
}

fn by_hand(world: &World) -> Option<String> {
    let plan = planned(world);
    let mut steps = only(&plan).steps.iter();
    steps
        .find(|step| step.does == Does::ByHand)
        .map(|step| step.text.clone())
}

#[test]
fn the_family_that_is_right_is_kept_in_the_nodes_own_order() {
    let mut world = dual();
    world.node("n2").cidrs = nets(&["10.244.2.0/24", "fd00:99:0:2::/64"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(only(&plan).to, nets(&["10.244.2.0/24", "fd00:244:0:ffff::/64"]));
    // podCIDR is the first of podCIDRs, whatever --cluster-cidr begins with.
    world.node("n2").cidrs = nets(&["fd00:244:0:2::/64", "10.99.2.0/24"]);
    let plan = planned(&world);
    // Of IPv4 what its host hands out of.
    assert_eq!(only(&plan).to, nets(&["fd00:244:0:2::/64", "10.244.2.0/24"]));
    let recreate = only(&plan)
        .steps
        .iter()
        .find(|step| step.does == Does::Recreate)
        .unwrap();
    let first = ".spec.podCIDR=\"fd00:244:0:2::/64\" | .spec.podCIDRs=[\"fd00:244:0:2::/64\",\"10.244.2.0/24\"]";
    assert!(recreate.text.contains(first), "{}", recreate.text);
}

#[test]
fn a_bridge_goes_for_its_ipv6_address_alone_and_never_for_that_of_its_link() {
    let mut world = dual();
    world.node("n2").cidrs = nets(&["10.244.2.0/24", "fd00:99:0:2::/64"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    bridge(&mut world, &["10.244.2.1/24", "fd00:99:0:2::1/64", "fe80::1/64"]);
    assert_eq!(removed_link(&world), Some(nets(&["fd00:99:0:2::1/64"])));
    bridge(&mut world, &["10.244.2.1/24", "fe80::1/64"]);
    assert_eq!(removed_link(&world), None);
}

/// n2's.
fn bridge(world: &mut World, addresses: &[&str]) {
    world.bridge("n2", "10.244.2.1/24");
    let facts = world.view("n2").facts.as_mut().unwrap();
    facts.links.last_mut().unwrap().addresses = nets(addresses);
}

/// The addresses for which a bridge goes.
fn removed_link(world: &World) -> Option<Vec<IpNet>> {
    let plan = planned(world);
    let mut steps = only(&plan).steps.iter();
    steps.find_map(|step| match &step.does {
        Does::RemoveLink { addresses, .. } => Some(addresses.clone()),
        _ => None,
    })
}

/// flanneld knows only a Node with both of its CIDRs for its own: else it replaces the bridge's route to the one that is kept.
#[test]
fn the_bridge_of_a_node_that_keeps_one_cidr_is_made_anew_where_flannel_takes_its_route_away() {
    let mut world = dual();
    world.daemon("n2", "flannel");
    bridge(&mut world, &["10.244.2.1/24", "fd00:244:0:2::1/64", "fe80::1/64"]);
    // IPv4 is kept, and the bridge has nothing of the IPv6 range that is wrong.
    world.node("n2").cidrs = nets(&["10.244.2.0/24", "fd00:99:0:2::/64"]);
    world.configured("n2", "10.244.2.0/24", None);
    let config = world.view("n2").facts.as_mut().unwrap().cni.chosen.as_mut().unwrap();
    config.subnets = nets(&["10.244.2.0/24", "fd00:244:0:2::/64"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    assert_eq!(removed_link(&world), Some(nets(&["10.244.2.1/24"])));
    // The kernel refuses what flanneld would put in place of an IPv6 route.
    world.node("n2").cidrs = nets(&["10.99.2.0/24", "fd00:244:0:2::/64"]);
    assert_eq!(removed_link(&world), None);
    world.node("n2").cidrs = nets(&["10.244.2.0/24", "fd00:99:0:2::/64"]);
    world.ground.pods = Pods::default();
    assert_eq!(removed_link(&world), None);
}

/// HOST04 is one finding of a node, whatever families it is about.
#[test]
fn routes_of_both_families_that_lead_a_nodes_own_pods_away_go() {
    let mut world = dual();
    world.daemon("n2", "flannel");
    world.route("n2", "10.244.2.0/24", "172.30.0.2");
    world.route("n2", "fd00:244:0:2::/64", "fd00:30::2");
    world.find(Code::Host04, "n2", &["n2"]);
    assert_eq!(
        removed_routes(&world),
        ["10.244.2.0/24 via 172.30.0.2", "fd00:244:0:2::/64 via fd00:30::2"]
    );
}

/// The kernel refuses it with "Gateway can not be a local address".
#[test]
fn flanneld_leads_nobody_back_by_ipv6() {
    let mut world = dual();
    world.daemon("n2", "flannel");
    world.node("n2").cidrs = nets(&["10.99.2.0/24", "fd00:99:0:2::/64"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    assert_eq!(removed_routes(&world), ["10.244.2.0/24 via 172.30.0.2"]);
    // So what leads there without a next hop is somebody else's.
    let mut world = dual();
    world.daemon("n2", "flannel");
    let device = "eth0".to_owned();
    world.lands("n2", "fd00:244:0:2::/64", Landing::Onlink { device });
    world.find(Code::Host04, "n2", &["n2"]);
    assert_eq!(planned(&world).nodes, []);
}

fn removed_routes(world: &World) -> Vec<String> {
    let plan = planned(world);
    let steps = only(&plan).steps.iter();
    let routes = steps.filter_map(|step| match &step.does {
        Does::RemoveRoute {
            prefix,
            by: Hop::Via(via),
        } => Some(format!("{prefix} via {via}")),
        _ => None,
    });
    routes.collect()
}
