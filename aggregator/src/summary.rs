//! What the state looks like from outside: plain answers that `query` puts on
//! the wire and tests read. They mirror `cidrift/v1/query.proto`.

use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::Finding;
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::verdict::CidrVerdict;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::cluster::ReportState;

/// The one-word answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Everything was seen and nothing is wrong.
    Healthy,
    /// Something counts as wrong.
    Findings,
    /// Nothing is known wrong, but not everything could be seen.
    Unknown,
}

/// How many verdicts there are of each standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Right.
    pub delivered: u64,
    /// Wrong.
    pub broken: u64,
    /// Neither is known.
    pub unknown: u64,
}

/// The cluster in a few figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Findings that count, or else whether everything could be seen.
    pub health: Health,
    /// Where the control-plane state comes from; empty: nowhere yet.
    pub control_plane_source: String,
    /// Its problem, if it has one.
    pub control_plane_problem: Option<String>,
    /// When it was last known to be right.
    pub control_plane_at: Option<Timestamp>,
    /// Nodes of the control plane.
    pub nodes: u32,
    /// Those of them whose agent's view is live and whole.
    pub nodes_reporting: u32,
    /// Open findings of severity critical.
    pub critical: u32,
    /// Open findings of severity error.
    pub errors: u32,
    /// Open findings of severity warning.
    pub warnings: u32,
    /// Open findings of severity info.
    pub infos: u32,
    /// Findings still held back.
    pub pending: u32,
    /// Verdicts over all (node, pod CIDR) pairs.
    pub pairs: Tally,
    /// Why health is unknown, one line each.
    pub unknowns: Vec<String>,
    /// When this was asked.
    pub at: Timestamp,
}

/// One node in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSummary {
    /// Name.
    pub name: String,
    /// UID; empty where the control plane does not have it.
    pub uid: String,
    /// False: an agent reports for a Node that the control plane does not have.
    pub in_control_plane: bool,
    /// The Ready condition is True.
    pub ready: bool,
    /// Why it is not, as the condition says it, or that it is and its network is not; empty: nobody says anything.
    pub not_ready: String,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Its InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// Whether its agent's view can be relied on.
    pub report: ReportState,
    /// Why it cannot, where that is known; empty: nothing is known to be wrong with it.
    pub report_problem: String,
    /// Its agent's version; empty: never heard of.
    pub agent_version: String,
    /// When its agent was last heard, aggregator's clock.
    pub last_report: Option<Timestamp>,
    /// This node as a source.
    pub pairs: Tally,
    /// Ids of the open findings that name this node.
    pub findings: Vec<String>,
    /// Whether a finding names it, or else whether everything could be seen.
    pub health: Health,
    /// Primary CNI plugin; empty: unknown.
    pub plugin: String,
    /// Its IPAM; empty: unknown.
    pub ipam: String,
    /// What its pods get their addresses from: "spec.podCIDR", "delegated", "no data plane", "unclear"; empty: no Node.
    pub model: String,
}

/// What allocates a node's pod addresses, and what shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IpamReport {
    /// As in [`NodeSummary::model`].
    pub model: String,
    /// Whether `spec.podCIDR` decides; `None`: it cannot be told.
    pub authoritative: Option<bool>,
    /// Who does instead, or what is missing; empty where `spec.podCIDR` decides.
    pub why: String,
    /// What was seen, the most trusted first.
    pub evidence: Vec<IpamEvidence>,
    /// What could have told and was not visible.
    pub unseen: Vec<String>,
    /// Which rules apply, and why.
    pub rules: String,
}

/// One line of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IpamEvidence {
    /// Who says so.
    pub source: String,
    /// What it says.
    pub text: String,
    /// The model rests on this kind of evidence.
    pub decides: bool,
}

/// One node with everything.
#[derive(Debug, Clone)]
pub struct NodeDetail {
    /// The row.
    pub summary: NodeSummary,
    /// Its facts, as its agent last told them.
    pub facts: Option<HostFacts>,
    /// Where its packets to every pod CIDR land.
    pub verdicts: Vec<CidrVerdict>,
    /// Standing findings that name it.
    pub findings: Vec<Arc<Finding>>,
    /// Its forwarding table, as far as it was reported, by prefix.
    pub entries: Vec<ForwardingEntry>,
    /// What allocates its pods' addresses; `None`: the control plane does not have it.
    pub classification: Option<IpamReport>,
}

/// The pool and who has what of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Ranges of --cluster-cidr, or of ClusterCIDR objects; empty: unknown.
    pub ranges: Vec<PoolRange>,
    /// Every pod CIDR of every node.
    pub nodes: Vec<PoolNode>,
    /// Why the ranges are not known.
    pub unknown: Option<String>,
    /// --service-cluster-ip-range; empty: unknown.
    pub service_ranges: Vec<IpNet>,
    /// Everybody who names a range, the most trusted first.
    pub witnesses: Vec<PoolWitness>,
    /// What the Nodes' creation times say of growth, in words; empty: there are no Nodes.
    pub growth: String,
}

/// One range of the pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PoolRange {
    /// The range.
    pub range: IpNet,
    /// Who named it.
    pub witness: String,
    /// Mask of a node CIDR.
    pub node_mask: u8,
    /// Somebody stated that mask; else it is what most nodes have, or the default.
    pub mask_stated: bool,
    /// In node CIDRs of `node_mask`; saturating.
    pub capacity: u64,
    /// Those that a node's CIDR touches.
    pub used: u64,
    /// Those that only the service range touches.
    pub service: u64,
    /// Those among `used` that are held in part only, by CIDRs longer than `node_mask`.
    pub partial: u64,
    /// Those that kube-controller-manager counts as used and no Node accounts for; `None`: it was not asked.
    pub leaked: Option<u64>,
    /// Those that no Node has and pods still have addresses in.
    pub left_over: u64,
    /// What can still be handed out.
    pub free: u64,
    /// How many times the present number of node CIDRs fits, in percent: 200 is twice; `None`: none is used.
    pub headroom: Option<u64>,
    /// Days until it is full at the present growth; `None`: it does not grow, or that cannot be told.
    pub full_in_days: Option<u64>,
}

/// Somebody who names a range of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolWitness {
    /// Who.
    pub who: String,
    /// The ranges; empty: none.
    pub ranges: Vec<IpNet>,
    /// "settles it", "agrees", "disagrees", "not comparable", "names none".
    pub stance: String,
    /// Why it disagrees or cannot be compared.
    pub why: String,
}

/// One pod CIDR of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolNode {
    /// The node.
    pub node: String,
    /// The CIDR.
    pub cidr: IpNet,
    /// Inside one of the ranges; `None`: the ranges are not known.
    pub in_pool: Option<bool>,
    /// What else claims the same addresses ("node-b 10.244.2.0/24").
    pub overlaps: Vec<String>,
}
