//! The way to a tunnel's far end: what a tunnel device sends, the host routes once more.

use std::net::IpAddr;

use cidrift_proto::landing::{Landing, Leg, Via};
use ipnet::IpNet;

use crate::view::{Kernel, LinkDetail, Nexthop};

use super::flow::{Flow, Query};
use super::table::Outcome;
use super::{Resolver, flow};

impl Resolver<'_> {
    /// This landing, or what is known of it where the host has no way to the tunnel's far end.
    pub(super) fn with_outer(&self, landing: Landing) -> Landing {
        match landing {
            Landing::Underlay {
                address,
                via: Via::Vxlan { ref device, .. } | Via::Ipip { ref device },
            } => match self.no_way(address, device) {
                Some(reason) => Landing::Opaque {
                    device: Some(device.clone()),
                    reason,
                },
                None => landing,
            },
            Landing::Multipath { legs } => Landing::Multipath {
                legs: legs
                    .into_iter()
                    .map(|leg| Leg {
                        landing: self.with_outer(leg.landing),
                        ..leg
                    })
                    .collect(),
            },
            other => other,
        }
    }

    /// Why packets of the host itself to this address go nowhere. That their mark and
    /// device may select another table is why this makes a landing unknown, not lost.
    fn no_way(&self, address: IpAddr, device: &str) -> Option<String> {
        let local = self.kernel.links.values().find(|link| link.name == device);
        let source = local.and_then(|link| match link.detail {
            LinkDetail::Vxlan { fact, .. } => fact.local,
            _ => None,
        });
        let query = Query::from(&Flow {
            source,
            ..Flow::to(address)
        });
        let why = match self.outcome(&query) {
            Outcome::Discard(how, Some(route)) => format!("{how} {}", route.prefix),
            Outcome::Discard(how, None) => format!("a rule says {how}"),
            Outcome::NoRoute(_) => "no route".to_owned(),
            Outcome::Forward(..) | Outcome::Host(_) | Outcome::Unknown(..) => return None,
        };
        Some(format!(
            "the host itself cannot send to the tunnel's far end {address}: {why}"
        ))
    }
}

/// Whether a tunnel's far end may be in `prefix`: a changed route for it then decides
/// about every landing through that tunnel.
pub(super) fn may_hold_an_end(kernel: &Kernel, prefix: IpNet) -> bool {
    let inside = |address: IpAddr| flow::contains(prefix, address.into());
    kernel.links.values().any(|link| match link.detail {
        LinkDetail::Vxlan { remote, .. } => remote.is_some_and(inside),
        // Without a remote the far ends are gateways of routes: all of them would have to be looked at.
        LinkDetail::Ipip { remote } => remote.is_none_or(inside),
        LinkDetail::Plain => false,
    }) || kernel
        .fdb
        .values()
        .flatten()
        .any(|entry| entry.destination.is_some_and(inside))
        || kernel
            .nexthops
            .values()
            .any(|nexthop| matches!(nexthop, Nexthop::Fdb(address) if inside(*address)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::fixture::{FLANNEL, add, add_fdb, add_neighbour, host, link};
    use super::super::{Fib, Scope, lookup};
    use super::*;
    use crate::view::Changes;

    fn flannel() -> Kernel {
        let mut kernel = host();
        add(&mut kernel, "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
        add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
        add_fdb(&mut kernel, FLANNEL, "02:00:00:00:00:02", "192.168.1.2");
        kernel
    }

    fn text(kernel: &Kernel) -> String {
        let flow = Flow::to("10.244.2.9".parse().unwrap());
        lookup(kernel, &flow).landing.to_string()
    }

    #[test]
    fn a_far_end_that_the_host_has_a_way_to_changes_nothing() {
        assert!(text(&flannel()).ends_with("dst 192.168.1.2"));
    }

    #[test]
    fn a_blackholed_or_unrouted_far_end_is_not_where_packets_land() {
        let mut kernel = flannel();
        add(&mut kernel, "blackhole 192.168.1.2/32");
        let said = text(&kernel);
        assert!(said.contains("far end 192.168.1.2: blackhole 192.168.1.2/32"), "{said}");

        let mut kernel = flannel();
        link(&mut kernel, "eth0").up = false;
        let said = text(&kernel);
        assert!(said.contains("far end 192.168.1.2: no route"), "{said}");
    }

    #[test]
    fn a_route_to_a_far_end_that_comes_or_goes_is_followed() {
        let now = Timestamp::UNIX_EPOCH;
        let mut fib = Fib::new();
        fib.set_scope(Scope {
            interest: vec!["10.244.0.0/16".parse().unwrap()],
            ..Scope::default()
        });
        fib.rebuild(&flannel(), now);
        let mut broken = flannel();
        add(&mut broken, "blackhole 192.168.1.2/32");
        let change = Changes {
            prefixes: ["192.168.1.2/32".parse().unwrap()].into(),
            ..Changes::none(now)
        };
        for (kernel, opaque) in [(&broken, true), (&flannel(), false)] {
            let diff = fib.update(kernel, &change, now);
            assert_eq!(diff.upserts.len(), 1);
            assert_eq!(matches!(diff.upserts[0].landing, Landing::Opaque { .. }), opaque);
        }
    }
}
