//! Wires the aggregator and spawns its tasks; nothing else does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use cidrift_proto::listen::listen;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{info, warn};

use crate::cli::{Cli, IdentityMode, Source};
use crate::cluster::PlaneEvent;
use crate::control_plane::{Kubernetes, Push, SnapshotFile, Source as _};
use crate::engine::Engine;
use crate::http::{self, Ready};
use crate::identity::api::KubernetesAuthority;
use crate::identity::{Checked, Identity};
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::query::Query;
use crate::trust::acceptor::Acceptor;
use crate::trust::mode::{self as trust, Ground, Mode};

/// How often the engine is told the time: a tenth of the default hold, so that
/// a finding opens at most a tenth later than it may.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked whether a folded log line is due, which each is once a minute.
const TELL: Duration = Duration::from_secs(10);

/// HTTP/2 ping on a quiet connection, and how long its answer may take: a host
/// that died is noticed in 15 s, as its silence would be.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Streams of one connection: an agent has one, an operator's program a few.
const STREAMS: u32 = 64;

/// Streams end at once when asked; the rest of Kubernetes' 30 s is not needed.
const FAREWELL: Duration = Duration::from_secs(5);

/// An aggregator with its sockets open.
#[derive(Debug)]
pub struct App {
    cli: Cli,
    mode: Mode,
    grpc: TcpListener,
    http: TcpListener,
}

/// Runs until SIGTERM, SIGINT or a fatal error.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let app = App::bind(cli).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let serving = app.serve(shutdown.clone());
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => return result,
        _ = terminate.recv() => info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => info!("SIGINT: shutting down"),
    }
    shutdown.cancel();
    tokio::time::timeout(FAREWELL, serving)
        .await
        .unwrap_or_else(|_| bail!("something did not end within {FAREWELL:?} of the signal"))
}

impl App {
    /// Opens the sockets.
    pub async fn bind(cli: Cli) -> anyhow::Result<Self> {
        let mode = Mode::of(&cli, Mode::mounted().as_deref())?;
        let bind = |flag: &str, address: SocketAddr| {
            listen(address).with_context(|| format!("cannot listen on {address}; choose another with {flag}"))
        };
        let grpc = bind("--listen", cli.listen)?;
        let http = bind("--http-listen", cli.http_listen)?;
        Ok(Self { cli, mode, grpc, http })
    }

    /// Where agents and operators reach it, and where its HTTP is.
    pub fn addresses(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.local_addr()?, self.http.local_addr()?))
    }

    /// Serves until `shutdown` is cancelled, or a part of it fails.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (grpc_address, http_address) = self.addresses()?;
        let Self { cli, mode, grpc, http } = self;
        let engine = Engine::new(cli.engine());
        let limits = cli.limits();
        let ready = Ready::default();
        let metrics = Arc::new(Metrics::default().with_engine(Arc::clone(&engine)));
        let identity = identity(&cli, Arc::clone(&metrics)).await?;
        let mut tasks = JoinSet::new();

        let ground = Ground {
            offer: Arc::default(),
            figures: metrics.tls(),
            ready: ready.clone(),
            listen: grpc_address,
        };
        let plaintext = mode == Mode::Plaintext;
        trust::start(mode, &cli, &ground, &mut tasks, &shutdown).await?;

        ready.pending("control plane", "not read yet");
        let push = push(Arc::clone(&engine), Arc::clone(&metrics), ready.clone());
        let stop = shutdown.clone();
        tasks.spawn(async move { control_plane(cli.source, push, stop).await });

        let ingest = Ingest::new(Arc::clone(&engine), limits, Arc::clone(&metrics), shutdown.clone())
            .with_identity(identity.clone());
        let query =
            Query::new(Arc::clone(&engine), shutdown.clone()).with_identity(identity.clone(), Arc::clone(&metrics));
        let server = Server::builder()
            .http2_keepalive_interval(Some(PING.0))
            .http2_keepalive_timeout(Some(PING.1))
            .max_concurrent_streams(STREAMS)
            .add_service(ingest.into_server())
            .add_service(query.into_server());
        let stop = shutdown.clone().cancelled_owned();
        if plaintext {
            let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));
            let serving = server.serve_with_incoming_shutdown(incoming, stop);
            tasks.spawn(async move { serving.await.context("gRPC") });
        } else {
            let (acceptor, standing) = Acceptor::new(grpc, ground.offer, ground.figures);
            let accepting = acceptor.run(shutdown.clone());
            tasks.spawn(async move {
                accepting.await;
                Ok(())
            });
            let serving = server.serve_with_incoming_shutdown(ReceiverStream::new(standing), stop);
            tasks.spawn(async move { serving.await.context("gRPC") });
        }

        tasks.spawn(tell(Arc::clone(&metrics), shutdown.clone()));
        let router = http::router(metrics, ready.clone());
        let stop = shutdown.clone().cancelled_owned();
        tasks.spawn(async move {
            axum::serve(http, router)
                .with_graceful_shutdown(stop)
                .await
                .context("HTTP")
        });

        tasks.spawn(tick(Arc::clone(&engine), ready, shutdown.clone()));

        info!(grpc = %grpc_address, http = %http_address, "cidrift-aggregator {}", cidrift_proto::version());
        if plaintext {
            warn!("--plaintext: whoever reaches {grpc_address} can read and forge reports");
        }
        match &identity {
            Identity::Checked(checked) => {
                info!(agents = %checked.account(), "agents and operators are identified by the Kubernetes API")
            }
            Identity::Believed => warn!("{}", crate::identity::BELIEVED),
        }
        let result = drain(&mut tasks).await;
        shutdown.cancel();
        result.and(drain(&mut tasks).await)
    }
}

