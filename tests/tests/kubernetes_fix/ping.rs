//! Whether pods of different nodes reach each other: echo requests out of the pods' own network namespaces.

use std::net::IpAddr;
use std::time::Duration;

use cidrift_lab::kubernetes::Cluster;
use cidrift_lab::ping::ping;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use crate::watch::pod_ready;

/// As hosts send.
const TTL: u32 = 64;

/// A pod of web on a node.
struct There {
    node: String,
    pod: String,
    addresses: Vec<IpAddr>,
}

/// One Ready pod of web for every node that has one.
fn pods(cluster: &Cluster) -> Vec<There> {
    let api = cluster.api();
    let pods: kube::Api<Pod> = kube::Api::default_namespaced(api.client());
    let listed = api
        .block_on(pods.list(&ListParams::default().labels("app=web")))
        .unwrap();
    let mut found: Vec<There> = Vec::new();
    for pod in listed.items.iter().filter(|pod| pod_ready(pod)) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let addresses = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
        let addresses: Vec<IpAddr> = addresses.filter_map(|address| address.ip.parse().ok()).collect();
        if let (Some(node), Some(pod)) = (node, pod.metadata.name.clone())
            && !found.iter().any(|there| there.node == node)
        {
            found.push(There { node, pod, addresses });
        }
    }
    found
}

/// Nodes without a Ready pod of web: "no pod on n2".
pub(crate) fn empty(cluster: &Cluster) -> Vec<String> {
    without(cluster, &pods(cluster))
}

fn without(cluster: &Cluster, pods: &[There]) -> Vec<String> {
    let empty = cluster
        .nodes()
        .iter()
        .filter(|node| !pods.iter().any(|there| there.node == node.name));
    empty.map(|node| format!("no pod on {}", node.name)).collect()
}

/// What does not get through between pods of any two nodes, in both directions: "n1 -> n2", or "n1 -> n2 by IPv6". A node
/// without a Ready pod of web has nobody to answer; nor has one whose pod lacks an address of a family of the pool.
pub(crate) fn missing(cluster: &Cluster) -> Vec<String> {
    let pods = pods(cluster);
    let mut missing = without(cluster, &pods);
    for range in &cluster.scenario().cluster_cidr {
        let has = |there: &There| {
            let mut own = there.addresses.iter();
            own.any(|address| address.is_ipv4() == range.addr().is_ipv4())
        };
        let lack = pods.iter().filter(|there| !has(there));
        missing.extend(lack.map(|there| format!("{}: no address of the family of {range}", there.node)));
    }
    for from in &pods {
        let netns = cluster
            .node(&from.node)
            .unwrap()
            .pod_netns("default", &from.pod)
            .unwrap();
        for to in pods.iter().filter(|to| to.node != from.node) {
            for &address in &to.addresses {
                if ping(&netns, address, TTL).unwrap().is_none() {
                    let by = if address.is_ipv4() { "" } else { " by IPv6" };
                    missing.push(format!("{} -> {}{by}", from.node, to.node));
                }
            }
        }
    }
    missing
}

/// Waits until pods of every two nodes reach each other by all of their addresses, both ways.
pub(crate) fn wait(cluster: &Cluster, patience: Duration) {
    let mut last = Vec::new();
    let waited = cluster.api().wait("pods of all nodes reach each other", patience, || {
        last = missing(cluster);
        Ok(last.is_empty().then_some(()))
    });
    assert!(waited.is_ok(), "not through: {last:?}");
}
