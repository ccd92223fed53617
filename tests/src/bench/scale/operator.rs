//! What an operator's plan and fix cost where there are thousands of nodes: the engine as it is fed in the parts before, its
//! answers over gRPC, lists over HTTP, and the program that asks. Beside it what the same cost when it was asked about one node
//! after the other, as an older aggregator is.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cidrift_aggregator::cluster::PlaneEvent;
use cidrift_aggregator::query;
use cidrift_proto::v1;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

use super::cluster::Cluster;
use super::{Row, Run};
use crate::bench::ms;
use crate::bench::served::objects;
use crate::bench::served::server::{self, World};
use crate::binaries;

/// Asked at a time, as the program did and does of an older aggregator.
const AT_ONCE: usize = 8;

/// Nodes of which the whole of each is asked for: with all of 5,000 that are 50 million verdicts and entries.
const SAMPLE: u32 = 100;

const MIB: f64 = (1 << 20) as f64;

/// Measures with that many nodes, whose agents all report, and 30 pods on each.
pub(super) fn measure(nodes: u32) -> Result<Vec<Row>> {
    let mut run = Run::new(
        Cluster::named(nodes, objects::name),
        format!("{nodes} nodes with agents, {} pods", nodes * objects::PODS_EACH),
    );
    let all = run.cluster.nodes();
    let now = run.now;
    run.engine
        .plane_event(PlaneEvent::Source("recorded lists".to_owned()), now);
    run.engine
        .plane_event(PlaneEvent::Nodes(all, std::collections::BTreeSet::new()), now);
    run.report();
    run.memory("of the engine", None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(ask(&mut run, nodes))?;
    Ok(run.rows)
}

async fn ask(run: &mut Run, nodes: u32) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let served = listener.local_addr()?;
    let service = query::service(Arc::clone(&run.engine));
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let counted = Counted::before(served).await?;
    let client = QueryServiceClient::connect(format!("http://{}", counted.address)).await?;
    let client = client.max_decoding_message_size(64 << 20);

    let views = counted.time(one_by_one(&client, nodes)).await?;
    let scale = f64::from(nodes) / f64::from(SAMPLE);
    let label = format!("a plan's views, one node after the other ({SAMPLE} of them times {scale})");
    add(run, &label, (views.0 * scale, views.1 * scale));
    let views = counted.time(pages(&client)).await?;
    add(run, "a plan's views at once", views);
    let (node, address) = (objects::name(1), "10.0.1.9");
    for (what, to) in [("verification", address), ("announcement", node.as_str())] {
        let ways = counted.time(path_by_path(&client, nodes, to)).await?;
        add(run, &format!("a look of {what}, one way after the other"), ways);
        let ways = counted.time(paths(&client, nodes, to)).await?;
        add(run, &format!("a look of {what} at once"), ways);
    }
    program(run, &counted, nodes).await
}

fn add(run: &mut Run, what: &str, (took, sent): (f64, f64)) {
    run.add(&format!("{what}, time"), took, false, None);
    run.add(&format!("{what}, sent"), sent, true, None);
}

/// The program itself: everything that it plans on, and the plan of a migration of all nodes.
async fn program(run: &mut Run, counted: &Counted, nodes: u32) -> Result<()> {
    let world = Arc::new(World::new(nodes + 1));
    let api = server::serve(Arc::clone(&world)).await?;
    let directory = tempfile::tempdir()?;
    let kubeconfig = directory.path().join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).context("write a kubeconfig")?;
    let program = binaries::find(|text| eprintln!("{text}"))?.kubectl;
    for (what, arguments) in [
        ("kubectl cidrift plan", &["plan"][..]),
        (
            "kubectl cidrift fix --migrate, shown",
            &["fix", "--migrate", "10.128.0.0/9", "--allow-managed"],
        ),
    ] {
        let before = world.sent();
        let (mut highest, mut length) = (0.0, 0);
        let asked = async {
            (highest, length) = started(&program, counted.address, &kubeconfig, arguments).await?;
            Ok(())
        };
        let answer = counted.time(asked).await?;
        add(run, &format!("{what}, of the aggregator"), answer);
        let listed = (world.sent() - before) as f64 / MIB;
        run.add(&format!("{what}, of the API server, sent"), listed, true, None);
        run.add(&format!("{what}, its highest RSS"), highest, true, None);
        run.add(&format!("{what}, its answer"), length as f64 / MIB, true, None);
    }
    Ok(())
}

