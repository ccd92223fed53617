//! Tells the aggregator what this host sees: numbers every change, keeps it
//! until it is acknowledged, sends a snapshot where that is shorter or needed.
//!
//! [`Outbox`] is the bookkeeping, without I/O; [`stream`] keeps a stream up,
//! [`way`] is where to and by which files.
//! The task that owns the view owns the outbox too, so that a snapshot and its
//! sequence number always belong together.

pub mod address;
pub mod expectation;
pub mod outbox;
pub mod snapshot;
pub mod stream;
pub mod token;
pub mod way;

pub use expectation::Expectation;
pub use outbox::{Limits, Outbox, Update};
pub use snapshot::Whole;
