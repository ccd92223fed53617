//! PATH01, PATH02, PATH04, PATH05 and PATH06: one claim per code and source node
//! from the pairs that are broken there.

use std::collections::BTreeMap;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Trigger};
use cidrift_proto::landing::{ForwardingEntry, Landing, Via};
use cidrift_proto::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;

use super::book::Slot;
use super::habit;
use super::verdict::{self, Judged, Source};
use super::{Scene, cap_affected, tunnel, words};
use crate::cluster::HostState;

/// A broken pair, as the engine remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The node that owns the CIDR.
    pub owner: String,
    /// The rule that it breaks.
    pub code: Code,
    /// How.
    pub verdict: Verdict,
    /// Since when, aggregator's clock.
    pub since: Timestamp,
    /// What made it so.
    pub trigger: Trigger,
    /// When the witness saw that.
    pub changed_at: Option<Timestamp>,
}

/// Claims of one source. Pairs that a change of the control plane broke less than
/// `settle` ago are left out while others are broken for longer, so that a finding
/// that counts does not take in what hosts are only about to follow.
pub fn claims(
    scene: &Scene<'_>,
    source: Source<'_>,
    broken: &BTreeMap<IpNet, Broken>,
    settle: Duration,
    since: &dyn Fn(IpNet) -> u64,
) -> Vec<Claim> {
    let mut by_code: BTreeMap<Code, Vec<(IpNet, &Broken)>> = BTreeMap::new();
    for (cidr, pair) in broken {
        if !told_by_host(source.host, *cidr, pair) {
            by_code.entry(pair.code).or_default().push((*cidr, pair));
        }
    }
    let mut claims = Vec::new();
    for (code, mut pairs) in by_code {
        let ripe = |pair: &Broken| pair.trigger == Trigger::Host || elapsed(pair.since, scene.now) >= settle;
        if pairs.iter().any(|(_, pair)| ripe(pair)) {
            pairs.retain(|(_, pair)| ripe(pair));
        }
        claims.push(claim(scene, source, code, &pairs, since));
    }
    claims
}

/// Time between two points, zero if they are the other way round.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// The agent's own HOST02 says why packets for a peer stay on this node (its
/// bridge still has an old address): that finding is the one to act on.
pub fn told_by_host(host: &HostState, cidr: IpNet, pair: &Broken) -> bool {
    matches!(&pair.verdict, Verdict::Misdelivered { to } if *to == host.node)
        && host.claims.iter().any(|claim| claim.code == Code::Host02)
        && host
            .forwarding
            .inside(cidr)
            .any(|entry| matches!(entry.landing, Landing::Local { .. } | Landing::Host { .. }))
}