/// Runs it to its end: its highest RSS, and how long its answer is.
async fn started(program: &Path, server: SocketAddr, kubeconfig: &Path, arguments: &[&str]) -> Result<(f64, usize)> {
    let mut child = tokio::process::Command::new(program)
        .args([
            "-o",
            "json",
            "--timeout",
            "60s",
            "--server",
            &format!("http://{server}"),
        ])
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id().context("it has ended")?);
    let mut out = child.stdout.take().context("no output")?;
    let mut answer = Vec::new();
    let mut highest = 0.0_f64;
    let mut buffer = vec![0; 1 << 16];
    loop {
        // It answers in one piece at its end, when its memory has been at its highest.
        let read = out.read(&mut buffer).await?;
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        highest = highest.max(kib.unwrap_or_default() / 1024.0);
        match read {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    let ended = child.wait().await?;
    if !ended.success() || answer.is_empty() {
        bail!("{} {arguments:?} ended with {ended}", program.display());
    }
    Ok((highest, answer.len()))
}

type Client = QueryServiceClient<Channel>;

async fn one_by_one(client: &Client, nodes: u32) -> Result<()> {
    let step = (nodes / SAMPLE).max(1);
    let asked = (0..SAMPLE).map(|at| {
        let (mut client, name) = (client.clone(), objects::name(at * step));
        async move { client.get_node(v1::GetNodeRequest { name }).await }
    });
    let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some(node) = answers.try_next().await? {
        if node.into_inner().verdicts.len() != nodes as usize {
            bail!("a node does not tell of all others");
        }
    }
    Ok(())
}

async fn pages(client: &Client) -> Result<()> {
    let mut pages = client.clone().list_views(v1::ListViewsRequest {}).await?.into_inner();
    while let Some(page) = pages.message().await? {
        if page.last {
            return Ok(());
        }
    }
    bail!("the views broke off")
}

async fn path_by_path(client: &Client, nodes: u32, to: &str) -> Result<()> {
    let asked = (0..nodes).filter(|node| *node != 1).map(|node| {
        let mut client = client.clone();
        let request = v1::GetPathRequest {
            from: objects::name(node),
            to: to.to_owned(),
        };
        async move { client.get_path(request).await }
    });
    let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some(path) = answers.try_next().await? {
        healthy(path.into_inner().health)?;
    }
    Ok(())
}

async fn paths(client: &Client, nodes: u32, to: &str) -> Result<()> {
    let request = v1::ListPathsRequest {
        to: to.to_owned(),
        from: Vec::new(),
    };
    let mut pages = client.clone().list_paths(request).await?.into_inner();
    let mut rows = 0;
    while let Some(page) = pages.message().await? {
        for way in page.rows.iter().flat_map(|row| [&row.forward, &row.backward]) {
            healthy(way.as_ref().context("a row without a way")?.health)?;
        }
        rows += page.rows.len();
    }
    if rows + 1 != nodes as usize {
        bail!("{rows} rows of {nodes} nodes");
    }
    Ok(())
}

fn healthy(health: i32) -> Result<()> {
    if health != i32::from(v1::Health::Healthy) {
        bail!("a way is not healthy");
    }
    Ok(())
}

/// Stands before a server, and counts what it sends.
struct Counted {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
}

impl Counted {
    async fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else {
                    break;
                };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, Arc::default()));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&counter)));
            }
        });
        Ok(Self { address, sent })
    }

    /// Milliseconds, and MiB.
    async fn time(&self, work: impl Future<Output = Result<()>>) -> Result<(f64, f64)> {
        let (start, before) = (Instant::now(), self.sent.load(Ordering::Relaxed));
        work.await?;
        let sent = self.sent.load(Ordering::Relaxed) - before;
        Ok((ms(start.elapsed()), sent as f64 / MIB))
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        counter.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}
