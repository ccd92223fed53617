//! Counters as they are told: uplinks, bridges and tunnels by name, pods' own ports together.

use std::collections::BTreeMap;

use cidrift_proto::facts::{Counted, Direction, LinkRole, LinkTraffic, TrafficFact};

use crate::resolve::Roles;
use crate::view::traffic::DeviceCounts;
use crate::view::{Host, Kernel};

/// Devices told by name at most: a node has a handful.
const NAMED: usize = 32;

/// The counters of the host; `None` where they could not be read.
pub fn traffic(kernel: &Kernel, roles: &Roles, host: &Host) -> Option<TrafficFact> {
    let counts = &host.traffic.get()?.now;
    let mut links = Vec::new();
    let mut ports = link(String::new(), LinkRole::PodPort, 0, DeviceCounts::default());
    for (role, device, counts) in on_the_way(kernel, roles, &counts.devices) {
        if role == LinkRole::PodPort {
            ports.links += 1;
            ports.received = ports.received.plus(counts.received);
            ports.sent = ports.sent.plus(counts.sent);
        } else if links.len() < NAMED {
            links.push(link(device.to_owned(), role, 1, counts));
        }
    }
    if ports.links > 0 {
        links.push(ports);
    }
    let counted = counts.ip.iter().filter(|(_, value)| **value > 0);
    Some(TrafficFact {
        observed_at: host.traffic.at,
        links,
        counted: counted
            .map(|(name, value)| Counted {
                name: (*name).to_owned(),
                value: *value,
            })
            .collect(),
    })
}

/// By how much devices of one role grew together: received and sent.
pub type Growth = (LinkRole, Direction, Direction);

/// By how much the devices of each role grew since the reading before; `None` before there are two.
pub fn grown(kernel: &Kernel, roles: &Roles, host: &Host) -> Option<Vec<Growth>> {
    let traffic = host.traffic.get()?;
    let (_, before) = traffic.before.as_ref()?;
    let mut sums: Vec<Growth> = Vec::new();
    for (role, device, counts) in on_the_way(kernel, roles, &traffic.now.devices) {
        let grown = counts.since(before.devices.get(device).copied().unwrap_or_default());
        match sums.iter_mut().find(|(known, ..)| *known == role) {
            Some((_, received, sent)) => {
                *received = received.plus(grown.received);
                *sent = sent.plus(grown.sent);
            }
            None => sums.push((role, grown.received, grown.sent)),
        }
    }
    Some(sums)
}

/// The devices that pods' packets pass, in the order of their ifindexes.
fn on_the_way<'a>(
    kernel: &'a Kernel,
    roles: &'a Roles,
    devices: &'a BTreeMap<String, DeviceCounts>,
) -> impl Iterator<Item = (LinkRole, &'a str, DeviceCounts)> {
    kernel.links.values().filter_map(|link| {
        let role = *roles.get(&link.index)?;
        let passed = matches!(
            role,
            LinkRole::Uplink | LinkRole::Bridge | LinkRole::Tunnel | LinkRole::PodPort
        );
        let counts = devices.get(&link.name).filter(|_| passed)?;
        Some((role, link.name.as_str(), *counts))
    })
}

fn link(name: String, role: LinkRole, links: u32, counts: DeviceCounts) -> LinkTraffic {
    LinkTraffic {
        name,
        role,
        links,
        received: counts.received,
        sent: counts.sent,
    }
}
