//! POOL13 and POOL14: objects of allocators other than kube-controller-manager.

use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_aggregator::cluster::objects::{
    Block, CiliumNode, ClusterCidr, Delegates, IpPool, NodeNetworkConfig, Requirement, Resource, Watched,
};
use cidrift_proto::finding::Severity;

use crate::world::*;

/// As long as CNIs take to clear up after a node, twice; and the settle time, so that it counts.
const GRACE: Duration = Duration::from_secs(30 * 60 + 1);

fn of(world: &World, code: &str) -> Vec<String> {
    world.standing().into_iter().filter(|id| id.starts_with(code)).collect()
}

/// Nodes that bridge and host-local serve, in a cluster of node-ipam-controller.
fn with_cluster_cidrs(cidrs: &[(&str, &[&str])], pools: Vec<ClusterCidr>) -> World {
    let mut world = World::bare(Plane::HostGw, PoolConfig::default());
    for (name, cidrs) in cidrs {
        world.add(name);
        world.assign(name, cidrs);
    }
    tell(&mut world, |delegates| delegates.cluster_cidrs = pools);
    world
}

fn tell(world: &mut World, change: impl FnOnce(&mut Delegates)) {
    let mut delegates = (*world.around.delegates).clone();
    change(&mut delegates);
    world.around.delegates = Arc::new(delegates);
    for resource in [
        Resource::ClusterCidrs,
        Resource::CiliumNodes,
        Resource::CiliumConfig,
        Resource::IpPools,
        Resource::BlockAffinities,
        Resource::NodeNetworkConfigs,
    ] {
        world.around.watches.insert(resource, Watched::Live(world.now));
    }
    world.publish();
}

fn pool_of(name: &str, v4: &str) -> ClusterCidr {
    ClusterCidr {
        name: name.to_owned(),
        per_node_host_bits: 8,
        v4: Some(net(v4)),
        v6: None,
        selector: Vec::new(),
        deleting: false,
    }
}

fn zone(value: &str) -> Vec<Vec<Requirement>> {
    vec![vec![Requirement {
        key: "zone".to_owned(),
        operator: "In".to_owned(),
        values: vec![value.to_owned()],
        field: false,
    }]]
}

#[test]
fn a_node_in_a_cluster_cidr_needs_no_word_and_a_legacy_one_is_good_to_know() {
    let nodes: &[(&str, &[&str])] = &[
        ("node-a", &["10.1.1.0/24"]),
        ("node-b", &["10.9.2.0/24"]),
        ("node-c", &["10.1.3.0/25"]),
    ];
    let world = with_cluster_cidrs(nodes, vec![pool_of("default", "10.1.0.0/16")]);
    assert_eq!(of(&world, "POOL13"), ["POOL13/node-b pending", "POOL13/node-c pending"]);
    assert_eq!(world.finding("POOL13/node-b").claim.severity, Severity::Info);
    assert_eq!(
        world.finding("POOL13/node-b").claim.summary,
        "10.9.2.0/24 of node-b is in no ClusterCIDR"
    );
    assert_eq!(
        world.finding("POOL13/node-c").claim.summary,
        "10.1.3.0/25 of node-c is of another size than /24 of default"
    );
    assert_eq!(world.finding("POOL13/node-c").claim.severity, Severity::Warning);
}

#[test]
fn a_terminating_cluster_cidr_covers_its_nodes_and_gives_nothing() {
    let mut going = pool_of("old", "10.1.0.0/16");
    going.deleting = true;
    let mut world = with_cluster_cidrs(&[("node-a", &["10.1.1.0/24"])], vec![going]);
    assert_eq!(of(&world, "POOL13"), Vec::<String>::new());
    world.add("node-b");
    world.assign("node-b", &[]);
    world.publish();
    assert_eq!(of(&world, "POOL13"), ["POOL13/node-b pending"]);
    assert_eq!(world.finding("POOL13/node-b").claim.severity, Severity::Error);
}

