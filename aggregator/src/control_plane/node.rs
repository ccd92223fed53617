//! A Node object, trimmed to what matters here. Pure, and shared by both sources.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde::Deserialize;

use crate::cluster::{FlannelAnnotations, NodeRecord};

/// flannel's default annotation prefix (`--kube-annotation-prefix`).
const FLANNEL: &str = "flannel.alpha.coreos.com/";

/// Labels that say what IPAM and platform a node has; the others are not kept.
const LABELS: &[&str] = &[
    "type",
    "kubernetes.io/os",
    "eks.amazonaws.com/",
    "alpha.eksctl.io/",
    "karpenter.sh/",
    "kops.k8s.io/",
    "kubernetes.azure.com/",
    "cloud.google.com/gke-",
    "node.openshift.io/",
];

/// Trims a Node. `None`: it has no name, which no Node of an API server lacks.
/// `now` stands as `changed_at` until the engine knows better.
pub fn record(node: &Node, now: Timestamp) -> Option<NodeRecord> {
    let name = node.metadata.name.clone().filter(|name| !name.is_empty())?;
    let spec = node.spec.as_ref();
    let raw: Vec<String> = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let status = node.status.as_ref();
    let addresses = status
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    let conditions = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let labels = node.metadata.labels.iter().flatten();
    Some(NodeRecord {
        uid: node.metadata.uid.clone().unwrap_or_default(),
        created_at: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
        deleting: node.metadata.deletion_timestamp.is_some(),
        pod_cidr: spec
            .and_then(|spec| spec.pod_cidr.clone())
            .filter(|cidr| !cidr.is_empty()),
        pod_cidrs: raw
            .iter()
            .filter_map(|cidr| cidr.parse::<IpNet>().ok())
            .map(|net| net.trunc())
            .collect(),
        pod_cidrs_raw: raw,
        internal_ips: addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect(),
        ready: conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .map(|condition| condition.status == "True"),
        provider_id: spec.and_then(|spec| spec.provider_id.clone()),
        labels: labels
            .filter(|(key, _)| {
                LABELS
                    .iter()
                    .any(|kept| key == kept || (kept.ends_with(['/', '-']) && key.starts_with(kept)))
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        flannel: node.metadata.annotations.as_ref().and_then(flannel),
        changed_at: now,
        name,
    })
}

/// What a backend announces; "null" for host-gw.
#[derive(Debug, Deserialize)]
struct BackendData {
    #[serde(rename = "VNI")]
    vni: Option<u32>,
    #[serde(rename = "VtepMAC")]
    vtep_mac: Option<String>,
}

/// flannel's annotations; `None` until it has registered the node.
fn flannel(annotations: &BTreeMap<String, String>) -> Option<FlannelAnnotations> {
    let value = |key: &str| annotations.get(&format!("{FLANNEL}{key}"));
    let address = |key: &str| value(key)?.parse::<IpAddr>().ok();
    let backend = value("backend-type")?.clone();
    let data = value("backend-data").and_then(|text| serde_json::from_str::<Option<BackendData>>(text).ok().flatten());
    Some(FlannelAnnotations {
        backend,
        public_ip: address("public-ip-overwrite").or_else(|| address("public-ip")),
        vtep_mac: data.as_ref().and_then(|data| data.vtep_mac.as_ref()?.parse().ok()),
        vni: data.and_then(|data| data.vni),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: serde_json::Value) -> NodeRecord {
        let node: Node = serde_json::from_value(value).unwrap();
        record(&node, Timestamp::UNIX_EPOCH).unwrap()
    }

    fn annotated(annotations: serde_json::Value) -> Option<FlannelAnnotations> {
        node(serde_json::json!({"metadata": {"name": "n", "annotations": annotations}})).flannel
    }

    #[test]
    fn a_whole_node_is_trimmed_to_what_matters() {
        let record = node(serde_json::json!({
            "metadata": {
                "name": "node-a", "uid": "u1", "creationTimestamp": "2026-11-22T08:00:00Z",
                "deletionTimestamp": "2026-11-23T08:00:00Z",
                "labels": {"type": "virtual-kubelet", "app": "web", "cloud.google.com/gke-nodepool": "p", "kubernetes.io/os": "linux"},
            },
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"], "providerID": "kind://docker/kind/node-a"},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "node-a"}, {"type": "InternalIP", "address": "172.30.0.11"},
                    {"type": "InternalIP", "address": "fd30::11"}, {"type": "ExternalIP", "address": "192.0.2.1"},
                ],
                "conditions": [
                    {"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": "True"},
                ],
            },
        }));
        assert_eq!(
            record.pod_cidrs,
            [
                "10.244.1.0/24".parse::<IpNet>().unwrap(),
                "fd00:1::/64".parse().unwrap()
            ]
        );
        assert_eq!(record.internal_ips.len(), 2);
        assert_eq!(record.ready, Some(true));
        assert!(record.deleting);
        assert_eq!(record.created_at, Some("2026-11-22T08:00:00Z".parse().unwrap()));
        let kept: Vec<&str> = record.labels.keys().map(String::as_str).collect();
        assert_eq!(kept, ["cloud.google.com/gke-nodepool", "kubernetes.io/os", "type"]);
    }

    #[test]
    fn a_cidr_that_is_none_stays_as_written() {
        let record = node(serde_json::json!({
            "metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.1.0/240", "10.244.2.7/24"]},
        }));
        assert_eq!(record.pod_cidrs_raw.len(), 2);
        assert_eq!(record.pod_cidrs, ["10.244.2.0/24".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn a_kubelet_that_does_not_answer_is_not_ready() {
        let ready = |status: &str| {
            node(serde_json::json!({
                "metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": status}]},
            }))
            .ready
        };
        assert_eq!(
            (ready("True"), ready("False"), ready("Unknown")),
            (Some(true), Some(false), Some(false))
        );
        assert_eq!(node(serde_json::json!({"metadata": {"name": "n"}})).ready, None);
    }

    #[test]
    fn flannels_annotations_are_read_for_every_backend() {
        let vxlan = annotated(serde_json::json!({
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": "{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}",
            "flannel.alpha.coreos.com/public-ip": "172.30.0.11",
        }))
        .unwrap();
        assert_eq!((vxlan.vni, vxlan.vtep_mac), (Some(1), "12:c6:65:89:b4:e3".parse().ok()));
        let host_gw = annotated(serde_json::json!({
            "flannel.alpha.coreos.com/backend-type": "host-gw",
            "flannel.alpha.coreos.com/backend-data": "null",
            "flannel.alpha.coreos.com/public-ip": "172.30.0.11",
            "flannel.alpha.coreos.com/public-ip-overwrite": "192.0.2.7",
        }))
        .unwrap();
        assert_eq!((host_gw.vni, host_gw.public_ip), (None, "192.0.2.7".parse().ok()));
        let torn = annotated(serde_json::json!({
            "flannel.alpha.coreos.com/backend-type": "vxlan",
            "flannel.alpha.coreos.com/backend-data": "{\"VNI\":",
            "flannel.alpha.coreos.com/public-ip": "nonsense",
        }))
        .unwrap();
        assert_eq!((torn.vni, torn.vtep_mac, torn.public_ip), (None, None, None));
        assert_eq!(
            annotated(serde_json::json!({"flannel.alpha.coreos.com/public-ip": "172.30.0.11"})),
            None
        );
    }
}
