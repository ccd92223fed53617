//! What can go wrong, and what could not be seen.

use std::io;

use jiff::Timestamp;

use super::Part;

/// The namespace cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A socket could not be made or used.
    #[error("netlink socket: cannot {doing}: {source}")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A part without which nothing can be said could not be dumped.
    #[error("the kernel's {part} could not be dumped: {reason}")]
    Dump {
        /// Which part.
        part: Part,
        /// Why not.
        reason: String,
    },
    /// The thread that dumps could not be started, or has ended.
    #[error("the dumping thread is gone: {0}")]
    Thread(String),
    /// The kernel's answer to a lookup made no sense.
    #[error("RTM_GETROUTE: {0}")]
    Answer(String),
}

impl ObserveError {
    pub(super) fn socket(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { doing, source }
    }
}

/// Something that could not be observed: whatever rests on it is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Of which part.
    pub part: Part,
    /// Why.
    pub reason: String,
    /// Since when, as far as this observer knows.
    pub since: Timestamp,
}
