//! Claims and findings: what a rule says of the present, and the life the ledger gives it.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::catalogue::Code;
use crate::prefix::{prefix_from_wire, prefix_to_wire};
use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Will hurt, or hurts a little.
    Warning,
    /// Pod traffic or pod starts fail.
    Error,
    /// The cluster, or its next control-plane restart, fails.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

/// A piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Who says so: "kernel of node-a", "Node node-b", "/etc/cni/net.d/10-flannel.conflist on node-a".
    pub source: String,
    /// What it says.
    pub text: String,
    /// When that was observed, witness's clock.
    pub observed_at: Option<Timestamp>,
    /// The witness has gone quiet since.
    pub stale: bool,
}

/// One thing that a finding is about, besides its node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Affected {
    /// A prefix, where it is about one.
    pub prefix: Option<IpNet>,
    /// The other node, where there is one.
    pub node: Option<String>,
    /// One line: what is so with it.
    pub detail: String,
}

/// How many [`Affected`] rows and [`Evidence`] rows a claim carries at most;
/// `affected_total` counts the rest.
pub const ROWS: usize = 64;

/// What changed last: decides how long a claim is held before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// The host: what was right is not any more.
    Host,
    /// The control plane: the hosts may still be following.
    ControlPlane,
}

/// What a rule says about the present state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// Catalogue code.
    pub code: Code,
    /// With the code the stable identity: the node on which one must act, or
    /// the widest prefix of an overlap.
    pub subject: String,
    /// The catalogue's, or what the rule made of it.
    pub severity: Severity,
    /// All nodes concerned, the subject first where it is one.
    pub nodes: Vec<String>,
    /// One line.
    pub summary: String,
    /// What is affected, sorted, at most [`ROWS`].
    pub affected: Vec<Affected>,
    /// How many are affected in all.
    pub affected_total: u32,
    /// What it rests on, at most [`ROWS`].
    pub evidence: Vec<Evidence>,
    /// What was not visible when it was judged.
    pub unseen: Vec<String>,
    /// The likely cause, for this case.
    pub cause: String,
    /// The least destructive remedy, for this case; commands where there are some.
    pub remedy: String,
    /// When the newest fact that it rests on changed, witness's clock.
    pub changed_at: Option<Timestamp>,
    /// What changed last.
    pub trigger: Trigger,
}

impl Claim {
    /// The stable identity: "PATH01/node-a".
    pub fn id(&self) -> String {
        finding_id(self.code, &self.subject)
    }
}

/// The stable identity of a finding: "PATH01/node-a".
pub fn finding_id(code: Code, subject: &str) -> String {
    format!("{code}/{subject}")
}

/// Where a finding is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingState {
    /// Seen, not yet counted: it must last first.
    Pending,
    /// It counts.
    Open,
    /// Evidence showed that it is gone.
    Resolved,
    /// It went away while still pending: it never counted.
    Withdrawn,
}

impl fmt::Display for FindingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// A claim with its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// "PATH01/node-a".
    pub id: String,
    /// 1 the first time, then 2, …
    pub episode: u32,
    /// Where it is in its life.
    pub state: FindingState,
    /// What it says; the last thing it said, once it is resolved.
    #[serde(flatten)]
    pub claim: Claim,
    /// When it was first seen (this episode), aggregator's clock like all below.
    pub first_seen: Timestamp,
    /// When it began to count.
    pub opened_at: Option<Timestamp>,
    /// When it was resolved or withdrawn.
    pub resolved_at: Option<Timestamp>,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
    /// What showed that it is gone.
    pub resolution: Option<String>,
    /// Findings that explain this one.
    pub explained_by: Vec<String>,
    /// The witness has gone quiet: what stands here may be outdated.
    pub stale: bool,
}

impl Finding {
    /// Pending or open.
    pub fn stands(&self) -> bool {
        matches!(self.state, FindingState::Pending | FindingState::Open)
    }
}

impl From<Severity> for v1::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Error => Self::Error,
            Severity::Critical => Self::Critical,
        }
    }
}

fn severity_from_wire(value: i32) -> Result<Severity, Malformed> {
    Ok(
        match v1::Severity::try_from(value).unwrap_or(v1::Severity::Unspecified) {
            v1::Severity::Info => Severity::Info,
            v1::Severity::Warning => Severity::Warning,
            v1::Severity::Error => Severity::Error,
            v1::Severity::Critical => Severity::Critical,
            v1::Severity::Unspecified => {
                return Err(Malformed::UnknownValue {
                    field: "severity",
                    value: value.into(),
                });
            }
        },
    )
}

