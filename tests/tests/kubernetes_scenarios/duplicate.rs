//! POOL03: two live Nodes hold the same pod CIDR.

use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::stage::{PATIENCE, Says, Stage};

/// As the releases 1.31.0 to 1.31.2 made duplicates: a CIDR is released while a live node holds it, and the real
/// allocator gives it to the next node. Here the early release is a second Node of the same CIDR that is deleted.
#[test]
fn the_real_allocator_hands_out_a_cidr_twice_once_it_was_released_under_a_living_node() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 0,
        cluster_cidr: vec!["10.244.0.0/26".parse().unwrap()],
        kcm_flags: vec!["--node-cidr-mask-size=28".to_owned()],
        ..Scenario::default()
    };
    let mut stage = Stage::start("duplicate", scenario);
    let cluster = stage.cluster();
    let api = cluster.api();
    // Who is created with a CIDR that is in use is accepted without a word.
    api.create_fake_node("first", &[]).unwrap();
    let cidr = api.wait_cidrs("first", PATIENCE).unwrap()[0];
    api.create_fake_node("twin", &[cidr]).unwrap();
    let id = format!("POOL03/{cidr}");
    let says = Says {
        severity: Some(Severity::Critical),
        summary: &["first", "twin"],
        ..Says::default()
    };
    assert_eq!(stage.open(&id, &says).claim.nodes, ["first", "twin"]);
    stage.mark("POOL03 of the twin");
    stage.only(&[&id, "SEEN01/first", "SEEN01/twin"]);
    assert!(stage.kcm().ended().is_none());
    for line in stage.kcm().log().lines().filter(|line| line.contains("twin")) {
        let allocator = line.contains("range_allocator") || line.contains("cidr");
        assert!(!line.starts_with('E') && !allocator, "it does say something: {line}");
    }

    // The twin goes: the finding is over, and the CIDR counts as free though the first node holds it.
    api.delete_node("twin").unwrap();
    stage.only(&["SEEN01/first"]);
    // The pool has four blocks: the real allocator gives out all of them, the one in use among them.
    let others = ["second", "third", "fourth", "fifth"];
    for name in others {
        api.create_fake_node(name, &[]).unwrap();
    }
    let heir = others
        .into_iter()
        .find(|name| api.wait_cidrs(name, PATIENCE).unwrap() == [cidr])
        .expect("the allocator gives out the CIDR that it released");
    let said = format!("\"Set node PodCIDR\" node=\"{heir}\"");
    let line = stage.kcm().wait_log(&said, PATIENCE).unwrap();
    assert!(line.contains(&cidr.to_string()), "{line}");

    let of_heir = format!("managedFields of Node {heir}");
    let says = Says {
        evidence: &[
            ("managedFields of Node first", "kube-controller-manager"),
            (&of_heir, "kube-controller-manager"),
        ],
        cause: &["released"],
        remedy: &[heir],
        ..Says::default()
    };
    stage.open(&id, &says);
    stage.mark("POOL03 of the allocator");
    let silent = others.map(|name| format!("SEEN01/{name}"));
    let mut open = vec![id.as_str(), "SEEN01/first"];
    open.extend(silent.iter().map(String::as_str));
    stage.only(&open);
    stage.crash(&open);

    // The remedy: the youngest of the two goes, and may come back once another block is free.
    api.delete_node(heir).unwrap();
    let mended: Vec<&str> = open
        .iter()
        .copied()
        .filter(|open| *open != id && !open.ends_with(heir))
        .collect();
    stage.only(&mended);
    stage.mark("mended");
    open.push("SEEN01/twin");
    stage.end(&open);
}
