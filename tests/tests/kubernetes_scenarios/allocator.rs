//! POOL09 and POOL07: kube-controller-manager runs, and its flags do not fit what the nodes have.

use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::kubernetes::kubeadm::StaticManager;
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::stage::{PATIENCE, Says, Stage};

#[test]
fn an_allocator_that_is_off_is_told_and_explains_the_node_that_waits() {
    if !have(Need::Kubernetes) {
        return;
    }
    let mut stage = Stage::start(
        "allocator off",
        Scenario {
            nodes: 1,
            ..Scenario::default()
        },
    );
    let cluster = stage.cluster();
    let api = cluster.api();
    let manager = StaticManager::install(&cluster, "n1").unwrap();
    cluster.kcm().stop().unwrap();
    manager.run(&["--allocate-node-cidrs=false".to_owned()]).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();
    manager
        .wait_log("controller=\"node-ipam-controller\"", PATIENCE)
        .unwrap();

    // Nobody waits yet.
    let id = "POOL09/kube-controller-manager";
    let says = Says {
        severity: Some(Severity::Warning),
        evidence: &[("kube-controller-manager-n1", "--allocate-node-cidrs=false")],
        ..Says::default()
    };
    stage.open(id, &says);
    stage.mark("POOL09 before anybody waits");
    api.create_fake_node("late", &[]).unwrap();
    let says = Says {
        severity: Some(Severity::Error),
        cause: &["new ones get none"],
        remedy: &["--allocate-node-cidrs=true", "POOL02"],
        ..Says::default()
    };
    assert_eq!(stage.open(id, &says).claim.nodes, ["late"]);
    let says = Says {
        cause: &["without handing out node CIDRs"],
        remedy: &["--allocate-node-cidrs=true", "on n1"],
        explained_by: Some(&[id]),
        ..Says::default()
    };
    stage.open("POOL01/late", &says);
    stage.mark("POOL01 joined");
    let open = ["POOL01/late", id, "SEEN01/late"];
    stage.only(&open);
    stage.crash(&open);

    // The remedy that is printed.
    let on = [
        "--allocate-node-cidrs=true".to_owned(),
        "--cluster-cidr=10.244.0.0/16".to_owned(),
    ];
    manager.run(&on).unwrap();
    api.wait_cidrs("late", PATIENCE).unwrap();
    stage.only(&["SEEN01/late"]);
    stage.mark("mended");
    stage.end(&open);
}

#[test]
fn a_changed_mask_is_told_before_the_real_allocator_gives_away_half_of_a_living_node_s_cidr() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 1,
        cluster_cidr: vec!["10.244.0.0/22".parse().unwrap()],
        ..Scenario::default()
    };
    let mut stage = Stage::start("mask changed", scenario);
    let cluster = stage.cluster();
    let api = cluster.api();
    let manager = StaticManager::install(&cluster, "n1").unwrap();
    // n1 and a share what will be one block, b and c another.
    for name in ["a", "b"] {
        api.create_fake_node(name, &[]).unwrap();
        api.wait_cidrs(name, PATIENCE).unwrap();
    }
    cluster.kcm().stop().unwrap();
    let flags = |mask: u8| {
        [
            "--allocate-node-cidrs=true".to_owned(),
            "--cluster-cidr=10.244.0.0/22".to_owned(),
            format!("--node-cidr-mask-size={mask}"),
        ]
    };
    manager.run(&flags(24)).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();
    stage.only(&["SEEN01/a", "SEEN01/b"]);
    stage.mark("instance");

    // It starts without a word: no POOL02, no POOL03. That the pool is full of blocks of that size is true.
    manager.run(&flags(23)).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();
    let says = Says {
        severity: Some(Severity::Warning),
        evidence: &[("kube-controller-manager-n1", "/23")],
        cause: &["shared", "POOL03"],
        remedy: &["Put the old mask back"],
        ..Says::default()
    };
    assert_eq!(stage.open("POOL07/ipv4", &says).claim.affected_total, 3);
    stage.mark("POOL07");
    let open = ["POOL04/ipv4", "POOL07/ipv4", "SEEN01/a", "SEEN01/b"];
    stage.only(&open);
    stage.crash(&open);

    // What it warns of: a goes, the block counts as free though n1 has the other half of it.
    api.delete_node("a").unwrap();
    api.create_fake_node("heir", &[]).unwrap();
    let given = api.wait_cidrs("heir", PATIENCE).unwrap()[0];
    let of_n1 = api.wait_cidrs("n1", PATIENCE).unwrap()[0];
    assert!(
        given.contains(&of_n1),
        "the real allocator gave {given} though n1 has {of_n1}"
    );
    let overlap = format!("POOL03/{given}");
    let says = Says {
        summary: &["heir", "n1"],
        cause: &["different sizes"],
        remedy: &["heir"],
        ..Says::default()
    };
    stage.open(&overlap, &says);
    stage.mark("POOL03 as warned");

    // The remedy: the twin goes, and the old mask comes back.
    api.delete_node("heir").unwrap();
    manager.run(&flags(24)).unwrap();
    stage.only(&["SEEN01/b"]);
    stage.mark("mended");
    stage.end(&[
        &overlap,
        "POOL04/ipv4",
        "POOL07/ipv4",
        "SEEN01/a",
        "SEEN01/b",
        "SEEN01/heir",
    ]);
}
