//! The watches against an API server of our own making, which says what each test wants it to say.

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::cluster::around::NodePods;
use crate::cluster::objects::Resource;
use server::{Asked, Reply, Server, list, refused, status};

/// Where a test waits, it waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";

struct Running {
    events: mpsc::UnboundedReceiver<PlaneEvent>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), SourceError>>,
    _directory: tempfile::TempDir,
}

fn start(server: &Server) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    std::fs::write(&path, server.kubeconfig()).unwrap();
    let (sender, events) = mpsc::unbounded_channel();
    let push: Push = Box::new(move |event| _ = sender.send(event));
    let shutdown = CancellationToken::new();
    let source = Kubernetes { kubeconfig: Some(path) };
    let task = tokio::spawn(source.run(push, shutdown.clone()));
    Running {
        events,
        shutdown,
        task,
        _directory: directory,
    }
}

impl Running {
    /// The next event of which `wanted` makes something.
    async fn next<T>(&mut self, what: &str, mut wanted: impl FnMut(PlaneEvent) -> Option<T>) -> T {
        let looking = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .unwrap_or_else(|_| panic!("{what}: never told"))
    }

    async fn fares(&mut self, resource: Resource, wanted: impl Fn(&Watched) -> bool) -> Watched {
        let of = |event| match event {
            PlaneEvent::Watch(about, watched) if about == resource && wanted(&watched) => Some(watched),
            _ => None,
        };
        self.next(&resource.to_string(), of).await
    }

    async fn live(&mut self, resource: Resource) {
        self.fares(resource, |watched| matches!(watched, Watched::Live(_)))
            .await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn node(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(), "labels": {"rack": "r1"}},
        "spec": {"podCIDRs": ["10.244.1.0/24"]}})
}

fn pod(name: &str, version: u32) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": version.to_string()},
        "spec": {"nodeName": "node-a"}, "status": {"phase": "Running", "podIP": "10.244.1.7"}})
}

fn pods_of(event: &PlaneEvent) -> Option<Vec<String>> {
    let names = |pods: &NodePods| pods.pods.iter().map(|pod| pod.name.to_string()).collect();
    match event {
        PlaneEvent::AllPods(all) => Some(all.get("node-a").map(|pods| names(pods)).unwrap_or_default()),
        PlaneEvent::Pods(changed) => {
            let of_a = changed.iter().find(|(node, _)| node == "node-a")?;
            Some(of_a.1.as_ref().map(|pods| names(pods)).unwrap_or_default())
        }
        _ => None,
    }
}

/// All lists empty, all watches quiet, no extension.
fn quiet(asked: &Asked) -> Reply {
    match (asked.path.as_str(), asked.watch) {
        ("/apis", _) => Reply::Json(200, json!({"kind": "APIGroupList", "groups": []})),
        (_, true) => Reply::Watch(Vec::new()),
        (path, false) if path.contains("/proxy/") => refused("nodes \"x\" is forbidden"),
        (_, false) => list("7", &[]),
    }
}

#[tokio::test]
async fn nodes_are_told_only_once_all_pages_are_listed_and_then_one_by_one() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch) {
        (NODES, false) => match asked.query.get("continue").map(String::as_str) {
            None => server::page("5", "more", &[node("a", 1)]),
            Some("more") => list("5", &[node("b", 2)]),
            Some(other) => panic!("{other}"),
        },
        (NODES, true) => Reply::Watch(vec![
            json!({"type": "MODIFIED", "object": node("b", 6)}),
            json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}}),
            json!({"type": "DELETED", "object": node("a", 8)}),
        ]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut told = Vec::new();
    let of = |event: PlaneEvent| {
        match event {
            PlaneEvent::Source(source) => told.push(source),
            PlaneEvent::Nodes(nodes, _) => {
                told.push(format!("all: {}", nodes.into_keys().collect::<Vec<_>>().join(" ")))
            }
            PlaneEvent::Node(node) => told.push(node.name),
            PlaneEvent::NodeGone(name) => {
                told.push(format!("{name} gone"));
                return Some(());
            }
            _ => {}
        }
        None
    };
    running.next("nodes", of).await;
    assert_eq!(told[1..], ["all: a b", "b", "a gone"]);
    assert!(told[0].starts_with("Kubernetes API http://127.0.0.1"), "{told:?}");
    let asked = server.asked(NODES, true);
    assert_eq!(asked[0].query["resourceVersion"], "5");
    assert_eq!(asked[0].query["allowWatchBookmarks"], "true");
    running.stop().await;
}

