//! Keeps a stream to the aggregator up, and tells the owner of the view what
//! comes down it.

use std::fmt;
use std::time::Duration;

use backon::BackoffBuilder;
use cidrift_proto::pace::{HEARTBEAT, PAUSE};
use cidrift_proto::v1::aggregator_message::Kind as Down;
use cidrift_proto::v1::report_service_client::ReportServiceClient;
use cidrift_proto::{PROTOCOL, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use super::address::Address;
use super::expectation::Expectation;
use super::way::{Connection, Ways};

/// What an aggregator may ask for instead. Shorter would be load without
/// meaning, longer would leave a lost delta unnoticed.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// A stream that lived this long was a good one: the next attempt comes soon
/// again. Twice the longest pause, so that two agents with one name, who
/// displace each other, do so ever more slowly.
const GOOD: Duration = Duration::from_secs(30);

/// Pause after "your protocol is not mine": only an upgrade of either side helps.
const UPGRADE: Duration = Duration::from_secs(60);

/// For an answer to Hello, and again for Welcome and the first Expectation: a
/// healthy aggregator needs milliseconds, a busy one after its restart seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages between the outbox and the connection. Few: what waits here cannot
/// be replaced by a snapshot any more.
const CHANNEL: usize = 16;

/// Whom to report to, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The ways to the aggregator.
    pub ways: Ways,
    /// Node name.
    pub node: String,
    /// Agent version.
    pub version: String,
    /// New at every start: sequence numbers belong to it.
    pub instance: String,
}

/// What happens on the stream.
#[derive(Debug)]
pub enum Event {
    /// The aggregator has welcomed this agent and said what it expects.
    Up {
        /// Last sequence number that it has applied of this instance.
        applied: u64,
        /// What it expects.
        expectation: Expectation,
        /// How often it wants a sign of life.
        heartbeat: Duration,
        /// Takes what is to be told.
        sender: mpsc::Sender<v1::AgentMessage>,
    },
    /// It expects something else now.
    Expectation(Expectation),
    /// It has applied everything up to this number.
    Acked(u64),
    /// It needs a snapshot.
    Resync(String),
    /// The stream is gone, or could not be had.
    Down(Problem),
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its class.
    pub kind: ProblemKind,
    /// For people.
    pub text: String,
}

/// Classes of problems; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// No connection, or it broke.
    Unreachable,
    /// The two sides do not trust each other's certificates, or this one has nothing to judge them by.
    Untrusted,
    /// There is no token or client certificate to show, or the aggregator does not accept it.
    Credentials,
    /// The aggregator ended the stream in good order.
    Closed,
    /// The two sides speak different protocol versions.
    Protocol,
    /// Another agent reports under this node's name.
    Displaced,
    /// The aggregator refused what was said.
    Refused,
    /// The aggregator has no room.
    Overloaded,
    /// The aggregator said something that this build does not understand.
    Nonsense,
}

impl ProblemKind {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Credentials => "credentials",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Displaced => "displaced",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Nonsense => "nonsense",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let text = status.message();
        match status.code() {
            Code::FailedPrecondition => Self::new(ProblemKind::Protocol, text),
            Code::Aborted => Self::new(ProblemKind::Displaced, text),
            Code::Unauthenticated => Self::new(ProblemKind::Credentials, text),
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied => Self::new(ProblemKind::Refused, text),
            Code::ResourceExhausted => Self::new(ProblemKind::Overloaded, text),
            Code::Unimplemented => Self::new(
                ProblemKind::Protocol,
                "nothing at this address speaks cidrift.v1.ReportService",
            ),
            Code::Ok => Self::new(ProblemKind::Closed, "the aggregator ended the stream"),
            code => Self::new(ProblemKind::Unreachable, format!("{code:?}: {text}")),
        }
    }
}

/// Connects again and again until nobody listens to `events` any more: all addresses at once, one after the other,
/// then a pause.
pub async fn run(target: Target, events: mpsc::Sender<Event>) {
    let pauses = || {
        backon::ExponentialBuilder::default()
            .with_min_delay(PAUSE.0)
            .with_max_delay(PAUSE.1)
            .with_jitter()
            .without_max_times()
            .build()
    };
    let mut pause = pauses();
    loop {
        let began = Instant::now();
        let Err(problem) = round(&target, &events).await else {
            return;
        };
        if began.elapsed() >= GOOD && problem.was_up {
            pause = pauses();
        }
        let wait = match problem.problem.kind {
            ProblemKind::Protocol => UPGRADE,
            _ => pause.next().unwrap_or(PAUSE.1),
        };
        if events.send(Event::Down(problem.problem)).await.is_err() {
            return;
        }
        sleep(wait).await;
    }
}

/// How a round of attempts ended.
struct Ended {
    problem: Problem,
    /// A stream was up.
    was_up: bool,
}

