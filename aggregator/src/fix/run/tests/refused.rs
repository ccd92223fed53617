//! What the API server, webhooks and runtimes refuse.

use serde_json::json;

use super::play::{Play, outside, stopped};
use super::stage::refused;

const PODS: &str = "POST /api/v1/namespaces/cidrift/pods";
const EVICTS: &str = "POST /api/v1/namespaces/default/pods/web/eviction";

/// PodSecurity, a webhook or a missing right: it is asked before.
#[tokio::test]
async fn where_no_pod_of_an_errand_may_be_made_nothing_is_begun() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|_, asked| {
        let makes = asked.line == PODS;
        let why = "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces";
        makes.then(|| refused(403, why)).flatten()
    });
    let (record, ended) = play.fix().await;
    stopped(
        &ended,
        "cannot create a pod for an errand: the API server does not let you: pods \"x\" is forbidden: violates PodSecurity",
    );
    assert!(record.work.is_none());
    assert_eq!(play.stage.asked("PATCH "), 0);
}

/// Such a webhook lets nobody try.
#[tokio::test]
async fn a_webhook_that_knows_no_trial_is_no_reason() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|_, asked| {
        let tries = asked.line == PODS && asked.dry();
        tries
            .then(|| refused(400, "admission webhook \"x\" does not support dry run"))
            .flatten()
    });
    assert_eq!(play.fix().await.1, Ok(()));
}

#[tokio::test]
async fn an_image_that_is_not_to_be_had_is_told_while_it_is_waited_for() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|store, asked| {
        if asked.line != PODS || asked.dry() {
            return None;
        }
        let mut pod = asked.body.clone();
        let waiting =
            json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"cidrift:1\""}});
        pod["status"] = json!({"phase": "Pending", "containerStatuses": [{"name": "errand", "state": waiting,
            "image": "", "imageID": "", "ready": false, "restartCount": 0}]});
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let made = store.put(&format!("/api/v1/namespaces/cidrift/pods/{name}"), pod);
        Some((201, made))
    });
    let (_, ended) = play.fix().await;
    let said = play.said.borrow().clone();
    let told = said
        .iter()
        .filter(|said| said.contains(": ImagePullBackOff: Back-off pulling image \"cidrift:1\""));
    assert_eq!(told.count(), 1, "{said:#?}");
    stopped(&ended, "does not come to an end on n2: Back-off pulling image");
}

/// Nothing may be made in such a namespace, and an eviction is; its pods go with it.
#[tokio::test]
async fn pods_of_a_namespace_that_is_being_deleted_are_waited_for() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|_, asked| {
        let status = json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "unable to create new content in namespace default because it is being terminated",
            "details": {"causes": [{"reason": "NamespaceTerminating"}]}});
        (asked.line == EVICTS).then_some((403, status))
    });
    let mut looks = 0;
    play.stage.meanwhile(move |store, asked| {
        if asked.line == "GET /api/v1/pods" && asked.query.contains("n2") {
            looks += 1;
            if looks == 2 {
                store.all.remove("/api/v1/namespaces/default/pods/web");
            }
        }
        None
    });
    assert_eq!(play.fix().await.1, Ok(()));
    assert!(play.says("waits for default/web (its namespace is being deleted) to end"));
}

/// By a budget, or by an API server that has too much to do: it is asked again, and not by every look.
#[tokio::test]
async fn an_eviction_that_is_refused_for_now_is_asked_for_again() {
    let mut play = Play::of(outside(), &["n2"]);
    play.settings.drain *= 10;
    let mut times = 0;
    play.stage.meanwhile(move |_, asked| {
        times += u32::from(asked.line == EVICTS);
        let refuses = asked.line == EVICTS && times < 2;
        refuses
            .then(|| refused(429, "Too many requests, please try again later."))
            .flatten()
    });
    assert_eq!(play.fix().await.1, Ok(()));
    assert!(play.says("waits for default/web (Too many requests, please try again later.) to end"));
    assert_eq!(play.stage.asked(EVICTS), 2);
}
