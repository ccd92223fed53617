//! The agent's outbox against the aggregator's session over a wire that loses,
//! doubles and swaps messages, between two sides that restart: whatever
//! happened, both end with the same view, and no view in between is one that
//! the agent never had.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use cidrift_agent::report::{Limits as OutboxLimits, Outbox, Update, Whole};
use cidrift_aggregator::cluster::HostEvent;
use cidrift_aggregator::ingest::session::Answer;
use cidrift_aggregator::ingest::{Limits, Session};
use cidrift_proto::facts::HostFacts;
use cidrift_proto::landing::{ForwardingEntry, Landing};
use cidrift_proto::v1;
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;

/// A view, as small as it can be: a device name per prefix, and the kernel's version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    entries: BTreeMap<IpNet, u32>,
    kernel: u32,
}

fn prefix(number: u8) -> IpNet {
    format!("10.244.{number}.0/24").parse().unwrap()
}

fn entry(prefix: IpNet, device: u32) -> ForwardingEntry {
    ForwardingEntry {
        prefix,
        landing: Landing::Onlink {
            device: device.to_string(),
        },
        route: None,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

fn facts(kernel: u32) -> HostFacts {
    HostFacts {
        observed_at: Timestamp::UNIX_EPOCH,
        kernel: kernel.to_string(),
        ..HostFacts::default()
    }
}

impl View {
    fn whole(&self) -> Whole {
        Whole {
            entries: self.entries.iter().map(|(&p, &d)| entry(p, d)).collect(),
            facts: facts(self.kernel),
            claims: Vec::new(),
            expectation: 1,
        }
    }

    fn set(&mut self, entries: &[ForwardingEntry]) {
        for entry in entries {
            let Landing::Onlink { device } = &entry.landing else {
                panic!("unexpected {entry:?}")
            };
            self.entries.insert(entry.prefix, device.parse().unwrap());
        }
    }
}

/// What can happen.
#[derive(Debug, Clone)]
enum Happening {
    /// The host changes: set (`Some`) or remove prefixes, perhaps facts too.
    Change(Vec<(u8, Option<u32>)>, Option<u32>),
    /// The agent hands one message to the wire.
    Send,
    Heartbeat,
    /// The aggregator takes the next message.
    Arrive,
    /// The agent takes the next answer.
    Answer,
    Lose(usize),
    Double(usize),
    Swap(usize, usize),
    LoseAnswer,
    Connect,
    Disconnect,
    AgentRestarts,
    AggregatorRestarts,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    let row = (0_u8..12, prop::option::weighted(0.7, 0_u32..1000));
    prop_oneof![
        6 => (prop::collection::vec(row, 0..9), prop::option::weighted(0.2, 0_u32..1000)).prop_map(|(rows, kernel)| Change(rows, kernel)),
        8 => Just(Send),
        2 => Just(Heartbeat),
        8 => Just(Arrive),
        6 => Just(Answer),
        1 => (0_usize..8).prop_map(Lose),
        1 => (0_usize..8).prop_map(Double),
        1 => (0_usize..8, 0_usize..8).prop_map(|(a, b)| Swap(a, b)),
        1 => Just(LoseAnswer),
        2 => Just(Connect),
        1 => Just(Disconnect),
        1 => Just(AgentRestarts),
        1 => Just(AggregatorRestarts),
    ]
}

const OUTBOX: OutboxLimits = OutboxLimits {
    deltas: 5,
    bytes: 600,
    message: 300,
    entries: 4,
    in_flight: 3,
};

struct Agent {
    instance: u32,
    outbox: Outbox,
    view: View,
    /// The view at every sequence number of this instance.
    history: Vec<View>,
}

/// What the aggregator holds of the host.
#[derive(Default)]
struct Host {
    instance: Option<u32>,
    applied: u64,
    whole: bool,
    view: View,
}

struct World {
    agent: Agent,
    up: VecDeque<v1::AgentMessage>,
    down: VecDeque<Answer>,
    session: Option<Session>,
    host: Host,
}

impl World {
    fn new() -> Self {
        Self {
            agent: Agent {
                instance: 0,
                outbox: Outbox::new(OUTBOX),
                view: View::default(),
                history: vec![View::default()],
            },
            up: VecDeque::new(),
            down: VecDeque::new(),
            session: None,
            host: Host::default(),
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Change(rows, kernel) => self.change(rows, *kernel),
            Happening::Send => {
                let view = self.agent.view.clone();
                if let Some(message) = self.agent.outbox.next(|| view.whole()) {
                    self.up.push_back(message);
                }
            }
            Happening::Heartbeat => self.up.extend(self.agent.outbox.heartbeat(Timestamp::UNIX_EPOCH, None)),
            Happening::Arrive => self.arrive(),
            Happening::Answer => match self.down.pop_front() {
                Some(Answer::Ack(sequence)) => self.agent.outbox.acked(sequence),
                Some(Answer::Resync(_)) => self.agent.outbox.resync(),
                Some(Answer::Close(_)) => self.disconnect(),
                Some(Answer::None) | None => {}
            },
            &Happening::Lose(at) => drop(self.up.remove(at)),
            &Happening::Double(at) => {
                if let Some(message) = self.up.get(at).cloned() {
                    self.up.insert(at, message);
                }
            }
            &Happening::Swap(a, b) => {
                if a.max(b) < self.up.len() {
                    self.up.swap(a, b);
                }
            }
            Happening::LoseAnswer => drop(self.down.pop_front()),
            Happening::Connect => self.connect(),
            Happening::Disconnect => self.disconnect(),
            Happening::AgentRestarts => {
                self.disconnect();
                self.agent.instance += 1;
                self.agent.outbox = Outbox::new(OUTBOX);
                self.agent.history = vec![self.agent.view.clone()];
            }
            Happening::AggregatorRestarts => {
                self.disconnect();
                self.host = Host::default();
            }
        }
        let (deltas, bytes) = self.agent.outbox.kept();
        assert!(deltas <= OUTBOX.deltas && bytes <= OUTBOX.bytes);
        if self.host.whole && self.host.instance == Some(self.agent.instance) {
            let then = &self.agent.history[usize::try_from(self.host.applied).unwrap()];
            assert_eq!(&self.host.view, then, "at {}", self.host.applied);
        }
    }

    fn change(&mut self, rows: &[(u8, Option<u32>)], kernel: Option<u32>) {
        let rows: BTreeMap<IpNet, Option<u32>> = rows.iter().map(|&(p, d)| (prefix(p), d)).collect();
        let mut update = Update {
            facts: kernel.map(facts),
            expectation: 1,
            ..Update::default()
        };
        for (prefix, device) in rows {
            match device {
                Some(device) => {
                    self.agent.view.entries.insert(prefix, device);
                    update.upserts.push(entry(prefix, device));
                }
                None => {
                    self.agent.view.entries.remove(&prefix);
                    update.removed.push(prefix);
                }
            }
        }
        self.agent.view.kernel = kernel.unwrap_or(self.agent.view.kernel);
        self.agent.outbox.push(update);
        // A change that joined an unsent one has that one's number.
        self.agent
            .history
            .truncate(usize::try_from(self.agent.outbox.last()).unwrap());
        self.agent.history.push(self.agent.view.clone());
    }

    fn connect(&mut self) {
        self.disconnect();
        if self.host.instance != Some(self.agent.instance) {
            self.host.instance = Some(self.agent.instance);
            self.host.applied = 0;
            self.host.whole = false;
        }
        // As the engine answers: what cannot be relied on is not resumed.
        let applied = if self.host.whole { self.host.applied } else { 0 };
        self.session = Some(Session::new("node-a", applied, Limits::default()));
        self.agent.outbox.connected(applied);
    }

    fn disconnect(&mut self) {
        self.up.clear();
        self.down.clear();
        self.session = None;
        self.agent.outbox.disconnected();
    }

    fn arrive(&mut self) {
        let Some(session) = &mut self.session else { return };
        let Some(message) = self.up.pop_front() else { return };
        let step = session.message(&message);
        match step.event {
            Some(HostEvent::Snapshot {
                sequence,
                entries,
                facts,
                ..
            }) => {
                self.host.view = View {
                    entries: BTreeMap::new(),
                    kernel: facts.kernel.parse().unwrap(),
                };
                self.host.view.set(&entries);
                self.host.applied = sequence;
                self.host.whole = true;
            }
            Some(HostEvent::Delta {
                sequence,
                upserts,
                removed,
                facts,
                ..
            }) => {
                assert_eq!(sequence, self.host.applied + 1);
                for prefix in removed {
                    self.host.view.entries.remove(&prefix);
                }
                self.host.view.set(&upserts);
                if let Some(facts) = facts {
                    self.host.view.kernel = facts.kernel.parse().unwrap();
                }
                self.host.applied = sequence;
            }
            Some(HostEvent::Lost { .. }) => self.host.whole = false,
            Some(_) | None => {}
        }
        self.down.push_back(step.answer);
    }

    /// Lets everything take its course, with heartbeats as on a quiet stream.
    /// Returns whether both sides agree.
    fn settle(&mut self) -> bool {
        for _ in 0..8 {
            if self.session.is_none() {
                self.happen(&Happening::Connect);
            }
            while self.agent.outbox.backlog() {
                self.happen(&Happening::Send);
            }
            self.happen(&Happening::Heartbeat);
            while !self.up.is_empty() && self.session.is_some() {
                self.happen(&Happening::Arrive);
            }
            while !self.down.is_empty() {
                self.happen(&Happening::Answer);
            }
        }
        self.host.whole && self.host.view == self.agent.view && !self.agent.outbox.backlog()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn both_sides_end_with_the_same_view(happenings in prop::collection::vec(happening(), 0..120)) {
        let mut world = World::new();
        for happening in &happenings {
            world.happen(happening);
        }
        prop_assert!(world.settle(), "aggregator {:?}, agent {:?}", world.host.view, world.agent.view);
        prop_assert_eq!(world.agent.outbox.kept(), (0, 0), "everything is acknowledged");
    }
}

#[test]
fn a_wire_that_loses_nothing_needs_one_snapshot_only() {
    let mut world = World::new();
    let rows = |device| vec![(1, Some(device)), (2, None)];
    world.happen(&Happening::Connect);
    for device in 0..50 {
        world.happen(&Happening::Change(rows(device), None));
        for step in [Happening::Send, Happening::Arrive, Happening::Answer] {
            world.happen(&step);
        }
    }
    assert_eq!(world.host.applied, 50);
    assert!(world.settle());
    assert_eq!(world.agent.outbox.last(), 50);
}
