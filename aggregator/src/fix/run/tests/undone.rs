//! An abort that is killed, and begun again from another process.

use serde_json::{Value, json};

use super::play::{Play, outside};
use super::stage::Asked;

type Last = fn(&Asked) -> bool;

/// How far a fix came before it was killed: the last change that was made.
const STATES: [(&str, Last); 5] = [
    ("cordoned only", |asked| asked.line == "PATCH /api/v1/nodes/n2"),
    ("file removed", |asked| errand(asked, "remove-file")),
    ("about to be deleted", |asked| {
        asked.line.starts_with("PATCH /apis/storage.k8s.io/v1/csinodes/")
    }),
    ("Node deleted", |asked| asked.line == "DELETE /api/v1/nodes/n2"),
    ("Node made anew", |asked| asked.line == "POST /api/v1/nodes"),
];

fn errand(asked: &Asked, program: &str) -> bool {
    asked.line.ends_with("/pods") && asked.body["spec"]["containers"][0]["args"][0] == program && !asked.dry()
}

/// All that matters of what is left: the Node without what differs each time, pods of the fix, and what is unfinished.
fn left(play: &Play) -> Value {
    let mut node = play.node("n2");
    for key in ["uid", "resourceVersion"] {
        node["metadata"].as_object_mut().unwrap().remove(key);
    }
    let pods: Vec<String> = play.stage.with(|store| {
        let paths = store.all.keys().filter(|path| path.contains("/pods/"));
        paths.cloned().collect()
    });
    let owners = play.stage.with(|store| {
        let (uid, drivers) = (
            store.node("n2")["metadata"]["uid"].clone(),
            &store.all["/apis/storage.k8s.io/v1/csinodes/n2"],
        );
        drivers["metadata"]["ownerReferences"][0]["uid"] == uid
    });
    json!({"node": node, "pods": pods, "owned": owners})
}

/// The fix is killed where `last` is true for the first time.
async fn begun(last: Last) -> Play {
    let play = Play::of(outside(), &["n2"]);
    play.stage.with(|store| {
        let uid = store.node("n2")["metadata"]["uid"].clone();
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": uid}]);
        let drivers = json!({"metadata": {"name": "n2", "ownerReferences": owner}, "spec": {"drivers": []}});
        store.put("/apis/storage.k8s.io/v1/csinodes/n2", drivers);
    });
    play.stage.falls_at(last);
    assert!(play.killed(false).await);
    play.again()
}

#[tokio::test]
async fn it_comes_to_the_same_wherever_it_was_killed() {
    for (state, last) in STATES {
        let begun = begun(last).await;
        let whole = begun.again();
        assert!(whole.abort().await, "{state}");
        let wanted = left(&whole);
        let mut kills = 0;
        loop {
            let first = begun.again();
            let mut changes = 0;
            first.stage.falls_at(move |asked| {
                changes += usize::from(!asked.line.starts_with("GET "));
                changes > kills
            });
            if !first.killed(true).await {
                break;
            }
            let second = first.again();
            second.abort().await;
            assert_eq!(left(&second), wanted, "{state}, killed after {} changes", kills + 1);
            assert!(!second.abort().await, "{state}: nothing is left to take back");
            kills += 1;
        }
        assert!(kills >= 3, "{state}: {kills}");
    }
}

#[tokio::test]
async fn what_it_comes_to_is_as_before_as_far_as_that_goes() {
    for (state, last) in STATES {
        let play = begun(last).await;
        let old = play.stage.with(|store| store.all.get("/api/v1/nodes/n2").cloned());
        play.abort().await;
        let (node, anew) = (play.node("n2"), state == "Node made anew");
        let cidr = if anew { "10.244.255.0/24" } else { "10.99.2.0/24" };
        assert_eq!(node["spec"]["podCIDR"], cidr, "{state}");
        // What runs there is of the new CIDR by then, or of none: people look at it first.
        assert_eq!(node["spec"]["unschedulable"] == true, anew, "{state}");
        assert_eq!(
            node["metadata"]["annotations"]["cidrift.dev/fix"],
            json!(null),
            "{state}"
        );
        if let Some(old) = old {
            assert_eq!(node["metadata"]["uid"], old["metadata"]["uid"], "{state}");
        }
        assert_eq!(left(&play)["owned"], true, "{state}");
    }
}
