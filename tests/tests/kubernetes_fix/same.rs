//! What a Node has that people and others gave it, and that nothing may take away.

use std::collections::BTreeMap;

use cidrift_lab::kubernetes::Cluster;

/// Beginnings of annotations that belong to programs: flannel's and cidrift's own, and what kubelet and the controller
/// manager write for themselves.
const VOLATILE: [&str; 4] = [
    "flannel.alpha.coreos.com/",
    "cidrift.dev/",
    "node.alpha.kubernetes.io/",
    "volumes.kubernetes.io/",
];

/// Of one Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Same {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// "key=value:effect", sorted; without the controller manager's own.
    taints: Vec<String>,
    provider: Option<String>,
}

impl Same {
    /// As it is now.
    pub(crate) fn of(cluster: &Cluster, node: &str) -> Self {
        let object = cluster.api().node(node).unwrap().unwrap();
        let spec = object.spec.unwrap_or_default();
        let mut annotations = object.metadata.annotations.unwrap_or_default();
        annotations.retain(|key, _| !VOLATILE.iter().any(|start| key.starts_with(start)));
        let taints = spec.taints.unwrap_or_default();
        let mut taints: Vec<String> = taints
            .into_iter()
            .filter(|taint| !taint.key.starts_with("node.kubernetes.io/"))
            .map(|taint| format!("{}={}:{}", taint.key, taint.value.unwrap_or_default(), taint.effect))
            .collect();
        taints.sort();
        Self {
            labels: object.metadata.labels.unwrap_or_default(),
            annotations,
            taints,
            provider: spec.provider_id,
        }
    }
}
