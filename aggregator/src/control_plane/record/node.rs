//! A Node object, trimmed to what matters here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::text::{clip, time};
use crate::cluster::{FlannelAnnotations, NodeRecord};
use crate::fix::run::MARK;

/// flannel's default annotation prefix (`--kube-annotation-prefix`).
const FLANNEL: &str = "flannel.alpha.coreos.com/";

/// Labels that say what IPAM and platform a node has, and those that ranges are commonly
/// bound to. Of the others only those are kept that a ClusterCIDR's nodeSelector names: all
/// labels of 15,000 Nodes would be some 40 MB.
const LABELS: &[&str] = &[
    "type",
    "kubernetes.io/os",
    "kubernetes.io/hostname",
    "topology.kubernetes.io/",
    "node.kubernetes.io/instance-type",
    "node-role.kubernetes.io/",
    "eks.amazonaws.com/",
    "alpha.eksctl.io/",
    "karpenter.sh/",
    "kops.k8s.io/",
    "kubernetes.azure.com/",
    "cloud.google.com/gke-",
    "node.openshift.io/",
];

/// Annotations that say something of addresses (reference G and H), and that a fix works on the Node.
const ANNOTATIONS: &[&str] = &[
    MARK,
    "kube-router.io/pod-cidr",
    "kube-router.io/pod-cidrs",
    "k3s.io/node-args",
    "k3s.io/node-env",
    "rke2.io/node-args",
    "k8s.ovn.org/node-subnets",
    "ovn.kubernetes.io/",
    "network.cilium.io/",
];

/// Longer annotations are not kept: k3s' arguments are the longest, with some hundred bytes.
const ANNOTATION: usize = 16 << 10;

/// What is read of a Node; everything else is passed over while it is parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    metadata: NodeMeta,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeMeta {
    name: Option<String>,
    uid: Option<String>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    managed_fields: Option<Vec<Managed>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Managed {
    manager: Option<String>,
    fields_v1: Option<Fields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(rename = "f:spec")]
    spec: Option<SpecFields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct SpecFields {
    #[serde(rename = "f:podCIDR")]
    one: Option<IgnoredAny>,
    #[serde(rename = "f:podCIDRs")]
    all: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    unschedulable: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    addresses: Option<Vec<Address>>,
    conditions: Option<Vec<Condition>>,
    node_info: Option<NodeInfo>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: Option<String>,
    address: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeInfo {
    kubelet_version: Option<String>,
}

/// Trims a Node. `None`: it has no name, which no Node of an API server lacks.
/// `wanted` names further labels to keep. `now` stands as `changed_at` until the engine knows better.
pub fn record(node: Node, wanted: &BTreeSet<String>, now: Timestamp) -> Option<NodeRecord> {
    let Node { metadata, spec, status } = node;
    let name = metadata.name.filter(|name| !name.is_empty())?;
    let spec = spec.unwrap_or_default();
    let status = status.unwrap_or_default();
    let raw = spec.pod_cidrs.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let condition = |kind: &str| {
        conditions
            .iter()
            .find(|condition| condition.kind.as_deref() == Some(kind))
    };
    let ready = condition("Ready");
    let unready = ready.filter(|ready| ready.status.as_deref() != Some("True"));
    let unreachable = condition("NetworkUnavailable").filter(|found| found.status.as_deref() == Some("True"));
    Some(NodeRecord {
        uid: metadata.uid.unwrap_or_default(),
        created_at: time(metadata.creation_timestamp.as_deref()),
        deleting: metadata.deletion_timestamp.is_some(),
        pod_cidr: spec.pod_cidr.filter(|cidr| !cidr.is_empty()),
        pod_cidrs: raw
            .iter()
            .filter_map(|cidr| cidr.parse::<IpNet>().ok())
            .map(|net| net.trunc())
            .collect(),
        pod_cidrs_raw: raw,
        cidr_writers: writers(metadata.managed_fields.as_deref().unwrap_or_default()),
        internal_ips: status
            .addresses
            .iter()
            .flatten()
            .filter(|address| address.kind.as_deref() == Some("InternalIP"))
            .filter_map(|address| address.address.as_deref()?.parse().ok())
            .collect(),
        ready: ready.map(|condition| condition.status.as_deref() == Some("True")),
        not_ready: unready.map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or_default();
            let message = condition.message.as_deref().unwrap_or_default();
            clip(format!("{reason}: {message}").trim_matches([':', ' ']), 1024)
        }),
        network_unavailable: unreachable.map(|condition| clip(condition.reason.as_deref().unwrap_or_default(), 128)),
        unschedulable: spec.unschedulable == Some(true),
        provider_id: spec.provider_id.filter(|id| !id.is_empty()),
        kubelet_version: status.node_info.and_then(|info| info.kubelet_version),
        flannel: flannel(&annotations),
        labels: metadata
            .labels
            .unwrap_or_default()
            .into_iter()
            .filter(|(key, _)| kept(LABELS, key) || wanted.contains(key))
            .collect(),
        annotations: annotations
            .into_iter()
            .filter(|(key, value)| kept(ANNOTATIONS, key) && value.len() <= ANNOTATION)
            .collect(),
        changed_at: now,
        name,
    })
}

