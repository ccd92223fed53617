//! Nodes from the Kubernetes API: listed, then watched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use kube::{Api, Client, Config};
use tokio_util::sync::CancellationToken;

use super::node::record;
use super::{Push, Source, SourceError, chain};
use crate::cluster::{ControlPlane, NodeRecord};

/// While nothing changes, the watch is said to be right this often.
const STILL_SO: Duration = Duration::from_secs(10);

/// Events taken in at once before the state is pushed: a list comes in pages of 500.
const AT_ONCE: usize = 500;

/// The Kubernetes API.
#[derive(Debug, Clone, Default)]
pub struct Kubernetes {
    /// A kubeconfig; `None`: the one of the environment, or the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
}

/// Nodes as the watch tells them.
#[derive(Debug, Default)]
struct Nodes {
    plane: ControlPlane,
    /// A list that is not complete yet.
    listing: BTreeMap<String, NodeRecord>,
}

impl Nodes {
    /// Takes one event; true if the state is other than before.
    fn take(&mut self, event: Event<Node>, now: Timestamp) -> bool {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(node) => {
                if let Some(record) = record(&node, now) {
                    self.listing.insert(record.name.clone(), record);
                }
            }
            Event::InitDone => {
                self.plane.nodes = std::mem::take(&mut self.listing);
                self.plane.problem = None;
                self.plane.observed_at = Some(now);
                return true;
            }
            Event::Apply(node) => {
                self.plane.observed_at = Some(now);
                let Some(record) = record(&node, now) else { return false };
                let before = self.plane.nodes.insert(record.name.clone(), record.clone());
                return before.is_none_or(|before| !same(&before, &record));
            }
            Event::Delete(node) => {
                self.plane.observed_at = Some(now);
                let name = node.metadata.name.unwrap_or_default();
                return self.plane.nodes.remove(&name).is_some();
            }
        }
        false
    }
}

fn same(a: &NodeRecord, b: &NodeRecord) -> bool {
    let mut b = b.clone();
    b.changed_at = a.changed_at;
    *a == b
}

impl Kubernetes {
    async fn config(&self) -> Result<Config, SourceError> {
        match &self.kubeconfig {
            None => Config::infer()
                .await
                .map_err(|error| SourceError::Access(chain(&error))),
            Some(path) => {
                let shown = path.display();
                let read = Kubeconfig::read_from(path);
                let config = read.map_err(|error| SourceError::Access(format!("{shown}: {}", chain(&error))))?;
                Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
                    .await
                    .map_err(|error| SourceError::Access(format!("{shown}: {}", chain(&error))))
            }
        }
    }
}

impl Source for Kubernetes {
    async fn run(self, push: Push, shutdown: CancellationToken) -> Result<(), SourceError> {
        let config = self.config().await?;
        let server = format!("Kubernetes API {}", config.cluster_url);
        let client = Client::try_from(config).map_err(|error| SourceError::Access(chain(&error)))?;
        let nodes = Api::<Node>::all(client);
        let watch = || watcher::watcher(nodes.clone(), watcher::Config::default());
        follow(watch, DefaultBackoff::default(), server, &push, &shutdown).await;
        Ok(())
    }
}

