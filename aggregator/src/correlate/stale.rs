//! PATH03: routes for CIDRs that no node owns any more.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, ROWS, Trigger};
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::IpNet;
use jiff::Timestamp;

use super::routes::elapsed;
use super::verdict::Source;
use super::{Scene, cap_affected};
use crate::engine::memory::{Former, Memory};
use crate::ipam::Ipam;
use crate::netmap::overlap;

struct Row<'a> {
    entry: &'a ForwardingEntry,
    before: Option<&'a Former>,
    /// Since when nobody owns it, or since when the route is there.
    since: Timestamp,
    trigger: Trigger,
}

/// The claim of one source, if it has such routes. `strays` are the prefixes of its
/// entries that no pod CIDR overlaps. Routes that became stale less than
/// `settle` ago are left out while others are so for longer; the second value is when they count.
pub fn claim(
    scene: &Scene<'_>,
    source: Source<'_>,
    strays: &BTreeSet<IpNet>,
    memory: &Memory,
    settle: Duration,
) -> (Option<Claim>, Option<Timestamp>) {
    if matches!(source.habit.ipam, Ipam::Delegated(_) | Ipam::NoDataPlane(_)) || scene.plane.problem.is_some() {
        return (None, None);
    }
    let entry = |prefix: &IpNet| source.host.forwarding.inside(*prefix).next();
    let mut rows: Vec<Row<'_>> = strays
        .iter()
        .filter_map(|prefix| row(scene, source, memory, entry(prefix)?))
        .collect();
    let ripe = |row: &Row<'_>| row.trigger == Trigger::Host || elapsed(row.since, scene.now) >= settle;
    let unripe = rows.iter().filter(|row| !ripe(row)).map(|row| row.since).min();
    let next = unripe.and_then(|since| since.checked_add(settle).ok());
    if rows.iter().any(ripe) {
        rows.retain(ripe);
    }
    if rows.is_empty() {
        return (None, None);
    }
    (Some(build(scene, source, &rows)), next)
}

/// Whether packets are sent on, or would be, or are dropped on purpose.
pub(crate) fn leads_on(landing: &Landing) -> bool {
    match landing {
        Landing::Underlay { .. } | Landing::Discard { .. } | Landing::UnresolvedNeighbour { .. } => true,
        Landing::Multipath { legs } => legs.iter().any(|leg| leads_on(&leg.landing)),
        _ => false,
    }
}

fn row<'a>(scene: &Scene<'_>, source: Source<'_>, memory: &'a Memory, entry: &'a ForwardingEntry) -> Option<Row<'a>> {
    let prefix = entry.meant_for();
    if !leads_on(&entry.landing) || prefix.prefix_len() == 0 || scene.book.overlapping(prefix).next().is_some() {
        return None;
    }
    if scene.pool.service_ranges.iter().any(|range| overlap(range, &prefix)) {
        return None;
    }
    if maybe_owned(scene, prefix).is_some() {
        return None;
    }
    let before = memory.owner_before(prefix);
    let in_pool = matches!(source.habit.ipam, Ipam::PodCidr)
        && scene
            .pool
            .ranges
            .iter()
            .any(|range| range.contains(&prefix) && *range != prefix);
    if before.is_none() && (!in_pool || of_host(scene, prefix).is_some()) {
        return None;
    }
    // Put back after its owner was gone: the host changed last. Otherwise the
    // control plane did, or it may still be about to name the owner.
    let (since, trigger) = match before {
        Some(former) if entry.changed_at > former.until => (entry.changed_at, Trigger::Host),
        Some(former) => (former.until, Trigger::ControlPlane),
        None => (entry.changed_at, Trigger::ControlPlane),
    };
    Some(Row {
        entry,
        before,
        since,
        trigger,
    })
}

/// A Node that has an address of its own there. Who routes to it need not mean pods: a pool may lie around the hosts' own
/// network, as a cloud's routes to its subnets do.
pub fn of_host<'a>(scene: &Scene<'a>, prefix: IpNet) -> Option<(&'a str, IpAddr)> {
    let mut nodes = scene.plane.nodes.values();
    nodes.find_map(|node| {
        let mut own = node.internal_ips.iter();
        own.find(|address| prefix.contains(*address))
            .map(|address| (node.name.as_str(), *address))
    })
}

/// The Node that may own this prefix though none is seen to, and the entry of it that cannot be read.
pub fn maybe_owned<'a>(scene: &Scene<'a>, prefix: IpNet) -> Option<(&'a str, &'a str)> {
    let mask = if prefix.addr().is_ipv4() {
        scene.pool.mask_v4.unwrap_or(24)
    } else {
        scene.pool.mask_v6.unwrap_or(64)
    };
    let mut nodes = scene.plane.nodes.values();
    nodes.find_map(|node| Some((node.name.as_str(), node.may_mean(prefix, mask)?)))
}

fn build(scene: &Scene<'_>, source: Source<'_>, rows: &[Row<'_>]) -> Claim {
    let name = &source.node.name;
    let mut affected: Vec<Affected> = rows
        .iter()
        .map(|row| Affected {
            prefix: Some(row.entry.prefix),
            node: row.before.map(|former| former.node.clone()),
            detail: match row.before {
                Some(former) => format!("{}; {} had it", row.entry.landing, former.node),
                None => format!("{}; nobody is known to have had it", row.entry.landing),
            },
        })
        .collect();
    let affected_total = cap_affected(&mut affected);
    let mut evidence = Vec::new();
    for row in rows {
        let text = format!("{} {}", row.entry.prefix, row.entry.landing);
        evidence.push(scene.kernel_evidence(source.host, text));
        if let Some(former) = row.before {
            let text = format!(
                "had {} as UID {} until {}; no Node has it now",
                former.cidr, former.uid, former.until
            );
            evidence.push(scene.plane_evidence(format!("Node {}", former.node), text));
        }
    }
    evidence.truncate(ROWS);
    let first = rows[0].entry;
    let what = match rows.len() {
        1 => first.prefix.to_string(),
        many => format!("{} and {} more", first.prefix, many - 1),
    };
    let family = if first.prefix.addr().is_ipv4() { "" } else { "-6 " };
    let host = rows.iter().any(|row| row.trigger == Trigger::Host);
    Claim {
        code: Code::Path03,
        subject: name.clone(),
        severity: Code::Path03.entry().severity,
        nodes: vec![name.clone()],
        summary: format!("{name} still routes {what}, which no node owns"),
        affected,
        affected_total,
        evidence,
        unseen: Vec::new(),
        cause: "The Node was deleted or got another CIDR while the CNI's daemon on this host was down or missed it; \
                routes of removed nodes are not cleaned up later."
            .to_owned(),
        remedy: format!(
            "It misdelivers as soon as the CIDR is given to another node; the CNI's daemon leaves it alone. On {name}: ip {family}route del {}",
            first.prefix
        ),
        changed_at: rows.iter().map(|row| row.since).max(),
        trigger: if host { Trigger::Host } else { Trigger::ControlPlane },
    }
}
