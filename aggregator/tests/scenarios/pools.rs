//! POOL01, POOL02, POOL03 and POOL08.

use std::collections::BTreeMap;
use std::sync::Arc;

use cidrift_aggregator::cluster::around::NodePods;
use cidrift_aggregator::cluster::{PlaneEvent, PoolConfig};
use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::{FindingState, Severity};
use cidrift_proto::landing::Landing;
use cidrift_proto::verdict::Standing;

use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];

fn of(world: &World, code: Code) -> Vec<String> {
    world
        .standing()
        .into_iter()
        .filter(|id| id.starts_with(code.as_str()))
        .collect()
}

#[test]
fn a_node_without_a_cidr_is_told_after_the_settle_time() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d").flannel = None;
    world.assign("node-d", &[]);
    world.publish();
    assert_eq!(of(&world, Code::Pool01), ["POOL01/node-d pending"]);
    world.pass(SETTLE);
    assert_eq!(of(&world, Code::Pool01), ["POOL01/node-d open"]);
    world.assign("node-d", &["10.244.4.0/24"]);
    world.publish();
    assert_eq!(of(&world, Code::Pool01), Vec::<String>::new());
}

#[test]
fn a_full_pool_is_named_as_the_cause() {
    let tight = PoolConfig {
        ranges: vec![net("10.244.0.0/22")],
        witness: "--cluster-cidr".to_owned(),
        ..PoolConfig::default()
    };
    let mut world = World::bare(Plane::Vxlan, tight);
    for name in THREE {
        world.add(name);
    }
    world.add("node-d");
    world.assign("node-d", &["10.244.0.0/24"]);
    world.add("node-e").flannel = None;
    world.assign("node-e", &[]);
    world.publish();
    let finding = world.finding("POOL01/node-e");
    assert_eq!(finding.claim.cause, "The pool is full: all 4 node CIDRs are taken.");
    let pool = world.engine.read(|state| state.pool_report());
    assert_eq!((pool.ranges[0].capacity, pool.ranges[0].free), (4, 0));
}

#[test]
fn pods_that_show_whose_word_counts_have_their_node_judged_anew() {
    let verdicts = |tell: fn(BTreeMap<String, Arc<NodePods>>) -> PlaneEvent| {
        let mut world = World::bare(Plane::HostGw, pool());
        for name in ["node-a", "node-b"] {
            world.add(name).flannel = None;
            // Which CNI it has cannot be seen.
            world.facts.get_mut(name).expect("it is there").cni.chosen = None;
        }
        world.publish();
        // No route to its own CIDR is right on a node without pods, if it uses the CIDR at all.
        let nothing = world.entry("10.244.1.0/24", Landing::NoRoute);
        world.connect_with("node-a", vec![nothing]);
        world.pass(SETTLE);
        let before = world.verdict("node-a", "node-a");
        let pods = NodePods {
            pods: vec![crate::outlived::pod("web", "10.244.1.7", world.now)],
        };
        let all = BTreeMap::from([("node-a".to_owned(), Arc::new(pods))]);
        world.engine.plane_event(tell(all), world.now);
        (before, world.verdict("node-a", "node-a"))
    };
    let (before, whole) = verdicts(PlaneEvent::AllPods);
    let (_, single) =
        verdicts(|all| PlaneEvent::Pods(all.into_iter().map(|(node, pods)| (node, Some(pods))).collect()));
    assert_ne!(before, whole, "it makes a difference");
    assert_eq!(single, whole);
}

#[test]
fn an_empty_cidr_is_normal_where_somebody_else_allocates() {
    // EKS and Azure by label, calico-ipam by configuration, virtual kubelets.
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let labels = [
        ("eks.amazonaws.com/nodegroup", "workers"),
        ("kubernetes.azure.com/podnetwork-type", "overlay"),
        ("node.openshift.io/os_id", "rhcos"),
        ("type", "virtual-kubelet"),
    ];
    for ((label, value), name) in labels.into_iter().zip(["node-d", "node-e", "node-f", "node-g"]) {
        let node = world.add(name);
        node.flannel = None;
        node.labels.insert(label.to_owned(), value.to_owned());
        world.assign(name, &[]);
    }
    world.add("node-h").flannel = None;
    world.assign("node-h", &[]);
    if let Some(facts) = world.facts.get_mut("node-h") {
        facts.cni.chosen = Some(config("calico", Some("calico-ipam")));
    }
    world.publish();
    world.connect("node-h");
    assert_eq!(of(&world, Code::Pool01), Vec::<String>::new());
}

