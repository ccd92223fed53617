//! An API server out of a map, with kubelets that take over at once what is theirs: for what no real one does on demand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::service_fn;

use crate::fix::fixture::World;
use crate::fix::ground::Owner;

/// Where somebody asks what he may do.
pub(super) const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// Where the range is kept that the CNI configuration of a node is for; null: there is no such file.
pub(super) const WRITTEN: &str = "/written";

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// "PATCH /api/v1/nodes/n2".
    pub(super) line: String,
    pub(super) query: String,
    pub(super) body: Value,
}

impl Asked {
    /// Whether it is only a trial.
    pub(super) fn dry(&self) -> bool {
        self.query.contains("dryRun=All")
    }
}

/// What somebody does before a question is answered; an answer of his own stands for the server's.
pub(super) type Deed = Box<dyn FnMut(&mut Store, &Asked) -> Option<(u16, Value)> + Send>;

type Last = Box<dyn FnMut(&Asked) -> bool + Send>;

/// Everything that is there, by the path of its object.
#[derive(Default)]
pub(super) struct Store {
    pub(super) all: BTreeMap<String, Value>,
    version: u64,
}

/// One server.
#[derive(Clone, Default)]
pub(super) struct Stage {
    inner: Arc<Mutex<Inner>>,
    fallen: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    store: Store,
    asked: Vec<String>,
    deeds: Vec<Deed>,
    /// Which question is the last one that is heard.
    last: Option<Last>,
    silent: bool,
}

/// A refusal in the API server's words.
pub(super) fn refused(code: u16, message: &str) -> Option<(u16, Value)> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code});
    Some((code, status))
}

