//! Where the CAs are kept and published.

use std::future::Future;

use super::record::Record;

/// What is given to everybody who should trust this aggregator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// All CAs to be believed, PEM.
    pub bundle: String,
    /// One ADDRESS:PORT a line: where agents reach it. `None`: this aggregator has none to tell.
    pub addresses: Option<String>,
}

impl Publication {
    /// True where `self` says all that `wanted` does.
    pub fn covers(&self, wanted: &Self) -> bool {
        self.bundle == wanted.bundle && (wanted.addresses.is_none() || self.addresses == wanted.addresses)
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The CAs; `None`: nothing is kept yet.
    pub record: Option<Record>,
    /// Its version: who saves must have seen the newest.
    pub version: Option<String>,
    /// What is published.
    pub published: Option<Publication>,
    /// Somebody asks for another CA.
    pub asked: bool,
}

/// Why it could not be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another aggregator was faster: read again.
    #[error("somebody else has changed {0} meanwhile")]
    Conflict(String),
    /// For people: what failed, and which right or object is missing.
    #[error("{0}")]
    Failed(String),
}

/// A place for CAs.
pub trait Store: Send + Sync + 'static {
    /// Its name, for people.
    fn place(&self) -> String;

    /// Reads it all.
    fn load(&self) -> impl Future<Output = Result<Loaded, StoreError>> + Send;

    /// Keeps `record` in place of what was `loaded`, whose wish for another CA is answered by that; fails with
    /// [`StoreError::Conflict`] where that is not the newest.
    fn save(&self, record: &Record, loaded: &Loaded) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Publishes.
    fn publish(&self, publication: &Publication) -> impl Future<Output = Result<(), StoreError>> + Send;
}
