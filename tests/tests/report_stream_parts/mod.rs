//! An aggregator that notes what it is told, an agent's end of a stream by
//! hand, and the agent's own stream and outbox around a view of numbers.

mod identity;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cidrift_agent::report::stream::{self, Event, Problem, Target};
use cidrift_agent::report::way::Ways;
use cidrift_agent::report::{Limits as OutboxLimits, Outbox, Update, Whole};
use cidrift_aggregator::cluster::{Expectation, HostEvent, RefusedReport};
use cidrift_aggregator::identity::Identity;
use cidrift_aggregator::ingest::{Hosts, Ingest, Limits};
use cidrift_aggregator::metrics::Metrics;
use cidrift_proto::facts::HostFacts;
use cidrift_proto::landing::{ForwardingEntry, Landing};
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind as Up;
use cidrift_proto::v1::aggregator_message::Kind as Down;
use cidrift_proto::v1::report_service_client::ReportServiceClient;
use cidrift_proto::v1::report_service_server::{ReportService, ReportServiceServer};
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Only a guard against hanging for ever.
const GUARD: Duration = Duration::from_secs(30);

pub(crate) fn hello(node: &str, instance: &str) -> v1::Hello {
    v1::Hello {
        protocol: 1,
        node: node.into(),
        agent_version: "0.1.0".into(),
        instance: instance.into(),
    }
}

