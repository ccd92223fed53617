//! The watches against an API server of our own making, which says what each test wants it to say.

mod coming;
mod lists;
mod objects;
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
