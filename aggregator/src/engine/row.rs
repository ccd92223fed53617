//! One source node's verdicts, kept as one mark a pod CIDR, with words only where it is broken.

use std::collections::BTreeMap;

use cidrift_proto::finding::Trigger;
use cidrift_proto::verdict::Standing;
use ipnet::IpNet;
use jiff::Timestamp;

use super::marks::Marks;
use crate::cluster::around::Around;
use crate::cluster::{HostState, NodeRecord};
use crate::correlate::Scene;
use crate::correlate::book::{Book, Move};
use crate::correlate::habit::{self, Habit, Seen};
use crate::correlate::routes::Broken;
use crate::correlate::verdict::{self, Source};
use crate::summary::Tally;

/// What made the engine judge anew.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// The source's agent told something, seen at that time on the host.
    Host(Option<Timestamp>),
    /// The control plane, another host, or the clock.
    Else,
}

/// One source.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// What may be expected of it.
    pub(super) habit: Habit,
    /// What its routes showed so far.
    pub(super) seen: Seen,
    /// One mark a slot of the book; none while it is blind.
    pub(super) marks: Marks,
    /// The broken pairs, by CIDR (a contested one is never broken, so it names the slot).
    pub(super) broken: BTreeMap<IpNet, Broken>,
    /// Prefixes of its entries that no pod CIDR overlaps.
    pub(super) strays: std::collections::BTreeSet<IpNet>,
    /// Why its view could not be judged.
    pub(super) blind: Option<String>,
    /// When its claims must be looked at again though nothing changes.
    pub(super) wake: Option<Timestamp>,
}

impl Row {
    /// This row as a source, if there is a view to judge.
    pub(super) fn source<'a>(&'a self, scene: &Scene<'a>, node: &'a NodeRecord) -> Result<Source<'a>, String> {
        let host = verdict::visible(scene, node)?;
        Ok(Source {
            node,
            host,
            habit: &self.habit,
            seen: &self.seen,
        })
    }

    /// Makes the marks follow a new book: `from[i]` is where slot `i` was before.
    pub(super) fn follow(&mut self, scene: &Scene<'_>, from: &[Option<usize>]) {
        self.broken.retain(|cidr, _| scene.book.by_net.get(*cidr).is_some());
        if self.blind.is_none() {
            self.marks = self.marks.from(from);
        }
    }

    /// Makes the marks follow the steps of one change of the book, in which `gone` lost an owner.
    pub(super) fn step(&mut self, book: &Book, moves: &[Move], gone: &[IpNet]) {
        for cidr in gone.iter().filter(|cidr| book.by_net.get(**cidr).is_none()) {
            self.broken.remove(cidr);
            self.seen.cidrs.remove(cidr);
        }
        if self.blind.is_none() {
            self.marks.step(moves);
        }
    }

    /// Reads the whole view for what it shows besides verdicts.
    pub(super) fn read_all(&mut self, scene: &Scene<'_>, host: &HostState) {
        self.strays.clear();
        for entry in host.forwarding.iter() {
            self.read(scene, host, entry.prefix);
        }
        self.seen.prune(scene);
    }

    /// Reads one entry of the view, that may be gone.
    pub(super) fn read(&mut self, scene: &Scene<'_>, host: &HostState, prefix: IpNet) {
        let entry = host
            .forwarding
            .inside(prefix)
            .next()
            .filter(|entry| entry.prefix == prefix);
        match entry {
            Some(entry) => {
                self.seen.observe(scene, &host.node, entry);
                if scene.book.overlapping(prefix).next().is_none() {
                    self.strays.insert(prefix);
                } else {
                    self.strays.remove(&prefix);
                }
            }
            None => {
                self.strays.remove(&prefix);
            }
        }
    }

    /// Recomputes what may be expected; true if that changed.
    pub(super) fn expect(
        &mut self,
        node: &NodeRecord,
        host: Option<&HostState>,
        majorities: &std::collections::BTreeSet<String>,
        around: &Around,
    ) -> bool {
        let habit = habit::of(node, host, &self.seen, majorities, around);
        let changed = habit != self.habit;
        self.habit = habit;
        changed
    }

    /// Judges these slots anew; true if anything of it changed.
    pub(super) fn judge(
        &mut self,
        scene: &Scene<'_>,
        node: &NodeRecord,
        slots: impl Iterator<Item = usize>,
        why: Why,
        since: &dyn Fn(IpNet) -> u64,
    ) -> bool {
        let host = match verdict::visible(scene, node) {
            Ok(host) => host,
            Err(reason) => {
                let changed = self.blind.as_ref() != Some(&reason) || !self.broken.is_empty();
                self.blind = Some(reason);
                self.broken.clear();
                self.marks.clear();
                return changed;
            }
        };
        self.marks.resize(scene.book.slots.len());
        let mut changed = self.blind.take().is_some();
        for at in slots {
            let slot = &scene.book.slots[at];
            let source = Source {
                node,
                host,
                habit: &self.habit,
                seen: &self.seen,
            };
            let judged = verdict::judge(scene, source, slot, since(slot.cidr));
            let mut verdict = judged.verdict;
            let mut fault = judged.fault;
            if let Some(looped) = verdict::looped(scene, node, slot, &verdict) {
                verdict = looped;
                fault = fault.map(|_| cidrift_proto::catalogue::Code::Path05);
            }
            let standing = verdict.standing();
            let before = self.marks.set(at, standing);
            changed |= before != standing;
            let Some(code) = fault else {
                changed |= self.broken.remove(&slot.cidr).is_some();
                continue;
            };
            match self.broken.get_mut(&slot.cidr) {
                Some(pair) if pair.code == code && pair.owner == slot.owner => {
                    changed |= pair.verdict != verdict;
                    if pair.verdict != verdict
                        && let Why::Host(seen) = why
                    {
                        pair.changed_at = seen.or(Some(scene.now));
                    }
                    pair.verdict = verdict;
                }
                before_pair => {
                    changed = true;
                    // Wrong in another way than before: that did not begin now.
                    let begun = before_pair
                        .filter(|pair| pair.owner == slot.owner)
                        .map(|pair| (pair.since, pair.trigger));
                    // What was right and is wrong now because its own host says so, the host changed.
                    // What was not known before may still be on its way.
                    let host_did = matches!(why, Why::Host(_)) && before != Standing::Unknown;
                    let trigger = if host_did { Trigger::Host } else { Trigger::ControlPlane };
                    let (since, trigger) = begun.unwrap_or((scene.now, trigger));
                    let pair = Broken {
                        owner: slot.owner.clone(),
                        code,
                        verdict,
                        since,
                        trigger,
                        changed_at: match why {
                            Why::Host(seen) => seen.or(Some(scene.now)),
                            Why::Else => Some(scene.now),
                        },
                    };
                    self.broken.insert(slot.cidr, pair);
                }
            }
        }
        changed
    }

    /// How many pairs there are of each standing, of a book with this many slots.
    pub(super) fn tally(&self, slots: usize) -> Tally {
        match self.blind {
            Some(_) => blind(slots),
            None => self.marks.tally(),
        }
    }
}

/// Pairs of a source that cannot be judged: all unknown.
pub(super) fn blind(slots: usize) -> Tally {
    Tally {
        unknown: slots as u64,
        ..Tally::default()
    }
}
