//! Routes of table main that are more specific than a peer's, or lie in the cluster's ranges without being the CNI's.

use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::Severity;
use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::{Case, Diversion, Roles, entry, holds_own, is_own, main_prefixes, way};
use crate::resolve::{MAIN, devices};
use crate::view::{Route, RouteKind};

/// `rtm_protocol` of routes that the kernel makes for an address.
const KERNEL: u8 = 2;
/// BIRD and Felix: Calico's own blocks are discards, and inside other routes.
const CALICO: [u8; 2] = [12, 80];

pub(super) fn diversions(case: &Case<'_>, roles: &Roles) -> Vec<Diversion> {
    let mut found = Vec::new();
    // The routes around the present one, the widest first: prefixes come before those inside them.
    let mut around: Vec<(IpNet, &Route)> = Vec::new();
    for (prefix, routes) in main_prefixes(case) {
        let Some(route) = routes.first() else { continue };
        while around.last().is_some_and(|(wide, _)| !wide.contains(&prefix)) {
            around.pop();
        }
        let peer = around.last().copied().filter(|(wide, _)| !holds_own(case, *wide));
        around.push((prefix, route));
        if is_own(case, prefix) || holds_own(case, prefix) {
            continue;
        }
        match route.kind {
            RouteKind::Discard(_) => found.extend(left_over(case, prefix, route, peer)),
            RouteKind::Unicast if route.protocol == KERNEL => {
                found.extend(foreign(case, roles, prefix, route, peer.is_some()))
            }
            _ => {}
        }
    }
    found
}

/// A discard inside a route to a peer.
fn left_over(case: &Case<'_>, prefix: IpNet, route: &Route, peer: Option<(IpNet, &Route)>) -> Option<Diversion> {
    let (whole, around) = peer.filter(|(_, around)| around.kind == RouteKind::Unicast)?;
    if case.model.is_calico() || CALICO.contains(&route.protocol) || CALICO.contains(&around.protocol) {
        return None;
    }
    let entry = entry(case, prefix)?;
    let Landing::Discard { how } = entry.landing else {
        return None;
    };
    if entry
        .route
        .is_none_or(|decided| decided.table != MAIN || decided.prefix != prefix)
    {
        return None;
    }
    let whole_way = way(case.input.kernel, around);
    Some(Diversion {
        prefix,
        severity: Severity::Error,
        what: format!("{how} {prefix} takes a part of {whole}, which goes {whole_way}"),
        evidence: vec![
            case.input
                .kernel_evidence(format!("{how} {prefix} (table main, proto {})", route.protocol)),
            case.input.kernel_evidence(format!("{whole} {whole_way} (table main)")),
            case.expectation.evidence(),
        ],
        cause: "A discard route is left from the time when this part was this node's own range, or nobody's: flannel \
                (--ip-blackhole-route) does not take the former one away when the range changes.",
        remedy: format!(
            "ip {}route del {how} {prefix}, once you know that no daemon of this node keeps it",
            family(prefix)
        ),
        changed_at: entry.changed_at,
    })
}

/// The network of an address on a device that is not the CNI's, inside the cluster's ranges.
fn foreign(case: &Case<'_>, roles: &Roles, prefix: IpNet, route: &Route, peers: bool) -> Option<Diversion> {
    // One address is a peer's or a pod's; a whole network on a device is somebody's segment.
    if prefix.prefix_len() == prefix.max_prefix_len() {
        return None;
    }
    let entry = entry(case, prefix)?;
    let Landing::Local { device, .. } = &entry.landing else {
        return None;
    };
    if entry
        .route
        .is_none_or(|decided| decided.table != MAIN || decided.prefix != prefix)
    {
        return None;
    }
    let link = case.link(device)?;
    let cnis = case.model.delivery.device() == Some(device) || roles.get(&link.index) == Some(&LinkRole::Tunnel);
    // Only what is known never to be a CNI's: bridges of container engines and hypervisors, and VPNs' devices.
    let somebodys = match link.kind.as_str() {
        "bridge" => ["docker", "br-", "virbr", "podman", "lxcbr", "lxdbr"]
            .iter()
            .any(|name| device.starts_with(name)),
        "tun" => !device.starts_with("flannel"),
        _ => false,
    };
    if cnis || !somebodys || !devices(case.input.kernel, &route.hops).contains(&link.index) {
        return None;
    }
    let own: Vec<IpNet> = link.addresses.iter().map(|address| address.net).collect();
    Some(Diversion {
        prefix,
        // Outside every route to a peer nobody has it yet; whoever gets it will not be reached from here.
        severity: if peers { Severity::Error } else { Severity::Warning },
        what: format!("{prefix} is {device}'s own network here, and lies in the cluster's pod ranges"),
        evidence: vec![
            case.input
                .kernel_evidence(format!("{prefix} dev {device} proto kernel (table main)")),
            case.input
                .kernel_evidence(format!("{device}: {}", super::super::list(&own))),
        ],
        cause: "A container engine's, a hypervisor's or a VPN's network overlaps with the pods' ranges: what is sent to pods of \
                other nodes there stays on this host or goes into the VPN.",
        remedy: format!(
            "give {device} another network (for Docker: \"bip\" and \"default-address-pools\" in /etc/docker/daemon.json)"
        ),
        changed_at: entry.changed_at,
    })
}

fn family(prefix: IpNet) -> &'static str {
    if prefix.addr().is_ipv4() { "" } else { "-6 " }
}
