//! One report stream as a state machine: messages in, events and answers out.

use cidrift_proto::time::from_wire;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind;

use super::Limits;
use super::assembly::Assembly;
use super::parse::{self, Refused};
use crate::cluster::HostEvent;

/// Heartbeats that a snapshot may be overdue before it is asked for again: the
/// first may have been under way when the question was asked.
const OVERDUE: u32 = 2;

/// A stream after its Hello.
#[derive(Debug)]
pub struct Session {
    node: String,
    limits: Limits,
    /// Last sequence number applied.
    applied: u64,
    phase: Phase,
    refusals: u32,
    /// Entries that the host may have at most: those of the last snapshot and
    /// every upsert since. Exact counting would need a copy of the view.
    entries: usize,
    /// A snapshot was asked for only to count the entries again.
    recount: bool,
}

#[derive(Debug)]
enum Phase {
    /// A snapshot was asked for; deltas mean nothing until it is in.
    Awaiting { heartbeats: u32 },
    /// Some of it is in.
    Assembling(Box<Assembly>),
    /// The view is whole.
    Synced,
}

/// What is to be done after a message.
#[derive(Debug)]
pub struct Step {
    /// To be applied.
    pub event: Option<HostEvent>,
    /// To be answered.
    pub answer: Answer,
    /// What became of the message.
    pub outcome: Outcome,
}

/// What became of a message; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Taken.
    Applied,
    /// A part of a snapshot, kept until it is whole.
    Held,
    /// Applied already.
    Duplicate,
    /// Without meaning until the snapshot that was asked for is in.
    Ignored,
    /// Something before it is missing.
    Gap,
    /// Malformed, or more than allowed.
    Refused,
}

impl Outcome {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Held => "held",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Gap => "gap",
            Self::Refused => "refused",
        }
    }
}

/// What the agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    None,
    /// Everything up to this number was applied.
    Ack(u64),
    /// Send a snapshot, for this reason.
    Resync(String),
    /// INVALID_ARGUMENT with this text, and no more.
    Close(String),
}

impl Step {
    fn new(outcome: Outcome, event: Option<HostEvent>, answer: Answer) -> Self {
        Self { event, answer, outcome }
    }
}

impl Session {
    /// For an agent whose instance has been applied up to `applied`; 0: it
    /// will send a snapshot first.
    pub fn new(node: &str, applied: u64, limits: Limits) -> Self {
        Self {
            node: node.to_owned(),
            limits,
            applied,
            phase: if applied == 0 {
                Phase::Awaiting { heartbeats: 0 }
            } else {
                Phase::Synced
            },
            refusals: 0,
            entries: 0,
            recount: false,
        }
    }

    /// The last sequence number applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Takes the next message.
    pub fn message(&mut self, message: &v1::AgentMessage) -> Step {
        match &message.kind {
            Some(Kind::Delta(delta)) => self.delta(delta),
            Some(Kind::Snapshot(chunk)) => self.chunk(chunk),
            Some(Kind::Heartbeat(heartbeat)) => self.heartbeat(heartbeat),
            Some(Kind::Hello(_)) => self.close("a second Hello on one stream".into()),
            // A kind that a newer agent of the same protocol added: it may be left out.
            None => Step::new(Outcome::Ignored, None, Answer::None),
        }
    }

    fn delta(&mut self, delta: &v1::Delta) -> Step {
        match self.phase {
            Phase::Awaiting { .. } => return Step::new(Outcome::Ignored, None, Answer::None),
            Phase::Assembling(_) => {
                return self.gap(format!("delta {} came in the middle of a snapshot", delta.sequence));
            }
            Phase::Synced => {}
        }
        if delta.sequence != 0 && delta.sequence <= self.applied {
            return Step::new(Outcome::Duplicate, None, Answer::Ack(self.applied));
        }
        let event = match parse::delta(&self.node, self.limits.max_claims, delta) {
            Ok(event) => event,
            Err(refused) => return self.refuse(&format!("delta {}", delta.sequence), &refused),
        };
        if self.applied.checked_add(1) != Some(delta.sequence) {
            return self.gap(format!(
                "delta {} came, {} was the last applied",
                delta.sequence, self.applied
            ));
        }
        self.applied = delta.sequence;
        self.entries = self.entries.saturating_add(delta.upserts.len());
        let answer = match self.recount() {
            Some(Answer::Close(text)) => return self.close(text),
            Some(answer) => answer,
            None => Answer::Ack(self.applied),
        };
        Step::new(Outcome::Applied, Some(event), answer)
    }

