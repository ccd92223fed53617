//! Answers as one who asks gets them: plain, and what `-o json` prints. Fields
//! are added to them, never renamed.

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::Finding;
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::verdict::{CidrVerdict, Standing};
use serde::Serialize;

use crate::summary::{Health, IpamReport, NodeSummary, Status};

/// The cluster in a few figures, and who counted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusAnswer {
    /// The aggregator's version.
    pub aggregator_version: String,
    /// Set where the aggregator identifies nobody: what that means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_warning: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub status: Status,
}

/// One node with everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeAnswer {
    /// The row.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// Its facts, as its agent last told them.
    pub facts: Option<HostFacts>,
    /// Where its packets to every pod CIDR land.
    pub verdicts: Vec<CidrVerdict>,
    /// Standing findings that name it; `findings` in the row has the ids of the open ones.
    #[serde(rename = "standing_findings")]
    pub findings: Vec<Finding>,
    /// Its forwarding table, as far as it was reported.
    pub entries: Vec<ForwardingEntry>,
    /// What allocates its pods' addresses; `None`: the control plane does not have it.
    pub classification: Option<IpamReport>,
}

/// Where packets between two nodes land.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathAnswer {
    /// The node that sends.
    pub from: String,
    /// The node that receives.
    pub to: String,
    /// From the one to the other, for each pod CIDR of the latter that was asked about.
    pub forward: Vec<CidrVerdict>,
    /// And back.
    pub backward: Vec<CidrVerdict>,
    /// Both ways together.
    pub health: Health,
}

impl PathAnswer {
    /// Broken wins over unknown, unknown over healthy; a way without any verdict is unknown.
    pub fn judge(forward: &[CidrVerdict], backward: &[CidrVerdict]) -> Health {
        let standings = || forward.iter().chain(backward).map(|v| v.verdict.standing());
        if standings().any(|s| s == Standing::Broken) {
            Health::Findings
        } else if forward.is_empty() || backward.is_empty() || standings().any(|s| s != Standing::Delivered) {
            Health::Unknown
        } else {
            Health::Healthy
        }
    }
}

/// Where packets between one node and others land.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathsAnswer {
    /// The node that receives.
    pub to: String,
    /// All ways of all of them together.
    pub health: Health,
    /// By the name of the node that sends.
    pub rows: Vec<PathRow>,
}

/// Both ways between a node and the one that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathRow {
    /// The node that sends.
    pub from: String,
    /// There.
    pub forward: WayAnswer,
    /// And back.
    pub backward: WayAnswer,
}

impl PathRow {
    /// Both ways together, as [`PathAnswer::judge`] has it.
    pub fn health(&self) -> Health {
        worst([self.forward.health, self.backward.health])
    }
}

impl From<PathAnswer> for PathRow {
    fn from(path: PathAnswer) -> Self {
        Self {
            from: path.from,
            forward: WayAnswer::of(path.forward),
            backward: WayAnswer::of(path.backward),
        }
    }
}

/// One direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WayAnswer {
    /// All its verdicts together.
    pub health: Health,
    /// Those that are not of packets that arrive; without landings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<CidrVerdict>,
}

impl WayAnswer {
    /// Of these verdicts.
    pub fn of(mut verdicts: Vec<CidrVerdict>) -> Self {
        let health = PathAnswer::judge(&verdicts, &verdicts);
        verdicts.retain(|verdict| verdict.verdict.standing() != Standing::Delivered);
        for verdict in &mut verdicts {
            verdict.landings.clear();
        }
        Self {
            health,
            wrong: verdicts,
        }
    }
}

/// Broken wins over unknown, unknown over healthy; of nothing nothing is known.
pub fn worst(all: impl IntoIterator<Item = Health>) -> Health {
    let rank = |health: &Health| match health {
        Health::Healthy => 0,
        Health::Unknown => 1,
        Health::Findings => 2,
    };
    all.into_iter().max_by_key(rank).unwrap_or(Health::Unknown)
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WatchEvent {
    /// A finding that stands, or changed.
    Finding {
        /// It.
        finding: Box<Finding>,
    },
    /// What stood at the start has all been told.
    Synced,
    /// Too slow: so many changes were left out, and what stands is told anew.
    Lagged {
        /// How many.
        missed: u64,
    },
}
