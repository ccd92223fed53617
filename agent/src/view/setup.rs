//! How pod sandboxes are set up on a host: each of them, as the runtime's log tells it, and all of them, as runtime and
//! kubelet count them. Evidence of a fault that is known otherwise, never a fault of its own.

use std::time::Duration;

use cidrift_proto::facts::SetupSpan;
use jiff::{SignedDuration, Timestamp};

use super::host::Program;

/// What is told is told of these last spans: what is wrong now, and what is usual.
pub const SPANS: [SignedDuration; 2] = [SignedDuration::from_mins(10), SignedDuration::from_hours(1)];

/// With fewer samples the 95th percentile by nearest rank is the largest of them, which is told anyway.
const PERCENTILE_FROM: usize = 20;

/// What the runtime's log tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setups {
    /// Since when each one is known.
    pub since: Option<Timestamp>,
    /// The last ten minutes, the last hour.
    pub spans: Vec<SetupSpan>,
    /// Sandboxes that were asked for a while ago and have neither come nor failed.
    pub waiting: u32,
    /// When the first of these was asked for.
    pub waiting_since: Option<Timestamp>,
}

/// How one try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// It got its sandbox.
    pub made: bool,
    /// How long that took; `None`: when it began is not known.
    pub took: Option<Duration>,
}

/// Sums up the tries that ended within a span.
pub fn span(length: SignedDuration, tries: impl Iterator<Item = Ended>) -> SetupSpan {
    let mut span = SetupSpan {
        seconds: u32::try_from(length.as_secs()).unwrap_or(u32::MAX),
        ..SetupSpan::default()
    };
    let mut times = Vec::new();
    for ended in tries {
        let took = ended.took.map(millis);
        if ended.made {
            span.made += 1;
            times.extend(took);
        } else {
            span.failed += 1;
            span.slowest_failed_ms = span.slowest_failed_ms.max(took);
        }
    }
    times.sort_unstable();
    let rank = |percent: usize| {
        times
            .get((times.len() * percent).div_ceil(100).saturating_sub(1))
            .copied()
    };
    span.median_ms = rank(50);
    span.slowest_ms = times.last().copied();
    span.percentile_95_ms = rank(95).filter(|_| times.len() >= PERCENTILE_FROM);
    span
}

/// In milliseconds, as it is told.
pub fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// What a program's own metrics say of setting up sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Whose.
    pub program: Program,
    /// What it counts.
    pub of: Counting,
    /// Since the program started.
    pub total: Counted,
    /// Since that reading, which is as far back as the shorter of [`SPANS`] if it can be; `None` before there are two.
    pub grown: Option<(Timestamp, Counted)>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Calls that set up a pod's network: pods of the host's network have none.
    Networks,
    /// Calls that make a sandbox.
    Sandboxes,
}

/// Calls of one kind, those that failed among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// Calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long all of them took together.
    pub micros: u64,
    /// By how long they took: those of at most so many microseconds, cumulative, shortest first. The last one, of
    /// `u64::MAX`, counts all. Empty where the program has no histogram.
    pub within: Vec<(u64, u64)>,
}

