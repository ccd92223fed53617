//! Random routes, rules and nexthop objects, as rtnetlink requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};

use super::random::Random;
use super::wire::Request;

const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWRULE: u16 = 32;
const DELRULE: u16 = 33;
const NEWNEXTHOP: u16 = 104;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_NH_ID: u16 = 30;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_THROW: u8 = 9;
const ONLINK: u8 = 4;

/// What routes and rules of a namespace can name.
pub(crate) struct Ground {
    /// Devices for routes: ifindex, name, the number of its subnet.
    pub(crate) devices: Vec<(u32, String, u8)>,
    /// ifindex of the loopback.
    pub(crate) loopback: u32,
    /// IPv6 routes use nexthop objects, or IPv6 rules suppress; not both:
    /// routes of one object share what suppression looks at, so that the
    /// kernel's answer depends on which was looked up first.
    pub(crate) objects_v6: bool,
}

/// A route or rule that was made: how to make it, how to undo it.
pub(crate) struct Made {
    pub(crate) add: Request,
    pub(crate) remove: Request,
}

pub(crate) fn family(ipv6: bool) -> u8 {
    if ipv6 { 10 } else { 2 }
}

pub(crate) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address that random prefixes are likely to cover, several of them at once.
pub(crate) fn address(random: &mut Random, ipv6: bool) -> IpAddr {
    let (a, b, c) = (
        random.below(2),
        random.below(3),
        random.pick(&[0, 1, 2, 127, 128, 129, 255]),
    );
    let [a, b, c] = [a, b, c].map(|part| u8::try_from(part).unwrap());
    if ipv6 {
        Ipv6Addr::new(0xfd10, a.into(), b.into(), 0, 0, 0, 0, c.into()).into()
    } else {
        Ipv4Addr::new(10, a, b, c).into()
    }
}

pub(crate) fn prefix(random: &mut Random, ipv6: bool) -> IpNet {
    match address(random, ipv6) {
        IpAddr::V4(address) => {
            let length = random.pick(&[0, 7, 8, 12, 15, 16, 22, 23, 24, 25, 28, 31, 32]);
            Ipv4Net::new(address, length).unwrap().trunc().into()
        }
        IpAddr::V6(address) => {
            let length = random.pick(&[0, 7, 16, 31, 32, 47, 48, 64, 112, 120, 121, 127, 128]);
            Ipv6Net::new(address, length).unwrap().trunc().into()
        }
    }
}

/// Where pods' packets come from: covered by default routes and rules only.
pub(crate) fn source(random: &mut Random, ipv6: bool) -> IpAddr {
    let (a, b) = (random.below(2), random.below(4));
    let [a, b] = [a, b].map(|part| u8::try_from(part).unwrap());
    if ipv6 {
        Ipv6Addr::new(0xfd20, a.into(), 0, 0, 0, 0, 0, u16::from(b) + 1).into()
    } else {
        Ipv4Addr::new(172, 16, a, b + 1).into()
    }
}

pub(crate) const TABLES: [u32; 9] = [254, 254, 254, 254, 100, 101, 300, 253, 255];

