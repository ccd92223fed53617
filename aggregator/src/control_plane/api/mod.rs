//! The Kubernetes API: every kind of object that matters is listed and watched by a
//! task of its own; what they gather is told some times a second.

mod ask;
mod discover;
mod follow;
mod keep;
mod nodes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::gather::Gathered;
use super::kind::Kind;
use super::{Push, Source, SourceError, chain};
use crate::cluster::PlaneEvent;
use crate::cluster::objects::{Resource, Watched};

use discover::Found;

/// What was gathered is told this often: a burst of changes is one.
const TELL: Duration = Duration::from_millis(200);

/// Of those, every so many: what is told whole though one object changed.
const ALL: u32 = 5;

/// Discovery is repeated this often though no CustomResourceDefinition was seen to change: they may not be readable,
/// and aggregated APIs have none.
const DISCOVER: Duration = Duration::from_secs(30);

/// A new CustomResourceDefinition is served this long after it was written, usually.
const ESTABLISH: Duration = Duration::from_millis(500);

/// A task that ended, which none should, is started again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// A connection must come about by then; kube's own limit is 30 s.
const CONNECT: Duration = Duration::from_secs(10);

/// The Kubernetes API.
#[derive(Debug, Clone, Default)]
pub struct Kubernetes {
    /// A kubeconfig; `None`: the one of the environment, or the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
}

/// What the tasks share.
struct Shared {
    client: Client,
    push: Push,
    gathered: Mutex<Gathered>,
    /// What discovery found; `None`: it has not been through yet.
    found: watch::Sender<Option<Found>>,
    /// CustomResourceDefinitions changed.
    definitions: Notify,
    /// Label keys that ClusterCIDRs select Nodes by.
    labels: watch::Sender<BTreeSet<String>>,
}

impl Shared {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        // Each change replaces plain data: what a panic left is as whole as before.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Watch(Kind),
    Definitions,
    Discover,
    Tell,
    Managers,
}

impl Task {
    fn all() -> impl Iterator<Item = Self> {
        let watches = Kind::ALL.into_iter().map(Self::Watch);
        watches.chain([Self::Definitions, Self::Discover, Self::Tell, Self::Managers])
    }

    async fn run(self, shared: Arc<Shared>) {
        match self {
            Self::Watch(Kind::Nodes) => nodes::keep(&shared).await,
            Self::Watch(kind) => keep::keep(&shared, kind).await,
            Self::Definitions => keep::definitions(&shared).await,
            Self::Discover => discovering(&shared).await,
            Self::Tell => telling(&shared).await,
            Self::Managers => ask::managers(&shared).await,
        }
    }
}

impl Kubernetes {
    async fn config(&self) -> Result<Config, SourceError> {
        let mut config = match &self.kubeconfig {
            None => Config::infer()
                .await
                .map_err(|error| SourceError::Access(chain(&error)))?,
            Some(path) => {
                let shown = path.display();
                let read = Kubeconfig::read_from(path);
                let config = read.map_err(|error| SourceError::Access(format!("{shown}: {}", chain(&error))))?;
                Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| SourceError::Access(format!("{shown}: {}", chain(&error))))?
            }
        };
        config.connect_timeout = Some(CONNECT);
        Ok(config)
    }
}

impl Kubernetes {
    /// A client of its own for other questions than watches.
    pub async fn client(&self) -> Result<Client, SourceError> {
        let config = self.config().await?;
        Client::try_from(config).map_err(|error| SourceError::Access(chain(&error)))
    }
}

impl Source for Kubernetes {
    async fn run(self, push: Push, shutdown: CancellationToken) -> Result<(), SourceError> {
        let config = self.config().await?;
        push(PlaneEvent::Source(format!("Kubernetes API {}", config.cluster_url)));
        // Before anything else is told: what is not known of these is not so for that.
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Nodes);
        let resources: BTreeSet<Resource> = kinds.flat_map(Kind::resources).copied().collect();
        for resource in resources {
            push(PlaneEvent::Watch(resource, Watched::Unlisted(None)));
        }
        let client = Client::try_from(config).map_err(|error| SourceError::Access(chain(&error)))?;
        let shared = Arc::new(Shared {
            client,
            push,
            gathered: Mutex::default(),
            found: watch::channel(None).0,
            definitions: Notify::new(),
            labels: watch::channel(BTreeSet::new()).0,
        });
        supervise(&shared, &shutdown).await;
        Ok(())
    }
}

/// Runs all tasks until `shutdown`; one that ends is said, and started again.
async fn supervise(shared: &Arc<Shared>, shutdown: &CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut known = BTreeMap::new();
    for task in Task::all() {
        let handle = tasks.spawn(task.run(Arc::clone(shared)));
        known.insert(handle.id(), task);
    }
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = tasks.join_next_with_id() => ended,
        };
        let (id, why) = match ended {
            None => return,
            Some(Ok((id, ()))) => (id, "it ended".to_owned()),
            Some(Err(error)) => (error.id(), error.to_string()),
        };
        let Some(task) = known.remove(&id) else { continue };
        tracing::error!(
            ?task,
            why,
            "a task of the control plane's watches ended; it is started again"
        );
        if let Task::Watch(kind) = task {
            let broken = Watched::Broken(format!("its watch failed: {why}"));
            if kind == Kind::Nodes {
                (shared.push)(PlaneEvent::Watch(kind.resource(), broken.clone()));
            }
            shared.gathered().fares(kind, broken);
        }
        let again = Arc::clone(shared);
        let handle = tasks.spawn(async move {
            tokio::time::sleep(AGAIN).await;
            task.run(again).await;
        });
        known.insert(handle.id(), task);
    }
}

/// Tells what was gathered.
async fn telling(shared: &Shared) {
    let mut ticks = tokio::time::interval(TELL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        count = count.wrapping_add(1);
        let (events, labels) = {
            let mut gathered = shared.gathered();
            (gathered.changes(count.is_multiple_of(ALL)), gathered.label_keys())
        };
        for event in events {
            (shared.push)(event);
        }
        shared.labels.send_if_modified(|known| {
            let differs = *known != labels;
            if differs {
                *known = labels;
            }
            differs
        });
    }
}

/// Discovers, again and again.
async fn discovering(shared: &Shared) {
    loop {
        match discover::discover(&shared.client).await {
            Ok(found) => {
                _ = shared.found.send_if_modified(|known| {
                    let differs = known.as_ref() != Some(&found);
                    if differs {
                        *known = Some(found);
                    }
                    differs
                })
            }
            Err(trouble) => {
                let why = format!("discovery failed: {}", keep::words(&trouble));
                tracing::warn!(why, "which kinds of objects exist cannot be told");
                if shared.found.borrow().is_none() {
                    let mut gathered = shared.gathered();
                    for kind in Kind::ALL.into_iter().filter(|kind| discover::fixed(*kind).is_none()) {
                        gathered.fares(kind, Watched::Broken(why.clone()));
                    }
                }
            }
        }
        tokio::select! {
            () = shared.definitions.notified() => tokio::time::sleep(ESTABLISH).await,
            () = tokio::time::sleep(DISCOVER) => {}
        }
    }
}
