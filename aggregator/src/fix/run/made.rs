//! Nodes as they are made again.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use kube::api::ObjectMeta;

use super::MARK;

/// Taints that controllers set by what the kubelet reports; copied, one would stay that is true no more.
const CONDITION: &str = "node.kubernetes.io/";

/// The Node in place of the one that was saved: with these CIDRs, cordoned, and with the mark of this fix.
pub(super) fn anew(saved: &Node, to: &[IpNet], id: &str) -> Node {
    let mut node = again(saved);
    let spec = node.spec.get_or_insert_default();
    spec.pod_cidr = to.first().map(ToString::to_string);
    spec.pod_cidrs = Some(to.iter().map(ToString::to_string).collect());
    spec.unschedulable = Some(true);
    let annotations = node.metadata.annotations.get_or_insert_default();
    annotations.insert(MARK.to_owned(), id.to_owned());
    node
}

/// The Node that was saved itself, with the CIDRs that it had; the cordon of this fix goes with it.
pub(super) fn back(saved: &Node, cordoned: bool) -> Node {
    let mut node = again(saved);
    if let Some(annotations) = &mut node.metadata.annotations {
        annotations.remove(MARK);
    }
    if cordoned && let Some(spec) = &mut node.spec {
        spec.unschedulable = None;
    }
    node
}

/// Those that no controller sets.
pub(super) fn taints(saved: &Node) -> Vec<Taint> {
    let taints = saved.spec.as_ref().and_then(|spec| spec.taints.clone());
    let of_people = taints
        .into_iter()
        .flatten()
        .filter(|taint| !taint.key.starts_with(CONDITION));
    of_people.collect()
}

fn again(saved: &Node) -> Node {
    let spec = saved.spec.clone().unwrap_or_default();
    let taints = Some(taints(saved));
    Node {
        metadata: ObjectMeta {
            name: saved.metadata.name.clone(),
            labels: saved.metadata.labels.clone(),
            annotations: saved.metadata.annotations.clone(),
            owner_references: saved.metadata.owner_references.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: taints.filter(|taints| !taints.is_empty()),
            ..spec
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fix::run::record::saved;

    fn node() -> Node {
        let object = json!({
            "metadata": {"name": "n1", "uid": "old", "resourceVersion": "7", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"rack": "7"}, "annotations": {"owner": "somebody", MARK: "f1"}, "managedFields": [{"manager": "x"}]},
            "spec": {"podCIDR": "10.200.1.0/24", "podCIDRs": ["10.200.1.0/24"], "providerID": "kind://a/b/n1", "unschedulable": true,
                "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, {"key": "gpu", "effect": "NoExecute"}]},
            "status": {"phase": "Running"},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn it_keeps_what_is_peoples_and_nothing_of_the_api_servers() {
        let made = anew(&saved(&node()), &["10.244.1.0/24".parse().unwrap()], "f1");
        let text = serde_json::to_value(&made).unwrap();
        let wanted = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"rack": "7"}, "annotations": {"owner": "somebody", MARK: "f1"}},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "providerID": "kind://a/b/n1",
                "unschedulable": true, "taints": [{"key": "gpu", "effect": "NoExecute"}]}});
        assert_eq!(text, wanted);
    }

    #[test]
    fn taken_back_it_is_the_old_one_without_this_fixs_cordon() {
        let made = back(&saved(&node()), true);
        let text = serde_json::to_value(&made).unwrap();
        assert_eq!(text["spec"]["podCIDRs"], json!(["10.200.1.0/24"]));
        assert_eq!(text["spec"]["unschedulable"], json!(null));
        assert_eq!(text["metadata"]["annotations"], json!({"owner": "somebody"}));
        // Somebody else's stays.
        assert_eq!(back(&saved(&node()), false).spec.unwrap().unschedulable, Some(true));
    }
}
