//! MTUs: tunnels whose packets do not fit into the uplink, and pods whose packets do not fit into the tunnel.

use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::Severity;
use ipnet::IpNet;

use super::{Fault, Pods, lost};
use crate::resolve::{Flow, Resolver};
use crate::view::{Link, LinkDetail};

/// Far ends that are looked up: one that packets do not fit to is enough.
const FAR_ENDS: usize = 64;

pub(super) fn judge(pods: &Pods<'_>, faults: &mut Vec<Fault>) {
    for link in pods.tunnels() {
        // One that is down, or that no route leaves by, carries nothing; that peers are lost then PATH01 and PATH04 say.
        if link.up && pods.routes_by(link.index).next().is_some() {
            faults.extend(too_large(pods, link));
        }
    }
    faults.extend(bridge(pods));
}

/// Bytes that the tunnel puts around a packet, at least.
fn overhead(link: &Link) -> Option<u32> {
    match (link.kind.as_str(), link.detail) {
        // Ethernet 14, VXLAN 8, UDP 8, IPv4 20 or IPv6 40.
        (
            "vxlan",
            LinkDetail::Vxlan {
                external: false, fact, ..
            },
        ) => Some(if fact.local.is_some_and(|local| local.is_ipv6()) {
            70
        } else {
            50
        }),
        ("ipip" | "sit", _) => Some(20),
        // IPv4 20, UDP 8, its header and tag 32; 20 more over IPv6.
        ("wireguard", _) => Some(60),
        _ => None,
    }
}

fn too_large(pods: &Pods<'_>, link: &Link) -> Option<Fault> {
    let overhead = overhead(link)?;
    let outer = outer(pods, link, link.mtu + overhead)?;
    Some(Fault {
        severity: Severity::Warning,
        what: format!(
            "packets of full size do not fit: {} has MTU {}, {overhead} bytes come on top, and {} takes {}",
            link.name, link.mtu, outer.name, outer.mtu
        ),
        prefix: None,
        evidence: pods.input.kernel_evidence(format!(
            "{} mtu {} ({}), {} mtu {}",
            link.name, link.mtu, link.kind, outer.name, outer.mtu
        )),
        lost: lost::TOO_LARGE,
        cause: "The uplink's MTU was lowered, or the CNI was told one that leaves no room for the tunnel's headers: such packets \
                are fragmented, or vanish where the network or a firewall drops fragments. Small ones pass.",
        remedy: format!(
            "give the CNI an MTU of at most {} and replace the pods one after another; running ones keep theirs",
            outer.mtu.saturating_sub(overhead)
        ),
    })
}

/// The device that the tunnel's packets leave by, where they are certainly too large for it.
fn outer<'a>(pods: &Pods<'a>, link: &Link, size: u32) -> Option<&'a Link> {
    let kernel = pods.input.kernel;
    let small = |link: &&Link| link.up && !link.loopback && link.mtu < size;
    if !kernel.links.values().any(|link| small(&link)) {
        return None;
    }
    if link.kind == "wireguard" {
        // Its peers do not show: only where every uplink is too small.
        let uplinks = kernel.links.values().filter(|link| {
            // An address of the Node's on a dummy device is reached by others.
            pods.roles.get(&link.index) == Some(&LinkRole::Uplink) && link.kind != "dummy"
        });
        return uplinks.max_by_key(|link| link.mtu).filter(small);
    }
    let ends = match link.detail {
        LinkDetail::Vxlan { .. } => {
            let mine = kernel.fdb.iter().filter(|((device, _), _)| *device == link.index);
            let mut ends: Vec<_> = mine
                .flat_map(|(_, entries)| entries)
                .filter_map(|entry| entry.destination)
                .collect();
            ends.sort();
            ends
        }
        LinkDetail::Ipip { remote: Some(remote) } => vec![remote],
        _ => {
            let hops = pods.routes_by(link.index).filter_map(|route| match &route.hops {
                crate::view::Hops::One(hop) => hop.gateway,
                _ => None,
            });
            hops.collect()
        }
    };
    let resolver = Resolver::new(kernel, &[]);
    ends.into_iter().take(FAR_ENDS).find_map(|end| {
        let hops = resolver.lookup(&Flow::to(end)).hops;
        let by: Vec<&Link> = hops.iter().filter_map(|hop| kernel.links.get(&hop.device?)).collect();
        // The loopback is the way to oneself; where the kernel chooses between several, the largest is certain.
        by.into_iter().max_by_key(|link| link.mtu).filter(small)
    })
}

/// flannel's plugin gives pods the MTU of subnet.env, and a bridge follows its ports. Where the bridge has more than
/// that and than the tunnel, pods were made with another.
fn bridge(pods: &Pods<'_>) -> Option<Fault> {
    let env = pods.input.cni.flannel.as_ref().filter(|_| pods.plugin == "flannel")?;
    let links = &pods.input.kernel.links;
    let bridge = pods
        .entrances
        .iter()
        .find_map(|index| links.get(index).filter(|link| link.kind == "bridge"))?;
    let in_use = |link: &&Link| link.up && pods.routes_by(link.index).next().is_some();
    let tunnel = pods.tunnels().filter(in_use).max_by_key(|link| link.mtu)?;
    if env.mtu == 0 || bridge.mtu <= env.mtu || bridge.mtu <= tunnel.mtu {
        return None;
    }
    let network = env.networks.iter().find(|net| matches!(net, IpNet::V4(_)));
    Some(Fault {
        severity: Severity::Warning,
        what: format!(
            "pods send packets that do not fit into the tunnel: {} has MTU {}, {} has {}",
            bridge.name, bridge.mtu, tunnel.name, tunnel.mtu
        ),
        prefix: network.copied(),
        evidence: pods.input.file_evidence(
            &env.path,
            format!("FLANNEL_MTU={}, while {} has mtu {}", env.mtu, bridge.name, bridge.mtu),
        ),
        lost: lost::TOO_LARGE,
        cause: "These pods were made before flannel lowered its MTU, or its delegate sets another one: what is larger than the \
                tunnel takes is fragmented, or answered with an ICMP message that not everybody heeds.",
        remedy: "replace this node's pods one after another; new ones get FLANNEL_MTU".to_owned(),
    })
}
