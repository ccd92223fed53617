//! Keeps a view of one namespace: subscribe, dump, replay, follow.

use std::collections::BTreeSet;
use std::future::pending;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::decode::{Tally, Undecodable};
use super::dumped::Dumped;
use super::dumper::Dumper;
use super::event::{Event, Read, read};
use super::frame::frames;
use super::mailbox::{Mailbox, Post};
use super::parts::Parts;
use super::socket::{NEIGHBOUR_GROUPS, ROUTE_GROUPS};
use super::state::{Effects, State};
use super::worker::Worker;
use super::{Counters, Gap, ObserveError, Options, Part};
use crate::view::{Changes, Kernel, Tables};

/// Datagrams read before what they changed is handed on: a storm must not
/// keep its first change from anyone for more than a millisecond or so.
const BATCH: usize = 512;

/// Events remembered while a dump runs, to replay them over it: at most 4 MiB.
/// More of them, and the dump is made again instead. A dump of 50,000 routes
/// takes some 60 ms, in which one core makes fewer changes than this.
const REPLAY: usize = 16 * 1024;

/// Dumps in a row that a vanished route may be doubted, and dumps in a row
/// that may be spoilt by lost messages before the view is handed on with a gap.
const DOUBTS: u32 = 3;

const NEIGHBOUR_PARTS: Parts = Parts::of(&[Part::Neighbours, Part::Fdb]);
const ROUTE_PARTS: Parts = Parts::of(&[Part::Links, Part::Routes, Part::Rules, Part::Nexthops, Part::Sysctls]);

/// Which socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Routes,
    Neighbours,
}

/// A dump that is being made.
#[derive(Debug)]
struct Flight {
    parts: Parts,
    /// What happened since it was asked for.
    replay: Vec<Event>,
    /// Some of what happened is not in `replay`.
    lossy: bool,
    /// Its answer to the whole view is trusted: it was asked for at the start or after an overrun.
    fresh: bool,
}

/// A kept view of one namespace.
pub struct Watcher {
    options: Options,
    routes: Mailbox,
    neighbours: Mailbox,
    worker: Worker,
    state: State,
    flight: Option<Flight>,
    /// Parts to dump, as soon as the pause since the last dump is over.
    again: Parts,
    paused_until: Instant,
    full_dump_at: Instant,
    /// Messages were lost and the view is not whole again yet.
    lost: bool,
    /// How many dumps in a row did not make it whole.
    spoilt: u32,
    /// Until the sockets were seen empty, messages may be older than the view:
    /// whatever could have a silent effect is looked at again.
    cautious: bool,
    /// Prefixes that the last dump lacked although no message said that they went, and how often that was so.
    doubted: Option<(BTreeSet<(u32, IpNet)>, u32)>,
    pending: Changes,
    verified_at: Timestamp,
    gaps: Vec<Gap>,
    counters: Counters,
}

impl Watcher {
    /// Subscribes, then dumps. Sockets and the dumping thread belong to the
    /// namespace of the thread that polls this first.
    pub async fn start(options: Options) -> Result<Self, ObserveError> {
        let routes = Mailbox::new(ROUTE_GROUPS, options.receive_buffer)?;
        let neighbours = Mailbox::new(NEIGHBOUR_GROUPS, options.receive_buffer)?;
        let mut worker = Worker::start(Dumper::new(options.receive_buffer)?)?;
        worker.ask(Parts::ALL)?;
        let dumped = worker.answer().await?;
        let interrupted = dumped.interrupted;
        let took = dumped.took;
        let (look, netconf, states) = dumped.first()?;
        let now = Instant::now();
        Ok(Self {
            paused_until: now + options.redump_pause.max(took),
            full_dump_at: now + options.full_dump_every,
            options,
            routes,
            neighbours,
            worker,
            state: State {
                gateways: None,
                kernel: look.kernel,
                netconf,
                states,
            },
            flight: None,
            again: interrupted,
            lost: false,
            spoilt: 0,
            cautious: true,
            doubted: None,
            pending: Changes::none(look.at),
            verified_at: look.at,
            gaps: look.gaps,
            counters: look.counters,
        })
    }

    /// The view.
    pub fn kernel(&self) -> &Kernel {
        &self.state.kernel
    }

    /// When the last dump of everything began that the view is whole by.
    pub fn verified_at(&self) -> Timestamp {
        self.verified_at
    }

