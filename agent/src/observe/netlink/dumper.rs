//! Dumps: what is asked, when it is asked again, and what is kept.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use jiff::Timestamp;
use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP};
use netlink_sys::Socket;
use nix::errno::Errno;
use nix::libc;

use super::decode::{self, AF_BRIDGE, AF_INET, AF_INET6, AF_UNSPEC, Tally, Undecodable, neighbour::Decoded as Near};
use super::dumped::{Dumped, Fdb, Links, Neighbours};
use super::frame::{errno, frames};
use super::netconf::Netconf;
use super::parts::Parts;
use super::request::{
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNETCONF, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE, Request,
};
use super::{Counters, Gap, ObserveError, Part, pipe, socket};
use crate::view::{Nexthop, Rule, Tables};

/// A third of link and address dumps under churn were seen interrupted
/// (kernel 6.18); nine in a row is then one case in 20,000.
const ATTEMPTS: usize = 9;

/// Datagrams of a dump that are read and parsed in turn before a second thread
/// takes over the reading. 96 KiB are some 2,000 routes, parsed in 0.5 ms: less
/// than that is not worth a thread's start.
const ALONE: usize = 3;

/// Why a single dump failed.
enum Failure {
    /// The kernel refused.
    Refused(i32),
    /// The socket failed.
    Socket(io::Error),
}

/// Dumps, one part after another, over a socket of its own.
#[derive(Debug)]
pub(super) struct Dumper {
    socket: Socket,
    receive_buffer: usize,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Dumper {
    pub(super) fn new(receive_buffer: usize) -> Result<Self, ObserveError> {
        Ok(Self {
            socket: socket::for_dumps(receive_buffer)?,
            receive_buffer,
            buffer: vec![0; socket::DATAGRAM],
            sequence: 0,
        })
    }

    /// Dumps these parts.
    pub(super) fn dump(&mut self, parts: Parts) -> Dumped {
        let clock = Instant::now();
        let began = Timestamp::now();
        let mut run = Run {
            dumper: self,
            began,
            tally: Tally::default(),
            counters: Counters::default(),
            gaps: Vec::new(),
            interrupted: Parts::NONE,
        };
        let links = parts.has(Part::Links).then(|| run.links()).flatten();
        // Objects before the routes that name them: a route never refers to one that is not known yet.
        let nexthops = parts.has(Part::Nexthops).then(|| run.nexthops()).flatten();
        let routes = parts.has(Part::Routes).then(|| run.routes()).flatten();
        let rules = parts.has(Part::Rules).then(|| run.rules()).flatten();
        let neighbours = parts.has(Part::Neighbours).then(|| run.neighbours()).flatten();
        let fdb = parts.has(Part::Fdb).then(|| run.fdb()).flatten();
        let netconf = parts.has(Part::Sysctls).then(|| run.netconf());
        let Run {
            tally,
            mut counters,
            gaps,
            interrupted,
            ..
        } = run;
        counters.add_tally(tally);
        Dumped {
            parts,
            began,
            ended: Timestamp::now(),
            took: clock.elapsed(),
            links,
            routes,
            rules,
            nexthops,
            neighbours,
            fdb,
            netconf,
            gaps,
            interrupted,
            counters,
        }
    }

    /// Asks once and reads all of the answer.
    fn once(
        &mut self,
        request: Request,
        mut each: impl FnMut(&[u8]) -> Result<(), Undecodable>,
    ) -> Result<Answer, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket
            .send(&request.bytes(self.sequence), 0)
            .map_err(Failure::Socket)?;
        let mut reading = Reading {
            answers: request.answers,
            sequence: self.sequence,
            answer: Answer::default(),
        };
        for _ in 0..ALONE {
            let length = socket::receive(&self.socket, &mut self.buffer).map_err(Failure::Socket)?;
            if reading.take(&self.buffer, length, &mut each)? {
                return Ok(reading.answer);
            }
        }
        let piped = pipe::read(&self.socket, self.buffer.len(), self.sequence, |buffer, length| {
            reading.take(buffer, length.map_err(Failure::Socket)?, &mut each)
        });
        piped.map(|()| reading.answer)
    }
}

/// An answer while it is read.
struct Reading {
    /// The type of its messages.
    answers: u16,
    sequence: u32,
    answer: Answer,
}

