//! The loop: whatever happens on this host or on the stream, in one task.

mod doubt;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::facts::{CniFacts, Gap};
use cidrift_proto::v1;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::doubt::{DOUBT, DOUBT_LOOK, Doubt};
use super::{Seen, Witness};
use crate::http::Ready;
use crate::metrics::Metrics;
use crate::observe::cni::CniWatcher;
use crate::observe::netlink::{ObserveError, Options, Part, Referee, Watcher};
use crate::report::stream::{Event, Problem};
use crate::report::{Outbox, Update};
use crate::resolve::Diff;
use crate::view::{Changes, Host, Kernel};

/// Until the kernel is asked for its state again after a failure: netlink does
/// not fail by chance, so it is the environment that must change.
const RETRY: Duration = Duration::from_secs(30);

/// Where the loop gets its news from, and whom it tells.
pub struct Parts {
    /// The host's name, release and what was told.
    pub witness: Witness,
    /// CNI configuration.
    pub cni: CniWatcher,
    /// Who looks at the rest of the host is told of it.
    pub cni_told: watch::Sender<CniFacts>,
    /// Everything else that the host tells.
    pub host: mpsc::Receiver<Arc<Host>>,
    /// What happens on the stream.
    pub events: mpsc::Receiver<Event>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Readiness.
    pub ready: Ready,
}

struct Loop {
    parts: Parts,
    outbox: Outbox,
    stream: Option<mpsc::Sender<v1::AgentMessage>>,
    heartbeat: Duration,
    heartbeat_at: Instant,
    kernel: Option<Observer>,
    kernel_retry_at: Instant,
    /// What stands in for a kernel that cannot be seen.
    dark: Kernel,
    doubt: Option<Doubt>,
}

struct Observer {
    watcher: Watcher,
    /// Without it, losses are told unconfirmed.
    referee: Option<Referee>,
}

/// Runs until `shutdown` is cancelled.
pub async fn run(mut parts: Parts, shutdown: CancellationToken) {
    let now = Timestamp::now();
    let modified = parts.cni.facts().chosen.as_ref().and_then(|chosen| chosen.modified_at);
    parts.witness.cni(parts.cni.facts(), now, modified);
    let now = Instant::now();
    let mut work = Loop {
        parts,
        outbox: Outbox::new(crate::report::Limits::default()),
        stream: None,
        heartbeat: Duration::from_secs(5),
        heartbeat_at: now,
        kernel: None,
        kernel_retry_at: now,
        dark: Kernel::default(),
        doubt: None,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work.forever() => {}
    }
}

/// What woke the loop.
enum News {
    Kernel(Result<Changes, ObserveError>),
    Retry,
    DoubtDue,
    Cni(Timestamp),
    Host(Arc<Host>),
    Stream(Event),
    Room,
    Heartbeat,
}

/// When the kernel's state was last known to be right: what has changed since the last dump was told by the kernel
/// itself, and a change that was read before that dump makes it no older.
fn known_at(verified_at: Timestamp, observed_at: Timestamp) -> Timestamp {
    verified_at.max(observed_at)
}

impl Loop {
    async fn forever(&mut self) {
        loop {
            let Some(news) = self.news().await else { return };
            match news {
                News::Kernel(Ok(changes)) => self.kernel_changed(changes).await,
                News::Kernel(Err(error)) => self.kernel_lost(&error),
                News::Retry => self.watch_kernel().await,
                News::DoubtDue => self.settle_doubt().await,
                News::Cni(at) => {
                    self.parts
                        .witness
                        .cni(self.parts.cni.facts(), Timestamp::now(), Some(at));
                    self.parts.cni_told.send_replace(self.parts.cni.facts().clone());
                    self.follow(Changes::none(at), true).await;
                }
                News::Host(host) => {
                    self.parts.witness.host(host);
                    self.count();
                    self.follow(Changes::none(Timestamp::now()), true).await;
                }
                News::Stream(event) => self.stream_event(event).await,
                News::Room => {}
                News::Heartbeat => {
                    if self.parts.witness.disputed() && self.doubt.is_none() {
                        let now = Timestamp::now();
                        self.follow(
                            Changes {
                                wide: true,
                                ..Changes::none(now)
                            },
                            false,
                        )
                        .await;
                    }
                    self.beat();
                }
            }
            self.pump();
        }
    }

    /// The next thing that happens. Every part of it may be dropped half-way.
    async fn news(&mut self) -> Option<News> {
        let backlog = self.outbox.backlog() && self.doubt.is_none();
        let stream = self.stream.as_ref().filter(|_| backlog);
        let doubt_at = self.doubt.as_ref().map(|doubt| doubt.look_at);
        let blind = self.kernel.is_none();
        Some(tokio::select! {
            changes = changed(&mut self.kernel) => News::Kernel(changes),
            () = sleep_until(self.kernel_retry_at), if blind => News::Retry,
            () = at(doubt_at) => News::DoubtDue,
            noticed = self.parts.cni.changed() => News::Cni(noticed),
            Some(host) = self.parts.host.recv() => News::Host(host),
            event = self.parts.events.recv() => News::Stream(event?),
            () = room(stream) => News::Room,
            () = sleep_until(self.heartbeat_at) => News::Heartbeat,
        })
    }

