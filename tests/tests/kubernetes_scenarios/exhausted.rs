//! POOL04 and POOL01: no CIDR is left for a node.

use cidrift_lab::kubernetes::{Scenario, kubeadm};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::stage::{PATIENCE, Says, Stage};

/// Four blocks /28, as kubeadm would have recorded them: kube-controller-manager itself is no pod here.
#[test]
fn a_full_pool_is_told_with_the_allocator_s_own_event_until_an_idle_node_is_deleted() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 0,
        cluster_cidr: vec!["10.244.0.0/26".parse().unwrap()],
        kcm_flags: vec!["--node-cidr-mask-size=28".to_owned()],
        ..Scenario::default()
    };
    let mut stage = Stage::start("pool exhausted", scenario);
    let cluster = stage.cluster();
    let (api, scenario) = (cluster.api(), cluster.scenario());
    let mask = [("node-cidr-mask-size", "28")];
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &mask).unwrap();
    let full = ["idle", "b", "c", "d"];
    for name in full {
        api.create_fake_node(name, &[]).unwrap();
        api.wait_cidrs(name, PATIENCE).unwrap();
    }
    // Full, and nobody waits: worth a warning before the next node comes.
    let warns = Says {
        severity: Some(Severity::Warning),
        ..Says::default()
    };
    stage.open("POOL04/ipv4", &warns);
    stage.mark("POOL04 before anybody waits");

    api.create_fake_node("late", &[]).unwrap();
    let event = api.wait_event("Node", "late", "CIDRNotAvailable", PATIENCE).unwrap();
    let component = event.source.and_then(|source| source.component);
    assert_eq!(component.as_deref(), Some("cidrAllocator"));
    let words = "no remaining CIDRs left to allocate in the accepted range";
    stage.kcm().wait_log(words, PATIENCE).unwrap();

    let says = Says {
        severity: Some(Severity::Error),
        evidence: &[
            ("Nodes", "4 of 4 blocks /28 of 10.244.0.0/26 are in use"),
            ("cidrAllocator on Node late", "CIDRNotAvailable"),
        ],
        cause: &["as many Nodes with a CIDR as there are blocks"],
        remedy: &["Delete Node objects"],
        ..Says::default()
    };
    assert_eq!(stage.open("POOL04/ipv4", &says).claim.nodes, ["late"]);
    stage.mark("POOL04 with a node that waits");
    let says = Says {
        evidence: &[("event CIDRNotAvailable of cidrAllocator", "late")],
        cause: &["The pool is full"],
        remedy: &["Delete Node objects"],
        explained_by: Some(&["POOL04/ipv4"]),
        ..Says::default()
    };
    stage.open("POOL01/late", &says);
    stage.mark("POOL01");
    let open = [
        "POOL01/late",
        "POOL04/ipv4",
        "SEEN01/b",
        "SEEN01/c",
        "SEEN01/d",
        "SEEN01/idle",
        "SEEN01/late",
    ];
    stage.only(&open);
    stage.crash(&open);

    // The remedy that is printed: the real allocator gives the freed block to the node that waits.
    let freed = api.wait_cidrs("idle", PATIENCE).unwrap();
    api.delete_node("idle").unwrap();
    // A real node's kubelet writes its status now and then, and the allocator looks at the Node again.
    stage.touch("late");
    assert_eq!(api.wait_cidrs("late", PATIENCE).unwrap(), freed);
    stage.mark("mended");
    let left = ["POOL04/ipv4", "SEEN01/b", "SEEN01/c", "SEEN01/d", "SEEN01/late"];
    stage.only(&left);
    // It is full again, and nobody waits.
    stage.open("POOL04/ipv4", &warns);
    stage.api().delete_node("b").unwrap();
    stage.only(&["SEEN01/c", "SEEN01/d", "SEEN01/late"]);
    stage.end(&open);
}
