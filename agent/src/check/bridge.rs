//! HOST02 bridge-address-foreign: the bridge, or flannel's tunnel device, has an
//! address outside the Node's CIDRs, or one with another mask than the CNI's.
//!
//! No bridge yet is fine: it comes with the first pod. Link-local addresses do not count.

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Affected;
use ipnet::IpNet;

use super::{Case, Judged, Ranges, Says, list};
use crate::view::Link;

const CODE: Code = Code::Host02;

/// What is wrong with a device's addresses.
struct Fault<'a> {
    link: &'a Link,
    address: IpNet,
    kind: Kind,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    /// The bridge's address is not the Node's.
    Bridge,
    /// The tunnel's is not.
    Tunnel,
    /// The bridge's is, but its mask is not the CNI's.
    Mask(IpNet),
}

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let mut faults = Vec::new();
    if let Some(bridge) = case.gateway_device() {
        faults.extend(bridge_faults(case, bridge));
    }
    if case.model.is_flannel() {
        faults.extend(tunnel_faults(case));
    }
    if !faults.is_empty() {
        let says = says(case, &faults);
        judged
            .claims
            .push(case.input.claim(CODE, says, case.input.links_changed_at));
    }
}

/// flannel.1, flannel-v6.1, flannel.ipip, flannel-wg: flannel gives each the first address of the node's subnet.
fn is_tunnel(link: &Link) -> bool {
    (link.name.starts_with("flannel.") || link.name.starts_with("flannel-")) && link.kind != "bridge"
}

/// The addresses that count, in the kernel's order.
fn addresses(link: &Link, v4: bool) -> impl Iterator<Item = IpNet> + '_ {
    let usable = link.addresses.iter().filter(|address| !address.unusable);
    usable
        .map(|address| address.net)
        .filter(move |net| net.addr().is_ipv4() == v4 && !link_local(net.addr()))
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn owned(case: &Case<'_>, net: &IpNet) -> bool {
    case.cidrs_of_family(net).any(|cidr| cidr.contains(&net.addr()))
}

fn bridge_faults<'a>(case: &Case<'_>, bridge: &'a Link) -> Vec<Fault<'a>> {
    let mut faults = Vec::new();
    for v4 in [true, false] {
        let all: Vec<IpNet> = addresses(bridge, v4).collect();
        let Some(first) = all.first() else { continue };
        if case.cidrs_of_family(first).next().is_none() {
            continue;
        }
        let wanted = wanted_nets(case, v4);
        if v4 {
            // The bridge plugin goes through the addresses in this order: it is content at its own, and
            // refuses at any other IPv4 address before it.
            let before_own = all.iter().take_while(|net| !wanted.contains(&net.trunc()));
            let foreign = before_own.filter(|net| !owned(case, net));
            faults.extend(foreign.map(|net| fault(bridge, *net, Kind::Bridge)));
        } else if !all.iter().any(|net| owned(case, net)) {
            // Any number of IPv6 addresses may be on it, if one is the Node's.
            faults.extend(all.iter().map(|net| fault(bridge, *net, Kind::Bridge)));
        }
        let right = all.iter().any(|net| wanted.contains(&net.trunc()));
        let ours = all.iter().find(|net| owned(case, net));
        if let (false, Some(net), Some(wanted)) = (right, ours, wanted.first()) {
            faults.push(fault(bridge, *net, Kind::Mask(*wanted)));
        }
    }
    faults
}

/// One tunnel with an address of the Node's is enough: the others are of a backend that was used before.
fn tunnel_faults<'a>(case: &Case<'a>) -> Vec<Fault<'a>> {
    let tunnels = || case.input.kernel.links.values().filter(|link| is_tunnel(link));
    let mut faults = Vec::new();
    for v4 in [true, false] {
        let all = || tunnels().flat_map(|link| addresses(link, v4).map(move |net| (link, net)));
        let judgeable = all().any(|(_, net)| case.cidrs_of_family(&net).next().is_some());
        if judgeable && !all().any(|(_, net)| owned(case, &net)) {
            faults.extend(all().map(|(link, net)| fault(link, net, Kind::Tunnel)));
        }
    }
    faults
}

fn fault(link: &Link, address: IpNet, kind: Kind) -> Fault<'_> {
    Fault { link, address, kind }
}

/// The network that the bridge's address should be in, mask and all: what the CNI's
/// files say where that agrees with the Node, else the Node's CIDR.
fn wanted_nets(case: &Case<'_>, v4: bool) -> Vec<IpNet> {
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == v4;
    let agreed: Vec<IpNet> = case
        .named_subnets()
        .iter()
        .filter(of_family)
        .filter(|net| {
            case.cidrs_of_family(net)
                .any(|cidr| cidr.contains(*net) || net.contains(&cidr))
        })
        .copied()
        .collect();
    if agreed.is_empty() {
        return case.expectation.pod_cidrs.iter().filter(of_family).copied().collect();
    }
    agreed
}

