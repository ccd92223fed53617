//! HOST10 rule-diverts: a policy rule or a more specific route takes pod traffic elsewhere.
//!
//! Table main is what a CNI writes and what people look at. This rule names what on this host keeps packets from
//! following it, each by what can be seen here alone:
//! - a policy rule that looks somewhere else first, and what it finds loses the packets or hands them to somebody else;
//! - a discard route inside a peer's route, left of a former, smaller range;
//! - another bridge's or a VPN's own network inside the cluster's ranges.
//!
//! Where the other way is a tunnel or is not in the FIB, it may well be the CNI's own (Calico's and Antrea's WireGuard,
//! kube-router's table 77, Kilo, Submariner): nothing is said.

mod inside;
mod rule;

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Evidence, Severity};
use cidrift_proto::landing::ForwardingEntry;
use ipnet::IpNet;
use jiff::Timestamp;

use super::{Case, Judged, Says};
use crate::resolve::{MAIN, Roles, roles};
use crate::view::{Hop, Hops, Kernel, Nexthop, Route};

const CODE: Code = Code::Host10;

/// Something that takes packets away from where table main would send them.
struct Diversion {
    /// The part of the cluster's ranges.
    prefix: IpNet,
    severity: Severity,
    what: String,
    evidence: Vec<Evidence>,
    cause: &'static str,
    remedy: String,
    changed_at: Timestamp,
}

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let roles = roles(case.input.kernel, &case.expectation.internal_ips);
    let mut found = rule::diversions(case, &roles, judged);
    found.extend(inside::diversions(case, &roles));
    let mut seen = BTreeSet::new();
    found.retain(|diversion| seen.insert(diversion.prefix));
    let Some(severity) = found.iter().map(|diversion| diversion.severity).max() else {
        return;
    };
    found.sort_by_key(|diversion| std::cmp::Reverse(diversion.severity));
    let changed = found.iter().map(|diversion| diversion.changed_at).max();
    let mut claim = case.input.claim(CODE, says(&found), changed);
    claim.severity = severity;
    judged.claims.push(claim);
}

/// Every prefix of table main but the default routes, with the routes that the kernel tries in turn.
fn main_prefixes<'a>(case: &Case<'a>) -> impl Iterator<Item = (IpNet, &'a [Route])> {
    let tables = &case.input.kernel.routes;
    let v4 = tables.v4.get(&MAIN).into_iter().flat_map(|table| table.iter());
    let v6 = tables.v6.get(&MAIN).into_iter().flat_map(|table| table.iter());
    let v4 = v4.map(|(prefix, routes)| (IpNet::V4(prefix), routes.as_slice()));
    let v6 = v6.map(|(prefix, routes)| (IpNet::V6(prefix), routes.as_slice()));
    v4.chain(v6).filter(|(prefix, _)| prefix.prefix_len() > 0)
}

/// Whether one of the Node's own CIDRs lies in `prefix`.
fn holds_own(case: &Case<'_>, prefix: IpNet) -> bool {
    case.expectation.pod_cidrs.iter().any(|own| prefix.contains(own))
}

/// Whether `prefix` lies in one of the Node's own CIDRs: HOST04 judges those.
fn is_own(case: &Case<'_>, prefix: IpNet) -> bool {
    case.expectation.pod_cidrs.iter().any(|own| own.contains(&prefix))
}

/// The entry for exactly this prefix, where it is of interest and known.
fn entry(case: &Case<'_>, prefix: IpNet) -> Option<ForwardingEntry> {
    let base = case.input.lookup.coverage(prefix)?.base?;
    (base.prefix == prefix).then_some(base)
}

/// The hops of a route, nexthop objects looked up.
fn hops<'k>(kernel: &'k Kernel, route: &'k Route) -> Vec<&'k Hop> {
    let object = |id: &u32| match kernel.nexthops.get(id) {
        Some(Nexthop::Hop(hop)) => Some(hop),
        _ => None,
    };
    match &route.hops {
        Hops::None => Vec::new(),
        Hops::One(hop) => vec![hop],
        Hops::Many(hops) => hops.iter().collect(),
        Hops::Object(id) => match kernel.nexthops.get(id) {
            Some(Nexthop::Group(members)) => members.iter().filter_map(|(id, _)| object(id)).collect(),
            _ => object(id).into_iter().collect(),
        },
    }
}

/// "via 10.244.2.0 dev flannel.1", as `ip route` would have it.
fn way(kernel: &Kernel, route: &Route) -> String {
    let hops = hops(kernel, route).into_iter().map(|hop| {
        let device = hop.device.and_then(|index| kernel.links.get(&index));
        let device = device.map_or("unknown", |link| link.name.as_str());
        match hop.gateway {
            Some(gateway) => format!("via {gateway} dev {device}"),
            None => format!("dev {device}"),
        }
    });
    hops.collect::<Vec<_>>().join(" and ")
}

fn is_tunnel(case: &Case<'_>, roles: &Roles, device: &str) -> bool {
    use cidrift_proto::facts::LinkRole;
    let role = case.link(device).and_then(|link| roles.get(&link.index));
    role == Some(&LinkRole::Tunnel)
}

fn says(found: &[Diversion]) -> Says {
    let lines: Vec<&str> = found.iter().take(3).map(|diversion| diversion.what.as_str()).collect();
    let more = match found.len() - lines.len() {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    let mut causes: Vec<&str> = found.iter().map(|diversion| diversion.cause).collect();
    causes.dedup();
    causes.truncate(2);
    let mut steps: Vec<&str> = found.iter().map(|diversion| diversion.remedy.as_str()).collect();
    steps.dedup();
    steps.truncate(3);
    let mut evidence: Vec<Evidence> = Vec::new();
    for row in found.iter().flat_map(|diversion| &diversion.evidence) {
        if !evidence.contains(row) {
            evidence.push(row.clone());
        }
    }
    Says {
        summary: format!("pod traffic is taken elsewhere: {}{more}", lines.join("; ")),
        affected: found
            .iter()
            .map(|diversion| Affected {
                prefix: Some(diversion.prefix),
                node: None,
                detail: diversion.what.clone(),
            })
            .collect(),
        evidence,
        cause: causes.join(" "),
        remedy: format!("On the node: {}.", steps.join("; ")),
        ..Says::default()
    }
}
