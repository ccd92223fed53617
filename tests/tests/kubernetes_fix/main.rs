//! What is broken on a real Kubernetes with a real data plane, what is planned for it, and that it is whole afterwards.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod ground;

use cidrift_lab::kubernetes::flanneld;
use cidrift_lab::require::{Need, have};

use ground::Ground;

#[test]
fn breaks_are_planned_for_and_mended_while_somebody_watches() {
    if !have(Need::Kubernetes) {
        return;
    }
    let ground = Ground::start();
    assert_eq!(flanneld::missing_routes(&ground.cluster).unwrap(), [""; 0]);
    ground.end();
}
