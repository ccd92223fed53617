//! A node whose CNI configuration is gone: kubelet says why it is not Ready, and nobody calls it healthy.

use std::time::{Duration, Instant};

use cidrift_lab::client;
use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;
use cidrift_proto::v1::Health;

use crate::node::RANGES;
use crate::stage::{PATIENCE, Says, Stage, ca};

/// kubelet's and containerd's words for it.
const WORDS: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
                     message:Network plugin returns error: cni plugin not initialized";

/// What `kubectl cidrift` has to say of health: the cluster's, n1's, n2's, and why n1 is not Ready.
fn nobody_calls_it_healthy(stage: &Stage) {
    let cluster = stage.cluster();
    let underlay = &cluster.plane().netns;
    let status = client::status(underlay, &ca(&cluster)).unwrap();
    assert_eq!(status.health(), Health::Findings, "{status:?}");
    assert!(
        status
            .unknowns
            .iter()
            .any(|why| why.contains("n1") && why.contains(WORDS)),
        "{status:?}"
    );
    let n1 = client::node(underlay, &ca(&cluster), "n1").unwrap().summary.unwrap();
    assert_eq!((n1.ready, n1.health()), (false, Health::Findings), "{n1:?}");
    assert!(n1.not_ready.contains(WORDS), "{n1:?}");
    let n2 = client::node(underlay, &ca(&cluster), "n2").unwrap().summary.unwrap();
    assert_eq!(
        (n2.ready, n2.health(), n2.not_ready.as_str()),
        (true, Health::Healthy, ""),
        "{n2:?}"
    );
}

/// Waits until the cluster is called healthy.
fn wait_healthy(stage: &Stage) {
    let start = Instant::now();
    loop {
        let status = client::status(&stage.cluster().plane().netns, &ca(&stage.cluster())).unwrap();
        if status.health() == Health::Healthy {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{status:?}; {}", stage.picture());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_node_whose_cni_configuration_is_gone() {
    if !have(Need::Kubernetes) {
        return;
    }
    let mut stage = Stage::start_with("unready", Scenario::default(), &RANGES);
    let cluster = stage.cluster();
    let api = cluster.api();
    // A pod each: what leads to them is known then.
    for (pod, node) in [("p1", "n1"), ("p2", "n2")] {
        api.create_pod(pod, Some(node)).unwrap();
        api.wait_running(pod, PATIENCE).unwrap();
    }
    wait_healthy(&stage);
    stage.only(&[]);

    cluster.node("n1").unwrap().delete_conflist().unwrap();
    api.wait_ready("n1", false, PATIENCE).unwrap();
    let status = api.node("n1").unwrap().unwrap().status.unwrap();
    let mut conditions = status.conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("KubeletNotReady"));
    assert!(
        ready.message.as_deref().unwrap_or_default().contains(WORDS),
        "{ready:?}"
    );
    // kubelet does not even try to make a sandbox: what it says is another event.
    api.create_pod("waits", Some("n1")).unwrap();
    let event = api.wait_event("Pod", "waits", "NetworkNotReady", PATIENCE).unwrap();
    assert!(
        event.message.as_deref().unwrap_or_default().contains(WORDS),
        "{event:?}"
    );

    let says = Says {
        severity: Some(Severity::Error),
        evidence: &[("containerd.sock on n1", "cni plugin not initialized")],
        explained_by: Some(&[]),
        ..Says::default()
    };
    stage.open("HOST06/n1", &says);
    stage.only(&["HOST06/n1"]);
    nobody_calls_it_healthy(&stage);
    stage.mark("not Ready");
    stage.crash(&["HOST06/n1"]);
    nobody_calls_it_healthy(&stage);

    cluster.sync_bridge().unwrap();
    api.wait_ready("n1", true, PATIENCE).unwrap();
    api.wait_running("waits", PATIENCE).unwrap();
    stage.only(&[]);
    wait_healthy(&stage);
    stage.end(&["HOST06/n1"]);
}
