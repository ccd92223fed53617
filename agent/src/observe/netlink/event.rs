//! The kernel's own messages, as what they say happened.

use std::net::IpAddr;

use cidrift_proto::landing::MacAddress;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_EXCL, NLM_F_REPLACE};

use super::Part;
use super::decode::{self, Tally, Undecodable, link, neighbour::Decoded as Near, netconf};
use super::frame::Frame;
use super::request::{
    RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELNETCONF, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_DELRULE, RTM_NEWADDR,
    RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE,
};
use crate::view::{FdbEntry, LinkAddress, Neighbour, Nexthop, Route};

/// How a route came, from the message's `NLM_F_*` flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing had its key (`NLM_F_EXCL`).
    New,
    /// In the place of the one that had its key (`NLM_F_REPLACE`).
    Replaced,
    /// Behind those that have its key (`NLM_F_APPEND`).
    Appended,
    /// Before those that have its key (none of these).
    Prepended,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Link(link::Decoded),
    LinkGone(u32),
    Address(u32, LinkAddress),
    AddressGone(u32, LinkAddress),
    Route(Route, How),
    RouteGone(Route),
    /// An IPv6 route for some sources only came or went: it is not in the view.
    RouteBySource,
    /// A rule came or went. Which one is left to a dump: rules may be equal in all that is modelled.
    Rule,
    Nexthop(u32, Nexthop),
    NexthopGone(u32),
    /// `None`: it went, or says nothing.
    Neighbour(u32, IpAddr, Option<Neighbour>),
    Fdb(u32, MacAddress, FdbEntry),
    FdbGone(u32, MacAddress, FdbEntry),
    Netconf(netconf::Decoded),
}

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    Event(Event),
    /// Known, and of no interest.
    Nothing,
    /// Of a type that this build does not know.
    Unknown,
}

impl Event {
    /// The part that it speaks of.
    pub(super) fn part(&self) -> Part {
        match self {
            Self::Link(_) | Self::LinkGone(_) | Self::Address(..) | Self::AddressGone(..) => Part::Links,
            Self::Route(..) | Self::RouteGone(_) | Self::RouteBySource => Part::Routes,
            Self::Rule => Part::Rules,
            Self::Nexthop(..) | Self::NexthopGone(_) => Part::Nexthops,
            Self::Neighbour(..) => Part::Neighbours,
            Self::Fdb(..) | Self::FdbGone(..) => Part::Fdb,
            Self::Netconf(_) => Part::Sysctls,
        }
    }
}

/// Reads one message.
pub(super) fn read(frame: &Frame<'_>, tally: &mut Tally) -> Result<Read, Undecodable> {
    let payload = frame.payload;
    let event = match frame.kind {
        RTM_NEWLINK => decode::link::link(payload, tally)?.map(Event::Link),
        RTM_DELLINK => decode::link::link(payload, tally)?.map(|gone| Event::LinkGone(gone.link.index)),
        RTM_NEWADDR => decode::address::address(payload, tally)?.map(|(device, new)| Event::Address(device, new)),
        RTM_DELADDR => decode::address::address(payload, tally)?.map(|(device, old)| Event::AddressGone(device, old)),
        RTM_NEWROUTE | RTM_DELROUTE => {
            decode::route::route(payload, tally)?
                .filter(|found| !found.cloned)
                .map(|found| match frame.kind {
                    _ if found.by_source => Event::RouteBySource,
                    RTM_NEWROUTE => Event::Route(found.route, how(frame.flags)),
                    _ => Event::RouteGone(found.route),
                })
        }
        RTM_NEWRULE | RTM_DELRULE => Some(Event::Rule),
        RTM_NEWNEXTHOP => {
            let (id, nexthop) = decode::nexthop::nexthop(payload, tally)?;
            Some(Event::Nexthop(id, nexthop))
        }
        RTM_DELNEXTHOP => Some(Event::NexthopGone(decode::nexthop::nexthop(payload, tally)?.0)),
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let gone = frame.kind == RTM_DELNEIGH;
            decode::neighbour::neighbour(payload, tally)?.map(|found| match found {
                Near::Neighbour(device, address, new) => Event::Neighbour(device, address, new.filter(|_| !gone)),
                Near::Fdb(device, mac, entry) if gone => Event::FdbGone(device, mac, entry),
                Near::Fdb(device, mac, entry) => Event::Fdb(device, mac, entry),
            })
        }
        RTM_NEWNETCONF => decode::netconf::netconf(payload, tally)?.map(Event::Netconf),
        // The device goes too, and says so itself.
        RTM_DELNETCONF => None,
        _ => return Ok(Read::Unknown),
    };
    Ok(event.map_or(Read::Nothing, Read::Event))
}

fn how(flags: u16) -> How {
    match flags {
        _ if flags & NLM_F_REPLACE != 0 => How::Replaced,
        _ if flags & NLM_F_APPEND != 0 => How::Appended,
        _ if flags & NLM_F_EXCL != 0 => How::New,
        _ => How::Prepended,
    }
}