fn claim(
    scene: &Scene<'_>,
    source: Source<'_>,
    code: Code,
    pairs: &[(IpNet, &Broken)],
    since: &dyn Fn(IpNet) -> u64,
) -> Claim {
    let name = &source.node.name;
    let mut affected: Vec<Affected> = pairs
        .iter()
        .map(|(cidr, pair)| Affected {
            prefix: Some(*cidr),
            node: Some(pair.owner.clone()),
            detail: pair.verdict.to_string(),
        })
        .collect();
    let affected_total = cap_affected(&mut affected);
    let shown: Vec<(&Slot, Judged<'_>, &Broken)> = pairs
        .iter()
        .filter(|(cidr, _)| affected.iter().any(|row| row.prefix == Some(*cidr)))
        .filter_map(|(cidr, pair)| {
            let at = *scene.book.by_net.get(*cidr)?.first()?;
            let slot = scene.book.slots.get(at)?;
            let judged = verdict::judge(scene, source, slot, since(*cidr));
            Some((slot, judged, *pair))
        })
        .collect();
    let mut evidence = Vec::new();
    for (slot, judged, _) in &shown {
        evidence.extend(kernel_rows(scene, source, code, slot, judged));
    }
    for (slot, _, _) in &shown {
        if let Some(owner) = scene.node(&slot.owner) {
            let row = scene.node_evidence(owner);
            if !evidence.contains(&row) {
                evidence.push(row);
            }
        }
    }
    if code == Code::Path01
        && let Some((witness, text)) = &source.habit.programs
    {
        evidence.push(Evidence {
            source: witness.clone(),
            text: text.clone(),
            observed_at: source.host.seen_at(),
            stale: false,
        });
    }
    evidence.truncate(ROWS);
    let mut nodes = vec![name.clone()];
    nodes.extend(affected.iter().filter_map(|row| row.node.clone()));
    nodes[1..].sort();
    nodes.dedup();
    let host = pairs.iter().any(|(_, pair)| pair.trigger == Trigger::Host);
    let (summary, cause, remedy) = words_for(scene, source, code, &shown, pairs);
    Claim {
        code,
        subject: name.clone(),
        severity: code.entry().severity,
        nodes,
        summary,
        affected,
        affected_total,
        evidence,
        unseen: unseen(scene, pairs),
        cause,
        remedy,
        changed_at: pairs.iter().filter_map(|(_, pair)| pair.changed_at).max(),
        trigger: if host { Trigger::Host } else { Trigger::ControlPlane },
    }
}

fn kernel_rows(scene: &Scene<'_>, source: Source<'_>, code: Code, slot: &Slot, judged: &Judged<'_>) -> Vec<Evidence> {
    let mut rows = Vec::new();
    for part in judged.parts.iter().filter(|part| part.fault.is_some()) {
        let text = match part.entry {
            Some(entry) if entry.meant_for() == slot.cidr => entry.to_string(),
            Some(entry) => format!("{}: {entry}", slot.cidr),
            None => format!("{}: no route", slot.cidr),
        };
        rows.push(scene.kernel_evidence(source.host, text));
        let layers = part
            .entry
            .filter(|_| code == Code::Path06)
            .and_then(|entry| tunnel::layers(scene, &entry.landing));
        for line in layers.iter().flat_map(tunnel::Layers::lines) {
            rows.push(scene.kernel_evidence(source.host, line));
        }
    }
    rows
}

/// Owners whose agents cannot be asked: what they would say of the other end.
fn unseen(scene: &Scene<'_>, pairs: &[(IpNet, &Broken)]) -> Vec<String> {
    let mut rows: Vec<String> = pairs
        .iter()
        .filter(|(_, pair)| scene.host(&pair.owner).is_none())
        .map(|(_, pair)| format!("the agent of {} does not report: its end was not seen", pair.owner))
        .collect();
    rows.sort();
    rows.dedup();
    rows.truncate(ROWS);
    rows
}

type Words = (String, String, String);

fn words_for(
    scene: &Scene<'_>,
    source: Source<'_>,
    code: Code,
    shown: &[(&Slot, Judged<'_>, &Broken)],
    pairs: &[(IpNet, &Broken)],
) -> Words {
    let name = &source.node.name;
    let Some((slot, judged, pair)) = shown.first() else {
        // Every pair of a row is a slot of the same book; this says so even if that were not so.
        let all = words::count(pairs.len(), "pod CIDR", "pod CIDRs");
        return (format!("{name}: {all} not delivered"), String::new(), String::new());
    };
    let what = match pairs.len() {
        1 => format!("{} of {}", slot.cidr, slot.owner),
        many => format!("{} and {} more", slot.cidr, many - 1),
    };
    let what = match part_of(slot, judged) {
        Some(part) => format!("{part} (a part of {what})"),
        None => what,
    };
    let restart = words::restart_cni(source.node, Some(source.habit));
    let by_hand = by_hand(scene, source, slot)
        .map(|command| format!("; or by hand, on {name}: {command}"))
        .unwrap_or_default();
    let entry = judged
        .parts
        .iter()
        .find(|part| part.fault.is_some())
        .and_then(|part| part.entry);
    if code == Code::Path01
        && let Some(words) = by_rule(scene, source, slot, &what, entry)
    {
        return words;
    }
    match code {
        Code::Path01 => (
            format!("{name} has no route to {what}"),
            "Somebody deleted the route, the link it used went down (the kernel then drops IPv4 routes silently), \
             or the CNI's daemon missed the node's arrival."
                .to_owned(),
            format!("{restart}{by_hand}"),
        ),
        Code::Path02 => {
            let inside = entry.and_then(|entry| inside_by_hand(name, slot, entry));
            let to = match &pair.verdict {
                Verdict::Misdelivered { to } if to == name => "keeps them itself".to_owned(),
                Verdict::Misdelivered { to } => format!("sends them to {to}"),
                Verdict::LeavesCluster { to } => format!("sends them to {to}, which no node owns"),
                other => other.to_string(),
            };
            (
                format!("packets of {name} for {what} go wrong: it {to}"),
                "A route of an earlier owner, or of an earlier address of the owner, was left behind or put back."
                    .to_owned(),
                inside.unwrap_or_else(|| format!("{restart}{by_hand}")),
            )
        }
        Code::Path04 => {
            let discard = entry.filter(|entry| matches!(entry.landing, Landing::Discard { .. }));
            let cause = match entry.map(|entry| &entry.landing) {
                Some(Landing::Discard { .. }) if entry.is_some_and(|entry| entry.route.is_none()) => {
                    "A policy rule that discards matches before any table with a route does."
                }
                Some(Landing::Discard { .. }) => {
                    "A discard route was left behind (flannel's --ip-blackhole-route never removes an old one) or put there."
                }
                Some(Landing::DeadDevice { .. }) => "The route's device is down, or without carrier.",
                Some(Landing::UnresolvedNeighbour { .. }) => {
                    "The next hop does not answer, or its neighbour or FDB entry was deleted: flannel does not put it back by itself."
                }
                _ => "The route leads nowhere.",
            };
            let remedy = match discard {
                Some(entry) if entry.route.is_none() => format!(
                    "No route does it, but a policy rule. On {name}: find it with ip {}rule and, once you know who set it, delete it",
                    if entry.prefix.addr().is_ipv4() { "" } else { "-6 " }
                ),
                Some(entry) => {
                    let how = match entry.landing {
                        Landing::Discard { how } => how.to_string(),
                        _ => String::new(),
                    };
                    let family = if entry.prefix.addr().is_ipv4() { "" } else { "-6 " };
                    let table = entry.route.map_or(254, |route| route.table);
                    let table = if table == 254 {
                        String::new()
                    } else {
                        format!(" table {table}")
                    };
                    format!("On {name}: ip {family}route del {how} {}{table}", entry.meant_for())
                }
                None => restart,
            };
            (
                format!("{name} drops packets for {what}: {}", reason(&pair.verdict)),
                cause.to_owned(),
                remedy,
            )
        }
        Code::Path05 => (
            format!("packets of {name} for {what} go in a circle: {}", reason(&pair.verdict)),
            "Two nodes still route a CIDR that has moved to a third, each by way of the other.".to_owned(),
            format!("{restart}{by_hand}"),
        ),
        _ => {
            let owner = scene.node(&slot.owner);
            // Packets that arrive and are not taken have their reason in the verdict.
            let elsewhere = !matches!(pair.verdict, Verdict::Blackholed { .. });
            let off = entry
                .zip(owner)
                .filter(|_| elsewhere)
                .and_then(|(entry, owner)| tunnel::disagrees(scene, owner, &entry.landing))
                .unwrap_or_else(|| reason(&pair.verdict));
            (
                format!("the tunnel of {name} to {what} does not hold together: {off}"),
                "An FDB or neighbour entry was changed or left behind, or the peer's tunnel device was made anew with \
                 another address."
                    .to_owned(),
                format!(
                    "{restart}{}",
                    fdb_by_hand(scene, source, slot, entry.map(|entry| &entry.landing))
                ),
            )
        }
    }
}

/// What to say of a missing route where a policy rule has the packets looked up in a table that is
/// not the data plane's: the CNI's daemon may well have set the route, in table main.
fn by_rule(
    scene: &Scene<'_>,
    source: Source<'_>,
    slot: &Slot,
    what: &str,
    entry: Option<&ForwardingEntry>,
) -> Option<Words> {
    let route = entry?.route?;
    let table = route.table;
    // default, main and local (rtnetlink(7)).
    if matches!(table, 253..=255) {
        return None;
    }
    let of_peers = source.host.forwarding.iter().any(|other| {
        let theirs = other.route.filter(|other| other.table == table);
        theirs.is_some_and(|other| scene.book.by_net.get(other.prefix).is_some())
    });
    if of_peers {
        return None;
    }
    let name = &source.node.name;
    let family = if slot.cidr.addr().is_ipv4() { "" } else { "-6 " };
    Some((
        format!(
            "a policy rule of {name} sends packets for {what} by table {table}, which has only {}",
            route.prefix
        ),
        format!(
            "A policy rule has pods' packets looked up in table {table} before table main. That table has no route of its \
             own for the CIDR: {} in it takes them.",
            route.prefix
        ),
        format!(
            "On {name}: ip {family}rule show table {table} names the rule. Once you know who set it, delete it, or give \
             table {table} the routes to the peers"
        ),
    ))
}

/// The part of the CIDR that is wrong, where the rest of it is not: "10.244.2.64/26".
fn part_of(slot: &Slot, judged: &Judged<'_>) -> Option<String> {
    let mut faulty = judged.parts.iter().filter(|part| part.fault.is_some()).peekable();
    faulty.peek()?;
    let inside = |part: &verdict::Part<'_>| {
        let prefix = part.entry?.meant_for();
        (prefix != slot.cidr && slot.cidr.contains(&prefix)).then_some(prefix)
    };
    let parts: Vec<IpNet> = faulty.map(inside).collect::<Option<_>>()?;
    Some(match parts.as_slice() {
        [one] => one.to_string(),
        many => format!("{} and {} more", many.first()?, many.len() - 1),
    })
}

/// What a verdict says besides its kind.
fn reason(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Blackholed { reason } | Verdict::NoRoute { reason } | Verdict::Loop { reason } => reason.clone(),
        other => other.to_string(),
    }
}

/// The route that a data plane of plain next hops would have: for the peer's
/// address on a common segment. Tunnels are better left to their daemon.
fn by_hand(scene: &Scene<'_>, source: Source<'_>, slot: &Slot) -> Option<String> {
    let owner = scene.node(&slot.owner)?;
    if source.habit.tunnel || !habit::on_link(source.host, owner, slot.cidr) {
        return None;
    }
    let v4 = slot.cidr.addr().is_ipv4();
    let address = owner.internal_ips.iter().find(|address| address.is_ipv4() == v4)?;
    let family = if v4 { "" } else { "-6 " };
    Some(format!("ip {family}route replace {} via {address}", slot.cidr))
}

/// What takes a route for only a part of the CIDR away: no CNI's daemon made it, so none
/// removes it. `None`: it is for all of the CIDR.
fn inside_by_hand(name: &str, slot: &Slot, entry: &ForwardingEntry) -> Option<String> {
    let prefix = entry.meant_for();
    let table = entry.route?.table;
    if prefix == slot.cidr || !slot.cidr.contains(&prefix) {
        return None;
    }
    let family = if prefix.addr().is_ipv4() { "" } else { "-6 " };
    Some(match &entry.landing {
        Landing::Host { device } => format!(
            "{} is an address of {name}. Once you know who set it, on {name}: ip {family}addr del {prefix} dev {device}",
            prefix.addr()
        ),
        _ => {
            let table = if table == 254 {
                String::new()
            } else {
                format!(" table {table}")
            };
            format!("Once you know who set it, on {name}: ip {family}route del {prefix}{table}")
        }
    })
}

/// The FDB entry that would be right, where the owner's address is known.
fn fdb_by_hand(scene: &Scene<'_>, source: Source<'_>, slot: &Slot, landing: Option<&Landing>) -> String {
    let Some(
        landing @ Landing::Underlay {
            via: Via::Vxlan { device, lladdr, .. },
            address,
        },
    ) = landing
    else {
        return String::new();
    };
    // Another node's MAC has the right destination there: sending it elsewhere would break that node too.
    let foreign = tunnel::layers(scene, landing)
        .and_then(|layers| layers.neighbour.1)
        .is_some_and(|node| node != slot.owner);
    if foreign {
        return neighbour_by_hand(scene, source, slot, landing);
    }
    let right = scene.node(&slot.owner).and_then(|owner| {
        let public = owner.flannel.as_ref().and_then(|flannel| flannel.public_ip);
        public.or_else(|| owner.internal_ips.first().copied())
    });
    match right {
        Some(right) if right != *address => format!(
            "; or by hand, on {}: bridge fdb replace {lladdr} dev {device} dst {right} self permanent",
            source.node.name
        ),
        _ => String::new(),
    }
}

/// The neighbour entry that would be right, where the owner's MAC is known.
fn neighbour_by_hand(scene: &Scene<'_>, source: Source<'_>, slot: &Slot, landing: &Landing) -> String {
    let right = scene
        .node(&slot.owner)
        .and_then(|owner| tunnel::right_neighbour(scene, owner, landing));
    match right {
        Some((device, gateway, mac)) => format!(
            "; or by hand, on {}: ip neigh replace {gateway} lladdr {mac} dev {device} nud permanent",
            source.node.name
        ),
        None => String::new(),
    }
}
