//! How many nodes may fail before nothing more is tried.

use serde_json::json;

use super::play::{Play, deaf, outside, stopped};
use super::stage::refused;
use crate::fix::ground::Owner;

const DAEMON: &str = "/api/v1/namespaces/kube-system/pods/kindnet-";

/// flannel's pods that are deleted come again, but for those of `lost`.
fn flannel(play: &Play, lost: &'static [&'static str]) {
    play.stage.meanwhile(|store, asked| {
        let node = asked
            .line
            .strip_prefix("DELETE /api/v1/namespaces/kube-system/pods/flannel-")?;
        if !lost.contains(&node) {
            let owner = Owner {
                kind: "DaemonSet".to_owned(),
                name: "flannel".to_owned(),
            };
            store.pod("kube-system", &format!("flannel-again-{node}"), node, &owner, true);
        }
        None
    });
}

fn restarted(play: &Play, node: &str) -> usize {
    play.stage
        .asked(&format!("DELETE /api/v1/namespaces/kube-system/pods/flannel-{node}"))
}

#[tokio::test]
async fn one_that_fails_and_takes_no_node_away_is_passed_over() {
    let play = Play::of(deaf(&["n1", "n2"]), &["n1", "n2"]);
    flannel(&play, &["n1"]);
    let (record, ended) = play.fix().await;
    assert_eq!(ended, Ok(()));
    assert!(play.says("failed: no pod in place of kube-system/flannel-n1 becomes ready"));
    let over: Vec<(&str, bool)> = record
        .over
        .iter()
        .map(|over| (over.node.as_str(), over.failed.is_some()))
        .collect();
    assert_eq!(over, [("n1", true), ("n2", false)]);
    assert!(!record.unfinished());
}

#[tokio::test]
async fn after_two_that_fail_nothing_more_is_tried_until_somebody_says_so() {
    let play = Play::of(deaf(&["n1", "n2", "n3"]), &["n1", "n2", "n3"]);
    flannel(&play, &["n1", "n2"]);
    let (record, ended) = play.fix().await;
    stopped(
        &ended,
        "flannel-n2 becomes ready; after 2 nodes that failed nothing more is tried",
    );
    assert_eq!((restarted(&play, "n2"), restarted(&play, "n3")), (1, 0));
    assert_eq!(record.work.unwrap().plan.node, "n2");
    let waiting: Vec<&str> = record.queue.iter().map(|next| next.node.as_str()).collect();
    assert_eq!(waiting, ["n2", "n3"]);
    // Somebody has mended n2's.
    let owner = Owner {
        kind: "DaemonSet".to_owned(),
        name: "flannel".to_owned(),
    };
    play.stage
        .with(|store| store.pod("kube-system", "flannel-late", "n2", &owner, true));
    let (record, ended) = play.resume().await;
    assert_eq!(ended, Ok(()));
    assert_eq!(
        (record.over.len(), record.failures(), restarted(&play, "n3")),
        (3, 1, 1)
    );
}

/// n2 is cordoned when it fails: another one would make two.
#[tokio::test]
async fn one_that_fails_and_is_out_stops_everything_at_once() {
    let mut world = outside();
    world.daemon("n3", "flannel");
    world.find(cidrift_proto::catalogue::Code::Path01, "n3", &["n3"]);
    let play = Play::of(world, &["n2", "n3"]);
    play.stage.meanwhile(|_, asked| {
        let evicts = asked.line.ends_with("/eviction");
        evicts.then(|| refused(403, "you may not")).flatten()
    });
    let (record, ended) = play.fix().await;
    stopped(&ended, "cannot evict default/web");
    assert_eq!(play.node("n2")["spec"]["unschedulable"], true);
    assert_eq!((restarted(&play, "n3"), record.over.len()), (0, 0));
    assert_eq!(record.queue.len(), 2);
}

/// By a rollout, while n2 is drained: what it read is what its Node had before.
#[tokio::test]
async fn a_daemon_that_was_replaced_before_its_node_is_made_goes_as_well() {
    let mut world = outside();
    world.daemon("n2", "kindnet");
    let play = Play::of(world, &["n2"]);
    play.stage.meanwhile(|store, asked| {
        let owner = Owner {
            kind: "DaemonSet".to_owned(),
            name: "kindnet".to_owned(),
        };
        if let Some(node) = store.all.get_mut("/api/v1/nodes/n2") {
            node["metadata"]["creationTimestamp"] = json!("2026-11-30T10:00:00Z");
        }
        if asked.line == "DELETE /api/v1/nodes/n2" {
            store.all.remove(&format!("{DAEMON}n2"));
            store.pod("kube-system", "kindnet-rolled", "n2", &owner, true);
            let rolled = store.all.get_mut(&format!("{DAEMON}rolled")).unwrap();
            rolled["metadata"]["creationTimestamp"] = json!("2026-11-30T09:59:00Z");
        }
        if asked.line == format!("DELETE {DAEMON}rolled") {
            store.pod("kube-system", "kindnet-new", "n2", &owner, true);
        }
        None
    });
    assert_eq!(play.fix().await.1, Ok(()));
    assert_eq!(play.stage.asked(&format!("DELETE {DAEMON}rolled")), 1);
    assert_eq!(play.stage.asked(&format!("DELETE {DAEMON}new")), 0);
}
