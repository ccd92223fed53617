//! Strict reverse-path filtering on a tunnel whose return path is another device.
//!
//! With `rp_filter` 1 the kernel drops what comes in by another device than the one that it would send to its source
//! by. Which device a peer's packets come in by does not show on one host. Where the CNI's own route to a peer leaves
//! by a tunnel, though, the peer's leads into the same tunnel: if this host's policy rules then send the answers by
//! another device, the filter drops what comes out of the tunnel.

use std::net::IpAddr;

use cidrift_proto::finding::Severity;
use ipnet::IpNet;

use super::{Fault, Pods, lost};
use crate::resolve::{Flow, MAIN, Resolver};
use crate::view::Link;
use crate::view::host::Settings;

/// Peers that are looked up for each tunnel: one tells as much as all, and a cluster has thousands.
const PEERS: usize = 64;

const STRICT: u8 = 1;

pub(super) fn judge(pods: &Pods<'_>, settings: &Settings, faults: &mut Vec<Fault>) {
    // The kernel has no such filter for IPv6.
    let strict: Vec<&Link> = (pods.tunnels())
        .filter(|link| pods.ipv4 && link.up && effective(settings, &link.name) == STRICT)
        .collect();
    if strict.is_empty() {
        return;
    }
    let resolver = Resolver::new(pods.input.kernel, &[]);
    for link in strict {
        faults.extend(fault(pods, &resolver, link, settings));
    }
}

/// The higher of `all` and the device's own counts.
fn effective(settings: &Settings, device: &str) -> u8 {
    let own = settings.rp_filter.get(device).copied().unwrap_or(0);
    own.max(settings.rp_filter_all.unwrap_or(0))
}

fn fault(pods: &Pods<'_>, resolver: &Resolver<'_>, link: &Link, settings: &Settings) -> Option<Fault> {
    let kernel = pods.input.kernel;
    let routes = pods.routes_by(link.index).filter(|route| route.prefix.prefix_len() > 0);
    for route in routes.take(PEERS) {
        let IpNet::V4(prefix) = route.prefix else { continue };
        // As `fib_validate_source` looks it up: to the source, from the destination, as if made here.
        let source = prefix.hosts().nth(1).unwrap_or(prefix.network());
        let decision = resolver.lookup(&Flow {
            source: own_pod(pods),
            ..Flow::to(IpAddr::V4(source))
        });
        let Some(found) = decision.route else { continue };
        let by: Vec<u32> = decision.hops.iter().filter_map(|hop| hop.device).collect();
        // A longer route in main for a part of the prefix says nothing about the rest.
        if found.table == MAIN || by.is_empty() || by.contains(&link.index) {
            continue;
        }
        let names: Vec<&str> = by
            .iter()
            .filter_map(|index| Some(kernel.links.get(index)?.name.as_str()))
            .collect();
        let other = names.join(", ");
        let own = settings.rp_filter.get(&link.name).copied().unwrap_or(0);
        let all = settings.rp_filter_all.unwrap_or(0);
        return Some(Fault {
            severity: Severity::Error,
            what: format!(
                "packets from {prefix} that come out of {} are dropped by strict reverse-path filtering: answers would leave by {other}",
                link.name
            ),
            prefix: Some(route.prefix),
            evidence: pods.input.observed_evidence(
                &pods.input.host.settings,
                format!(
                    "net.ipv4.conf.{}.rp_filter = {own}, all = {all}; {prefix} is in main by {}, and table {} sends it by {other}",
                    link.name, link.name, found.table
                ),
            ),
            lost: lost::REVERSE_PATH,
            cause: "Strict filtering meets a policy rule: the way back to the tunnel's peers is not the way that they come.",
            remedy: format!(
                "take the rule away that looks into table {}, or filter loosely: sysctl -w net/ipv4/conf/{}/rp_filter=2",
                found.table, link.name
            ),
        });
    }
    None
}

/// The gateway address that this host has in its pods' network: in none of the rules' eyes different from a pod's.
fn own_pod(pods: &Pods<'_>) -> Option<IpAddr> {
    let cidrs = pods.input.expectation.map_or(&[][..], |told| &told.pod_cidrs);
    let own = cidrs.iter().find(|cidr| cidr.addr().is_ipv4())?;
    own.hosts().nth(1)
}
