//! What has been told, and what is still to be told.

use std::collections::{HashSet, VecDeque};

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::{Claim, ROWS};
use cidrift_proto::landing::ForwardingEntry;
use cidrift_proto::prefix::prefix_to_wire;
use cidrift_proto::time::to_wire;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind;
use ipnet::IpNet;
use jiff::Timestamp;
use prost::Message;

use super::snapshot::{Cutter, Whole};

/// The outbox's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Unacknowledged deltas kept.
    pub deltas: usize,
    /// Their size, encoded bytes.
    pub bytes: usize,
    /// A message's size, encoded bytes: a quarter of what the aggregator takes.
    pub message: usize,
    /// Entries in a snapshot chunk.
    pub entries: usize,
    /// Deltas under way. Beyond that changes wait here, where they join, rather
    /// than in the connection's buffers, where they only grow old.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deltas: 1024,
            bytes: 512 * 1024,
            message: 256 * 1024,
            entries: 500,
            in_flight: 32,
        }
    }
}

/// A change of the view, not yet numbered. Made and applied as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Entries that are new or changed.
    pub upserts: Vec<ForwardingEntry>,
    /// Prefixes whose entries are gone; none of them is in `upserts`.
    pub removed: Vec<IpNet>,
    /// All facts, if any changed.
    pub facts: Option<HostFacts>,
    /// All claims, if any changed.
    pub claims: Option<Vec<Claim>>,
    /// Revision of the expectation that the view is made for.
    pub expectation: u64,
    /// When the change was read from the kernel or a file.
    pub observed_at: Option<Timestamp>,
}

/// Numbers changes from 1 and hands out the next message to send. At least
/// once, in order; what cannot be kept is replaced by a snapshot.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    /// Number of the newest change.
    last: u64,
    /// The newest changes, without a gap, the newest at the back.
    kept: VecDeque<Kept>,
    /// Encoded size of `kept`.
    bytes: usize,
    /// The highest number ever handed to a stream; `None` before the first.
    sent: Option<u64>,
    link: Link,
}

#[derive(Debug)]
struct Kept {
    sequence: u64,
    bytes: usize,
    delta: v1::Delta,
}

/// Where the present stream stands.
#[derive(Debug)]
enum Link {
    Down,
    SnapshotDue,
    Snapshot(Box<Cutter>),
    /// The other side has, or will have, everything before `next`.
    Deltas {
        next: u64,
    },
}

