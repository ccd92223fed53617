//! What tests ask of the API server: nodes, pods, and waiting for what is to come.
//!
//! Calls block; do not call them from async code. Whoever wants more takes
//! [`Api::client`] and [`Api::block_on`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Container, Event, Node, NodeSpec, Pod, PodSpec, Toleration};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::runtime::Runtime;

use crate::kubernetes::error::{Error, Result, api, io};
use crate::kubernetes::image::IMAGE;

/// Between two looks at the API server.
const LOOK: Duration = Duration::from_millis(200);

/// A client with a runtime of its own.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: ClientBox,
}

struct ClientBox(kube::Client);

impl std::fmt::Debug for ClientBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("kube::Client")
    }
}

impl Api {
    /// As the kubeconfig says.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(io("start a runtime"))?;
        let config = Kubeconfig::read_from(kubeconfig).map_err(Box::new)?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = kube::Config::from_custom_kubeconfig(config, &options)
                .await
                .map_err(Box::new)?;
            kube::Client::try_from(config).map_err(api("make a client"))
        })?;
        Ok(Self {
            runtime,
            client: ClientBox(client),
        })
    }

    /// kube's client. Its work is done by this bench's runtime: use it under [`Api::block_on`].
    pub fn client(&self) -> kube::Client {
        self.client.0.clone()
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Looks until `look` finds something, or `patience` is over.
    pub fn wait<T>(&self, what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        let mut last;
        loop {
            match look() {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => last = "not there".to_owned(),
                // Who has ended does not come any more.
                Err(error @ Error::Ended { .. }) => return Err(error),
                Err(error) => last = error.to_string(),
            }
            if start.elapsed() >= patience {
                return Err(Error::TimedOut {
                    what: what.to_owned(),
                    patience,
                    last,
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// A GET of a raw path, as text: `/readyz`, `/api/v1/nodes/n1/proxy/configz`.
    pub fn raw(&self, path: &str) -> Result<String> {
        let what = format!("GET {path}");
        let request = http_get(path)?;
        self.block_on(self.client().request_text(request)).map_err(api(what))
    }

    fn nodes(&self) -> kube::Api<Node> {
        kube::Api::all(self.client())
    }

    fn pods(&self, namespace: &str) -> kube::Api<Pod> {
        kube::Api::namespaced(self.client(), namespace)
    }

    /// A Node.
    pub fn node(&self, name: &str) -> Result<Option<Node>> {
        self.block_on(self.nodes().get_opt(name))
            .map_err(api(format!("get node {name}")))
    }

    /// All Nodes.
    pub fn all_nodes(&self) -> Result<Vec<Node>> {
        let list = self.block_on(self.nodes().list(&ListParams::default()));
        Ok(list.map_err(api("list nodes"))?.items)
    }

    /// Creates a Node.
    pub fn create_node(&self, node: &Node) -> Result<Node> {
        self.block_on(self.nodes().create(&PostParams::default(), node))
            .map_err(api(format!("create node {:?}", node.metadata.name)))
    }

    /// Creates a Node without a machine, with these pod CIDRs or none: it
    /// takes part in allocation as any other.
    pub fn create_fake_node(&self, name: &str, cidrs: &[IpNet]) -> Result<Node> {
        self.create_node(&fake_node(name, cidrs))
    }

    /// Deletes a Node. Its machine goes on.
    pub fn delete_node(&self, name: &str) -> Result<()> {
        let deleted = self.block_on(self.nodes().delete(name, &DeleteParams::default()));
        deleted.map(drop).map_err(api(format!("delete node {name}")))
    }

    /// A Node's pod CIDRs once it has some.
    pub fn wait_cidrs(&self, name: &str, patience: Duration) -> Result<Vec<IpNet>> {
        self.wait(&format!("node {name} has a pod CIDR"), patience, || {
            let cidrs = self.node(name)?.map(|node| pod_cidrs(&node)).unwrap_or_default();
            Ok(Some(cidrs).filter(|cidrs| !cidrs.is_empty()))
        })
    }

    /// Waits until a Node is Ready, or with `false` until it is not.
    pub fn wait_ready(&self, name: &str, wanted: bool, patience: Duration) -> Result<()> {
        let state = if wanted { "Ready" } else { "not Ready" };
        self.wait(&format!("node {name} is {state}"), patience, || {
            let ready = self.node(name)?.is_some_and(|node| is_ready(&node));
            Ok((ready == wanted).then_some(()))
        })
    }

    /// Creates a pod of the bench's image in namespace default, on `node` or
    /// where the scheduler puts it.
    pub fn create_pod(&self, name: &str, node: Option<&str>) -> Result<Pod> {
        self.create(&pod(name, node))
    }

    /// Creates a pod in namespace default, once its ServiceAccount is there.
    pub fn create(&self, pod: &Pod) -> Result<Pod> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        // A young cluster has no ServiceAccount yet: the admission says 403 for a moment.
        self.wait(&format!("pod {name} is accepted"), Duration::from_secs(15), || {
            let created = self.block_on(self.pods("default").create(&PostParams::default(), pod));
            created.map(Some).map_err(api(format!("create pod {name}")))
        })
    }

    /// A pod of namespace default.
    pub fn pod(&self, name: &str) -> Result<Option<Pod>> {
        self.block_on(self.pods("default").get_opt(name))
            .map_err(api(format!("get pod {name}")))
    }

    /// Waits until a pod of namespace default is Running; returns its addresses.
    pub fn wait_running(&self, name: &str, patience: Duration) -> Result<Vec<IpAddr>> {
        self.wait(&format!("pod {name} is Running"), patience, || {
            let status = self.pod(name)?.and_then(|pod| pod.status).unwrap_or_default();
            let addresses = status
                .pod_ips
                .iter()
                .flatten()
                .filter_map(|ip| ip.ip.parse().ok())
                .collect();
            let running = status.phase.as_deref() == Some("Running");
            Ok(Some(addresses).filter(|addresses: &Vec<IpAddr>| running && !addresses.is_empty()))
        })
    }

    /// Deletes a pod of namespace default at once, and waits until it is gone.
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        let parameters = DeleteParams::default().grace_period(1);
        let deleted = self.block_on(self.pods("default").delete(name, &parameters));
        deleted.map_err(api(format!("delete pod {name}")))?;
        self.wait(&format!("pod {name} is gone"), Duration::from_secs(60), || {
            Ok(self.pod(name)?.is_none().then_some(()))
        })
    }

    /// The Events about an object, newest last.
    pub fn events(&self, kind: &str, name: &str) -> Result<Vec<Event>> {
        let events: kube::Api<Event> = kube::Api::all(self.client());
        let fields = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let list = self.block_on(events.list(&ListParams::default().fields(&fields)));
        Ok(list.map_err(api(format!("list events of {name}")))?.items)
    }

    /// Waits for an Event with this reason; returns it.
    pub fn wait_event(&self, kind: &str, name: &str, reason: &str, patience: Duration) -> Result<Event> {
        self.wait(&format!("event {reason} on {kind} {name}"), patience, || {
            let events = self.events(kind, name)?;
            Ok(events.into_iter().find(|event| event.reason.as_deref() == Some(reason)))
        })
    }
}

/// A GET request without a body.
fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    let request = http::Request::get(path).body(Vec::new());
    request.map_err(|error| Error::Malformed(format!("{path}: {error}")))
}

/// A Node's pod CIDRs, those that can be read.
pub fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether its kubelet says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A Node object that nobody stands behind.
pub fn fake_node(name: &str, cidrs: &[IpNet]) -> Node {
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
    Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: cidrs.first().map(ToString::to_string),
            pod_cidrs: (!cidrs.is_empty()).then(|| cidrs.iter().map(ToString::to_string).collect()),
            ..NodeSpec::default()
        }),
        ..Node::default()
    }
}

/// A pod of the bench's image that puts up with every taint and mounts nothing.
pub fn pod(name: &str, node: Option<&str>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: node.map(str::to_owned),
            containers: vec![Container {
                name: "pause".to_owned(),
                image: Some(IMAGE.to_owned()),
                image_pull_policy: Some("Never".to_owned()),
                ..Container::default()
            }],
            automount_service_account_token: Some(false),
            termination_grace_period_seconds: Some(1),
            tolerations: Some(vec![Toleration {
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }]),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}
