//! An abort that is killed, and begun again from another process.

use serde_json::{Value, json};

use super::play::{Play, outside, stale};
use super::stage::{Asked, WRITTEN};
use crate::fix::plan::Method;
use crate::fix::planner::Wish;

/// How far a fix came before it was killed.
struct State {
    name: &'static str,
    /// How its node is mended.
    method: Method,
    /// The last thing that was asked for.
    last: fn(&Asked) -> bool,
}

const STATES: [State; 10] = [
    State {
        name: "cordoned only",
        method: Method::Swap,
        last: |asked| asked.line == "PATCH /api/v1/nodes/n2",
    },
    State {
        name: "about to remove its file",
        method: Method::Swap,
        last: looks,
    },
    State {
        name: "file removed",
        method: Method::Swap,
        last: removes,
    },
    State {
        name: "about to be deleted",
        method: Method::Swap,
        last: |asked| asked.line.starts_with("PATCH /apis/storage.k8s.io/v1/csinodes/"),
    },
    State {
        name: "Node deleted",
        method: Method::Swap,
        last: |asked| asked.line == "DELETE /api/v1/nodes/n2",
    },
    State {
        name: "Node made anew",
        method: Method::Swap,
        last: |asked| asked.line == "POST /api/v1/nodes",
    },
    State {
        name: "about to remove its file",
        method: Method::Host,
        last: looks,
    },
    State {
        name: "file removed",
        method: Method::Host,
        last: removes,
    },
    State {
        name: "file removed",
        method: Method::Rotate,
        last: removes,
    },
    State {
        name: "Node deleted",
        method: Method::Rotate,
        last: |asked| asked.line == "DELETE /api/v1/nodes/n2",
    },
];

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.method, self.name)
    }
}

/// Before an errand it is seen that none of that name is on its way out.
fn looks(asked: &Asked) -> bool {
    asked
        .line
        .starts_with("GET /api/v1/namespaces/cidrift/pods/cidrift-errand-")
}

fn removes(asked: &Asked) -> bool {
    errand(asked, "remove-file")
}

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
    json!({"node": node, "pods": pods, "owned": owners, "file": file(play)})
}

/// The range that the CNI configuration is for.
fn file(play: &Play) -> Value {
    play.stage.with(|store| store.all[&format!("{WRITTEN}/n2")].clone())
}

/// The fix is killed in this state.
async fn begun(state: &State) -> Play {
    let wish = Wish {
        rotate: state.method == Method::Rotate,
        ..Wish::default()
    };
    let world = if state.method == Method::Host {
        stale()
    } else {
        outside()
    };
    let play = Play::wished(world, &["n2"], wish);
    play.stage.with(|store| {
        let uid = store.node("n2")["metadata"]["uid"].clone();
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": uid}]);
        let drivers = json!({"metadata": {"name": "n2", "ownerReferences": owner}, "spec": {"drivers": []}});
        store.put("/apis/storage.k8s.io/v1/csinodes/n2", drivers);
    });
    play.stage.falls_at(state.last);
    assert!(play.killed(false).await, "{state}");
    play.again()
}

#[tokio::test]
async fn it_comes_to_the_same_wherever_it_was_killed() {
    for state in STATES {
        let begun = begun(&state).await;
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
    for state in STATES {
        let play = begun(&state).await;
        let old = play.stage.with(|store| store.all.get("/api/v1/nodes/n2").cloned());
        let before = file(&play);
        play.abort().await;
        let (node, anew) = (play.node("n2"), state.name == "Node made anew");
        let cidr = match (anew, state.method) {
            (true, _) => "10.244.255.0/24",
            (_, Method::Host) => "10.244.2.0/24",
            _ => "10.99.2.0/24",
        };
        assert_eq!(node["spec"]["podCIDR"], cidr, "{state}");
        // What was removed is rendered for the CIDRs that it has again; what was not stays, stale as it is.
        let rendered = before.is_null() && !anew;
        assert_eq!(file(&play), if rendered { json!(cidr) } else { before }, "{state}");
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

/// It would be another file by then, or none was removed: either way it is nobody's to render over.
#[tokio::test]
async fn a_file_that_is_there_is_said_to_be_there_and_the_abort_goes_on() {
    let play = Play::of(stale(), &["n2"]);
    play.stage.falls_at(looks);
    assert!(play.killed(false).await);
    let play = play.again();
    assert_eq!(play.undone().await.as_deref(), Some("given up"));
    assert!(play.says("/etc/cni/net.d/10-net.conflist is there: nothing is to be taken back of it"));
}
