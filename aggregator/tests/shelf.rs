//! The record of a fix of thousands of nodes: its Lease, and what is beside it, on an API server with the limits of a real one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use cidrift_aggregator::fix::plan::{Does, Method as How};
use cidrift_aggregator::fix::planner::Wish;
use cidrift_aggregator::fix::run::{Held, Holder, LEASE, LeaseError, Over, Planned, Record, Want, look};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const NAMESPACE: &str = "cidrift";
const MAPS: &str = "/api/v1/namespaces/cidrift/configmaps";

/// Objects by path.
type Store = Arc<Mutex<BTreeMap<String, Value>>>;

fn status(code: u16, reason: &str) -> (StatusCode, String) {
    let text = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    (StatusCode::from_u16(code).expect("a code"), text.to_string())
}

/// kube-apiserver's own limits: 256 KiB of annotations, 1 MiB of data.
fn too_large(object: &Value) -> bool {
    let long = |field: &Value| -> usize {
        let texts = field.as_object().into_iter().flatten();
        texts
            .map(|(key, text)| key.len() + text.as_str().unwrap_or_default().len())
            .sum()
    };
    long(&object["metadata"]["annotations"]) > 256 << 10 || long(&object["data"]) > 1 << 20
}

async fn answer(State(store): State<Store>, method: Method, uri: Uri, body: Bytes) -> (StatusCode, String) {
    let mut store = store.lock().expect("no panic");
    let mut object: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut path = uri.path().to_owned();
    if method == Method::POST {
        path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    }
    let there = store.get(&path);
    let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    match (method.as_str(), there) {
        ("GET", Some(there)) => (StatusCode::OK, there.to_string()),
        ("POST", Some(_)) => status(409, "AlreadyExists"),
        ("PUT", Some(there)) if version(there) != version(&object) => status(409, "Conflict"),
        ("POST" | "PUT", _) if too_large(&object) => status(422, "Invalid"),
        ("POST", None) | ("PUT", Some(_)) => {
            let next = version(&object).parse::<u64>().unwrap_or_default() + 1;
            object["metadata"]["resourceVersion"] = json!(next.to_string());
            store.insert(path, object.clone());
            (StatusCode::OK, object.to_string())
        }
        ("DELETE", Some(_)) => {
            store.remove(&path);
            status(200, "Deleted")
        }
        _ => status(404, "NotFound"),
    }
}

async fn api() -> (Client, Store) {
    let store = Store::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&store));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = kube::Config::new(format!("http://{address}").parse().expect("a URL"));
    (Client::try_from(config).expect("a client"), store)
}

fn node(n: usize) -> String {
    format!("ip-172-{:03}-{:03}-010.eu-central-1.compute.internal", n / 256, n % 256)
}

/// What its host loses.
fn host(n: usize) -> Vec<Does> {
    let bridge = format!("10.{}.{}.1/24", n / 256, n % 256);
    vec![
        Does::RemoveFile {
            path: "/etc/cni/net.d/10-containerd-net.conflist".to_owned(),
            containing: format!("10.{}.{}.0/24", n / 256, n % 256),
        },
        Does::RemoveLink {
            name: "cni0".to_owned(),
            addresses: vec![bridge.parse().expect("an address")],
        },
    ]
}

/// A migration of that many nodes.
fn record(nodes: usize) -> Record {
    let planned = |n| {
        Planned {
        node: node(n),
        uid: format!("{n:08x}-0000-4b1d-9c55-{n:012x}"),
        method: How::Swap,
        to: vec![format!("10.{}.{}.0/24", n / 256, n % 256).parse().expect("a prefix")],
        steps: "cordon, drain, remove-file, remove-link, recreate, adopt, restart-daemon, replace-pods, announce, verify, uncordon"
            .to_owned(),
        host: Some(host(n)),
    }
    };
    Record {
        id: "0123456789ab".to_owned(),
        begun: Timestamp::UNIX_EPOCH,
        by: "me@here".to_owned(),
        wish: Wish {
            nodes: (0..nodes).map(node).collect(),
            ..Wish::default()
        },
        queue: (0..nodes).map(planned).collect(),
        work: None,
        over: Vec::new(),
        stopped: None,
    }
}

async fn take(client: &Client, want: Want) -> Result<(Held, Record), LeaseError> {
    Held::take(client, NAMESPACE, want, &Holder::this(), &|_| {}).await
}

