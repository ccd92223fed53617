//! One lookup twice: by the kernel and by `resolve`.

use std::fmt::Write;
use std::net::IpAddr;

use cidrift_agent::resolve::{Decision, Flow, Input, Resolver};
use cidrift_agent::view::{Hops, Kernel, Route};
use cidrift_proto::landing::{Discard, Landing};
use ipnet::IpNet;
use netlink_packet_core::Parseable;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use nix::errno::Errno;

use super::random::Random;
use super::tables::{self, Ground, bytes, family};
use super::wire::{Answer, Request};

const GETROUTE: u16 = 26;
const LOOKUP_TABLE: u32 = 0x1000;
const FIB_MATCH: u32 = 0x2000;

/// A random packet to `destination`.
pub(crate) fn flow(random: &mut Random, ground: &Ground, destination: IpAddr) -> Flow {
    let ipv6 = destination.is_ipv6();
    let mut flow = Flow::to(destination);
    let device = |random: &mut Random| ground.devices[random.below(4)].clone();
    if random.percent(50) {
        flow.input = Input::Device(device(random).0);
        flow.source = Some(tables::source(random, ipv6));
    } else {
        if random.percent(40) {
            let subnet = device(random).2;
            let own = if ipv6 {
                format!("fd00:{subnet}::1")
            } else {
                format!("192.168.{subnet}.1")
            };
            flow.source = Some(own.parse().unwrap());
        }
        if random.percent(10) {
            // The first is never taken down.
            flow.output = Some(ground.devices[0].0);
        }
        flow.uid = random.pick(&[0, 0, 500, 1000]);
    }
    flow.mark = random.pick(&[0, 0, 0, 1, 0x10, 0x11]);
    flow.tos = random.pick(&[0, 0, 0, 4, 8, 0x10]);
    flow.ip_protocol = random.pick(&[17, 6]);
    if random.percent(50) {
        flow.source_port = random.pick(&[80, 4000]);
        flow.destination_port = random.pick(&[80, 300, 443, 444]);
    }
    flow
}

/// The two questions about a flow: the route to the address, and the FIB entry that matches.
pub(crate) fn questions(flow: &Flow) -> [Request; 2] {
    [LOOKUP_TABLE, LOOKUP_TABLE | FIB_MATCH].map(|flags| {
        let ipv6 = flow.destination.is_ipv6();
        let bits = if ipv6 { 128 } else { 32 };
        let source_bits = if flow.source.is_some() { bits } else { 0 };
        let mut header = vec![family(ipv6), bits, source_bits, flow.tos, 0, 0, 0, 0];
        header.extend(flags.to_ne_bytes());
        let mut request = Request::new(GETROUTE, 0, &header);
        request.put(1, &bytes(flow.destination));
        if let Some(source) = flow.source {
            request.put(2, &bytes(source));
        }
        if let Input::Device(index) = flow.input {
            request.put_u32(3, index);
        }
        if let Some(index) = flow.output {
            request.put_u32(4, index);
        }
        request.put_u32(16, flow.mark);
        request.put_u32(25, flow.uid);
        request.put(27, &[flow.ip_protocol]);
        if flow.source_port != 0 {
            request.put(28, &flow.source_port.to_be_bytes());
            request.put(29, &flow.destination_port.to_be_bytes());
        }
        request
    })
}

/// What came of a flow, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    Forwarded,
    Multipath,
    Host,
    Blackhole,
    Unreachable,
    Prohibit,
    NoRoute,
    BoundDevice,
}

