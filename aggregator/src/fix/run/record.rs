//! What is kept of a fix while it runs, in the Lease: enough to go on from another machine, or to go back.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use super::agreed::Planned;
use crate::fix::plan::{Does, NodePlan};
use crate::fix::planner::Wish;

/// A fix, from its first node to its last. What a later version has added is refused by an earlier one, which would drop it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// What its marks on Nodes and pods say.
    pub id: String,
    /// When it was begun.
    pub begun: Timestamp,
    /// Who began it, as "user@host".
    pub by: String,
    /// What was wished when its plan was made.
    pub wish: Wish,
    /// Nodes that are still to come, in this order, as they were planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Planned>,
    /// The node that is being worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Nodes that are over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<Over>,
    /// Why it does not go on by itself; `None`: it runs, or whoever ran it has vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

impl Record {
    /// Whether anything is left to do, or to take back.
    pub fn unfinished(&self) -> bool {
        self.work.is_some() || !self.queue.is_empty()
    }

    /// That it is not finished, and where it stopped.
    pub(super) fn left(&self) -> String {
        let why = self.stopped.as_deref().unwrap_or("who ran it has vanished");
        let at = match (&self.work, self.queue.first()) {
            (Some(work), _) => format!(" at {}", work.plan.node),
            (None, Some(next)) => format!(" before {}", next.node),
            (None, None) => String::new(),
        };
        format!(
            "the fix of {} that was begun at {:.0} is not finished: it stopped{at}: {why}",
            self.by, self.begun
        )
    }

    /// Nodes that failed.
    pub fn failures(&self) -> usize {
        self.over.iter().filter(|over| over.failed.is_some()).count()
    }
}

/// A node that is being worked on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Work {
    /// What is done.
    pub plan: NodePlan,
    /// The step that is under way, or the next one: those before it are done.
    pub at: usize,
    /// It is cordoned by this fix, and only then uncordoned by it.
    #[serde(default)]
    pub cordoned: bool,
    /// Its Node before anything was done, without its status.
    pub saved: Box<Node>,
    /// The Node that was deleted has been made anew, with this UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<String>,
    /// Deletion of its Node was decided: from here on it may be missing.
    #[serde(default)]
    pub deleting: bool,
    /// Of earlier versions, which took a step for the operator's own hands for done once it was shown: it says nothing.
    #[serde(default, skip_serializing)]
    pub told: bool,
    /// Findings that stood of it before, by id: those are no surprise.
    #[serde(default)]
    pub stood: Vec<String>,
}

impl Work {
    /// UID that its Node has to have now.
    pub fn uid(&self) -> &str {
        self.made.as_deref().unwrap_or(&self.plan.uid)
    }

    /// The file of its host that was removed. By the step that was under way it may have been, too: that it was done is written
    /// down later.
    pub fn removed(&self) -> Option<&str> {
        let perhaps = self.plan.steps.iter().take(self.at.saturating_add(1));
        let mut files = perhaps.filter_map(|step| match &step.does {
            Does::RemoveFile { path, .. } => Some(path.as_str()),
            _ => None,
        });
        files.next()
    }

    /// Where its runtime is asked, as its plan says: its agent may be quiet by now.
    pub(super) fn socket(&self) -> Option<&str> {
        let mut steps = self.plan.steps.iter();
        steps.find_map(|step| match &step.does {
            Does::Render { socket, .. } => Some(socket.as_str()),
            _ => None,
        })
    }

    /// Whether there may be no such Node: its deletion was decided, and it is not known to have come again.
    pub fn missing(&self) -> bool {
        self.deleting && !self.swapped()
    }

    /// Whether the Node is not the one from before any more.
    pub fn swapped(&self) -> bool {
        self.made.is_some()
    }
}

/// A node that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Over {
    /// Its name.
    pub node: String,
    /// Why it failed; `None`: it is mended, or needed nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What is kept of why something failed, bytes: it may name every pod of a node.
const WHY: usize = 4 << 10;

/// A reason, as it is kept.
pub(super) fn why(mut text: String) -> String {
    if text.len() > WHY {
        text.truncate(text.floor_char_boundary(WHY));
        text.push('…');
    }
    text
}

/// A Node as it can be made again: without what the API server and controllers write.
#[must_use]
pub(super) fn saved(node: &Node) -> Node {
    let mut kept = node.clone();
    kept.status = None;
    kept.metadata.managed_fields = None;
    kept.metadata.resource_version = None;
    kept.metadata.creation_timestamp = None;
    kept.metadata.deletion_timestamp = None;
    kept.metadata.deletion_grace_period_seconds = None;
    kept.metadata.generation = None;
    kept
}
