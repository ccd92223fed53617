//! What the real aggregator costs on the largest supported cluster: lists as an API server writes them, over HTTP,
//! read by the program as it is released.

pub(super) mod objects;
pub(super) mod server;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cidrift_proto::v1;
use cidrift_proto::v1::finding_event::Kind;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use serde_json::json;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Figure, ms, percentile};
use server::World;

/// Nodes of the largest supported cluster.
const NODES: u32 = 15_000;

/// Lists of 450,000 Pods take half a minute on two cores; a machine ten times slower is none to measure on.
const PATIENCE: Duration = Duration::from_secs(300);

/// Nodes that come, one after the other.
const CHANGES: usize = 200;

/// The aggregator; it ends when this is dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It fails only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves the lists to `aggregator`, and measures.
pub fn run(aggregator: &Path, directory: &Path) -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(aggregator, directory))
}

async fn measure(aggregator: &Path, directory: &Path) -> Result<Vec<Figure>> {
    let world = Arc::new(World::new(NODES));
    let api = server::serve(Arc::clone(&world)).await?;
    let (grpc, http) = (free_port()?, free_port()?);
    let program = start(aggregator, directory, api, grpc, http)?;
    let mut events = Events::subscribe(grpc).await?;
    let pods = u64::from(NODES - 1) * u64::from(objects::PODS_EACH);
    let label = |what: &str| format!("{NODES} Nodes, {pods} Pods over HTTP, {what}");

    // The last Pod names the range: only who has read everything can say this.
    let outside = format!("POOL02/{}", objects::name(NODES - 1));
    let found = events.arrival(&outside).await?;
    let listed = world.listed().context("it was found before the last page was served")?;
    let begun = world.begun().context("nothing was asked for")?;
    let mut figures = vec![
        Figure::new(
            label("size of the lists"),
            world.sent() as f64 / f64::from(1 << 20),
            "MiB",
        ),
        Figure::new(
            label("first page asked for to last one served"),
            ms(listed - begun),
            "ms",
        ),
        Figure::new(
            label("last page served to the finding that rests on it"),
            ms(found.duration_since(listed)),
            "ms",
        )
        .aim_value(5_000.0),
        Figure::new(label("RSS then"), memory(&program, "VmRSS:")?, "MiB").aim_value(256.0),
        Figure::new(label("highest RSS so far"), memory(&program, "VmHWM:")?, "MiB").aim_value(256.0),
    ];

    // A Node comes and waits for a CIDR: told at once.
    let mut samples = Vec::new();
    for at in 0..CHANGES {
        let node = NODES + u32::try_from(at)?;
        let object = objects::node(node, NODES, 2_000_000 + at as u64, false);
        let sent = Instant::now();
        world.node_event("ADDED", &object);
        let seen = events.arrival(&format!("POOL01/{}", objects::name(node))).await?;
        samples.push(ms(seen.duration_since(sent)));
    }
    figures.extend([
        Figure::new(
            label("a Node comes: watch event to subscriber, p50"),
            percentile(&mut samples, 0.5),
            "ms",
        ),
        Figure::new(
            label("a Node comes: watch event to subscriber, p99"),
            percentile(&mut samples, 0.99),
            "ms",
        ),
        Figure::new(label("RSS at the end"), memory(&program, "VmRSS:")?, "MiB").aim_value(256.0),
    ]);
    Ok(figures)
}

fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn start(aggregator: &Path, directory: &Path, api: SocketAddr, grpc: SocketAddr, http: SocketAddr) -> Result<Program> {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    let path = directory.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).context("write a kubeconfig")?;
    let log = std::fs::File::create(directory.join("aggregator.log")).context("make a log")?;
    let child = Command::new(aggregator)
        .args(["--listen", &grpc.to_string(), "--http-listen", &http.to_string()])
        .args(["--plaintext", "--kubeconfig"])
        .arg(&path)
        .args(["--identity", "none"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", aggregator.display()))?;
    Ok(Program(child))
}

/// The findings as a subscriber hears them.
struct Events {
    grpc: SocketAddr,
    stream: Streaming<v1::FindingEvent>,
}

impl Events {
    async fn subscribe(grpc: SocketAddr) -> Result<Self> {
        let start = Instant::now();
        loop {
            let channel = Channel::from_shared(format!("http://{grpc}"))?.connect().await;
            match channel {
                Ok(channel) => {
                    let mut client = QueryServiceClient::new(channel);
                    let answer = client.watch_findings(v1::WatchFindingsRequest::default()).await?;
                    let stream = answer.into_inner();
                    return Ok(Self { grpc, stream });
                }
                Err(error) if start.elapsed() > Duration::from_secs(10) => {
                    bail!("the aggregator does not listen: {error}")
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// When this finding is told, pending or open.
    async fn arrival(&mut self, id: &str) -> Result<Instant> {
        let told = async {
            loop {
                let event = self.stream.message().await?.context("the stream of findings ended")?;
                match event.kind {
                    Some(Kind::Finding(finding)) if finding.id == id => return Ok(Instant::now()),
                    // Every node is silent, and that is told of all of them at once: what stands is told first anew.
                    Some(Kind::Lagged(_)) => *self = Self::subscribe(self.grpc).await?,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .with_context(|| format!("{id} was not told within {} s", PATIENCE.as_secs()))?
    }
}

fn memory(program: &Program, key: &str) -> Result<f64> {
    let path = format!("/proc/{}/status", program.0.id());
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib: f64 = line
        .with_context(|| format!("no {key} in {path}"))?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib / 1024.0)
}