/// The class of the lookup when both agree, else how they differ.
pub(crate) fn compare(
    kernel: &Kernel,
    flow: &Flow,
    decision: &Decision,
    answers: &[Answer],
    rules: bool,
) -> Result<Class, String> {
    let [resolved, entry] = answers else {
        return Err("two answers were asked for".to_owned());
    };
    let ipv6 = flow.destination.is_ipv6();
    if !decision.hops.is_empty() {
        let resolved = message(resolved)?;
        if resolved.header.kind != RouteType::Unicast {
            return Err(format!("kernel: type {:?}", resolved.header.kind));
        }
        let way = (device(&resolved), gateway(&resolved));
        let ways = || decision.hops.iter().map(|hop| (hop.device, hop.gateway));
        if !ways().any(|known| known == way) {
            return Err(format!(
                "kernel: out of {way:?}, resolve: {:?}",
                ways().collect::<Vec<_>>()
            ));
        }
        // IPv6 keeps a resolved route with its next hop, and routes of one nexthop
        // object share it: the entry that is told may be another route's.
        if !(ipv6 && by_object(kernel, decision)) {
            matches_entry(decision, entry, rules || ipv6)?;
        }
        return Ok(if decision.hops.len() > 1 {
            Class::Multipath
        } else {
            Class::Forwarded
        });
    }
    let (expected, class) = match (&decision.landing, decision.route) {
        (Landing::Host { .. }, Some(_)) => {
            let resolved = message(resolved)?;
            let kind = resolved.header.kind;
            return if matches!(kind, RouteType::Local | RouteType::Broadcast | RouteType::Anycast) {
                Ok(Class::Host)
            } else {
                Err(format!("kernel: type {kind:?}"))
            };
        }
        (
            Landing::Discard {
                how: Discard::Blackhole,
            },
            _,
        ) => (Errno::EINVAL, Class::Blackhole),
        (Landing::Discard { how: Discard::Prohibit }, _) => (Errno::EACCES, Class::Prohibit),
        // A rule's `unreachable` says ENETUNREACH, a route's EHOSTUNREACH.
        (
            Landing::Discard {
                how: Discard::Unreachable,
            },
            None,
        ) => (Errno::ENETUNREACH, Class::Unreachable),
        (
            Landing::Discard {
                how: Discard::Unreachable,
            },
            Some(_),
        ) => (Errno::EHOSTUNREACH, Class::Unreachable),
        (Landing::NoRoute | Landing::DeadDevice { .. }, _) => (Errno::ENETUNREACH, Class::NoRoute),
        (landing, _) => return Err(format!("resolve does not decide: {landing}")),
    };
    // With a device given and nothing found, IPv4 takes the destination to be on its link.
    if let (Some(output), Ok(_), false) = (flow.output, resolved, ipv6) {
        let resolved = message(resolved)?;
        return if (device(&resolved), gateway(&resolved)) == (Some(output), None) {
            Ok(Class::BoundDevice)
        } else {
            Err("kernel: a route".to_owned())
        };
    }
    match resolved {
        Err(code) if Errno::from_raw(*code) == expected => Ok(class),
        Err(code) => Err(format!("kernel: {}, expected {expected}", Errno::from_raw(*code))),
        Ok(_) => {
            let resolved = message(resolved)?;
            Err(format!("kernel: {resolved:?}, expected {expected}"))
        }
    }
}

fn by_object(kernel: &Kernel, decision: &Decision) -> bool {
    let Some(route) = decision.route else { return false };
    let IpNet::V6(prefix) = route.prefix else { return false };
    let routes = kernel.routes.v6.get(&route.table).and_then(|table| table.get(&prefix));
    routes.is_some_and(|routes| routes.iter().any(|route| matches!(route.hops, Hops::Object(_))))
}

/// The entry that matched has the decision's prefix, metric and table.
fn matches_entry(decision: &Decision, entry: &Answer, local_apart: bool) -> Result<(), String> {
    let entry = message(entry)?;
    let route = decision.route.ok_or("resolve: hops without a route")?;
    let length = entry.header.destination_prefix_length;
    let mut table = u32::from(entry.header.table);
    let mut metric = 0;
    let mut network = None;
    for attribute in &entry.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => network = Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => network = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    let network = network.unwrap_or(match route.prefix {
        IpNet::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpNet::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    });
    let told = (network, length, table, metric);
    let ours = (
        route.prefix.network(),
        route.prefix.prefix_len(),
        route.table,
        route.metric,
    );
    // While tables local and main are one trie, the kernel names main for both.
    let merged = (network, length, 255, metric);
    if told == ours || (!local_apart && table == 254 && merged == ours) {
        return Ok(());
    }
    Err(format!("kernel: entry {told:?}, resolve: {ours:?}"))
}

fn message(answer: &Answer) -> Result<RouteMessage, String> {
    let payload = answer
        .as_ref()
        .map_err(|code| format!("kernel: {}", Errno::from_raw(*code)))?;
    let payload = payload.as_ref().ok_or("kernel: an acknowledgement only")?;
    RouteMessage::parse(payload.as_slice()).map_err(|error| error.to_string())
}

fn device(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

/// All that bears on a flow, for the person who has to find out who is wrong.
pub(crate) fn explain(kernel: &Kernel, flow: &Flow, resolver: &Resolver<'_>) -> String {
    let mut text = format!("{flow:?}\nresolve: {:?}\n", resolver.lookup(flow));
    let ipv6 = flow.destination.is_ipv6();
    for rule in kernel.rules.iter().filter(|rule| rule.ipv6 == ipv6) {
        let _ = writeln!(text, "{rule:?}");
    }
    let mut routes: Vec<&Route> = match flow.destination {
        IpAddr::V4(_) => kernel
            .routes
            .v4
            .values()
            .flat_map(|map| map.values())
            .flatten()
            .collect(),
        IpAddr::V6(_) => kernel
            .routes
            .v6
            .values()
            .flat_map(|map| map.values())
            .flatten()
            .collect(),
    };
    routes.retain(|route| route.prefix.contains(&flow.destination));
    routes.sort_by_key(|route| (route.table, std::cmp::Reverse(route.prefix.prefix_len())));
    for route in routes {
        let _ = writeln!(text, "{route:?}");
    }
    for (id, nexthop) in &kernel.nexthops {
        let _ = writeln!(text, "nexthop {id}: {nexthop:?}");
    }
    for link in kernel.links.values() {
        let _ = writeln!(
            text,
            "{}: {} up {} carrier {}",
            link.index, link.name, link.up, link.carrier
        );
    }
    let _ = writeln!(text, "{:?}", kernel.sysctls);
    text
}
