//! The kernel's networking state of one network namespace, over rtnetlink.
//!
//! Sockets are made by the thread that first polls [`dump`], [`Watcher::start`]
//! or [`Referee::new`]: it is its namespace that is observed from then on,
//! whichever threads do the work.

mod counters;
mod deciding;
mod decode;
mod dumped;
mod dumper;
mod error;
mod event;
mod fib;
mod frame;
mod mailbox;
mod netconf;
mod parts;
mod pipe;
mod referee;
mod request;
mod socket;
mod state;
mod watcher;
mod worker;

use std::time::Duration;

use jiff::Timestamp;

pub use counters::Counters;
pub use error::{Gap, ObserveError};
pub use parts::Part;
pub use referee::{Answer, Query, Referee};
pub use watcher::Watcher;

use crate::view::Kernel;

/// How to observe.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often everything is dumped again although no message asked for it.
    ///
    /// Default 60 s. Route dumps carry no proof of their own consistency and
    /// IPv4 has silent changes, so a periodic look bounds how long a surprise
    /// can last. 60 s is the slowest of the usual route loops (kube-router's),
    /// and a full dump of 5,000 routes takes a few ms, so it costs nothing.
    pub full_dump_every: Duration,
    /// The shortest pause between two re-dumps that messages asked for; the
    /// first one of a burst is immediate.
    ///
    /// Default 5 ms: a pod's start is some ten link and address messages within
    /// a few ms. A pause is never shorter than the last dump took, so that at
    /// most half of one core dumps.
    pub redump_pause: Duration,
    /// Receive buffer of the route and of the neighbour socket, bytes.
    ///
    /// Default 8 MiB, of kernel memory that is used only during bursts: about
    /// 10,000 queued messages (a small one takes 768 bytes of it), more than
    /// a CNI's restart sends on a host with 5,000 routes.
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            full_dump_every: Duration::from_secs(60),
            redump_pause: Duration::from_millis(5),
            receive_buffer: 8 * 1024 * 1024,
        }
    }
}

/// One look at a namespace.
#[derive(Debug, Clone)]
pub struct Look {
    /// What was seen.
    pub kernel: Kernel,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
    /// When the dump began.
    pub at: Timestamp,
    /// What was met on the way.
    pub counters: Counters,
}

/// Looks once.
pub async fn look(options: &Options) -> Result<Look, ObserveError> {
    let dumper = dumper::Dumper::new(options.receive_buffer)?;
    dumped::look(dumper).await
}

/// Looks once, and hands on only what was seen. See [`look`] for what was not.
pub async fn dump(options: &Options) -> Result<Kernel, ObserveError> {
    Ok(look(options).await?.kernel)
}
