//! Whether the other nodes lead to a node, and having those look again that do not.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call};
use super::verify::AT_ONCE;
use super::{Eyes, LOOK, Runner};
use crate::fix::gather;
use crate::query::answer::PathAnswer;
use crate::summary::Health;

/// Daemons that hear of a Node have made their routes within this; those that have not by then do not hear of it.
const HEARD: Duration = Duration::from_secs(15);

impl<E: Eyes> Runner<'_, E> {
    /// The names of all Nodes.
    pub(super) async fn names(&self) -> Result<Vec<String>, Halt> {
        let api = self.nodes();
        let all = call(async || api.list_metadata(&ListParams::default()).await).await;
        let all = all.map_err(|error| Halt::api("list Nodes", &error))?;
        Ok(all.items.iter().map(ResourceExt::name_any).collect())
    }

    /// Over once no node's packets for one of these are known to go astray. Whose do has its CNI's pod restarted, once and one
    /// after the other.
    pub(super) async fn announce(&self, nodes: &[String]) -> Result<(), Halt> {
        let all = self.names().await?;
        self.led(&all, nodes).await
    }

    /// The same of the node that is worked on alone: it must be known that it leads to all of these.
    pub(super) async fn reach(&self, nodes: &[String]) -> Result<(), Halt> {
        let own = [self.plan()?.node.clone()];
        self.led(&own, nodes).await?;
        let (deaf, unknown) = self.deaf(&own, nodes).await;
        if deaf.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        let (own, nodes) = (own.concat(), nodes.join(", "));
        Err(Halt::Stop(format!(
            "whether packets of {own} reach {nodes} is not known"
        )))
    }

    async fn led(&self, all: &[String], nodes: &[String]) -> Result<(), Halt> {
        let began = Instant::now();
        let mut restarted = BTreeSet::new();
        let mut last = String::new();
        loop {
            let (deaf, unknown) = self.deaf(all, nodes).await;
            let over = began.elapsed() >= self.settings.verify;
            // What is not known by then is not known to be wrong either: what is verified says it.
            if deaf.is_empty() && (unknown.is_empty() || over) {
                return Ok(());
            }
            let names = || deaf.iter().chain(&unknown).cloned().collect::<BTreeSet<_>>();
            let names = || names().into_iter().collect::<Vec<_>>().join(", ");
            if over {
                return Err(Halt::Stop(format!(
                    "packets of {} do not reach {}",
                    names(),
                    nodes.join(", ")
                )));
            }
            if began.elapsed() < HEARD {
                let text = format!("packets of {} do not reach {} yet", names(), nodes.join(", "));
                if text != last {
                    self.tell(text.clone());
                    last = text;
                }
            } else if let Some(node) = deaf.iter().find(|node| !restarted.contains(*node)) {
                restarted.insert(node.clone());
                if let Some(pod) = self.daemon_on(node).await? {
                    self.tell(format!("{node} does not look again by itself: restarts {pod}"));
                    self.restart_daemon_of(node, &pod).await?;
                }
            }
            sleep(LOOK * 2).await;
        }
    }

    /// Nodes whose packets for one of these are known not to arrive, and those of which it is not known.
    async fn deaf(&self, all: &[String], nodes: &[String]) -> (BTreeSet<String>, BTreeSet<String>) {
        let ways = all.iter().flat_map(|from| nodes.iter().map(move |to| (from, to)));
        let asked = stream::iter(ways.filter(|(from, to)| from != to).map(|(from, to)| async move {
            let health = match self.eyes.path(from, to).await {
                // Only the way there: the way back is the other one's.
                Ok(path) => PathAnswer::judge(&path.forward, &path.forward),
                Err(_) => Health::Unknown,
            };
            (from.clone(), health)
        }));
        let (mut deaf, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        let told: Vec<(String, Health)> = asked.buffer_unordered(AT_ONCE).collect().await;
        for (from, health) in told {
            match health {
                Health::Findings => deaf.insert(from),
                Health::Unknown => unknown.insert(from),
                Health::Healthy => false,
            };
        }
        (deaf, unknown)
    }

    async fn daemon_on(&self, node: &str) -> Result<Option<String>, Halt> {
        let pods = self.pods_on(node).await?;
        let daemons = pods
            .iter()
            .map(gather::pod)
            .filter(|pod| pod.daemon.as_deref().is_some_and(|kind| kind != "kube-proxy"));
        Ok(daemons.map(|pod| pod.key).next())
    }
}