#[test]
fn a_selector_is_followed_as_far_as_labels_are_known() {
    let mut pools = vec![pool_of("east", "10.1.0.0/16"), pool_of("west", "10.2.0.0/16")];
    (pools[0].selector, pools[1].selector) = (zone("east"), zone("west"));
    let nodes: &[(&str, &[&str])] = &[
        ("node-a", &["10.1.1.0/24"]),
        ("node-b", &["10.1.2.0/24"]),
        ("node-c", &[]),
    ];
    let mut world = with_cluster_cidrs(nodes, pools);
    assert_eq!(
        of(&world, "POOL13"),
        Vec::<String>::new(),
        "no label of that key is known"
    );
    for (name, value) in [("node-a", "east"), ("node-b", "west"), ("node-c", "north")] {
        let node = world.nodes.get_mut(name).expect("it is there");
        node.labels.insert("zone".to_owned(), value.to_owned());
    }
    world.publish();
    assert_eq!(of(&world, "POOL13"), ["POOL13/node-b pending", "POOL13/node-c pending"]);
    let moved = world.finding("POOL13/node-b");
    assert_eq!(
        moved.claim.summary,
        "10.1.2.0/24 of node-b is in east, which does not select the node"
    );
    assert_eq!(moved.claim.severity, Severity::Info);
    let joins = world.finding("POOL01/node-c");
    assert_eq!(joins.explained_by, ["POOL13/node-c"]);
}

#[test]
fn a_full_cluster_cidr_is_told_unless_another_serves_the_same_nodes() {
    let nodes: &[(&str, &[&str])] = &[("node-a", &["10.1.0.0/24"]), ("node-b", &["10.1.1.0/24"])];
    let mut world = with_cluster_cidrs(nodes, vec![pool_of("small", "10.1.0.0/23")]);
    assert_eq!(of(&world, "POOL13"), ["POOL13/10.1.0.0/23 pending"]);
    tell(&mut world, |delegates| {
        delegates.cluster_cidrs.push(pool_of("more", "10.2.0.0/23"))
    });
    assert_eq!(of(&world, "POOL13"), Vec::<String>::new());
}

#[test]
fn cluster_cidrs_that_cannot_be_read_any_more_resolve_nothing() {
    let mut world = with_cluster_cidrs(&[("node-b", &["10.9.2.0/24"])], vec![pool_of("default", "10.1.0.0/16")]);
    world.around.delegates = Arc::default();
    world
        .around
        .watches
        .insert(Resource::ClusterCidrs, Watched::Broken("timed out".to_owned()));
    world.publish();
    assert_eq!(of(&world, "POOL13"), ["POOL13/node-b pending stale"]);
}

fn cilium(node: &str, cidrs: &[&str], error: Option<&str>) -> CiliumNode {
    CiliumNode {
        node: node.to_owned(),
        pod_cidrs: cidrs.iter().map(|cidr| net(cidr)).collect(),
        error: error.map(str::to_owned),
        odd: Vec::new(),
    }
}

/// Nodes without spec.podCIDR, as Cilium's cluster-pool leaves them.
fn with_cilium(ipam: &str, nodes: Vec<CiliumNode>) -> World {
    let mut world = World::bare(Plane::HostGw, PoolConfig::default());
    for name in ["node-a", "node-b", "node-c"] {
        world.add(name).flannel = None;
        world.assign(name, &[]);
        if let Some(facts) = world.facts.get_mut(name) {
            facts.cni.chosen = Some(config("cilium-cni", None));
        }
    }
    tell(&mut world, |delegates| {
        delegates.cilium_ipam = Some(ipam.to_owned());
        delegates.cilium_nodes = nodes;
    });
    world
}

#[test]
fn an_empty_pod_cidr_is_right_where_ciliums_operator_gives_ranges() {
    let nodes = vec![
        cilium("node-a", &["10.0.0.0/24"], None),
        cilium("node-b", &["10.0.1.0/24"], None),
        cilium("node-c", &["10.0.2.0/24"], None),
    ];
    let world = with_cilium("cluster-pool", nodes);
    assert_eq!(of(&world, "POOL"), Vec::<String>::new());
}

