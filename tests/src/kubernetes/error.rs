//! Why the bench cannot do what it was asked.

use std::io;
use std::time::Duration;

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine has not what it takes; the text says what to install.
    #[error("{0}")]
    Missing(String),
    /// Go, cc or another builder failed.
    #[error("{what} failed:\n{output}")]
    Build {
        /// The command.
        what: String,
        /// The end of what it said.
        output: String,
    },
    /// A file, a process, a mount.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A certificate.
    #[error("certificates: {0}")]
    Pki(#[from] rcgen::Error),
    /// The underlay.
    #[error(transparent)]
    Network(#[from] crate::ip::Error),
    /// The API server's answer.
    #[error("{what}: {source}")]
    Api {
        /// What was asked.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The client's own configuration.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] Box<kube::config::KubeconfigError>),
    /// A program ended by itself.
    #[error("{name} ended: {tail}")]
    Ended {
        /// Which.
        name: String,
        /// The end of its log.
        tail: String,
    },
    /// Something did not come about.
    #[error("{what}: not within {patience:?}; {last}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        patience: Duration,
        /// What was seen last.
        last: String,
    },
    /// A request that makes no sense.
    #[error("{0}")]
    Malformed(String),
}

/// With the bench's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was tried when an [`io::Error`] comes back.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Says what was asked when the API server refuses.
pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |source| Error::Api {
        what,
        source: Box::new(source),
    }
}
