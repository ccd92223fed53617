//! Drives one report stream: reads, lets the session judge, answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::prefix::{address_to_wire, prefix_to_wire};
use cidrift_proto::v1::aggregator_message::Kind;
use cidrift_proto::{PROTOCOL, v1};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::hello::Greeting;
use super::seats::Holder;
use super::session::{Answer, Session};
use super::{Hosts, Limits};
use crate::cluster::{Expectation, HostEvent};
use crate::metrics::{Ended, Metrics};

/// Acknowledgements wait this long for company, or for so many messages: an
/// agent has at most 32 deltas under way.
const ACK: (Duration, u32) = (Duration::from_millis(50), 8);

/// One stream after its Hello. Polled by the connection that it belongs to: a
/// reader that stops reading stops only itself, and dropping it ends it.
pub(super) struct Stream<H: Hosts> {
    inbound: Streaming<v1::AgentMessage>,
    holder: Arc<Holder<H>>,
    session: Session,
    expectation: Option<watch::Receiver<Arc<Expectation>>>,
    /// Said before anything is read: Welcome and the first Expectation.
    first: VecDeque<Kind>,
    ack_at: Option<Instant>,
    unacked: u32,
    pace: Pace,
    /// When what showed who the agent is ends.
    until: Option<Instant>,
    /// Ends when that does not count any more before its time.
    doubted: Pin<Box<dyn Future<Output = Status> + Send>>,
    /// How long the seat is kept for an agent that was sent for a fresh token: as late as a heartbeat may be.
    grace: Duration,
    shutdown: CancellationToken,
    metrics: Arc<Metrics>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// What ends a stream besides its agent.
pub(super) struct Ends {
    /// When what showed who the agent is ends; `None`: it does not.
    pub(super) until: Option<Instant>,
    /// Ends when that does not count any more before its time.
    pub(super) doubted: Pin<Box<dyn Future<Output = Status> + Send>>,
}

/// What a stream shares with its siblings.
pub(super) struct Shared<H> {
    pub(super) hosts: Arc<H>,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: CancellationToken,
}

impl<H: Hosts> Stream<H> {
    pub(super) fn new(
        greeting: Greeting,
        inbound: Streaming<v1::AgentMessage>,
        holder: Holder<H>,
        shared: &Shared<H>,
        permit: OwnedSemaphorePermit,
        ends: Ends,
    ) -> Self {
        let connected = HostEvent::Connected {
            instance: greeting.instance.clone(),
            version: greeting.version,
        };
        holder.tell(connected, Timestamp::now());
        let applied = shared.hosts.applied(holder.node(), &greeting.instance);
        let mut expectation = shared.hosts.expectation(holder.node());
        let first = VecDeque::from([
            Kind::Welcome(v1::Welcome {
                protocol: PROTOCOL,
                aggregator_version: cidrift_proto::version().to_owned(),
                applied,
                heartbeat_ms: u32::try_from(shared.limits.heartbeat.as_millis()).unwrap_or(u32::MAX),
            }),
            Kind::Expectation(to_wire(&expectation.borrow_and_update())),
        ]);
        shared.metrics.stream_began(holder.node(), &greeting.instance, applied);
        Self {
            session: Session::new(holder.node(), applied, shared.limits),
            inbound,
            holder: Arc::new(holder),
            expectation: Some(expectation),
            first,
            ack_at: None,
            unacked: 0,
            pace: Pace::new(shared.limits.max_messages_per_second),
            until: ends.until,
            doubted: ends.doubted,
            grace: shared.limits.heartbeat,
            shutdown: shared.shutdown.clone(),
            metrics: Arc::clone(&shared.metrics),
            ended: false,
            _permit: permit,
        }
    }

    /// The next answer; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Result<v1::AggregatorMessage, Status>> {
        if self.ended {
            return None;
        }
        let item = match self.first.pop_front() {
            Some(kind) => Ok(Some(kind)),
            None => self.step().await,
        };
        match item {
            Ok(Some(kind)) => Some(Ok(v1::AggregatorMessage { kind: Some(kind) })),
            Ok(None) => {
                self.end(Ended::Closed, "closed by the agent");
                None
            }
            Err((ended, status)) => {
                self.end(ended, status.message());
                Some(Err(status))
            }
        }
    }

    fn end(&mut self, how: Ended, text: &str) {
        self.ended = true;
        if how == Ended::Expired {
            self.keep_seat();
        }
        self.metrics.stream_ended(self.holder.node(), how, text);
    }

    /// The agent comes back at once with a fresh token. Until then what it said stands, as it does between two heartbeats: a
    /// token that ends in good order makes no node unknown.
    fn keep_seat(&self) {
        self.holder.leave();
        let (holder, shutdown, grace) = (Arc::clone(&self.holder), self.shutdown.clone(), self.grace);
        // The stream is not polled any more after its last item, so somebody else must wait.
        tokio::spawn(async move {
            tokio::select! {
                () = holder.displaced() => {}
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(grace) => {}
            }
        });
    }