fn entry(number: u8) -> ForwardingEntry {
    ForwardingEntry {
        prefix: format!("10.244.{number}.0/24").parse().unwrap(),
        landing: Landing::Onlink { device: "eth0".into() },
        route: None,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

fn facts() -> HostFacts {
    HostFacts {
        observed_at: Timestamp::UNIX_EPOCH,
        kernel: "6.18.44".into(),
        ..HostFacts::default()
    }
}

/// One entry, numbered as the chunk.
pub(crate) fn chunk(sequence: u64, index: u32, last: bool) -> v1::SnapshotChunk {
    v1::SnapshotChunk {
        sequence,
        index,
        last,
        entries: vec![(&entry(u8::try_from(index).unwrap())).into()],
        facts: (index == 0).then(|| (&facts()).into()),
        ..Default::default()
    }
}

pub(crate) fn delta(sequence: u64, number: u8) -> v1::Delta {
    v1::Delta {
        sequence,
        upserts: vec![(&entry(number)).into()],
        ..Default::default()
    }
}

/// What the aggregator was told of a host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    pub(crate) instance: String,
    pub(crate) connected: bool,
    pub(crate) whole: bool,
    pub(crate) applied: u64,
    pub(crate) connections: usize,
    pub(crate) disconnections: usize,
    pub(crate) snapshots: usize,
    pub(crate) deltas: usize,
    pub(crate) entries: BTreeMap<IpNet, ForwardingEntry>,
}

struct Book {
    hosts: Mutex<HashMap<String, Host>>,
    refused: Mutex<Vec<(String, RefusedReport)>>,
    changed: watch::Sender<()>,
    expectation: watch::Sender<Arc<Expectation>>,
}

impl Hosts for Book {
    fn host_event(&self, node: &str, event: HostEvent, _now: Timestamp) {
        let mut hosts = self.hosts.lock().unwrap();
        let host = hosts.entry(node.to_owned()).or_default();
        match event {
            HostEvent::Connected { instance, .. } => {
                host.connected = true;
                host.connections += 1;
                if host.instance != instance {
                    host.instance = instance;
                    (host.applied, host.whole) = (0, false);
                }
            }
            HostEvent::Snapshot { sequence, entries, .. } => {
                host.entries = entries.into_iter().map(|e| (e.prefix, e)).collect();
                (host.applied, host.whole) = (sequence, true);
                host.snapshots += 1;
            }
            HostEvent::Delta {
                sequence,
                upserts,
                removed,
                ..
            } => {
                host.entries.extend(upserts.into_iter().map(|e| (e.prefix, e)));
                host.entries.retain(|prefix, _| !removed.contains(prefix));
                host.applied = sequence;
                host.deltas += 1;
            }
            // Whether what it says can be trusted is not this book's to judge.
            HostEvent::Heartbeat { .. } | HostEvent::Rivals { .. } => {}
            HostEvent::Lost { .. } => host.whole = false,
            HostEvent::Disconnected => {
                host.connected = false;
                host.disconnections += 1;
            }
        }
        drop(hosts);
        self.changed.send_replace(());
    }

    fn expectation(&self, _node: &str) -> watch::Receiver<Arc<Expectation>> {
        self.expectation.subscribe()
    }

    fn applied(&self, node: &str, instance: &str) -> u64 {
        let hosts = self.hosts.lock().unwrap();
        match hosts.get(node) {
            Some(host) if host.instance == instance && host.whole => host.applied,
            _ => 0,
        }
    }

    fn turned_away(&self, _now: Timestamp) {}

    fn report_refused(&self, node: &str, refused: RefusedReport, _now: Timestamp) {
        self.refused.lock().unwrap().push((node.to_owned(), refused));
    }
}

/// Ingest on a socket of its own.
pub(crate) struct Aggregator {
    pub(crate) address: SocketAddr,
    book: Arc<Book>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Aggregator {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), limits).await
    }

    pub(crate) async fn start_at(address: SocketAddr, limits: Limits) -> Self {
        Self::start_with(address, limits, Identity::Believed).await
    }

    pub(crate) async fn start_with(address: SocketAddr, limits: Limits, identity: Identity) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Book {
            hosts: Mutex::default(),
            refused: Mutex::default(),
            changed: watch::channel(()).0,
            expectation: watch::channel(Arc::default()).0,
        });
        let shutdown = CancellationToken::new();
        let ingest = Ingest::new(
            Arc::clone(&book),
            limits,
            Arc::new(Metrics::default()),
            shutdown.clone(),
        )
        .with_identity(identity);
        let serving = Server::builder()
            .add_service(ingest.into_server())
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), shutdown.clone().cancelled_owned());
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            book,
            shutdown,
            server,
        }
    }

    /// As a restart forgets everything, this is the half of one.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(GUARD, self.server).await.unwrap().unwrap();
    }

    /// Who tried to report under another name.
    pub(crate) fn refused(&self) -> Vec<(String, RefusedReport)> {
        self.book.refused.lock().unwrap().clone()
    }

    pub(crate) fn expect(&self, revision: u64, cidr: &str) {
        self.book.expectation.send_replace(Arc::new(Expectation {
            revision,
            pod_cidrs: vec![cidr.parse().unwrap()],
            ..Expectation::default()
        }));
    }

    /// Waits until what was told of a host is so.
    pub(crate) async fn until(&self, node: &str, so: impl Fn(&Host) -> bool) {
        let mut changed = self.book.changed.subscribe();
        let wait = async {
            loop {
                changed.mark_unchanged();
                if self.book.hosts.lock().unwrap().get(node).is_some_and(&so) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(GUARD, wait).await.is_err() {
            panic!("it never became so: {:#?}", self.book.hosts.lock().unwrap().get(node));
        }
    }
}

/// An agent's end of a stream, by hand.
#[derive(Debug)]
pub(crate) struct Talker {
    sender: mpsc::Sender<v1::AgentMessage>,
    inbound: Streaming<v1::AggregatorMessage>,
}

impl Talker {
    pub(crate) async fn mute(aggregator: &Aggregator) -> Result<Self, Status> {
        Self::connect(aggregator, None).await
    }

    pub(crate) async fn open(aggregator: &Aggregator, hello: v1::Hello) -> Result<Self, Status> {
        Self::connect(aggregator, Some(hello)).await
    }

    async fn connect(aggregator: &Aggregator, hello: Option<v1::Hello>) -> Result<Self, Status> {
        Self::connect_as(aggregator, hello, None).await
    }

    /// With this token.
    pub(crate) async fn open_as(aggregator: &Aggregator, hello: v1::Hello, token: &str) -> Result<Self, Status> {
        Self::connect_as(aggregator, Some(hello), Some(token)).await
    }

    async fn connect_as(
        aggregator: &Aggregator,
        hello: Option<v1::Hello>,
        token: Option<&str>,
    ) -> Result<Self, Status> {
        let url = format!("http://{}", aggregator.address);
        let mut client = ReportServiceClient::connect(url).await.unwrap();
        let (sender, receiver) = mpsc::channel(64);
        if let Some(hello) = hello {
            let message = v1::AgentMessage {
                kind: Some(Up::Hello(hello)),
            };
            sender.send(message).await.unwrap();
        }
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let inbound = client.report(request).await?.into_inner();
        Ok(Self { sender, inbound })
    }

    /// Past Welcome and the first Expectation.
    pub(crate) async fn welcome(aggregator: &Aggregator, node: &str, instance: &str) -> Self {
        let mut talker = Self::open(aggregator, hello(node, instance)).await.unwrap();
        assert!(matches!(talker.hear().await.unwrap(), Down::Welcome(_)));
        assert!(matches!(talker.hear().await.unwrap(), Down::Expectation(_)));
        talker
    }

    /// Another stream of an instance that has one already.
    pub(crate) async fn same_instance(aggregator: &Aggregator, node: &str, instance: &str) -> Self {
        Self::welcome(aggregator, node, instance).await
    }

    pub(crate) async fn say(&mut self, kind: Up) {
        // A stream that was ended in between is noticed by the next hearing.
        self.sender.send(v1::AgentMessage { kind: Some(kind) }).await.ok();
    }

    pub(crate) async fn hear(&mut self) -> Result<Down, Status> {
        let message = tokio::time::timeout(GUARD, self.inbound.message()).await.unwrap()?;
        Ok(message.expect("the stream ended without a status").kind.unwrap())
    }

    pub(crate) async fn hear_ack(&mut self, sequence: u64) {
        loop {
            match self.hear().await.unwrap() {
                Down::Ack(ack) if ack.sequence == sequence => return,
                Down::Ack(ack) if ack.sequence < sequence => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) async fn hear_resync(&mut self) -> String {
        loop {
            match self.hear().await.unwrap() {
                Down::Resync(resync) => return resync.reason,
                Down::Ack(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) async fn hear_end(&mut self) -> Status {
        loop {
            match self.hear().await {
                Err(status) => return status,
                Ok(Down::Ack(_)) => {}
                Ok(other) => panic!("unexpected {other:?}"),
            }
        }
    }
}

/// The agent's own stream and outbox around a view of numbers.
pub(crate) struct FakeAgent {
    outbox: Outbox,
    entries: Vec<ForwardingEntry>,
    events: mpsc::Receiver<Event>,
    sender: Option<mpsc::Sender<v1::AgentMessage>>,
    /// Why there was no stream, each time.
    pub(crate) problems: Vec<Problem>,
    stream: JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

impl FakeAgent {
    pub(crate) fn start(aggregator: SocketAddr, instance: &str) -> Self {
        Self::start_as(aggregator, instance, None)
    }

    /// Shows the token in this file.
    pub(crate) fn start_as(aggregator: SocketAddr, instance: &str, token_file: Option<PathBuf>) -> Self {
        let (sender, events) = mpsc::channel(64);
        let target = Target {
            ways: Ways {
                aggregators: vec![format!("http://{aggregator}").parse().unwrap()],
                token_file,
                ..Ways::default()
            },
            node: "node-a".into(),
            version: "0.1.0".into(),
            instance: instance.into(),
        };
        Self {
            outbox: Outbox::new(OutboxLimits::default()),
            entries: Vec::new(),
            events,
            sender: None,
            problems: Vec::new(),
            stream: tokio::spawn(stream::run(target, sender)),
        }
    }

    pub(crate) fn set(&mut self, number: u8) {
        self.entries.push(entry(number));
        self.outbox.push(Update {
            upserts: vec![entry(number)],
            ..Update::default()
        });
    }

    pub(crate) fn pump(&mut self) {
        let Some(sender) = &self.sender else { return };
        while let Ok(permit) = sender.try_reserve() {
            let whole = || Whole {
                entries: self.entries.clone(),
                facts: facts(),
                claims: Vec::new(),
                expectation: 0,
            };
            match self.outbox.next(whole) {
                Some(message) => permit.send(message),
                None => return,
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        tokio::time::timeout(GUARD, self.events.recv()).await.unwrap().unwrap()
    }

    pub(crate) async fn run_until_up(&mut self) {
        while !self.take_event().await {}
    }

    pub(crate) async fn run_until_down(&mut self) {
        while self.sender.is_some() {
            self.take_event().await;
        }
    }

    async fn take_event(&mut self) -> bool {
        let mut up = false;
        match self.event().await {
            Event::Up { applied, sender, .. } => {
                self.outbox.connected(applied);
                self.sender = Some(sender);
                up = true;
            }
            Event::Acked(sequence) => self.outbox.acked(sequence),
            Event::Resync(_) => self.outbox.resync(),
            Event::Expectation(_) => {}
            Event::Down(problem) => {
                self.outbox.disconnected();
                self.sender = None;
                self.problems.push(problem);
            }
        }
        self.pump();
        up
    }
}

struct Future;

#[tonic::async_trait]
impl ReportService for Future {
    type ReportStream = ReceiverStream<Result<v1::AggregatorMessage, Status>>;

    async fn report(
        &self,
        _request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        Err(Status::failed_precondition("you speak 1, I speak 2"))
    }
}

/// An aggregator that speaks protocol 2.
pub(crate) async fn aggregator_of_the_future() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(ReportServiceServer::new(Future))
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    address
}