/// Follows watches, a new one after each error: that one lists first, so that a
/// problem is over only when all Nodes have been seen anew.
async fn follow<S>(
    watch: impl Fn() -> S,
    mut backoff: impl Iterator<Item = Duration>,
    source: String,
    push: &Push,
    shutdown: &CancellationToken,
) where
    S: Stream<Item = watcher::Result<Event<Node>>> + Send,
{
    let mut nodes = Nodes::default();
    nodes.plane.source = source;
    loop {
        let error = tokio::select! {
            () = shutdown.cancelled() => return,
            error = one(watch(), &mut nodes, push) => error,
        };
        tracing::warn!(error, "the watch of Nodes broke; the last state stands");
        nodes.plane.problem = Some(error);
        push(nodes.plane.clone());
        let wait = backoff.next().unwrap_or(STILL_SO);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Follows one watch until it fails; gives the reason.
async fn one<S>(watch: S, nodes: &mut Nodes, push: &Push) -> String
where
    S: Stream<Item = watcher::Result<Event<Node>>> + Send,
{
    let mut events = pin!(watch.ready_chunks(AT_ONCE));
    let mut still_so = tokio::time::interval(STILL_SO);
    still_so.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let chunk = tokio::select! {
            chunk = events.next() => chunk,
            _ = still_so.tick() => {
                if nodes.plane.problem.is_none() && nodes.plane.observed_at.is_some() {
                    nodes.plane.observed_at = Some(Timestamp::now());
                    push(nodes.plane.clone());
                }
                continue;
            }
        };
        let Some(chunk) = chunk else {
            return "the watch ended".to_owned();
        };
        let now = Timestamp::now();
        let mut changed = false;
        let mut broken = None;
        for event in chunk {
            match event {
                Ok(event) => changed |= nodes.take(event, now),
                Err(error) => broken = Some(chain(&error)),
            }
        }
        if changed {
            push(nodes.plane.clone());
        }
        if let Some(error) = broken {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::stream;

    use super::*;

    fn node(name: &str, cidr: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        }))
        .unwrap()
    }

    /// Runs over these watches, one after the other, and gives all states pushed.
    async fn states(watches: Vec<Vec<watcher::Result<Event<Node>>>>) -> Vec<ControlPlane> {
        let pushed = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let (log, end) = (Arc::clone(&pushed), shutdown.clone());
        let push: Push = Box::new(move |plane| log.lock().unwrap().push(plane));
        let left = Mutex::new(watches.into_iter());
        let watch = || match left.lock().unwrap().next() {
            Some(events) => stream::iter(events).boxed(),
            None => {
                end.cancel();
                stream::pending().boxed()
            }
        };
        let at_once = std::iter::repeat(Duration::ZERO);
        follow(watch, at_once, "test".to_owned(), &push, &shutdown).await;
        let pushed = pushed.lock().unwrap();
        pushed.clone()
    }

    #[tokio::test]
    async fn nodes_are_told_only_once_all_are_listed() {
        let states = states(vec![vec![
            Ok(Event::Init),
            Ok(Event::InitApply(node("a", "10.244.1.0/24"))),
            Ok(Event::InitApply(node("b", "10.244.2.0/24"))),
            Ok(Event::InitDone),
            Ok(Event::Delete(node("a", "10.244.1.0/24"))),
        ]])
        .await;
        assert_eq!(states[0].nodes.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(states[0].problem, None);
    }

    #[tokio::test]
    async fn a_broken_watch_keeps_what_is_known_and_says_so_until_all_is_listed_again() {
        let first = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(node("a", "10.244.1.0/24"))),
            Ok(Event::InitDone),
            Err(watcher::Error::NoResourceVersion),
        ];
        let torn = vec![Ok(Event::Init), Err(watcher::Error::NoResourceVersion)];
        let again = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(node("a", "10.244.9.0/24"))),
            Ok(Event::InitDone),
        ];
        let states = states(vec![first, torn, again]).await;
        let problems: Vec<bool> = states.iter().map(|plane| plane.problem.is_some()).collect();
        assert_eq!(problems[..4], [false, true, true, false]);
        assert!(
            states[..3]
                .iter()
                .all(|plane| plane.nodes["a"].pod_cidrs_raw == ["10.244.1.0/24"])
        );
        assert_eq!(states[3].nodes["a"].pod_cidrs_raw, ["10.244.9.0/24"]);
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let source = Kubernetes {
            kubeconfig: Some(PathBuf::from("/nonexistent/kubeconfig")),
        };
        let run = source.run(Box::new(|_| {}), CancellationToken::new());
        let error = run.await.unwrap_err().to_string();
        assert!(
            error.contains("/nonexistent/kubeconfig") && error.contains("--kubeconfig"),
            "{error}"
        );
    }
}