impl Outbox {
    /// Empty, without a stream.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            last: 0,
            kept: VecDeque::new(),
            bytes: 0,
            sent: None,
            link: Link::Down,
        }
    }

    /// Takes a change and numbers it. One that meets an older one which has not
    /// been sent joins it under its number: to a slow aggregator only the newest
    /// state of each entry is told. The view that [`Self::next`] is given later
    /// must contain it.
    pub fn push(&mut self, update: Update) {
        let Some(update) = self.join(update) else { return };
        self.last += 1;
        if !self.can_resume() {
            self.forget();
            return;
        }
        let delta = to_delta(self.last, &update);
        let bytes = delta.encoded_len();
        // One that does not fit a message goes as a snapshot: both are applied
        // as a whole, half a change never is.
        if bytes > self.limits.message
            || self.kept.len() >= self.limits.deltas
            || self.bytes + bytes > self.limits.bytes
        {
            self.forget();
            if !matches!(self.link, Link::Down) {
                self.link = Link::SnapshotDue;
            }
            return;
        }
        self.bytes += bytes;
        self.kept.push_back(Kept {
            sequence: self.last,
            bytes,
            delta,
        });
    }

    /// Joins a change to the newest one, if that has not been sent and both are
    /// small. Gives it back otherwise.
    fn join(&mut self, update: Update) -> Option<Update> {
        /// Encoded bytes, some 40 entries: joining walks all of them for every
        /// change of a storm, and that must stay a matter of microseconds.
        const SMALL: usize = 4 * 1024;
        let sent = self.sent.unwrap_or(0);
        let room = self.limits.bytes - self.bytes.min(self.limits.bytes);
        let Some(newest) = self.kept.back_mut().filter(|kept| kept.sequence > sent) else {
            return Some(update);
        };
        // An upper bound: what the later change overwrites is not taken off yet.
        let delta = to_delta(newest.sequence, &update);
        let more = delta.encoded_len();
        if newest.bytes + more > SMALL.min(self.limits.message) || more > room {
            return Some(update);
        }
        join(&mut newest.delta, delta);
        let bytes = newest.delta.encoded_len();
        self.bytes = self.bytes - newest.bytes + bytes;
        newest.bytes = bytes;
        None
    }

    /// A stream is up and the aggregator has applied everything up to
    /// `applied` of this instance; 0: nothing.
    pub fn connected(&mut self, applied: u64) {
        let oldest = self.kept.front().map_or(self.last + 1, |kept| kept.sequence);
        self.link = if applied > 0 && applied <= self.last && applied + 1 >= oldest {
            self.sent = self.sent.max(Some(applied));
            Link::Deltas { next: applied + 1 }
        } else {
            Link::SnapshotDue
        };
        self.acked(applied);
    }

    /// The stream is gone. What was sent and not acknowledged may be lost.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
    }

    /// The aggregator has applied everything up to `sequence`.
    pub fn acked(&mut self, sequence: u64) {
        // Only what this stream has carried can have been applied.
        let Link::Deltas { next } = self.link else { return };
        let sequence = sequence.min(next - 1);
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.sequence <= sequence) {
            self.bytes -= kept.bytes;
        }
    }

    /// The aggregator asks for a snapshot.
    pub fn resync(&mut self) {
        if !matches!(self.link, Link::Down) {
            self.link = Link::SnapshotDue;
        }
    }

    /// Something is to be sent now.
    pub fn backlog(&self) -> bool {
        match self.link {
            Link::Down => false,
            Link::SnapshotDue | Link::Snapshot(_) => true,
            Link::Deltas { next } => next <= self.last && !self.full(next),
        }
    }

    /// As many deltas are under way as may be.
    fn full(&self, next: u64) -> bool {
        let oldest = self.kept.front().map_or(next, |kept| kept.sequence);
        next.saturating_sub(oldest) >= self.limits.in_flight as u64
    }

    /// The next message to send. `whole` is called when a snapshot begins and
    /// must contain every change pushed so far.
    pub fn next(&mut self, whole: impl FnOnce() -> Whole) -> Option<v1::AgentMessage> {
        if let Link::SnapshotDue = self.link {
            // The snapshot contains every change up to now.
            self.forget();
            self.link = Link::Snapshot(Box::new(Cutter::new(self.last, whole(), self.limits)));
        }
        if let Link::Deltas { next } = self.link
            && self.full(next)
        {
            return None;
        }
        let kind = match &mut self.link {
            Link::Down | Link::SnapshotDue => return None,
            Link::Snapshot(cutter) => {
                let chunk = cutter.cut();
                if chunk.last {
                    let sequence = chunk.sequence;
                    self.sent = self.sent.max(Some(sequence));
                    self.link = Link::Deltas { next: sequence + 1 };
                }
                Kind::Snapshot(chunk)
            }
            Link::Deltas { next } => {
                let oldest = self.kept.front()?.sequence;
                let position = usize::try_from(next.checked_sub(oldest)?).ok()?;
                let kept = self.kept.get(position)?;
                *next = kept.sequence + 1;
                self.sent = self.sent.max(Some(kept.sequence));
                Kind::Delta(kept.delta.clone())
            }
        };
        Some(v1::AgentMessage { kind: Some(kind) })
    }

    /// A sign of life that names the last change sent, so that a lost one, or a
    /// lost acknowledgement, is noticed on a quiet stream. `None` while there is
    /// other news to send, which is sign enough.
    pub fn heartbeat(&self, now: Timestamp, verified_at: Option<Timestamp>) -> Option<v1::AgentMessage> {
        let Link::Deltas { next } = self.link else { return None };
        if self.backlog() {
            return None;
        }
        Some(v1::AgentMessage {
            kind: Some(Kind::Heartbeat(v1::Heartbeat {
                sequence: next - 1,
                sent_at: Some(to_wire(now)),
                verified_at: verified_at.map(to_wire),
            })),
        })
    }

    /// The newest change's number.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Deltas kept, and their encoded size in bytes.
    pub fn kept(&self) -> (usize, usize) {
        (self.kept.len(), self.bytes)
    }

    /// Whether a delta numbered `last` could ever be sent as one: on a live
    /// stream that is past its snapshot's start, or after a reconnect that
    /// finds nothing missing in between.
    fn can_resume(&self) -> bool {
        match self.link {
            Link::SnapshotDue => false,
            Link::Snapshot(_) | Link::Deltas { .. } => true,
            Link::Down => self
                .sent
                .is_some_and(|sent| !self.kept.is_empty() || sent + 1 == self.last),
        }
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}

/// The later change over the earlier one; it is as old as the earlier.
fn join(earlier: &mut v1::Delta, later: v1::Delta) {
    let prefixes: HashSet<Option<&v1::Prefix>> = later
        .removed
        .iter()
        .map(Some)
        .chain(later.upserts.iter().map(|entry| entry.prefix.as_ref()))
        .collect();
    earlier
        .upserts
        .retain(|entry| !prefixes.contains(&entry.prefix.as_ref()));
    earlier.removed.retain(|prefix| !prefixes.contains(&Some(prefix)));
    earlier.upserts.extend(later.upserts);
    earlier.removed.extend(later.removed);
    earlier.facts = later.facts.or(earlier.facts.take());
    earlier.claims = later.claims.or(earlier.claims.take());
    earlier.expectation = later.expectation;
}

fn to_delta(sequence: u64, update: &Update) -> v1::Delta {
    v1::Delta {
        sequence,
        upserts: update.upserts.iter().map(Into::into).collect(),
        removed: update.removed.iter().copied().map(prefix_to_wire).collect(),
        facts: update.facts.as_ref().map(Into::into),
        claims: update.claims.as_deref().map(|claims| v1::ClaimSet {
            claims: claims_to_wire(claims),
        }),
        observed_at: update.observed_at.map(to_wire),
        expectation: update.expectation,
    }
}

/// Claims as the aggregator takes them: at most [`ROWS`] of them with as many
/// rows each, and few rows where many would not fit a message. The totals say
/// what was left out.
pub(super) fn claims_to_wire(claims: &[Claim]) -> Vec<v1::Claim> {
    /// Half of the default message bound: facts and entries need room too.
    const BYTES: usize = 128 * 1024;
    let cut = |rows: usize| -> Vec<v1::Claim> {
        claims
            .iter()
            .take(ROWS)
            .map(|claim| {
                let mut wire = v1::Claim::from(claim);
                wire.affected.truncate(rows);
                wire.evidence.truncate(rows);
                wire.unseen.truncate(rows);
                wire
            })
            .collect()
    };
    let full = cut(ROWS);
    if full.iter().map(Message::encoded_len).sum::<usize>() <= BYTES {
        return full;
    }
    cut(4)
}

#[cfg(test)]
mod tests;
