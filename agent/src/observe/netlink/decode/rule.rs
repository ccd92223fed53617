//! `RTM_NEWRULE`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{Nla, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleHeader};

use super::{Tally, Undecodable, attributes, need};
use crate::view::{Rule, RuleAction};

const HEADER: usize = 12;
/// Informative only: who made the rule, its realm, padding.
const FRA_FLOW: u16 = 11;
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// `suppress_prefixlength` and `suppress_ifgroup` are sent as -1 where unset.
const UNSET: u32 = u32::MAX;

/// `None` for families that are not IPv4 or IPv6 (multicast routing has rules too).
pub(in super::super) fn rule(payload: &[u8], tally: &mut Tally) -> Result<Option<Rule>, Undecodable> {
    const M: &str = "rule";
    let header = need(M, RuleHeader::parse(payload))?;
    let any = match header.family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let mut source = any;
    let mut destination = any;
    let mut table = u32::from(header.table);
    let mut target = None;
    let mut mark = None;
    let mut mask = None;
    let mut unmodelled: Vec<String> = Vec::new();
    let mut rule = Rule {
        ipv6: any.is_ipv6(),
        priority: 0,
        invert: header.flags.contains(RuleFlags::Invert),
        source: None,
        destination: None,
        iif: None,
        oif: None,
        mark: None,
        tos: header.tos,
        ip_protocol: None,
        source_ports: None,
        destination_ports: None,
        uids: None,
        suppress_prefix_length: None,
        unmodelled: None,
        action: RuleAction::Nop,
    };
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        match RuleAttribute::parse(&attribute) {
            Ok(RuleAttribute::Destination(address)) => destination = address,
            Ok(RuleAttribute::Source(address)) => source = address,
            Ok(RuleAttribute::Iifname(name)) => rule.iif = Some(name),
            Ok(RuleAttribute::Oifname(name)) => rule.oif = Some(name),
            Ok(RuleAttribute::Goto(priority)) => target = Some(priority),
            Ok(RuleAttribute::Priority(priority)) => rule.priority = priority,
            Ok(RuleAttribute::FwMark(value)) => mark = Some(value),
            Ok(RuleAttribute::FwMask(value)) => mask = Some(value),
            Ok(RuleAttribute::Table(id)) => table = id,
            Ok(RuleAttribute::SuppressPrefixLen(UNSET) | RuleAttribute::SuppressIfGroup(UNSET)) => {}
            Ok(RuleAttribute::SuppressPrefixLen(length)) => rule.suppress_prefix_length = Some(length),
            Ok(RuleAttribute::SuppressIfGroup(group)) => unmodelled.push(format!("suppress_ifgroup {group}")),
            Ok(RuleAttribute::TunId(0) | RuleAttribute::L3MDev(false)) => {}
            Ok(RuleAttribute::TunId(id)) => unmodelled.push(format!("tun_id {id}")),
            Ok(RuleAttribute::L3MDev(true)) => unmodelled.push("l3mdev".to_owned()),
            Ok(RuleAttribute::IpProtocol(protocol)) => rule.ip_protocol = Some(u8::from(protocol)).filter(|p| *p != 0),
            Ok(RuleAttribute::SourcePortRange(range)) => rule.source_ports = Some((range.start, range.end)),
            Ok(RuleAttribute::DestinationPortRange(range)) => rule.destination_ports = Some((range.start, range.end)),
            Ok(RuleAttribute::UidRange(range)) => rule.uids = Some((range.start, range.end)),
            Ok(RuleAttribute::Protocol(_) | RuleAttribute::Realm(_)) => {}
            Ok(RuleAttribute::Other(other)) if other.kind() == FRA_PAD => {}
            // Linux 6.15 tells a mask with every single port: all of its bits.
            Ok(RuleAttribute::Other(other))
                if matches!(other.kind(), FRA_SPORT_MASK | FRA_DPORT_MASK) && attribute.value() == [0xff; 2] => {}
            // A selector that this build does not know may make the rule match less: its effect is not known.
            Ok(RuleAttribute::Other(other)) => {
                tally.unknown_attributes += 1;
                unmodelled.push(format!("attribute {}", other.kind()));
            }
            Ok(other) => unmodelled.push(format!("{other:?}")),
            Err(_) if matches!(attribute.kind(), FRA_FLOW | FRA_PROTOCOL) => tally.bad_attributes += 1,
            Err(error) => return Err(Undecodable::new(M, error)),
        }
    }
    rule.source = selector(source, header.src_len, any)?;
    rule.destination = selector(destination, header.dst_len, any)?;
    rule.mark = match (mark, mask) {
        (None | Some(0), None | Some(0)) => None,
        (mark, mask) => Some((mark.unwrap_or(0), mask.unwrap_or(u32::MAX))),
    };
    rule.action = match header.action {
        Action::ToTable => RuleAction::Table(table),
        Action::Goto => match target {
            Some(priority) => RuleAction::Goto(priority),
            None => return Err(Undecodable::new(M, "goto without a target")),
        },
        Action::Nop => RuleAction::Nop,
        Action::Blackhole => RuleAction::Blackhole,
        Action::Unreachable => RuleAction::Unreachable,
        Action::Prohibit => RuleAction::Prohibit,
        other => {
            unmodelled.push(format!("action {}", u8::from(other)));
            RuleAction::Nop
        }
    };
    rule.unmodelled = (!unmodelled.is_empty()).then(|| unmodelled.join(", "));
    Ok(Some(rule))
}

fn selector(address: IpAddr, length: u8, any: IpAddr) -> Result<Option<IpNet>, Undecodable> {
    if length == 0 {
        return Ok(None);
    }
    if address.is_ipv4() != any.is_ipv4() {
        return Err(Undecodable::new("rule", "selector of another family"));
    }
    IpNet::new(address, length)
        .map(|net| Some(net.trunc()))
        .map_err(|error| Undecodable::new("rule", error))
}
