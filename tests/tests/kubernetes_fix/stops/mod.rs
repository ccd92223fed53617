//! What becomes of a fix that is killed, stopped or interfered with, on a real Kubernetes.

mod absent;
mod after;
mod budgets;
mod deaf;
mod killed;
mod others;
mod outage;
pub(crate) mod running;
mod stopped;
pub(crate) mod undone;

use cidrift_lab::require::{Need, have};

use crate::breaks;
use crate::ground::Ground;

#[test]
fn a_fix_that_is_cut_short_leaves_a_known_state_and_goes_on() {
    if !have(Need::Kubernetes) {
        return;
    }
    let ground = Ground::start_without_lease();
    // One broken node, on which nothing comes to its end until the last of these.
    broken(&ground, "a fix that must not begin");
    others::another_is_cordoned(&ground);
    budgets::never_met(&ground);
    budgets::held_up(&ground);
    let steps = undone::file_removed(&ground);
    others::taken_back(&ground, &steps);
    killed::killed_everywhere(&ground);
    // Another one.
    broken(&ground, "a fix that is stopped again and again");
    others::uncordoned(&ground);
    stopped::interrupted(&ground);
    let running = others::drain_too(&ground);
    absent::kubelet_is_away(&ground, running);
    outage::api_server_is_away(&ground);
    // And another one.
    broken(&ground, "a peer that does not converge");
    deaf::peer_is_deaf(&ground);
    undone::made_anew(&ground);
    others::deleted(&ground);
    outage::end(ground);
}

/// n2 is broken, and a swap is planned for it.
fn broken(ground: &Ground, phase: &'static str) {
    ground.phase(phase);
    breaks::out_of_pool(ground);
    ground.found(&["POOL02/n2"]);
    ground.planned("n2", "swap");
}