#[test]
fn the_operators_own_word_on_a_full_pool_is_told_and_goes_when_it_goes() {
    let nodes = vec![
        cilium("node-a", &["10.0.0.0/24"], None),
        cilium("node-b", &[], Some("allocator full")),
    ];
    let mut world = with_cilium("cluster-pool", nodes);
    world.pass(SETTLE);
    assert_eq!(of(&world, "POOL"), ["POOL14/node-b open"]);
    insta::assert_yaml_snapshot!("allocator_full", world.finding("POOL14/node-b").claim);
    tell(&mut world, |delegates| {
        delegates.cilium_nodes[1] = cilium("node-b", &["10.0.1.0/24"], None)
    });
    assert_eq!(of(&world, "POOL"), Vec::<String>::new());
}

#[test]
fn cilium_nodes_that_overlap_are_one_finding() {
    let nodes = vec![
        cilium("node-a", &["10.0.0.0/24"], None),
        cilium("node-b", &["10.0.0.0/23"], None),
        cilium("node-c", &["10.0.2.0/24"], None),
    ];
    let world = with_cilium("cluster-pool", nodes);
    assert_eq!(of(&world, "POOL14"), ["POOL14/10.0.0.0/23 pending"]);
    let finding = world.finding("POOL14/10.0.0.0/23");
    assert_eq!((finding.claim.nodes.len(), finding.claim.affected_total), (2, 2));
}

#[test]
fn a_range_that_ciliums_agent_made_up_is_told_where_the_node_should_have_given_it() {
    // Production outage: ipam=kubernetes, and kube-controller-manager had none left.
    let world = with_cilium("kubernetes", vec![cilium("node-b", &["10.255.4.0/24"], None)]);
    let claim = &world.finding("POOL14/node-b").claim;
    assert_eq!(
        claim.summary,
        "Cilium uses 10.255.4.0/24 on node-b, whose Node has none"
    );
    assert!(claim.cause.contains("made a range up"), "{}", claim.cause);
    let mut right = with_cilium("kubernetes", vec![cilium("node-b", &["10.244.2.0/24"], None)]);
    right.assign("node-b", &["10.244.2.0/24"]);
    right.publish();
    assert_eq!(of(&right, "POOL14"), Vec::<String>::new());
}

#[test]
fn a_range_that_a_node_left_behind_is_good_to_know() {
    let mut world = with_cilium("cluster-pool", vec![cilium("node-z", &["10.0.0.0/24"], None)]);
    assert_eq!(
        of(&world, "POOL14"),
        Vec::<String>::new(),
        "the operator may still clear it up"
    );
    world.pass(GRACE);
    assert_eq!(world.finding("POOL14/node-z").claim.severity, Severity::Info);
}

fn block(node: &str, cidr: &str) -> Block {
    Block {
        node: node.to_owned(),
        cidr: net(cidr),
        state: "confirmed".to_owned(),
        deleted: false,
    }
}

fn ip_pool(cidr: &str) -> IpPool {
    IpPool {
        name: "default-ipv4-ippool".to_owned(),
        cidr: net(cidr),
        block_size: 26,
        disabled: false,
        node_selector: "all()".to_owned(),
    }
}

fn with_calico(blocks: Vec<Block>, pools: Vec<IpPool>) -> World {
    let mut world = World::bare(Plane::HostGw, PoolConfig::default());
    for name in ["node-a", "node-b"] {
        world.add(name).flannel = None;
        world.assign(name, &[]);
        if let Some(facts) = world.facts.get_mut(name) {
            facts.cni.chosen = Some(config("calico", Some("calico-ipam")));
        }
    }
    tell(&mut world, |delegates| {
        (delegates.blocks, delegates.ip_pools) = (blocks, pools)
    });
    world
}

#[test]
fn blocks_of_a_node_that_is_gone_are_leaked_where_names_agree() {
    let blocks = vec![
        block("node-a", "192.168.0.0/26"),
        block("node-b", "192.168.0.64/26"),
        block("node-z", "192.168.0.128/26"),
        block("load-balancer", "192.168.0.192/26"),
    ];
    let mut world = with_calico(blocks.clone(), vec![ip_pool("192.168.0.0/16")]);
    world.pass(GRACE);
    assert_eq!(of(&world, "POOL14"), ["POOL14/node-z pending"]);
    // A node that is scaled down now is given the same time.
    world.nodes.remove("node-b");
    world.publish();
    world.pass(SETTLE);
    assert_eq!(of(&world, "POOL14"), ["POOL14/node-z open"]);
    world.pass(GRACE);
    assert_eq!(of(&world, "POOL14"), ["POOL14/node-b open", "POOL14/node-z open"]);
    // Calico calls its nodes otherwise: nothing can be said of who is gone.
    let renamed = blocks.into_iter().map(|mut block| {
        block.node.push_str(".example.com");
        block
    });
    let mut world = with_calico(renamed.collect(), vec![ip_pool("192.168.0.0/16")]);
    world.pass(GRACE);
    assert_eq!(of(&world, "POOL14"), Vec::<String>::new());
}