/// How agents and operators are identified.
async fn identity(cli: &Cli, metrics: Arc<Metrics>) -> anyhow::Result<Identity> {
    match (cli.identity(), &cli.source.cluster_state) {
        (IdentityMode::None, _) => Ok(Identity::Believed),
        (IdentityMode::Tokens, Some(_)) => {
            bail!(
                "--identity tokens asks the Kubernetes API, and with --cluster-state there is none: give --kubeconfig instead, or --identity none"
            )
        }
        (IdentityMode::Tokens, None) => {
            let kubeconfig = cli.source.kubeconfig.clone();
            let client = Kubernetes { kubeconfig }.client().await?;
            let authority = Arc::new(KubernetesAuthority::new(client));
            let checked = Checked::new(authority, cli.agent_service_account(), metrics);
            Ok(Identity::Checked(Arc::new(checked)))
        }
    }
}

/// What takes the control plane's word.
fn push(engine: Arc<Engine>, metrics: Arc<Metrics>, ready: Ready) -> Push {
    let before = Mutex::new(None);
    Box::new(move |event: PlaneEvent| {
        engine.plane_event(event, Timestamp::now());
        let (source, nodes, problem, observed_at) = engine.read(|state| {
            let plane = state.plane();
            (
                plane.source.clone(),
                plane.nodes.len(),
                plane.problem.clone(),
                plane.observed_at,
            )
        });
        {
            // A string that was cloned whole cannot be half there.
            let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
            metrics.control_plane(&source, nodes, problem.as_deref(), before.as_deref());
            before.clone_from(&problem);
        }
        match (observed_at, problem) {
            (Some(_), _) => ready.done("control plane"),
            (None, Some(problem)) => ready.pending("control plane", problem),
            (None, None) => {}
        }
    })
}

async fn control_plane(source: Source, push: Push, shutdown: CancellationToken) -> anyhow::Result<()> {
    match source.cluster_state {
        Some(file) => SnapshotFile::new(file).run(push, shutdown).await?,
        None => {
            let kubeconfig = source.kubeconfig;
            Kubernetes { kubeconfig }.run(push, shutdown).await?;
        }
    }
    Ok(())
}

/// Waits for all tasks; the first failure ends it.
async fn drain(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")??;
    }
    Ok(())
}

async fn tick(engine: Arc<Engine>, ready: Ready, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {
                let now = Timestamp::now();
                if ready.awaits("certificate") {
                    engine.turned_away(now);
                }
                engine.tick(now);
            }
        }
    }
}

/// Log lines that are folded into one a minute are told in their time.
async fn tell(metrics: Arc<Metrics>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(TELL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => metrics.tell_more(),
        }
    }
}
