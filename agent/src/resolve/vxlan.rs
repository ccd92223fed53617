//! gateway → neighbour → FDB: how a VXLAN device finds the underlay address.

use std::net::IpAddr;

use cidrift_proto::facts::VxlanFact;
use cidrift_proto::landing::{Landing, MacAddress, Via};

use crate::view::{FdbEntry, Kernel, Link, Nexthop};

use super::landing::opaque;

/// The default destination's MAC in the FDB.
const ALL_ZEROS: MacAddress = MacAddress([0; 6]);

/// Where a packet to `gateway` through the VXLAN device lands.
pub(crate) fn landing(
    kernel: &Kernel,
    link: &Link,
    fact: &VxlanFact,
    remote: Option<IpAddr>,
    gateway: IpAddr,
) -> Landing {
    let unresolved = |reason: String| Landing::UnresolvedNeighbour {
        device: link.name.clone(),
        gateway,
        reason,
    };
    let neighbour = kernel.neighbours.get(&(link.index, gateway));
    if neighbour.is_some_and(|neighbour| neighbour.failed) {
        return unresolved("nobody answers for it (neighbour FAILED)".to_owned());
    }
    let Some(lladdr) = neighbour.and_then(|neighbour| neighbour.lladdr) else {
        // Asking for it needs a destination for broadcasts.
        return match default_destinations(kernel, link, remote) {
            Ok(none) if none.is_empty() && !fact.learning => {
                unresolved("no neighbour entry, and nobody to ask".to_owned())
            }
            _ => opaque(
                Some(link),
                &format!("no neighbour entry for {gateway} yet: the device floods or learns"),
            ),
        };
    };
    let underlay = |address| Landing::Underlay {
        address,
        via: Via::Vxlan {
            device: link.name.clone(),
            vni: fact.vni,
            gateway,
            lladdr,
        },
    };
    let entries = kernel.fdb.get(&(link.index, lladdr)).map_or(&[][..], Vec::as_slice);
    // The usual case, without a list made of it.
    if let [
        FdbEntry {
            destination: Some(address),
            nexthop: None,
            ..
        },
    ] = entries
        && !address.is_multicast()
    {
        return underlay(*address);
    }
    let found = match destinations(kernel, entries) {
        Ok(none) if none.is_empty() => default_destinations(kernel, link, remote),
        other => other,
    };
    match found.as_deref() {
        Err(reason) => opaque(Some(link), reason),
        Ok([]) if fact.learning => opaque(Some(link), &format!("no FDB entry for {lladdr} yet: the device learns")),
        Ok([]) => unresolved(format!("no FDB entry for {lladdr}")),
        Ok([address]) if address.is_multicast() => opaque(Some(link), &format!("{lladdr} is flooded to {address}")),
        Ok([address]) => underlay(*address),
        Ok(several) => opaque(Some(link), &format!("{lladdr} goes to {} destinations", several.len())),
    }
}

/// Where packets without an FDB entry go: the all-zeros entries, which the
/// kernel makes of the device's remote too.
fn default_destinations(kernel: &Kernel, link: &Link, remote: Option<IpAddr>) -> Result<Vec<IpAddr>, String> {
    let entries = kernel.fdb.get(&(link.index, ALL_ZEROS)).map_or(&[][..], Vec::as_slice);
    let mut found = destinations(kernel, entries)?;
    if let Some(remote) = remote
        && !found.contains(&remote)
    {
        found.push(remote);
    }
    Ok(found)
}

/// The distinct destinations of FDB entries, nexthop groups resolved.
fn destinations(kernel: &Kernel, entries: &[FdbEntry]) -> Result<Vec<IpAddr>, String> {
    let mut found = Vec::new();
    let mut add = |address: IpAddr| {
        if !found.contains(&address) {
            found.push(address);
        }
    };
    for entry in entries {
        if let Some(address) = entry.destination {
            add(address);
        }
        let Some(id) = entry.nexthop else { continue };
        match kernel.nexthops.get(&id) {
            Some(Nexthop::Fdb(address)) => add(*address),
            Some(Nexthop::Group(members)) => {
                for (member, _) in members {
                    match kernel.nexthops.get(member) {
                        Some(Nexthop::Fdb(address)) => add(*address),
                        _ => return Err(format!("nexthop {member} of FDB group {id} is not in the view")),
                    }
                }
            }
            _ => return Err(format!("FDB nexthop {id} is not in the view")),
        }
    }
    Ok(found)
}
