//! What a route message does to the tables.
//!
//! Messages are applied so that repeating some that a dump already contains
//! ends in the same tables. Where a message's effect cannot be told for sure,
//! the outcome says so, and the caller dumps.

use std::cmp::Reverse;

use super::event::How;
use crate::view::{Hop, Hops, Route, Tables};

/// What a message did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The tables are not what they were.
    pub(super) changed: bool,
    /// The kernel's tables are, for all that this message tells, what these are now.
    pub(super) certain: bool,
}

/// A route came.
pub(super) fn insert(tables: &mut Tables, route: Route, how: How) -> Outcome {
    let (table, prefix) = (route.table, route.prefix);
    let before = tables.at(table, &prefix);
    let mut routes = before.to_vec();
    let same_key: Vec<usize> = indices(&routes, |other| key(other) == key(&route));
    let known = same_key
        .iter()
        .copied()
        .find(|index| same_route(&routes[*index], &route));
    let certain = match (known, same_key.as_slice()) {
        // Told again, or in the dump already. IPv4 could also have two that
        // differ in what the view does not hold (their preferred source).
        (Some(index), _) => {
            routes[index] = route;
            !matches!(how, How::Replaced | How::Prepended) || same_key.len() == 1
        }
        (None, []) => {
            let index = routes.partition_point(|other| order(other) <= order(&route));
            routes.insert(index, route);
            true
        }
        (None, [only]) if how == How::Replaced => {
            routes[*only] = route;
            true
        }
        // Of several, the kernel replaces the first. A new one (EXCL) cannot
        // meet its own key, except where an older message is replayed over a
        // newer dump: the newer state follows.
        (None, [first, ..]) if matches!(how, How::Replaced | How::New) => {
            routes[*first] = route;
            false
        }
        // IPv6 makes one multipath route of these, and tells all its legs.
        (None, [first, ..]) if matches!(route.hops, Hops::Many(_)) && prefix.addr().is_ipv6() => {
            routes[*first] = route;
            false
        }
        (None, [first, ..]) if how == How::Prepended && prefix.addr().is_ipv4() => {
            routes.insert(*first, route);
            false
        }
        (None, [.., last]) => {
            routes.insert(*last + 1, route);
            false
        }
    };
    let changed = routes != before;
    if changed {
        tables.set(table, prefix, routes);
    }
    Outcome { changed, certain }
}

/// A route went.
pub(super) fn remove(tables: &mut Tables, route: &Route) -> Outcome {
    let before = tables.at(route.table, &route.prefix);
    let same_key = indices(before, |other| key(other) == key(route));
    let exact = same_key
        .iter()
        .copied()
        .find(|index| same_route(&before[*index], route));
    let mut routes = before.to_vec();
    let certain = match exact {
        Some(index) => {
            routes.remove(index);
            // One of several that look alike may have been another.
            same_key.len() == 1
        }
        None => {
            // IPv6 tells a multipath route's end leg by leg.
            for index in &same_key {
                take_legs(&mut routes[*index].hops, &route.hops);
            }
            same_key.is_empty()
        }
    };
    let changed = routes != before;
    if changed {
        tables.set(route.table, route.prefix, routes);
    }
    Outcome { changed, certain }
}

/// What the kernel tells routes of one prefix and table apart by.
fn key(route: &Route) -> (u8, u32) {
    (route.tos, route.metric)
}

/// The kernel's order among the routes of one prefix: IPv4 by TOS, highest first, both by metric.
fn order(route: &Route) -> (Reverse<u8>, u32) {
    (Reverse(route.tos), route.metric)
}

fn indices(routes: &[Route], wanted: impl Fn(&Route) -> bool) -> Vec<usize> {
    (0..routes.len()).filter(|index| wanted(&routes[*index])).collect()
}

