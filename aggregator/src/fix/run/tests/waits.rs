//! What a fix waits for, and what those are told who come meanwhile.

use jiff::{SignedDuration, Zoned};
use serde_json::json;

use super::UNCORDONED;
use super::play::{Play, outside, stopped};
use super::stage::refused;
use crate::fix::run::{Halt, Window, standing};

const EVICTS: &str = "POST /api/v1/namespaces/default/pods/web/eviction";

/// It opens in two hours.
fn closed() -> Window {
    let at = |hours| {
        (Zoned::now() + SignedDuration::from_hours(hours))
            .strftime("%H:%M")
            .to_string()
    };
    format!("{}-{}", at(2), at(3)).parse().unwrap()
}

/// A budget holds up the drain of n2, until it does not.
pub(super) async fn held() -> Play {
    let play = Play::of(outside(), &["n2"]);
    let mut first = true;
    play.stage.meanwhile(move |_, asked| {
        let holds = asked.line == EVICTS && std::mem::take(&mut first);
        holds
            .then(|| refused(429, "it would violate the pod's disruption budget"))
            .flatten()
    });
    stopped(&play.fix().await.1, "the drain of n2 has not ended");
    play
}

/// That n2 is to be deleted is written down, and its program ends before it asks for that.
pub(super) async fn about_to_be_deleted() -> Play {
    let play = Play::of(outside(), &["n2"]);
    play.stage
        .falls_at(|asked| asked.line == "PATCH /apis/storage.k8s.io/v1/csinodes/n2");
    assert!(play.killed(false).await);
    play.again()
}

#[tokio::test]
async fn a_node_whose_deletion_was_decided_and_not_asked_for_waits_for_its_window() {
    let mut play = about_to_be_deleted().await;
    play.settings.window = Some(closed());
    let why = format!("n2 is not gone on with outside of the window {}", closed());
    assert_eq!(play.resume().await.1, Err(Halt::Closed(why)));
    assert_eq!(play.stage.asked("DELETE /api/v1/nodes/"), 0);
    play.settings.window = None;
    assert_eq!(play.resume().await.1, Ok(()));
}

#[tokio::test]
async fn what_was_begun_is_gone_on_with_in_its_window_as_long_as_its_node_is_there() {
    let mut play = held().await;
    play.settings.window = Some(closed());
    let (record, ended) = play.resume().await;
    let why = format!("n2 is not gone on with outside of the window {}", closed());
    assert_eq!(ended, Err(Halt::Closed(why)));
    assert!(record.work.is_some() && record.over.is_empty());
    assert_eq!(play.stage.asked(EVICTS), 1);
    play.settings.window = None;
    assert_eq!(play.resume().await.1, Ok(()));
}

#[tokio::test]
async fn a_node_that_is_deleted_comes_back_whatever_the_time() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.falls_at(|asked| asked.line == "DELETE /api/v1/nodes/n2");
    assert!(play.killed(false).await);
    let mut play = play.again();
    play.settings.window = Some(closed());
    assert_eq!(play.resume().await.1, Ok(()));
    assert_eq!(play.node("n2")["spec"]["podCIDR"], "10.244.255.0/24");
}

#[tokio::test]
async fn a_node_that_somebody_uncordoned_goes_on_once_it_is_cordoned() {
    let play = held().await;
    play.stage
        .with(|store| store.node("n2")["spec"]["unschedulable"] = json!(false));
    stopped(&play.resume().await.1, UNCORDONED);
    play.stage
        .with(|store| store.node("n2")["spec"]["unschedulable"] = json!(true));
    assert_eq!(play.resume().await.1, Ok(()));
}

#[tokio::test]
async fn taking_back_says_whether_there_was_anything_to_take_back() {
    assert_eq!(held().await.undone().await.as_deref(), Some("taken back"));
    let play = held().await;
    play.stage.with(|store| {
        let node = store.node("n2");
        node["spec"]["unschedulable"] = json!(false);
        node["metadata"]["annotations"] = json!({});
    });
    assert_eq!(play.undone().await.as_deref(), Some("given up"));
}

#[tokio::test]
async fn a_pod_that_gets_no_address_is_told_with_its_last_warning_within_the_time_of_the_verification() {
    let mut play = Play::of(outside(), &["n2"]);
    play.settings.patience *= 500;
    play.stage.meanwhile(|store, asked| {
        let args = &asked.body["spec"]["containers"][0]["args"];
        if asked.line != "POST /api/v1/namespaces/cidrift/pods" || asked.dry() || *args != json!(["hold"]) {
            return None;
        }
        let mut pod = asked.body.clone();
        pod["status"] = json!({"phase": "Pending"});
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let made = store.put(&format!("/api/v1/namespaces/cidrift/pods/{name}"), pod);
        for (at, uid, text) in [
            ("10:00:00", made["metadata"]["uid"].clone(), "no network"),
            ("10:00:10", made["metadata"]["uid"].clone(), "no ranges left"),
            ("10:00:20", json!("another"), "another pod's"),
        ] {
            let event = json!({"metadata": {"name": at}, "reason": "FailedCreatePodSandBox", "message": text,
                "type": "Warning", "involvedObject": {"name": name, "uid": uid},
                "lastTimestamp": format!("2026-11-30T{at}Z")});
            store.put(&format!("/api/v1/namespaces/cidrift/events/{at}"), event);
        }
        Some((201, made))
    });
    let (_, ended) = play.fix().await;
    let why = "FailedCreatePodSandBox: no ranges left";
    stopped(&ended, &format!("a new pod on n2 gets no address: {why}"));
    assert!(play.says(&format!("waits for pod cidrift-errand-probe-f1: {why}")));
}

#[tokio::test]
async fn whoever_plans_is_told_of_a_fix_that_is_not_finished_and_of_the_node_that_it_deleted() {
    let play = held().await;
    let there = standing(&play.stage.client(), "cidrift").await.unwrap().unwrap();
    assert!(!there.misses("n2"));
    for part in [
        "the fix of me@here",
        "stopped at n2: the drain of n2 has not ended",
        "--resume --yes",
        "--abort",
    ] {
        assert!(there.text.contains(part), "{part}: {}", there.text);
    }
    assert_eq!(play.resume().await.1, Ok(()));
    assert!(standing(&play.stage.client(), "cidrift").await.unwrap().is_none());
    let play = Play::of(outside(), &["n2"]);
    play.stage.falls_at(|asked| asked.line == "DELETE /api/v1/nodes/n2");
    assert!(play.killed(false).await);
    let gone = standing(&play.again().stage.client(), "cidrift")
        .await
        .unwrap()
        .unwrap();
    assert!(gone.misses("n2") && !gone.misses("n1"));
    assert!(
        gone.text.contains("stopped at n2: who ran it has vanished"),
        "{}",
        gone.text
    );
}
