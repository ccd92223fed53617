//! What the README lets the aggregator do, and what the API server's audit log says that it did.

use std::collections::BTreeSet;

use cidrift_lab::kubernetes::Cluster;
use serde_json::{Value, json};

use crate::world::{NAMESPACE, ask};

const README: &str = include_str!("../../../README.md");

/// Who the aggregator is.
pub(crate) const AGGREGATOR: &str = "aggregator";

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Rows of the tables below a heading: their cells.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = README.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| line.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rule(row: &[String]) -> Value {
    let group = row[0].trim_matches('`').trim_matches('"');
    let (resources, names) = row[1].split_once(" named ").unwrap_or((&row[1], ""));
    let mut rule = json!({"apiGroups": [group], "resources": quoted(resources), "verbs": quoted(&row[2])});
    if !names.is_empty() {
        rule["resourceNames"] = json!(quoted(names));
    }
    rule
}

/// What the README says of identity: rules for the cluster, for the agents' namespace, and of the viewer.
fn identity() -> (Vec<Value>, Vec<Value>, Vec<Value>) {
    let (mut cluster, mut namespaced, mut viewer) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows("## Who may report, and who may ask") {
        match row[3].as_str() {
            _ if row[0] == "`cidrift.dev`" => viewer.push(rule(&row)),
            "cluster" => cluster.push(rule(&row)),
            "agents' namespace" => namespaced.push(rule(&row)),
            other => panic!("{other:?}: where?"),
        }
    }
    assert_eq!((cluster.len(), namespaced.len(), viewer.len()), (2, 1, 5));
    (cluster, namespaced, viewer)
}

/// Lets the aggregator do what the README says and nothing else, and makes the ClusterRole of operators.
pub(crate) fn grant(cluster: &Cluster) {
    let (everywhere, namespaced, viewer) = identity();
    let read: Vec<Value> = rows("## What the aggregator may read")
        .iter()
        .map(|row| rule(row))
        .collect();
    assert!(read.len() > 10);
    role(cluster, "aggregator-reads", &[read, everywhere].concat());
    role(cluster, "aggregator-agents", &namespaced);
    role(cluster, "cidrift-viewer", &viewer);
    let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": AGGREGATOR});
    bind(cluster, "clusterrolebindings", "aggregator-reads", &user);
    bind(
        cluster,
        &format!("namespaces/{NAMESPACE}/rolebindings"),
        "aggregator-agents",
        &user,
    );
}

fn role(cluster: &Cluster, name: &str, rules: &[Value]) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": rules});
    ask(cluster, "POST", &format!("{RBAC}/clusterroles"), &role);
}

/// Binds the ClusterRole of this name to somebody, under the same name.
pub(crate) fn bind(cluster: &Cluster, place: &str, name: &str, subject: &Value) {
    let kind = match place {
        "clusterrolebindings" => "ClusterRoleBinding",
        _ => "RoleBinding",
    };
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}, "subjects": [subject]});
    ask(cluster, "POST", &format!("{RBAC}/{place}"), &binding);
}

/// Takes it back.
pub(crate) fn unbind(cluster: &Cluster, name: &str) {
    ask(
        cluster,
        "DELETE",
        &format!("{RBAC}/clusterrolebindings/{name}"),
        &json!({}),
    );
}

/// What the aggregator asked the API server for, in order: "create tokenreviews", "get pods".
pub(crate) fn asked(cluster: &Cluster) -> Vec<String> {
    let entries = audit(cluster);
    let word = |entry: &Value, at: &str| entry.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let asked = entries
        .iter()
        .map(|entry| format!("{} {}", word(entry, "/verb"), word(entry, "/objectRef/resource")));
    asked.collect()
}

/// Asserts that nothing was refused, and that it has used these rights.
pub(crate) fn assert_used(cluster: &Cluster, wanted: &[&str]) {
    let refused = |entry: &&Value| entry["responseStatus"]["code"] == 403;
    let all = audit(cluster);
    let refused: Vec<&Value> = all.iter().filter(refused).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<String> = asked(cluster).into_iter().collect();
    for right in wanted {
        assert!(used.contains(*right), "{right} is not used: {used:?}");
    }
}

fn audit(cluster: &Cluster) -> Vec<Value> {
    let text = std::fs::read_to_string(&cluster.plane().audit_log).unwrap();
    // The last line may be half written.
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries
        .filter(|entry| entry["user"]["username"] == AGGREGATOR)
        .collect()
}