/// The same route, whatever the state of its next hops' links.
fn same_route(a: &Route, b: &Route) -> bool {
    (a.kind, a.protocol, a.scope) == (b.kind, b.protocol, b.scope)
        && match (&a.hops, &b.hops) {
            (Hops::One(a), Hops::One(b)) => same_hop(a, b),
            (Hops::Many(a), Hops::Many(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_hop(a, b)),
            (a, b) => a == b,
        }
}

fn same_hop(a: &Hop, b: &Hop) -> bool {
    (a.device, a.gateway, a.weight, a.onlink) == (b.device, b.gateway, b.weight, b.onlink) && a.encap == b.encap
}

/// Takes the legs that went out of a multipath route, as long as one is left.
fn take_legs(hops: &mut Hops, gone: &Hops) {
    let gone = match gone {
        Hops::One(hop) => std::slice::from_ref(hop),
        Hops::Many(hops) => hops,
        Hops::None | Hops::Object(_) => return,
    };
    let Hops::Many(legs) = hops else { return };
    legs.retain(|leg| {
        !gone
            .iter()
            .any(|gone| (gone.device, gone.gateway) == (leg.device, leg.gateway))
    });
    if let [only] = legs.as_slice() {
        *hops = Hops::One(only.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::RouteKind;

    const YES: Outcome = Outcome {
        changed: true,
        certain: true,
    };
    const NO: Outcome = Outcome {
        changed: false,
        certain: true,
    };

    fn hop(gateway: &str) -> Hop {
        Hop {
            device: Some(2),
            gateway: Some(gateway.parse().unwrap()),
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        }
    }

    fn route(prefix: &str, metric: u32, gateway: &str) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            table: 254,
            metric,
            tos: 0,
            protocol: 3,
            scope: 0,
            kind: RouteKind::Unicast,
            hops: Hops::One(hop(gateway)),
        }
    }

    fn at(tables: &Tables, prefix: &str) -> Vec<Route> {
        tables.at(254, &prefix.parse().unwrap()).to_vec()
    }

    const NET: &str = "10.244.2.0/24";

    #[test]
    fn a_route_of_a_new_metric_takes_its_place_among_the_others() {
        let mut tables = Tables::default();
        for metric in [100, 0, 50] {
            assert_eq!(insert(&mut tables, route(NET, metric, "10.0.0.1"), How::New), YES);
        }
        let metrics: Vec<u32> = at(&tables, NET).iter().map(|route| route.metric).collect();
        assert_eq!(metrics, [0, 50, 100]);
    }

    #[test]
    fn a_replaced_route_leaves_nothing_of_the_old_one() {
        let mut tables = Tables::default();
        insert(&mut tables, route(NET, 0, "10.0.0.1"), How::New);
        assert_eq!(insert(&mut tables, route(NET, 0, "10.0.0.2"), How::Replaced), YES);
        assert_eq!(at(&tables, NET), [route(NET, 0, "10.0.0.2")]);
        // Of another metric: a second route.
        assert_eq!(insert(&mut tables, route(NET, 9, "10.0.0.3"), How::New), YES);
        assert_eq!(at(&tables, NET).len(), 2);
    }

    #[test]
    fn messages_that_a_dump_already_contains_change_nothing() {
        let mut tables = Tables::default();
        insert(&mut tables, route(NET, 0, "10.0.0.2"), How::New);
        let dumped = at(&tables, NET);
        assert_eq!(insert(&mut tables, route(NET, 0, "10.0.0.2"), How::New), NO);
        assert_eq!(remove(&mut tables, &route("10.9.0.0/16", 0, "10.0.0.1")), NO);
        // Older ones first, as they come: deleted, made anew, replaced.
        insert(&mut tables, route(NET, 0, "10.0.0.1"), How::New);
        insert(&mut tables, route(NET, 0, "10.0.0.2"), How::Replaced);
        assert_eq!(at(&tables, NET), dumped);
    }

    #[test]
    fn a_route_that_differs_is_not_removed_in_its_place() {
        let mut tables = Tables::default();
        insert(&mut tables, route(NET, 0, "10.0.0.2"), How::New);
        let outcome = remove(&mut tables, &route(NET, 0, "10.0.0.1"));
        assert_eq!((outcome.changed, outcome.certain), (false, false));
        assert_eq!(remove(&mut tables, &route(NET, 0, "10.0.0.2")), YES);
        assert!(tables.is_empty());
    }

    #[test]
    fn a_link_state_in_the_message_does_not_make_it_another_route() {
        let mut tables = Tables::default();
        insert(&mut tables, route(NET, 0, "10.0.0.2"), How::New);
        let mut down = route(NET, 0, "10.0.0.2");
        down.hops = Hops::One(Hop {
            linkdown: true,
            ..hop("10.0.0.2")
        });
        assert_eq!(remove(&mut tables, &down), YES);
    }

    #[test]
    fn appended_and_prepended_ipv4_routes_of_one_key_are_kept_in_order_and_looked_at_again() {
        let mut tables = Tables::default();
        insert(&mut tables, route(NET, 0, "10.0.0.1"), How::New);
        assert!(!insert(&mut tables, route(NET, 0, "10.0.0.2"), How::Appended).certain);
        assert!(!insert(&mut tables, route(NET, 0, "10.0.0.3"), How::Prepended).certain);
        let expected = ["10.0.0.3", "10.0.0.1", "10.0.0.2"].map(|gateway| route(NET, 0, gateway));
        assert_eq!(at(&tables, NET), expected);
    }

    #[test]
    fn an_ipv6_multipath_route_loses_its_legs_one_by_one() {
        let net = "fd00:2::/64";
        let mut both = route(net, 1024, "fd00::1");
        both.hops = Hops::Many(vec![hop("fd00::1"), hop("fd00::2")]);
        let mut tables = Tables::default();
        insert(&mut tables, route(net, 1024, "fd00::1"), How::New);
        assert!(!insert(&mut tables, both.clone(), How::Appended).certain);
        assert_eq!(at(&tables, net), [both]);
        assert!(!remove(&mut tables, &route(net, 1024, "fd00::1")).certain);
        assert_eq!(at(&tables, net), [route(net, 1024, "fd00::2")]);
        assert_eq!(remove(&mut tables, &route(net, 1024, "fd00::2")), YES);
        assert!(tables.is_empty());
    }
}