/// Every address in turn, until a stream was up. `Ok` when nobody listens any more.
async fn round(target: &Target, events: &mpsc::Sender<Event>) -> Result<(), Ended> {
    let failed = |problem| Ended { problem, was_up: false };
    let addresses = target.ways.addresses().map_err(failed)?;
    let mut problems: Vec<Problem> = Vec::new();
    for address in addresses {
        let mut was_up = false;
        match attempt(target, &address, events, &mut was_up).await {
            Ok(()) => return Ok(()),
            Err(problem) if was_up => return Err(Ended { problem, was_up }),
            Err(problem) => problems.push(Problem::new(problem.kind, format!("{address}: {problem}"))),
        }
        if events.is_closed() {
            return Ok(());
        }
    }
    Err(failed(together(&problems)))
}

/// What all attempts say together. Its kind is that of the one that came furthest: nobody at an address says little
/// where somebody at another has refused.
fn together(problems: &[Problem]) -> Problem {
    let far = |kind: ProblemKind| match kind {
        ProblemKind::Unreachable => 0,
        ProblemKind::Closed => 1,
        ProblemKind::Untrusted => 2,
        ProblemKind::Credentials => 3,
        _ => 4,
    };
    let kinds = problems.iter().map(|problem| problem.kind);
    let kind = kinds.max_by_key(|kind| far(*kind)).unwrap_or(ProblemKind::Unreachable);
    let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
    Problem::new(kind, texts.join("; "))
}

/// One stream from its beginning to its end. `Ok` when nobody listens any more.
async fn attempt(
    target: &Target,
    address: &Address,
    events: &mpsc::Sender<Event>,
    was_up: &mut bool,
) -> Result<(), Problem> {
    let bearer = target.ways.bearer(address)?;
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let hello = v1::agent_message::Kind::Hello(v1::Hello {
        protocol: PROTOCOL,
        node: target.node.clone(),
        agent_version: target.version.clone(),
        instance: target.instance.clone(),
    });
    let hello = v1::AgentMessage { kind: Some(hello) };
    // The channel is new and empty.
    sender.try_send(hello).ok();

    let Connection { channel, verdict } = target.ways.connect(address).await?;
    let mut client = ReportServiceClient::new(channel);
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(bearer) = bearer {
        request.metadata_mut().insert("authorization", bearer);
    }
    let open = client.report(request);
    let opened = within("an answer to Hello", open).await?;
    let mut inbound = match opened {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            return Err(verdict.said().map_or_else(
                || Problem::from(status),
                |text| Problem::new(ProblemKind::Untrusted, text),
            ));
        }
    };

    let welcome = match within("Welcome", next(&mut inbound)).await?? {
        Down::Welcome(welcome) if welcome.protocol == PROTOCOL => welcome,
        Down::Welcome(welcome) => {
            return Err(Problem::new(
                ProblemKind::Protocol,
                format!(
                    "the aggregator ({}) speaks report protocol {}, this agent {PROTOCOL}",
                    welcome.aggregator_version, welcome.protocol
                ),
            ));
        }
        other => return Err(unexpected("Welcome", &other)),
    };
    let expectation = match within("Expectation", next(&mut inbound)).await?? {
        Down::Expectation(expectation) => parse(&expectation)?,
        other => return Err(unexpected("Expectation", &other)),
    };
    let up = Event::Up {
        applied: welcome.applied,
        expectation,
        heartbeat: match welcome.heartbeat_ms {
            0 => HEARTBEAT,
            ms => Duration::from_millis(ms.into()).clamp(HEARTBEATS.0, HEARTBEATS.1),
        },
        sender,
    };
    *was_up = true;
    if events.send(up).await.is_err() {
        return Ok(());
    }
    loop {
        let event = match next(&mut inbound).await? {
            Down::Expectation(expectation) => Event::Expectation(parse(&expectation)?),
            Down::Ack(ack) => Event::Acked(ack.sequence),
            Down::Resync(resync) => Event::Resync(resync.reason),
            other @ Down::Welcome(_) => return Err(unexpected("anything but Welcome", &other)),
        };
        if events.send(event).await.is_err() {
            return Ok(());
        }
    }
}

async fn next(inbound: &mut Streaming<v1::AggregatorMessage>) -> Result<Down, Problem> {
    loop {
        match inbound.message().await? {
            Some(v1::AggregatorMessage { kind: Some(kind) }) => return Ok(kind),
            // A kind that a newer aggregator of the same protocol added: it may be left out.
            Some(v1::AggregatorMessage { kind: None }) => {}
            None => return Err(Problem::new(ProblemKind::Closed, "the aggregator ended the stream")),
        }
    }
}

fn parse(expectation: &v1::Expectation) -> Result<Expectation, Problem> {
    Expectation::try_from(expectation)
        .map_err(|error| Problem::new(ProblemKind::Nonsense, format!("the aggregator's expectation: {error}")))
}

fn unexpected(wanted: &str, got: &Down) -> Problem {
    let got = match got {
        Down::Welcome(_) => "Welcome",
        Down::Expectation(_) => "Expectation",
        Down::Ack(_) => "Ack",
        Down::Resync(_) => "Resync",
    };
    Problem::new(
        ProblemKind::Nonsense,
        format!("the aggregator sent {got} where {wanted} was due"),
    )
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Problem> {
    timeout(PATIENCE, work).await.map_err(|_| {
        Problem::new(
            ProblemKind::Unreachable,
            format!("{what} did not come within {PATIENCE:?}"),
        )
    })
}
