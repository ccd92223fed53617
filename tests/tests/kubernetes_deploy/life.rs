//! What an installation lives through: its CA is made anew, the API server goes away, the aggregator goes to another
//! node. One installation for all of it, one thing after another.

use std::io::{Read, Write};
use std::net::TcpStream;

use cidrift_lab::kubernetes::deployed::NAMESPACE;
use cidrift_lab::require::{Need, have};
use serde_json::Value;

use crate::stage::{PATIENCE, Stage, wanted};
use crate::{ca, moved, outage};

/// The node that the aggregator runs on, and the name of its pod.
pub(crate) fn aggregator(stage: &Stage) -> (String, String) {
    let selector = "-l=app.kubernetes.io/name=cidrift-aggregator";
    let pods = stage.kubectl(&["-n", NAMESPACE, "get", "pods", selector, "-o=json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap();
    let mut alive = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Succeeded");
    let pod = alive.next().unwrap_or_else(|| panic!("no aggregator: {pods:#?}"));
    let word = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    (word("/spec/nodeName"), word("/metadata/name"))
}

/// A figure of an aggregator's `/metrics`, on this node.
pub(crate) fn figure(stage: &Stage, node: &str, name: &str) -> u64 {
    let address = stage.cluster().node(node).unwrap().addresses[0];
    let ask = move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((address, 7441))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = stage.cluster().plane().netns.run(ask).unwrap().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Waits until all three nodes report.
pub(crate) fn all_report(stage: &Stage) {
    let mut last = Value::Null;
    let waited = stage.cluster().api().wait("all nodes report", PATIENCE, || {
        last = stage.ask(&["status"])?;
        Ok((last["nodes_reporting"] == 3).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error}; {last:#}"));
}

#[test]
fn it_outlives_its_ca_the_api_server_and_the_node_of_its_aggregator() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::empty();
    let mut wanted = wanted();
    // A CA signs two seconds after it was told, not a day.
    wanted.flags = ["--hold=500ms", "--settle=3s", "--silence=6s", "--ca-lead=2s"]
        .map(str::to_owned)
        .to_vec();
    stage.install(&wanted);
    stage.healthy();
    ca::rotated(&stage);
    ca::secret_removed(&stage);
    stage.healthy();
    outage::api_server_gone(&stage);
    stage.healthy();
    moved::to_another_node(&stage, wanted);
    stage.healthy();
    stage.remove().unwrap();
}
