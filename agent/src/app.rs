//! Wires the agent and spawns its tasks; nothing else does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cidrift_proto::listen::listen;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::RunArgs;
use crate::http::{self, Ready};
use crate::metrics::Metrics;
use crate::observe::cni::{CniReader, CniWatcher};
use crate::observe::host::{HostReader, HostWatcher};
use crate::observe::root::HostRoot;
use crate::report::stream::{self, Target};
use crate::witness::Witness;
use crate::witness::run::{Parts, run as watch};

/// Everything ends at once when asked; the rest of Kubernetes' 30 s is not needed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Events of the stream that wait for the loop; the stream waits beyond that.
const EVENTS: usize = 16;

/// Runs until SIGTERM, SIGINT or a fatal error.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let serving = serve(args, shutdown.clone());
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

/// Serves until `shutdown` is cancelled, or a part of it fails.
pub async fn serve(args: RunArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let RunArgs {
        way,
        node_name,
        host_root,
        cni_dir,
        http_listen,
    } = args;
    let ways = way.ways().map_err(anyhow::Error::msg)?;
    let listener = listen(http_listen)
        .with_context(|| format!("cannot listen on {http_listen}; choose another with --http-listen"))?;

    info!(node = node_name, http = %http_listen, "cidrift-agent {}", cidrift_proto::version());
    if let Some(open) = ways.aggregators.iter().find(|address| !address.is_private()) {
        warn!("{open} is plaintext: whoever listens on the way reads what this host reports; no token is shown there");
    }
    let metrics = Arc::new(Metrics::default());
    let ready = Ready::default();
    ready.pending("kernel", "not read yet");
    ready.pending("aggregator", "not connected yet");
    let mut tasks = JoinSet::new();

    let (sender, events) = mpsc::channel(EVENTS);
    let target = Target {
        ways,
        node: node_name.clone(),
        version: cidrift_proto::version().to_owned(),
        instance: instance(),
    };
    let stop = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stream::run(target, sender) => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    });

    let router = http::router(Arc::clone(&metrics), ready.clone());
    let stop = shutdown.clone().cancelled_owned();
    tasks.spawn(async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
            .context("HTTP")
    });

    let release = nix::sys::utsname::uname().map_or_else(
        |error| format!("unknown ({error})"),
        |uname| uname.release().to_string_lossy().into_owned(),
    );
    let root = HostRoot::new(host_root);
    let cni = CniWatcher::new(CniReader::new(root.clone(), cni_dir));
    let (cni_told, cni_heard) = watch::channel(cni.facts().clone());
    let (looked, host) = mpsc::channel(1);
    let watcher = HostWatcher::new(HostReader::new(root), cni_heard);
    let stop = shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = watcher.run(looked) => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    });
    let parts = Parts {
        witness: Witness::new(&node_name, &release, Timestamp::now()),
        cni,
        cni_told,
        host,
        events,
        metrics,
        ready,
    };
    let stop = shutdown.clone();
    tasks.spawn(async move {
        watch(parts, stop).await;
        Ok(())
    });

    let result = drain(&mut tasks).await;
    shutdown.cancel();
    result.and(drain(&mut tasks).await)
}

/// Waits for all tasks; the first failure ends it.
async fn drain(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")??;
    }
    Ok(())
}

/// A name for this run of the agent, new every time.
fn instance() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(uuid) if !uuid.trim().is_empty() => uuid.trim().to_owned(),
        // Two runs cannot have both in common.
        _ => format!("{}-{}", Timestamp::now().as_nanosecond(), std::process::id()),
    }
}
