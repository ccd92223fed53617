//! Budgets that hold up a drain, for ever or for now.

use super::after::{cordoned, nothing_is_left, uid};
use super::running::fix;
use super::undone;
use crate::ground::{Ground, PATIENCE};

/// As many must be available as there are.
pub(crate) fn never_met(ground: &Ground) {
    ground.phase("a budget that can never be met");
    let before = uid(ground, "n2");
    minimum(ground, "6");
    let never = "PodDisruptionBudget default/web can never allow an eviction";
    fix(ground, &["n2"]).is(1, &[never, "No node may be begun as things are."]);
    assert!(!cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    nothing_is_left(ground);
    minimum(ground, "4");
}

/// A seventh pod is wanted which nobody gets to run, and without it none may go.
pub(crate) fn held_up(ground: &Ground) {
    ground.phase("a budget that allows nothing for now");
    hold(ground);
    let (before, pods) = (uid(ground, "n2"), pods(ground));
    let ended = fix(ground, &["n2", "--drain-timeout=5s"]);
    let state = "Node n2 has 10.200.2.0/24, is Ready, cordoned";
    ended.is(
        1,
        &[
            "the drain of n2 has not ended within 5s",
            "default/web-",
            "disruption budget",
            state,
        ],
    );
    assert!(cordoned(ground, "n2"));
    // It must be taken back or ended before another one.
    fix(ground, &["n2"]).is(2, &["is not finished", "--resume --yes"]);
    undone::everywhere(ground, &["uncordoned"], &|| undone::cordon(ground));
    assert!(!cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    assert_eq!(self::pods(ground), pods);
    nothing_is_left(ground);
    let_go(ground);
}

/// From now on no pod of web may be evicted.
pub(crate) fn hold(ground: &Ground) {
    let typist = ground.typist();
    let line = "kubectl create quota web --hard=pods=6 && kubectl scale deployment/web --replicas=7";
    typist.type_line(line).unwrap();
    // Of those that are wanted; a number would be held against the pods that there are.
    minimum(ground, "\"80%\"");
    allowed(ground, "6/7 0");
}

/// They may again.
pub(crate) fn let_go(ground: &Ground) {
    let typist = ground.typist();
    let line = "kubectl scale deployment/web --replicas=6 && kubectl delete quota web";
    typist.type_line(line).unwrap();
    minimum(ground, "4");
    allowed(ground, "6/6 2");
}

fn minimum(ground: &Ground, pods: &str) {
    let patch = format!("{{\"spec\":{{\"minAvailable\":{pods}}}}}");
    let line = format!("kubectl patch pdb web --type=merge -p '{patch}'");
    ground.typist().type_line(&line).unwrap();
    let seen = "kubectl get pdb web -o jsonpath='{.metadata.generation} {.status.observedGeneration}'";
    let typist = ground.typist();
    let seen = || {
        let text = typist.type_line(seen)?;
        let (is, counted) = text.split_once(' ').unwrap();
        Ok((is == counted).then_some(()))
    };
    ground
        .cluster
        .api()
        .wait("the budget is counted", PATIENCE, seen)
        .unwrap();
}

/// Waits until so many pods of so many are healthy, and so many may go.
fn allowed(ground: &Ground, wanted: &str) {
    let line = "kubectl get pdb web -o jsonpath='{.status.currentHealthy}/{.status.expectedPods} {.status.disruptionsAllowed}'";
    let typist = ground.typist();
    let seen = || Ok((typist.type_line(line)? == wanted).then_some(()));
    ground
        .cluster
        .api()
        .wait("the budget is counted", PATIENCE, seen)
        .unwrap();
}

/// The UIDs of web's pods.
fn pods(ground: &Ground) -> Vec<String> {
    let line = "kubectl get pods -l app=web -o jsonpath='{.items[*].metadata.uid}'";
    let text = ground.typist().type_line(line).unwrap();
    let mut pods: Vec<String> = text.split(' ').map(str::to_owned).collect();
    pods.sort();
    pods
}
