//! One table's answer: longest prefix first, and within one prefix the order
//! and the exceptions of the kernel (`fib_table_lookup`, `fib6_table_lookup`).

use cidrift_proto::landing::Discard;
use ipnet::IpNet;

use crate::view::{Hop, Hops, Kernel, Nexthop, Route, RouteKind, Tables};

use super::flow::{Input, Query, Source, is_ipv6};

/// Table local.
pub(crate) const LOCAL: u32 = 255;
/// Table main.
pub(crate) const MAIN: u32 = 254;
/// Table default.
pub(crate) const DEFAULT: u32 = 253;

/// What a table, or a rule, makes of a packet.
#[derive(Debug, Clone)]
pub(crate) enum Outcome<'k> {
    /// A unicast route, with those of its hops that the kernel would use.
    Forward(&'k Route, Chosen<'k>),
    /// A local, broadcast or anycast route.
    Host(&'k Route),
    /// A discard route, a blackhole nexthop or, without a route, a discarding rule.
    Discard(Discard, Option<&'k Route>),
    /// Not decidable from what is in the view.
    Unknown(String, Option<&'k Route>),
    /// Nothing matched. The first route that was skipped because none of its devices can carry it.
    NoRoute(Option<&'k Route>),
}

/// The hops of a route that are alive.
#[derive(Debug, Clone)]
pub(crate) enum Chosen<'k> {
    /// One, or the only one alive.
    One(&'k Hop),
    /// Several, with their weights.
    Many {
        hops: Vec<(u16, &'k Hop)>,
        /// From a nexthop group: the kernel passes over members whose neighbour is not valid.
        group: bool,
    },
}

/// What a table says.
#[derive(Debug)]
pub(crate) enum Answer<'k> {
    /// This.
    Found(Outcome<'k>),
    /// Nothing, or `throw`: the next rule is asked. With the first route skipped for its dead devices.
    Miss(Option<&'k Route>),
}

/// The routes for exactly `prefix` in `table`.
pub(crate) fn routes_at(tables: &Tables, table: u32, prefix: IpNet) -> Option<&[Route]> {
    match prefix {
        IpNet::V4(prefix) => tables.v4.get(&table)?.get(&prefix),
        IpNet::V6(prefix) => tables.v6.get(&table)?.get(&prefix),
    }
    .map(Vec::as_slice)
}

/// The routes of the longest prefix that holds all of `destination`.
fn longest(tables: &Tables, table: u32, destination: IpNet) -> Option<&[Route]> {
    match destination {
        IpNet::V4(destination) => Some(tables.v4.get(&table)?.get_lpm(&destination)?.1),
        IpNet::V6(destination) => Some(tables.v6.get(&table)?.get_lpm(&destination)?.1),
    }
    .map(Vec::as_slice)
}

/// All prefixes that hold all of `destination`, longest first.
fn covering(tables: &Tables, table: u32, destination: IpNet) -> Vec<&[Route]> {
    let mut found: Vec<&[Route]> = match destination {
        IpNet::V4(destination) => match tables.v4.get(&table) {
            Some(map) => map.cover(&destination).map(|(_, routes)| routes.as_slice()).collect(),
            None => Vec::new(),
        },
        IpNet::V6(destination) => match tables.v6.get(&table) {
            Some(map) => map.cover(&destination).map(|(_, routes)| routes.as_slice()).collect(),
            None => Vec::new(),
        },
    };
    found.reverse();
    found
}

/// Looks `query` up in one table.
pub(crate) fn look<'k>(kernel: &'k Kernel, table: u32, query: &Query) -> Answer<'k> {
    let Some(routes) = longest(&kernel.routes, table, query.destination) else {
        return Answer::Miss(None);
    };
    match at_prefix(kernel, routes, query) {
        Step::Found(outcome) => Answer::Found(outcome),
        Step::Throw => Answer::Miss(None),
        Step::Shorter(_) | Step::OtherKey(_) => down(kernel, covering(&kernel.routes, table, query.destination), query),
    }
}

/// Looks `query` up in IPv4's local and main at once: until the first policy
/// rule is made or removed the kernel keeps both in one trie, so that a longer
/// prefix in main wins over a shorter one in local.
pub(crate) fn look_merged<'k>(kernel: &'k Kernel, query: &Query) -> Answer<'k> {
    if longest(&kernel.routes, LOCAL, query.destination).is_none() {
        return look(kernel, MAIN, query);
    }
    let mut all = covering(&kernel.routes, LOCAL, query.destination);
    all.extend(covering(&kernel.routes, MAIN, query.destination));
    // The sort is stable: of two equal prefixes that of table local stays first.
    all.sort_by_key(|routes| std::cmp::Reverse(routes.first().map_or(0, |route| route.prefix.prefix_len())));
    down(kernel, all, query)
}

/// Goes from the longest prefix to shorter ones until one decides.
fn down<'k>(kernel: &'k Kernel, prefixes: Vec<&'k [Route]>, query: &Query) -> Answer<'k> {
    let mut dead = None;
    let mut skipped_key = None;
    for routes in prefixes {
        let key = routes.first().map(|route| route.prefix.network());
        if skipped_key.is_some() && skipped_key == key {
            continue;
        }
        match at_prefix(kernel, routes, query) {
            Step::Found(outcome) => return Answer::Found(outcome),
            Step::Throw => return Answer::Miss(dead),
            Step::Shorter(route) => dead = dead.or(route),
            Step::OtherKey(route) => {
                dead = dead.or(route);
                skipped_key = key;
            }
        }
    }
    Answer::Miss(dead)
}

/// What the routes of one prefix say.
enum Step<'k> {
    Found(Outcome<'k>),
    Throw,
    /// None of them can be used: a shorter prefix is tried.
    Shorter(Option<&'k Route>),
    /// Likewise, but IPv4 passes over every shorter prefix with the same
    /// network address too: `fib_table_lookup` gives a whole leaf up when a
    /// nexthop object has no usable hop.
    OtherKey(Option<&'k Route>),
}

fn at_prefix<'k>(kernel: &'k Kernel, routes: &'k [Route], query: &Query) -> Step<'k> {
    if is_ipv6(query.destination) {
        at_prefix_v6(kernel, routes, query)
    } else {
        at_prefix_v4(kernel, routes, query)
    }
}

/// `fib_table_lookup`: routes by falling TOS, then by metric; a route with a
/// TOS counts for exactly that TOS; the first that can be used decides.
fn at_prefix_v4<'k>(kernel: &'k Kernel, routes: &'k [Route], query: &Query) -> Step<'k> {
    let key = |route: &Route| (std::cmp::Reverse(route.tos), route.metric);
    if routes.is_sorted_by_key(key) {
        return first_usable_v4(kernel, routes.iter(), query);
    }
    let mut sorted: Vec<&Route> = routes.iter().collect();
    sorted.sort_by_key(|route| key(route));
    first_usable_v4(kernel, sorted.into_iter(), query)
}

/// IPv4 compares these bits of the TOS byte only (`IPTOS_RT_MASK`).
pub(crate) const TOS_MASK: u8 = 0x1c;

fn first_usable_v4<'k>(kernel: &'k Kernel, routes: impl Iterator<Item = &'k Route>, query: &Query) -> Step<'k> {
    let mut dead = None;
    for route in routes {
        if route.tos != 0 && route.tos != query.tos & TOS_MASK {
            continue;
        }
        if let Some(step) = without_hops(route) {
            if route.kind == RouteKind::Host && !host_usable(kernel, route, query) {
                continue;
            }
            return step;
        }
        let chosen = match live(kernel, route, query) {
            Live::Some(chosen) => chosen,
            Live::Blackhole => return Step::Found(Outcome::Discard(Discard::Blackhole, Some(route))),
            Live::Unknown(reason) => return Step::Found(Outcome::Unknown(reason, Some(route))),
            Live::None => {
                dead = dead.or(passed_over(route, query));
                if matches!(route.hops, Hops::Object(_)) {
                    return Step::OtherKey(dead);
                }
                continue;
            }
        };
        return Step::Found(Outcome::Forward(route, chosen));
    }
    Step::Shorter(dead)
}

/// `rt6_select`: the routes of the best metric that can be used; only when
/// there is none, all the others by metric. Among routes that count as equal the
/// first wins; the device that the packet is bound to is preferred (without a
/// source, demanded), else the one that it came in by.
fn at_prefix_v6<'k>(kernel: &'k Kernel, routes: &'k [Route], query: &Query) -> Step<'k> {
    let mut sorted: Vec<&Route>;
    let ordered: &mut dyn Iterator<Item = &'k Route> = if routes.is_sorted_by_key(|route| route.metric) {
        &mut routes.iter()
    } else {
        sorted = routes.iter().collect();
        sorted.sort_by_key(|route| route.metric);
        &mut sorted.into_iter()
    };
    let Some(metric) = routes.iter().map(|route| route.metric).min() else {
        return Step::Shorter(None);
    };
    let mut beyond = false;
    let mut best: Option<(u8, Step<'k>)> = None;
    let mut dead = None;
    for route in ordered {
        if !beyond && route.metric != metric {
            if best.is_some() {
                break;
            }
            beyond = true;
        }
        let Some((rank, step)) = rank_v6(kernel, route, query) else {
            dead = dead.or(passed_over(route, query));
            continue;
        };
        if best.as_ref().is_none_or(|(so_far, _)| rank > *so_far) {
            best = Some((rank, step));
        }
    }
    match best {
        Some((_, step)) => step,
        None => Step::Shorter(dead),
    }
}

/// How well a route fits the device that the packet is bound to or came in by
/// (`rt6_score_route`); `None`: not usable.
fn rank_v6<'k>(kernel: &'k Kernel, route: &'k Route, query: &Query) -> Option<(u8, Step<'k>)> {
    let strict = query.output.is_some() && query.source == Source::Unspecified;
    // `ip6_pol_route_input` hands the input device on where an output device
    // goes: of equal routes the one back out of it is preferred.
    let preferred = match (query.output, query.input) {
        (Some(output), _) => Some(output),
        (None, Input::Device(index)) => Some(index),
        (None, Input::Host | Input::SomePod) => None,
    };
    let fits = |device: Option<u32>| match preferred {
        None => Some(2),
        Some(_) if device == preferred => Some(2),
        Some(_) if strict => None,
        Some(_) => Some(0),
    };
    if let Some(step) = without_hops(route) {
        if route.kind == RouteKind::Host && !host_usable(kernel, route, query) {
            return None;
        }
        // The kernel hangs discard routes on the loopback device.
        let device = match &route.hops {
            Hops::One(hop) => hop.device,
            _ => None,
        };
        return fits(device).map(|rank| (rank, step));
    }
    match live(kernel, route, query) {
        Live::Some(Chosen::One(hop)) => {
            fits(hop.device).map(|rank| (rank, Step::Found(Outcome::Forward(route, Chosen::One(hop)))))
        }
        Live::Some(Chosen::Many { mut hops, group }) => {
            // Among a group's members the kernel chooses without a look at the bound device.
            if strict && !group {
                hops.retain(|(_, hop)| hop.device == query.output);
            }
            let rank = hops.iter().filter_map(|(_, hop)| fits(hop.device)).max()?;
            let chosen = match hops.as_slice() {
                [(_, hop)] => Chosen::One(hop),
                _ => Chosen::Many { hops, group },
            };
            Some((rank, Step::Found(Outcome::Forward(route, chosen))))
        }
        // `__find_rr_leaf` stops at a blackhole nexthop, whatever it found before.
        Live::Blackhole => Some((u8::MAX, Step::Found(Outcome::Discard(Discard::Blackhole, Some(route))))),
        Live::Unknown(reason) => Some((2, Step::Found(Outcome::Unknown(reason, Some(route))))),
        Live::None => None,
    }
}

/// A route that is not used for its devices' state, not for the device that the packet is bound to.
fn passed_over<'k>(route: &'k Route, query: &Query) -> Option<&'k Route> {
    query.output.is_none().then_some(route)
}

