//! Read access to the state, for `query`, metrics and tests.

use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::finding::Finding;
use cidrift_proto::verdict::CidrVerdict;
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use crate::summary::{Health, NodeDetail, NodeSummary, PoolReport, Status, Tally};

impl State {
    /// The cluster in a few figures.
    pub fn status(&self, now: Timestamp) -> Status {
        Status {
            health: Health::Unknown,
            control_plane_source: String::new(),
            control_plane_problem: None,
            control_plane_at: None,
            nodes: 0,
            nodes_reporting: 0,
            critical: 0,
            errors: 0,
            warnings: 0,
            infos: 0,
            pending: 0,
            pairs: Tally::default(),
            unknowns: Vec::new(),
            at: now,
        }
    }

    /// Every node that the control plane has or an agent reports for, by name.
    pub fn node_summaries(&self, _now: Timestamp) -> Vec<NodeSummary> {
        Vec::new()
    }

    /// One node; `None`: neither the control plane nor an agent knows it.
    pub fn node(&self, _name: &str, _now: Timestamp) -> Option<NodeDetail> {
        None
    }

    /// Where packets from this node to every pod CIDR land, by owner and CIDR.
    pub fn verdicts_from(&self, _source: &str) -> Vec<CidrVerdict> {
        Vec::new()
    }

    /// Where packets from every node to this node's pod CIDRs land, by source and CIDR.
    pub fn verdicts_to(&self, _owner: &str) -> Vec<CidrVerdict> {
        Vec::new()
    }

    /// The nodes whose pod CIDR contains this address, each with that CIDR: usually one,
    /// none for an address that is no pod's, several where CIDRs overlap.
    pub fn owners_of(&self, _address: IpAddr) -> Vec<(String, IpNet)> {
        Vec::new()
    }

    /// The findings that stand (pending and open), by id.
    pub fn findings(&self) -> Vec<Arc<Finding>> {
        Vec::new()
    }

    /// The findings that were resolved, newest first, as far as the ledger's history goes.
    pub fn history(&self) -> Vec<Arc<Finding>> {
        Vec::new()
    }

    /// The pool and who has what of it.
    pub fn pool_report(&self) -> PoolReport {
        PoolReport {
            ranges: Vec::new(),
            nodes: Vec::new(),
            unknown: None,
            service_ranges: Vec::new(),
        }
    }
}
