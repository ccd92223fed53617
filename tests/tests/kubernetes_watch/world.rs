//! The cluster that is watched, the watches, and doing things to the one for the other to see.

use std::collections::BTreeMap;
use std::time::Duration;

use cidrift_aggregator::cluster::PlaneEvent;
use cidrift_aggregator::cluster::objects::{Resource, Watched};
use cidrift_aggregator::control_plane::{Kubernetes, Source as _};
use cidrift_lab::kubernetes::{Cluster, Scenario};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What may not be read is tried again every 60 s; that and half as much again.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts it.
pub(crate) fn start(scenario: Scenario) -> Cluster {
    Cluster::start(scenario, &|text| eprintln!("{text}")).unwrap_or_else(|error| panic!("{error}"))
}

/// A control plane without nodes: enough for all that is watched.
pub(crate) fn without_nodes() -> Scenario {
    Scenario {
        nodes: 0,
        ..Scenario::default()
    }
}

/// Does something to an API object and gives the answer.
pub(crate) fn ask(cluster: &Cluster, method: &str, path: &str, body: &Value) -> Value {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body.to_string().into_bytes())
        .unwrap();
    let client = cluster.api().client();
    let answer = cluster.api().block_on(client.request::<Value>(request));
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Makes a kind of object, with a schema that keeps whatever it is given, and waits until it is served.
pub(crate) fn install(cluster: &Cluster, group: &str, plural: &str, kind: &str) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let names =
        json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")});
    let mut metadata = json!({"name": format!("{plural}.{group}")});
    if group.ends_with(".k8s.io") || group.ends_with(".x-k8s.io") {
        // Groups of Kubernetes' own must say that somebody agreed to them.
        metadata["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, for a test"});
    }
    ask(
        cluster,
        "POST",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata,
            "spec": {"group": group, "scope": "Cluster", "names": names,
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}}),
    );
    let served = || Ok(cluster.api().raw(&format!("/apis/{group}/v1/{plural}")).ok());
    let what = format!("{plural} are served");
    cluster.api().wait(&what, Duration::from_secs(20), served).unwrap();
}

/// Makes an IPPool of Calico's.
pub(crate) fn pool(cluster: &Cluster, name: &str, spec: Value) {
    let body =
        json!({"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec});
    ask(cluster, "POST", "/apis/crd.projectcalico.org/v1/ippools", &body);
}

/// The watches, running.
pub(crate) struct Watching {
    events: mpsc::UnboundedReceiver<PlaneEvent>,
    shutdown: CancellationToken,
    runtime: tokio::runtime::Runtime,
    /// How each fared last.
    pub(crate) fares: BTreeMap<Resource, Watched>,
}

impl Watching {
    /// Starts them.
    pub(crate) fn start(kubeconfig: std::path::PathBuf) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let source = Kubernetes {
            kubeconfig: Some(kubeconfig),
        };
        let push = Box::new(move |event| _ = sender.send(event));
        runtime.spawn(source.run(push, shutdown.clone()));
        Self {
            events,
            shutdown,
            runtime,
            fares: BTreeMap::new(),
        }
    }

    /// Reads events until one is found of which `wanted` makes something.
    pub(crate) fn next<T>(&mut self, what: &str, mut wanted: impl FnMut(&PlaneEvent) -> Option<T>) -> T {
        let (events, fares) = (&mut self.events, &mut self.fares);
        let looking = async {
            loop {
                let event = events.recv().await.unwrap();
                if let PlaneEvent::Watch(resource, watched) = &event {
                    fares.insert(*resource, watched.clone());
                }
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        let found = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, looking).await });
        found.unwrap_or_else(|_| panic!("{what}: never told; how watches fare: {:?}", self.fares))
    }

    /// Waits until this resource fares so.
    pub(crate) fn fares(&mut self, what: &str, resource: Resource, wanted: impl Fn(&Watched) -> bool) -> Watched {
        self.next(what, |event| match event {
            PlaneEvent::Watch(about, watched) if *about == resource && wanted(watched) => Some(watched.clone()),
            _ => None,
        })
    }

    /// Waits until it is said to be live.
    pub(crate) fn live(&mut self, resource: Resource) {
        self.fares("live", resource, |watched| matches!(watched, Watched::Live(_)));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