    async fn watch_kernel(&mut self) {
        match Watcher::start(Options::default()).await {
            Ok(watcher) => {
                let referee = Referee::new().await;
                if let Err(error) = &referee {
                    tracing::warn!("losses cannot be confirmed by the kernel's lookup: {error}");
                }
                let at = watcher.verified_at();
                self.kernel = Some(Observer {
                    watcher,
                    referee: referee.ok(),
                });
                let everything = Changes {
                    wide: true,
                    links: false,
                    ..Changes::none(at)
                };
                self.kernel_changed(everything).await;
            }
            Err(error) => self.kernel_lost(&error),
        }
    }

    fn kernel_lost(&mut self, error: &ObserveError) {
        self.parts.metrics.kernel_failed(error, RETRY.as_secs());
        self.parts.ready.pending("kernel", error.to_string());
        self.kernel = None;
        self.kernel_retry_at = Instant::now() + RETRY;
        self.doubt = None;
        let gap = Gap {
            what: "the kernel's networking state".to_owned(),
            why: error.to_string(),
        };
        self.parts.witness.gaps(vec![gap], true);
        let now = Timestamp::now();
        let diff = self.parts.witness.resolve(
            &self.dark,
            &Changes {
                wide: true,
                ..Changes::none(now)
            },
            now,
        );
        self.tell(diff, now);
    }

    async fn kernel_changed(&mut self, changes: Changes) {
        if let Some(Observer { watcher, .. }) = &self.kernel {
            // Sysctls say which dead routes count; without the rest, routes may be missing.
            let blind = watcher.gaps().iter().any(|gap| gap.part != Part::Sysctls);
            let gaps: Vec<Gap> = watcher
                .gaps()
                .iter()
                .map(|gap| Gap {
                    what: gap.part.to_string(),
                    why: gap.reason.clone(),
                })
                .collect();
            match gaps.first() {
                Some(gap) if blind => self.parts.ready.pending("kernel", format!("{}: {}", gap.what, gap.why)),
                _ => self.parts.ready.done("kernel"),
            }
            self.parts.witness.gaps(gaps, blind);
            self.parts.metrics.kernel(watcher.counters(), watcher.verified_at());
        }
        self.follow(changes, false).await;
    }

    /// Follows the kernel's state and tells what changed, unless a loss is doubted.
    async fn follow(&mut self, changes: Changes, cni: bool) {
        let now = Timestamp::now();
        let witness = &mut self.parts.witness;
        let kernel = match &self.kernel {
            Some(observer) => observer.watcher.kernel(),
            None => &self.dark,
        };
        let diff = witness.resolve(kernel, &changes, now);
        let observed_at = changes.observed_at;
        if let Some(doubt) = &mut self.doubt {
            merge(&mut doubt.diff, diff);
            return self.settle_doubt().await;
        }
        if !cni && self.doubted(&diff).await {
            if let Some(Observer { watcher, .. }) = &mut self.kernel {
                watcher.look_again();
            }
            let now = Instant::now();
            self.doubt = Some(Doubt {
                diff,
                observed_at,
                asked_at: Timestamp::now(),
                deadline: now + DOUBT,
                look_at: now + DOUBT_LOOK,
            });
            return;
        }
        self.tell(diff, observed_at);
    }

    /// Puts what was counted of packets, and how sandboxes are set up, into the figures.
    fn count(&self) {
        self.parts.metrics.setups(self.parts.witness.setups());
        let kernel = match &self.kernel {
            Some(observer) => observer.watcher.kernel(),
            None => return,
        };
        if let Some((read_at, grown)) = self.parts.witness.traffic(kernel) {
            self.parts.metrics.traffic(read_at, &grown);
        }
    }

    fn tell(&mut self, diff: Diff, observed_at: Timestamp) {
        let (kernel, at) = match &self.kernel {
            Some(observer) => (
                observer.watcher.kernel(),
                known_at(observer.watcher.verified_at(), observed_at),
            ),
            None => (&self.dark, observed_at),
        };
        let seen = Seen { kernel, at };
        let update: Option<Update> = self.parts.witness.tell(seen, diff, observed_at, Timestamp::now());
        let Some(update) = update else { return };
        self.outbox.push(update);
        self.parts.metrics.view(self.parts.witness.figures());
        if self.stream.is_some() {
            self.pump();
            let delay = Timestamp::now().duration_since(observed_at);
            self.parts.metrics.delay(delay.as_secs_f64());
        }
    }

    /// Hands the stream as much as it takes. Not while a loss is doubted: a
    /// snapshot would contain it.
    fn pump(&mut self) {
        let Some(stream) = &self.stream else { return };
        if self.doubt.is_some() {
            return;
        }
        while self.outbox.backlog() {
            let Ok(permit) = stream.try_reserve() else { return };
            let witness = &self.parts.witness;
            let Some(message) = self.outbox.next(|| witness.whole()) else {
                return;
            };
            self.parts.metrics.sent(&message);
            permit.send(message);
            self.heartbeat_at = Instant::now() + self.heartbeat;
        }
        self.parts.metrics.outbox(self.outbox.kept());
    }

