//! What is left of a fix, on Lease, Nodes and pods.

use cidrift_lab::kubernetes::deployed::NAMESPACE;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;

use super::running::fix;
use crate::ground::{Ground, PATIENCE};

/// On a Node that a fix works on.
const MARK: &str = "cidrift.dev/fix";

/// A Node, as it is now.
pub(crate) fn node(ground: &Ground, name: &str) -> Option<Node> {
    ground.cluster.api().node(name).unwrap()
}

/// Whether a Node is there, and takes no new pods.
pub(crate) fn cordoned(ground: &Ground, name: &str) -> bool {
    node(ground, name).unwrap().spec.unwrap_or_default().unschedulable == Some(true)
}

/// The UID of a Node.
pub(crate) fn uid(ground: &Ground, name: &str) -> String {
    node(ground, name).unwrap().metadata.uid.unwrap()
}

/// That no fix is unfinished, no pod of one is left, and no Node has the mark of one.
pub(crate) fn nothing_is_left(ground: &Ground) {
    fix(ground, &["--resume"]).is(2, &["no fix is unfinished"]);
    let api = ground.cluster.api();
    let pods: kube::Api<Pod> = kube::Api::namespaced(api.client(), NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/name=cidrift-errand");
    // Those that were deleted at once are there until their kubelet has seen it.
    let none = || {
        let listed = api.block_on(pods.list(&ours)).unwrap();
        Ok(listed.items.is_empty().then_some(()))
    };
    api.wait("no pod of a fix is left", PATIENCE, none).unwrap();
    for node in api.all_nodes().unwrap() {
        let marks = node.metadata.annotations.unwrap_or_default();
        assert!(!marks.contains_key(MARK), "{:?}: {marks:?}", node.metadata.name);
    }
}
