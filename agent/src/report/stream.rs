//! Keeps a stream to the aggregator up, and tells the owner of the view what
//! comes down it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use backon::BackoffBuilder;
use cidrift_proto::v1::aggregator_message::Kind as Down;
use cidrift_proto::v1::report_service_client::ReportServiceClient;
use cidrift_proto::{PROTOCOL, v1};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use super::expectation::Expectation;
use super::token;

/// Between two signs of life where the aggregator asks for none in particular.
/// It calls an agent silent after 15 s by default: two may be late or lost.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What an aggregator may ask for instead. Shorter would be load without
/// meaning, longer would leave a lost delta unnoticed.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// First and longest pause between attempts, jitter (up to as much again) not
/// counted: an aggregator that restarts in a second is found at once, and one
/// that comes back to 5,000 agents meets some 500 attempts a second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(7_500));

/// A stream that lived this long was a good one: the next attempt comes soon
/// again. Twice the longest pause, so that two agents with one name, who
/// displace each other, do so ever more slowly.
const GOOD: Duration = Duration::from_secs(30);

/// Pause after "your protocol is not mine": only an upgrade of either side helps.
const UPGRADE: Duration = Duration::from_secs(60);

/// For the connection, and again for Welcome and the first Expectation: a
/// healthy aggregator needs milliseconds, a busy one after its restart seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// HTTP/2 ping when nothing comes, and how long its answer may take: a dead
/// aggregator is noticed within 10 s, long before TCP gives up.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Messages between the outbox and the connection. Few: what waits here cannot
/// be replaced by a snapshot any more.
const CHANNEL: usize = 16;

/// Whom to report to, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The aggregator.
    pub endpoint: Endpoint,
    /// Node name.
    pub node: String,
    /// Agent version.
    pub version: String,
    /// New at every start: sequence numbers belong to it.
    pub instance: String,
    /// Where its token is; `None`: it shows none.
    pub token_file: Option<PathBuf>,
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
    /// The aggregator ended the stream in good order.
    Closed,
    /// The two sides speak different protocol versions.
    Protocol,
    /// Another agent reports under this node's name.
    Displaced,
    /// There is no token to show, or the aggregator does not take it (any more).
    Token,
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
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Displaced => "displaced",
            Self::Token => "token",
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
    fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
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
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied => Self::new(ProblemKind::Refused, text),
            Code::Unauthenticated => Self::new(ProblemKind::Token, text),
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

/// An endpoint with the timeouts that a report stream needs.
pub fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(true))
}

/// Connects again and again until nobody listens to `events` any more.
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
        let Err(problem) = attempt(&target, &events).await else {
            return;
        };
        if began.elapsed() >= GOOD {
            pause = pauses();
        }
        let wait = match problem.kind {
            ProblemKind::Protocol => UPGRADE,
            _ => pause.next().unwrap_or(PAUSE.1),
        };
        if events.send(Event::Down(problem)).await.is_err() {
            return;
        }
        sleep(wait).await;
    }
}

/// One stream from its beginning to its end. `Ok` when nobody listens any more.
async fn attempt(target: &Target, events: &mpsc::Sender<Event>) -> Result<(), Problem> {
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

    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(path) = &target.token_file {
        let token = token::read(path).map_err(|error| Problem::new(ProblemKind::Token, error.to_string()))?;
        request.metadata_mut().insert("authorization", token);
    }
    let channel = target
        .endpoint
        .connect()
        .await
        .map_err(|error| Problem::new(ProblemKind::Unreachable, chain(&error)))?;
    let mut client = ReportServiceClient::new(channel);
    let open = client.report(request);
    let mut inbound = within("an answer to Hello", open).await??.into_inner();

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

/// An error with its causes: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
