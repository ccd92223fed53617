//! One stream a node: the newest has the seat.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Hosts;
use crate::cluster::HostEvent;

/// All seats that are taken. As many as there are streams.
#[derive(Debug, Default)]
pub(super) struct Seats {
    nodes: Mutex<HashMap<String, Arc<Seat>>>,
}

/// A node's seat, held while its lock says that it is.
#[derive(Debug)]
struct Seat {
    /// Held while an event is applied, so that a displaced stream has no last word.
    held: Mutex<bool>,
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
    /// heard any more once this returns. The flag says whether someone had it.
    pub(super) fn take<H: Hosts>(self: &Arc<Self>, node: &str, hosts: Arc<H>) -> (Holder<H>, bool) {
        let seat = Arc::new(Seat {
            held: Mutex::new(true),
            displaced: CancellationToken::new(),
        });
        let before = lock(&self.nodes).insert(node.to_owned(), Arc::clone(&seat));
        if let Some(before) = &before {
            *lock(&before.held) = false;
            before.displaced.cancel();
        }
        let holder = Holder {
            seats: Arc::clone(self),
            hosts,
            node: node.to_owned(),
            seat,
        };
        (holder, before.is_some())
    }
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
    use crate::cluster::Expectation;

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
    }

    fn say(word: &str) -> HostEvent {
        HostEvent::Lost { reason: word.into() }
    }

    #[test]
    fn the_newest_stream_of_a_node_is_heard_and_the_older_one_has_no_last_word() {
        let (hosts, seats) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let (old, displaced) = seats.take("a", Arc::clone(&hosts));
        assert!(!displaced && old.tell(say("old"), Timestamp::UNIX_EPOCH));
        let (new, displaced) = seats.take("a", Arc::clone(&hosts));
        assert!(displaced);
        assert!(!old.tell(say("late"), Timestamp::UNIX_EPOCH));
        drop(old);
        assert!(new.tell(say("new"), Timestamp::UNIX_EPOCH));
        assert_eq!(*lock(&hosts.0), ["a old", "a new"]);
    }

    #[test]
    fn a_stream_that_ends_says_so_and_leaves_nothing_behind() {
        let (hosts, seats) = (Arc::new(Log::default()), Arc::new(Seats::default()));
        let (holder, _) = seats.take("a", Arc::clone(&hosts));
        drop(holder);
        assert_eq!(*lock(&hosts.0), ["a gone"]);
        assert!(lock(&seats.nodes).is_empty());
    }
}
