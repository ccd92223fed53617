//! Each right of the agent, taken away: what it no longer sees then is said, and nothing else changes.

use cidrift_lab::require::{Need, have};
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage};

fn patch(operations: &Value) -> Vec<Value> {
    vec![json!({"target": {"kind": "DaemonSet"}, "patch": operations.to_string()})]
}

#[test]
fn without_sys_ptrace_it_is_said_that_other_processes_may_not_be_looked_at() {
    if !have(Need::Kubernetes) {
        return;
    }
    let path = "/spec/template/spec/containers/0/securityContext/capabilities/add";
    let stage = Stage::start(&patch(&json!([{"op": "remove", "path": path}])));
    let found = stage.open(&["SEEN02/n1", "SEEN02/n2", "SEEN02/n3"]);
    let text = json!(found).to_string();
    assert!(
        text.contains("SYS_PTRACE") || text.contains("ermission denied"),
        "{found:#?}"
    );
    stage.remove().unwrap();
}

/// Directories of the host that the agent has, and what is said without each. `/opt` and `/var/log` are missing here:
/// the bench has its CNI plugins elsewhere, and no journal.
const DIRECTORIES: [(&str, &str); 5] = [
    ("proc", "mount the host's /proc"),
    ("etc", "/etc/cni/net.d: No such file or directory"),
    ("run", "its directory is not mounted for this agent"),
    ("usr", "cannot be seen below /host"),
    ("var-lib", "/var/lib/cni-plugins cannot be seen below /host"),
];

/// One cluster-wide change of the DaemonSet at a time: each takes some seconds.
#[test]
fn without_any_of_the_host_s_directories_it_is_said_what_cannot_be_seen_and_nothing_is_a_false_alarm() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::start(&[]);
    stage.healthy();
    let daemon_set = stage.kubectl(&["-n=cidrift", "get", "daemonset", "cidrift-agent", "-o=json"]);
    let daemon_set: Value = serde_json::from_str(&daemon_set).unwrap();
    let path = "/spec/template/spec/containers/0/volumeMounts";
    let mounts = daemon_set.pointer(path).and_then(Value::as_array).unwrap();
    for (name, said) in DIRECTORIES {
        let rest: Vec<&Value> = mounts.iter().filter(|mount| mount["name"] != name).collect();
        assert_eq!(rest.len() + 1, mounts.len(), "{name} is not mounted");
        let change = json!([{"op": "replace", "path": path, "value": rest}]).to_string();
        stage.kubectl(&[
            "-n=cidrift",
            "patch",
            "daemonset",
            "cidrift-agent",
            "--type=json",
            "-p",
            &change,
        ]);
        stage.wait_ready().unwrap();
        let waited = stage.cluster().api().wait(&format!("{name}: {said}"), PATIENCE, || {
            let status = stage.ask(&["status"])?;
            Ok((status["health"] != "healthy" && status["unknowns"].to_string().contains(said)).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error}; {:#}", stage.ask(&["status"]).unwrap()));
        let findings = stage.findings().unwrap();
        let alarms: Vec<&Value> = findings.iter().filter(|one| one["code"] != "SEEN02").collect();
        assert!(alarms.is_empty(), "without {name}: {alarms:#?}");
    }
    // With all of them it is well again.
    stage.apply().unwrap();
    stage.wait_ready().unwrap();
    stage.healthy();
    stage.remove().unwrap();
}

#[test]
fn the_aggregator_s_own_node_loses_its_pod_network_and_everybody_still_reports() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::start(&[]);
    stage.healthy();
    let cluster = stage.cluster();
    let n1 = cluster.node("n1").unwrap();
    // Its routes to all other nodes' pods go, and the others' routes to its pods.
    let mut routes = Vec::new();
    for name in ["n2", "n3"] {
        let peer = cluster.node(name).unwrap();
        let cidr = cluster.api().wait_cidrs(name, PATIENCE).unwrap()[0];
        routes.push((n1, cidrift_lab::route::Route::via(cidr, peer.addresses[0], "eth0")));
        let own = cluster.api().wait_cidrs("n1", PATIENCE).unwrap()[0];
        routes.push((peer, cidrift_lab::route::Route::via(own, n1.addresses[0], "eth0")));
    }
    for (node, route) in &routes {
        node.ip.del_route(route).unwrap();
    }
    let broken = ["PATH01/n1", "PATH01/n2", "PATH01/n3"];
    stage.open(&broken);
    // Agents and aggregator are made anew in that state: they come, and find each other.
    stage.kubectl(&["-n", "cidrift", "delete", "pods", "--all", "--wait=true"]);
    stage.wait_ready().unwrap();
    stage.open(&broken);
    for (node, route) in &routes {
        node.ip.add_route(route).unwrap();
    }
    stage.nothing_open();

    // And without any CNI, as on a node that is new.
    n1.delete_conflist().unwrap();
    cluster.api().wait_ready("n1", false, PATIENCE).unwrap();
    stage.kubectl(&["-n", "cidrift", "delete", "pods", "--all", "--wait=true"]);
    stage.wait_ready().unwrap();
    let mut last = Value::Null;
    let said = "n1: its network is not ready";
    let waited = cluster
        .api()
        .wait("all report, and n1's network is told", PATIENCE, || {
            last = stage.ask(&["status"])?;
            Ok((last["nodes_reporting"] == 3 && last["unknowns"].to_string().contains(said)).then_some(()))
        });
    waited.unwrap_or_else(|error| panic!("{error}; {last:#}"));
    cluster.sync_bridge_of("n1").unwrap();
    stage.nothing_open();
    stage.healthy();
    stage.remove().unwrap();
}
