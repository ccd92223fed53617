//! Every node in a row.

use std::collections::BTreeSet;

use super::Look;
use super::age::age;
use super::text::{Grid, Ink, list, plain};
use crate::cluster::ReportState;
use crate::summary::{Health, NodeSummary};

/// The table.
pub fn nodes(nodes: &[NodeSummary], look: &Look) -> String {
    if nodes.is_empty() {
        return "No node is known: the control plane has not been read, or has none, and no agent reports.\n"
            .to_owned();
    }
    let mut grid = Grid::new([
        "NAME",
        "READY",
        "REPORT",
        "POD CIDRS",
        "OK",
        "BROKEN",
        "UNKNOWN",
        "HEALTH",
        "FINDINGS",
    ]);
    if look.wide {
        for name in ["INTERNAL IPS", "PLUGIN", "IPAM", "ADDRESSES BY", "AGENT", "UID"] {
            grid.column(name);
        }
    }
    for node in nodes {
        let mut row = vec![
            plain(&node.name),
            ready(node),
            report(node, look),
            plain(list(&node.pod_cidrs)),
            plain(node.pairs.delivered),
            counted(node.pairs.broken, Ink::Bad),
            counted(node.pairs.unknown, Ink::Doubt),
            health(node.health),
            plain(codes(node)),
        ];
        if look.wide {
            row.extend([
                plain(list(&node.internal_ips)),
                plain(&node.plugin),
                plain(&node.ipam),
                plain(&node.model),
                plain(&node.agent_version),
                plain(&node.uid),
            ]);
        }
        grid.row(row);
    }
    grid.print("", look)
}

pub(super) fn ready(node: &NodeSummary) -> (String, Ink) {
    match (node.in_control_plane, node.ready) {
        (false, _) => ("no Node".to_owned(), Ink::Doubt),
        (true, true) => plain("yes"),
        (true, false) => ("no".to_owned(), Ink::Doubt),
    }
}

/// "live", "silent 3m".
fn report(node: &NodeSummary, look: &Look) -> (String, Ink) {
    let heard = |word: &str| match node.last_report {
        Some(at) => format!("{word} {}", age(at, look.now)),
        None => word.to_owned(),
    };
    match node.report {
        ReportState::Live => plain("live"),
        ReportState::Syncing => ("syncing".to_owned(), Ink::Doubt),
        ReportState::Silent => (heard("silent"), Ink::Doubt),
        ReportState::Never => ("never".to_owned(), Ink::Doubt),
    }
}

pub(super) fn health(health: Health) -> (String, Ink) {
    match health {
        Health::Healthy => ("healthy".to_owned(), Ink::Good),
        Health::Findings => ("findings".to_owned(), Ink::Bad),
        Health::Unknown => ("unknown".to_owned(), Ink::Doubt),
    }
}

fn counted(n: u64, ink: Ink) -> (String, Ink) {
    (n.to_string(), if n == 0 { Ink::Plain } else { ink })
}

/// The codes of its findings, each once: ids are "PATH01/node-a".
fn codes(node: &NodeSummary) -> String {
    let codes: BTreeSet<&str> = node
        .findings
        .iter()
        .map(|id| id.split('/').next().unwrap_or(id))
        .collect();
    codes.into_iter().collect::<Vec<_>>().join(",")
}
