//! POOL09: nobody allocates.

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_aggregator::cluster::objects::{ManagerFlags, Resource};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Severity;

use super::*;

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
