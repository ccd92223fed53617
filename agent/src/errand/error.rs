//! Why an errand was not done.

use std::io;

use crate::observe::cri::connection::CriError;

/// Why an errand was not done. Its text is for whoever must act: one line.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What could not be done, with the path.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel said no, over netlink.
    #[error("{what}: {source}")]
    Kernel {
        /// What could not be done.
        what: String,
        /// Its answer.
        source: rtnetlink::Error,
    },
    /// The container runtime said no, or nothing.
    #[error("{what}: {source}")]
    Runtime {
        /// What could not be done.
        what: String,
        /// Its answer.
        source: CriError,
    },
    /// It would have done more than it was sent for.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("{0}")]
    TimedOut(String),
}

impl Error {
    /// For `map_err`.
    pub(super) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io {
            what,
            source: source.into(),
        }
    }

    /// For `map_err`.
    pub(super) fn kernel(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }
}
