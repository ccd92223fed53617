//! Removed by the very command that the README names: what is left is nothing, in the cluster and on its nodes.

use std::fs;
use std::path::Path;

use cidrift_lab::kubernetes::Node;
use cidrift_lab::kubernetes::kubectl::workspace;
use serde_json::Value;

use crate::stage::{PATIENCE, Stage};

/// The README's command that begins so, as words for kubectl.
fn command(begins: &str) -> Vec<String> {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let mut lines = readme.lines().map(str::trim).filter(|line| line.starts_with(begins));
    let line = lines.next().unwrap_or_else(|| panic!("the README has no {begins:?}"));
    let words = line.split('#').next().unwrap_or_default().split_whitespace();
    words.skip(1).map(str::to_owned).collect()
}

/// Everything that the API server can list.
fn everything(stage: &Stage) -> Vec<Value> {
    let kinds = stage.kubectl(&["api-resources", "--verbs=list", "-o=name"]);
    // The same objects under two names.
    let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "events").collect();
    let list = stage.kubectl(&["get", &kinds.join(","), "--all-namespaces", "-o=json"]);
    let mut list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// All objects that say cidrift anywhere. Images stay on nodes, as people imported them, and Nodes list them.
fn traces(stage: &Stage) -> Vec<String> {
    let mut found = Vec::new();
    for mut object in everything(stage) {
        if object["kind"] == "Node" {
            object["status"]["images"] = Value::Null;
        }
        if object.to_string().contains("cidrift") {
            found.push(object.to_string());
        }
    }
    found
}

/// What of its pods is on a node: processes, containers, directories of pods and of their logs.
fn on_node(node: &Node) -> Vec<String> {
    let mut left = Vec::new();
    let names = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    };
    let containers = node.ctr(&["containers", "ls"]).unwrap();
    let containers = String::from_utf8_lossy(&containers.stdout).into_owned();
    left.extend(containers.lines().map(str::to_owned));
    for directory in ["var/log/pods", "var/log/containers"] {
        left.extend(names(&node.root().join(directory)));
    }
    let processes = node.run("/bin/ps", &["-eo", "args"]).unwrap();
    let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
    left.extend(processes.lines().map(str::to_owned));
    left.retain(|line| line.contains("cidrift") && !line.contains("cidrift-lab"));
    left
}

/// Events that are about it are those of pods that start, and none comes over and over.
fn no_storm(stage: &Stage) {
    let events: Vec<Value> = everything(stage)
        .into_iter()
        .filter(|object| object["kind"] == "Event" && object.to_string().contains("cidrift"))
        .collect();
    assert!((1..=60).contains(&events.len()), "{} events: {events:#?}", events.len());
    for event in &events {
        let series = event["series"]["count"].as_u64().unwrap_or_default();
        let count = event["deprecatedCount"].as_u64().unwrap_or_default().max(series);
        assert!(count <= 20, "{event:#}");
    }
}

/// Removes what is installed.
pub(crate) fn as_the_readme_says(stage: &Stage) {
    let nodes = stage.cluster().nodes();
    assert!(nodes.iter().all(|node| !on_node(node).is_empty()), "what runs is seen");
    no_storm(stage);
    let words = command("kubectl delete -k");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(
        words,
        ["delete", "-k", "deploy/base"],
        "what is written is what people type"
    );
    stage.kubectl(&words);
    gone(stage);
}

/// Waits until nothing is left.
pub(crate) fn gone(stage: &Stage) {
    let nodes = stage.cluster().nodes();
    let mut left = Vec::new();
    let gone = stage.cluster().api().wait("nothing of it is left", PATIENCE, || {
        left = traces(stage);
        left.extend(nodes.iter().flat_map(on_node));
        Ok(left.is_empty().then_some(()))
    });
    gone.unwrap_or_else(|error| panic!("{error}; left: {left:#?}"));
}
