//! Policy rules that look somewhere else before table main.

use std::fmt::Write;

use cidrift_proto::finding::Severity;
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing, Via};
use ipnet::IpNet;

use super::{CODE, Case, Diversion, Judged, Roles, entry, hops, is_tunnel, main_prefixes, way};
use crate::resolve::MAIN;
use crate::view::{Route, RouteKind, Rule, RuleAction};

/// The tables that every host has rules for: local, main, default.
const INITIAL: [u32; 3] = [255, MAIN, 253];

pub(super) fn diversions(case: &Case<'_>, roles: &Roles, judged: &mut Judged) -> Vec<Diversion> {
    // Nearly every host has none, and then there is nothing to look for.
    if !case.input.kernel.rules.iter().any(is_special) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut undecided = None;
    for (prefix, routes) in main_prefixes(case) {
        let Some(main) = routes.first().filter(|route| route.kind == RouteKind::Unicast) else {
            continue;
        };
        let Some(entry) = entry(case, prefix) else { continue };
        if let Landing::Opaque { device: None, reason } = &entry.landing {
            undecided.get_or_insert_with(|| format!("{prefix}: {reason}"));
            continue;
        }
        found.extend(diversion(case, roles, prefix, main, &entry));
    }
    if let Some(reason) = undecided {
        judged.unjudged(CODE, reason);
    }
    found
}

fn is_special(rule: &Rule) -> bool {
    match rule.action {
        RuleAction::Table(table) => !INITIAL.contains(&table),
        RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => true,
        RuleAction::Goto(_) | RuleAction::Nop => false,
    }
}

fn diversion(
    case: &Case<'_>,
    roles: &Roles,
    prefix: IpNet,
    main: &Route,
    entry: &ForwardingEntry,
) -> Option<Diversion> {
    let rule = deciding(case, prefix, entry)?;
    let (lost, device) = match &entry.landing {
        Landing::Discard { .. } => (true, None),
        Landing::DeadDevice { device, .. } | Landing::UnresolvedNeighbour { device, .. } => (true, Some(device)),
        Landing::Underlay {
            via: Via::Gateway { device },
            ..
        }
        | Landing::Onlink { device }
        | Landing::Local { device, .. }
        | Landing::Host { device } => (false, Some(device)),
        // Not in the FIB, by a tunnel, some of it one way and some another: perhaps the CNI's own. No rule led to no route.
        Landing::Opaque { .. } | Landing::Underlay { .. } | Landing::Multipath { .. } | Landing::NoRoute => {
            return None;
        }
    };
    if device.is_some_and(|device| is_tunnel(case, roles, device) || same_way(case, main, entry)) {
        return None;
    }
    let line = line(rule);
    let verb = if lost { "loses it" } else { "sends it elsewhere" };
    let instead = way(case.input.kernel, main);
    Some(Diversion {
        prefix,
        severity: Severity::Error,
        what: format!(
            "rule {line} {verb}: {prefix} lands {}, main has {instead}",
            entry.landing
        ),
        evidence: vec![
            case.input.kernel_evidence(format!("rule: {line}")),
            case.input.kernel_evidence(match entry.route {
                Some(route) => format!("{} {} (table {})", route.prefix, entry.landing, route.table),
                None => format!("{prefix}: {}", entry.landing),
            }),
            case.input.kernel_evidence(format!("{prefix} {instead} (table main)")),
        ],
        cause: "A policy rule looks somewhere else before table main, where the CNI's route is: of a VPN, of a second uplink's \
                policy routing, or left of another CNI.",
        remedy: format!(
            "ip {}rule add to {prefix} lookup main priority {}, until whoever made rule {} exempts the pod ranges there",
            if rule.ipv6 { "-6 " } else { "" },
            rule.priority.saturating_sub(1),
            rule.priority
        ),
        changed_at: entry.changed_at,
    })
}

/// The rule that led to this entry, where it is certain which: the first that may match and does what was found.
fn deciding<'a>(case: &Case<'a>, prefix: IpNet, entry: &ForwardingEntry) -> Option<&'a Rule> {
    let wanted = match (entry.route, &entry.landing) {
        (Some(route), _) if INITIAL.contains(&route.table) => return None,
        (Some(route), _) => RuleAction::Table(route.table),
        (None, Landing::Discard { how }) => match how {
            Discard::Blackhole => RuleAction::Blackhole,
            Discard::Unreachable => RuleAction::Unreachable,
            Discard::Prohibit => RuleAction::Prohibit,
        },
        (None, _) => return None,
    };
    let mut rules: Vec<&Rule> = (case.input.kernel.rules.iter())
        .filter(|rule| rule.ipv6 != prefix.addr().is_ipv4() && rule.action == wanted && may_match(case, rule, prefix))
        .collect();
    rules.sort_by_key(|rule| rule.priority);
    rules.first().copied()
}

/// Whether the rule may match what this host's pods send to `prefix`. (A `not` is taken at its word.)
fn may_match(case: &Case<'_>, rule: &Rule, prefix: IpNet) -> bool {
    let to = rule.destination.is_none_or(|to| to.contains(&prefix));
    let from = rule.source.is_none_or(|from| {
        let mut own = case.expectation.pod_cidrs.iter();
        from.prefix_len() == 0 || own.any(|own| from.contains(own))
    });
    // What a packet of any pod has not got: no mark, no known port.
    let plain = rule.mark.is_none()
        && rule.tos == 0
        && rule.ip_protocol.is_none()
        && rule.source_ports.is_none()
        && rule.destination_ports.is_none()
        && rule.uids.is_none()
        && rule.oif.is_none();
    rule.invert || (to && from && plain)
}

/// Whether the route that decided has a next hop of main's: then both lead to the same place.
fn same_way(case: &Case<'_>, main: &Route, entry: &ForwardingEntry) -> bool {
    let kernel = case.input.kernel;
    let ways = |route| hops(kernel, route).into_iter().map(|hop| (hop.device, hop.gateway));
    let decided = entry
        .route
        .and_then(|route| kernel.routes.at(route.table, &route.prefix).first());
    decided.is_some_and(|route| ways(route).any(|way| ways(main).any(|mains| mains == way)))
}

/// As `ip rule` shows it.
fn line(rule: &Rule) -> String {
    let mut text = format!("{}:", rule.priority);
    if rule.invert {
        text.push_str(" not");
    }
    match rule.source {
        Some(from) => _ = write!(text, " from {from}"),
        None => text.push_str(" from all"),
    }
    if let Some(to) = rule.destination {
        let _ = write!(text, " to {to}");
    }
    if let Some((value, mask)) = rule.mark {
        let _ = write!(text, " fwmark {value:#x}/{mask:#x}");
    }
    if let Some(iif) = &rule.iif {
        let _ = write!(text, " iif {iif}");
    }
    match rule.action {
        RuleAction::Table(table) => _ = write!(text, " lookup {table}"),
        RuleAction::Goto(target) => _ = write!(text, " goto {target}"),
        RuleAction::Nop => text.push_str(" nop"),
        RuleAction::Blackhole => text.push_str(" blackhole"),
        RuleAction::Unreachable => text.push_str(" unreachable"),
        RuleAction::Prohibit => text.push_str(" prohibit"),
    }
    text
}