#[test]
fn a_cluster_without_any_cidr_has_no_built_in_ipam() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    for name in THREE {
        world.add(name).flannel = None;
        world.assign(name, &[]);
    }
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, Code::Pool01), Vec::<String>::new());
}

#[test]
fn a_cidr_outside_the_pool_is_critical_before_anything_restarts() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.200.4.0/24"]);
    world.publish();
    world.pass(SETTLE);
    let finding = world.finding("POOL02/node-d");
    assert_eq!(
        (finding.state, finding.claim.severity),
        (FindingState::Open, Severity::Critical)
    );
    insta::assert_yaml_snapshot!("outside_pool", finding.claim);
    world.nodes.remove("node-d");
    world.publish();
    assert_eq!(of(&world, Code::Pool02), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL02/node-d".to_owned()));
}

#[test]
fn nothing_is_outside_of_a_pool_that_is_not_known() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    world.add("node-a");
    world.assign("node-a", &["10.200.4.0/24"]);
    world.publish();
    assert_eq!(of(&world, Code::Pool02), Vec::<String>::new());
    let pool = world.engine.read(|state| state.pool_report());
    assert!(pool.unknown.is_some() && pool.nodes[0].in_pool.is_none());
}

#[test]
fn gke_has_ranges_that_no_flag_names() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let node = world.add("node-d");
    node.labels
        .insert("cloud.google.com/gke-nodepool".to_owned(), "p".to_owned());
    world.assign("node-d", &["10.200.4.0/24"]);
    world.publish();
    assert_eq!(of(&world, Code::Pool02), Vec::<String>::new());
}

#[test]
fn two_nodes_with_one_cidr_are_one_finding_and_no_other() {
    // A1: node-d was given node-b's CIDR; peers route it to node-b, or to node-d.
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.244.2.0/24"]);
    world.publish();
    let view: Vec<_> = world
        .view("node-d")
        .into_iter()
        .filter(|entry| entry.prefix != cidr("node-b"))
        .collect();
    world.connect_with("node-d", view);
    world.delta("node-a", vec![world.route("10.244.2.0/24", "node-d")], &[]);
    world.pass(SETTLE);
    assert_eq!(world.standing(), ["POOL03/10.244.2.0/24 open"]);
    let finding = world.finding("POOL03/10.244.2.0/24");
    assert_eq!(finding.claim.nodes, ["node-b", "node-d"]);
    assert_eq!(
        finding.claim.summary,
        "node-b and node-d have the same pod CIDR 10.244.2.0/24"
    );
    assert_eq!(world.verdict("node-a", "node-b").standing(), Standing::Unknown);

    // A1, second act: the twin goes, and flannel deletes the route that both shared.
    world.nodes.remove("node-d");
    world.hush("node-d");
    world.publish();
    for name in ["node-a", "node-c"] {
        world.delta(name, vec![], &["10.244.2.0/24"]);
    }
    assert_eq!(world.resolved(), ["POOL03/10.244.2.0/24"]);
    world.pass(SETTLE);
    assert_eq!(world.finding("PATH01/node-a").state, FindingState::Open);
    assert_eq!(world.finding("PATH01/node-c").state, FindingState::Open);
}

#[test]
fn what_resolved_before_anybody_looked_is_in_the_history() {
    // A3: "Things fixed itself before I was able to find a cause".
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.assign("node-c", &["10.244.2.0/24"]);
    world.publish();
    world.pass(SETTLE);
    world.assign("node-c", &["10.244.3.0/24"]);
    world.publish();
    assert!(world.resolved().contains(&"POOL03/10.244.2.0/24".to_owned()));
}

#[test]
fn cidrs_of_different_masks_overlap_in_one_group() {
    // A6: --node-cidr-mask-size was changed from 24 to 21.
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.244.0.0/21"]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, Code::Pool03), ["POOL03/10.244.0.0/21 open"]);
    let finding = world.finding("POOL03/10.244.0.0/21");
    assert_eq!(finding.claim.affected_total, 4);
    assert_eq!(finding.claim.nodes, ["node-a", "node-b", "node-c", "node-d"]);
}

#[test]
fn services_and_nodes_must_not_live_in_the_pod_range() {
    let services = PoolConfig {
        service_ranges: vec![net("10.244.2.0/23")],
        ..pool()
    };
    let mut world = World::bare(Plane::Vxlan, services);
    for name in THREE {
        world.add(name);
    }
    world.nodes.get_mut("node-c").expect("it is there").internal_ips = vec![ip("10.244.1.77")];
    world.publish();
    assert_eq!(
        of(&world, Code::Pool03),
        ["POOL03/10.244.1.0/24 pending", "POOL03/10.244.2.0/23 pending"]
    );
    let node_network = &world.finding("POOL03/10.244.1.0/24").claim.summary;
    assert_eq!(
        node_network,
        "InternalIP 10.244.1.77 of node-c is inside the pod CIDR 10.244.1.0/24 of node-a"
    );
    assert_eq!(world.finding("POOL03/10.244.2.0/23").claim.affected_total, 2);
}

