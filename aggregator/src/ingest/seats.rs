//! One stream a node: the newest has the seat.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Hosts;
use crate::cluster::HostEvent;

/// How long it is remembered that a stream was displaced. An agent that was comes back within
/// 15 s at the latest (the agent's longest pause and jitter).
const REMEMBERED: SignedDuration = SignedDuration::from_mins(1);

/// Displacements that are remembered of one node.
const TURNS: usize = 16;

/// All seats that are taken. As many as there are streams.
#[derive(Debug, Default)]
pub(super) struct Seats {
    nodes: Mutex<HashMap<String, Arc<Seat>>>,
    /// Who displaced whom a short while ago, by node.
    turns: Mutex<HashMap<String, VecDeque<Turn>>>,
}

/// Who reports: an agent's instance, and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    /// Agent instance.
    pub(super) instance: String,
    /// Its end of the connection; `None`: unknown.
    pub(super) peer: Option<SocketAddr>,
}

/// One agent took another one's seat.
#[derive(Debug)]
struct Turn {
    at: Timestamp,
    came: Who,
    went: Who,
}

/// What taking a seat did to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Somebody had it.
    pub(super) displaced: bool,
    /// Several agents take it from each other: who, and when that is forgotten.
    pub(super) rivals: Option<(String, Timestamp)>,
}

/// A node's seat, held while its lock says that it is.
#[derive(Debug)]
struct Seat {
    who: Who,
    /// Held while an event is applied, so that a displaced stream has no last word.
    held: Mutex<bool>,
    /// Its stream has ended, and the agent is to come back at once.
    left: AtomicBool,
    displaced: CancellationToken,
}

/// The right to speak for a node. Dropped, it tells that the stream is gone.
#[derive(Debug)]
pub(super) struct Holder<H: Hosts> {
    seats: Arc<Seats>,
    hosts: Arc<H>,
    node: String,
    seat: Arc<Seat>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked left a bool or a map that are right at every moment.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Seats {
    /// Takes the node's seat; whoever had it is displaced and will not be
    /// heard any more once this returns.
    pub(super) fn take<H: Hosts>(
        self: &Arc<Self>,
        node: &str,
        who: Who,
        hosts: Arc<H>,
        now: Timestamp,
    ) -> (Holder<H>, Taken) {
        let seat = Arc::new(Seat {
            who: who.clone(),
            held: Mutex::new(true),
            left: AtomicBool::new(false),
            displaced: CancellationToken::new(),
        });
        let before = lock(&self.nodes).insert(node.to_owned(), Arc::clone(&seat));
        let mut taken = Taken::default();
        if let Some(before) = &before {
            *lock(&before.held) = false;
            before.displaced.cancel();
            // Whoever left does not mind.
            taken.displaced = !before.left.load(Ordering::Relaxed);
            if taken.displaced && before.who.instance != who.instance {
                taken.rivals = self.turn(node, who, before.who.clone(), now);
            }
        }
        let holder = Holder {
            seats: Arc::clone(self),
            hosts,
            node: node.to_owned(),
            seat,
        };
        (holder, taken)
    }

    /// Notes that one agent took another one's seat. An agent that was started anew does so
    /// once, since the old one is no more; two that live do so in turn.
    fn turn(&self, node: &str, came: Who, went: Who, now: Timestamp) -> Option<(String, Timestamp)> {
        let mut all = lock(&self.turns);
        all.retain(|_, turns| {
            turns.retain(|turn| now.duration_since(turn.at) < REMEMBERED);
            !turns.is_empty()
        });
        let turns = all.entry(node.to_owned()).or_default();
        if turns.len() >= TURNS {
            turns.pop_front();
        }
        turns.push_back(Turn { at: now, came, went });
        let back = turns.iter().any(|turn| {
            turns
                .iter()
                .any(|other| other.went.instance == turn.came.instance && other.at <= turn.at)
        });
        if !back {
            return None;
        }
        let mut whos: Vec<&Who> = Vec::new();
        for who in turns.iter().rev().flat_map(|turn| [&turn.came, &turn.went]) {
            if !whos.iter().any(|known| known.instance == who.instance) {
                whos.push(who);
            }
        }
        whos.sort_by(|a, b| a.instance.cmp(&b.instance));
        Some((said(&whos), now.checked_add(REMEMBERED).unwrap_or(Timestamp::MAX)))
    }
}

/// "two agents report for this node (instances 5f0c, 77aa, from addresses 172.30.0.11, 172.30.0.12)".
fn said(whos: &[&Who]) -> String {
    let instances: Vec<&str> = whos.iter().map(|who| who.instance.as_str()).collect();
    let mut addresses: Vec<String> = whos
        .iter()
        .map(|who| {
            who.peer
                .map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_canonical().to_string())
        })
        .collect();
    addresses.dedup();
    let count = match whos.len() {
        2 => "two".to_owned(),
        many => many.to_string(),
    };
    format!(
        "{count} agents report for this node (instances {}, from {} {})",
        instances.join(", "),
        if addresses.len() == 1 { "address" } else { "addresses" },
        addresses.join(", ")
    )
}

impl<H: Hosts> Holder<H> {
    /// Hands an event on, unless the seat was lost. False: it was.
    pub(super) fn tell(&self, event: HostEvent, now: Timestamp) -> bool {
        let held = lock(&self.seat.held);
        if *held {
            self.hosts.host_event(&self.node, event, now);
        }
        *held
    }

    /// The stream has ended; the seat is only kept for the agent to come back.
    pub(super) fn leave(&self) {
        self.seat.left.store(true, Ordering::Relaxed);
    }