    async fn stream_event(&mut self, event: Event) {
        let now = Timestamp::now();
        match event {
            Event::Up {
                applied,
                expectation,
                heartbeat,
                sender,
            } => {
                self.parts.metrics.connected(applied, expectation.revision);
                self.parts.ready.done("aggregator");
                self.outbox.connected(applied);
                self.heartbeat = heartbeat;
                self.heartbeat_at = Instant::now() + heartbeat;
                self.parts.witness.expect(expectation, now);
                self.follow(
                    Changes {
                        wide: true,
                        ..Changes::none(now)
                    },
                    false,
                )
                .await;
                self.stream = Some(sender);
            }
            Event::Expectation(expectation) => {
                tracing::info!(revision = expectation.revision, node_uid = ?expectation.node_uid, "new expectation");
                self.parts.witness.expect(expectation, now);
                self.follow(
                    Changes {
                        wide: true,
                        ..Changes::none(now)
                    },
                    false,
                )
                .await;
            }
            Event::Acked(sequence) => self.outbox.acked(sequence),
            Event::Resync(reason) => {
                self.parts.metrics.resync(&reason);
                self.outbox.resync();
            }
            Event::Down(problem) => self.down(&problem),
        }
    }

    fn down(&mut self, problem: &Problem) {
        self.parts.metrics.problem(problem);
        self.parts.ready.pending("aggregator", problem.to_string());
        self.outbox.disconnected();
        self.stream = None;
    }

    fn beat(&mut self) {
        self.heartbeat_at = Instant::now() + self.heartbeat;
        let verified_at = self.kernel.as_ref().map(|observer| observer.watcher.verified_at());
        if let Some(Observer { watcher, .. }) = &self.kernel {
            self.parts.metrics.kernel(watcher.counters(), watcher.verified_at());
        }
        let Some(stream) = &self.stream else { return };
        let Some(heartbeat) = self.outbox.heartbeat(Timestamp::now(), verified_at) else {
            return;
        };
        self.parts.metrics.sent(&heartbeat);
        // Full: what waits there is sign of life enough.
        stream.try_send(heartbeat).ok();
    }
}

/// Later changes over earlier ones.
fn merge(diff: &mut Diff, later: Diff) {
    let mut rows: BTreeMap<IpNet, Option<_>> = BTreeMap::new();
    for Diff { upserts, removed } in [std::mem::take(diff), later] {
        rows.extend(removed.into_iter().map(|prefix| (prefix, None)));
        rows.extend(upserts.into_iter().map(|entry| (entry.prefix, Some(entry))));
    }
    for (prefix, entry) in rows {
        match entry {
            Some(entry) => diff.upserts.push(entry),
            None => diff.removed.push(prefix),
        }
    }
}

async fn changed(kernel: &mut Option<Observer>) -> Result<Changes, ObserveError> {
    match kernel {
        Some(observer) => observer.watcher.changed().await,
        None => pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Ends when the stream takes another message; never where none waits.
async fn room(stream: Option<&mpsc::Sender<v1::AgentMessage>>) {
    match stream {
        Some(stream) => match stream.reserve().await {
            Ok(_) => {}
            // The stream has ended; its Down is on the way.
            Err(_) => pending().await,
        },
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use cidrift_proto::landing::{ForwardingEntry, Landing};

    use super::*;

    #[test]
    fn of_several_changes_to_a_prefix_the_last_one_is_told() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let entry = |text: &str, device: &str| ForwardingEntry {
            prefix: net(text),
            landing: Landing::Onlink { device: device.into() },
            route: None,
            changed_at: Timestamp::UNIX_EPOCH,
        };
        let mut diff = Diff {
            upserts: vec![entry("10.1.0.0/24", "a"), entry("10.2.0.0/24", "a")]
                .into_iter()
                .map(Arc::new)
                .collect(),
            removed: vec![net("10.3.0.0/24"), net("10.4.0.0/24")],
        };
        let later = Diff {
            upserts: vec![entry("10.1.0.0/24", "b"), entry("10.3.0.0/24", "b")]
                .into_iter()
                .map(Arc::new)
                .collect(),
            removed: vec![net("10.2.0.0/24")],
        };
        merge(&mut diff, later);
        assert_eq!(
            diff.upserts,
            [entry("10.1.0.0/24", "b"), entry("10.3.0.0/24", "b")].map(Arc::new)
        );
        assert_eq!(diff.removed, [net("10.2.0.0/24"), net("10.4.0.0/24")]);
    }

    #[test]
    fn the_kernels_word_is_as_old_as_its_last_dump_or_change() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(known_at(at(60), at(75)), at(75));
        assert_eq!(known_at(at(60), at(45)), at(60));
    }
}
