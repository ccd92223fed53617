//! The decoders on what a kernel sent, and on what none would.

use std::net::IpAddr;

use cidrift_proto::landing::Discard;
use netlink_packet_core::{DefaultNla, Emitable};
use proptest::prelude::*;

use super::super::event::read;
use super::super::frame::{Frame, frames};
use super::fixtures::{self as fx, bytes};
use super::neighbour::Decoded as Near;
use super::*;
use crate::view::{Hop, Hops, LinkDetail, Nexthop, RouteKind, RuleAction};

fn route_of(hex: &str) -> crate::view::Route {
    let mut tally = Tally::default();
    let found = route::route(&bytes(hex), &mut tally).unwrap().unwrap();
    assert_eq!(tally, Tally::default());
    assert!(!found.cloned && !found.by_source);
    found.route
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hop(device: u32, gateway: &str) -> Hop {
    Hop {
        device: Some(device),
        gateway: Some(ip(gateway)),
        weight: 1,
        dead: false,
        linkdown: false,
        onlink: false,
        encap: None,
    }
}

#[test]
fn a_flannel_route_is_onlink() {
    let route = route_of(fx::ROUTE);
    assert_eq!(route.prefix, "10.244.2.0/24".parse().unwrap());
    assert_eq!((route.table, route.metric, route.protocol), (254, 0, 3));
    let onlink = Hop {
        onlink: true,
        ..hop(4, "10.244.2.0")
    };
    assert_eq!((route.kind, route.hops), (RouteKind::Unicast, Hops::One(onlink)));
}

#[test]
fn a_multipath_route_has_its_legs_with_weights() {
    let route = route_of(fx::MULTIPATH);
    let heavy = Hop {
        weight: 4 - 1,
        ..hop(3, "fd00:18::3")
    };
    assert_eq!(route.metric, 1024);
    assert_eq!(route.hops, Hops::Many(vec![heavy, hop(3, "fd00:18::4")]));
}

#[test]
fn other_kinds_of_routes_are_what_they_are() {
    let blackhole = route_of(fx::BLACKHOLE);
    assert_eq!(
        (blackhole.table, blackhole.kind, blackhole.hops),
        (100_000, RouteKind::Discard(Discard::Blackhole), Hops::None)
    );
    assert_eq!(route_of(fx::VIA).hops, Hops::One(hop(3, "fd00:18::9")));
    // In compat mode the message repeats what the object says; the object decides.
    assert_eq!(route_of(fx::BY_OBJECT).hops, Hops::Object(10));
}

#[test]
fn a_vxlan_link_tells_vni_port_learning_and_local_address() {
    let link = link::link(&bytes(fx::VXLAN), &mut Tally::default())
        .unwrap()
        .unwrap()
        .link;
    assert_eq!(
        (link.index, link.name.as_str(), link.kind.as_str()),
        (4, "flannel.1", "vxlan")
    );
    assert_eq!(link.lladdr.unwrap().to_string(), "12:c6:65:89:b4:e3");
    assert!(link.up && link.carrier && !link.loopback && !link.peer_elsewhere);
    let LinkDetail::Vxlan { fact, remote, external } = link.detail else {
        panic!("{:?}", link.detail)
    };
    assert_eq!((fact.vni, fact.port, fact.learning), (1, 8472, false));
    assert_eq!((fact.local, remote, external), (Some(ip("172.18.0.2")), None, false));
}

#[test]
fn a_link_of_an_unknown_kind_with_an_unknown_attribute_is_kept_and_counted() {
    let mut payload = bytes(fx::VETH);
    let needle = b"veth\0";
    let at = payload
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap();
    payload[at..at + 4].copy_from_slice(b"zzzz");
    let unknown = DefaultNla::new(999, vec![1, 2, 3]);
    let start = payload.len();
    payload.resize(start + unknown.buffer_len(), 0);
    unknown.emit(&mut payload[start..]);
    let mut tally = Tally::default();
    let link = link::link(&payload, &mut tally).unwrap().unwrap().link;
    assert_eq!((link.name.as_str(), link.kind.as_str()), ("eth0", "zzzz"));
    assert_eq!((tally.unknown_attributes, tally.unknown_link_kinds), (1, 1));
}

#[test]
fn a_bridge_ports_own_message_is_not_a_links_end() {
    let mut payload = bytes(fx::VETH);
    payload[0] = AF_BRIDGE;
    assert_eq!(link::link(&payload, &mut Tally::default()), Ok(None));
}

#[test]
fn addresses_carry_their_length_and_whether_they_can_be_used() {
    let mut tally = Tally::default();
    let (device, four) = address::address(&bytes(fx::ADDRESS4), &mut tally).unwrap().unwrap();
    assert_eq!(
        (device, four.net.to_string(), four.unusable),
        (3, "172.18.0.2/24".into(), false)
    );
    let mut six = bytes(fx::ADDRESS6);
    let (_, usable) = address::address(&six, &mut tally).unwrap().unwrap();
    assert_eq!(
        (usable.net.to_string(), usable.unusable),
        ("fd00:18::2/64".into(), false)
    );
    // IFA_FLAGS, the last attribute: tentative.
    let flags = six.len() - 4;
    six[flags] |= 0x40;
    assert!(address::address(&six, &mut tally).unwrap().unwrap().1.unusable);
}

#[test]
fn neighbours_and_fdb_entries_are_told_apart() {
    let mut tally = Tally::default();
    let near = |hex, tally: &mut Tally| neighbour::neighbour(&bytes(hex), tally).unwrap().unwrap();
    let Near::Neighbour(4, address, Some(neighbour)) = near(fx::NEIGHBOUR, &mut tally) else {
        panic!("not a neighbour")
    };
    assert_eq!(address, ip("10.244.2.0"));
    assert!(neighbour.permanent && !neighbour.failed);
    let Near::Fdb(4, mac, entry) = near(fx::FDB, &mut tally) else {
        panic!("not an FDB entry")
    };
    assert_eq!(mac.to_string(), "12:c6:65:89:b4:e4");
    assert_eq!(
        (entry.destination, entry.nexthop, entry.permanent),
        (Some(ip("172.18.0.3")), None, true)
    );
}

#[test]
fn a_neighbour_that_is_being_asked_for_says_nothing_and_one_that_failed_does() {
    let mut payload = bytes(fx::NEIGHBOUR);
    // NUD_FAILED: the old address no longer answers.
    payload[8..10].copy_from_slice(&0x20u16.to_ne_bytes());
    let mut tally = Tally::default();
    let Ok(Some(Near::Neighbour(_, _, Some(failed)))) = neighbour::neighbour(&payload, &mut tally) else {
        panic!("not a neighbour")
    };
    assert!(failed.failed && failed.lladdr.is_none());
    // NUD_INCOMPLETE, without a link-layer address (the second attribute).
    payload[8..10].copy_from_slice(&0x01u16.to_ne_bytes());
    payload[22..24].copy_from_slice(&4u16.to_ne_bytes());
    let Ok(Some(Near::Neighbour(_, _, None))) = neighbour::neighbour(&payload, &mut tally) else {
        panic!("it says something")
    };
}

#[test]
fn nexthop_objects_of_every_kind_are_read() {
    let object = |hex| nexthop::nexthop(&bytes(hex), &mut Tally::default()).unwrap();
    assert_eq!(object(fx::NEXTHOP), (10, Nexthop::Hop(hop(3, "172.18.0.3"))));
    assert_eq!(object(fx::GROUP), (20, Nexthop::Group(vec![(10, 5), (11, 3)])));
    assert_eq!(object(fx::NEXTHOP_BLACKHOLE), (30, Nexthop::Blackhole));
    assert_eq!(object(fx::NEXTHOP_FDB), (40, Nexthop::Fdb(ip("172.18.0.9"))));
}

#[test]
fn a_rule_is_read_with_all_its_selectors() {
    let read = |hex| rule::rule(&bytes(hex), &mut Tally::default()).unwrap().unwrap();
    let plain = read(fx::RULE);
    assert_eq!((plain.priority, plain.action), (512, RuleAction::Table(254)));
    assert_eq!(plain.destination, Some("10.244.1.7/32".parse().unwrap()));
    assert_eq!((plain.suppress_prefix_length, plain.unmodelled), (None, None));
    let rule = read(fx::RULE_SELECTIVE);
    assert!(rule.invert);
    assert_eq!(rule.source, Some("10.244.1.0/24".parse().unwrap()));
    assert_eq!((rule.iif.as_deref(), rule.mark), (Some("eth0"), Some((0x80, 0x80))));
    assert_eq!((rule.ip_protocol, rule.destination_ports), (Some(6), Some((80, 90))));
    assert_eq!(
        (rule.suppress_prefix_length, rule.action),
        (Some(0), RuleAction::Table(10_100))
    );
    assert_eq!(read(fx::RULE_GOTO).action, RuleAction::Goto(32_766));
    assert_eq!(read(fx::RULE_L3MDEV).unmodelled.as_deref(), Some("l3mdev"));
}

#[test]
fn a_selector_that_is_not_known_makes_the_rules_effect_unknown() {
    let mut payload = bytes(fx::RULE);
    let unknown = DefaultNla::new(77, vec![1]);
    let start = payload.len();
    payload.resize(start + unknown.buffer_len(), 0);
    unknown.emit(&mut payload[start..]);
    let mut tally = Tally::default();
    let rule = rule::rule(&payload, &mut tally).unwrap().unwrap();
    assert_eq!(rule.unmodelled.as_deref(), Some("attribute 77"));
    assert_eq!(tally.unknown_attributes, 1);
}

#[test]
fn a_sysctl_is_read_with_its_device() {
    let setting = netconf::netconf(&bytes(fx::NETCONF), &mut Tally::default())
        .unwrap()
        .unwrap();
    assert_eq!(
        (setting.ipv6, setting.device, setting.ignore_linkdown),
        (false, Some(3), Some(true))
    );
}

#[test]
fn a_message_that_is_cut_short_is_refused_and_not_half_believed() {
    for (kind, hex) in fx::ALL {
        let whole = bytes(hex);
        // Five bytes off are never padding alone.
        let cut = &whole[..whole.len() - 5];
        let mut tally = Tally::default();
        let result = match *kind {
            32 => rule::rule(cut, &mut tally).map(|_| ()),
            kind => read(
                &Frame {
                    kind,
                    flags: 0,
                    sequence: 0,
                    payload: cut,
                },
                &mut tally,
            )
            .map(|_| ()),
        };
        assert!(result.is_err(), "{kind} {hex}");
    }
}

/// A datagram of one message.
fn datagram(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 16).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

const KINDS: &[u16] = &[16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 80, 81, 104, 105];

fn read_all(datagram: &[u8]) {
    let mut tally = Tally::default();
    for frame in frames(datagram).flatten() {
        let _ = read(&frame, &mut tally);
        let _ = rule::rule(frame.payload, &mut tally);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_the_decoders_panic(
        kind in prop::sample::select(KINDS),
        flags in any::<u16>(),
        payload in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        read_all(&datagram(kind, flags, &payload));
        read_all(&payload);
    }

    #[test]
    fn no_damage_to_real_messages_makes_the_decoders_panic(
        kind in prop::sample::select(KINDS),
        fixture in prop::sample::select(fx::ALL),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut payload = bytes(fixture.1);
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let whole = datagram(kind, 0, &payload);
        read_all(&whole);
        payload.truncate(cut.index(payload.len()));
        read_all(&datagram(kind, 0, &payload));
        read_all(&whole[..cut.index(whole.len())]);
    }

    #[test]
    fn frames_end_whatever_the_lengths_say(datagram in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(frames(&datagram).count() <= datagram.len() / 16 + 1);
    }
}
