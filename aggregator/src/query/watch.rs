//! A watch: what stands, `synced`, then every change.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

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

/// What stands, and the changes after it.
pub(super) type Subscription = (Vec<Arc<Finding>>, Receiver<Arc<Finding>>);

/// One subscriber. It is polled only as fast as the subscriber takes what it
/// gets: changes wait in the engine's channel, which is bounded, and nowhere else.
pub(super) struct Watch {
    // Asked again after a lag; nothing where the engine is gone.
    subscribe: Box<dyn Fn() -> Option<Subscription> + Send>,
    filter: Filter,
    stop: CancellationToken,
    // At most the standing findings and two marks.
    ready: VecDeque<Kind>,
    changes: Option<Receiver<Arc<Finding>>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(
        subscribe: impl Fn() -> Option<Subscription> + Send + 'static,
        filter: Filter,
        stop: CancellationToken,
    ) -> Self {
        let mut watch = Self {
            subscribe: Box::new(subscribe),
            filter,
            stop,
            ready: VecDeque::new(),
            changes: None,
        };
        watch.begin();
        watch
    }

    fn begin(&mut self) {
        let Some((standing, changes)) = (self.subscribe)() else {
            self.changes = None;
            return;
        };
        let filter = &self.filter;
        let taken = standing.iter().filter(|finding| filter.takes(finding));
        self.ready
            .extend(taken.map(|finding| Kind::Finding(finding.as_ref().into())));
        self.ready.push_back(Kind::Synced(true));
        self.changes = Some(changes);
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
                change = self.changes.as_mut()?.recv() => change,
            };
            match change {
                Ok(finding) if self.filter.takes(&finding) => return Some(Kind::Finding(finding.as_ref().into())),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    self.ready.push_back(Kind::Lagged(missed));
                    self.begin();
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use cidrift_proto::catalogue::Code;
    use cidrift_proto::finding::{Claim, FindingState, Trigger, finding_id};
    use tokio::sync::broadcast;

    use super::*;

    pub(in crate::query) fn finding(code: Code, node: &str) -> Arc<Finding> {
        Arc::new(Finding {
            id: finding_id(code, node),
            episode: 1,
            state: FindingState::Open,
            claim: Claim {
                code,
                subject: node.to_owned(),
                severity: code.entry().severity,
                nodes: vec![node.to_owned()],
                summary: String::new(),
                affected: Vec::new(),
                affected_total: 0,
                evidence: Vec::new(),
                unseen: Vec::new(),
                cause: String::new(),
                remedy: String::new(),
                changed_at: None,
                trigger: Trigger::Host,
            },
            first_seen: Timestamp::UNIX_EPOCH,
            opened_at: None,
            resolved_at: None,
            updated_at: Timestamp::UNIX_EPOCH,
            resolution: None,
            explained_by: Vec::new(),
            stale: false,
        })
    }

    /// An engine of four changes' patience.
    struct Source {
        standing: Arc<Mutex<Vec<Arc<Finding>>>>,
        changes: Arc<Mutex<Option<broadcast::Sender<Arc<Finding>>>>>,
    }

    impl Source {
        fn new(standing: Vec<Arc<Finding>>) -> Self {
            Self {
                standing: Arc::new(Mutex::new(standing)),
                changes: Arc::new(Mutex::new(Some(broadcast::channel(4).0))),
            }
        }

        fn watch(&self, filter: Filter, stop: &CancellationToken) -> Watch {
            let (standing, changes) = (Arc::clone(&self.standing), Arc::clone(&self.changes));
            let subscribe = move || {
                let changes = changes.lock().unwrap();
                Some((standing.lock().unwrap().clone(), changes.as_ref()?.subscribe()))
            };
            Watch::new(subscribe, filter, stop.clone())
        }

        fn change(&self, finding: Arc<Finding>) {
            self.changes.lock().unwrap().as_ref().unwrap().send(finding).unwrap();
        }
    }

    fn name(kind: Option<Kind>) -> String {
        match kind {
            Some(Kind::Finding(finding)) => finding.id,
            Some(Kind::Synced(_)) => "synced".to_owned(),
            Some(Kind::Lagged(n)) => format!("lagged {n}"),
            None => "end".to_owned(),
        }
    }

    async fn take(watch: &mut Watch, n: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..n {
            names.push(name(watch.next().await));
        }
        names
    }

    #[tokio::test]
    async fn what_stands_comes_first_then_synced_then_changes() {
        let source = Source::new(vec![finding(Code::Path01, "a")]);
        let mut watch = source.watch(Filter::default(), &CancellationToken::new());
        source.change(finding(Code::Path02, "b"));
        assert_eq!(take(&mut watch, 3).await, ["PATH01/a", "synced", "PATH02/b"]);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_and_given_what_stands_anew() {
        let source = Source::new(vec![finding(Code::Path01, "a")]);
        let mut watch = source.watch(Filter::default(), &CancellationToken::new());
        assert_eq!(take(&mut watch, 2).await, ["PATH01/a", "synced"]);
        for _ in 0..10 {
            source.change(finding(Code::Path02, "b"));
        }
        *source.standing.lock().unwrap() = vec![finding(Code::Path03, "c"), finding(Code::Path04, "d")];
        let told = take(&mut watch, 4).await;
        assert_eq!(told, ["lagged 6", "PATH03/c", "PATH04/d", "synced"]);
        source.change(finding(Code::Path06, "e"));
        assert_eq!(take(&mut watch, 1).await, ["PATH06/e"]);
    }

    #[tokio::test]
    async fn only_what_is_asked_for_is_told() {
        let source = Source::new(vec![finding(Code::Path01, "a"), finding(Code::Path01, "b")]);
        let filter = Filter::of(Some("b"), Some(Code::Path01));
        let mut watch = source.watch(filter, &CancellationToken::new());
        source.change(finding(Code::Path02, "b"));
        source.change(finding(Code::Path01, "a"));
        source.change(finding(Code::Path01, "b"));
        assert_eq!(take(&mut watch, 3).await, ["PATH01/b", "synced", "PATH01/b"]);
    }

    #[tokio::test]
    async fn it_ends_when_the_server_stops_or_the_engine_is_gone() {
        let source = Source::new(Vec::new());
        let stop = CancellationToken::new();
        let (mut stopped, mut left) = (
            source.watch(Filter::default(), &stop),
            source.watch(Filter::default(), &CancellationToken::new()),
        );
        assert_eq!(take(&mut stopped, 1).await, ["synced"]);
        assert_eq!(take(&mut left, 1).await, ["synced"]);
        stop.cancel();
        assert_eq!(take(&mut stopped, 1).await, ["end"]);
        source.changes.lock().unwrap().take();
        assert_eq!(take(&mut left, 1).await, ["end"]);
    }

    #[tokio::test]
    async fn an_engine_gone_during_a_lag_ends_it_after_saying_so() {
        let source = Source::new(Vec::new());
        let mut watch = source.watch(Filter::default(), &CancellationToken::new());
        assert_eq!(take(&mut watch, 1).await, ["synced"]);
        for _ in 0..5 {
            source.change(finding(Code::Path02, "b"));
        }
        source.changes.lock().unwrap().take();
        assert_eq!(take(&mut watch, 2).await, ["lagged 1", "end"]);
    }
}
