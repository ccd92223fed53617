//! Since when agents can be heard. Where none could be a moment ago, one that is missing may only be on its way:
//! it pauses longer the longer nobody answered it.

use std::collections::BTreeSet;

use cidrift_proto::pace::{BACK, HEARTBEAT};
use jiff::Timestamp;

use crate::correlate::routes::elapsed;

/// The aggregator looks at the time several times a second. After a gap of a heartbeat it did not run meanwhile
/// (a machine that slept), and heard nobody.
const GAP: std::time::Duration = HEARTBEAT;

/// Streams that must have been up for their end to say something of this side: of a single one the agent ended.
const CROWD: usize = 2;

/// Whether agents could be heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Since when, without a break. `None`: no time has been handed in yet.
    since: Option<Timestamp>,
    /// The newest time that was handed in.
    last: Option<Timestamp>,
    /// Streams that are up.
    up: usize,
    /// The most of them since all were gone last.
    most: usize,
    /// All of them have gone, and none has come since.
    deaf: bool,
    /// Nodes whose silence is not told yet.
    held: BTreeSet<String>,
}

impl Hearing {
    /// Takes note of the time.
    pub(super) fn at(&mut self, now: Timestamp) {
        let slept = self.last.is_none_or(|last| elapsed(last, now) > GAP);
        // A clock that was set back: nothing began in the future.
        let back = self.since.is_some_and(|since| now < since);
        if slept || back {
            self.since = Some(now);
        }
        self.last = Some(now);
    }

    /// Somebody who may have been an agent was turned away, for this side cannot take anybody now: it has no certificate yet,
    /// or cannot find out who somebody is. What is missing is on its way until it had the time to try again.
    pub(super) fn turned_away(&mut self, now: Timestamp) {
        self.since = Some(now);
    }

    /// A node's stream was up before, or not, and is now, or not.
    pub(super) fn stream(&mut self, was: bool, is: bool, now: Timestamp) {
        match (was, is) {
            (false, true) => {
                self.up += 1;
                self.most = self.most.max(self.up);
                if std::mem::take(&mut self.deaf) {
                    self.since = Some(now);
                }
            }
            (true, false) => {
                self.up = self.up.saturating_sub(1);
                if self.up == 0 && self.most >= CROWD {
                    (self.most, self.deaf) = (0, true);
                    self.since = Some(now);
                }
            }
            _ => {}
        }
    }

    /// Whether it is too early to say that an agent does not report: it was not heard since anybody can be
    /// (`heard`: when it last was), and may pause still.
    pub(super) fn early(&self, heard: Option<Timestamp>, now: Timestamp) -> bool {
        self.since
            .is_some_and(|since| heard.is_none_or(|heard| heard <= since) && elapsed(since, now) < BACK)
    }

    /// Its silence is to be told in its time.
    pub(super) fn hold(&mut self, node: &str) {
        self.held.insert(node.to_owned());
    }

    /// Nodes whose silence was held back and may be told now.
    pub(super) fn due(&mut self, now: Timestamp) -> BTreeSet<String> {
        if self.early(None, now) {
            return BTreeSet::new();
        }
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Time passes as it does while the aggregator runs.
    fn pass(hearing: &mut Hearing, seconds: std::ops::Range<i64>) {
        for second in seconds {
            hearing.at(at(second));
        }
    }

    #[test]
    fn it_is_early_for_as_long_as_an_agent_may_pause_after_the_start() {
        let mut hearing = Hearing::default();
        pass(&mut hearing, 0..100);
        assert!(hearing.early(None, at(19)) && !hearing.early(None, at(20)));
        assert!(!hearing.early(Some(at(3)), at(19)), "it was heard since, and went away");
    }

    #[test]
    fn a_machine_that_slept_and_a_clock_that_was_set_back_begin_anew() {
        let mut hearing = Hearing::default();
        pass(&mut hearing, 0..100);
        hearing.at(at(3_600));
        assert!(hearing.early(Some(at(99)), at(3_601)) && !hearing.early(None, at(3_620)));
        hearing.at(at(50));
        assert!(hearing.early(None, at(69)) && !hearing.early(None, at(70)));
    }

    #[test]
    fn nobody_is_late_who_was_turned_away() {
        let mut hearing = Hearing::default();
        pass(&mut hearing, 0..100);
        hearing.turned_away(at(90));
        assert!(hearing.early(None, at(109)) && !hearing.early(None, at(110)));
        assert!(!hearing.early(Some(at(95)), at(100)), "it was let in, and went away");
    }

    #[test]
    fn where_all_streams_ended_the_others_are_on_their_way_when_the_first_is_back() {
        let mut hearing = Hearing::default();
        pass(&mut hearing, 0..100);
        hearing.stream(false, true, at(50));
        hearing.stream(false, true, at(50));
        hearing.stream(true, false, at(90));
        assert!(!hearing.early(Some(at(90)), at(95)), "one of two ended by itself");
        hearing.stream(true, false, at(91));
        assert!(hearing.early(Some(at(91)), at(110)) && !hearing.early(Some(at(91)), at(111)));
        pass(&mut hearing, 100..200);
        hearing.stream(false, true, at(150));
        assert!(hearing.early(Some(at(91)), at(169)) && !hearing.early(Some(at(91)), at(170)));
        // A single one that comes and goes says nothing of the others.
        hearing.stream(true, false, at(180));
        hearing.stream(false, true, at(181));
        assert!(!hearing.early(Some(at(91)), at(182)));
    }
}
