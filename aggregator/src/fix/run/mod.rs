//! Carrying a plan out: one node after the other, step by step, each seen to be done before the next.
//!
//! Every step is written so that it can be begun anew at any point: it looks at what is there, does what is missing, and is
//! over when it sees that it is done. What a step needs to know of an earlier one is on the Lease before it acts.

mod abort;
mod agreed;
mod announce;
mod begin;
mod beside;
mod drain;
mod errand;
mod halt;
mod hand;
mod holder;
mod kubelet;
mod lease;
mod made;
mod node;
mod notes;
mod pods;
mod probe;
mod record;
mod rights;
mod rotate;
mod shelf;
mod shell;
mod sound;
mod standing;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod verify;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use cidrift_proto::finding::Finding;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use self::agreed::Planned;
pub use self::halt::Halt;
pub use self::holder::Holder;
pub use self::lease::{Held, LEASE, LeaseError, Want, look};
pub use self::record::{Over, Record, Work};
pub use self::shell::template;
#[cfg(test)]
pub(crate) use self::sound::possible;
pub use self::standing::{Standing, standing};
pub use self::window::Window;
use super::ground::Ground;
use super::plan::{Does, NodePlan};
use crate::query::answer::{NodeAnswer, PathRow};

/// On a Node that a fix works on: the id of its record. Who cordoned it is told by that.
pub const MARK: &str = "cidrift.dev/fix";

/// After a node, the next one may be blocked for a moment: pods that start, budgets that are counted again.
const AFTERMATH: Duration = Duration::from_secs(90);

/// From one look at something that is waited for to the next.
const LOOK: Duration = Duration::from_millis(500);

/// What a last look may take: whoever stops may do so because nobody answers.
const BRIEFLY: Duration = Duration::from_secs(20);

/// So many nodes may fail before nothing more is tried.
const FAILURES: usize = 2;

/// How long things may take, and the operator's own commands.
#[derive(Debug, Clone)]
pub struct Settings {
    /// cidrift's namespace.
    pub namespace: String,
    /// A drain.
    pub drain: Duration,
    /// A node that comes back, this one or another, and a pod that starts.
    pub patience: Duration,
    /// Until everything that shows that it worked is seen.
    pub verify: Duration,
    /// Instead of telling the runtime the CIDR: restarts the kubelet of `{node}`.
    pub restart: Option<String>,
    /// Once a node has its CIDRs and before that is verified: for data planes that nobody else tells, with `{node}`, `{cidrs}`.
    pub after: Option<String>,
    /// Nodes are only begun within it, and those that stopped only gone on with where they are yet to be drained or deleted.
    pub window: Option<Window>,
}

/// What the aggregator sees.
#[expect(async_fn_in_trait, reason = "one program, one thread: nobody sends these")]
pub trait Eyes {
    /// Everything that a plan rests on. Where a node is named, pods of others may be as they were some minutes ago.
    async fn ground(&self, node: Option<&str>) -> Result<Ground, String>;
    /// One node.
    async fn node(&self, name: &str) -> Result<NodeAnswer, String>;
    /// What stands.
    async fn findings(&self) -> Result<Vec<Finding>, String>;
    /// Where packets between each of these nodes and one end, a node or a pod's address, land.
    async fn paths(&self, from: &[String], to: &str) -> Ways;
}

/// Both ways of each node that was asked about, or why they are not known.
pub type Ways = BTreeMap<String, Result<PathRow, String>>;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// When.
    pub at: Timestamp,
    /// Of which node; empty: of the whole fix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The step's number, from 1, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<(usize, usize)>,
    /// What.
    pub text: String,
}

/// A fix that runs.
pub struct Runner<'a, E> {
    client: Client,
    eyes: &'a E,
    held: Held,
    settings: &'a Settings,
    tell: &'a dyn Fn(&Progress),
    /// While evictions are still to be asked for, other nodes are looked at that often.
    crowd: Duration,
    /// As it is on the Lease, or is about to be.
    pub record: Record,
    /// Whether the node where it stopped was seen to be cordoned then; `None`: that was not seen.
    pub cordoned: Option<bool>,
}

impl<'a, E: Eyes> Runner<'a, E> {
    /// One whose Lease is held.
    pub fn new(
        client: Client,
        eyes: &'a E,
        (held, record): (Held, Record),
        settings: &'a Settings,
        tell: &'a dyn Fn(&Progress),
    ) -> Self {
        Self {
            client,
            eyes,
            held,
            settings,
            tell,
            crowd: drain::CROWD,
            record,
            cordoned: None,
        }
    }

    /// Goes on until all is done, or something stops it; then the Lease is given back, with what is to be known.
    ///
    /// # Errors
    ///
    /// Why it stopped. The record says where.
    pub async fn run(&mut self, cancel: &CancellationToken) -> Result<(), Halt> {
        let ended = self.renewed(Self::all, cancel).await;
        self.end(ended).await
    }

    /// Takes back what can be taken back, and forgets the rest.
    ///
    /// # Errors
    ///
    /// Why it cannot be taken back.
    pub async fn abort(&mut self, cancel: &CancellationToken) -> Result<(), Halt> {
        let ended = self.renewed(Self::back, cancel).await;
        self.end(ended).await
    }