pub(crate) fn route(random: &mut Random, ground: &Ground, ipv6: bool) -> Made {
    let prefix = prefix(random, ipv6);
    let default = prefix.prefix_len() == 0;
    let table = random.pick(&TABLES);
    let metric: u32 = if ipv6 {
        random.pick(&[1, 7, 1024])
    } else {
        random.pick(&[0, 1, 7])
    };
    let tos = if !ipv6 && !default && random.percent(12) {
        random.pick(&[4, 8, 0x10])
    } else {
        0
    };
    let kind = match random.below(100) {
        0..70 => RTN_UNICAST,
        70..88 => random.pick(&[6, 7, 8, RTN_THROW]),
        // Not a default one: gateways would count as local when their routes are made.
        88..95 if !default => RTN_LOCAL,
        // Long ones only: a source that is looked up as broadcast is refused.
        _ if !ipv6 && prefix.prefix_len() > 20 => RTN_BROADCAST,
        _ => RTN_UNICAST,
    };
    let scope = match kind {
        RTN_LOCAL if !ipv6 => 254,
        RTN_BROADCAST => 253,
        _ => 0,
    };
    let mut header = [family(ipv6), prefix.prefix_len(), 0, tos, 0, 4, scope, kind, 0, 0, 0, 0];
    let mut removing = Request::new(DELROUTE, 0, &header);
    let mut attributes = Request::new(NEWROUTE, 0, &[]);
    for request in [&mut removing, &mut attributes] {
        request.put(RTA_DST, &bytes(prefix.network()));
        request.put_u32(RTA_TABLE, table);
        request.put_u32(RTA_PRIORITY, metric);
    }
    let (device, _, subnet) = ground.devices[random.below(ground.devices.len())].clone();
    match kind {
        RTN_UNICAST => match random.below(100) {
            0..45 => {
                let (gateway, onlink) = gateway(random, ipv6, subnet);
                header[8] |= onlink;
                attributes.put(RTA_GATEWAY, &bytes(gateway));
                attributes.put_u32(RTA_OIF, device);
            }
            45..60 => {
                header[6] = if ipv6 { 0 } else { 253 };
                attributes.put_u32(RTA_OIF, device);
            }
            60..80 if !ipv6 || ground.objects_v6 => attributes.put_u32(RTA_NH_ID, object_id(random, ipv6)),
            _ => attributes.put(RTA_MULTIPATH, &legs(random, ground, ipv6)),
        },
        RTN_LOCAL => attributes.put_u32(RTA_OIF, if random.percent(50) { ground.loopback } else { device }),
        RTN_BROADCAST => attributes.put_u32(RTA_OIF, device),
        _ => {}
    }
    // IPv4 picks among equal default routes by the state of their neighbours, which are none of the lookup's business.
    let flags = if !default && random.percent(20) {
        NLM_F_CREATE | NLM_F_APPEND
    } else {
        NLM_F_CREATE | NLM_F_EXCL
    };
    let mut add = Request::new(NEWROUTE, flags, &header);
    add.append(&attributes);
    Made { add, remove: removing }
}

fn gateway(random: &mut Random, ipv6: bool, subnet: u8) -> (IpAddr, u8) {
    let last = u8::try_from(random.below(6)).unwrap() + 2;
    let text = match (ipv6, random.percent(15)) {
        (false, false) => format!("192.168.{subnet}.{last}"),
        (true, false) => format!("fd00:{subnet}::{last}"),
        // Off-link: refused unless `onlink`.
        (false, true) => format!("192.0.2.{last}"),
        (true, true) => format!("2001:db8::{last}"),
    };
    let onlink = if text.starts_with("192.0") || text.starts_with("2001") {
        ONLINK
    } else {
        0
    };
    (text.parse().unwrap(), onlink)
}

/// `struct rtnexthop` with its gateway, two to four times.
fn legs(random: &mut Random, ground: &Ground, ipv6: bool) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..2 + random.below(3) {
        let (device, _, subnet) = ground.devices[random.below(ground.devices.len())].clone();
        let (gateway, onlink) = gateway(random, ipv6, subnet);
        let mut leg = Request::new(0, 0, &[0, 0, onlink, u8::try_from(random.below(4)).unwrap()]);
        leg.raw(&device.to_ne_bytes());
        leg.put(RTA_GATEWAY, &bytes(gateway));
        let mut leg = leg.into_body();
        let length = u16::try_from(leg.len()).unwrap();
        leg[..2].copy_from_slice(&length.to_ne_bytes());
        all.extend(leg);
    }
    all
}

/// Singles 1 to 4, a blackhole 5, groups 6 to 8; IPv6 ten more.
fn object_id(random: &mut Random, ipv6: bool) -> u32 {
    u32::try_from(random.below(8)).unwrap() + if ipv6 { 11 } else { 1 }
}

/// All nexthop objects, with random hops.
pub(crate) fn objects(random: &mut Random, ground: &Ground) -> Vec<Request> {
    let mut all = Vec::new();
    for (ipv6, base) in [(false, 0), (true, 10)] {
        let object = |id: u32, family: u8| {
            let mut request = Request::new(NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, &[family, 0, 4, 0, 0, 0, 0, 0]);
            request.put_u32(1, base + id);
            request
        };
        for id in 1..=4 {
            let mut single = object(id, family(ipv6));
            let (device, _, subnet) = ground.devices[random.below(ground.devices.len())].clone();
            single.put_u32(5, device);
            let last = random.below(6) + 2;
            let text = if ipv6 {
                format!("fd00:{subnet}::{last}")
            } else {
                format!("192.168.{subnet}.{last}")
            };
            single.put(6, &bytes(text.parse().unwrap()));
            all.push(single);
        }
        let mut blackhole = object(5, family(ipv6));
        blackhole.put(4, &[]);
        all.push(blackhole);
        for (id, members) in [(6, &[1, 2][..]), (7, &[3, 4, 1]), (8, &[5])] {
            let mut group = object(id, 0);
            let mut entries = Vec::new();
            for member in members {
                entries.extend((base + member).to_ne_bytes());
                entries.extend([u8::try_from(random.below(4)).unwrap(), 0, 0, 0]);
            }
            group.put(2, &entries);
            all.push(group);
        }
    }
    all
}