    /// What could not be observed.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Dumps everything anew, soon: someone doubts the view. [`Self::verified_at`]
    /// moves when that is done, whether anything changed or not.
    pub fn look_again(&mut self) {
        self.again.add(Parts::ALL);
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Waits for changes that may move a landing, and takes with them what is
    /// queued already. Cancel-safe. After an error the watcher is of no use;
    /// start another one.
    pub async fn changed(&mut self) -> Result<Changes, ObserveError> {
        loop {
            let more = self.drain()?;
            if let Some(dumped) = self.worker.ready()? {
                self.merge_after_drain(dumped)?;
            }
            self.ask_if_due()?;
            // While messages are missing, a route may seem to be: not a word until it is known.
            let whole = !self.lost || self.spoilt >= DOUBTS;
            if whole && !self.pending.is_empty() {
                let at = Timestamp::now();
                return Ok(std::mem::replace(&mut self.pending, Changes::none(at)));
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.due();
            let waiting = self.flight.is_some();
            tokio::select! {
                () = self.routes.wait() => {}
                () = self.neighbours.wait() => {}
                dumped = self.worker.answer(), if waiting => self.merge_after_drain(dumped?)?,
                () = async { match due { Some(due) => sleep_until(due).await, None => pending().await } } => {}
            }
        }
    }

    /// When the next dump is to be asked for.
    fn due(&self) -> Option<Instant> {
        match (&self.flight, self.again.is_empty()) {
            (Some(_), _) => None,
            (None, true) => Some(self.full_dump_at),
            (None, false) => Some(self.paused_until.min(self.full_dump_at)),
        }
    }

    fn ask_if_due(&mut self) -> Result<(), ObserveError> {
        let now = Instant::now();
        if self.due().is_none_or(|due| due > now) {
            return Ok(());
        }
        let mut parts = std::mem::take(&mut self.again);
        if now >= self.full_dump_at {
            parts = Parts::ALL;
            self.full_dump_at = now + self.options.full_dump_every;
        }
        self.worker.ask(parts)?;
        self.counters.redumps += 1;
        self.flight = Some(Flight {
            parts,
            replay: Vec::new(),
            lossy: false,
            fresh: self.lost && parts == Parts::ALL,
        });
        Ok(())
    }

    /// Reads what is queued, up to a batch of each socket. True when there may be more.
    fn drain(&mut self) -> Result<bool, ObserveError> {
        let mut more = false;
        let mut idle = true;
        for source in [Source::Routes, Source::Neighbours] {
            let mut left = BATCH;
            while self.take_next(source)? {
                idle = false;
                left -= 1;
                if left == 0 {
                    more = true;
                    break;
                }
            }
        }
        self.cautious &= !idle;
        Ok(more)
    }

    /// Takes the next datagram in, if there is one.
    fn take_next(&mut self, source: Source) -> Result<bool, ObserveError> {
        let mailbox = match source {
            Source::Routes => &mut self.routes,
            Source::Neighbours => &mut self.neighbours,
        };
        match mailbox.next()? {
            Post::Empty => return Ok(false),
            Post::Overrun => self.overrun(source),
            Post::Cut => self.undecodable(&Undecodable::new("netlink", "longer than the buffer")),
            Post::Datagram(datagram) => {
                let mut events = Vec::new();
                let refused = open(datagram, &mut events, &mut self.counters);
                for event in events {
                    self.happened(event);
                }
                if let Some(refused) = refused {
                    self.undecodable(&refused);
                }
            }
        }
        Ok(true)
    }

    fn happened(&mut self, event: Event) {
        self.counters.events += 1;
        if let Some(flight) = &mut self.flight
            && flight.parts.has(event.part())
        {
            if flight.replay.len() < REPLAY {
                flight.replay.push(event.clone());
            } else {
                flight.lossy = true;
            }
        }
        let part = event.part();
        let mut effects = self.state.apply(event);
        if self.cautious && matches!(part, Part::Links | Part::Nexthops) {
            effects.again.add(ROUTE_PARTS);
        }
        self.note(effects, None);
    }

    /// Remembers what an event or a dump did.
    fn note(&mut self, effects: Effects, seen_at: Option<Timestamp>) {
        self.again.add(effects.again);
        if effects.prefix.is_none() && !effects.wide && !effects.links {
            return;
        }
        if self.pending.is_empty() {
            self.pending.observed_at = seen_at.unwrap_or_else(Timestamp::now);
        }
        self.pending.prefixes.extend(effects.prefix);
        self.pending.wide |= effects.wide;
        self.pending.links |= effects.links;
    }

    fn overrun(&mut self, source: Source) {
        self.counters.overruns += 1;
        tracing::warn!(?source, "the kernel dropped netlink messages: dumping everything again");
        self.lost = true;
        self.again.add(Parts::ALL);
        if let Some(flight) = &mut self.flight {
            let parts = match source {
                Source::Routes => ROUTE_PARTS,
                Source::Neighbours => NEIGHBOUR_PARTS,
            };
            flight.lossy |= flight.parts.overlaps(parts);
        }
    }

    /// A message that could not be read: what it said is in a dump.
    fn undecodable(&mut self, refused: &Undecodable) {
        self.counters.undecodable_messages += 1;
        tracing::warn!(%refused, "a netlink message could not be read: dumping everything again");
        self.again.add(Parts::ALL);
        if let Some(flight) = &mut self.flight {
            flight.lossy = true;
        }
    }

    /// Takes a dump in. What was queued before it ended belongs to its replay.
    fn merge_after_drain(&mut self, dumped: Box<Dumped>) -> Result<(), ObserveError> {
        for _ in 0..REPLAY / BATCH {
            if !self.drain()? {
                break;
            }
        }
        self.merge(*dumped);
        Ok(())
    }

    /// Takes a dump in: over it, what happened since it was asked for.
    fn merge(&mut self, mut dumped: Dumped) {
        let Some(flight) = self.flight.take() else { return };
        self.paused_until = Instant::now() + self.options.redump_pause.max(dumped.took);
        self.counters.add(dumped.counters);
        if flight.lossy && self.spoilt < DOUBTS {
            // What is known, with the events that did arrive, is no worse than this dump without them.
            self.spoilt += 1;
            self.again.add(flight.parts);
            return;
        }
        self.note_gaps(&dumped);
        dumped.forget_interrupted();
        self.again.add(dumped.interrupted);
        let (began, ended) = (dumped.began, dumped.ended);
        let whole = flight.parts == Parts::ALL && dumped.is_whole() && !flight.lossy;
        let quiet = !flight.replay.iter().any(|event| event.part() == Part::Routes);

        let before = self.state.take(dumped, flight.fresh);
        let mut again = Parts::NONE;
        for event in flight.replay {
            // Triggers were pulled when the event was first met; a route may be uncertain over this dump only.
            again.add(self.state.replay(event));
        }
        let effects = Effects {
            again,
            ..self.state.compare(&before)
        };
        self.note(effects, Some(ended));
        let differences = before
            .routes
            .as_ref()
            .map(|routes| routes.differences(&self.state.kernel.routes))
            .unwrap_or_default();
        let accepted = self.accept(before.routes, &differences, quiet);
        if accepted {
            for (_, prefix) in differences {
                let effects = Effects {
                    prefix: Some(prefix),
                    ..Effects::default()
                };
                self.note(effects, Some(ended));
            }
        }
        if whole && accepted {
            self.verified_at = began;
            self.spoilt = 0;
            if flight.fresh {
                self.lost = false;
                self.cautious = true;
            }
        }
        if self.lost {
            self.spoilt += u32::from(flight.fresh);
            self.again.add(Parts::ALL);
        }
    }

    /// Whether to believe the new tables. A route that the dump lacks although
    /// no message told its end may have been skipped: the kernel does not say
    /// when IPv4 or IPv6 routes changed under a dump. It is believed when no
    /// route changed meanwhile, or when the next dump lacks it too. Otherwise
    /// the known tables stay, and a dump is asked for.
    fn accept(&mut self, known: Option<Tables>, differences: &BTreeSet<(u32, IpNet)>, quiet: bool) -> bool {
        let Some(known) = known else { return true };
        let now = &self.state.kernel.routes;
        let missing: BTreeSet<(u32, IpNet)> = differences
            .iter()
            .filter(|(table, prefix)| known.at(*table, prefix).len() > now.at(*table, prefix).len())
            .copied()
            .collect();
        let (doubted, times) = self.doubted.take().unwrap_or_default();
        if missing.is_subset(&doubted) || quiet || times >= DOUBTS {
            return true;
        }
        self.doubted = Some((missing, times + 1));
        self.state.kernel.routes = known;
        self.again.add(Parts::of(&[Part::Routes]));
        false
    }

    /// The gaps of the parts that were dumped are those of this dump.
    fn note_gaps(&mut self, dumped: &Dumped) {
        let before = self.gaps.clone();
        self.gaps.retain(|gap| !dumped.parts.has(gap.part));
        let behind = (self.spoilt >= DOUBTS && dumped.parts.has(Part::Routes)).then(|| Gap {
            part: Part::Routes,
            reason: "the kernel sends messages faster than they are read".to_owned(),
            since: dumped.began,
        });
        for new in dumped.gaps.iter().chain(&behind) {
            let known = before
                .iter()
                .find(|gap| (gap.part, &gap.reason) == (new.part, &new.reason));
            self.gaps.push(known.unwrap_or(new).clone());
        }
        if self.gaps != before {
            // Whoever rests on these parts must say so, or no longer.
            let effects = Effects {
                wide: true,
                links: true,
                ..Effects::default()
            };
            self.note(effects, Some(dumped.ended));
        }
    }
}

/// Opens a datagram. What is readable in it counts, whatever else is.
fn open(datagram: &[u8], events: &mut Vec<Event>, counters: &mut Counters) -> Option<Undecodable> {
    let mut tally = Tally::default();
    let mut refused = None;
    for frame in frames(datagram) {
        match frame.and_then(|frame| read(&frame, &mut tally)) {
            Ok(Read::Event(event)) => events.push(event),
            Ok(Read::Nothing) => {}
            Ok(Read::Unknown) => counters.unknown_messages += 1,
            Err(undecodable) => refused = Some(undecodable),
        }
    }
    counters.add_tally(tally);
    refused
}
