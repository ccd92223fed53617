//! What flannel programs on a host, for itself and for each peer, and takes
//! away again when a peer's Node goes.

use ipnet::IpNet;

use crate::ip::{Error, Vxlan};
use crate::route::Route;
use crate::step::{Step, Verb};
use crate::topology::{Dataplane, Host, Identity};

/// flannel's VNI and port on Linux (the port is the kernel's old default).
const VNI: u32 = 1;
const PORT: u16 = 8472;
/// Outer Ethernet, IP, UDP and VXLAN headers on a 1500 byte underlay.
const MTU_V4: u32 = 1500 - 50;
const MTU_V6: u32 = 1500 - 70;

/// The VXLAN device that carries a CIDR's family.
pub fn device(cidr: IpNet) -> &'static str {
    if cidr.addr().is_ipv4() {
        "flannel.1"
    } else {
        "flannel-v6.1"
    }
}

/// The device that pod traffic to other hosts leaves by.
pub fn uplink(dataplane: Dataplane, cidr: IpNet) -> &'static str {
    match dataplane {
        Dataplane::Vxlan => device(cidr),
        Dataplane::HostGw => "eth0",
    }
}

/// The MTU that flannel leaves to pods, as subnet.env tells it.
pub fn pod_mtu(dataplane: Dataplane) -> u32 {
    match dataplane {
        Dataplane::Vxlan => MTU_V4,
        Dataplane::HostGw => 1500,
    }
}

/// The host's own devices.
pub(crate) fn prepare(dataplane: Dataplane, host: &Host) -> Result<(), Error> {
    if dataplane == Dataplane::HostGw {
        return Ok(());
    }
    for &cidr in &host.identity.cidrs {
        let Some(local) = host.identity.underlay_for(cidr) else {
            continue;
        };
        let vxlan = Vxlan {
            vni: VNI,
            device: "eth0".to_owned(),
            local,
            port: PORT,
            address: host.identity.vtep(cidr),
            mtu: if local.is_ipv4() { MTU_V4 } else { MTU_V6 },
        };
        host.ip.add_vxlan(device(cidr), &vxlan)?;
        host.ip.add_addr(device(cidr), IpNet::from(cidr.network()))?;
        host.ip.set_up(device(cidr))?;
    }
    Ok(())
}

/// The route to one of a peer's CIDRs.
pub fn peer_route(dataplane: Dataplane, cidr: IpNet, peer: &Identity) -> Option<Route> {
    Some(match dataplane {
        Dataplane::Vxlan => Route::onlink(cidr, cidr.network(), device(cidr)),
        Dataplane::HostGw => Route::via(cidr, peer.underlay_for(cidr)?, "eth0"),
    })
}

/// Everything that a host has of a peer, in the order that flannel adds it.
pub fn peer_steps(dataplane: Dataplane, host: &str, peer: &Identity) -> Vec<Step> {
    let mut steps = Vec::new();
    for &cidr in &peer.cidrs {
        let (Some(route), Some(underlay)) = (peer_route(dataplane, cidr, peer), peer.underlay_for(cidr)) else {
            continue;
        };
        let mut verbs = Vec::new();
        if dataplane == Dataplane::Vxlan {
            verbs.push(Verb::ReplaceNeigh {
                device: device(cidr).to_owned(),
                address: cidr.network(),
                lladdr: peer.vtep(cidr),
            });
            verbs.push(Verb::ReplaceFdb {
                device: device(cidr).to_owned(),
                lladdr: peer.vtep(cidr),
                destination: underlay,
            });
        }
        verbs.push(Verb::ReplaceRoute(route));
        steps.extend(verbs.into_iter().map(|verb| Step::on(host, verb)));
    }
    steps
}

/// Takes all of that away, as flannel does when the peer's Node goes.
pub fn forget_steps(dataplane: Dataplane, host: &str, peer: &Identity) -> Vec<Step> {
    let undone = |step: Step| match step {
        Step::Kernel { host, verb } => Some(Step::Kernel {
            host,
            verb: verb.opposite()?,
        }),
        _ => None,
    };
    peer_steps(dataplane, host, peer)
        .into_iter()
        .rev()
        .filter_map(undone)
        .collect()
}

pub(crate) fn add_peer(dataplane: Dataplane, host: &Host, peer: &Identity) -> Result<(), Error> {
    for step in peer_steps(dataplane, &host.identity.name, peer) {
        if let Step::Kernel { verb, .. } = step {
            verb.apply(&host.ip)?;
        }
    }
    Ok(())
}