    /// Reads until there is something to say. `None`: the agent has closed.
    async fn step(&mut self) -> Result<Option<Kind>, (Ended, Status)> {
        loop {
            tokio::select! {
                biased;
                () = self.holder.displaced() => return Err(displaced()),
                () = self.shutdown.cancelled() => {
                    return Err((Ended::Shutdown, Status::unavailable("the aggregator is shutting down")));
                }
                () = at(self.until) => return Err(expired()),
                status = &mut self.doubted => return Err((Ended::Unidentified, status)),
                changed = changed(&mut self.expectation) => return Ok(Some(Kind::Expectation(changed))),
                () = at(self.ack_at) => {
                    return Ok(Some(self.ack()));
                }
                message = read(&mut self.inbound, &mut self.pace) => match message {
                    Ok(Some(message)) => {
                        let answer = self.message(&message)?;
                        // Between two messages others have their turn, and what was
                        // answered before is sent: tonic fills a buffer with answers
                        // for as long as none has to be waited for.
                        tokio::task::yield_now().await;
                        if let Some(kind) = answer {
                            return Ok(Some(kind));
                        }
                    }
                    Ok(None) => return Ok(None),
                    Err(status) => return Err((Ended::Broken, status)),
                },
            }
        }
    }

    fn ack(&mut self) -> Kind {
        self.ack_at = None;
        self.unacked = 0;
        let sequence = self.session.applied();
        Kind::Ack(v1::Ack { sequence })
    }

    fn message(&mut self, message: &v1::AgentMessage) -> Result<Option<Kind>, (Ended, Status)> {
        let step = self.session.message(message);
        let now = Timestamp::now();
        self.metrics.message(message, &step, now);
        if let Some(event) = step.event
            && !self.holder.tell(event, now)
        {
            return Err(displaced());
        }
        match step.answer {
            Answer::None => Ok(None),
            Answer::Ack(_) => {
                self.unacked += 1;
                if self.unacked >= ACK.1 {
                    return Ok(Some(self.ack()));
                }
                self.ack_at.get_or_insert_with(|| Instant::now() + ACK.0);
                Ok(None)
            }
            Answer::Resync(reason) => {
                self.metrics.resync(self.holder.node(), step.outcome, &reason);
                Ok(Some(Kind::Resync(v1::Resync { reason })))
            }
            Answer::Close(reason) => Err((Ended::Refused, Status::invalid_argument(reason))),
        }
    }
}

impl<H: Hosts> Drop for Stream<H> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Ended::Broken, "the connection is gone");
        }
    }
}

fn expired() -> (Ended, Status) {
    let text = "the token or certificate that this stream rests on has expired: come again with a fresh one";
    (Ended::Expired, Status::unauthenticated(text))
}

fn displaced() -> (Ended, Status) {
    let text = "a newer stream reports for this node; is a second agent running with its name?";
    (Ended::Displaced, Status::aborted(text))
}

/// Ends when the deadline is reached; never where there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The next expectation that differs. Never, once nobody can change it.
async fn changed(receiver: &mut Option<watch::Receiver<Arc<Expectation>>>) -> v1::Expectation {
    if let Some(expectation) = receiver
        && expectation.changed().await.is_ok()
    {
        return to_wire(&expectation.borrow_and_update());
    }
    *receiver = None;
    std::future::pending().await
}

/// The next message, at the stream's pace. May be dropped at any time.
async fn read(inbound: &mut Streaming<v1::AgentMessage>, pace: &mut Pace) -> Result<Option<v1::AgentMessage>, Status> {
    if let Some(wait) = pace.wait(Instant::now()) {
        sleep_until(wait).await;
    }
    let message = inbound.message().await?;
    pace.took(Instant::now());
    Ok(message)
}

fn to_wire(expectation: &Expectation) -> v1::Expectation {
    v1::Expectation {
        revision: expectation.revision,
        node_uid: expectation.node_uid.clone().unwrap_or_default(),
        pod_cidrs: expectation.pod_cidrs.iter().copied().map(prefix_to_wire).collect(),
        internal_ips: expectation.internal_ips.iter().copied().map(address_to_wire).collect(),
        interest: expectation.interest.iter().copied().map(prefix_to_wire).collect(),
    }
}

/// How fast a stream is read: so many messages a second, a second's worth of
/// them at once. Whoever sends faster waits, as HTTP/2 flow control makes it.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// When everything read so far would have been due at an even pace.
    due: Option<Instant>,
}

impl Pace {
    const BURST: Duration = Duration::from_secs(1);

    fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            due: None,
        }
    }

    /// Until when to wait, if at all.
    fn wait(&self, now: Instant) -> Option<Instant> {
        let due = self.due?;
        let ahead = due.saturating_duration_since(now).saturating_sub(Self::BURST);
        (!ahead.is_zero()).then(|| now + ahead)
    }

    fn took(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_more_than_that_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(100);
        let mut taken = 0;
        while pace.wait(now).is_none() {
            pace.took(now);
            taken += 1;
        }
        assert_eq!(taken, 101);
        assert_eq!(pace.wait(now + Duration::from_secs(1)), None);
    }
}