fn says(case: &Case<'_>, faults: &[Fault<'_>]) -> Says {
    let line = |fault: &Fault<'_>| match fault.kind {
        Kind::Bridge | Kind::Tunnel => {
            format!("{} has {}, outside {}", fault.link.name, fault.address, case.cidrs())
        }
        Kind::Mask(wanted) => format!(
            "{} has {} with mask /{} where the CNI uses /{}",
            fault.link.name,
            fault.address,
            fault.address.prefix_len(),
            wanted.prefix_len()
        ),
    };
    let lines: Vec<String> = faults.iter().map(line).collect();
    let mut evidence = vec![case.expectation.evidence()];
    for fault in faults {
        let inet = if fault.address.addr().is_ipv4() {
            "inet"
        } else {
            "inet6"
        };
        let ports = match case.ports(fault.link) {
            0 => String::new(),
            ports => format!(", {ports} ports"),
        };
        evidence.push(
            case.input
                .kernel_evidence(format!("{}: {inet} {}{ports}", fault.link.name, fault.address)),
        );
    }
    let named = named_by(case, faults);
    if let Some((path, text)) = &named {
        evidence.push(case.input.file_evidence(path, text.clone()));
    }
    let (cause, remedy) = why(case, faults, named.map(|(path, _)| path));
    Says {
        summary: lines.join("; "),
        affected: faults
            .iter()
            .map(|fault| Affected {
                prefix: Some(fault.address.trunc()),
                node: None,
                detail: line(fault),
            })
            .collect(),
        evidence,
        cause,
        remedy,
        ..Says::default()
    }
}

/// The file that names the foreign range, if one does: then the bridge only follows it.
fn named_by(case: &Case<'_>, faults: &[Fault<'_>]) -> Option<(String, String)> {
    let cni = case.input.cni;
    let names = |nets: &[IpNet]| {
        let foreign = |fault: &Fault<'_>| !matches!(fault.kind, Kind::Mask(_));
        faults
            .iter()
            .any(|fault| foreign(fault) && nets.iter().any(|net| net.contains(&fault.address.addr())))
    };
    match case.model.ranges {
        Ranges::Config => {
            let config = cni.chosen.as_ref().filter(|config| names(&config.subnets))?;
            Some((
                config.path.clone(),
                format!("host-local ranges {}", list(&config.ranges)),
            ))
        }
        Ranges::SubnetEnv => {
            let env = cni.flannel.as_ref().filter(|env| names(&env.subnets))?;
            Some((env.path.clone(), format!("FLANNEL_SUBNET {}", list(&env.subnets))))
        }
        Ranges::Node | Ranges::Agent => None,
    }
}

fn why(case: &Case<'_>, faults: &[Fault<'_>], named_by: Option<String>) -> (String, String) {
    let node = case.input.node;
    let bridge = faults.iter().find(|fault| fault.kind != Kind::Tunnel);
    if let Some(path) = named_by {
        return (
            format!("It follows {path}, which names another CIDR than the Node has (HOST01)."),
            match bridge {
                Some(fault) => format!("Mend HOST01 first. Then {}", replace(case, fault.link)),
                None => "Mend HOST01: restarting flanneld gives the device its new address too.".to_owned(),
            },
        );
    }
    match bridge {
        Some(fault) => {
            let wanted = match fault.kind {
                Kind::Mask(net) => net,
                _ => wanted_nets(case, fault.address.addr().is_ipv4())
                    .first()
                    .copied()
                    .unwrap_or(fault.address),
            };
            let first = wanted.hosts().next().unwrap_or(wanted.addr());
            (
                format!(
                    "A bridge keeps the address it was made with. The bridge plugin refuses to start pods on it: \
                     \"{}\" already has an IP address different from {first}/{}.",
                    fault.link.name,
                    wanted.prefix_len()
                ),
                replace(case, fault.link),
            )
        }
        None => (
            "flanneld reads the Node's podCIDR once, when it starts, and gives the tunnel device an address of it."
                .to_owned(),
            format!(
                "Restart flanneld on this node: kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={node}."
            ),
        ),
    }
}

/// How to get a bridge with the right address, without harm to pods that still run.
fn replace(case: &Case<'_>, bridge: &Link) -> String {
    let name = &bridge.name;
    match case.ports(bridge) {
        0 => format!("ip link delete {name}: no pod hangs on it, and the CNI makes it anew with the next pod."),
        ports => format!(
            "drain the node ({ports} pods hang on {name}): kubectl drain {} --ignore-daemonsets --delete-emptydir-data, \
             then on the node ip link delete {name}; the CNI makes it anew with the next pod. Then kubectl uncordon {}.",
            case.input.node, case.input.node
        ),
    }
}