/// What a route says whose hops do not matter.
fn without_hops(route: &Route) -> Option<Step<'_>> {
    Some(match route.kind {
        RouteKind::Unicast => return None,
        // IPv6 tells the type of a route by its nexthop object: that decides.
        RouteKind::Discard(_) if matches!(route.hops, Hops::Object(_)) => return None,
        RouteKind::Host => Step::Found(Outcome::Host(route)),
        RouteKind::Discard(how) => Step::Found(Outcome::Discard(how, Some(route))),
        RouteKind::Throw => Step::Throw,
        RouteKind::Multicast => Step::Found(Outcome::Unknown(
            "a multicast route, which unicast packets have no business with".to_owned(),
            Some(route),
        )),
        RouteKind::Other(kind) => Step::Found(Outcome::Unknown(
            format!("route type {kind} is not modelled"),
            Some(route),
        )),
    })
}

/// A unicast route's hops as far as the kernel would use them.
enum Live<'k> {
    Some(Chosen<'k>),
    None,
    Blackhole,
    Unknown(String),
}

fn live<'k>(kernel: &'k Kernel, route: &'k Route, query: &Query) -> Live<'k> {
    match &route.hops {
        Hops::None => Live::Unknown("the route names no device".to_owned()),
        Hops::One(hop) if usable(kernel, hop, query) => Live::Some(Chosen::One(hop)),
        Hops::One(_) => Live::None,
        Hops::Many(hops) => several(
            hops.iter()
                .filter(|hop| usable(kernel, hop, query))
                .map(|hop| (hop.weight, hop))
                .collect(),
            false,
        ),
        Hops::Object(id) => match kernel.nexthops.get(id) {
            Some(Nexthop::Hop(hop)) if usable(kernel, hop, query) => Live::Some(Chosen::One(hop)),
            Some(Nexthop::Hop(_)) => Live::None,
            Some(Nexthop::Blackhole) => Live::Blackhole,
            Some(Nexthop::Group(members)) => group(kernel, members, query),
            Some(Nexthop::Fdb(_)) => Live::Unknown(format!("nexthop {id} is an FDB nexthop")),
            None => Live::Unknown(format!("nexthop {id} is not in the view")),
        },
    }
}