impl Counted {
    /// What came since `before`; a program that started anew has counted from 0 since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let anew = self.calls < before.calls || self.failed < before.failed;
        let edges = |counted: &Self| counted.within.iter().map(|(edge, _)| *edge).collect::<Vec<_>>();
        if anew || edges(self) != edges(before) && !before.within.is_empty() {
            return self.clone();
        }
        let earlier = |at: usize| before.within.get(at).map_or(0, |(_, count)| *count);
        let within = self.within.iter().enumerate();
        Self {
            calls: self.calls - before.calls,
            failed: self.failed - before.failed,
            micros: self.micros.saturating_sub(before.micros),
            within: within
                .map(|(at, (edge, count))| (*edge, count.saturating_sub(earlier(at))))
                .collect(),
        }
    }

    /// Both together, of the same program.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let longer = if self.within.len() < other.within.len() {
            other
        } else {
            self
        };
        let at = |counted: &Self, at: usize| counted.within.get(at).map_or(0, |(_, count)| *count);
        let within = longer.within.iter().enumerate();
        Self {
            calls: self.calls.saturating_add(other.calls),
            failed: self.failed.saturating_add(other.failed),
            micros: self.micros.saturating_add(other.micros),
            within: within
                .map(|(index, (edge, _))| (*edge, at(self, index).saturating_add(at(other, index))))
                .collect(),
        }
    }

    /// How long a call took on average.
    pub fn mean(&self) -> Option<Duration> {
        self.micros.checked_div(self.calls).map(Duration::from_micros)
    }

    /// How long the slowest call took at most, by the histogram: `Err` with the last edge where it was longer than that.
    pub fn slowest(&self) -> Option<Result<Duration, Duration>> {
        let all = self.within.last().map(|(_, count)| *count).filter(|count| *count > 0)?;
        let (edge, _) = self.within.iter().find(|(_, count)| *count >= all)?;
        if *edge != u64::MAX {
            return Some(Ok(Duration::from_micros(*edge)));
        }
        let finite = self.within.iter().rev().find(|(edge, _)| *edge != u64::MAX)?;
        Some(Err(Duration::from_micros(finite.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(millis: u64) -> Ended {
        Ended {
            made: true,
            took: Some(Duration::from_millis(millis)),
        }
    }

    fn failed(millis: u64) -> Ended {
        Ended {
            made: false,
            ..made(millis)
        }
    }

    #[test]
    fn figures_are_times_that_were_seen() {
        let tries = [made(400), made(41_000), made(90), made(300), failed(4_000)];
        let all = span(SPANS[0], tries.into_iter());
        assert_eq!((all.seconds, all.made, all.failed), (600, 4, 1));
        assert_eq!((all.median_ms, all.slowest_ms), (Some(300), Some(41_000)));
        assert_eq!(all.slowest_failed_ms, Some(4_000));
        assert_eq!(all.percentile_95_ms, None, "of four it would be the slowest");
        let all = span(SPANS[0], (1..=20).map(|second| made(second * 1000)));
        assert_eq!(all.percentile_95_ms, Some(19_000));
    }

    #[test]
    fn what_has_no_time_is_counted_all_the_same() {
        let untimed = |made| Ended { made, took: None };
        let all = span(SPANS[1], [untimed(true), untimed(false), untimed(false)].into_iter());
        assert_eq!((all.made, all.failed, all.median_ms), (1, 2, None));
    }

    fn counted(calls: u64, failed: u64, within: &[(u64, u64)]) -> Counted {
        Counted {
            calls,
            failed,
            micros: calls * 100_000,
            within: within.to_vec(),
        }
    }

    #[test]
    fn what_came_since_is_known_also_of_a_program_that_started_anew() {
        let before = counted(10, 2, &[(5_000, 1), (u64::MAX, 10)]);
        let now = counted(13, 2, &[(5_000, 1), (u64::MAX, 13)]);
        assert_eq!(now.since(&before), counted(3, 0, &[(5_000, 0), (u64::MAX, 3)]));
        let anew = counted(4, 4, &[(5_000, 4), (u64::MAX, 4)]);
        assert_eq!(anew.since(&before), anew);
        assert_eq!(now.since(&before).mean(), Some(Duration::from_millis(100)));
        assert_eq!(Counted::default().mean(), None);
    }

    #[test]
    fn the_slowest_lies_between_two_edges_or_beyond_the_last() {
        let slowest = |within: &[(u64, u64)]| counted(3, 0, within).slowest();
        let edges = [(5_000, 1), (10_000_000, 3), (u64::MAX, 3)];
        assert_eq!(slowest(&edges), Some(Ok(Duration::from_secs(10))));
        let edges = [(5_000, 1), (10_000_000, 2), (u64::MAX, 3)];
        assert_eq!(slowest(&edges), Some(Err(Duration::from_secs(10))));
        assert_eq!(slowest(&[]), None);
        assert_eq!(slowest(&[(5_000, 0), (u64::MAX, 0)]), None);
    }

    proptest! {
        #[test]
        fn sums_and_differences_never_wrap(
            a in any::<(u64, u64, u64)>(), b in any::<(u64, u64, u64)>(),
            within in prop::collection::vec(any::<(u64, u64)>(), 0..4), other in prop::collection::vec(any::<(u64, u64)>(), 0..4),
        ) {
            let of = |(calls, failed, micros), within| Counted { calls, failed, micros, within };
            let (a, b) = (of(a, within), of(b, other));
            let _ = (a.since(&b), a.plus(&b), a.slowest(), a.mean());
        }
    }
}
