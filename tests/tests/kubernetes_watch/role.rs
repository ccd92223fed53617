//! The role that the README gives the aggregator, and what it really asked for.

use std::collections::BTreeSet;

use cidrift_lab::kubernetes::Cluster;
use cidrift_lab::kubernetes::audit::Right;
use serde_json::{Value, json};

use crate::world::ask;

const README: &str = include_str!("../../../README.md");

/// One row: API group, resources, names (none: all), verbs.
struct Row {
    group: String,
    resources: Vec<String>,
    names: Vec<String>,
    verbs: Vec<String>,
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Vec<Row> {
    let section = README.split("## What the aggregator may read").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<Row> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (resources, names) = cells[2].split_once(" named ").unwrap_or((cells[2], ""));
            Row {
                group: cells[1].trim_matches('`').trim_matches('"').to_owned(),
                resources: quoted(resources),
                names: quoted(names),
                verbs: quoted(cells[3]),
            }
        })
        .collect();
    assert!(rows.len() > 10, "the README's table was not found");
    rows
}

/// Lets the user do what the README says, and nothing else.
pub(crate) fn grant(cluster: &Cluster, user: &str) {
    let rules: Vec<Value> = rows()
        .iter()
        .map(|row| {
            let mut rule = json!({"apiGroups": [row.group], "resources": row.resources, "verbs": row.verbs});
            if !row.names.is_empty() {
                rule["resourceNames"] = json!(row.names);
            }
            rule
        })
        .collect();
    bind(cluster, user, "readme", json!(rules));
}

/// Lets the user do this.
pub(crate) fn bind(cluster: &Cluster, user: &str, name: &str, rules: Value) {
    let (roles, version) = ("/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1");
    let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    ask(cluster, "POST", &format!("{roles}/clusterroles"), &role);
    let binding = json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
    ask(cluster, "POST", &format!("{roles}/clusterrolebindings"), &binding);
}

/// All rights that the README names.
pub(crate) fn rights() -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for row in rows() {
        for resource in &row.resources {
            for verb in &row.verbs {
                all.insert((row.group.clone(), resource.clone(), verb.clone()));
            }
        }
    }
    all
}
