//! Carrying a plan out: one node after the other, step by step, each seen to be done before the next.
//!
//! Every step is written so that it can be begun anew at any point: it looks at what is there, does what is missing, and is
//! over when it sees that it is done. What a step needs to know of an earlier one is on the Lease before it acts.

mod abort;
mod announce;
mod drain;
mod errand;
mod halt;
mod hand;
mod holder;
mod kubelet;
mod lease;
mod made;
mod node;
mod pods;
mod probe;
mod record;
mod rights;
mod rotate;
mod shelf;
mod shell;
mod standing;
mod state;
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

pub use self::halt::Halt;
pub use self::holder::Holder;
pub use self::lease::{Held, LEASE, LeaseError, Want, look};
pub use self::record::{Over, Planned, Record, Work};
pub use self::shell::template;
pub use self::standing::{Standing, standing};
pub use self::window::Window;
use super::ground::Ground;
use super::plan::{Does, Method, NodePlan, Step};
use super::planner;
use crate::cluster::ReportState;
use crate::correlate::words::count;
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
    /// Nodes are only begun within it, and those that stopped only gone on with, until they are deleted.
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
        self.record.stopped = ended.as_ref().err().map(ToString::to_string);
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
        if let Some(work) = self.record.work.as_ref().filter(|work| window::may_wait(work)) {
            self.timely(&work.plan.node, "gone on with")?;
        }
        // Whoever goes on with it may be somebody else.
        if let Some(work) = self.record.work.as_ref().filter(|work| !work.deleting) {
            self.entitled(&work.plan).await?;
        }
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
        self.record.over.push(Over { node, failed });
        self.save().await
    }

    /// Plans the next node anew and holds that against what was agreed to. False: there is no next one.
    async fn begin(&mut self, cancel: &CancellationToken) -> Result<bool, Halt> {
        let Some(next) = self.record.queue.first().cloned() else {
            return Ok(false);
        };
        self.timely(&next.node, "begun")?;
        let planned = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Halt::Interrupted),
            planned = self.agreed(&next) => planned?,
        };
        let Some((plan, stood)) = planned else {
            self.tell(format!("{}: nothing to do any more", next.node));
            self.record.queue.retain(|other| other.node != next.node);
            self.record.over.push(Over {
                node: next.node,
                failed: None,
            });
            self.save().await?;
            return Ok(true);
        };
        let node = self.there(&plan.node).await?;
        let node = node.filter(|node| node.metadata.uid.as_deref() == Some(&plan.uid));
        let node = node.ok_or_else(|| Halt::Stop(format!("Node {} is another one now: plan again", plan.node)))?;
        self.entitled(&plan).await?;
        self.admitted(&plan).await?;
        self.record.work = Some(Work {
            plan,
            at: 0,
            cordoned: false,
            saved: Box::new(record::saved(&node)),
            made: None,
            deleting: false,
            told: false,
            stood,
        });
        self.save().await?;
        Ok(true)
    }

    /// The plan of a node as of now, and what stands of it; `None`: it needs none.
    async fn agreed(&self, next: &Planned) -> Result<Option<(NodePlan, Vec<String>)>, Halt> {
        let began = tokio::time::Instant::now();
        // Pods of other nodes are not listed for each node. That it is as agreed may rest on what was listed before; that it is
        // not is only said of what is there now.
        let mut whole = true;
        loop {
            whole = !whole;
            let node = (!whole).then_some(next.node.as_str());
            let ground = self.eyes.ground(node).await.map_err(Halt::Stop)?;
            let mut plan = planner::plan(&ground, &self.record.wish);
            let found = plan.nodes.iter().find(|plan| plan.node == next.node);
            let as_agreed =
                found.is_some_and(|plan| plan.blocked.is_empty() && next.moved(plan).is_none() && !rests_on_pods(plan));
            if !whole && !as_agreed {
                continue;
            }
            let Some(at) = plan.nodes.iter().position(|plan| plan.node == next.node) else {
                let hand = plan.by_hand.iter().find(|hand| hand.nodes.contains(&next.node));
                if let Some(hand) = hand {
                    return Err(Halt::Stop(format!(
                        "{} cannot be planned any more: {}: {}",
                        next.node, hand.finding, hand.why
                    )));
                }
                // A node whose agent is quiet shows no findings either.
                let view = ground.nodes.get(&next.node).and_then(|node| node.view.as_ref());
                if view.is_some_and(|view| view.summary.report == ReportState::Live) {
                    return Ok(None);
                }
                if began.elapsed() >= AFTERMATH {
                    let text = format!("the agent of {} does not report: what it needs is not known", next.node);
                    return Err(Halt::Stop(text));
                }
                tokio::time::sleep(LOOK * 6).await;
                continue;
            };
            let plan = plan.nodes.swap_remove(at);
            if next.came_up(&plan) && began.elapsed() < AFTERMATH {
                let text = "a kube-controller-manager runs now, which may end at its start once more";
                self.tell(format!("{} waits: {text}", next.node));
                tokio::time::sleep(LOOK * 6).await;
                continue;
            }
            if let Some(moved) = next.moved(&plan) {
                return Err(Halt::Stop(format!("the ground has moved: {moved}: plan again")));
            }
            let Some(why) = plan.blocked.first() else {
                let stood = ground.findings.iter().filter(|finding| verify::of(finding, &next.node));
                return Ok(Some((plan, stood.map(|finding| finding.id.clone()).collect())));
            };
            if began.elapsed() >= AFTERMATH {
                return Err(Halt::Stop(format!("{} must not be begun: {why}", next.node)));
            }
            self.tell(format!("{} waits: {why}", next.node));
            tokio::time::sleep(LOOK * 6).await;
        }
    }

    async fn steps(&mut self, cancel: &CancellationToken) -> Result<(), Halt> {
        loop {
            let work = self.work()?;
            let Some(step) = work.plan.steps.get(work.at).cloned() else {
                return Ok(());
            };
            // Between its deletion and its making a Node is nobody's: that is not left half done.
            let whole = step.does == Does::Recreate;
            if cancel.is_cancelled() {
                return Err(hand::interrupted(&step));
            }
            self.held.sure().await?;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(hand::interrupted(&step)),
                unmoved = self.unmoved(&step.does) => unmoved?,
            }
            self.tell(title(&step.does));
            if whole {
                self.step(&step.does).await?;
            } else {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(hand::interrupted(&step)),
                    done = self.step(&step.does) => done?,
                }
            }
            if let Some(work) = &mut self.record.work {
                work.at += 1;
            }
            self.save().await?;
        }
    }

    async fn step(&mut self, does: &Does) -> Result<(), Halt> {
        match does {
            Does::Cordon => self.cordon().await,
            Does::Drain => self.drain().await,
            Does::RemoveFile { path, containing } => self.remove_file(path, containing).await,
            Does::RemoveLink { name, addresses } => self.remove_link(name, addresses).await,
            Does::Render { path, socket } => self.render(path, socket).await,
            Does::Recreate => self.recreate().await,
            Does::Rotate => self.rotate().await,
            Does::Assign => self.assign().await,
            Does::Controllers => self.controllers().await,
            Does::Adopt => self.adopt().await,
            Does::RestartDaemon { pod } => self.restart_daemon(pod).await,
            Does::RemoveRoute { prefix, by } => self.remove_route(*prefix, *by).await,
            Does::RemoveLeases { directory, leases } => self.remove_leases(directory, leases).await,
            Does::RestartKubelet => self.restart_kubelet().await,
            Does::Reach { nodes } => self.reach(nodes).await,
            Does::Announce { nodes } => self.announce(nodes).await,
            Does::ReplacePods { .. } => self.replace_pods().await,
            Does::ByHand => self.by_hand().await,
            Does::Verify => self.verify().await,
            Does::Uncordon => self.uncordon().await,
        }
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

/// Whether it is planned only because no pod anywhere has an address of something: a route that would be missed.
fn rests_on_pods(plan: &NodePlan) -> bool {
    let route = |step: &Step| matches!(step.does, Does::RemoveRoute { .. });
    plan.method != Method::Swap && plan.steps.iter().any(route)
}

/// What a step is called while it runs.
pub fn title(does: &Does) -> String {
    match does {
        Does::Cordon => "cordon".to_owned(),
        Does::Drain => "drain".to_owned(),
        Does::RemoveFile { path, .. } => format!("remove {path}"),
        Does::RemoveLink { name, .. } => format!("remove device {name}"),
        Does::Render { path, .. } => format!("have {path} rendered anew"),
        Does::Recreate => "delete the Node and make it again".to_owned(),
        Does::Rotate => "delete the Node and have its kubelet register it anew".to_owned(),
        Does::Assign => "give the Node its CIDRs".to_owned(),
        Does::Controllers => "wait for a kube-controller-manager".to_owned(),
        Does::Adopt => "wait until its kubelet has taken the Node over".to_owned(),
        Does::RestartDaemon { pod } => format!("restart the CNI's pod {pod}"),
        Does::RemoveRoute { prefix, by } => format!("remove the route {}", by.route(*prefix)),
        Does::RemoveLeases { directory, leases } => {
            format!("remove {} from {directory}", count(leases.len(), "lease", "leases"))
        }
        Does::RestartKubelet => "have its kubelet restarted".to_owned(),
        Does::Reach { nodes } => format!("see that it leads to {}", nodes.join(", ")),
        Does::Announce { nodes } => format!("see that every node leads to {}", nodes.join(", ")),
        Does::ReplacePods { .. } => "replace pods with addresses of another range".to_owned(),
        Does::ByHand => "a step for your own hands".to_owned(),
        Does::Verify => "verify".to_owned(),
        Does::Uncordon => "uncordon".to_owned(),
    }
}