    /// Does something while the Lease is renewed beside it.
    async fn renewed(
        &mut self,
        act: impl AsyncFnOnce(&mut Self, &CancellationToken) -> Result<(), Halt>,
        cancel: &CancellationToken,
    ) -> Result<(), Halt> {
        let keep = self.held.clone().keep();
        tokio::select! {
            biased;
            ended = act(self, cancel) => ended,
            lost = keep => Err(lost),
        }
    }

    async fn end(&mut self, ended: Result<(), Halt>) -> Result<(), Halt> {
        if let (Err(_), Some(work)) = (&ended, &self.record.work) {
            // What others did to it meanwhile is not on the record.
            let name = &work.plan.node;
            let rest = tokio::time::timeout(BRIEFLY, self.at_rest(name)).await;
            let rest = rest.unwrap_or_else(|_| Err(Halt::Stop("the API server does not answer".to_owned())));
            self.tell(match &rest {
                Ok(rest) => rest.to_string(),
                Err(why) => format!("how {name} is now is not known: {why}"),
            });
            self.cordoned = rest.ok().map(|rest| rest.cordoned());
        }
        if matches!(ended, Err(Halt::Lost(_))) {
            return ended;
        }
        self.record.stopped = ended.as_ref().err().map(|halt| record::why(halt.to_string()));
        let released = self.held.clone().release(&self.record).await;
        // What went wrong first is what matters.
        ended.and(released)
    }

    fn tell(&self, text: impl Into<String>) {
        let work = self.record.work.as_ref();
        let step = work.filter(|work| work.at < work.plan.steps.len());
        (self.tell)(&Progress {
            at: Timestamp::now(),
            node: work.map(|work| work.plan.node.clone()).unwrap_or_default(),
            step: step.map(|work| (work.at + 1, work.plan.steps.len())),
            text: text.into(),
        });
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    async fn save(&self) -> Result<(), Halt> {
        self.held.save(&self.record).await
    }

    /// What is worked on; only asked where something is.
    fn work(&self) -> Result<&Work, Halt> {
        let none = || Halt::Stop("no node is being worked on".to_owned());
        self.record.work.as_ref().ok_or_else(none)
    }

    fn plan(&self) -> Result<&NodePlan, Halt> {
        Ok(&self.work()?.plan)
    }

    async fn all(&mut self, cancel: &CancellationToken) -> Result<(), Halt> {
        self.may_go_on().await?;
        loop {
            if self.record.work.is_none() && !self.begin(cancel).await? {
                return Ok(());
            }
            if self.record.work.is_none() {
                continue;
            }
            match self.steps(cancel).await {
                Ok(()) => {
                    self.over(None).await?;
                }
                Err(Halt::Stop(why)) => {
                    // Where that cannot be told it may be so.
                    if self.away().await.unwrap_or(true) {
                        return Err(Halt::Stop(why));
                    }
                    if self.record.failures() + 1 >= FAILURES {
                        return Err(Halt::Stop(format!(
                            "{why}; after {FAILURES} nodes that failed nothing more is tried"
                        )));
                    }
                    self.tell(format!("failed: {why}"));
                    self.over(Some(why)).await?;
                }
                Err(halt) => return Err(halt),
            }
        }
    }

    /// Whether what was begun may be gone on with, now and by this operator, who may be somebody else. A Node that is gone has to
    /// come back, whatever the time and whatever he may.
    async fn may_go_on(&self) -> Result<(), Halt> {
        let Some(work) = &self.record.work else { return Ok(()) };
        let gone = self.taken_away(work).await?;
        if window::may_wait(work, gone) {
            self.timely(&work.plan.node, "gone on with")?;
        }
        if gone {
            return Ok(());
        }
        self.entitled(&work.plan).await
    }

    /// Whether the node that is worked on takes no pods now, or may not for long: the next one would make two of it.
    async fn away(&self) -> Result<bool, Halt> {
        let work = self.work()?;
        let begun = work.plan.steps.iter().take(work.at + 1);
        let changed = |does: &Does| match does {
            // Its own pods' way; of others' it takes what led nowhere.
            Does::RemoveRoute { .. } => does.sets_up_pods(&work.plan.to),
            // Of sandboxes that are gone.
            Does::RemoveLeases { .. } => false,
            Does::RestartKubelet => true,
            _ => on_host(does),
        };
        let changed = work.cordoned || work.deleting || begun.into_iter().any(|step| changed(&step.does));
        let node = self.there(&work.plan.node).await?;
        let takes = |node: Node| state::ready(&node) && !state::marked(&node, &self.record.id);
        Ok(changed || !node.is_some_and(takes))
    }

    /// Done with the node that is worked on.
    async fn over(&mut self, failed: Option<String>) -> Result<(), Halt> {
        let node = self.plan()?.node.clone();
        if failed.is_none() {
            // A Node that somebody else had cordoned stays so, and is not uncordoned with its mark.
            if let Some(there) = self.there(&node).await?
                && state::marked(&there, &self.record.id)
            {
                self.unmark(&node, there.metadata.uid.as_deref()).await?;
            }
            self.tell("done");
        }
        self.record.work = None;
        self.record.queue.retain(|next| next.node != node);
        let failed = failed.map(record::why);
        self.record.over.push(Over { node, failed });
        self.save().await
    }
}

/// Steps that change a host.
fn on_host(does: &Does) -> bool {
    matches!(
        does,
        Does::RemoveFile { .. }
            | Does::RemoveLink { .. }
            | Does::RemoveLeases { .. }
            | Does::RemoveRoute { .. }
            | Does::Render { .. }
    )
}
