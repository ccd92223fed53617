//! Where lines come from: the journal, or files that are followed.

mod child;
mod file;
mod journal;

use std::fmt;
use std::io;

use jiff::Timestamp;

pub(super) use self::file::FileSource;
pub(super) use self::journal::{JournalSource, Query};

/// Takes what a source reads.
pub(super) trait Sink {
    /// A line of one stream (lines of several streams may come in turn), and when it was written, where the source
    /// knows it.
    fn line(&mut self, stream: &str, at: Option<Timestamp>, line: &str);

    /// Lines were lost between what came before and what comes next.
    fn gap(&mut self);
}

/// Lines that grow.
pub(super) trait LogSource: fmt::Debug {
    /// Hands on what is new since the last time.
    fn read(&mut self, now: Timestamp, sink: &mut dyn Sink) -> Result<(), LogError>;
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A directory, FIFO, device …
    #[error("it is not a regular file")]
    NotAFile,
    /// journalctl is not installed.
    #[error("there is no journalctl")]
    NoJournalctl,
    /// journalctl ended with an error.
    #[error("journalctl: {0}")]
    Journalctl(String),
    /// It said nothing and did not end.
    #[error("journalctl did not answer within {0} s")]
    Hangs(u64),
}

impl LogError {
    /// There is no such thing; nothing is wrong with that.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::NotFound,
            Self::NoJournalctl => true,
            Self::NotAFile | Self::Journalctl(_) | Self::Hangs(_) => false,
        }
    }
}
