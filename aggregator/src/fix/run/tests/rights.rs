//! What the operator may not do is told before anything is done.

use serde_json::json;

use super::play::{Play, outside, stopped};
use super::stage::{REVIEWS, refused};
use super::waits::{about_to_be_deleted, held};

fn reviews() -> String {
    format!("POST {REVIEWS}")
}

/// Nobody may make Nodes, or change kubelets' Leases.
fn forbidden(play: &Play) {
    play.stage.meanwhile(|_, asked| {
        let mut review = asked.body.clone();
        let of = &asked.body["spec"]["resourceAttributes"];
        let may = match (of["verb"].as_str(), of["resource"].as_str()) {
            (Some("create"), Some("nodes")) => false,
            (_, Some("leases")) => of["namespace"] != "kube-node-lease",
            _ => true,
        };
        review["status"] = json!({"allowed": may});
        (asked.line == reviews()).then_some((201, review))
    });
}

#[tokio::test]
async fn a_node_is_not_begun_without_the_right_to_make_it_again() {
    let play = Play::of(outside(), &["n2"]);
    forbidden(&play);
    let (record, ended) = play.fix().await;
    stopped(
        &ended,
        "n2 needs rights that you do not have: create nodes, patch leases.coordination.k8s.io in kube-node-lease; ",
    );
    assert!(record.work.is_none());
    assert_eq!((play.stage.asked("PATCH "), play.stage.asked("DELETE ")), (0, 0));
}

#[tokio::test]
async fn a_node_is_not_begun_where_nobody_says_what_one_may() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|_, asked| {
        (asked.line == reviews())
            .then(|| refused(403, "nobody may ask"))
            .flatten()
    });
    let (record, ended) = play.fix().await;
    stopped(&ended, "cannot ask whether you may ");
    stopped(&ended, "the API server does not let you: nobody may ask");
    assert!(record.work.is_none());
    assert_eq!((play.stage.asked("PATCH "), play.stage.asked("DELETE ")), (0, 0));
}

/// Drained, or its deletion decided and not asked for.
#[tokio::test]
async fn nor_is_one_gone_on_with_by_somebody_without_that_right_as_long_as_it_is_there() {
    for play in [held().await, about_to_be_deleted().await] {
        forbidden(&play);
        stopped(&play.resume().await.1, "you do not have: create nodes, patch leases");
        assert_eq!(play.stage.asked("DELETE /api/v1/nodes/"), 0);
    }
}

#[tokio::test]
async fn one_that_was_made_anew_is_gone_on_with_only_by_who_may_and_one_that_is_missing_by_anybody() {
    let cases = [
        ("DELETE /api/v1/nodes/n2", true),
        ("DELETE /api/v1/namespaces/cidrift/pods/cidrift-errand-probe-f1", false),
    ];
    for (last, missing) in cases {
        let play = Play::of(outside(), &["n2"]);
        play.stage.falls_at(move |asked| asked.line == last);
        assert!(play.killed(false).await, "{last}");
        let play = play.again();
        forbidden(&play);
        let (_, ended) = play.resume().await;
        if missing {
            assert_eq!(ended, Ok(()));
        } else {
            stopped(&ended, "you do not have: create nodes, patch leases");
        }
    }
}
