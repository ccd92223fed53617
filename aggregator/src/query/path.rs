//! The two ends of a path: what the caller named, as nodes.

use std::net::IpAddr;

use cidrift_proto::verdict::CidrVerdict;
use ipnet::IpNet;
use jiff::Timestamp;
use tonic::Status;

use super::answer::{PathAnswer, PathRow, WayAnswer};
use super::near;
use crate::engine::State;

/// An end of a path: a node and, where an address was named, the CIDR it lies in.
struct End {
    node: String,
    cidr: Option<IpNet>,
}

/// Where packets between two ends land, both ways.
pub(super) fn between(state: &State, from: &str, to: &str, now: Timestamp) -> Result<PathAnswer, Status> {
    let (from, to) = (find(state, from, "from", now)?, find(state, to, "to", now)?);
    let forward = ways(state, &from, &to);
    let backward = ways(state, &to, &from);
    Ok(PathAnswer {
        health: PathAnswer::judge(&forward, &backward),
        from: from.node,
        to: to.node,
        forward,
        backward,
    })
}

/// Where packets land between many nodes and one end.
pub(super) struct Many {
    to: End,
}

impl Many {
    /// With this node, or pod's address, as the end in common.
    pub(super) fn to(state: &State, to: &str, now: Timestamp) -> Result<Self, Status> {
        Ok(Self {
            to: find(state, to, "to", now)?,
        })
    }

    /// The node in common.
    pub(super) fn node(&self) -> &str {
        &self.to.node
    }

    /// Both ways between it and a node; `None`: nobody knows that one.
    pub(super) fn row(&self, state: &State, from: &str) -> Option<PathRow> {
        let from = End {
            node: from.to_owned(),
            cidr: None,
        };
        state.knows(&from.node).then(|| PathRow {
            forward: WayAnswer::of(ways(state, &from, &self.to)),
            backward: WayAnswer::of(ways(state, &self.to, &from)),
            from: from.node,
        })
    }
}

/// From the one to the other.
fn ways(state: &State, source: &End, target: &End) -> Vec<CidrVerdict> {
    let mut verdicts = state.verdicts_between(&source.node, &target.node);
    verdicts.retain(|verdict| target.cidr.is_none_or(|cidr| cidr == verdict.cidr));
    verdicts
}

/// A node's name comes first: a Node may be named like an address.
fn find(state: &State, text: &str, field: &str, now: Timestamp) -> Result<End, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument(format!(
            "{field}: a node's name or a pod's address is needed"
        )));
    }
    if state.knows(text) {
        return Ok(End {
            node: text.to_owned(),
            cidr: None,
        });
    }
    match text.parse::<IpAddr>() {
        Ok(address) => owner(state, address, now),
        Err(_) => Err(unknown_node(state, text, now)),
    }
}

fn owner(state: &State, address: IpAddr, now: Timestamp) -> Result<End, Status> {
    let mut owners = state.owners_of(address);
    if owners.len() > 1 {
        let named: Vec<String> = owners.iter().map(|(node, cidr)| format!("{node} ({cidr})")).collect();
        return Err(Status::failed_precondition(format!(
            "{address} lies in the pod CIDRs of {}: name one of the nodes instead; POOL03 says more",
            named.join(" and ")
        )));
    }
    if let Some((node, cidr)) = owners.pop() {
        return Ok(End { node, cidr: Some(cidr) });
    }
    let host = state
        .node_summaries(now)
        .into_iter()
        .find(|node| node.internal_ips.contains(&address));
    Err(Status::not_found(match host {
        Some(node) => format!(
            "{address} is no pod's address but that of node {0}: ask for {0}",
            node.name
        ),
        None => format!("no node's pod CIDR contains {address}"),
    }))
}

/// "no node named X", with what is near.
pub(super) fn unknown_node(state: &State, name: &str, now: Timestamp) -> Status {
    let nodes = state.node_summaries(now);
    let hint = near::hint(name, nodes.iter().map(|node| node.name.as_str()));
    Status::not_found(format!("no node named {name:?}{hint}"))
}