    /// Ends when a newer stream has taken the seat.
    pub(super) async fn displaced(&self) {
        self.seat.displaced.cancelled().await;
    }

    /// The node.
    pub(super) fn node(&self) -> &str {
        &self.node
    }
}

impl<H: Hosts> Drop for Holder<H> {
    fn drop(&mut self) {
        // First the word, then the seat: a stream that takes it in between
        // waits for the lock, so that its Connected comes after.
        let mut held = lock(&self.seat.held);
        if *held {
            self.hosts
                .host_event(&self.node, HostEvent::Disconnected, Timestamp::now());
            *held = false;
        }
        drop(held);
        let mut nodes = lock(&self.seats.nodes);
        if nodes.get(&self.node).is_some_and(|seat| Arc::ptr_eq(seat, &self.seat)) {
            nodes.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

    use super::*;
    use crate::cluster::{Expectation, RefusedReport};

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<String>>);

    impl Hosts for Log {
        fn host_event(&self, node: &str, event: HostEvent, _now: Timestamp) {
            let word = match event {
                HostEvent::Lost { reason } => reason,
                HostEvent::Disconnected => "gone".into(),
                other => panic!("unexpected {other:?}"),
            };
            lock(&self.0).push(format!("{node} {word}"));
        }

        fn expectation(&self, _node: &str) -> watch::Receiver<Arc<Expectation>> {
            watch::channel(Arc::default()).1
        }

        fn applied(&self, _node: &str, _instance: &str) -> u64 {
            0
        }

        fn turned_away(&self, _now: Timestamp) {}

        fn report_refused(&self, node: &str, _refused: RefusedReport, _now: Timestamp) {
            panic!("{node} was let in before it took a seat")
        }
    }

    fn who(n: u8) -> Who {
        Who {
            instance: format!("agent-{n}"),
            peer: Some(SocketAddr::from(([172, 30, 0, n], 40_000))),
        }
    }

    /// Seconds after a start at which agents take the seat of "a", and what was said of the last.
    fn turns(seats: &[(i64, u8)]) -> Option<(String, Timestamp)> {
        let (hosts, all) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let mut holders = Vec::new();
        let mut rivals = None;
        for (second, n) in seats {
            let now = Timestamp::from_second(*second).unwrap();
            let (holder, taken) = all.take("a", who(*n), Arc::clone(&hosts), now);
            holders.push(holder);
            rivals = taken.rivals;
        }
        rivals
    }

    #[test]
    fn an_agent_that_comes_back_after_it_was_displaced_shows_that_there_are_two() {
        assert_eq!(turns(&[(0, 1), (5, 2)]), None, "an agent that was started anew");
        assert_eq!(turns(&[(0, 1), (5, 1), (9, 1)]), None, "a connection that is made anew");
        assert_eq!(
            turns(&[(0, 1), (5, 2), (9, 3)]),
            None,
            "an agent that is started over and over"
        );
        let (reason, until) = turns(&[(0, 1), (5, 2), (9, 1)]).unwrap();
        assert_eq!(
            reason,
            "two agents report for this node (instances agent-1, agent-2, from addresses 172.30.0.1, 172.30.0.2)"
        );
        assert_eq!(until, Timestamp::from_second(69).unwrap());
        assert_eq!(turns(&[(0, 1), (5, 2), (70, 1)]), None, "more than a minute later");
        let (reason, _) = turns(&[(0, 1), (5, 2), (9, 3), (12, 1)]).unwrap();
        assert!(reason.starts_with("3 agents"), "{reason}");
    }

    fn say(word: &str) -> HostEvent {
        HostEvent::Lost { reason: word.into() }
    }

    #[test]
    fn the_newest_stream_of_a_node_is_heard_and_the_older_one_has_no_last_word() {
        let (hosts, seats) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let (old, taken) = seats.take("a", who(1), Arc::clone(&hosts), Timestamp::UNIX_EPOCH);
        assert!(!taken.displaced && old.tell(say("old"), Timestamp::UNIX_EPOCH));
        let (new, taken) = seats.take("a", who(1), Arc::clone(&hosts), Timestamp::UNIX_EPOCH);
        assert!(taken.displaced);
        assert!(!old.tell(say("late"), Timestamp::UNIX_EPOCH));
        drop(old);
        assert!(new.tell(say("new"), Timestamp::UNIX_EPOCH));
        assert_eq!(*lock(&hosts.0), ["a old", "a new"]);
    }

    #[test]
    fn a_seat_that_its_stream_has_left_is_nobodys_to_be_displaced_from_and_still_says_when_it_is_given_up() {
        let (hosts, seats) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let (old, _) = seats.take("a", who(1), Arc::clone(&hosts), Timestamp::UNIX_EPOCH);
        old.leave();
        // The agent was started anew meanwhile.
        let (new, taken) = seats.take("a", who(2), Arc::clone(&hosts), Timestamp::UNIX_EPOCH);
        assert_eq!(taken, Taken::default());
        drop(old);
        assert!(new.tell(say("new"), Timestamp::UNIX_EPOCH));
        new.leave();
        drop(new);
        assert_eq!(*lock(&hosts.0), ["a new", "a gone"]);
    }

    #[test]
    fn a_stream_that_ends_says_so_and_leaves_nothing_behind() {
        let (hosts, seats) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let (holder, _) = seats.take("a", who(1), Arc::clone(&hosts), Timestamp::UNIX_EPOCH);
        drop(holder);
        assert_eq!(*lock(&hosts.0), ["a gone"]);
        assert!(lock(&seats.nodes).is_empty());
    }
}
