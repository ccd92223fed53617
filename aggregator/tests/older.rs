//! The operator's program asks an aggregator of an earlier release, which knows no question about many nodes.

mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, Response, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use cidrift_aggregator::query::service;
use serde_json::{Value, json};
use support::{HOLD, World, cidr, name, nothing};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Methods that were asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// Serves the same engine without the questions that are new; notes what is asked.
async fn older(world: &World) -> (SocketAddr, Asked) {
    let asked = Asked::default();
    let routes = Routes::new(service(Arc::clone(&world.engine))).into_axum_router();
    let routes = Routes::from(routes.layer(from_fn_with_state(Arc::clone(&asked), answer)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming(TcpIncoming::from(listener)),
    );
    (address, asked)
}

async fn answer(State(asked): State<Asked>, request: Request, next: Next) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let new = ["ListViews", "ListPaths"].contains(&method.as_str());
    asked.lock().expect("no panic").push(method);
    if new {
        // As tonic answers for a method that it does not know.
        let headers = [
            (header::CONTENT_TYPE, "application/grpc"),
            (HeaderName::from_static("grpc-status"), "12"),
        ];
        return (headers, "").into_response();
    }
    next.run(request).await
}

/// The three Nodes, two a page, and nothing else.
async fn api(lists: Arc<AtomicUsize>) -> SocketAddr {
    let answer = move |request: Request| {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let second = query.contains("continue=more");
        let nodes = if second { 2..3 } else { 0..2 };
        let (items, more) = match path.as_str() {
            "/api/v1/nodes" => {
                assert!(
                    query.contains("limit=") && !query.contains("resourceVersion"),
                    "{query}"
                );
                lists.fetch_add(1, Ordering::Relaxed);
                (nodes.map(node).collect(), if second { "" } else { "more" })
            }
            _ => (Vec::new(), ""),
        };
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": more}, "items": items});
        let found = !path.contains("/leases");
        std::future::ready(Response::builder().status(if found { 200 } else { 404 }).body(match found {
            true => list.to_string(),
            false => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound"})
                .to_string(),
        }))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let router =
        axum::Router::new().fallback(async move |request: Request| answer(request).await.expect("well formed"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn node(n: u8) -> Value {
    json!({
        "metadata": {"name": name(n), "uid": format!("uid-{n}")},
        "spec": {"podCIDR": cidr(n).to_string(), "podCIDRs": [cidr(n).to_string()]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("172.30.0.1{n}")}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// How it ends, what it prints, and its errors.
async fn kubectl(api: SocketAddr, aggregator: SocketAddr, arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = directory.path().join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).expect("written");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-cidrift"))
        .args([
            "-o",
            "json",
            "--server",
            &format!("http://{aggregator}"),
            "--kubeconfig",
        ])
        .arg(&kubeconfig)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn planned(api: SocketAddr, aggregator: SocketAddr) -> Value {
    let (code, text, errors) = kubectl(api, aggregator, &["plan"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let mut plan: Value = serde_json::from_str(&text).expect("one document");
    plan["madeAt"] = Value::Null;
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_aggregator_is_asked_about_one_node_after_the_other() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![nothing(1, world.now)]);
    world.pass(HOLD * 2);
    let lists = Arc::new(AtomicUsize::new(0));
    let api = api(Arc::clone(&lists)).await;
    let (older, asked) = older(&world).await;
    let plan = planned(api, world.address).await;
    assert!(plan.to_string().contains("PATH01/node-a"), "{plan}");
    assert_eq!(lists.load(Ordering::Relaxed), 2, "two pages");
    assert_eq!(planned(api, older).await, plan);
    let asked = asked.lock().expect("no panic").clone();
    let times = |wanted: &str| asked.iter().filter(|method| *method == wanted).count();
    assert_eq!((times("ListViews"), times("GetNode")), (1, 3), "{asked:?}");

    let (code, text, errors) = kubectl(api, older, &["path", "--to", "node-b"]).await;
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(
        errors.contains("an older one and does not know this question"),
        "{errors}"
    );
}
