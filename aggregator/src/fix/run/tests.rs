//! What stops a fix, and what does not, by Nodes as the API server tells them.

mod beside;
mod breaker;
mod hands;
mod kubelet;
mod lost;
mod others;
mod play;
mod refused;
mod rights;
mod seer;
mod stage;
mod undone;
mod waits;

use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::agreed::Planned;
use super::record::{Record, Work, saved};
use super::{MARK, Over, state};
use crate::fix::plan::{Does, Interrupts, Method, NodePlan, Step};
use crate::fix::planner::Wish;

const NEW: &str = "10.244.255.0/24";

const UNCORDONED: &str = "somebody uncordoned n2: kubectl cordon n2 first, then --resume; or --abort";

pub(super) fn node(name: &str, uid: &str, cidr: &str, more: &Value) -> Node {
    let mut object = json!({
        "metadata": {"name": name, "uid": uid},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

pub(super) fn marked(mut node: Node, id: &str) -> Node {
    let annotations = node.metadata.annotations.get_or_insert_default();
    annotations.insert(MARK.to_owned(), id.to_owned());
    node
}

pub(super) fn plan() -> NodePlan {
    let steps = [
        Does::Cordon,
        Does::Drain,
        Does::Recreate,
        Does::Adopt,
        Does::Verify,
        Does::Uncordon,
    ];
    NodePlan {
        node: "n2".to_owned(),
        uid: "old".to_owned(),
        mends: vec!["POOL02/n2".to_owned()],
        method: Method::Swap,
        from: vec!["10.200.2.0/24".parse().unwrap()],
        to: vec![NEW.parse().unwrap()],
        steps: steps
            .into_iter()
            .map(|does| Step {
                text: format!("{does:?}"),
                does,
            })
            .collect(),
        interrupts: Interrupts::default(),
        verify: Vec::new(),
        risks: Vec::new(),
        blocked: Vec::new(),
    }
}

/// What was agreed to for a node of that name.
pub(super) fn agreed(node: &str) -> Planned {
    Planned {
        node: node.to_owned(),
        ..Planned::from(&plan())
    }
}

pub(super) fn work() -> Work {
    Work {
        plan: plan(),
        at: 0,
        cordoned: false,
        saved: Box::new(saved(&node("n2", "old", "10.200.2.0/24", &json!({})))),
        made: None,
        deleting: false,
        told: false,
        stood: Vec::new(),
    }
}

fn own(work: &Work, node: Option<&Node>, next: &Does) -> Result<(), String> {
    state::own(work, node, next, "f1")
}

#[test]
fn a_node_that_others_delete_make_again_or_uncordon_is_a_surprise() {
    let (old, cordoned) = (
        node("n2", "old", "10.200.2.0/24", &json!({})),
        marked(
            node("n2", "old", "10.200.2.0/24", &json!({"unschedulable": true})),
            "f1",
        ),
    );
    assert_eq!(own(&work(), Some(&old), &Does::Cordon), Ok(()));
    let ours = Work {
        cordoned: true,
        at: 1,
        ..work()
    };
    assert_eq!(own(&ours, Some(&cordoned), &Does::Drain), Ok(()));
    for (node, next, says) in [
        (None, Does::Drain, "somebody deleted Node n2"),
        (Some(&old), Does::Drain, UNCORDONED),
        (None, Does::Recreate, "somebody deleted Node n2"),
        (
            Some(&node("n2", "new", NEW, &json!({"unschedulable": true}))),
            Does::Drain,
            "Node n2 is another one now: somebody deleted it and made it again",
        ),
        (
            Some(&marked(cordoned.clone(), "f2")),
            Does::Drain,
            "somebody took the mark of this fix (cidrift.dev/fix) from Node n2",
        ),
    ] {
        assert_eq!(own(&ours, node, &next), Err(says.to_owned()), "{next:?}");
    }
}

/// It was done, and whoever did it died before he wrote that down.
#[test]
fn what_was_uncordoned_for_this_fix_is_no_surprise_and_what_others_had_cordoned_is_theirs() {
    let ours = Work {
        cordoned: true,
        at: 5,
        ..work()
    };
    let free = node("n2", "old", "10.200.2.0/24", &json!({}));
    assert_eq!(own(&ours, Some(&free), &Does::Uncordon), Ok(()));
    assert!(own(&ours, Some(&marked(free.clone(), "f1")), &Does::Uncordon).is_err());
    // Somebody else had cordoned it, and takes that back meanwhile.
    let theirs = Work {
        saved: Box::new(saved(&node(
            "n2",
            "old",
            "10.200.2.0/24",
            &json!({"unschedulable": true}),
        ))),
        ..work()
    };
    assert_eq!(own(&theirs, Some(&free), &Does::Drain), Err(UNCORDONED.to_owned()));
}

#[test]
fn a_node_may_be_gone_or_new_only_where_this_fix_has_decided_that() {
    let deleting = Work {
        cordoned: true,
        deleting: true,
        at: 2,
        ..work()
    };
    let new = node("n2", "new", NEW, &json!({"unschedulable": true}));
    assert_eq!(own(&deleting, None, &Does::Recreate), Ok(()));
    // It was made, and whoever made it died before he wrote that down.
    assert_eq!(
        own(&deleting, Some(&marked(new.clone(), "f1")), &Does::Recreate),
        Ok(())
    );
    assert!(own(&deleting, Some(&new), &Does::Recreate).is_err(), "somebody else's");
    assert!(own(&deleting, Some(&marked(new.clone(), "f1")), &Does::Adopt).is_err());
    let made = Work {
        made: Some("new".to_owned()),
        at: 3,
        ..deleting
    };
    assert_eq!(own(&made, Some(&marked(new, "f1")), &Does::Adopt), Ok(()));
    assert!(own(&made, None, &Does::Adopt).is_err());
}

#[test]
fn a_second_node_that_is_unavailable_stops_what_would_make_it_two() {
    let own = node("n2", "old", "10.200.2.0/24", &json!({"unschedulable": true}));
    let fine = node("n1", "a", "10.244.1.0/24", &json!({}));
    let cordoned = node("n3", "b", "10.244.3.0/24", &json!({"unschedulable": true}));
    let mut down = node("n3", "b", "10.244.3.0/24", &json!({}));
    down.status = None;
    let out = |other: &Node, next: &Does, waits: &[&str]| {
        state::out(&work(), &[own.clone(), fine.clone(), other.clone()], next, waits)
    };
    assert_eq!(out(&fine, &Does::Cordon, &[]), None);
    let link = Does::RemoveLink {
        name: "cni0".to_owned(),
        addresses: Vec::new(),
    };
    for next in [Does::Cordon, Does::Drain, link, Does::Recreate] {
        assert!(out(&cordoned, &next, &[]).unwrap().starts_with("n3 is cordoned"));
        assert!(out(&down, &next, &[]).unwrap().starts_with("n3 is not Ready"));
    }
    // It waits for its own turn; but not one that somebody cordoned.
    assert_eq!(out(&down, &Does::Drain, &["n3"]), None);
    assert!(out(&cordoned, &Does::Drain, &["n3"]).is_some());
    // It is gone already: it has to come back, whatever others do; then it is taken away as any other.
    let deleting = Work {
        deleting: true,
        ..work()
    };
    let gone = [fine.clone(), cordoned.clone()];
    assert_eq!(state::out(&deleting, &gone, &Does::Recreate, &[]), None);
    assert!(state::out(&deleting, &gone, &Does::Drain, &[]).is_some());
    let there = [own.clone(), cordoned.clone()];
    assert!(state::out(&deleting, &there, &Does::Recreate, &[]).is_some());
    // Nothing is taken away by these.
    for next in [Does::Assign, Does::Adopt, Does::Verify, Does::Uncordon] {
        assert_eq!(out(&cordoned, &next, &[]), None);
    }
}

#[test]
fn a_cidr_that_another_node_got_meanwhile_is_not_given() {
    let taker = node("n9", "c", "10.244.254.0/23", &json!({}));
    for next in [Does::Recreate, Does::Assign] {
        let why = state::free(&work(), std::slice::from_ref(&taker), &next).unwrap_err();
        assert_eq!(why, "Node n9 has got a part of what n2 was to have");
    }
    assert_eq!(state::free(&work(), &[taker], &Does::Drain), Ok(()));
}

#[test]
fn what_was_agreed_to_is_held_against_what_is_planned_now() {
    let agreed = Planned::from(&plan());
    assert_eq!(agreed.moved(&plan()), None);
    let other = NodePlan {
        uid: "new".to_owned(),
        ..plan()
    };
    assert_eq!(agreed.moved(&other).unwrap(), "Node n2 is another one now");
    let other = NodePlan {
        method: Method::Host,
        ..plan()
    };
    assert_eq!(
        agreed.moved(&other).unwrap(),
        "n2 was to be mended by swap, and now by host"
    );
    let other = NodePlan {
        to: vec!["10.244.7.0/24".parse().unwrap()],
        ..plan()
    };
    assert_eq!(
        agreed.moved(&other).unwrap(),
        "n2 was to have 10.244.255.0/24, and now 10.244.7.0/24"
    );
    // The same method, and more of it.
    let mut other = plan();
    other.steps.retain(|step| step.does != Does::Drain);
    let why = agreed.moved(&other).unwrap();
    assert!(
        why.ends_with("and now cordon, recreate, adopt, verify, uncordon"),
        "{why}"
    );
}

/// As a controller manager goes that ends at its start: each time it holds its Lease for a moment. One that runs may be quiet.
#[test]
fn a_controller_manager_that_has_come_up_or_gone_is_waited_out_and_nothing_else_is() {
    let mut without = plan();
    let step = Step {
        does: Does::Controllers,
        text: String::new(),
    };
    without.steps.insert(3, step);
    let agreed = Planned::from(&without);
    assert!(agreed.moved(&plan()).is_some() && agreed.came_up(&plan()));
    assert!(!agreed.came_up(&without), "none runs still");
    let running = Planned::from(&plan());
    assert!(running.moved(&without).is_some() && running.went_down(&without));
    assert!(!running.came_up(&without) && !running.went_down(&plan()));
    assert!(!agreed.went_down(&plan()) && !agreed.went_down(&without));
    let other = NodePlan {
        to: vec!["10.244.7.0/24".parse().unwrap()],
        ..plan()
    };
    assert!(!agreed.came_up(&other));
    without.to = other.to;
    assert!(!running.went_down(&without));
}

#[test]
fn where_the_runtime_is_asked_is_what_the_plan_says() {
    let mut rendering = work();
    assert_eq!(rendering.socket(), None);
    let (path, socket) = ("/etc/cni/net.d/a.conflist".to_owned(), "/run/k3s/c.sock".to_owned());
    let does = Does::Render { path, socket };
    rendering.plan.steps.insert(
        2,
        Step {
            does,
            text: String::new(),
        },
    );
    assert_eq!(rendering.socket(), Some("/run/k3s/c.sock"));
}

/// What is on the Lease is read by other versions, and by people.
#[test]
fn a_record_is_read_as_it_was_written() {
    let record = Record {
        id: "f1".to_owned(),
        begun: jiff::Timestamp::UNIX_EPOCH,
        by: "me@here".to_owned(),
        wish: Wish::default(),
        queue: vec![Planned::from(&plan())],
        work: Some(Work {
            deleting: true,
            ..work()
        }),
        over: vec![Over {
            node: "n1".to_owned(),
            failed: Some("it does not come back".to_owned()),
        }],
        stopped: None,
    };
    let text = serde_json::to_string(&record).unwrap();
    let read: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(read, record);
    assert_eq!((read.failures(), read.unfinished()), (1, true));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["work"]["saved"]["spec"]["podCIDRs"], json!(["10.200.2.0/24"]));
    assert_eq!(value["work"]["saved"]["status"], json!(null), "the kubelet's matter");
    assert!(
        text.len() < 4096,
        "{} bytes of the 256 KiB that annotations may have",
        text.len()
    );
}

type Edit<'a> = &'a dyn Fn(&mut Value);

/// It is done with the operator's rights, and others may write on the Lease.
#[test]
fn a_record_that_somebody_edited_is_refused() {
    let record = Record {
        id: "f1".to_owned(),
        begun: jiff::Timestamp::UNIX_EPOCH,
        by: "me@here".to_owned(),
        wish: Wish::default(),
        queue: Vec::new(),
        work: Some(work()),
        over: Vec::new(),
        stopped: None,
    };
    assert_eq!(record.sound(), Ok(()));
    let edited = |edit: Edit<'_>| {
        let mut value = serde_json::to_value(&record).unwrap();
        edit(&mut value);
        let read: Result<Record, _> = serde_json::from_value(value);
        read.map_err(|error| error.to_string()).and_then(|read| read.sound())
    };
    assert_eq!(edited(&|_| {}), Ok(()));
    let remove = |path: &str| json!({"does": {"do": "remove-file", "path": path, "containing": ""}, "text": "rm"});
    for path in [
        "/etc/cni/net.d/10-x.conflist",
        "/var/lib/rancher/k3s/agent/etc/cni/net.d/x.conf",
    ] {
        assert_eq!(
            edited(&|value| value["work"]["plan"]["steps"][2] = remove(path)),
            Ok(())
        );
    }
    let cases: [(&str, Edit<'_>); 15] = [
        ("\"n3;x\" is no Node's name", &|value| {
            value["over"] = json!([{"node": "n3;x"}]);
        }),
        ("\"n3;x\" is no Node's name", &|value| {
            value["wish"]["nodes"] = json!(["n3;x"]);
        }),
        ("\"n3;x\" is no Node's name", &|value| {
            let planned = Planned {
                node: "n3;x".to_owned(),
                ..Planned::from(&plan())
            };
            value["queue"] = json!([planned]);
        }),
        ("unknown field `later`", &|value| value["later"] = json!(1)),
        ("unknown field `later`", &|value| value["work"]["later"] = json!(1)),
        ("unknown field `later`", &|value| value["wish"]["later"] = json!(1)),
        ("unknown field `later`", &|value| {
            value["wish"]["migrate"]["later"] = json!(1)
        }),
        ("unknown variant `later`", &|value| {
            value["work"]["plan"]["steps"][0]["does"]["do"] = json!("later")
        }),
        ("id \"../x\" is none", &|value| value["id"] = json!("../x")),
        ("n2 is at step 8 of 6", &|value| value["work"]["at"] = json!(7)),
        ("n2 is at step", &|value| value["work"]["at"] = json!(u64::MAX)),
        ("the Node that is saved is n3, and n2 is worked on", &|value| {
            value["work"]["saved"]["metadata"]["name"] = json!("n3");
        }),
        ("it has no UID", &|value| value["work"]["plan"]["uid"] = json!("")),
        ("no plan has a step like Recreate", &|value| {
            value["work"]["plan"]["to"] = json!([])
        }),
        ("no plan has a step like RemoveFile", &|value| {
            value["work"]["plan"]["steps"][2] = remove("/etc/cni/../passwd.conf");
        }),
    ];
    for (says, edit) in cases {
        let why = edited(edit).unwrap_err();
        assert!(why.contains(says), "{says}: {why}");
    }
    for path in ["/etc/shadow", "etc/cni/net.d/x.conf", ""] {
        assert!(
            edited(&|value| value["work"]["plan"]["steps"][2] = remove(path)).is_err(),
            "{path}"
        );
    }
}