impl Store {
    /// Puts one there, as somebody else does.
    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        // What is empty is not kept.
        for (part, key) in [("metadata", "labels"), ("metadata", "annotations"), ("spec", "taints")] {
            if object[part][key] == json!({}) || object[part][key] == json!([]) {
                object[part].as_object_mut().unwrap().remove(key);
            }
        }
        self.all.insert(path.to_owned(), object.clone());
        object
    }

    /// Puts a pod there that runs.
    pub(super) fn pod(&mut self, namespace: &str, name: &str, node: &str, owner: &Owner, host: bool) {
        let owners =
            json!([{"apiVersion": "apps/v1", "kind": owner.kind, "name": owner.name, "uid": "u", "controller": true}]);
        let object = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": owner.name}, "ownerReferences": owners},
            "spec": {"nodeName": node, "hostNetwork": host, "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), object);
    }

    /// Somebody writes the CNI configuration of a node for this range, and its agent sees that.
    pub(super) fn write(&mut self, node: &str, range: &str) {
        self.all.insert(format!("{WRITTEN}/{node}"), json!(range));
    }

    /// The Node of that name.
    pub(super) fn node(&mut self, name: &str) -> &mut Value {
        self.all.get_mut(&format!("/api/v1/nodes/{name}")).unwrap()
    }

    pub(super) fn list(&self, path: &str, query: &str) -> Vec<Value> {
        let (group, kind) = path.rsplit_once('/').unwrap();
        let of = |one: &str| {
            let (place, _) = one.rsplit_once('/').unwrap();
            place == path
                || (place.starts_with(&format!("{group}/namespaces/")) && place.ends_with(&format!("/{kind}")))
        };
        let node = query
            .split_once("spec.nodeName%3D")
            .map(|(_, rest)| rest.split('&').next().unwrap());
        let all = self.all.iter().filter(|(one, _)| of(one));
        let on = |object: &Value| node.is_none_or(|node| object["spec"]["nodeName"] == node);
        all.map(|(_, object)| object.clone())
            .filter(|object| on(object))
            .collect()
    }

    fn answer(&mut self, asked: &Asked) -> Option<(u16, Value)> {
        let (method, path) = asked.line.split_once(' ').unwrap();
        let none = || refused(404, &format!("{path} is not there"));
        let collection = ["nodes", "pods", "leases", "csinodes", "poddisruptionbudgets", "events"];
        let collection = collection.contains(&path.rsplit('/').next().unwrap());
        let there = self.all.get(path).cloned();
        match (method, there) {
            ("GET", _) if collection => Some((200, json!({"metadata": {}, "items": self.list(path, &asked.query)}))),
            ("GET", there) => there.map(|object| (200, object)).or_else(none),
            ("POST", _) if path.ends_with("/eviction") => {
                self.all.remove(path.trim_end_matches("/eviction"));
                Some((201, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})))
            }
            ("POST", _) if path == REVIEWS => {
                let mut review = asked.body.clone();
                review["status"] = json!({"allowed": true});
                Some((201, review))
            }
            ("POST", _) => {
                let path = format!("{path}/{}", asked.body["metadata"]["name"].as_str().unwrap());
                if self.all.contains_key(&path) {
                    return refused(409, "there is one already");
                }
                let mut object = self.taken_over(asked.body.clone());
                if asked.dry() {
                    return Some((201, object));
                }
                if let Some(failed) = self.errand(&object) {
                    object["status"] = failed;
                }
                Some((201, self.put(&path, object)))
            }
            (_, None) => none(),
            ("PUT", Some(there)) => {
                if asked.body["metadata"]["resourceVersion"] != there["metadata"]["resourceVersion"] {
                    return refused(409, "it was changed meanwhile");
                }
                Some((200, self.put(path, asked.body.clone())))
            }
            ("PATCH", Some(mut there)) => {
                let uid = &asked.body["metadata"]["uid"];
                if !uid.is_null() && *uid != there["metadata"]["uid"] {
                    return refused(409, "it is another one");
                }
                merge(&mut there, &asked.body);
                Some((200, self.put(path, there)))
            }
            ("DELETE", Some(there)) => {
                let only = &asked.body["preconditions"];
                let other = |key: &str| !only[key].is_null() && only[key] != there["metadata"][key];
                if other("uid") || other("resourceVersion") {
                    return refused(409, "it is another one");
                }
                self.all.remove(path);
                Some((200, there))
            }
            other => panic!("{other:?}"),
        }
    }

    /// What an errand does to the CNI configuration of its node; the status of one that failed.
    fn errand(&mut self, pod: &Value) -> Option<Value> {
        let arguments = pod["spec"]["containers"][0]["args"].as_array()?;
        let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
        let file = format!("{WRITTEN}/{}", pod["spec"]["nodeName"].as_str()?);
        let there = self.all.get(&file).and_then(Value::as_str).map(str::to_owned);
        let says = |flag: &str| arguments.iter().find_map(|argument| argument.strip_prefix(flag));
        match *arguments.first()? {
            "remove-file" if says("--containing=").is_none_or(|range| there.as_deref() == Some(range)) => {
                self.all.insert(file, Value::Null);
            }
            "render" => match (there, says("--pod-cidr=")?) {
                (None, range) => {
                    self.all.insert(file, json!(range));
                }
                (Some(there), range) if there != range => {
                    let text = format!("x is there and names {there}, not {range}: it is never rendered over");
                    return Some(failed(&text));
                }
                _ => {}
            },
            _ => {}
        }
        None
    }

    /// A Node becomes Ready, a pod of a node runs or has run.
    fn taken_over(&self, mut object: Value) -> Value {
        let node = object["spec"]["nodeName"].as_str().map(str::to_owned);
        if let Some(node) = node {
            let own = self.all.get(&format!("/api/v1/nodes/{node}"));
            let cidr = own.and_then(|node| node["spec"]["podCIDR"].as_str());
            let address = cidr.map(|cidr| cidr.replace(".0/24", ".7"));
            object["status"] = if object["spec"]["containers"][0]["args"] == json!(["hold"]) {
                json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})
            } else {
                json!({"phase": "Succeeded"})
            };
        } else if object["kind"] == "Node" {
            object["status"] = ready();
        }
        object
    }
}

