//! Somebody else acts on Nodes.

use serde_json::Value;

use super::after::{cordoned, node, nothing_is_left, uid};
use super::budgets;
use super::running::{Running, fix};
use super::undone;
use crate::ground::{Ground, PATIENCE};
use crate::same::Same;

/// While another node takes no pods none is taken away.
pub(crate) fn another_is_cordoned(ground: &Ground) {
    ground.phase("another node is cordoned");
    let (typist, before) = (ground.typist(), uid(ground, "n2"));
    typist.type_line("kubectl cordon n3").unwrap();
    fix(ground, &["n2"]).is(
        1,
        &[
            "n3 is unschedulable: never two nodes at a time",
            "No node may be begun as things are.",
        ],
    );
    assert!(!cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    nothing_is_left(ground);
    typist.type_line("kubectl uncordon n3").unwrap();
}

/// What the watcher sees of [`drain_too`] is somebody else's doing.
pub(crate) const PHASE: &str = "somebody else takes nodes away";

/// Goes on with a drain that a budget holds up while another operator drains the same node; then, before the Node is deleted,
/// somebody cordons n3 for a while. Leaves a fix that goes on and is about to delete it, and nothing in its way.
pub(crate) fn drain_too(ground: &Ground) -> Running {
    ground.phase(PHASE);
    let (typist, before) = (ground.typist(), uid(ground, "n2"));
    let mut running = Running::start(ground, &["--resume", "-o", "json"]);
    let held = running.until(|happened| happened.text.starts_with("waits for default/web-"));
    assert!(held.is_some());
    std::thread::scope(|scope| {
        let drain = "kubectl drain n2 --ignore-daemonsets --timeout=60s 2>&1";
        let other = scope.spawn(|| ground.typist().type_line(drain).unwrap());
        let budget = scope.spawn(|| budgets::let_go(ground));
        let removes = running.until(|happened| happened.text == "remove device cni0");
        assert!(removes.is_some());
        running.asleep(|| drop(typist.type_line("kubectl cordon n3").unwrap()));
        let waits = running.until(|happened| happened.text.starts_with("waits: n3 is cordoned: a second node"));
        assert!(waits.is_some());
        // Its cordon is the fix's: it leaves no trace of its own.
        let told = other.join().unwrap();
        assert!(
            told.contains("node/n2 already cordoned") && told.contains("node/n2 drained"),
            "{told}"
        );
        budget.join().unwrap();
    });
    assert_eq!(uid(ground, "n2"), before);
    assert!(cordoned(ground, "n2"));
    typist.type_line("kubectl uncordon n3").unwrap();
    running
}

/// A fix is killed when its Node is about to be deleted, and the Node goes. Taken back it is there again, as it was, and
/// `steps` are planned for it.
pub(crate) fn taken_back(ground: &Ground, steps: &Value) {
    ground.phase("a fix that is taken back when the Node is gone");
    let (before, old, cidr) = (Same::of(&ground.cluster, "n2"), uid(ground, "n2"), ground.cidr("n2"));
    let mut running = Running::start(ground, &["n2", "-o", "json"]);
    let saved = running.until(|happened| happened.text == "its Node is saved on the Lease");
    assert!(saved.is_some());
    running.kill();
    // The fix itself may have come to that.
    let line = "kubectl delete node n2 --ignore-not-found";
    ground.typist().type_line(line).unwrap();
    assert!(node(ground, "n2").is_none());
    let state = format!("Node n2 has {cidr}, is ");
    let texts = ["made again from its saved copy", &state];
    undone::everywhere(ground, &texts, &|| drop(ground.typist().type_line(line).unwrap()));
    assert_ne!(uid(ground, "n2"), old);
    assert_eq!(ground.cidr("n2"), cidr);
    assert!(!cordoned(ground, "n2"));
    assert_eq!(Same::of(&ground.cluster, "n2"), before);
    nothing_is_left(ground);
    ground.rendered("n2");
    // A pod makes the bridge anew that the fix had removed: all is as it was.
    ground.spread();
    let planned = || {
        let planned = ground.deployed.ask(&["plan", "n2"])?;
        Ok((ground.row(&planned, "n2")["steps"] == *steps).then_some(()))
    };
    let api = ground.cluster.api();
    api.wait("the same is planned", PATIENCE, planned).unwrap();
}

/// n2 has its new CIDR and is cordoned by a fix, which only has to be verified: somebody deletes its Node. What the fix
/// made comes back.
pub(crate) fn deleted(ground: &Ground) {
    ground.phase("somebody deletes the Node");
    let (typist, made, cidr) = (ground.typist(), uid(ground, "n2"), ground.cidr("n2"));
    let ended = fix(ground, &["--resume", "--after-command", "kubectl delete node {node}"]);
    ended.is(1, &["somebody deleted Node n2", "there is no Node n2"]);
    assert!(node(ground, "n2").is_none());
    fix(ground, &["--resume"]).is(1, &["somebody deleted Node n2"]);
    fix(ground, &["--abort"]).is(0, &["made again with its new CIDRs, cordoned"]);
    assert_ne!(uid(ground, "n2"), made);
    assert_eq!(ground.cidr("n2"), cidr);
    assert!(cordoned(ground, "n2"));
    nothing_is_left(ground);
    ground.rendered("n2");
    typist.type_line("kubectl uncordon n2").unwrap();
    ground.is_whole();
}

/// Somebody uncordons n2 while a budget holds up its drain, and takes that back. Leaves a fix that is to go on.
pub(crate) fn uncordoned(ground: &Ground) {
    ground.phase("somebody uncordons the node");
    budgets::hold(ground);
    let (typist, before, cidr) = (ground.typist(), uid(ground, "n2"), ground.cidr("n2"));
    let mut running = Running::start(ground, &["n2"]);
    running.says("waits for default/web-");
    typist.type_line("kubectl uncordon n2").unwrap();
    let state = format!("Node n2 has {cidr}, is Ready");
    let ended = running.end();
    ended.is(1, &["somebody uncordoned n2", &state]);
    assert!(!ended.said.contains(&format!("{state}, cordoned")), "{ended:#?}");
    // Nor does it go on as long as that is so, or cordon it again.
    fix(ground, &["--resume"]).is(1, &["somebody uncordoned n2"]);
    assert!(!cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    typist.type_line("kubectl cordon n2").unwrap();
}
