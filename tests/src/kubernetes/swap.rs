//! A Node that is deleted and made again under other pod CIDRs while its kubelet runs on.

use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, NodeSpec};
use kube::api::ObjectMeta;

use crate::kubernetes::Cluster;
use crate::kubernetes::error::{Error, Result};
use crate::kubernetes::scenario::list;

/// Deletes a Node and makes it again at once with these pod CIDRs and its labels, taints, annotations and provider's id. The
/// kubelet never notices and takes the new one as its own; returns once it has said so.
///
/// # Errors
///
/// The API server refuses, or the kubelet does not follow in `patience`.
pub fn swap(cluster: &Cluster, name: &str, cidrs: &[IpNet], patience: Duration) -> Result<()> {
    let api = cluster.api();
    let old = api
        .node(name)?
        .ok_or_else(|| Error::Malformed(format!("no Node {name}")))?;
    let spec = old.spec.unwrap_or_default();
    let new = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: old.metadata.labels,
            annotations: old.metadata.annotations,
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: cidrs.first().map(ToString::to_string),
            pod_cidrs: Some(cidrs.iter().map(ToString::to_string).collect()),
            taints: spec.taints,
            provider_id: spec.provider_id,
            ..NodeSpec::default()
        }),
        ..Node::default()
    };
    api.delete_node(name)?;
    api.create_node(&new)?;
    let told = format!("newPodCIDR=\"{}\"", list(cidrs));
    cluster.node(name)?.kubelet.wait_log(&told, patience)?;
    // The first status may come without capacity, and a kubelet that is restarted then rejects every pod that runs
    // ("Node didn't have enough resource: pods, requested: 1, used: 0, capacity: 0").
    api.wait(&format!("node {name} tells how many pods it can run"), patience, || {
        let status = api.node(name)?.and_then(|node| node.status).unwrap_or_default();
        let counted = status.allocatable.is_some_and(|all| all.contains_key("pods"));
        Ok(counted.then_some(()))
    })?;
    api.wait_ready(name, true, patience)
}
