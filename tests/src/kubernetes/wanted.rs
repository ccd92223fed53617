//! What is to be installed: the manifests that people apply, and the bench's own few lines on top of them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::image;
use crate::kubernetes::control_plane::API_PORT;
use crate::kubernetes::deployed::NAMESPACE;
use crate::kubernetes::kubectl::workspace;
use crate::topology;

/// What an installation is made of.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The manifests that the bench's own few lines are put on. [default: `deploy/base`]
    pub manifests: Option<PathBuf>,
    /// Flags of the aggregator besides its own.
    pub flags: Vec<String>,
    /// Patches of kustomize's, for tests that change something.
    pub patches: Vec<Value>,
    /// The node of the aggregator. [default: n1]
    pub node: Option<String>,
    /// The tag of the aggregator's image. [default: as in the manifests]
    pub aggregator: Option<String>,
    /// The tag of the agent's image. [default: as in the manifests]
    pub agent: Option<String>,
}

/// Manifests that people apply: `base`, `overlays/k3s`.
pub fn manifests(which: &str) -> PathBuf {
    workspace().join("deploy").join(which)
}

impl Wanted {
    /// The bench's own few lines: it has no kube-proxy, so the API server is named by its address; and its times are short.
    pub(crate) fn kustomization(&self) -> Value {
        let node = self.node.as_deref().unwrap_or("n1");
        let mut aggregator: Vec<Value> = self
            .flags
            .iter()
            .map(|flag| json!({"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": flag}))
            .collect();
        let path = "/spec/template/spec/nodeSelector/kubernetes.io~1hostname";
        aggregator.push(json!({"op": "add", "path": path, "value": node}));
        let agent = json!([
            // All agents at a time: nobody waits for the others here.
            {"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "100%"},
        ]);
        let mut all = vec![
            json!({"target": {"kind": "Deployment"}, "patch": json!(aggregator).to_string()}),
            json!({"target": {"kind": "DaemonSet"}, "patch": agent.to_string()}),
        ];
        all.extend(self.patches.iter().cloned());
        let tags = [(image::AGENT, &self.agent), (image::AGGREGATOR, &self.aggregator)];
        let images = tags
            .into_iter()
            .filter_map(|(name, tag)| Some(json!({"name": name, "newTag": tag.as_ref()?})));
        json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "configMapGenerator": [{
                "name": "cidrift-api-server",
                "literals": [
                    format!("KUBERNETES_SERVICE_HOST={}", topology::GATEWAY),
                    format!("KUBERNETES_SERVICE_PORT={API_PORT}"),
                ],
                "options": {"disableNameSuffixHash": true},
            }],
            "patches": all,
            "images": images.collect::<Vec<_>>(),
        })
    }
}