fn group<'k>(kernel: &'k Kernel, members: &[(u32, u16)], query: &Query) -> Live<'k> {
    let mut hops = Vec::with_capacity(members.len());
    for (id, weight) in members {
        match kernel.nexthops.get(id) {
            Some(Nexthop::Hop(hop)) if usable(kernel, hop, query) => hops.push((*weight, hop)),
            Some(Nexthop::Hop(_)) => {}
            // The kernel allows it as the only member.
            Some(Nexthop::Blackhole) => return Live::Blackhole,
            Some(Nexthop::Group(_) | Nexthop::Fdb(_)) => {
                return Live::Unknown(format!("nexthop {id} is no single nexthop, but in a group"));
            }
            None => return Live::Unknown(format!("nexthop {id} is not in the view")),
        }
    }
    several(hops, true)
}

fn several(hops: Vec<(u16, &Hop)>, group: bool) -> Live<'_> {
    match hops.as_slice() {
        [] => Live::None,
        [(_, hop)] => Live::Some(Chosen::One(hop)),
        _ => Live::Some(Chosen::Many { hops, group }),
    }
}

/// `fib_lookup_good_nhc`, `find_match`: not dead, and not without a carrier
/// where such routes are to be ignored. A device that is gone or down is dead
/// whatever the route says: IPv4 drops the routes without a word, so the view may lag.
pub(crate) fn usable(kernel: &Kernel, hop: &Hop, query: &Query) -> bool {
    let ipv6 = is_ipv6(query.destination);
    if hop.dead {
        return false;
    }
    // IPv6 scores a bound device instead.
    if !ipv6 && query.output.is_some() && query.output != hop.device {
        return false;
    }
    let Some(device) = hop.device else { return true };
    let Some(link) = kernel.links.get(&device) else {
        return false;
    };
    let linkdown = hop.linkdown || !link.carrier;
    link.up && !(linkdown && ignores_linkdown(kernel, &link.name, ipv6))
}

