//! The whole aggregator on loopback, as far as HTTP and its end show it.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cidrift_aggregator::app::App;
use cidrift_aggregator::cli::Cli;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Only a guard against hanging for ever.
const GUARD: Duration = Duration::from_secs(30);

const NODES: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a", "uid": "u1"},
   "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
   "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}]}"#;

struct Running {
    http: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

fn cli(state: &Path, listen: &str) -> Cli {
    Cli::parse_from([
        "cidrift-aggregator",
        "--listen",
        listen,
        "--http-listen",
        "127.0.0.1:0",
        "--cluster-state",
        state.to_str().unwrap(),
        "--cluster-cidr",
        "10.244.0.0/16",
        "--plaintext",
    ])
}

async fn start(state: &Path) -> Running {
    let app = App::bind(cli(state, "127.0.0.1:0")).await.unwrap();
    let (_, http) = app.addresses().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(app.serve(shutdown.clone()));
    Running {
        http,
        shutdown,
        serving,
    }
}

impl Running {
    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get_until(&self, path: &str, wanted: &str) -> String {
        let ask = async {
            loop {
                let answer = self.get(path).await;
                if answer.contains(wanted) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(GUARD, ask).await.unwrap()
    }
}

#[tokio::test]
async fn it_is_ready_once_the_control_plane_was_read_and_says_what_is_missing_before() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("nodes.json");
    let running = start(&state).await;
    let answer = running.get_until("/readyz", "pending: control plane").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));

    let whole = directory.path().join("new");
    std::fs::write(&whole, NODES).unwrap();
    std::fs::rename(&whole, &state).unwrap();
    running.get_until("/readyz", "HTTP/1.1 200").await;

    let metrics = running.get_until("/metrics", "\ncidrift_aggregator_nodes 1\n").await;
    assert!(
        metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert!(metrics.contains("cidrift_build_info{program=\"cidrift-aggregator\",version=\""));

    running.shutdown.cancel();
    let end = tokio::time::timeout(GUARD, running.serving).await.unwrap().unwrap();
    assert!(end.is_ok(), "{end:?}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error_that_names_the_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = App::bind(cli(Path::new("/nonexistent"), &address)).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("choose another with --listen"),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_part_that_fails_ends_the_whole_with_its_error() {
    let running = start(Path::new("/nonexistent/directory/nodes.yaml")).await;
    let end = tokio::time::timeout(GUARD, running.serving).await.unwrap().unwrap();
    let error = end.unwrap_err().to_string();
    assert!(error.contains("cannot watch"), "{error}");
}