impl Reading {
    /// Takes a datagram in; `length` is its true one. True: it was the last.
    fn take(
        &mut self,
        buffer: &[u8],
        length: usize,
        each: &mut impl FnMut(&[u8]) -> Result<(), Undecodable>,
    ) -> Result<bool, Failure> {
        let answer = &mut self.answer;
        answer.cut = answer.cut.max(length.saturating_sub(buffer.len()));
        for frame in frames(&buffer[..length.min(buffer.len())]) {
            let frame = match frame {
                Ok(frame) if frame.sequence != self.sequence => continue,
                Ok(frame) => frame,
                Err(undecodable) => {
                    answer.refuse(undecodable);
                    continue;
                }
            };
            answer.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
            match frame.kind {
                kind if kind == self.answers => {
                    if let Err(undecodable) = each(frame.payload) {
                        answer.refuse(undecodable);
                    }
                }
                NLMSG_DONE | NLMSG_ERROR => {
                    return match errno(frame.payload) {
                        // ENOENT: a table that does not exist has nothing in it.
                        0 | libc::ENOENT => Ok(true),
                        code => Err(Failure::Refused(code)),
                    };
                }
                NLMSG_NOOP => {}
                _ => answer.unknown += 1,
            }
        }
        Ok(false)
    }
}

/// How a dump went.
#[derive(Default)]
struct Answer {
    interrupted: bool,
    /// By how many bytes the longest datagram was too long for the buffer.
    cut: usize,
    unknown: u64,
    refused: u64,
    first: Option<Undecodable>,
}

impl Answer {
    fn refuse(&mut self, undecodable: Undecodable) {
        self.refused += 1;
        self.first.get_or_insert(undecodable);
    }
}

/// One call of [`Dumper::dump`].
struct Run<'a> {
    dumper: &'a mut Dumper,
    began: Timestamp,
    tally: Tally,
    counters: Counters,
    gaps: Vec<Gap>,
    interrupted: Parts,
}

