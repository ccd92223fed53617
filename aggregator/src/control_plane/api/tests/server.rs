//! An API server on the loopback that answers as a test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Response, Uri};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    /// It is a watch.
    pub(super) watch: bool,
    /// How many of the same there were before.
    pub(super) nth: usize,
}

/// What it says.
pub(super) enum Reply {
    /// A status code and a body.
    Json(u16, Value),
    /// A plain text.
    Text(String),
    /// Watch events, and then nothing, but the stream stays open.
    Watch(Vec<Value>),
    /// Watch events, and then the end.
    End(Vec<Value>),
    /// Nothing: the request is taken, and never answered.
    Hang,
    /// Watch events after a while, and then the end.
    Later(Duration, Vec<Value>),
}

pub(super) fn list(version: &str, items: &[Value]) -> Reply {
    let body = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items});
    Reply::Json(200, body)
}

pub(super) fn page(version: &str, token: &str, items: &[Value]) -> Reply {
    let metadata = json!({"resourceVersion": version, "continue": token});
    Reply::Json(
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
    )
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message});
    Reply::Json(code, body)
}

pub(super) fn refused(message: &str) -> Reply {
    status(403, "Forbidden", message)
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

struct World {
    answer: Box<Answer>,
    asked: Mutex<Vec<Asked>>,
}

pub(super) struct Server {
    world: Arc<World>,
    address: SocketAddr,
    stop: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let world = Arc::new(World {
            answer: Box::new(answer),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Self {
            world,
            address,
            stop: CancellationToken::new(),
            task: None,
        };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        self.stop = CancellationToken::new();
        let router = axum::Router::new()
            .fallback(handle)
            .with_state((Arc::clone(&self.world), self.stop.clone()));
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(async move {
            let gone = stop.clone().cancelled_owned();
            axum::serve(listener, router)
                .with_graceful_shutdown(gone)
                .await
                .unwrap();
        }));
    }

    /// Ends it, with all its connections.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // Idle connections of the client would hold it up.
            let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
        }
    }

    /// Starts it again where it was.
    pub(super) async fn again(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(super) fn kubeconfig(&self) -> String {
        let address = self.address;
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "x", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        })
        .to_string()
    }

    /// What was asked of this path.
    pub(super) fn asked(&self, path: &str, watch: bool) -> Vec<Asked> {
        let asked = self.world.asked.lock().unwrap();
        let same = |asked: &&Asked| asked.path == path && asked.watch == watch;
        asked.iter().filter(same).cloned().collect()
    }
}

async fn handle(
    State((world, stop)): State<(Arc<World>, CancellationToken)>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response<Body> {
    let path = uri.path().to_owned();
    let watch = query.get("watch").is_some_and(|watch| watch == "true");
    let asked = {
        let mut all = world.asked.lock().unwrap();
        let nth = all
            .iter()
            .filter(|asked| asked.path == path && asked.watch == watch)
            .count();
        all.push(Asked {
            path,
            query,
            watch,
            nth,
        });
        all.last().unwrap().clone()
    };
    let lines = |events: Vec<Value>| {
        // The type stands first, as kube-apiserver writes it.
        let line = |event: Value| format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]);
        let lines = events.into_iter().map(|event| Ok::<_, std::io::Error>(line(event)));
        futures::stream::iter(lines.collect::<Vec<_>>())
    };
    match (world.answer)(&asked) {
        Reply::Json(code, body) => Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        Reply::Hang => {
            stop.cancelled().await;
            Response::new(Body::empty())
        }
        Reply::Text(text) => Response::new(Body::from(text)),
        Reply::Watch(events) => {
            let ends = stop.cancelled_owned();
            let open = futures::stream::pending().take_until(Box::pin(ends));
            Response::new(Body::from_stream(lines(events).chain(open)))
        }
        Reply::End(events) => Response::new(Body::from_stream(lines(events))),
        Reply::Later(wait, events) => {
            let first = futures::stream::once(async move {
                tokio::time::sleep(wait).await;
                Ok(String::new())
            });
            Response::new(Body::from_stream(first.chain(lines(events))))
        }
    }
}
