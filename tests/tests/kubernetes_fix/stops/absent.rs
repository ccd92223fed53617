//! A node that does not come back.

use super::after::{cordoned, uid};
use super::running::{Running, fix};
use crate::ground::Ground;

/// `running` is before the deletion of the Node: the kubelet ends when that is about to come. Leaves a fix that waits for it,
/// with a kubelet that runs again.
pub(crate) fn kubelet_is_away(ground: &Ground, mut running: Running) {
    ground.phase("a node that does not come back");
    let (kubelet, before) = (&ground.node("n2").kubelet, uid(ground, "n2"));
    // Before that, so that no Node of this fix is ever seen by the kubelet.
    let saved = running.until(|happened| happened.text == "its Node is saved on the Lease");
    assert!(saved.is_some());
    running.kill();
    kubelet.stop().unwrap();
    let ended = fix(ground, &["--resume", "--node-timeout=20s"]);
    ended.is(
        1,
        &[
            "n2 does not come back",
            "its kubelet has not reported",
            "is not Ready, cordoned",
        ],
    );
    assert!(cordoned(ground, "n2"));
    assert_ne!(uid(ground, "n2"), before);
    kubelet.start_again().unwrap();
}
