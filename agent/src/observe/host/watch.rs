//! A host as it changes: a look now and then, told where something is new.

use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::facts::CniFacts;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::HostReader;
use crate::view::Host;

/// Between two looks. A pod that starts is seen by the kernel's messages at once; what is read here changes with
/// pods and daemons, and kubelet itself tries a failed sandbox again every 15 s or so.
const PERIOD: Duration = Duration::from_secs(10);

/// What says the same is told again after this: some rules wait for time to pass (a lease that is old enough to be a
/// leak), in minutes.
const AGAIN: Duration = Duration::from_secs(60);

/// Looks at a host every now and then, in a task of its own.
#[derive(Debug)]
pub struct HostWatcher {
    reader: HostReader,
    cni: watch::Receiver<CniFacts>,
}

impl HostWatcher {
    /// `cni` is the CNI configuration as it is read elsewhere; a change of it asks for a look at once.
    pub fn new(reader: HostReader, cni: watch::Receiver<CniFacts>) -> Self {
        Self { reader, cni }
    }

    /// Looks until nobody listens any more; sends what is new, and now and then what is not.
    pub async fn run(mut self, sender: mpsc::Sender<Arc<Host>>) {
        let mut ticks = interval_at(Instant::now(), PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<(Arc<Host>, Instant)> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = self.cni.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
            let cni = self.cni.borrow_and_update().clone();
            let host = Arc::new(self.reader.look(&cni).await);
            let fresh = |(told, at): &(Arc<Host>, Instant)| told.same(&host) && at.elapsed() < AGAIN;
            if told.as_ref().is_some_and(fresh) {
                continue;
            }
            if sender.send(Arc::clone(&host)).await.is_err() {
                return;
            }
            told = Some((host, Instant::now()));
        }
    }
}
