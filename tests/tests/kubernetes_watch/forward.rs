//! `kubectl cidrift` through the API server and a real kubelet's port-forward, to an aggregator whose CA is in the cluster.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use cidrift_lab::binaries;
use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::require::{Need, have};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::world::start;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_operator_asks_through_the_api_server_and_verifies_the_aggregator_by_its_configmap() {
    if !have(Need::Kubernetes) {
        return;
    }
    let programs = binaries::find(|text| eprintln!("{text}")).unwrap();
    let cluster = start(Scenario {
        nodes: 1,
        ..Scenario::default()
    });
    let node = cluster.node("n1").unwrap();
    let kubeconfig = cluster
        .kubeconfig_for("aggregator", Some("system:masters"), true)
        .unwrap();
    let words = [
        "--listen=127.0.0.1:7440",
        "--http-listen=127.0.0.1:7441",
        "--namespace=default",
        "--kubeconfig",
    ];
    let arguments = words.iter().map(OsString::from).chain([kubeconfig.into()]).collect();
    let aggregator = node
        .start_program("cidrift-aggregator", &programs.aggregator, arguments, Vec::new())
        .unwrap();
    // A pod of the node's own network stands for the aggregator's: port-forward ends where the program listens.
    let mut pod: Pod = cidrift_lab::kubernetes::client::pod("aggregator", Some("n1"));
    pod.metadata.labels = serde_json::from_value(json!({"app.kubernetes.io/name": "cidrift-aggregator"})).unwrap();
    pod.spec.as_mut().unwrap().host_network = Some(true);
    cluster.api().create(&pod).unwrap();
    cluster.api().wait_running("aggregator", PATIENCE).unwrap();
    let began = Instant::now();
    let (status, text) = loop {
        let ran = Command::new(&programs.kubectl)
            .args(["nodes", "-o", "json", "-n", "default", "--kubeconfig"])
            .arg(cluster.kubeconfig())
            .env_remove("CIDRIFT_SERVER")
            .env_remove("CIDRIFT_CA")
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
        // The aggregator reads its first list meanwhile.
        if (ran.status.success() && text.contains("\"n1\"")) || began.elapsed() > PATIENCE {
            break (ran.status, text);
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert!(
        status.success() && text.contains("\"n1\""),
        "{status}: {text}; {}",
        aggregator.tail()
    );
}
