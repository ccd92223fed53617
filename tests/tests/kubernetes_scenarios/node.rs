//! What is done to a node, and how it shows.

use cidrift_lab::kubernetes::scenario::list;
use cidrift_lab::kubernetes::{Cluster, Node};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::NodeSpec;
use kube::api::ObjectMeta;

use crate::stage::PATIENCE;

/// What cidrift is told of the bench's ranges.
pub(crate) const RANGES: [&str; 4] = ["--cluster-cidr", "10.244.0.0/16", "--service-cidr", "10.96.0.0/12"];

/// A prefix that is written in a test.
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Deletes a Node and makes it again at once with this pod CIDR and its labels, taints and
/// annotations. The kubelet never
/// notices and takes the new one as its own; returns once it has said so.
pub(crate) fn swap(cluster: &Cluster, name: &str, cidr: IpNet) {
    let api = cluster.api();
    let old = api.node(name).unwrap().unwrap();
    let spec = old.spec.unwrap_or_default();
    let new = k8s_openapi::api::core::v1::Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: old.metadata.labels,
            annotations: old.metadata.annotations,
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: Some(cidr.to_string()),
            pod_cidrs: Some(vec![cidr.to_string()]),
            taints: spec.taints,
            ..NodeSpec::default()
        }),
        ..k8s_openapi::api::core::v1::Node::default()
    };
    api.delete_node(name).unwrap();
    api.create_node(&new).unwrap();
    let told = format!("newPodCIDR=\"{}\"", list(&[cidr]));
    let line = cluster.node(name).unwrap().kubelet.wait_log(&told, PATIENCE).unwrap();
    assert!(line.contains("\"Updating Pod CIDR\""), "{line}");
    // The first status may come without capacity, and a kubelet that is restarted then rejects every pod that runs
    // ("Node didn't have enough resource: pods, requested: 1, used: 0, capacity: 0").
    let what = format!("node {name} tells how many pods it can run");
    let counted = api.wait(&what, PATIENCE, || {
        let status = api.node(name)?.and_then(|node| node.status).unwrap_or_default();
        Ok(status
            .allocatable
            .is_some_and(|all| all.contains_key("pods"))
            .then_some(()))
    });
    counted.unwrap();
    api.wait_ready(name, true, PATIENCE).unwrap();
}

/// Runs a program on the node that must succeed.
pub(crate) fn run(node: &Node, program: &str, arguments: &[&str]) -> String {
    let output = node.run(program, arguments).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The bridge goes, as our remedy says; the next pod makes it anew.
pub(crate) fn delete_bridge(node: &Node) {
    run(node, "/sbin/ip", &["link", "delete", "cni0"]);
}
