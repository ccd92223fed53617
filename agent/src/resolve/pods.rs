//! The traffic of a host's pods, as one kind of packet.

use cidrift_proto::landing::{Landing, RouteMatch};
use ipnet::IpNet;

use crate::view::Kernel;

use super::Resolver;
use super::fib::Scope;
use super::flow::{Input, Query, Source, is_ipv6};
use super::rules::Reach;

/// A kernel's state, made ready to answer for pod traffic: mark 0, TOS 0, from
/// the pod CIDR, in through the pods' device.
#[derive(Debug)]
pub(crate) struct Pods<'k> {
    kernel: &'k Kernel,
    resolver: Resolver<'k>,
    v4: Family,
    v6: Family,
}

#[derive(Debug)]
struct Family {
    query: Query,
    reach: Reach,
}

impl<'k> Pods<'k> {
    pub(crate) fn new(kernel: &'k Kernel, scope: &Scope) -> Self {
        let resolver = Resolver::new(kernel, &scope.internal_ips);
        let family = |everything: IpNet| {
            let query = query(kernel, scope, everything);
            let reach = resolver
                .ruleset(is_ipv6(everything))
                .reach(kernel, resolver.roles(), &query);
            Family { query, reach }
        };
        Self {
            kernel,
            v4: family(IpNet::V4(Default::default())),
            v6: family(IpNet::V6(Default::default())),
            resolver,
        }
    }

    fn family(&self, prefix: IpNet) -> &Family {
        if is_ipv6(prefix) { &self.v6 } else { &self.v4 }
    }

    /// Where pod traffic to `prefix` lands, as far as no longer prefix covers it.
    pub(crate) fn landing(&self, prefix: IpNet) -> (Landing, Option<RouteMatch>) {
        let query = Query {
            destination: prefix,
            ..self.family(prefix).query
        };
        self.resolver.landing(&self.resolver.outcome(&query))
    }

    /// Every prefix in `region` that may land differently from what is around
    /// it, in order; `region` itself too when `itself` is set.
    pub(crate) fn prefixes(&self, region: IpNet, itself: bool) -> Vec<IpNet> {
        let Reach { tables, destinations } = &self.family(region).reach;
        let mut found = Vec::new();
        for table in tables {
            match region {
                IpNet::V4(region) => {
                    let table = self.kernel.routes.v4.get(table);
                    found.extend(
                        table
                            .into_iter()
                            .flat_map(|map| map.children(&region))
                            .map(|(at, _)| IpNet::V4(at)),
                    );
                }
                IpNet::V6(region) => {
                    let table = self.kernel.routes.v6.get(table);
                    found.extend(
                        table
                            .into_iter()
                            .flat_map(|map| map.children(&region))
                            .map(|(at, _)| IpNet::V6(at)),
                    );
                }
            }
        }
        found.extend(
            destinations
                .iter()
                .map(IpNet::trunc)
                .filter(|to| super::flow::contains(region, *to)),
        );
        found.retain(|prefix| !is_noise(*prefix));
        if itself {
            found.push(region);
        }
        // Each table comes in order, and mostly only one of them has many.
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Multicast and link-local unicast of IPv6, which every device has routes for and no pod is behind.
fn is_noise(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.addr().is_multicast() && net.prefix_len() >= 4,
        IpNet::V6(net) => {
            (net.addr().is_multicast() && net.prefix_len() >= 8)
                || (net.addr().is_unicast_link_local() && net.prefix_len() >= 10)
        }
    }
}

fn query(kernel: &Kernel, scope: &Scope, everything: IpNet) -> Query {
    let pod_cidr = scope
        .pod_cidrs
        .iter()
        .find(|cidr| is_ipv6(**cidr) == is_ipv6(everything));
    let named = scope.pod_device.as_deref();
    let device = kernel.links.values().find(|link| match named {
        Some(name) => link.name == name,
        None => {
            link.kind == "bridge"
                && link
                    .addresses
                    .iter()
                    .any(|address| scope.pod_cidrs.iter().any(|cidr| cidr.contains(&address.net.addr())))
        }
    });
    Query {
        destination: everything,
        source: pod_cidr.map_or(Source::Unknown, |cidr| Source::Within(cidr.trunc())),
        input: device.map_or(Input::SomePod, |link| Input::Device(link.index)),
        output: None,
        mark: 0,
        tos: 0,
        ip_protocol: 0,
        source_port: 0,
        destination_port: 0,
        uid: 0,
    }
}
