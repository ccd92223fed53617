//! The cluster, and doing things to it: accounts, pods that run nowhere, tokens.

use cidrift_lab::kubernetes::{Cluster, Scenario};
use serde_json::{Value, json};

/// Where agents and the aggregator belong.
pub(crate) const NAMESPACE: &str = "cidrift";
/// Whom agents run as.
pub(crate) const AGENT: &str = "cidrift-agent";

/// A pod that no kubelet runs.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// A control plane with the namespace, the agents' account, and Nodes n1 and n2 without machines.
pub(crate) fn start() -> Cluster {
    let scenario = Scenario {
        nodes: 0,
        ..Scenario::default()
    };
    let cluster = Cluster::start(scenario, &|text| eprintln!("{text}")).unwrap_or_else(|error| panic!("{error}"));
    for name in ["n1", "n2"] {
        cluster.api().create_fake_node(name, &[]).unwrap();
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    ask(&cluster, "POST", "/api/v1/namespaces", &namespace);
    account(&cluster, NAMESPACE, AGENT);
    crate::rights::grant(&cluster);
    cluster
}

/// Does something to an API object and gives the answer.
pub(crate) fn ask(cluster: &Cluster, method: &str, path: &str, body: &Value) -> Value {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    let client = cluster.api().client();
    let answer = cluster.api().block_on(client.request::<Value>(request));
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Makes a ServiceAccount; gives its UID.
pub(crate) fn account(cluster: &Cluster, namespace: &str, name: &str) -> String {
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
    let made = ask(
        cluster,
        "POST",
        &format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
        &body,
    );
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// An account's UID.
pub(crate) fn account_uid(cluster: &Cluster, namespace: &str, name: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
    let account = ask(cluster, "GET", &path, &json!({}));
    account["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Makes an agent's pod on this node.
pub(crate) fn agent_pod(cluster: &Cluster, name: &str, node: &str) -> Bound {
    pod_of(cluster, AGENT, name, node)
}

/// Makes a pod of another account's.
pub(crate) fn pod_of(cluster: &Cluster, account: &str, name: &str, node: &str) -> Bound {
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": node, "serviceAccountName": account, "automountServiceAccountToken": false,
        "tolerations": [{"operator": "Exists"}], "containers": [{"name": "agent", "image": "cidrift-agent"}]}});
    let made = ask(cluster, "POST", &format!("/api/v1/namespaces/{NAMESPACE}/pods"), &body);
    Bound {
        name: name.to_owned(),
        uid: made["metadata"]["uid"].as_str().unwrap().to_owned(),
    }
}

/// Takes a pod away at once.
pub(crate) fn delete_pod(cluster: &Cluster, pod: &Bound) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}", pod.name);
    let now = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    ask(cluster, "DELETE", &path, &now);
}

/// Has the API server make a token, as the kubelet does for a projected volume.
pub(crate) fn token(cluster: &Cluster, account: &str, audiences: &[&str], pod: Option<&Bound>) -> String {
    let bound = pod.map(|pod| json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}));
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": audiences, "expirationSeconds": 600, "boundObjectRef": bound}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
    let made = ask(cluster, "POST", &path, &body);
    made["status"]["token"].as_str().unwrap().to_owned()
}