fn maps(store: &Store) -> Vec<String> {
    let store = store.lock().expect("no panic");
    store.keys().filter(|path| path.starts_with(MAPS)).cloned().collect()
}

fn over(node: String, failed: Option<&str>) -> Over {
    Over {
        node,
        failed: failed.map(str::to_owned),
    }
}

#[tokio::test]
async fn a_fix_of_five_thousand_nodes_is_begun_goes_on_and_leaves_nothing_behind() {
    let (client, store) = api().await;
    let (held, mut fix) = take(&client, Want::New(Box::new(record(5000)))).await.expect("taken");
    assert!(maps(&store).len() > 1, "more than one ConfigMap holds");
    // Two are over, and it stops.
    for failed in [None, Some("it does not come back")] {
        let done = fix.queue.remove(0);
        fix.over.push(over(done.node, failed));
    }
    fix.stopped = Some("it was interrupted".to_owned());
    held.release(&fix).await.expect("given back");
    let left = look(&client, NAMESPACE, false)
        .await
        .expect("read")
        .expect("unfinished");
    assert_eq!(left, fix);
    let again = take(&client, Want::New(Box::new(record(1))))
        .await
        .expect_err("one at a time");
    assert!(matches!(again, LeaseError::Unfinished(_)), "{again}");

    let (held, mut fix) = take(&client, Want::Go).await.expect("goes on");
    assert_eq!((fix.queue.len(), fix.over.len(), fix.wish.nodes.len()), (4998, 2, 5000));
    let done = std::mem::take(&mut fix.queue);
    fix.over.extend(done.into_iter().map(|done| over(done.node, None)));
    held.release(&fix).await.expect("given back");
    assert_eq!(look(&client, NAMESPACE, false).await.expect("read"), None);
    assert_eq!(maps(&store), [""; 0]);
}

#[tokio::test]
async fn what_is_on_the_lease_is_refused_by_who_does_not_know_it_and_small_fixes_are_as_before() {
    let (client, store) = api().await;
    let lease = || {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{LEASE}");
        let objects = store.lock().expect("no panic");
        let record = &objects[&path]["metadata"]["annotations"]["cidrift.dev/fix"];
        record.as_str().expect("a record").to_owned()
    };
    let (held, mut fix) = take(&client, Want::New(Box::new(record(5000)))).await.expect("taken");
    let text = lease();
    assert!(text.len() < 4096, "{} bytes", text.len());
    // An earlier release reads a list there.
    serde_json::from_str::<Record>(&text).expect_err("it has no list of nodes");
    fix.queue.clear();
    held.release(&fix).await.expect("given back");
    serde_json::from_str::<Record>(&lease()).expect("nothing is to come");

    take(&client, Want::New(Box::new(record(100)))).await.expect("taken");
    assert_eq!(
        serde_json::from_str::<Record>(&lease()).expect("as it was"),
        record(100)
    );
    assert_eq!(maps(&store), [""; 0]);
}

#[tokio::test]
async fn without_its_nodes_a_fix_can_be_taken_back_and_too_many_are_refused() {
    let (client, store) = api().await;
    let many = take(&client, Want::New(Box::new(record(60_000))))
        .await
        .expect_err("too many");
    assert!(matches!(many, LeaseError::TooMany(60_000)), "{many}");
    assert!(store.lock().expect("no panic").is_empty());
    let (held, mut fix) = take(&client, Want::New(Box::new(record(25_000))))
        .await
        .expect("that many have room");
    fix.queue.clear();
    held.release(&fix).await.expect("given back");
    assert_eq!(maps(&store), [""; 0]);
    let (held, fix) = take(&client, Want::New(Box::new(record(5000)))).await.expect("taken");
    held.release(&fix).await.expect("given back");
    let gone = maps(&store).pop().expect("one");
    store.lock().expect("no panic").remove(&gone);
    let refused = look(&client, NAMESPACE, false).await.expect_err("a part is gone");
    let says = refused.to_string();
    assert!(says.contains("is gone") && says.contains("--abort"), "{says}");
    take(&client, Want::Go).await.expect_err("a part is gone");
    let left = look(&client, NAMESPACE, true)
        .await
        .expect("read")
        .expect("it can be taken back");
    let (held, _) = take(&client, Want::Back).await.expect("taken");
    held.release(&left).await.expect("given back");
    assert_eq!(look(&client, NAMESPACE, false).await.expect("read"), None);
    assert_eq!(maps(&store), [""; 0]);
}
