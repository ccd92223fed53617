//! What is wrong, judged from plain data: what the control plane says, what the
//! hosts see, and the clock handed in. Nothing here does I/O or remembers
//! anything; what must be remembered comes in as [`crate::engine::memory::Memory`].
//!
//! [`book`] indexes who owns what, [`crate::ipam`] and [`habit`] say which rules apply to
//! a node, [`coverage`] and [`verdict`] judge one (source, pod CIDR) pair, and one
//! file per rule family turns that into claims.

pub mod allocator;
pub mod book;
pub mod census;
pub mod churn;
pub mod cluster_cidr;
pub mod coverage;
pub mod delegate;
pub mod disagree;
pub mod dossier;
pub mod exhausted;
pub mod explain;
pub mod family;
pub mod fields;
pub mod habit;
pub mod host;
pub mod low;
pub mod manager;
pub mod mask;
pub mod oneway;
pub mod outlived;
pub mod outside;
pub mod overlap;
pub mod pool;
pub mod raced;
pub mod reborn;
pub mod refused;
pub mod rivals;
pub mod routes;
pub mod sandbox;
pub mod selector;
pub mod silent;
pub mod stale;
pub mod tunnel;
pub mod twins;
pub mod verdict;
pub mod without;
pub mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Trigger};
use jiff::Timestamp;

use crate::cluster::around;
use crate::cluster::objects::{Resource, Watched};
use crate::cluster::{ControlPlane, HostState, NodeRecord, PoolConfig};
use crate::ipam::{self, Ipam};
use book::Book;
use census::Census;

/// All that a rule may look at.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What the control plane says.
    pub plane: &'a ControlPlane,
    /// Who owns what, of that.
    pub book: &'a Book,
    /// What is counted of its Nodes.
    pub census: &'a Census,
    /// What is known of the pool.
    pub pool: &'a PoolConfig,
    /// What the hosts see, by node name.
    pub hosts: &'a BTreeMap<String, HostState>,
    /// The clock.
    pub now: Timestamp,
    /// An agent not heard of for this long is silent.
    pub silence: Duration,
}

impl<'a> Scene<'a> {
    /// The Node object.
    pub fn node(&self, name: &str) -> Option<&'a NodeRecord> {
        self.plane.nodes.get(name)
    }

    /// The host's state, if its view may be judged.
    pub fn host(&self, name: &str) -> Option<&'a HostState> {
        self.hosts
            .get(name)
            .filter(|host| host.judgeable(self.now, self.silence))
    }

    /// What the IPAM of a node makes of its `spec.podCIDR`.
    pub fn ipam(&self, node: &NodeRecord) -> Ipam {
        if let Some(ipam) = self.census.ipam(&node.name) {
            return ipam.clone();
        }
        let facts = self.hosts.get(&node.name).and_then(|host| host.facts.as_ref());
        ipam::classify(node, facts, &self.plane.around)
    }

    /// The frame of a claim about one node that rests on its Node object.
    pub fn claim_of(&self, code: Code, node: &NodeRecord) -> Claim {
        Claim {
            code,
            subject: node.name.clone(),
            severity: code.entry().severity,
            nodes: vec![node.name.clone()],
            summary: String::new(),
            affected: Vec::new(),
            affected_total: 0,
            evidence: vec![self.node_evidence(node)],
            unseen: Vec::new(),
            cause: String::new(),
            remedy: String::new(),
            changed_at: Some(node.changed_at),
            trigger: Trigger::ControlPlane,
        }
    }

    /// What the control plane says of a node, as evidence.
    pub fn node_evidence(&self, node: &NodeRecord) -> Evidence {
        let mut text = format!("spec.podCIDRs {}", words::list(&node.pod_cidrs_raw));
        if !node.internal_ips.is_empty() {
            text.push_str(&format!(", InternalIP {}", words::list(&node.internal_ips)));
        }
        self.plane_evidence(format!("Node {}", node.name), text)
    }

    /// What a cloud's route controller or a CNI says of a node's place in the pod network, where it is not in order: pods
    /// elsewhere may not reach it though its own routes are right. The condition is not looked at again when routes break
    /// (reference A), so that it is absent shows nothing.
    pub fn network_evidence(&self, node: &NodeRecord) -> Vec<Evidence> {
        let mut rows = Vec::new();
        if let Some(reason) = &node.network_unavailable {
            let text = format!("NetworkUnavailable is True: {reason}");
            rows.push(self.plane_evidence(format!("Node {}", node.name), text));
        }
        let events = self.plane.around.allocation.get(&node.name);
        let told = events.and_then(|events| events.route_failed.as_ref());
        // Of this Node, and not of one that had its name before.
        let of_this = |told: &&around::Told| node.created_at.is_none_or(|made| told.last >= Some(made));
        if let Some(told) = told.filter(|told| pool::recent(told.last, self.now)).filter(of_this) {
            let source = format!("event FailedToCreateRoute of {} on Node {}", told.component, node.name);
            let mut row = self.around_evidence(Resource::Events, source, told.message.clone());
            row.observed_at = told.last;
            rows.push(row);
        }
        rows
    }

    /// Something that the control plane says.
    pub fn plane_evidence(&self, source: String, text: String) -> Evidence {
        Evidence {
            source,
            text,
            observed_at: self.plane.observed_at,
            stale: self.plane.problem.is_some(),
        }
    }

    /// Something that an object of this kind says.
    pub fn around_evidence(&self, resource: Resource, source: String, text: String) -> Evidence {
        let (observed_at, stale) = match self.plane.around.watches.get(&resource) {
            Some(Watched::Live(at)) => (Some(*at), false),
            Some(Watched::Unlisted(_) | Watched::Refused(_) | Watched::Broken(_)) => (None, true),
            Some(Watched::Absent) | None => (self.plane.observed_at, self.plane.problem.is_some()),
        };
        Evidence {
            source,
            text,
            observed_at,
            stale,
        }
    }

    /// Something that a host's kernel says.
    pub fn kernel_evidence(&self, host: &HostState, text: String) -> Evidence {
        Evidence {
            source: format!("kernel of {}", host.node),
            text,
            observed_at: host.seen_at(),
            stale: !host.judgeable(self.now, self.silence),
        }
    }
}

/// Sorts rows, drops doubles and cuts them to [`ROWS`]; gives how many there were.
pub fn cap_affected(rows: &mut Vec<Affected>) -> u32 {
    rows.sort();
    rows.dedup();
    let total = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    rows.truncate(ROWS);
    total
}
