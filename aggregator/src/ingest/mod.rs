//! Takes the agents' reports: checks every message whole, keeps count of the
//! sequence numbers, and hands plain [`HostEvent`]s on, in order, each once.
//!
//! [`Session`] is one stream's state machine, without I/O; [`stream`] drives it.

pub mod assembly;
pub mod hello;
pub mod limits;
pub mod parse;
pub mod seats;
pub mod service;
pub mod session;
pub mod stream;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

pub use limits::Limits;
pub use service::Ingest;
pub use session::Session;

use crate::cluster::{Expectation, HostEvent, RefusedReport};
use crate::engine::Engine;

/// Where reports go: the [`Engine`], as far as `ingest` needs it.
pub trait Hosts: Send + Sync + 'static {
    /// Applies what an agent told.
    fn host_event(&self, node: &str, event: HostEvent, now: Timestamp);
    /// What the node's agent is to be told, now and whenever it changes.
    fn expectation(&self, node: &str) -> watch::Receiver<Arc<Expectation>>;
    /// The last sequence number applied of this instance; 0: none.
    fn applied(&self, node: &str, instance: &str) -> u64;
    /// An agent of this node reported under another name, and was not let in.
    fn report_refused(&self, node: &str, refused: RefusedReport, now: Timestamp);
    /// Somebody was turned away because nobody can find out now who it is.
    fn turned_away(&self, now: Timestamp);
}

impl Hosts for Engine {
    fn host_event(&self, node: &str, event: HostEvent, now: Timestamp) {
        Engine::host_event(self, node, event, now);
    }

    fn expectation(&self, node: &str) -> watch::Receiver<Arc<Expectation>> {
        Engine::expectation(self, node)
    }

    fn applied(&self, node: &str, instance: &str) -> u64 {
        Engine::applied(self, node, instance)
    }

    fn report_refused(&self, node: &str, refused: RefusedReport, now: Timestamp) {
        Engine::report_refused(self, node, refused, now);
    }

    fn turned_away(&self, now: Timestamp) {
        Engine::turned_away(self, now);
    }
}
