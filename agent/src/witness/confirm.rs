//! A loss is confirmed by the kernel's own lookup before it is told: a dump
//! may have been torn, a message lost. Pure but for the asking.

use std::net::IpAddr;

use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use crate::observe::netlink::{Answer, Query, Referee};
use crate::resolve::{Decision, Diff, Flow, Resolver};
use crate::view::{Kernel, RouteKind};

/// Lookups for one change. A link that goes down takes thousands of routes
/// with it: a sample spread over them proves that as well.
const LOOKUPS: usize = 16;

/// Prefixes that this change makes worse, a sample of them where there are many.
pub fn suspects(diff: &Diff) -> Vec<IpNet> {
    let lost = diff.removed.iter().copied();
    let bad = diff
        .upserts
        .iter()
        .filter(|entry| is_loss(&entry.landing))
        .map(|entry| entry.prefix);
    let all: Vec<IpNet> = lost.chain(bad).collect();
    let step = all.len().div_ceil(LOOKUPS).max(1);
    all.into_iter().step_by(step).collect()
}

fn is_loss(landing: &Landing) -> bool {
    match landing {
        Landing::Discard { .. }
        | Landing::NoRoute
        | Landing::DeadDevice { .. }
        | Landing::UnresolvedNeighbour { .. } => true,
        Landing::Multipath { legs } => legs.iter().any(|leg| is_loss(&leg.landing)),
        Landing::Host { .. }
        | Landing::Local { .. }
        | Landing::Onlink { .. }
        | Landing::Underlay { .. }
        | Landing::Opaque { .. } => false,
    }
}

/// Asks the kernel about each suspect. Returns those that it denies, with what it says.
pub async fn confirm(referee: &mut Referee, kernel: &Kernel, suspects: &[IpNet]) -> Vec<(IpNet, String)> {
    let resolver = Resolver::new(kernel, &[]);
    let mut denied = Vec::new();
    for &prefix in suspects {
        let address = inside(prefix);
        // Without an answer there is nothing to deny.
        let Ok(answer) = referee.lookup(&Query::to(address)).await else {
            continue;
        };
        let decision = resolver.lookup(&Flow::to(address));
        if let Some(reason) = denies(&decision, &answer) {
            denied.push((prefix, format!("{reason} (asked for {address})")));
        }
    }
    denied
}

/// An address of a prefix: the first that a pod could have.
fn inside(prefix: IpNet) -> IpAddr {
    prefix.hosts().next().unwrap_or(prefix.network())
}

/// Whether the kernel would forward by another route than the view says.
/// Where the kernel drops it too, the loss is real, whatever the reason.
fn denies(decision: &Decision, answer: &Answer) -> Option<String> {
    let Answer::Route {
        kind: RouteKind::Unicast,
        table,
        prefix,
        device,
        nexthop_id,
        ..
    } = answer
    else {
        return None;
    };
    // With a nexthop object an IPv6 lookup may name another route that shares it.
    let shared = nexthop_id.is_some() && matches!(prefix, Some(IpNet::V6(_)));
    let prefix = prefix.filter(|_| !shared);
    let mine = match &decision.route {
        // Without RTM_F_FIB_MATCH the kernel names no prefix: its device must do.
        Some(route) if prefix.is_none() => {
            let known = decision.hops.iter().any(|hop| hop.device == *device);
            if known {
                return None;
            }
            format!("{} in table {}", route.prefix, route.table)
        }
        Some(route) if Some(route.prefix) == prefix && route.table == *table => return None,
        Some(route) => format!("{} in table {}", route.prefix, route.table),
        None => "no route".to_owned(),
    };
    let theirs = prefix.map_or_else(|| "a route".to_owned(), |prefix| prefix.to_string());
    Some(format!(
        "the kernel's lookup finds {theirs} in table {table}, its routes as read have {mine}"
    ))
}

