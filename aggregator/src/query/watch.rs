//! A watch: what stands, `synced`, then every change.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use cidrift_proto::finding::Finding;
use cidrift_proto::time::to_wire;
use cidrift_proto::v1;
use cidrift_proto::v1::finding_event::Kind;
use futures::{Stream, stream};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::service::Filter;
use crate::engine::Engine;

/// One subscriber. It is polled only as fast as the subscriber takes what it
/// gets: changes wait in the engine's channel, which is bounded, and nowhere else.
pub(super) struct Watch {
    // Weak: a watch must not keep a stopped engine alive.
    engine: Weak<Engine>,
    filter: Filter,
    stop: CancellationToken,
    // At most the standing findings and two marks.
    ready: VecDeque<Kind>,
    changes: Receiver<Arc<Finding>>,
}

impl Watch {
    pub(super) fn new(engine: Arc<Engine>, filter: Filter, stop: CancellationToken) -> Self {
        let (standing, changes) = engine.subscribe();
        let mut watch = Self {
            engine: Arc::downgrade(&engine),
            filter,
            stop,
            ready: VecDeque::new(),
            changes,
        };
        watch.tell(&standing);
        watch
    }

    fn tell(&mut self, standing: &[Arc<Finding>]) {
        let filter = &self.filter;
        let taken = standing.iter().filter(|finding| filter.takes(finding));
        self.ready
            .extend(taken.map(|finding| Kind::Finding(finding.as_ref().into())));
        self.ready.push_back(Kind::Synced(true));
    }

    /// The stream; it ends when the engine is gone or the server stops.
    pub(super) fn stream(self) -> impl Stream<Item = Result<v1::FindingEvent, Status>> + Send {
        stream::unfold(self, |mut watch| async move {
            let kind = watch.next().await?;
            let event = v1::FindingEvent {
                kind: Some(kind),
                at: Some(to_wire(Timestamp::now())),
            };
            Some((Ok(event), watch))
        })
    }

    async fn next(&mut self) -> Option<Kind> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            if let Some(kind) = self.ready.pop_front() {
                return Some(kind);
            }
            let change = tokio::select! {
                () = self.stop.cancelled() => return None,
                change = self.changes.recv() => change,
            };
            match change {
                Ok(finding) if self.filter.takes(&finding) => return Some(Kind::Finding(finding.as_ref().into())),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    let (standing, changes) = self.engine.upgrade()?.subscribe();
                    self.changes = changes;
                    self.ready.push_back(Kind::Lagged(missed));
                    self.tell(&standing);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