/// Likewise for a local or broadcast route. A local one does not care for its
/// device's carrier, a broadcast one does: the route's own flags tell.
fn host_usable(kernel: &Kernel, route: &Route, query: &Query) -> bool {
    let Hops::One(hop) = &route.hops else { return true };
    let ipv6 = is_ipv6(query.destination);
    if !ipv6 && query.output.is_some() && query.output != hop.device {
        return false;
    }
    let link = hop.device.and_then(|device| kernel.links.get(&device));
    let ignored = |name: &str| hop.linkdown && ignores_linkdown(kernel, name, ipv6);
    !hop.dead && !link.is_some_and(|link| ignored(&link.name))
}

/// `ignore_routes_with_linkdown`: for IPv4 `all` or the device's own; for IPv6
/// only the device's own (a write to `all` is copied into every device).
pub(crate) fn ignores_linkdown(kernel: &Kernel, device: &str, ipv6: bool) -> bool {
    let sysctls = &kernel.sysctls;
    if ipv6 {
        sysctls.ipv6_ignore_linkdown.iter().any(|name| name == device)
    } else {
        sysctls.ipv4_ignore_linkdown_all || sysctls.ipv4_ignore_linkdown.iter().any(|name| name == device)
    }
}

impl<'k> Outcome<'k> {
    /// The route that decided.
    pub(crate) fn route(&self) -> Option<&'k Route> {
        match self {
            Self::Forward(route, _) | Self::Host(route) => Some(route),
            Self::Discard(_, route) | Self::Unknown(_, route) => *route,
            Self::NoRoute(_) => None,
        }
    }
}
