//! Counting.

use super::decode::Tally;

/// What was seen since the start, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that the kernel sent on its own.
    pub events: u64,
    /// Dumps that were made after the first one, for whatever reason.
    pub redumps: u64,
    /// Times that the kernel dropped messages because nobody read them (`ENOBUFS`).
    pub overruns: u64,
    /// Dumps that the kernel marked as interrupted; each was repeated.
    pub interrupted_dumps: u64,
    /// Messages of types that this build does not know.
    pub unknown_messages: u64,
    /// Messages that were cut short or could not be read; each caused a re-dump.
    pub undecodable_messages: u64,
    /// Attributes that this build does not know, or does not need and could not read.
    pub unknown_attributes: u64,
    /// Link messages of a kind that this build has no name for.
    pub unknown_link_kinds: u64,
}

impl Counters {
    pub(super) fn add_tally(&mut self, tally: Tally) {
        self.unknown_attributes += tally.unknown_attributes + tally.bad_attributes;
        self.unknown_link_kinds += tally.unknown_link_kinds;
    }

    pub(super) fn add(&mut self, more: Self) {
        self.events += more.events;
        self.redumps += more.redumps;
        self.overruns += more.overruns;
        self.interrupted_dumps += more.interrupted_dumps;
        self.unknown_messages += more.unknown_messages;
        self.undecodable_messages += more.undecodable_messages;
        self.unknown_attributes += more.unknown_attributes;
        self.unknown_link_kinds += more.unknown_link_kinds;
    }
}

impl Tally {
    pub(super) fn add(&mut self, more: Self) {
        self.unknown_attributes += more.unknown_attributes;
        self.bad_attributes += more.bad_attributes;
        self.unknown_link_kinds += more.unknown_link_kinds;
    }
}
