//! A whole view, cut into chunks.

use std::vec;

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::Claim;
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::v1;
use prost::Message;

use super::outbox::{Limits, claims_to_wire};

/// Everything that this host has to say.
#[derive(Debug, Clone)]
pub struct Whole {
    /// All entries.
    pub entries: Vec<ForwardingEntry>,
    /// All facts.
    pub facts: HostFacts,
    /// All claims.
    pub claims: Vec<Claim>,
    /// Revision of the expectation that it was made for; 0: none was had.
    pub expectation: u64,
}

/// Cuts one frozen view into chunks, one at a time: only one is ever encoded.
#[derive(Debug)]
pub(super) struct Cutter {
    limits: Limits,
    sequence: u64,
    expectation: u64,
    index: u32,
    facts: Option<v1::HostFacts>,
    claims: Vec<v1::Claim>,
    entries: vec::IntoIter<ForwardingEntry>,
    /// The entry that the chunk before had no room for.
    carried: Option<v1::ForwardingEntry>,
}

impl Cutter {
    pub(super) fn new(sequence: u64, whole: Whole, limits: Limits) -> Self {
        Self {
            limits,
            sequence,
            expectation: whole.expectation,
            index: 0,
            facts: Some((&whole.facts).into()),
            claims: claims_to_wire(&whole.claims),
            entries: whole.entries.into_iter(),
            carried: None,
        }
    }

    /// The next chunk; not to be called after the last.
    pub(super) fn cut(&mut self) -> v1::SnapshotChunk {
        /// Tag and length of an embedded entry: 1 + at most 3 bytes below 2 MiB.
        const FRAME: usize = 4;
        let mut chunk = v1::SnapshotChunk {
            sequence: self.sequence,
            index: self.index,
            last: false,
            entries: Vec::new(),
            facts: self.facts.take(),
            claims: std::mem::take(&mut self.claims),
            expectation: if self.index == 0 { self.expectation } else { 0 },
        };
        let mut bytes = chunk.encoded_len();
        loop {
            let Some(entry) = self
                .carried
                .take()
                .or_else(|| self.entries.next().map(|entry| (&entry).into()))
            else {
                chunk.last = true;
                break;
            };
            let size = entry.encoded_len() + FRAME;
            // A chunk after the first always takes one, so that the end is reached.
            let fits = bytes + size <= self.limits.message && chunk.entries.len() < self.limits.entries;
            let must = chunk.entries.is_empty() && self.index > 0;
            if !fits && !must {
                self.carried = Some(entry);
                break;
            }
            bytes += size;
            chunk.entries.push(entry);
        }
        self.index += 1;
        chunk
    }
}
