//! What is broken on a real Kubernetes with a real data plane, what is planned for it, and that it is whole afterwards.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod breaks;
mod ground;
mod mend;
mod ping;
mod same;
mod watch;

use cidrift_lab::kubernetes::flanneld::routes;
use cidrift_lab::require::{Need, have};
use serde_json::json;

use breaks::LATE;
use ground::{Ground, PATIENCE};
use mend::{by_remedies, mend, own_routes, remove_own_routes};

#[test]
fn breaks_are_planned_for_and_mended_while_somebody_watches() {
    if !have(Need::Kubernetes) {
        return;
    }
    let ground = Ground::start();
    foreign_bridge(&ground);
    out_of_pool(&ground);
    duplicate(&ground);
    without_cidr(&ground);
    stale_template(&ground);
    ground.end();
}

fn foreign_bridge(ground: &Ground) {
    ground.phase("a foreign bridge");
    breaks::foreign_bridge(ground);
    assert!(ping::missing(&ground.cluster).contains(&"n1 -> n3".to_owned()));
    ground.found(&["HOST02/n3"]);
    ground.planned("n3", "host");
    mend(ground, "n3");
    let typist = ground.typist();
    let line = format!("kubectl rollout status deployment/{LATE} --timeout=60s");
    typist.type_line(&line).unwrap();
    typist.type_line(&format!("kubectl delete deployment {LATE}")).unwrap();
    ground.is_whole();
}

fn out_of_pool(ground: &Ground) {
    ground.phase("a node outside of the pool");
    breaks::out_of_pool(ground);
    ground.found(&["POOL02/n2"]);
    let row = ground.planned("n2", "swap");
    assert_eq!(row["from"], json!(["10.200.2.0/24"]));
    mend(ground, "n2");
    // Its flanneld was down when its Node was made anew.
    assert_eq!(own_routes(ground, "n2"), [""; 0]);
    ground.is_whole();
}

fn duplicate(ground: &Ground) {
    ground.phase("two nodes of one CIDR");
    breaks::duplicate(ground);
    // Without flannel's annotations n3's old flanneld did not take the new Node for a peer, and n1 heard of it from the new.
    let cidr = ground.cidr("n2");
    assert_eq!(own_routes(ground, "n3"), [""; 0]);
    let followed = format!("{cidr} via {} ", ground.node("n3").addresses[0]);
    assert!(routes(ground.node("n1")).unwrap().contains(&followed));
    ground.found(&[&format!("POOL03/{cidr}")]);
    // Most reach n3 by it.
    let row = ground.planned("n2", "swap");
    assert_eq!(row["from"], json!([cidr.to_string()]));
    mend(ground, "n2");
    // flanneld of n1 dropped its only route to the CIDR when n2's old Node went; that of n2 lived when it was made anew.
    ground.found(&["HOST04/n2", "PATH01/n1"]);
    ground.not_planned("n2", &[("HOST04/n2", "no step of a node mends it")]);
    remove_own_routes(ground, "n2");
    ground.planned("n1", "restart");
    mend(ground, "n1");
    ground.is_whole();
}

fn without_cidr(ground: &Ground) {
    ground.phase("a node without a CIDR");
    let (cidr, _) = (ground.cidr("n2"), breaks::without_cidr(ground));
    ground.found(&["POOL01/n2"]);
    let row = ground.planned("n2", "assign");
    assert_eq!(
        row["to"],
        json!([cidr.to_string()]),
        "what its host hands out of already"
    );
    mend(ground, "n2");
    // Nothing tells the peers' flanneld; and nobody makes a DaemonSet's pod anew while the controller manager is down.
    ground.cluster.kcm().start_again().unwrap();
    for peer in ["n1", "n3"] {
        ground.found(&[&format!("PATH01/{peer}")]);
        ground.planned(peer, "restart");
        mend(ground, peer);
    }
    ground.cluster.api().wait_ready("n2", true, PATIENCE).unwrap();
    assert_eq!(ground.cidr("n2"), cidr);
    ground.is_whole();
}

/// What its findings ask for is not planned: all of them wait for POOL12, and POOL12 for a peer that routes the old CIDR,
/// which none does. So their remedies are typed.
fn stale_template(ground: &Ground) {
    ground.phase("a template that was rendered for another CIDR");
    breaks::stale_template(ground);
    assert!(ping::missing(&ground.cluster).contains(&"n1 -> n2".to_owned()));
    ground.found(&["HOST01/n2", "HOST02/n2", "HOST03/n2", "HOST04/n2", "POOL12/n2"]);
    let explained = "POOL12/n2 explains it: mend that first";
    let whys = [
        ("POOL12/n2", "nobody is seen to route what the Node had before"),
        ("HOST01/n2", explained),
        ("HOST02/n2", explained),
        ("HOST03/n2", explained),
        ("HOST04/n2", "no step of a node mends it"),
    ];
    ground.not_planned("n2", &whys);
    by_remedies(ground, "n2");
    ground.is_whole();
}