pub(crate) fn rule(random: &mut Random, ground: &Ground, ipv6: bool) -> Made {
    const INVERT: u8 = 2;
    let priority = u32::try_from(random.below(40)).unwrap() * 1000 + 1;
    let destination = random.percent(30).then(|| prefix(random, ipv6));
    let from = random.percent(30).then(|| {
        let length = if ipv6 {
            random.pick(&[32, 128])
        } else {
            random.pick(&[24, 32])
        };
        IpNet::new(source(random, ipv6), length).unwrap().trunc()
    });
    let tos = if random.percent(8) {
        random.pick(&[4, 8, 0x10])
    } else {
        0
    };
    // lookup, goto, nop, blackhole, unreachable, prohibit
    let action = if random.percent(70) {
        1
    } else {
        random.pick(&[2, 2, 3, 6, 7, 8])
    };
    let invert = if random.percent(12) { INVERT } else { 0 };
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let header = [
        family(ipv6),
        length(destination),
        length(from),
        tos,
        0,
        0,
        0,
        action,
        invert,
        0,
        0,
        0,
    ];
    let mut body = Request::new(0, 0, &header);
    body.put_u32(6, priority);
    if let Some(net) = destination.filter(|net| net.prefix_len() > 0) {
        body.put(1, &bytes(net.network()));
    }
    if let Some(net) = from {
        body.put(2, &bytes(net.network()));
    }
    if random.percent(15) {
        let name = ground.devices[random.below(ground.devices.len())].1.clone();
        body.put_text(3, random.pick(&["lo", &name, "absent0"]));
    }
    if random.percent(6) {
        body.put_text(17, &ground.devices[random.below(ground.devices.len())].1);
    }
    if random.percent(20) {
        body.put_u32(10, random.pick(&[0, 1, 0x10]));
        body.put_u32(16, random.pick(&[1, 0xf0, 0xffff_ffff]));
    }
    match action {
        1 => body.put_u32(15, random.pick(&TABLES)),
        2 => body.put_u32(4, priority + u32::try_from(random.below(12)).unwrap() * 1000),
        _ => {}
    }
    if action == 1 && !(ipv6 && ground.objects_v6) && random.percent(20) {
        body.put_u32(14, random.pick(&[0, 8, 16, 24]));
    }
    if random.percent(6) {
        body.put(
            20,
            &[0_u32.to_ne_bytes(), random.pick(&[0_u32, 999]).to_ne_bytes()].concat(),
        );
    }
    if random.percent(10) {
        body.put(22, &[random.pick(&[6, 17])]);
        if random.percent(50) {
            let kind = random.pick(&[23, 24]);
            body.put(
                kind,
                &[80_u16.to_ne_bytes(), random.pick(&[80_u16, 443]).to_ne_bytes()].concat(),
            );
        }
    }
    Made {
        add: body.as_kind(NEWRULE, NLM_F_CREATE | NLM_F_EXCL),
        remove: body.as_kind(DELRULE, 0),
    }
}

/// A rule that never matches: with it, the namespace has rules of its own for
/// good. (One that had some and lost them looks like one that never had any,
/// but from the first on the kernel asks them.)
pub(crate) fn never_matching(ipv6: bool) -> Request {
    let header = [family(ipv6), 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut body = Request::new(NEWRULE, NLM_F_CREATE, &header);
    body.put_u32(6, 31_000);
    body.put_text(3, "absent0");
    body.put_u32(15, 254);
    body
}

/// Takes one of the kernel's own rules away (that for table local cannot go).
pub(crate) fn without_initial_rule(random: &mut Random, ipv6: bool) -> Made {
    let (priority, table) = random.pick(&[(32766, 254), (32767, 253)]);
    let mut body = Request::new(0, 0, &[family(ipv6), 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    body.put_u32(6, priority);
    body.put_u32(15, table);
    Made {
        add: body.as_kind(DELRULE, 0),
        remove: body.as_kind(NEWRULE, NLM_F_CREATE),
    }
}