impl From<&Claim> for v1::Claim {
    fn from(claim: &Claim) -> Self {
        Self {
            code: claim.code.as_str().to_owned(),
            subject: claim.subject.clone(),
            severity: v1::Severity::from(claim.severity).into(),
            nodes: claim.nodes.clone(),
            summary: claim.summary.clone(),
            affected: claim
                .affected
                .iter()
                .map(|row| v1::Affected {
                    prefix: row.prefix.map(prefix_to_wire),
                    node: row.node.clone().unwrap_or_default(),
                    detail: row.detail.clone(),
                })
                .collect(),
            affected_total: claim.affected_total,
            evidence: claim
                .evidence
                .iter()
                .map(|row| v1::Evidence {
                    source: row.source.clone(),
                    text: row.text.clone(),
                    observed_at: row.observed_at.map(to_wire),
                    stale: row.stale,
                })
                .collect(),
            unseen: claim.unseen.clone(),
            cause: claim.cause.clone(),
            remedy: claim.remedy.clone(),
            changed_at: claim.changed_at.map(to_wire),
            trigger: match claim.trigger {
                Trigger::Host => 1,
                Trigger::ControlPlane => 2,
            },
        }
    }
}

impl TryFrom<&v1::Claim> for Claim {
    type Error = Malformed;

    fn try_from(wire: &v1::Claim) -> Result<Self, Malformed> {
        let affected = |row: &v1::Affected| -> Result<Affected, Malformed> {
            Ok(Affected {
                prefix: row
                    .prefix
                    .as_ref()
                    .map(|p| prefix_from_wire(p, "affected.prefix"))
                    .transpose()?,
                node: (!row.node.is_empty()).then(|| row.node.clone()),
                detail: row.detail.clone(),
            })
        };
        Ok(Self {
            code: wire.code.parse()?,
            subject: wire.subject.clone(),
            severity: severity_from_wire(wire.severity)?,
            nodes: wire.nodes.clone(),
            summary: wire.summary.clone(),
            affected: wire.affected.iter().map(affected).collect::<Result<_, _>>()?,
            affected_total: wire.affected_total,
            evidence: wire
                .evidence
                .iter()
                .map(|row| Evidence {
                    source: row.source.clone(),
                    text: row.text.clone(),
                    observed_at: row.observed_at.and_then(from_wire),
                    stale: row.stale,
                })
                .collect(),
            unseen: wire.unseen.clone(),
            cause: wire.cause.clone(),
            remedy: wire.remedy.clone(),
            changed_at: wire.changed_at.and_then(from_wire),
            trigger: match wire.trigger {
                1 => Trigger::Host,
                2 => Trigger::ControlPlane,
                other => {
                    return Err(Malformed::UnknownValue {
                        field: "claim.trigger",
                        value: other.into(),
                    });
                }
            },
        })
    }
}

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        use v1::FindingState as Wire;
        Self {
            id: finding.id.clone(),
            episode: finding.episode,
            state: match finding.state {
                FindingState::Pending => Wire::Pending,
                FindingState::Open => Wire::Open,
                FindingState::Resolved => Wire::Resolved,
                FindingState::Withdrawn => Wire::Withdrawn,
            }
            .into(),
            claim: Some((&finding.claim).into()),
            first_seen: Some(to_wire(finding.first_seen)),
            opened_at: finding.opened_at.map(to_wire),
            resolved_at: finding.resolved_at.map(to_wire),
            updated_at: Some(to_wire(finding.updated_at)),
            resolution: finding.resolution.clone().unwrap_or_default(),
            explained_by: finding.explained_by.clone(),
            stale: finding.stale,
        }
    }
}

impl TryFrom<&v1::Finding> for Finding {
    type Error = Malformed;

    fn try_from(wire: &v1::Finding) -> Result<Self, Malformed> {
        use v1::FindingState as Wire;
        let time = |at: Option<crate::time::WireTime>, field| at.and_then(from_wire).ok_or(Malformed::Missing(field));
        Ok(Self {
            id: wire.id.clone(),
            episode: wire.episode,
            state: match Wire::try_from(wire.state).unwrap_or(Wire::Unspecified) {
                Wire::Pending => FindingState::Pending,
                Wire::Open => FindingState::Open,
                Wire::Resolved => FindingState::Resolved,
                Wire::Withdrawn => FindingState::Withdrawn,
                Wire::Unspecified => {
                    return Err(Malformed::UnknownValue {
                        field: "finding.state",
                        value: wire.state.into(),
                    });
                }
            },
            claim: wire
                .claim
                .as_ref()
                .ok_or(Malformed::Missing("finding.claim"))?
                .try_into()?,
            first_seen: time(wire.first_seen, "finding.first_seen")?,
            opened_at: wire.opened_at.and_then(from_wire),
            resolved_at: wire.resolved_at.and_then(from_wire),
            updated_at: time(wire.updated_at, "finding.updated_at")?,
            resolution: (!wire.resolution.is_empty()).then(|| wire.resolution.clone()),
            explained_by: wire.explained_by.clone(),
            stale: wire.stale,
        })
    }
}