impl Run<'_> {
    /// A part's messages, gathered: again while the kernel says that they
    /// changed under the dump, or while the buffer is too small.
    fn gather<T: Default>(
        &mut self,
        part: Part,
        request: Request,
        mut each: impl FnMut(&mut T, &[u8], &mut Tally) -> Result<(), Undecodable>,
    ) -> Option<T> {
        let mut attempt = 1;
        loop {
            let mut gathered = T::default();
            let mut tally = Tally::default();
            let result = self
                .dumper
                .once(request, |payload| each(&mut gathered, payload, &mut tally));
            let answer = match result {
                Ok(answer) => answer,
                Err(failure) => {
                    self.fail(part, failure);
                    return None;
                }
            };
            let last = attempt == ATTEMPTS;
            if answer.cut > 0 && !last {
                let size = self.dumper.buffer.len() + answer.cut;
                self.dumper.buffer.resize(size, 0);
            } else if answer.interrupted && !last {
                self.counters.interrupted_dumps += 1;
            } else {
                self.counters.unknown_messages += answer.unknown;
                self.counters.undecodable_messages += answer.refused;
                self.tally.add(tally);
                if let Some(first) = answer.first {
                    self.gap(part, format!("{} messages could not be read: {first}", answer.refused));
                }
                if answer.interrupted {
                    self.counters.interrupted_dumps += 1;
                    self.interrupted.add(Parts::of(&[part]));
                    self.gap(part, format!("they changed during each of {ATTEMPTS} dumps"));
                }
                return Some(gathered);
            }
            attempt += 1;
        }
    }

    fn gap(&mut self, part: Part, reason: String) {
        self.gaps.push(Gap {
            part,
            reason,
            since: self.began,
        });
    }

    fn fail(&mut self, part: Part, failure: Failure) {
        match failure {
            Failure::Refused(code) => self.gap(part, format!("the kernel refused: {}", Errno::from_raw(code).desc())),
            Failure::Socket(error) => {
                self.gap(part, format!("the netlink socket failed: {error}"));
                // What is left of the answer would be taken for the next one's.
                if let Ok(socket) = socket::for_dumps(self.dumper.receive_buffer) {
                    self.dumper.socket = socket;
                }
            }
        }
    }

    fn links(&mut self) -> Option<Links> {
        let request = Request::new(RTM_NEWLINK, AF_UNSPEC);
        let (mut links, states) = self.gather(Part::Links, request, |into: &mut Links, payload, tally| {
            if let Some(found) = decode::link::link(payload, tally)? {
                into.1.insert(found.link.index, found.state);
                into.0.insert(found.link.index, found.link);
            }
            Ok(())
        })?;
        let request = Request::new(RTM_NEWADDR, AF_UNSPEC);
        let addresses = self.gather(Part::Links, request, |into: &mut Vec<_>, payload, tally| {
            into.extend(decode::address::address(payload, tally)?);
            Ok(())
        })?;
        for (index, address) in addresses {
            if let Some(link) = links.get_mut(&index) {
                link.addresses.push(address);
            }
        }
        Some((links, states))
    }

    fn routes(&mut self) -> Option<Tables> {
        let mut by_source = 0;
        let mut tables = Tables::default();
        for family in [AF_INET, AF_INET6] {
            let request = Request::new(RTM_NEWROUTE, family);
            let (found, skipped) = self.gather(
                Part::Routes,
                request,
                |(into, skipped): &mut (Tables, u64), payload, tally| {
                    // A kernel without this family answers with all the others.
                    if payload.first() != Some(&family) {
                        return Ok(());
                    }
                    if let Some(found) = decode::route::route(payload, tally)? {
                        if found.by_source {
                            *skipped += 1;
                        } else if !found.cloned {
                            into.push(found.route);
                        }
                    }
                    Ok(())
                },
            )?;
            by_source += skipped;
            if family == AF_INET {
                tables.v4 = found.v4;
            } else {
                tables.v6 = found.v6;
            }
        }
        if by_source > 0 {
            self.gap(
                Part::Routes,
                format!("{by_source} IPv6 routes hold for some sources only (`from`): they are left out"),
            );
        }
        Some(tables)
    }

    fn rules(&mut self) -> Option<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let request = Request::new(RTM_NEWRULE, family);
            let found = self.gather(Part::Rules, request, |into: &mut Vec<Rule>, payload, tally| {
                if payload.first() == Some(&family) {
                    into.extend(decode::rule::rule(payload, tally)?);
                }
                Ok(())
            })?;
            rules.extend(found);
        }
        Some(rules)
    }

    fn nexthops(&mut self) -> Option<HashMap<u32, Nexthop>> {
        let request = Request::new(RTM_NEWNEXTHOP, AF_UNSPEC);
        self.gather(Part::Nexthops, request, |into: &mut HashMap<_, _>, payload, tally| {
            let (id, nexthop) = decode::nexthop::nexthop(payload, tally)?;
            into.insert(id, nexthop);
            Ok(())
        })
    }

    fn neighbours(&mut self) -> Option<Neighbours> {
        let mut neighbours = Neighbours::new();
        for family in [AF_INET, AF_INET6] {
            let request = Request::new(RTM_NEWNEIGH, family);
            let found = self.gather(Part::Neighbours, request, |into: &mut Neighbours, payload, tally| {
                if let Some(Near::Neighbour(device, address, Some(neighbour))) =
                    decode::neighbour::neighbour(payload, tally)?
                {
                    into.insert((device, address), neighbour);
                }
                Ok(())
            })?;
            neighbours.extend(found);
        }
        Some(neighbours)
    }

    fn fdb(&mut self) -> Option<Fdb> {
        let request = Request::new(RTM_NEWNEIGH, AF_BRIDGE);
        self.gather(Part::Fdb, request, |into: &mut Fdb, payload, tally| {
            if let Some(Near::Fdb(device, mac, entry)) = decode::neighbour::neighbour(payload, tally)? {
                into.entry((device, mac)).or_default().push(entry);
            }
            Ok(())
        })
    }

    fn netconf(&mut self) -> Netconf {
        let mut netconf = Netconf::default();
        for family in [AF_INET, AF_INET6] {
            let before = self.gaps.len();
            let request = Request::new(RTM_NEWNETCONF, family);
            let found = self.gather(Part::Sysctls, request, |into: &mut Vec<_>, payload, tally| {
                into.extend(decode::netconf::netconf(payload, tally)?);
                Ok(())
            });
            for setting in found.into_iter().flatten() {
                netconf.set(setting);
            }
            if let Some(gap) = self.gaps.get(before) {
                netconf.unreadable = Some(gap.reason.clone());
            }
        }
        netconf
    }
}
