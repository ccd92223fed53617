//! An API server that goes away while agents report, and comes back: nothing is lost, and who is not known waits.

use std::time::Duration;

use cidrift_agent::report::stream::{self, Event, ProblemKind, Target};
use cidrift_agent::report::way::Ways;
use cidrift_agent::report::{Limits, Outbox, Update, Whole};
use cidrift_lab::frozen::freeze;
use cidrift_lab::require::{Need, have};
use cidrift_proto::facts::HostFacts;
use cidrift_proto::landing::{ForwardingEntry, Landing};
use cidrift_proto::v1;
use jiff::Timestamp;
use nix::unistd::Pid;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::aggregator::{GUARD, Running};
use crate::forge::{self, Ends};
use crate::rights;
use crate::world::{self, AGENT, account, account_uid, agent_pod, token};

fn entry(number: u8) -> ForwardingEntry {
    ForwardingEntry {
        prefix: format!("10.244.{number}.0/24").parse().unwrap(),
        landing: Landing::Onlink { device: "eth0".into() },
        route: None,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

/// The agent's own stream and outbox, around a view of numbers.
struct Agent<'a> {
    aggregator: &'a Running,
    outbox: Outbox,
    entries: Vec<ForwardingEntry>,
    snapshots: u32,
    events: mpsc::Receiver<Event>,
    sender: Option<mpsc::Sender<v1::AgentMessage>>,
    stream: JoinHandle<()>,
}

impl<'a> Agent<'a> {
    fn start(aggregator: &'a Running, node: &str, token_file: std::path::PathBuf) -> Self {
        let (sender, events) = mpsc::channel(64);
        let target = Target {
            ways: Ways {
                aggregators: vec![format!("http://{}", aggregator.grpc).parse().unwrap()],
                token_file: Some(token_file),
                ..Ways::default()
            },
            node: node.to_owned(),
            version: "0.1.0".to_owned(),
            instance: format!("agent-of-{node}"),
        };
        Self {
            aggregator,
            outbox: Outbox::new(Limits::default()),
            entries: Vec::new(),
            snapshots: 0,
            events,
            sender: None,
            stream: aggregator.runtime.spawn(stream::run(target, sender)),
        }
    }

    fn set(&mut self, number: u8) {
        self.entries.push(entry(number));
        self.outbox.push(Update {
            upserts: vec![entry(number)],
            ..Update::default()
        });
        self.pump();
    }

    fn pump(&mut self) {
        let Some(sender) = &self.sender else { return };
        let (entries, snapshots) = (&self.entries, &mut self.snapshots);
        while let Ok(permit) = sender.try_reserve() {
            let whole = || {
                *snapshots += 1;
                Whole {
                    entries: entries.clone(),
                    facts: HostFacts {
                        traffic: None,
                        setups: None,
                        leaks: None,
                        observed_at: Timestamp::UNIX_EPOCH,
                        kernel: "6.18".to_owned(),
                        links: Vec::new(),
                        links_omitted: 0,
                        cni: Default::default(),
                        gaps: Vec::new(),
                        compared: Vec::new(),
                        programs: Vec::new(),
                        runtime: None,
                    },
                    claims: Vec::new(),
                    expectation: 0,
                }
            };
            match self.outbox.next(whole) {
                Some(message) => permit.send(message),
                None => return,
            }
        }
    }

    /// Takes events until one of which `wanted` says yes.
    fn until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) {
        loop {
            let next = async { tokio::time::timeout(GUARD, self.events.recv()).await };
            let event = self.aggregator.runtime.block_on(next);
            let event = event.unwrap_or_else(|_| panic!("{what}: never")).unwrap();
            let found = wanted(&event);
            match event {
                Event::Up { applied, sender, .. } => {
                    self.outbox.connected(applied);
                    self.sender = Some(sender);
                }
                Event::Acked(sequence) => self.outbox.acked(sequence),
                Event::Resync(_) => self.outbox.resync(),
                Event::Expectation(_) => {}
                Event::Down(_) => {
                    self.outbox.disconnected();
                    self.sender = None;
                }
            }
            self.pump();
            if found {
                return;
            }
        }
    }

    /// Until everything that it has said is acknowledged.
    fn until_told(&mut self) {
        let last = self.outbox.last();
        self.until(
            "all is told",
            |event| matches!(event, Event::Acked(sequence) if *sequence == last),
        );
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.stream.abort();
    }
}