#[test]
fn ip_pools_that_are_full_switched_off_or_gone_are_told_apart() {
    let blocks = || vec![block("node-a", "192.168.0.0/26"), block("node-b", "192.168.0.64/26")];
    let full = with_calico(blocks(), vec![ip_pool("192.168.0.0/25")]);
    assert_eq!(
        full.finding("POOL14/192.168.0.0/25").claim.summary,
        "IPPool default-ipv4-ippool has no free block left"
    );
    let mut off = ip_pool("192.168.0.0/16");
    off.disabled = true;
    let leaving = with_calico(blocks(), vec![off]);
    assert_eq!(leaving.finding("POOL14/192.168.0.0/16").claim.severity, Severity::Info);
    let gone = with_calico(blocks(), vec![ip_pool("10.9.0.0/16")]);
    assert_eq!(of(&gone, "POOL14"), ["POOL14/node-a pending", "POOL14/node-b pending"]);
    let fine = with_calico(blocks(), vec![ip_pool("192.168.0.0/16")]);
    assert_eq!(of(&fine, "POOL14"), Vec::<String>::new());
}

#[test]
fn azures_subnet_is_shared_and_an_overlay_prefix_is_not() {
    let config = |node: &str, address: &str| NodeNetworkConfig {
        node: node.to_owned(),
        cidrs: vec![net("10.240.0.0/24")],
        addresses: vec![ip(address)],
    };
    let mut world = World::bare(Plane::HostGw, PoolConfig::default());
    for name in ["node-a", "node-b"] {
        let node = world.add(name);
        node.flannel = None;
        node.labels
            .insert("kubernetes.azure.com/podnetwork-type".to_owned(), "vnet".to_owned());
        world.assign(name, &[]);
    }
    tell(&mut world, |delegates| {
        delegates.node_network_configs = vec![config("node-a", "10.240.0.4"), config("node-b", "10.240.0.5")];
    });
    assert_eq!(of(&world, "POOL14"), Vec::<String>::new());
    tell(&mut world, |delegates| {
        delegates.node_network_configs[1] = config("node-b", "10.240.0.4")
    });
    assert_eq!(
        world.finding("POOL14/node-a").claim.summary,
        "node-a and node-b hold 10.240.0.4"
    );
    for name in ["node-a", "node-b"] {
        let node = world.nodes.get_mut(name).expect("it is there");
        node.labels
            .insert("kubernetes.azure.com/podnetwork-type".to_owned(), "overlay".to_owned());
    }
    world.publish();
    assert_eq!(
        of(&world, "POOL14"),
        ["POOL14/10.240.0.0/24 pending", "POOL14/node-a pending"]
    );
}

#[test]
fn objects_that_cannot_be_read_any_more_resolve_nothing() {
    let nodes = vec![
        cilium("node-a", &["10.0.0.0/24"], None),
        cilium("node-b", &[], Some("allocator full")),
    ];
    let mut world = with_cilium("cluster-pool", nodes);
    tell(&mut world, |delegates| _ = delegates.cilium_nodes.pop());
    assert_eq!(of(&world, "POOL14"), Vec::<String>::new());
    tell(&mut world, |delegates| {
        delegates
            .cilium_nodes
            .push(cilium("node-b", &[], Some("allocator full")))
    });
    let mut delegates = (*world.around.delegates).clone();
    delegates.cilium_nodes.pop();
    world.around.delegates = Arc::new(delegates);
    world
        .around
        .watches
        .insert(Resource::CiliumNodes, Watched::Broken("timed out".to_owned()));
    world.publish();
    assert_eq!(of(&world, "POOL14"), ["POOL14/node-b pending stale"]);
}
