//! How the number of leases of each set of ranges grew over the last hour. Pure: times are those of what was read.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::host::{Lease, RangeSet};

/// How far back is remembered: what a rollout does to a range is over by then.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// From one count to the next: 61 of them make the window.
const EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Nothing follows from less, and what was concluded stands as long: else every count would be another text.
const STEP: SignedDuration = SignedDuration::from_mins(10);

/// Counts of leases, by set of ranges; as many sets as are handed out of now.
#[derive(Debug, Clone, Default)]
pub struct LeaseHistory {
    sets: Vec<SetHistory>,
    growth: Vec<LeaseGrowth>,
    last: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct SetHistory {
    network: String,
    set: RangeSet,
    counts: VecDeque<(Timestamp, u128)>,
}

/// By how much the leases of a set grew. It is concluded every 10 minutes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseGrowth {
    /// Name of the CNI network.
    pub network: String,
    /// The set.
    pub set: RangeSet,
    /// When it was concluded.
    pub at: Timestamp,
    /// How long before that the leases were first counted: 10 minutes to an hour.
    pub over: SignedDuration,
    /// How many leases there were then.
    pub before: u128,
    /// How many there were at `at`.
    pub now: u128,
}

impl LeaseHistory {
    /// Whether leases read at `at` are to be counted: a minute after those before them, or where the clock was set back.
    pub fn is_due(&self, at: Timestamp) -> bool {
        self.last
            .is_none_or(|last| at < last || at.duration_since(last) >= EVERY)
    }

    /// Counts the leases of a network that were read at `at`, if they are due. What was counted of other sets is forgotten.
    pub fn note(&mut self, network: &str, sets: &[RangeSet], leases: &[Lease], at: Timestamp) {
        if !self.is_due(at) {
            return;
        }
        if self.last.is_some_and(|last| at < last) {
            // No time between then and now is known.
            *self = Self::default();
        }
        self.last = Some(at);
        let mut known = std::mem::take(&mut self.sets);
        for set in sets {
            let same = known
                .iter()
                .position(|history| history.network == network && history.set == *set);
            let mut history = same.map_or_else(
                || SetHistory {
                    network: network.to_owned(),
                    set: set.clone(),
                    counts: VecDeque::new(),
                },
                |index| known.swap_remove(index),
            );
            let of_set = leases
                .iter()
                .filter(|lease| lease.network == network && set.contains(lease.address));
            history.count(of_set.count() as u128, at);
            self.sets.push(history);
        }
        let before = std::mem::take(&mut self.growth);
        self.growth = self
            .sets
            .iter()
            .filter_map(|history| history.conclude(&before))
            .collect();
    }

    /// What was last concluded, for every set that has been watched for 10 minutes.
    pub fn growth(&self) -> &[LeaseGrowth] {
        &self.growth
    }
}

impl SetHistory {
    fn count(&mut self, leases: u128, at: Timestamp) {
        while let Some((first, _)) = self.counts.front()
            && at.duration_since(*first) > WINDOW
        {
            self.counts.pop_front();
        }
        self.counts.push_back((at, leases));
    }