    /// A snapshot is asked for when so many upserts have come that the host
    /// may have too many entries; twice that without one is too much.
    fn recount(&mut self) -> Option<Answer> {
        let max = self.limits.max_entries;
        if self.entries > max.saturating_mul(2) {
            return Some(Answer::Close(format!(
                "more than {max} entries set since a snapshot was asked for"
            )));
        }
        if self.entries <= max || self.recount {
            return None;
        }
        self.recount = true;
        Some(Answer::Resync(format!(
            "{} entries set since the last snapshot: how many are there?",
            self.entries
        )))
    }

    fn chunk(&mut self, chunk: &v1::SnapshotChunk) -> Step {
        let taken = if chunk.index == 0 {
            Assembly::begin(&self.node, &self.limits, chunk).map(Box::new)
        } else {
            match std::mem::replace(&mut self.phase, Phase::Awaiting { heartbeats: 0 }) {
                Phase::Assembling(mut assembly) if assembly.follows(chunk) => {
                    assembly.add(&self.limits, chunk).map(|()| assembly)
                }
                Phase::Awaiting { heartbeats } => {
                    // The rest of a snapshot that was given up.
                    self.phase = Phase::Awaiting { heartbeats };
                    return Step::new(Outcome::Ignored, None, Answer::None);
                }
                Phase::Assembling(_) | Phase::Synced => {
                    return self.gap(format!("snapshot chunk {} came out of order", chunk.index));
                }
            }
        };
        let assembly = match taken {
            Ok(assembly) => assembly,
            Err(refused) => return self.refuse(&format!("snapshot chunk {}", chunk.index), &refused),
        };
        if !chunk.last {
            self.phase = Phase::Assembling(assembly);
            return Step::new(Outcome::Held, None, Answer::None);
        }
        self.applied = assembly.sequence();
        self.entries = assembly.len();
        self.recount = false;
        self.phase = Phase::Synced;
        Step::new(Outcome::Applied, Some(assembly.finish()), Answer::Ack(self.applied))
    }

    fn heartbeat(&mut self, heartbeat: &v1::Heartbeat) -> Step {
        let alive = Some(HostEvent::Heartbeat {
            verified_at: heartbeat.verified_at.and_then(from_wire),
        });
        match &mut self.phase {
            Phase::Synced if heartbeat.sequence == self.applied => {
                Step::new(Outcome::Applied, alive, Answer::Ack(self.applied))
            }
            Phase::Synced => self.gap(format!(
                "the agent has sent up to {}, {} was the last applied",
                heartbeat.sequence, self.applied
            )),
            // Its last part was lost: the agent says nothing else before it has sent that.
            Phase::Assembling(_) => self.gap("a heartbeat came in the middle of a snapshot".into()),
            Phase::Awaiting { heartbeats } => {
                *heartbeats += 1;
                let answer = if *heartbeats >= OVERDUE {
                    *heartbeats = 0;
                    Answer::Resync("the snapshot is overdue".into())
                } else {
                    Answer::None
                };
                Step::new(Outcome::Applied, alive, answer)
            }
        }
    }

    fn gap(&mut self, reason: String) -> Step {
        self.phase = Phase::Awaiting { heartbeats: 0 };
        let lost = HostEvent::Lost { reason: reason.clone() };
        Step::new(Outcome::Gap, Some(lost), Answer::Resync(reason))
    }

    fn refuse(&mut self, what: &str, refused: &Refused) -> Step {
        let reason = format!("{what} refused: {refused}");
        self.refusals += 1;
        if self.refusals > self.limits.max_refusals {
            return self.close(reason);
        }
        Step {
            outcome: Outcome::Refused,
            ..self.gap(reason)
        }
    }

    fn close(&mut self, reason: String) -> Step {
        self.phase = Phase::Awaiting { heartbeats: 0 };
        let lost = HostEvent::Lost { reason: reason.clone() };
        Step::new(Outcome::Refused, Some(lost), Answer::Close(reason))
    }
}

#[cfg(test)]
mod tests;
