//! How long sandboxes take on a real node: what its runtime logs, what its kubelet counts, and what is shown of it.

use std::fs;
use std::time::Duration;

use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::require::{Need, have};
use cidrift_lab::{binaries, client};
use cidrift_proto::facts::{HostFacts, SetupFacts};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, ca};

const PODS: [&str; 3] = ["p1", "p2", "p3"];

/// Metrics are read once a minute, and what is only counted is told once a minute; each may wait for the other.
const COUNTED: Duration = Duration::from_secs(240);

#[test]
fn what_a_real_kubelet_counts_and_its_runtime_logs_is_shown_of_the_node() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 1,
        ..Scenario::default()
    };
    let stage = Stage::start("latency", scenario);
    let cluster = stage.cluster();
    let api = stage.api();
    api.wait_cidrs("n1", PATIENCE).unwrap();
    stage.only(&[]);

    // Its port that asks nobody who he is. Without this its metrics are behind a right that no agent has.
    let node = cluster.node("n1").unwrap();
    let path = node.kubelet_directory().join("config.yaml");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["readOnlyPort"] = json!(10255);
    fs::write(&path, config.to_string()).unwrap();
    node.kubelet.restart().unwrap();
    for name in PODS {
        api.create_pod(name, Some("n1")).unwrap();
    }
    for name in PODS {
        api.wait_running(name, PATIENCE).unwrap();
    }

    let agent = binaries::find(|text| eprintln!("{text}")).unwrap().agent;
    let output = node.run(agent, &["check", "--node-name", "n1", "-o", "json"]).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let setups = &report["setups"];
    let logged = &setups["logged"]["spans"][0];
    assert!(
        logged["made"].as_u64() >= Some(3) && logged["median_ms"].as_u64() > Some(0),
        "{setups:#}"
    );
    let [counted] = setups["counted"].as_array().unwrap().as_slice() else {
        panic!("{setups:#}");
    };
    assert_eq!(counted["source"], "kubelet's metrics at 127.0.0.1:10255");
    assert_eq!(
        (&counted["program"], &counted["networks"]),
        (&json!("kubelet"), &json!(false))
    );
    let total = &counted["total"];
    assert!(total["calls"].as_u64() >= Some(3) && total["failed"] == 0, "{setups:#}");
    // Both tell of the same calls: kubelet waits for what the runtime logs.
    assert!(total["mean_ms"].as_u64() > Some(0), "{setups:#}");
    let edge = total["slowest_within_ms"]
        .as_u64()
        .or(total["slowest_beyond_ms"].as_u64());
    assert!(edge > Some(0), "{setups:#}");

    // The agent that runs there tells the same.
    let underlay = &cluster.plane().netns;
    let told = api.wait("the aggregator knows what kubelet counts", COUNTED, || {
        let detail = client::node(underlay, &ca(&cluster), "n1").unwrap();
        let facts = detail.facts.map(|facts| HostFacts::try_from(&facts).unwrap());
        let setups = facts.and_then(|facts| facts.setups);
        Ok(setups.filter(|setups| setups.counted.iter().any(|row| row.total.calls >= 3)))
    });
    let told: SetupFacts = told.unwrap();
    assert_eq!(told.counted.len(), 1, "{told:?}");
    let logged = told.logged.unwrap();
    assert!(
        logged.spans[0].made >= 3 && logged.source.contains("containerd"),
        "{logged:?}"
    );
    stage.only(&[]);
    stage.end(&[]);
}
