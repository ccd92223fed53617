//! A snapshot in the making.

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::Claim;
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::v1;
use prost::Message;

use super::Limits;
use super::parse::{self, Refused};
use crate::cluster::HostEvent;

/// Chunks of one snapshot, so far in order.
#[derive(Debug)]
pub(super) struct Assembly {
    sequence: u64,
    expectation: u64,
    next: u32,
    bytes: usize,
    entries: Vec<ForwardingEntry>,
    facts: HostFacts,
    claims: Vec<Claim>,
}

impl Assembly {
    /// From chunk 0.
    pub(super) fn begin(node: &str, limits: &Limits, chunk: &v1::SnapshotChunk) -> Result<Self, Refused> {
        let facts = chunk.facts.as_ref().ok_or(Refused::NoFacts)?;
        let mut assembly = Self {
            sequence: chunk.sequence,
            expectation: chunk.expectation,
            next: 0,
            bytes: 0,
            entries: Vec::new(),
            facts: facts.try_into()?,
            claims: parse::claims(node, limits.max_claims, &chunk.claims)?,
        };
        assembly.add(limits, chunk)?;
        Ok(assembly)
    }

    /// Whether this chunk is the one that is due.
    pub(super) fn follows(&self, chunk: &v1::SnapshotChunk) -> bool {
        chunk.index == self.next && chunk.sequence == self.sequence
    }

    /// Takes the chunk that is due.
    pub(super) fn add(&mut self, limits: &Limits, chunk: &v1::SnapshotChunk) -> Result<(), Refused> {
        self.bytes += chunk.encoded_len();
        let too_large = |max, unit| Err(Refused::TooLarge { max, unit });
        if self.next >= limits.max_snapshot_chunks {
            return too_large(limits.max_snapshot_chunks as usize, "chunks");
        }
        if self.bytes > limits.max_snapshot_bytes {
            return too_large(limits.max_snapshot_bytes, "bytes");
        }
        if self.entries.len() + chunk.entries.len() > limits.max_entries {
            return too_large(limits.max_entries, "entries");
        }
        self.entries.extend(parse::entries(&chunk.entries)?);
        self.next += 1;
        Ok(())
    }

    /// The number of the last delta that it contains.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Entries so far.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The whole view.
    pub(super) fn finish(self) -> HostEvent {
        HostEvent::Snapshot {
            sequence: self.sequence,
            expectation: self.expectation,
            entries: self.entries,
            facts: self.facts,
            claims: self.claims,
        }
    }
}
