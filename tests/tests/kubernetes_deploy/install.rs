//! Installed, asked, broken, mended, and removed.

use std::collections::BTreeSet;

use cidrift_lab::kubernetes::audit::{self, Right};
use cidrift_lab::kubernetes::deployed::NAMESPACE;
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use serde_json::Value;

use crate::removal;
use crate::stage::{PATIENCE, Stage};

/// What the installed base lets the aggregator do, as the API server has it, without names.
fn granted(stage: &Stage) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for (kind, namespace) in [("clusterrole", ""), ("role", NAMESPACE)] {
        let role = stage.kubectl(&["-n", namespace, "get", kind, "cidrift-aggregator", "-o=json"]);
        let role: Value = serde_json::from_str(&role).unwrap();
        let words = |rule: &Value, key: &str| -> Vec<String> {
            let list = rule[key].as_array().into_iter().flatten();
            list.map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in words(rule, "apiGroups") {
                for resource in words(rule, "resources") {
                    let verbs = words(rule, "verbs").into_iter();
                    all.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
    }
    all
}

/// Rights that the bench has no use for: kinds of CNIs that are not here, a cluster that names a token's node in the
/// token, and a ConfigMap or Secret that is rewritten (rotation has tests of its own).
fn no_use((group, resource, verb): &Right) -> bool {
    let foreign = group.contains('.') && !group.ends_with("k8s.io") || resource == "clustercidrs";
    foreign || (resource == "pods" && verb == "get") || verb == "update"
}

/// The agent asked the API server for nothing at all; the aggregator for nothing that is forbidden, and for everything
/// that it was granted and that the bench has.
fn rights(stage: &Stage) {
    let user = |name: &str| format!("system:serviceaccount:{NAMESPACE}:{name}");
    let agent = audit::asked(stage.cluster(), &user("cidrift-agent"), None).unwrap();
    assert_eq!(agent.entries, 0, "{agent:?}");
    let pod = stage.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "pods",
        "-l=app.kubernetes.io/name=cidrift-aggregator",
        "-o=jsonpath={.items[*].metadata.name}",
    ]);
    let aggregator = audit::asked(stage.cluster(), &user("cidrift-aggregator"), Some(pod.trim())).unwrap();
    assert!(aggregator.entries > 0, "nothing of pod {pod:?} is in the audit log");
    assert!(aggregator.refused.is_empty(), "{:#?}", aggregator.refused);
    let granted = granted(stage);
    let unused: Vec<&Right> = granted
        .difference(&aggregator.used)
        .filter(|right| !no_use(right))
        .collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
}

#[test]
fn from_an_empty_cluster_to_a_finding_its_clearing_and_nothing_left() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::start(&[]);
    stage.healthy();
    let pods = stage.kubectl(&["-n", NAMESPACE, "get", "pods", "-o=json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(
        pods["items"].as_array().unwrap().len(),
        4,
        "three agents and an aggregator"
    );
    let restarts = |pods: &Value| {
        let counts = pods["items"].as_array().unwrap().iter();
        counts
            .map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(restarts(&pods), 0, "{pods:#}");

    // A person looks.
    let output = stage.cidrift(&["status"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("3 of them reporting"), "{text}");

    // Every reader of a pod's agent sees what it would see as a program of the host.
    for node in ["n1", "n2", "n3"] {
        let output = stage.cidrift(&["node", node]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for said in ["containerd.sock", "kubelet, pid", "/etc/cni/net.d/10-bridge.conflist"] {
            assert!(text.contains(said), "{said} of {node}:\n{text}");
        }
        let kubelet = text
            .lines()
            .find(|line| line.starts_with("kubelet "))
            .unwrap_or_default();
        assert!(kubelet.contains("10.244."), "its kubelet's own word on {node}:\n{text}");
    }

    // A route of n2 goes, and comes back.
    let [n2, n3] = ["n2", "n3"].map(|name| stage.cluster().node(name).unwrap());
    let cidr = stage.cluster().api().wait_cidrs("n3", PATIENCE).unwrap()[0];
    let route = Route::via(cidr, n3.addresses[0], "eth0");
    n2.ip.del_route(&route).unwrap();
    let found = stage.open(&["PATH01/n2"]);
    assert!(
        found
            .iter()
            .any(|one| one["summary"].as_str().unwrap().contains(&cidr.to_string()))
    );
    n2.ip.add_route(&route).unwrap();
    stage.nothing_open();
    stage.healthy();

    // journalctl runs in the agent's image: all that it needs is in there.
    let said = stage.kubectl(&[
        "-n",
        NAMESPACE,
        "exec",
        "daemonset/cidrift-agent",
        "--",
        "/usr/bin/journalctl",
        "--version",
    ]);
    assert!(said.starts_with("systemd "), "{said}");

    rights(&stage);

    // The same once more changes nothing: no pod is made anew.
    let again = stage.apply().unwrap();
    for kind in ["daemonset", "deployment"] {
        let line = again.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        assert!(line.ends_with("unchanged"), "{again}");
    }

    removal::as_the_readme_says(&stage);
}
