//! The Lease is deleted, or somebody else's, in the middle.

use serde_json::json;

use super::play::{Play, outside};
use super::stage::{Store, refused};
use crate::fix::run::Halt;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cidrift/leases/cidrift-fix";

/// As another process takes it.
fn taken(store: &mut Store) {
    let mut lease = store.all[LEASE].clone();
    lease["metadata"]["annotations"]["cidrift.dev/fix-holder"] = json!("{\"who\":\"you@there\",\"pid\":7}");
    store.put(LEASE, lease);
}

#[tokio::test]
async fn a_lease_that_was_deleted_is_made_again_with_its_record() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|store, asked| {
        if asked.line.ends_with("/eviction") {
            store.all.remove(LEASE);
        }
        None
    });
    assert_eq!(play.fix().await.1, Ok(()));
    let lease = play.stage.with(|store| store.all[LEASE].clone());
    let record = lease["metadata"]["annotations"]["cidrift.dev/fix"].as_str().unwrap();
    assert!(record.contains("\"over\":[{\"node\":\"n2\"}]"), "{record}");
}

/// Its namespace is being deleted, say: what nobody could take back is not begun.
#[tokio::test]
async fn without_a_lease_no_node_is_deleted() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|store, asked| {
        if asked.line.ends_with("/eviction") {
            store.all.remove(LEASE);
        }
        let makes = asked.line == "POST /apis/coordination.k8s.io/v1/namespaces/cidrift/leases";
        let evicted = !store.all.contains_key("/api/v1/namespaces/default/pods/web");
        (makes && evicted)
            .then(|| refused(403, "the namespace is being terminated"))
            .flatten()
    });
    let (_, ended) = play.fix().await;
    let why = "Lease cidrift-fix was deleted: cannot make it again: the API server does not let you: the namespace is being terminated";
    assert_eq!(ended, Err(Halt::Lost(why.to_owned())));
    assert_eq!(play.stage.asked("DELETE /api/v1/nodes/"), 0);
    assert!(play.says("Node n2 has 10.99.2.0/24, is Ready, cordoned"));
}

/// The API server makes no Node for a while; the Lease is lost meanwhile, and whoever took it may never come to that.
#[tokio::test]
async fn a_node_that_is_deleted_is_made_again_whoever_has_the_lease_by_then() {
    let play = Play::of(outside(), &["n2"]);
    let mut refusals = 0;
    play.stage.meanwhile(move |store, asked| {
        if asked.line == "DELETE /api/v1/nodes/n2" {
            taken(store);
        }
        refusals += u32::from(asked.line == "POST /api/v1/nodes");
        let refuses = asked.line == "POST /api/v1/nodes" && refusals < 3;
        refuses.then(|| refused(503, "it starts")).flatten()
    });
    let (_, ended) = play.fix().await;
    let why = "Lease cidrift-fix is held by you@there (pid 7) now";
    assert_eq!(ended, Err(Halt::Lost(why.to_owned())));
    assert_eq!(play.node("n2")["spec"]["podCIDR"], "10.244.255.0/24");
    assert_eq!(play.node("n2")["spec"]["unschedulable"], true);
}

/// Another program would drop what it does not know.
#[tokio::test]
async fn a_record_of_another_version_is_left_to_that_one() {
    let mut play = Play::of(outside(), &["n2"]);
    play.stage.falls_at(|asked| asked.line == "PATCH /api/v1/nodes/n2");
    assert!(play.killed(false).await);
    play = play.again();
    let kept = play.stage.with(|store| {
        let notes = &mut store.all.get_mut(LEASE).unwrap()["metadata"]["annotations"];
        let record = notes["cidrift.dev/fix"]
            .as_str()
            .unwrap()
            .replacen('{', "{\"later\":1,", 1);
        notes["cidrift.dev/fix"] = json!(record);
        store.all.clone()
    });
    for refusal in [play.refused(false).await, play.refused(true).await] {
        assert!(refusal.contains("unknown field `later`"), "{refusal}");
        assert!(
            refusal.contains("go on with the version of this program that wrote it"),
            "{refusal}"
        );
    }
    assert_eq!(play.stage.with(|store| store.all.clone()), kept);
}

/// As the server does what it is asked for, and its answer is lost; `then` is what comes before it is asked again.
fn given_back(play: &Play, then: fn(&mut Store)) {
    let mut first = true;
    play.stage.meanwhile(move |store, asked| {
        let gives = asked.line == format!("PUT {LEASE}") && asked.body["spec"]["holderIdentity"].is_null();
        if !gives || !std::mem::take(&mut first) {
            return None;
        }
        store.put(LEASE, asked.body.clone());
        then(store);
        refused(503, "it goes down")
    });
}

#[tokio::test]
async fn a_lease_that_was_given_back_is_not_said_to_be_lost_though_nobody_heard_of_it() {
    let play = Play::of(outside(), &["n2"]);
    given_back(&play, |_| {});
    assert_eq!(play.fix().await.1, Ok(()));
}

#[tokio::test]
async fn nor_where_another_fix_has_begun_by_then() {
    let play = Play::of(outside(), &["n2"]);
    given_back(&play, |store| {
        taken(store);
        let notes = &mut store.all.get_mut(LEASE).unwrap()["metadata"]["annotations"];
        let record = notes["cidrift.dev/fix"].as_str().unwrap().replace("\"f1\"", "\"f2\"");
        notes["cidrift.dev/fix"] = json!(record);
    });
    assert_eq!(play.fix().await.1, Ok(()));
}

#[tokio::test]
async fn one_that_somebody_took_before_it_was_given_back_is_lost() {
    let play = Play::of(outside(), &["n2"]);
    play.stage.meanwhile(|store, asked| {
        if asked.line == format!("PUT {LEASE}") && asked.body["spec"]["holderIdentity"].is_null() {
            taken(store);
        }
        None
    });
    let why = "Lease cidrift-fix is held by you@there (pid 7) now";
    assert_eq!(play.fix().await.1, Err(Halt::Lost(why.to_owned())));
}
