//! Pods and their sandboxes over time; lists that had something and have it no longer.

use serde_json::{Value, json};

use super::*;
use crate::cluster::around::SandboxFailures;

const T: &str = "2026-11-23T10:";

fn pod(name: &str, uid: &str, node: &str, sandbox: Option<&str>) -> Value {
    let conditions = match sandbox {
        Some(at) => {
            json!([{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": format!("{T}{at}Z")}])
        }
        None => {
            json!([{"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": format!("{T}00:00Z")}])
        }
    };
    json!({"metadata": {"namespace": "shop", "name": name, "uid": uid}, "spec": {"nodeName": node},
        "status": {"phase": "Pending", "conditions": conditions}})
}

fn failure(event: &str, pod: &str, uid: &str, last: &str) -> Value {
    json!({"metadata": {"namespace": "shop", "name": event}, "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": uid},
        "reason": "FailedCreatePodSandBox", "message": "no IP addresses available", "source": {"component": "kubelet", "host": "node-a"},
        "count": 2, "firstTimestamp": format!("{T}00:00Z"), "lastTimestamp": format!("{T}{last}Z")})
}

fn listed(gathered: &mut Gathered, kind: Kind, objects: &[Value]) {
    gathered.list_begins(kind);
    for object in objects {
        gathered.put(kind, object);
    }
    gathered.listed(kind);
    gathered.fares(kind, Watched::Live(jiff::Timestamp::UNIX_EPOCH));
}

/// What was last told of a node's sandboxes.
fn sandboxes(gathered: &mut Gathered) -> Option<Option<SandboxFailures>> {
    let told = gathered.changes(true).into_iter().filter_map(|event| match event {
        PlaneEvent::Sandboxes(node, failures) => {
            assert_eq!(node, "node-a");
            Some(failures)
        }
        _ => None,
    });
    told.last()
}

fn names(failures: &SandboxFailures) -> Vec<&str> {
    failures.failing.iter().map(|failing| failing.pod.as_str()).collect()
}

#[test]
fn a_pod_fails_until_it_gets_its_sandbox_after_the_last_failure() {
    let mut gathered = Gathered::default();
    listed(
        &mut gathered,
        Kind::Pods,
        &[pod("a", "1", "node-a", None), pod("b", "2", "node-a", None)],
    );
    listed(
        &mut gathered,
        Kind::SandboxEvents,
        &[failure("a.1", "a", "1", "05:00"), failure("b.1", "b", "2", "06:00")],
    );
    let failing = sandboxes(&mut gathered).unwrap().unwrap();
    assert_eq!(
        (names(&failing), failing.total),
        (vec!["shop/b", "shop/a"], 2),
        "newest first"
    );

    gathered.put(Kind::Pods, &pod("a", "1", "node-a", Some("05:01")));
    assert_eq!(names(&sandboxes(&mut gathered).unwrap().unwrap()), ["shop/b"]);
    gathered.put(Kind::Pods, &pod("b", "2", "node-a", Some("05:59")));
    assert_eq!(
        names(&sandboxes(&mut gathered).unwrap().unwrap()),
        ["shop/b"],
        "it had a sandbox before it failed"
    );
    gathered.put(Kind::Pods, &pod("b", "2", "node-a", Some("06:00")));
    assert_eq!(
        sandboxes(&mut gathered),
        Some(None),
        "kubelet tried again within the second"
    );
}

#[test]
fn a_pod_that_is_gone_or_another_one_by_now_fails_no_longer() {
    let mut gathered = Gathered::default();
    listed(
        &mut gathered,
        Kind::Pods,
        &[pod("a", "1", "node-a", None), pod("b", "2", "node-a", None)],
    );
    listed(
        &mut gathered,
        Kind::SandboxEvents,
        &[failure("a.1", "a", "1", "05:00"), failure("b.1", "b", "2", "05:00")],
    );
    assert_eq!(sandboxes(&mut gathered).unwrap().unwrap().total, 2);
    gathered.gone(Kind::Pods, &pod("a", "1", "node-a", None));
    assert_eq!(names(&sandboxes(&mut gathered).unwrap().unwrap()), ["shop/b"]);
    gathered.put(Kind::Pods, &pod("b", "3", "node-a", None));
    assert_eq!(
        sandboxes(&mut gathered),
        Some(None),
        "a StatefulSet's next pod bears the same name"
    );
}

#[test]
fn an_event_that_came_before_its_pod_is_not_lost() {
    let mut gathered = Gathered::default();
    listed(&mut gathered, Kind::Pods, &[]);
    listed(&mut gathered, Kind::SandboxEvents, &[failure("a.1", "a", "1", "05:00")]);
    assert_eq!(sandboxes(&mut gathered), Some(None));
    gathered.put(Kind::Pods, &pod("a", "1", "node-a", None));
    assert_eq!(names(&sandboxes(&mut gathered).unwrap().unwrap()), ["shop/a"]);
}

#[test]
fn without_pods_failures_stand_until_their_events_expire() {
    let mut gathered = Gathered::default();
    gathered.fares(Kind::Pods, Watched::Refused("pods is forbidden".to_owned()));
    listed(&mut gathered, Kind::SandboxEvents, &[failure("a.1", "a", "1", "05:00")]);
    assert_eq!(sandboxes(&mut gathered).unwrap().unwrap().total, 1);
    gathered.gone(Kind::SandboxEvents, &failure("a.1", "a", "1", "05:00"));
    assert_eq!(sandboxes(&mut gathered), Some(None));
}

#[test]
fn nothing_is_told_of_pods_before_all_are_listed() {
    let mut gathered = Gathered::default();
    gathered.list_begins(Kind::Pods);
    gathered.put(Kind::Pods, &pod("a", "1", "node-a", None));
    assert!(gathered.changes(true).is_empty());
    gathered.put(Kind::Pods, &pod("b", "1", "node-b", None));
    gathered.listed(Kind::Pods);
    let told = gathered.changes(true);
    let whole = told.iter().find_map(|event| match event {
        PlaneEvent::AllPods(pods) => Some(pods.len()),
        _ => None,
    });
    assert_eq!(whole, Some(2), "{told:?}");
}

#[test]
fn a_list_made_anew_takes_out_what_it_no_longer_has() {
    let mut gathered = Gathered::default();
    listed(
        &mut gathered,
        Kind::Pods,
        &[pod("a", "1", "node-a", None), pod("b", "2", "node-b", None)],
    );
    let range = |name: &str, cidr: &str| json!({"metadata": {"name": name}, "spec": {"cidr": cidr}});
    listed(
        &mut gathered,
        Kind::IpPools,
        &[range("x", "10.1.0.0/16"), range("y", "nonsense")],
    );
    let around = gathered.around();
    assert_eq!((around.pods.len(), around.delegates.ip_pools.len()), (2, 1));
    let odd = &around.unreadable[&Resource::IpPools];
    assert_eq!(
        (odd.count, odd.examples[0].as_str()),
        (1, "y: spec.cidr is \"nonsense\", which is no prefix")
    );

    // The pod came to another node under the same name while nobody looked.
    listed(&mut gathered, Kind::Pods, &[pod("a", "9", "node-b", None)]);
    listed(&mut gathered, Kind::IpPools, &[range("z", "10.2.0.0/16")]);
    let around = gathered.around();
    let nodes: Vec<&str> = around.pods.keys().map(String::as_str).collect();
    assert_eq!(nodes, ["node-b"]);
    assert_eq!(around.pods["node-b"].pods.len(), 1);
    assert_eq!(around.delegates.ip_pools[0].name, "z");
    assert!(!around.unreadable.contains_key(&Resource::IpPools));
}

#[test]
fn an_object_that_becomes_unreadable_no_longer_says_what_it_said() {
    let mut gathered = Gathered::default();
    let range = |cidr: &str| json!({"metadata": {"name": "x"}, "spec": {"cidr": cidr}});
    listed(&mut gathered, Kind::IpPools, &[range("10.1.0.0/16")]);
    assert_eq!(gathered.around().delegates.ip_pools.len(), 1);
    gathered.put(Kind::IpPools, &range("?"));
    let around = gathered.around();
    assert!(around.delegates.ip_pools.is_empty() && around.unreadable[&Resource::IpPools].count == 1);
    gathered.put(Kind::IpPools, &range("10.1.0.0/16"));
    let told = gathered.changes(true);
    let clear = |event: &PlaneEvent| matches!(event, PlaneEvent::Unreadable(Resource::IpPools, None));
    assert!(told.iter().any(clear), "{told:?}");
}

#[test]
fn of_two_watches_of_one_resource_the_worse_one_counts() {
    let mut gathered = Gathered::default();
    let events = |gathered: &mut Gathered| gathered.around().watches.get(&Resource::Events).cloned();
    gathered.fares(Kind::NodeEvents, Watched::Live(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(events(&mut gathered), None, "the other one has not been heard of");
    gathered.fares(Kind::SandboxEvents, Watched::Refused("no".to_owned()));
    assert_eq!(events(&mut gathered), Some(Watched::Refused("no".to_owned())));
    gathered.fares(Kind::SandboxEvents, Watched::Live(jiff::Timestamp::UNIX_EPOCH));
    assert!(matches!(events(&mut gathered), Some(Watched::Live(_))));
}

#[test]
fn the_same_word_of_many_daemons_is_one() {
    let proxy = |name: &str, node: &str, cidr: &str| {
        json!({"metadata": {"namespace": "kube-system", "name": name, "labels": {"k8s-app": "kube-proxy"}, "ownerReferences": [{"kind": "DaemonSet"}]},
            "spec": {"nodeName": node, "hostNetwork": true, "containers": [{"name": "kube-proxy", "command": ["kube-proxy", format!("--cluster-cidr={cidr}")]}]}})
    };
    let mut gathered = Gathered::default();
    let pods = [
        proxy("p-1", "a", "10.1.0.0/16"),
        proxy("p-2", "b", "10.1.0.0/16"),
        proxy("p-3", "c", "10.2.0.0/16"),
    ];
    listed(&mut gathered, Kind::Pods, &pods);
    let around = gathered.around();
    let words: Vec<&str> = around.ranges[&Resource::ProxyPods]
        .iter()
        .map(|word| word.what.as_str())
        .collect();
    assert_eq!(
        words,
        [
            "pod kube-system/p-1, --cluster-cidr (and 1 more)",
            "pod kube-system/p-3, --cluster-cidr"
        ]
    );
    assert_eq!(around.daemons.len(), 3);
    assert!(around.pods.is_empty(), "they are in their hosts' networks");
}