#[cfg(test)]
mod tests {
    use cidrift_proto::landing::{ForwardingEntry, RouteMatch};
    use jiff::Timestamp;

    use std::sync::Arc;

    use super::*;
    use crate::view::Hops;

    fn decision(prefix: Option<&str>) -> Decision {
        Decision {
            route: prefix.map(|prefix| RouteMatch {
                prefix: prefix.parse().unwrap(),
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            landing: Landing::NoRoute,
            hops: Vec::new(),
        }
    }

    fn route(prefix: Option<&str>) -> Answer {
        Answer::Route {
            kind: RouteKind::Unicast,
            table: 254,
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            device: Some(2),
            gateway: None,
            nexthop_id: None,
            hops: Hops::None,
            metric: 0,
            protocol: 3,
        }
    }

    #[test]
    fn a_route_that_the_kernel_still_has_denies_its_loss() {
        let answer = route(Some("10.244.2.0/24"));
        assert!(denies(&decision(None), &answer).is_some());
        let reason = denies(&decision(Some("0.0.0.0/0")), &answer).unwrap();
        assert_eq!(
            reason,
            "the kernel's lookup finds 10.244.2.0/24 in table 254, its routes as read have 0.0.0.0/0 in table 254"
        );
    }

    #[test]
    fn what_the_kernel_drops_too_is_lost() {
        for answer in [Answer::NoRoute, Answer::Refused("EXDEV".into())] {
            assert_eq!(denies(&decision(Some("0.0.0.0/0")), &answer), None);
        }
    }

    #[test]
    fn the_same_route_is_no_denial_whatever_its_device_can_do() {
        assert_eq!(
            denies(&decision(Some("10.244.2.0/24")), &route(Some("10.244.2.0/24"))),
            None
        );
    }

    #[test]
    fn an_old_kernel_that_names_no_prefix_is_judged_by_the_device() {
        let mut mine = decision(Some("10.244.2.0/24"));
        assert!(denies(&mine, &route(None)).is_some());
        mine.hops = vec![crate::view::Hop {
            device: Some(2),
            gateway: None,
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        }];
        assert_eq!(denies(&mine, &route(None)), None);
    }

    #[test]
    fn an_ipv6_answer_by_a_nexthop_object_is_judged_by_the_device() {
        let mut mine = decision(Some("fd01:2::/64"));
        mine.hops = vec![crate::view::Hop {
            device: Some(2),
            gateway: None,
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        }];
        let shared = |id| match route(Some("fd01:3::/64")) {
            Answer::Route {
                kind,
                table,
                prefix,
                device,
                gateway,
                hops,
                metric,
                protocol,
                ..
            } => Answer::Route {
                kind,
                table,
                prefix,
                device,
                gateway,
                nexthop_id: id,
                hops,
                metric,
                protocol,
            },
            other => other,
        };
        assert_eq!(denies(&mine, &shared(Some(7))), None);
        assert!(denies(&mine, &shared(None)).is_some());
        mine.hops[0].device = Some(3);
        assert!(denies(&mine, &shared(Some(7))).is_some());
    }

    #[test]
    fn losses_are_sampled_and_gains_are_not_asked_about() {
        let entry = |number: usize, landing: Landing| ForwardingEntry {
            prefix: format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap(),
            landing,
            route: None,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        let mut diff = Diff {
            upserts: (0..5000)
                .map(|number| entry(number, Landing::NoRoute))
                .map(Arc::new)
                .collect(),
            removed: Vec::new(),
        };
        let many = suspects(&diff);
        assert!(many.len() <= LOOKUPS && many.len() > LOOKUPS / 2);
        diff.upserts = vec![Arc::new(entry(1, Landing::Onlink { device: "eth0".into() }))];
        assert!(suspects(&diff).is_empty());
        diff.removed = vec!["10.0.0.0/8".parse().unwrap()];
        assert_eq!(suspects(&diff).len(), 1);
    }
}
