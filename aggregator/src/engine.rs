//! The one place where the cluster's state lives: takes what ingest and the
//! control plane say, has it judged, and hands the result to whoever asks.
//!
//! Calls are synchronous and short; a slow caller slows its own stream only.

mod apply;
pub mod churn;
mod claims;
mod classify;
mod expect;
mod fates;
mod hearing;
mod look;
mod marks;
pub mod memory;
mod node;
pub mod plain;
mod plane;
mod programs;
mod refused;
mod rejudge;
mod row;
mod state;
mod time;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cidrift_proto::finding::Finding;
use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use crate::cluster::{ControlPlane, Expectation, HostEvent, PlaneEvent, PoolConfig, RefusedReport};
pub use state::State;

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

/// Changes a subscriber may be behind before it is told that it lagged: two for
/// each node of a 1,000-node cluster that breaks at once.
const BACKLOG: usize = 2_048;

/// The engine; share it in an [`Arc`].
#[derive(Debug)]
pub struct Engine {
    state: RwLock<State>,
    changes: broadcast::Sender<Arc<Finding>>,
}

impl Engine {
    /// With nothing known.
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(State::new(config)),
            changes: broadcast::channel(BACKLOG).0,
        })
    }

    /// Applies what an agent told.
    pub fn host_event(&self, node: &str, event: HostEvent, now: Timestamp) {
        self.change(|state| state.host_event(node, event, now), now);
    }

    /// An agent with this node's token reported under another name and was not let in.
    pub fn report_refused(&self, node: &str, refused: RefusedReport, now: Timestamp) {
        self.change(|state| state.report_refused(node, refused, now), now);
    }

    /// An agent could not be let in now, whoever it is: nobody is called silent before all had the time to try again.
    pub fn turned_away(&self, now: Timestamp) {
        self.change(|state| state.hearing.turned_away(now), now);
    }

    /// Replaces what the control plane says.
    pub fn control_plane(&self, plane: ControlPlane, now: Timestamp) {
        self.change(|state| state.control_plane(plane, now), now);
    }

    /// Applies a change of what the control plane says.
    pub fn plane_event(&self, event: PlaneEvent, now: Timestamp) {
        self.change(|state| state.plane_event(event, now), now);
    }

    /// Lets time pass: pending findings open, silent agents are noticed. To be called several times a second.
    pub fn tick(&self, now: Timestamp) {
        self.change(|state| state.tick(now), now);
    }

    /// What the agent of this node is to be told, now and whenever it changes. The sender
    /// goes away with the Node, once nobody listens.
    pub fn expectation(&self, node: &str) -> watch::Receiver<Arc<Expectation>> {
        self.write().watch_expectation(node)
    }

    /// The sequence number last applied for this instance of the node's agent; 0: it must send a snapshot.
    pub fn applied(&self, node: &str, instance: &str) -> u64 {
        self.lock().applied(node, instance)
    }

    /// Looks at the state. Keep it short: it holds the lock.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// The findings that stand now, and every change after.
    pub fn subscribe(&self) -> (Vec<Arc<Finding>>, broadcast::Receiver<Arc<Finding>>) {
        let state = self.lock();
        // Changes are sent under the write lock: none falls between the two.
        let receiver = self.changes.subscribe();
        (state.findings(), receiver)
    }

    fn change(&self, apply: impl FnOnce(&mut State), now: Timestamp) {
        let mut state = self.write();
        state.hearing.at(now);
        apply(&mut state);
        for finding in state.drain(now) {
            // Nobody listening is no error.
            let _ = self.changes.send(finding);
        }
    }

    /// A caller that panicked left the state as whole as any other moment: each step replaces plain data.
    fn lock(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