    /// What stands, or what follows now.
    fn conclude(&self, concluded: &[LeaseGrowth]) -> Option<LeaseGrowth> {
        let (first, before) = *self.counts.front()?;
        let (at, now) = *self.counts.back()?;
        let stands = concluded
            .iter()
            .find(|growth| growth.network == self.network && growth.set == self.set)
            .filter(|growth| at.duration_since(growth.at) < STEP);
        if let Some(stands) = stands {
            return Some(stands.clone());
        }
        let over = at.duration_since(first);
        (over >= STEP).then(|| LeaseGrowth {
            network: self.network.clone(),
            set: self.set.clone(),
            at,
            over,
            before,
            now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn set(range: &str) -> RangeSet {
        RangeSet::whole(range.parse().unwrap()).unwrap()
    }

    fn leases(count: u8) -> Vec<Lease> {
        let lease = |number: u8| Lease {
            network: "cbr0".into(),
            directory: "/var/lib/cni/networks/cbr0".into(),
            address: [10, 244, 1, number].into(),
            container: String::new(),
            given_at: None,
        };
        (2..2 + count).map(lease).collect()
    }

    fn note(history: &mut LeaseHistory, minute: i64, count: u8) {
        history.note("cbr0", &[set("10.244.1.0/24")], &leases(count), at(minute));
    }

    /// The minute of the conclusion, the minutes it is over, and both counts.
    fn seen(history: &LeaseHistory) -> Option<(i64, i64, u128, u128)> {
        let [growth] = history.growth() else { return None };
        Some((
            growth.at.as_second() / 60,
            growth.over.as_mins(),
            growth.before,
            growth.now,
        ))
    }

    #[test]
    fn nothing_follows_before_ten_minutes_and_what_follows_stands_for_ten() {
        let mut history = LeaseHistory::default();
        for minute in 0..10 {
            note(&mut history, minute, 3);
            assert_eq!(seen(&history), None);
        }
        note(&mut history, 10, 5);
        assert_eq!(seen(&history), Some((10, 10, 3, 5)));
        for minute in 11..20 {
            note(&mut history, minute, 40);
            assert_eq!(seen(&history), Some((10, 10, 3, 5)));
        }
        note(&mut history, 20, 41);
        assert_eq!(seen(&history), Some((20, 20, 3, 41)));
    }

    #[test]
    fn an_hour_is_remembered_and_no_more_than_one_count_a_minute() {
        let mut history = LeaseHistory::default();
        for second in (0..3 * 3600).step_by(10) {
            let time = Timestamp::from_second(second).unwrap();
            let count = u8::try_from(second / 600).unwrap();
            history.note("cbr0", &[set("10.244.1.0/24")], &leases(count), time);
            assert!(history.sets[0].counts.len() <= 61);
        }
        assert_eq!(seen(&history), Some((170, 60, 11, 17)));
    }

    #[test]
    fn another_range_begins_anew_and_other_networks_do_not_count() {
        let mut history = LeaseHistory::default();
        note(&mut history, 0, 3);
        note(&mut history, 10, 3);
        history.note("cbr0", &[set("10.244.9.0/24")], &leases(9), at(11));
        assert_eq!((history.growth(), history.sets.len()), (&[][..], 1));
        history.note("cbr0", &[set("10.244.9.0/24")], &leases(9), at(21));
        assert_eq!(seen(&history), Some((21, 10, 0, 0)));
        history.note("podman", &[set("10.244.1.0/24")], &leases(9), at(22));
        history.note("podman", &[set("10.244.1.0/24")], &leases(9), at(32));
        assert_eq!(seen(&history), Some((32, 10, 0, 0)));
    }

    #[test]
    fn after_a_clock_that_was_set_back_or_an_agent_that_slept_it_begins_anew() {
        let mut history = LeaseHistory::default();
        note(&mut history, 100, 3);
        note(&mut history, 110, 5);
        note(&mut history, 50, 6);
        assert_eq!(seen(&history), None);
        note(&mut history, 60, 8);
        assert_eq!(seen(&history), Some((60, 10, 6, 8)));
        note(&mut history, 300, 9);
        assert_eq!(seen(&history), None);
    }

    #[test]
    fn both_families_of_a_network_are_counted_apart() {
        let mut history = LeaseHistory::default();
        let sets = [set("10.244.1.0/24"), set("fd00:1::/64")];
        let mut all = leases(2);
        history.note("cbr0", &sets, &all, at(0));
        all[1].address = "fd00:1::7".parse().unwrap();
        history.note("cbr0", &sets, &all, at(10));
        let counts: Vec<_> = history
            .growth()
            .iter()
            .map(|growth| (growth.before, growth.now))
            .collect();
        assert_eq!(counts, [(2, 1), (0, 1)]);
    }
}
