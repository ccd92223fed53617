//! From routes to landings: what the kernel would do with a packet, computed
//! from a [`Kernel`] alone. Pure: plain data in, landings out.
//!
//! - [`lookup`] answers for one packet, as `RTM_GETROUTE` would;
//! - [`Fib`] holds the effective forwarding table for pod traffic: policy rules
//!   applied, one landing per prefix, kept up to date change by change.
//!
//! The order of things: `rules` picks the tables, `table` the route and its
//! live hops, `landing` (with `vxlan`) says where a hop leads, `outer` whether the
//! host can send to a tunnel's far end at all.
//!
//! Where the kernel decides by what no dump shows, this is what is assumed:
//! - among IPv4 default routes of equal metric the first, not the one whose
//!   gateway's neighbour entry looks best (`fib_select_default`);
//! - IPv6 routes of equal metric have equal router preference;
//! - a namespace with nothing but the initial rules never had others: while
//!   that is so, IPv4 looks local and main up as one table, and IPv6 passes its
//!   rules by;
//! - a gateway was no address of the host's own when its route was made
//!   (otherwise the kernel takes the destination to be on-link).

mod coverage;
mod fib;
mod flow;
mod landing;
mod outer;
mod pods;
mod roles;
mod rules;
mod table;
mod vxlan;

#[cfg(test)]
mod fib_model_tests;
#[cfg(test)]
mod fib_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod lookup_tests;

use std::collections::HashSet;
use std::net::IpAddr;

use cidrift_proto::landing::{Landing, RouteMatch};

use crate::view::{Hop, Kernel, Route};

pub use coverage::Coverage;
pub use fib::{Diff, Fib, Scope};
pub use flow::{Flow, Input};
pub(crate) use roles::devices;
pub use roles::{Roles, roles};

use flow::{Query, is_ipv6};
use landing::Ground;
use rules::Ruleset;
pub(crate) use table::MAIN;
use table::{Chosen, Outcome};

/// What the kernel decides for one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The route that decided; `None`: no route matched, or a rule decided.
    pub route: Option<RouteMatch>,
    /// Where the packet lands.
    pub landing: Landing,
    /// The hops that the kernel chooses from; empty where it does not forward.
    pub hops: Vec<Hop>,
}

/// One lookup, exactly as the kernel would do it. For several in the same
/// state use a [`Resolver`].
pub fn lookup(kernel: &Kernel, flow: &Flow) -> Decision {
    Resolver::new(kernel, &[]).lookup(flow)
}

/// A kernel's state, made ready for lookups.
#[derive(Debug)]
pub struct Resolver<'k> {
    kernel: &'k Kernel,
    roles: Roles,
    own: HashSet<IpAddr>,
    rules_v4: Ruleset<'k>,
    rules_v6: Ruleset<'k>,
}

impl<'k> Resolver<'k> {
    /// Prepares `kernel`, on a Node with these InternalIPs (none: not known).
    pub fn new(kernel: &'k Kernel, internal_ips: &[IpAddr]) -> Self {
        Self {
            kernel,
            roles: roles(kernel, internal_ips),
            own: kernel
                .links
                .values()
                .flat_map(|link| &link.addresses)
                .map(|address| address.net.addr())
                .collect(),
            rules_v4: Ruleset::new(kernel, false),
            rules_v6: Ruleset::new(kernel, true),
        }
    }

    /// One lookup, exactly as the kernel would do it.
    pub fn lookup(&self, flow: &Flow) -> Decision {
        let outcome = self.outcome(&flow.into());
        let hops = match &outcome {
            Outcome::Forward(_, Chosen::One(hop)) => vec![(*hop).clone()],
            Outcome::Forward(_, Chosen::Many { hops, .. }) => hops.iter().map(|(_, hop)| (*hop).clone()).collect(),
            _ => Vec::new(),
        };
        let (landing, route) = self.landing(&outcome);
        Decision { route, landing, hops }
    }

    /// The devices' roles.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    fn ruleset(&self, ipv6: bool) -> &Ruleset<'k> {
        if ipv6 { &self.rules_v6 } else { &self.rules_v4 }
    }

    fn outcome(&self, query: &Query) -> Outcome<'k> {
        self.ruleset(is_ipv6(query.destination))
            .decide(self.kernel, &self.roles, query)
    }

    fn landing(&self, outcome: &Outcome<'_>) -> (Landing, Option<RouteMatch>) {
        let ground = Ground {
            kernel: self.kernel,
            roles: &self.roles,
            own: &self.own,
        };
        let landing = self.with_outer(ground.landing(outcome));
        (landing, outcome.route().map(route_match))
    }
}

fn route_match(route: &Route) -> RouteMatch {
    RouteMatch {
        prefix: route.prefix,
        table: route.table,
        metric: route.metric,
        protocol: route.protocol,
    }
}
