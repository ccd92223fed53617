//! Whether the other nodes lead to a node, and having those look again that do not.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call};
use super::{Eyes, LOOK, Runner};
use crate::fix::gather;
use crate::fix::ground::PodGround;
use crate::summary::Health;

/// Daemons that hear of a Node have made their routes within this; those that have not by then do not hear of it.
const HEARD: Duration = Duration::from_secs(15);

impl<E: Eyes> Runner<'_, E> {
    /// The names of all Nodes.
    pub(super) async fn names(&self) -> Result<Vec<String>, Halt> {
        let api = self.nodes();
        let mut names = Vec::new();
        let list = async |page: &ListParams| call(async || api.list_metadata(page).await).await;
        let listed = gather::pages(&ListParams::default(), list, |node| names.push(node.name_any())).await;
        listed.map_err(|error| Halt::api("list Nodes", &error))?;
        Ok(names)
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
        let (mut deaf, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for to in nodes {
            let others: Vec<String> = all.iter().filter(|from| *from != to).cloned().collect();
            for (from, row) in self.eyes.paths(&others, to).await {
                // Only the way there: the way back is the other one's.
                match row.map_or(Health::Unknown, |row| row.forward.health) {
                    Health::Findings => deaf.insert(from),
                    Health::Unknown => unknown.insert(from),
                    Health::Healthy => false,
                };
            }
        }
        (deaf, unknown)
    }

    async fn daemon_on(&self, node: &str) -> Result<Option<String>, Halt> {
        let pods = self.pods_on(node).await?;
        let daemons = pods.iter().map(gather::pod).filter(PodGround::networks);
        Ok(daemons.map(|pod| pod.key).next())
    }
}
