//! Verdicts: where packets from one node to one pod CIDR land, in the cluster's terms.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::landing::ForwardingEntry;
use crate::prefix::{prefix_from_wire, prefix_to_wire};
use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

/// Where it lands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// On the node that owns the CIDR.
    Delivered,
    /// The source owns the CIDR and delivers it on its own devices.
    Local,
    /// On a node that does not own it.
    Misdelivered {
        /// Which.
        to: String,
    },
    /// The source owns the CIDR and has no pod in it yet: bridges are made with
    /// the first pod, so nothing leads there, and nothing need.
    Idle,
    /// Dropped: blackhole route, dead device, unresolved neighbour …
    Blackholed {
        /// By what.
        reason: String,
    },
    /// No landing though this data plane programs one.
    NoRoute {
        /// What takes it instead.
        reason: String,
    },
    /// Passed round between nodes.
    Loop {
        /// The nodes, in order.
        reason: String,
    },
    /// To an underlay address that no node owns.
    LeavesCluster {
        /// Which.
        to: IpAddr,
    },
    /// The decision is not in the FIB.
    Opaque {
        /// Where it is.
        reason: String,
    },
    /// Not known.
    Unknown {
        /// Why: no report, stale report, unclear ownership …
        reason: String,
    },
}

/// What a verdict counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Right.
    Delivered,
    /// Wrong.
    Broken,
    /// Not known to be either: never shown as healthy.
    Unknown,
    /// Nothing to be right or wrong about.
    Idle,
}

impl Verdict {
    /// What it counts as.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Delivered | Self::Local => Standing::Delivered,
            Self::Idle => Standing::Idle,
            Self::Misdelivered { .. }
            | Self::Blackholed { .. }
            | Self::NoRoute { .. }
            | Self::Loop { .. }
            | Self::LeavesCluster { .. } => Standing::Broken,
            Self::Opaque { .. } | Self::Unknown { .. } => Standing::Unknown,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered => f.write_str("delivered"),
            Self::Local => f.write_str("local"),
            Self::Idle => f.write_str("idle: no pod here yet"),
            Self::Misdelivered { to } => write!(f, "misdelivered to {to}"),
            Self::Blackholed { reason } => write!(f, "blackholed: {reason}"),
            Self::NoRoute { reason } => write!(f, "no route: {reason}"),
            Self::Loop { reason } => write!(f, "loop: {reason}"),
            Self::LeavesCluster { to } => write!(f, "leaves the cluster to {to}"),
            Self::Opaque { reason } => write!(f, "opaque: {reason}"),
            Self::Unknown { reason } => write!(f, "unknown: {reason}"),
        }
    }
}

/// The verdict for one (source node, pod CIDR) pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CidrVerdict {
    /// The node that sends.
    pub source: String,
    /// The node that owns the CIDR.
    pub owner: String,
    /// The CIDR.
    pub cidr: IpNet,
    /// Where it lands; the worst part where parts differ.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The landings, widest first; more than one when parts of the CIDR differ.
    pub landings: Vec<ForwardingEntry>,
    /// When the source's view was last known to be so.
    pub observed_at: Option<Timestamp>,
}

impl From<&CidrVerdict> for v1::CidrVerdict {
    fn from(from: &CidrVerdict) -> Self {
        use v1::VerdictKind as Kind;
        let (kind, to, reason) = match &from.verdict {
            Verdict::Delivered => (Kind::Delivered, String::new(), String::new()),
            Verdict::Local => (Kind::Local, String::new(), String::new()),
            Verdict::Idle => (Kind::Idle, String::new(), String::new()),
            Verdict::Misdelivered { to } => (Kind::Misdelivered, to.clone(), String::new()),
            Verdict::Blackholed { reason } => (Kind::Blackholed, String::new(), reason.clone()),
            Verdict::NoRoute { reason } => (Kind::NoRoute, String::new(), reason.clone()),
            Verdict::Loop { reason } => (Kind::Loop, String::new(), reason.clone()),
            Verdict::LeavesCluster { to } => (Kind::LeavesCluster, to.to_string(), String::new()),
            Verdict::Opaque { reason } => (Kind::Opaque, String::new(), reason.clone()),
            Verdict::Unknown { reason } => (Kind::Unknown, String::new(), reason.clone()),
        };
        Self {
            source: from.source.clone(),
            owner: from.owner.clone(),
            cidr: Some(prefix_to_wire(from.cidr)),
            kind: kind.into(),
            to,
            reason,
            landings: from.landings.iter().map(Into::into).collect(),
            observed_at: from.observed_at.map(to_wire),
        }
    }
}

impl TryFrom<&v1::CidrVerdict> for CidrVerdict {
    type Error = Malformed;

    fn try_from(wire: &v1::CidrVerdict) -> Result<Self, Malformed> {
        use v1::VerdictKind as Kind;
        let reason = wire.reason.clone();
        let verdict = match Kind::try_from(wire.kind).unwrap_or(Kind::Unspecified) {
            Kind::Delivered => Verdict::Delivered,
            Kind::Local => Verdict::Local,
            Kind::Idle => Verdict::Idle,
            Kind::Misdelivered => Verdict::Misdelivered { to: wire.to.clone() },
            Kind::Blackholed => Verdict::Blackholed { reason },
            Kind::NoRoute => Verdict::NoRoute { reason },
            Kind::Loop => Verdict::Loop { reason },
            Kind::LeavesCluster => Verdict::LeavesCluster {
                to: wire.to.parse().map_err(|_| Malformed::Address {
                    field: "verdict.to",
                    length: wire.to.len(),
                })?,
            },
            Kind::Opaque => Verdict::Opaque { reason },
            Kind::Unknown => Verdict::Unknown { reason },
            Kind::Unspecified => {
                return Err(Malformed::UnknownValue {
                    field: "verdict.kind",
                    value: wire.kind.into(),
                });
            }
        };
        let cidr = wire.cidr.as_ref().ok_or(Malformed::Missing("verdict.cidr"))?;
        Ok(Self {
            source: wire.source.clone(),
            owner: wire.owner.clone(),
            cidr: prefix_from_wire(cidr, "verdict.cidr")?,
            verdict,
            landings: wire.landings.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            observed_at: wire.observed_at.and_then(from_wire),
        })
    }
}
