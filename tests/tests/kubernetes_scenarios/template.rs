//! containerd's `conf_template`: it is rendered while no CNI configuration loads, and never again. A Node that is
//! deleted and made again has another CIDR than the file, and the bridge one that is older than both.

use std::fs;

use cidrift_lab::kubernetes::{Cni, Scenario};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::node::{RANGES, delete_bridge, net, run, swap};
use crate::stage::{PATIENCE, Says, Stage};

const CONFLIST: &str = "/etc/cni/net.d/10-containerd-net.conflist";

/// What the conflist is, as the node has it; empty while there is none.
fn conflist(stage: &Stage) -> String {
    let path = stage
        .cluster()
        .node("n1")
        .unwrap()
        .root()
        .join(CONFLIST.trim_start_matches('/'));
    fs::read_to_string(path).unwrap_or_default()
}

/// The first half of the remedy: the file goes, and the kubelet, when it starts, tells containerd the CIDR again.
fn render_anew(stage: &Stage, cidr: &str) {
    let cluster = stage.cluster();
    let node = cluster.node("n1").unwrap();
    run(node, "/bin/rm", &[CONFLIST]);
    node.kubelet.restart().unwrap();
    let what = format!("containerd renders {cidr}");
    let rendered = || Ok(conflist(stage).contains(cidr).then_some(()));
    stage.api().wait(&what, PATIENCE, rendered).unwrap();
    stage.api().wait_ready("n1", true, PATIENCE).unwrap();
    // It takes the pods that run already only now; a Node that is made anew before that has no capacity yet, and it
    // would reject all of them.
    let taken = "\"SyncLoop ADD\" source=\"api\"";
    node.kubelet.wait_log(taken, PATIENCE).unwrap();
}

/// The Node's CIDR, the file's and the bridge's, each from its own witness.
fn three_cidrs_are_named(stage: &Stage) {
    stage.open(
        "HOST01/n1",
        &Says {
            severity: Some(Severity::Error),
            summary: &["10.244.7.0/24", "10.244.9.0/24"],
            evidence: &[("Node n1", "10.244.9.0/24"), (CONFLIST, "10.244.7.0/24")],
            cause: &["conf_template", "It keeps the file when the Node gets another podCIDR"],
            remedy: &["rm /etc/cni/net.d/10-containerd-net.conflist && systemctl restart kubelet"],
            ..Says::default()
        },
    );
    stage.open(
        "HOST02/n1",
        &Says {
            severity: Some(Severity::Error),
            summary: &["cni0 has 10.244.0.1/24"],
            evidence: &[
                ("Node n1", "10.244.9.0/24"),
                ("kernel of n1", "cni0: inet 10.244.0.1/24"),
            ],
            remedy: &["ip link delete cni0"],
            ..Says::default()
        },
    );
    let reborn = stage.open("POOL12/n1", &Says::default());
    let rows = &reborn.claim.affected;
    let old = stage.api().pod("old").unwrap().and_then(|pod| pod.status);
    assert!(
        rows.iter().any(|row| row.detail.contains("default/old")),
        "{rows:?}; the pod: {old:?}"
    );
    stage.open(
        "SAND01/n1",
        &Says {
            evidence: &[(
                "event FailedCreatePodSandBox of kubelet on Pod default/late",
                "already has an IP address",
            )],
            cause: &["gateway address of another range"],
            remedy: &["HOST02"],
            ..Says::default()
        },
    );
}

#[test]
fn three_cidrs_on_one_node_whose_template_is_rendered_once() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 1,
        cni: Cni::Template,
        ..Scenario::default()
    };
    let mut stage = Stage::start_with("template", scenario, &RANGES);
    let cluster = stage.cluster();
    let (api, node) = (cluster.api(), cluster.node("n1").unwrap());
    api.create_pod("old", Some("n1")).unwrap();
    let old = api.wait_running("old", PATIENCE).unwrap();
    assert!(net("10.244.0.0/24").contains(&old[0]), "{old:?}");
    stage.only(&[]);

    // The Node gets another CIDR. containerd says that it keeps the file, in its own words.
    swap(&cluster, "n1", net("10.244.7.0/24"));
    node.containerd
        .wait_log("skip generating cni config from template", PATIENCE)
        .unwrap();
    assert!(conflist(&stage).contains("10.244.0.0/24"));
    stage.only(&["HOST01/n1", "HOST02/n1", "HOST03/n1", "POOL12/n1"]);

    // Half of the remedy, and then the next CIDR: the bridge is the oldest now, and no pod starts any more.
    render_anew(&stage, "10.244.7.0/24");
    swap(&cluster, "n1", net("10.244.9.0/24"));
    assert!(conflist(&stage).contains("10.244.7.0/24"));
    for name in ["late-1", "late-2"] {
        api.create_pod(name, Some("n1")).unwrap();
        let event = api.wait_event("Pod", name, "FailedCreatePodSandBox", PATIENCE).unwrap();
        let message = event.message.unwrap_or_default();
        let told = "failed to set bridge addr: \"cni0\" already has an IP address different from 10.244.7.1/24";
        assert!(message.contains(told), "{message}");
    }
    let all = ["HOST01/n1", "HOST02/n1", "HOST03/n1", "POOL12/n1", "SAND01/n1"];
    stage.only(&all);
    three_cidrs_are_named(&stage);
    stage.mark("three CIDRs");
    stage.crash(&all);
    three_cidrs_are_named(&stage);

    // The remedies as they are printed: the file, then the pods and the bridge.
    render_anew(&stage, "10.244.9.0/24");
    for name in ["old", "late-1", "late-2"] {
        api.delete_pod(name).unwrap();
    }
    delete_bridge(node);
    api.create_pod("new", Some("n1")).unwrap();
    let new = api.wait_running("new", PATIENCE).unwrap();
    assert!(net("10.244.9.0/24").contains(&new[0]), "{new:?}");
    stage.only(&[]);
    stage.end(&all);
}