#[tokio::test]
async fn a_broken_watch_of_nodes_is_over_only_when_all_are_listed_again() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, 0) => list("5", &[node("a", 1)]),
        (NODES, true, 0) => status(500, "InternalError", "etcdserver: leader changed"),
        (NODES, false, 1) => status(500, "InternalError", "apiserver not ready"),
        (NODES, false, _) => list("9", &[node("a", 9)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut told = Vec::new();
    let of = |event| {
        match event {
            PlaneEvent::Nodes(..) => told.push("all".to_owned()),
            PlaneEvent::StillSo => told.push("still so".to_owned()),
            PlaneEvent::Watch(Resource::Nodes, Watched::Broken(why)) => told.push(why),
            _ => {}
        }
        (told.len() >= 5).then_some(())
    };
    running.next("nodes", of).await;
    assert!(
        told[1].contains("leader changed") && told[2].contains("apiserver not ready"),
        "{told:?}"
    );
    assert_eq!(
        (told[0].as_str(), told[3].as_str(), told[4].as_str()),
        ("all", "all", "still so")
    );
    running.stop().await;
}

#[tokio::test]
async fn what_is_gone_by_the_api_servers_word_is_listed_anew() {
    // Once within the stream, as kube-apiserver says it, and once as an answer, as a proxy may.
    for direct in [false, true] {
        let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
            (PODS, false, 0) => list("5", &[pod("old", 1), pod("stays", 1)]),
            (PODS, true, 0) if direct => status(410, "Expired", "too old resource version: 5 (100)"),
            (PODS, true, 0) => Reply::End(vec![json!({"type": "ERROR", "object":
                {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 5 (100)"}})]),
            (PODS, false, _) => list("100", &[pod("new", 99), pod("stays", 1)]),
            _ => quiet(asked),
        })
        .await;
        let mut running = start(&server);
        let first = running.next("pods", |event| pods_of(&event)).await;
        assert_eq!(first, ["shop/old", "shop/stays"]);
        let second = running.next("pods", |event| pods_of(&event)).await;
        assert_eq!(second, ["shop/new", "shop/stays"]);
        running.live(Resource::Pods).await;
        assert_eq!(server.asked(PODS, true).last().unwrap().query["resourceVersion"], "100");
        running.stop().await;
    }
}

#[tokio::test]
async fn an_expired_page_starts_the_list_again() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (PODS, false, 0) => server::page("5", "more", &[pod("a", 1)]),
        (PODS, false, 1) => status(410, "Expired", "The provided continue parameter is too old"),
        (PODS, false, _) => list("9", &[pod("b", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    assert_eq!(
        running.next("pods", |event| pods_of(&event)).await,
        ["shop/b"],
        "half a list is never told"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_may_not_be_read_is_said_in_the_api_servers_words() {
    let words = "pods is forbidden: User \"system:serviceaccount:x:y\" cannot list resource \"pods\"";
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch) {
        (PODS, false) => refused(words),
        (NODES, false) => list("5", &[node("a", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut waiting: std::collections::BTreeMap<Resource, Watched> = Default::default();
    let of = |event| {
        match event {
            PlaneEvent::Watch(_, Watched::Unlisted(_)) => {}
            PlaneEvent::Watch(resource, watched) => _ = waiting.insert(resource, watched),
            _ => {}
        }
        let wanted = [Resource::Pods, Resource::CniPods, Resource::Events];
        wanted
            .iter()
            .all(|resource| waiting.contains_key(resource))
            .then(|| waiting.clone())
    };
    let fares = running.next("refusals", of).await;
    assert_eq!(fares[&Resource::Pods], Watched::Refused(words.to_owned()));
    assert_eq!(fares[&Resource::CniPods], fares[&Resource::Pods]);
    assert!(matches!(fares[&Resource::Events], Watched::Live(_)));
    running.stop().await;
}

#[tokio::test]
async fn kinds_are_unlisted_before_nodes_are_told_and_until_their_first_list_is_through() {
    // The second page of Pods fails once: then all of them are listed anew.
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, _) => list("5", &[node("a", 1)]),
        (PODS, false, 1) => status(500, "InternalError", "etcdserver: leader changed"),
        (PODS, false, nth) if nth != 3 => server::page("5", "more", &[pod("a", 1)]),
        (PODS, false, _) => list("5", &[pod("b", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut told, mut pods) = (Vec::new(), false);
    let of = |event| {
        match event {
            PlaneEvent::Nodes(..) => told.push("nodes".to_owned()),
            PlaneEvent::AllPods(_) => pods = true,
            PlaneEvent::Watch(Resource::ManagerPods, Watched::Live(_)) => return Some(()),
            PlaneEvent::Watch(Resource::ManagerPods, watched) => {
                assert!(!pods, "{watched:?}");
                told.push(format!("{watched:?}"));
            }
            _ => {}
        }
        None
    };
    running.next("pods", of).await;
    assert_eq!(told[0], "Unlisted(None)", "{told:?}");
    assert!(pods && told.iter().any(|line| line == "nodes"), "{told:?}");
    let failed = |line: &String| line.starts_with("Unlisted(Some(") && line.contains("leader changed");
    assert!(told.iter().any(failed), "{told:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_neither_a_list_nor_a_watch() {
    let torn = json!({"metadata": {"namespace": "shop", "name": "torn", "resourceVersion": "8"}, "spec": "what?"});
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch) {
        (PODS, false) => list("5", &[pod("a", 1), torn.clone()]),
        (PODS, true) if asked.nth == 0 => Reply::Watch(vec![
            json!({"type": "MODIFIED", "object": torn}),
            json!({"type": "ADDED", "object": pod("b", 9)}),
        ]),
        (NODES, false) => list(
            "5",
            &[
                node("a", 1),
                json!({"metadata": {"name": "b"}, "spec": {"podCIDRs": 7}}),
            ],
        ),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut pods, mut said) = (Vec::new(), std::collections::BTreeMap::new());
    let of = |event: PlaneEvent| {
        if let Some(names) = pods_of(&event) {
            pods = names;
        }
        if let PlaneEvent::Unreadable(resource, Some(unreadable)) = event {
            said.insert(resource, unreadable);
        }
        (pods.len() == 2 && said.len() == 2).then(|| (pods.clone(), said.clone()))
    };
    let (pods, said) = running.next("pods and what cannot be read", of).await;
    assert_eq!(pods, ["shop/a", "shop/b"]);
    assert!(said[&Resource::Pods].examples[0].starts_with("shop/torn: "), "{said:?}");
    assert_eq!((said[&Resource::Nodes].count, said[&Resource::Pods].count), (1, 1));
    running.stop().await;
}

/// The group of a kind, with its resources.
fn discovery(asked: &Asked, group: &str, version: &str, plural: &str) -> Option<Reply> {
    let both = format!("{group}/{version}");
    let version = json!({"groupVersion": both, "version": version});
    if asked.path == "/apis" {
        let group = json!({"name": group, "versions": [version], "preferredVersion": version});
        return Some(Reply::Json(200, json!({"kind": "APIGroupList", "groups": [group]})));
    }
    (asked.path == format!("/apis/{both}")).then(|| {
        let resource =
            json!({"name": plural, "singularName": "", "namespaced": false, "kind": "X", "verbs": ["list", "watch"]});
        Reply::Json(
            200,
            json!({"kind": "APIResourceList", "groupVersion": both, "resources": [resource]}),
        )
    })
}

#[tokio::test]
async fn a_kind_that_comes_later_is_found_and_one_that_goes_is_absent() {
    let there = Arc::new(AtomicBool::new(false));
    let installed = Arc::clone(&there);
    let server = Server::start(move |asked| {
        let there = installed.load(Ordering::Relaxed);
        match (asked.path.as_str(), asked.watch) {
            // A CustomResourceDefinition is written whenever it comes or goes.
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", true) => Reply::Later(
                Duration::from_millis(1500),
                vec![json!({"type": "MODIFIED", "object": {"metadata": {"name": "x", "resourceVersion": (10 + asked.nth).to_string()}}})],
            ),
            ("/apis/crd.projectcalico.org/v1/ippools", false) if there => {
                list("3", &[json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.1.0.0/16"}})])
            }
            ("/apis/crd.projectcalico.org/v1/ippools", true) if there => Reply::End(Vec::new()),
            ("/apis/crd.projectcalico.org/v1/ippools", _) => status(404, "NotFound", "the server could not find the requested resource"),
            _ if there => discovery(asked, "crd.projectcalico.org", "v1", "ippools").unwrap_or_else(|| quiet(asked)),
            _ => quiet(asked),
        }
    })
    .await;
    let mut running = start(&server);
    running
        .fares(Resource::IpPools, |watched| *watched == Watched::Absent)
        .await;
    there.store(true, Ordering::Relaxed);
    let pools = |event| match event {
        PlaneEvent::Delegates(delegates) => Some(delegates.ip_pools.len()),
        _ => None,
    };
    assert_eq!(running.next("pools", pools).await, 1);
    there.store(false, Ordering::Relaxed);
    assert_eq!(running.next("no pools", pools).await, 0);
    running
        .fares(Resource::IpPools, |watched| *watched == Watched::Absent)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_went_and_came_back_is_followed_from_where_it_was() {
    let answer = |asked: &Asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (PODS, false, _) => list("5", &[pod("a", 1)]),
        (PODS, true, 0) => Reply::Watch(vec![json!({"type": "BOOKMARK", "object":
            {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "42"}}})]),
        _ => quiet(asked),
    };
    let mut server = Server::start(answer).await;
    let mut running = start(&server);
    running.live(Resource::Pods).await;
    // The bookmark is behind the sign of life.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.stop().await;
    let broken = |watched: &Watched| matches!(watched, Watched::Broken(_));
    let Watched::Broken(why) = running.fares(Resource::Pods, broken).await else {
        panic!()
    };
    assert!(why.contains("refused"), "{why}");
    server.again().await;
    running.live(Resource::Pods).await;
    assert_eq!(
        server.asked(PODS, false).len(),
        1,
        "450,000 pods are not listed again for that"
    );
    assert_eq!(server.asked(PODS, true).last().unwrap().query["resourceVersion"], "42");
    running.stop().await;
}

/// A watch of each runs its time, and then the API server answers so when it is to be opened again.
async fn closed(again: fn() -> Reply) {
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, _) => list("5", &[node("a", 1)]),
        (NODES | PODS, true, 0) => Reply::Later(Duration::from_millis(1_200), Vec::new()),
        (NODES | PODS, true, _) => again(),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    running.live(Resource::Pods).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!server.asked(NODES, true).is_empty() && !server.asked(PODS, true).is_empty());
    while running.events.try_recv().is_ok() {}
    // By now it would have been said again, if it could have been.
    tokio::time::sleep(keep::STILL_SO).await;
    while let Ok(event) = running.events.try_recv() {
        let alive = matches!(
            event,
            PlaneEvent::StillSo | PlaneEvent::Watch(Resource::Pods, Watched::Live(_))
        );
        assert!(!alive, "{event:?}, though nothing is heard");
    }
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_still_so_while_a_watch_is_not_open_again_because_the_server_hangs() {
    closed(|| Reply::Hang).await;
}

#[tokio::test]
async fn nothing_is_still_so_while_a_watch_is_not_open_again_because_the_server_is_unavailable() {
    closed(|| {
        status(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    })
    .await;
}

#[tokio::test]
async fn a_node_that_cannot_be_read_is_named_with_the_list_until_it_is_gone() {
    let odd = |version: u32| json!({"metadata": {"name": "b", "resourceVersion": version.to_string()}, "spec": {"podCIDRs": 7}});
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, 0) => list("5", &[node("a", 1), node("b", 2)]),
        (NODES, false, 1) => list("8", &[node("a", 1), odd(7)]),
        (NODES, false, _) => list("9", &[node("a", 1)]),
        (NODES, true, 0 | 1) => status(410, "Expired", "too old resource version"),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut told, mut unreadable) = (Vec::new(), Vec::new());
    let of = |event| {
        match event {
            PlaneEvent::Nodes(nodes, unread) => told.push((nodes.into_keys().collect::<Vec<_>>(), unread)),
            PlaneEvent::Unreadable(Resource::Nodes, what) => unreadable.push(what.map_or(0, |what| what.count)),
            _ => {}
        }
        (told.len() == 3 && unreadable.last() == Some(&0)).then_some(())
    };
    running.next("lists", of).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(told[0], (names(&["a", "b"]), BTreeSet::new()));
    assert_eq!(told[1], (names(&["a"]), BTreeSet::from(["b".to_owned()])));
    assert_eq!(told[2], (names(&["a"]), BTreeSet::new()));
    running.stop().await;
}

#[tokio::test]
async fn labels_that_a_cluster_cidr_selects_by_are_kept_of_all_nodes() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch) {
        (NODES, false) => list("5", &[node("a", 1)]),
        ("/apis/networking.x-k8s.io/v1/clustercidrs", false) => list(
            "3",
            &[json!({"metadata": {"name": "r"}, "spec": {
            "perNodeHostBits": 8, "ipv4": "10.1.0.0/16",
            "nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}]}}})],
        ),
        _ => discovery(asked, "networking.x-k8s.io", "v1", "clustercidrs").unwrap_or_else(|| quiet(asked)),
    })
    .await;
    let mut running = start(&server);
    let of = |event| match event {
        PlaneEvent::Nodes(nodes, _) => nodes["a"].labels.contains_key("rack").then_some(()),
        _ => None,
    };
    running.next("the label", of).await;
    running.stop().await;
}

#[tokio::test]
async fn managers_are_asked_where_that_is_allowed_and_it_is_said_where_not() {
    let manager = |name: &str| {
        json!({"metadata": {"namespace": "kube-system", "name": name, "labels": {"component": "kube-controller-manager"}},
            "spec": {"nodeName": "a", "hostNetwork": true, "containers": [{"name": "kube-controller-manager", "command": ["kube-controller-manager"]}]}})
    };
    for allowed in [true, false] {
        let server = Server::start(move |asked| match asked.path.as_str() {
            NODES if !asked.watch => list("5", &[node("a", 1)]),
            PODS if !asked.watch => list("5", &[manager("kube-controller-manager-a")]),
            "/api/v1/namespaces/kube-system/pods/https:kube-controller-manager-a:10257/proxy/metrics" if allowed => {
                Reply::Text("node_ipam_controller_cidrset_usage_cidrs{clusterCIDR=\"10.244.0.0/16\"} 0.25\n".to_owned())
            }
            _ => quiet(asked),
        })
        .await;
        let mut running = start(&server);
        if allowed {
            let of = |event| match event {
                PlaneEvent::PoolMetrics(read) => read.first().map(|pool| pool.usage),
                _ => None,
            };
            assert_eq!(running.next("pools", of).await, Some(0.25));
            running.live(Resource::ManagerMetrics).await;
        } else {
            let refused = |watched: &Watched| matches!(watched, Watched::Refused(why) if why.contains("forbidden"));
            running.fares(Resource::ManagerMetrics, refused).await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let source = Kubernetes {
        kubeconfig: Some(PathBuf::from("/nonexistent/kubeconfig")),
    };
    let run = source.run(Box::new(|_| {}), CancellationToken::new());
    let error = run.await.unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/kubeconfig") && error.contains("--kubeconfig"),
        "{error}"
    );
}

#[test]
fn a_watch_event_is_taken_as_it_stands() {
    for line in [
        r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"7"}}}"#.to_owned(),
        format!("{{\"type\":\"MODIFIED\",\"object\":{}}}", node("a", 7)),
        r#"{"type":"BOOKMARK","object":{"kind":"Node","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}"#
            .to_owned(),
    ] {
        let event: Result<kube::api::WatchEvent<follow::Raw>, _> = serde_json::from_str(&line);
        assert!(event.is_ok(), "{line}: {event:?}");
    }
}
