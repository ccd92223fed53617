//! Lists and watches of a large cluster over HTTP, page by page, as kube-apiserver serves them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::objects;

/// Watch events that wait for a reader at most: the benchmark sends one at a time.
const EVENTS: usize = 1024;

/// What is served, and what was asked.
pub(in crate::bench) struct World {
    nodes: u32,
    /// Lines of the watch of Nodes.
    events: broadcast::Sender<String>,
    sent: AtomicU64,
    begun: Mutex<Option<Instant>>,
    listed: Mutex<Option<Instant>>,
}

impl World {
    pub(in crate::bench) fn new(nodes: u32) -> Self {
        Self {
            nodes,
            events: broadcast::channel(EVENTS).0,
            sent: AtomicU64::new(0),
            begun: Mutex::default(),
            listed: Mutex::default(),
        }
    }

    /// Sends an event to those who watch Nodes.
    pub(in crate::bench) fn node_event(&self, kind: &str, object: &str) {
        // Nobody watches: then the benchmark does not find what it waits for, and says so.
        let _ = self
            .events
            .send(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"));
    }

    /// Bytes of lists that were served.
    pub(in crate::bench) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// When the first page was asked for.
    pub(in crate::bench) fn begun(&self) -> Option<Instant> {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the last page of Pods was made.
    pub(in crate::bench) fn listed(&self) -> Option<Instant> {
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page: the objects from `from` on, and where the next begins.
    fn page(&self, total: u32, from: u32, limit: u32, object: impl Fn(u32) -> String) -> String {
        self.begun
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Instant::now);
        let end = from.saturating_add(limit).min(total);
        let items: Vec<String> = (from..end).map(object).collect();
        let token = if end < total { end.to_string() } else { String::new() };
        let page = format!(
            r#"{{"kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"1000000","continue":"{token}"}},"items":[{}]}}"#,
            items.join(",")
        );
        self.sent.fetch_add(page.len() as u64, Ordering::Relaxed);
        page
    }

    fn list(&self, path: &str, query: &BTreeMap<String, String>) -> Option<String> {
        let number = |key: &str, otherwise| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let (from, limit) = (number("continue", 0), number("limit", u32::MAX));
        let nodes = self.nodes;
        // The last Node's pods are left out: their addresses would not be in its CIDR.
        let pods = (nodes - 1) * objects::PODS_EACH;
        match path {
            "/api/v1/pods" if query.contains_key("fieldSelector") => {
                let selector = query.get("fieldSelector").map(String::as_str).unwrap_or_default();
                let node = (0..nodes).find(|node| selector.ends_with(&objects::name(*node)))?;
                Some(self.page(objects::PODS_EACH, from, limit, |pod| {
                    objects::pod(node * objects::PODS_EACH + pod)
                }))
            }
            "/apis/policy/v1/poddisruptionbudgets" | "/apis/storage.k8s.io/v1/csinodes" => {
                Some(self.page(0, 0, limit, |_| String::new()))
            }
            "/api/v1/nodes" => Some(self.page(nodes, from, limit, |node| objects::node(node, nodes, 1, true))),
            "/api/v1/pods" => {
                let page = self.page(pods + 1, from, limit, |pod| match pod == pods {
                    true => objects::manager(),
                    false => objects::pod(pod),
                });
                if from.saturating_add(limit) > pods {
                    *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
                Some(page)
            }
            "/apis" => Some(r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#.to_owned()),
            path if path.starts_with("/api/v1/") && !path.contains("/proxy/") => {
                Some(self.page(0, 0, limit, |_| String::new()))
            }
            _ => None,
        }
    }
}

/// Serves on a port of 127.0.0.1 until the runtime ends; returns its address.
pub(in crate::bench) async fn serve(world: Arc<World>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = axum::Router::new().fallback(answer).with_state(world);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn answer(
    State(world): State<Arc<World>>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response<Body> {
    let json = [(header::CONTENT_TYPE, "application/json")];
    if query.get("watch").is_some_and(|watch| watch == "true") {
        let events = match uri.path() {
            "/api/v1/nodes" => BroadcastStream::new(world.events.subscribe())
                .filter_map(async |line| line.ok())
                .map(|line| Ok::<Bytes, std::io::Error>(line.into()))
                .boxed(),
            _ => futures::stream::pending().boxed(),
        };
        return (json, Body::from_stream(events)).into_response();
    }
    match world.list(uri.path(), &query) {
        Some(page) => (json, page).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            json,
            r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":404,"reason":"NotFound","message":"there is no such thing"}"#,
        )
            .into_response(),
    }
}