#[test]
fn a_host_interface_inside_a_peers_cidr_is_an_overlap_until_it_is_gone() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let right = world.facts["node-a"].clone();
    let mut facts = right.clone();
    facts.links.push(link("tun0", LinkRole::Other, &["10.244.3.7/16"]));
    world.delta_with("node-a", vec![], vec![], Some(facts), None);
    world.pass(HOLD);
    let finding = world.finding("POOL03/node-a");
    assert_eq!(
        (finding.state, finding.claim.severity),
        (FindingState::Open, Severity::Error)
    );
    world.delta_with("node-a", vec![], vec![], Some(right), None);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn interfaces_beside_or_around_the_pod_range_do_not_overlap_it() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let mut facts = world.facts["node-a"].clone();
    // A node network that contains the pod range is common: routes for pods are longer.
    facts.links.push(link("eth1", LinkRole::Uplink, &["10.1.2.3/8"]));
    facts.links.push(link("docker0", LinkRole::Bridge, &["172.17.0.1/16"]));
    facts.links.push(link("lo", LinkRole::Loopback, &["10.244.3.1/32"]));
    world.delta_with("node-a", vec![], vec![], Some(facts), None);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new());
}

#[test]
fn an_interface_around_all_pod_cidrs_takes_only_what_has_no_route_of_its_own_and_that_is_said_of_the_route() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let mut facts = world.facts["node-a"].clone();
    facts.links.push(link("docker0", LinkRole::Bridge, &["10.0.0.1/8"]));
    let connected = Landing::Local {
        device: "docker0".to_owned(),
        carrier: true,
    };
    let around = world.entry("10.0.0.0/8", connected);
    world.delta_with("node-a", vec![around], vec![], Some(facts), None);
    world.pass(SETTLE * 2);
    assert_eq!(world.standing(), Vec::<String>::new(), "the longest prefix wins");
    // The route to node-b is lost: docker0's connected route is what is left.
    world.delta("node-a", vec![], &["10.244.2.0/24"]);
    world.pass(HOLD);
    assert_eq!(world.standing(), ["PATH01/node-a open", "PATH07/node-a open"]);
    let affected = world.finding("PATH01/node-a").claim.affected.clone();
    assert!(
        affected
            .iter()
            .any(|row| row.detail.contains("falls to 10.0.0.0/8 on-link dev docker0")),
        "{affected:?}"
    );
}

#[test]
fn the_two_fields_must_say_the_same() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.nodes.get_mut("node-b").expect("it is there").pod_cidr = Some("10.244.7.0/24".to_owned());
    world.nodes.get_mut("node-c").expect("it is there").pod_cidr = Some("10.244.3.7/24".to_owned());
    world.publish();
    world.pass(SETTLE);
    assert_eq!(
        of(&world, Code::Pool08),
        ["POOL08/node-b open"],
        "10.244.3.7/24 is 10.244.3.0/24"
    );
    world.nodes.get_mut("node-b").expect("it is there").pod_cidr = Some("10.244.2.0/24".to_owned());
    world.publish();
    assert_eq!(of(&world, Code::Pool08), Vec::<String>::new());
}

#[test]
fn a_cidr_that_is_none_makes_health_unknown_and_is_not_called_missing() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.assign("node-c", &["10.244.3.0/240"]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, Code::Pool01), Vec::<String>::new());
    let status = world.engine.read(|state| state.status(world.now));
    let line = r#"node-c: spec.podCIDRs has "10.244.3.0/240", which is no prefix"#.to_owned();
    assert!(status.unknowns.contains(&line), "{:?}", status.unknowns);
}

#[test]
fn a_control_plane_that_cannot_be_read_resolves_nothing() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    world.add("node-d");
    world.assign("node-d", &["10.200.4.0/24"]);
    world.publish();
    world.pass(SETTLE);
    world.problem = Some("connection refused".to_owned());
    world.publish();
    world.pass(SETTLE);
    let finding = world.finding("POOL02/node-d");
    assert_eq!(finding.state, FindingState::Open);
    assert!(finding.claim.evidence.iter().all(|row| row.stale));
}