#[test]
fn while_the_api_server_is_away_nothing_is_lost_and_who_is_not_known_waits_for_it() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = world::start();
    account(&cluster, world::NAMESPACE, "jane");
    let subject = json!({"kind": "ServiceAccount", "namespace": world::NAMESPACE, "name": "jane"});
    rights::bind(&cluster, "clusterrolebindings", "cidrift-viewer", &subject);
    let (jane, unknown) = (token(&cluster, "jane", &[], None), token(&cluster, "jane", &[], None));
    let uid = account_uid(&cluster, world::NAMESPACE, AGENT);
    let (one, two) = (
        agent_pod(&cluster, "agent-1", "n1"),
        agent_pod(&cluster, "agent-2", "n2"),
    );
    let aggregator = Running::start(&cluster);
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("first"), directory.path().join("second"));
    // This one ends while the API server is away.
    let life = Duration::from_secs(25);
    std::fs::write(&first, forge::agent(&cluster, &uid, &one, Ends::In(life))).unwrap();
    std::fs::write(&second, token(&cluster, AGENT, &["cidrift"], Some(&two))).unwrap();
    let fresh = token(&cluster, AGENT, &["cidrift"], Some(&one));
    let mut known = Agent::start(&aggregator, "n1", first.clone());
    known.set(1);
    known.until("it is let in", |event| matches!(event, Event::Up { .. }));
    known.until_told();
    aggregator.status(Some(&jane)).unwrap();

    // A review is under way when it goes.
    let pid = i32::try_from(cluster.plane().apiserver.pid().unwrap()).unwrap();
    freeze(Pid::from_raw(pid)).unwrap();
    let mut waits = Agent::start(&aggregator, "n2", second);
    std::thread::sleep(Duration::from_secs(1));
    cluster.plane().apiserver.kill();
    // A stream that is up stays up, and one that breaks comes back by what is remembered.
    known.set(2);
    known.until_told();
    let status = aggregator.status(Some(&unknown)).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(
        status.message().contains("could not be asked to create tokenreviews"),
        "{status}"
    );
    aggregator.status(Some(&jane)).unwrap();
    waits.set(3);
    let unavailable = |event: &Event| match event {
        Event::Down(problem) => {
            assert_eq!(problem.kind, ProblemKind::Unreachable, "{problem}");
            assert!(problem.text.contains("try again"), "{problem}");
            true
        }
        event => panic!("it was let in: {event:?}"),
    };
    waits.until("it is told to wait", unavailable);
    // The kubelet put the next token there in time; nobody can say now whether it is good.
    std::fs::write(&first, &fresh).unwrap();
    known.until(
        "its token ends",
        |event| matches!(event, Event::Down(problem) if problem.kind == ProblemKind::Credentials),
    );
    known.set(4);
    known.until("it waits", |event| {
        matches!(event, Event::Down(problem) if problem.kind == ProblemKind::Unreachable && problem.text.contains("try again"))
    });

    cluster.plane().apiserver.start_again().unwrap();
    known.until(
        "it is let in again",
        |event| matches!(event, Event::Up { applied, .. } if *applied > 0),
    );
    known.until_told();
    assert_eq!(known.snapshots, 1, "what happened meanwhile came as deltas");
    waits.until("it is let in", |event| matches!(event, Event::Up { .. }));
    waits.until_told();
    let count = |node: &str| aggregator.node(node, &jane).unwrap().entries.len();
    assert_eq!((count("n1"), count("n2")), (3, 1));
}
