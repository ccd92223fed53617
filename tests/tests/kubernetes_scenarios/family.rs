//! POOL06: a dual-stack cluster, and a node with one family. And its harmless twin: a node that has
//! no CIDR yet.

use std::time::Duration;

use cidrift_lab::frozen::freeze;
use cidrift_lab::kubernetes::{Scenario, kubeadm};
use cidrift_lab::require::{Need, have};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{PATIENCE, Says, Stage};

#[test]
fn a_node_with_one_family_is_told_and_one_that_has_to_wait_a_second_is_not() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 0,
        kcm_flags: vec!["--node-cidr-mask-size-ipv6=64".to_owned()],
        ..Scenario::dual_stack()
    };
    let mut stage = Stage::start("family missing", scenario);
    let cluster = stage.cluster();
    let (api, scenario) = (cluster.api(), cluster.scenario());
    let mask = [("node-cidr-mask-size-ipv6", "64")];
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &mask).unwrap();
    api.create_fake_node("both", &[]).unwrap();
    assert_eq!(api.wait_cidrs("both", PATIENCE).unwrap().len(), 2);

    // The allocator is held up: the node has nothing for a second and a half, which is no fault yet.
    let kcm = Pid::from_raw(stage.kcm().pid().unwrap().cast_signed());
    freeze(kcm).unwrap();
    api.create_fake_node("slow", &[]).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(api.node("slow").unwrap().unwrap().spec.unwrap().pod_cidrs, None);
    kill(kcm, Signal::SIGCONT).unwrap();
    assert_eq!(api.wait_cidrs("slow", PATIENCE).unwrap().len(), 2);
    stage.only(&["SEEN01/both", "SEEN01/slow"]);
    stage.mark("the harmless twin");

    // Who is created with one family keeps one: the real allocator fills only Nodes that have none at all.
    api.create_fake_node("single", &["10.244.9.0/24".parse().unwrap()])
        .unwrap();
    let says = Says {
        summary: &["no IPv6 pod CIDR"],
        evidence: &[("kubeadm-config", "fd00:244::/48")],
        cause: &["one family"],
        remedy: &["delete the Node", "10.244.9.0/24"],
        ..Says::default()
    };
    stage.open("POOL06/single", &says);
    stage.mark("POOL06");
    assert_eq!(api.wait_cidrs("single", PATIENCE).unwrap().len(), 1);
    let open = ["POOL06/single", "SEEN01/both", "SEEN01/single", "SEEN01/slow"];
    stage.only(&open);
    stage.crash(&open);

    // The remedy: the Node again, with both.
    api.delete_node("single").unwrap();
    let both = ["10.244.9.0/24", "fd00:244:0:9::/64"].map(|text| text.parse().unwrap());
    api.create_fake_node("single", &both).unwrap();
    stage.only(&["SEEN01/both", "SEEN01/single", "SEEN01/slow"]);
    stage.mark("mended");
    stage.end(&open);
}