/// Whether a list of keys, and of prefixes of keys, has this one.
fn kept(list: &[&str], key: &str) -> bool {
    list.iter()
        .any(|kept| key == *kept || (kept.ends_with(['/', '-']) && key.starts_with(kept)))
}

/// Who wrote the CIDRs, each once.
fn writers(managed: &[Managed]) -> Vec<String> {
    let wrote = |managed: &&Managed| {
        let spec = managed.fields_v1.as_ref().and_then(|fields| fields.spec.as_ref());
        spec.is_some_and(|spec| spec.one.is_some() || spec.all.is_some())
    };
    let names: BTreeSet<String> = managed
        .iter()
        .filter(wrote)
        .filter_map(|entry| entry.manager.clone())
        .collect();
    names.into_iter().collect()
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
        record(node, &BTreeSet::from(["rack".to_owned()]), Timestamp::UNIX_EPOCH).unwrap()
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

    #[test]
    fn what_else_matters_of_a_node_is_kept() {
        let record = node(serde_json::json!({
            "metadata": {
                "name": "n", "labels": {"rack": "r1", "shelf": "s1", "topology.kubernetes.io/zone": "z"},
                "annotations": {"kube-router.io/pod-cidr": "10.1.0.0/24", "k8s.ovn.org/node-subnets": "{}", "other": "x", "cidrift.dev/fix": "f1"},
                "managedFields": [
                    {"manager": "kubelet", "fieldsV1": {"f:metadata": {}}},
                    {"manager": "kube-controller-manager", "fieldsV1": {"f:spec": {"f:podCIDR": {}, "f:podCIDRs": {".": {}, "v:\"10.1.0.0/24\"": {}}}}},
                    {"manager": "gcp-controller-manager", "fieldsV1": {"f:spec": {"f:podCIDRs": {}, "f:providerID": {}}}},
                    {"manager": "node-controller", "fieldsV1": {"f:spec": {"f:taints": {}}}},
                ],
            },
            "spec": {"unschedulable": true},
            "status": {
                "nodeInfo": {"kubeletVersion": "v1.34.1-eks-113cf36"},
                "conditions": [
                    {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "x"},
                    {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized"},
                ],
            },
        }));
        assert_eq!(
            record.cidr_writers,
            ["gcp-controller-manager", "kube-controller-manager"]
        );
        assert_eq!(
            record.not_ready.as_deref(),
            Some("KubeletNotReady: cni plugin not initialized")
        );
        assert_eq!(record.network_unavailable.as_deref(), Some("NoRouteCreated"));
        assert!(record.unschedulable);
        assert_eq!(record.kubelet_version.as_deref(), Some("v1.34.1-eks-113cf36"));
        let labels: Vec<&str> = record.labels.keys().map(String::as_str).collect();
        assert_eq!(
            labels,
            ["rack", "topology.kubernetes.io/zone"],
            "one that a selector names is kept"
        );
        let annotations: Vec<&str> = record.annotations.keys().map(String::as_str).collect();
        assert_eq!(
            annotations,
            ["cidrift.dev/fix", "k8s.ovn.org/node-subnets", "kube-router.io/pod-cidr"]
        );
    }

    #[test]
    fn a_network_that_is_there_is_not_unavailable() {
        let record = node(serde_json::json!({"metadata": {"name": "n"}, "status": {"conditions": [
            {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}, {"type": "Ready", "status": "True"},
        ]}}));
        assert_eq!((record.network_unavailable, record.not_ready), (None, None));
    }
}