/// Of a pod whose program said this as it ended.
fn failed(text: &str) -> Value {
    let ended = json!({"terminated": {"exitCode": 1, "message": text}});
    let container =
        json!({"name": "errand", "state": ended, "image": "", "imageID": "", "ready": false, "restartCount": 0});
    json!({"phase": "Failed", "containerStatuses": [container]})
}

/// Of a Node that takes pods.
pub(super) fn ready() -> Value {
    json!({"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "110"}})
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

impl Stage {
    /// One with the Nodes of a world, their pods of flannel, and the agents' DaemonSet.
    pub(super) fn of(world: &World) -> Self {
        let stage = Self::default();
        stage.with(|store| {
            for (name, node) in &world.ground.nodes {
                let cidrs: Vec<String> = node.cidrs.iter().map(ToString::to_string).collect();
                let object = json!({"metadata": {"name": name, "uid": node.uid},
                    "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}, "status": ready()});
                store.put(&format!("/api/v1/nodes/{name}"), object);
                let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
                let config = facts.and_then(|facts| facts.cni.chosen.as_ref());
                if let Some(range) = config.and_then(|config| config.subnets.first()) {
                    store.write(name, &range.to_string());
                }
            }
            for pod in world.ground.pods.iter() {
                let (namespace, name) = pod.key.split_once('/').unwrap();
                let node = pod.node.as_deref().unwrap();
                store.pod(namespace, name, node, pod.owner.as_ref().unwrap(), pod.host_network);
            }
            let agents = json!({"metadata": {"name": "cidrift-agent"}, "spec": {"selector": {}, "template": {"spec": {
                "containers": [{"name": "agent", "image": "cidrift:1"}]}}}});
            store.put("/apis/apps/v1/namespaces/cidrift/daemonsets/cidrift-agent", agents);
        });
        stage
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Looks at what is there, or changes it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut self.lock().store)
    }

    /// From now on somebody does this before each answer.
    pub(super) fn meanwhile(&self, deed: impl FnMut(&mut Store, &Asked) -> Option<(u16, Value)> + Send + 'static) {
        self.lock().deeds.push(Box::new(deed));
    }

    /// Lines of what was asked that begin with this.
    pub(super) fn asked(&self, start: &str) -> usize {
        self.lock().asked.iter().filter(|line| line.starts_with(start)).count()
    }

    /// Somebody's connection to it.
    pub(super) fn client(&self) -> Client {
        let stage = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let stage = stage.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let asked = Asked {
                    line: format!("{} {}", head.method, head.uri.path()),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                if stage.lock().silent {
                    std::future::pending::<()>().await;
                }
                let (code, text) = stage.answer(&asked);
                if stage.falls(&asked) {
                    stage.fallen.notify_one();
                    std::future::pending::<()>().await;
                }
                let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
                Ok::<_, Infallible>(answer.body(Body::from(serde_json::to_vec(&text).unwrap())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// Does what is asked for up to the question for which this is true, and answers neither that nor any other.
    pub(super) fn falls_at(&self, last: impl FnMut(&Asked) -> bool + Send + 'static) {
        self.lock().last = Some(Box::new(last));
    }

    /// Over once it answers no more.
    pub(super) async fn fallen(&self) {
        self.fallen.notified().await;
    }

    /// Another one, with all that is there.
    pub(super) fn again(&self) -> Self {
        let again = Self::default();
        {
            let (mut new, old) = (again.lock(), self.lock());
            (new.store.all, new.store.version) = (old.store.all.clone(), old.store.version);
        }
        again
    }

    fn falls(&self, asked: &Asked) -> bool {
        let mut inner = self.lock();
        inner.silent = inner.last.as_mut().is_some_and(|last| last(asked));
        inner.silent
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let mut inner = self.lock();
        inner.asked.push(asked.line.clone());
        let mut deeds = std::mem::take(&mut inner.deeds);
        let theirs = deeds.iter_mut().find_map(|deed| deed(&mut inner.store, asked));
        inner.deeds = deeds;
        let answer = theirs.or_else(|| inner.store.answer(asked));
        answer.unwrap()
    }
}
