//! The one place where the cluster's state lives: takes what ingest and the
//! control plane say, has it judged, and hands the result to whoever asks.
//!
//! Calls are synchronous and short; a slow caller slows its own stream only.

mod look;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use cidrift_proto::finding::Finding;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::cluster::{ControlPlane, Expectation, HostEvent, PoolConfig};

/// How patient the engine is.
#[derive(Debug, Clone)]
pub struct Config {
    /// A claim whose host changed last must last this long before it counts.
    pub hold: Duration,
    /// A claim whose control plane changed last must last this long: hosts need time to follow.
    pub settle: Duration,
    /// An agent not heard of for this long is silent.
    pub silence: Duration,
    /// What is known of the pool.
    pub pool: PoolConfig,
}

/// All state: cluster, verdicts and ledger.
#[derive(Debug)]
pub struct State {}

/// The engine; share it in an [`Arc`].
#[derive(Debug)]
pub struct Engine {
    state: RwLock<State>,
}

impl Engine {
    /// With nothing known.
    pub fn new(_config: Config) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(State {}),
        })
    }

    /// Applies what an agent told.
    pub fn host_event(&self, _node: &str, _event: HostEvent, _now: Timestamp) {}

    /// Replaces what the control plane says.
    pub fn control_plane(&self, _state: ControlPlane, _now: Timestamp) {}

    /// Lets time pass: pending findings open, silent agents are noticed. To be called several times a second.
    pub fn tick(&self, _now: Timestamp) {}

    /// What the agent of this node is to be told, now and whenever it changes.
    pub fn expectation(&self, _node: &str) -> watch::Receiver<Arc<Expectation>> {
        watch::channel(Arc::default()).1
    }

    /// The sequence number last applied for this instance of the node's agent; 0: it must send a snapshot.
    pub fn applied(&self, _node: &str, _instance: &str) -> u64 {
        0
    }

    /// Looks at the state. Keep it short: it holds the lock.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// The findings that stand now, and every change after.
    pub fn subscribe(&self) -> (Vec<Arc<Finding>>, broadcast::Receiver<Arc<Finding>>) {
        (Vec::new(), broadcast::channel(1).1)
    }
}
