//! How pod sandboxes are set up on a host: by the runtime's log, and by what runtime and kubelet count.

use jiff::Timestamp;
use serde::Serialize;

use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

/// What is known of it. It only shows that pods start slowly or fail to, never why: no finding rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetupFacts {
    /// When the newest of it was read.
    pub observed_at: Timestamp,
    /// By the runtime's log; `None`: it tells nothing of it.
    pub logged: Option<LoggedSetups>,
    /// By the metrics of programs, one row for each that offers them.
    pub counted: Vec<CountedSetups>,
}

/// What the runtime's log tells of single sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedSetups {
    /// Where that was read.
    pub source: String,
    /// Since when each one is known.
    pub since: Option<Timestamp>,
    /// The last ten minutes, the last hour.
    pub spans: Vec<SetupSpan>,
    /// Sandboxes that were asked for a while ago and have neither come nor failed.
    pub waiting: u32,
    /// When the first of these was asked for.
    pub waiting_since: Option<Timestamp>,
}

/// The sandboxes whose making ended within the last while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SetupSpan {
    /// How long that is, in seconds.
    pub seconds: u32,
    /// Sandboxes that were made, those of the host's network among them.
    pub made: u32,
    /// Tries that failed: one pod may have many.
    pub failed: u32,
    /// How long half of those made took at most, in milliseconds: one that was really seen, the lower of the two in the
    /// middle.
    pub median_ms: Option<u32>,
    /// How long 95 of 100 took at most; `None` with too few of them.
    pub percentile_95_ms: Option<u32>,
    /// How long the slowest of those made took.
    pub slowest_ms: Option<u32>,
    /// How long the slowest failure took.
    pub slowest_failed_ms: Option<u32>,
}

/// What a program's own metrics say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedSetups {
    /// "containerd", "crio", "kubelet".
    pub program: String,
    /// Where they were read.
    pub source: String,
    /// When.
    pub observed_at: Timestamp,
    /// What it counts: calls that set up a pod's network, else calls for a whole sandbox.
    pub networks: bool,
    /// Since the program started.
    pub total: SetupCounts,
    /// Since a reading some minutes before; `None`: there was none.
    pub grown: Option<GrownSetups>,
}

/// What came since a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GrownSetups {
    /// When that was.
    pub since: Timestamp,
    /// What came.
    pub counts: SetupCounts,
}

/// Calls of one kind, those that failed among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SetupCounts {
    /// Calls.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long a call took on average, in milliseconds.
    pub mean_ms: Option<u32>,
    /// None took longer than this. With neither of these two the program has no histogram.
    pub slowest_within_ms: Option<u32>,
    /// Some took longer than this, and nobody says how long.
    pub slowest_beyond_ms: Option<u32>,
}

/// "0.08 s", "0.4 s", "41 s", of milliseconds.
pub fn seconds(millis: u32) -> String {
    let seconds = f64::from(millis) / 1000.0;
    match millis {
        0..100 => format!("{seconds:.2} s"),
        100..10_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

impl SetupSpan {
    /// "12 sandboxes in 10 min, half of them within 0.4 s, slowest 41 s; 9 tries failed, slowest 4.0 s".
    pub fn words(&self) -> String {
        let mut text = match self.made {
            0 => "no sandbox".to_owned(),
            1 => "1 sandbox".to_owned(),
            made => format!("{made} sandboxes"),
        };
        text += &format!(" in {} min", self.seconds / 60);
        if let Some(median) = self.median_ms.filter(|_| self.made > 1) {
            text += &format!(", half of them within {}", seconds(median));
        }
        if let Some(slowest) = self.slowest_ms {
            text += &format!(", slowest {}", seconds(slowest));
        }
        if self.failed > 0 {
            let tries = if self.failed == 1 { "try" } else { "tries" };
            text += &format!("; {} {tries} failed", self.failed);
            if let Some(slowest) = self.slowest_failed_ms {
                text += &format!(", slowest {}", seconds(slowest));
            }
        }
        text
    }
}

impl LoggedSetups {
    /// The shortest span in which anything ended.
    pub fn lately(&self) -> Option<&SetupSpan> {
        self.spans.iter().find(|span| span.made > 0 || span.failed > 0)
    }

    /// "2 that were asked for since 2026-11-25T15:49:00Z have neither come nor failed".
    pub fn waits(&self) -> Option<String> {
        let since = |word: &str| {
            self.waiting_since
                .map(|at| format!(" {word} {at:.0}"))
                .unwrap_or_default()
        };
        match self.waiting {
            0 => None,
            1 => Some(format!(
                "1 that was asked for{} has neither come nor failed",
                since("at")
            )),
            many => Some(format!(
                "{many} that were asked for{} have neither come nor failed",
                since("since")
            )),
        }
    }
}

impl CountedSetups {
    /// "6 calls to set up a pod's network since it started: 1 failed, 0.02 s on average, none longer than 0.05 s".
    pub fn words(&self) -> String {
        let what = match self.networks {
            true => "set up a pod's network",
            false => "make a sandbox",
        };
        let calls = |count: u64| if count == 1 { "call" } else { "calls" };
        let total = self.total.calls;
        let mut text = format!("{total} {} to {what} since it started", calls(total));
        text += &self.total.words();
        if let Some(grown) = &self.grown {
            let minutes = self.observed_at.duration_since(grown.since).as_mins();
            text += &format!("; {} in the last {minutes} min", grown.counts.calls);
            text += &grown.counts.words();
        }
        text
    }
}

impl SetupCounts {
    fn words(&self) -> String {
        if self.calls == 0 {
            return String::new();
        }
        let mut text = match self.failed {
            0 => ": none failed".to_owned(),
            failed => format!(": {failed} failed"),
        };
        if let Some(mean) = self.mean_ms {
            text += &format!(", {} on average", seconds(mean));
        }
        if let Some(edge) = self.slowest_within_ms {
            text += &format!(", none longer than {}", seconds(edge));
        }
        if let Some(edge) = self.slowest_beyond_ms {
            text += &format!(", the slowest longer than {}", seconds(edge));
        }
        text
    }
}

impl From<&SetupFacts> for v1::SandboxSetups {
    fn from(facts: &SetupFacts) -> Self {
        Self {
            observed_at: Some(to_wire(facts.observed_at)),
            logged: facts.logged.as_ref().map(Into::into),
            counted: facts.counted.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<&v1::SandboxSetups> for SetupFacts {
    type Error = Malformed;

    fn try_from(wire: &v1::SandboxSetups) -> Result<Self, Malformed> {
        Ok(Self {
            observed_at: wire
                .observed_at
                .and_then(from_wire)
                .ok_or(Malformed::Missing("setups.observed_at"))?,
            logged: wire.logged.as_ref().map(Into::into),
            counted: wire.counted.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&LoggedSetups> for v1::LoggedSetups {
    fn from(logged: &LoggedSetups) -> Self {
        let span = |span: &SetupSpan| v1::SetupSpan {
            seconds: span.seconds,
            made: span.made,
            failed: span.failed,
            median_ms: span.median_ms,
            percentile_95_ms: span.percentile_95_ms,
            slowest_ms: span.slowest_ms,
            slowest_failed_ms: span.slowest_failed_ms,
        };
        Self {
            source: logged.source.clone(),
            since: logged.since.map(to_wire),
            spans: logged.spans.iter().map(span).collect(),
            waiting: logged.waiting,
            waiting_since: logged.waiting_since.map(to_wire),
        }
    }
}

impl From<&v1::LoggedSetups> for LoggedSetups {
    fn from(wire: &v1::LoggedSetups) -> Self {
        let span = |span: &v1::SetupSpan| SetupSpan {
            seconds: span.seconds,
            made: span.made,
            failed: span.failed,
            median_ms: span.median_ms,
            percentile_95_ms: span.percentile_95_ms,
            slowest_ms: span.slowest_ms,
            slowest_failed_ms: span.slowest_failed_ms,
        };
        Self {
            source: wire.source.clone(),
            since: wire.since.and_then(from_wire),
            spans: wire.spans.iter().map(span).collect(),
            waiting: wire.waiting,
            waiting_since: wire.waiting_since.and_then(from_wire),
        }
    }
}

impl From<&CountedSetups> for v1::CountedSetups {
    fn from(counted: &CountedSetups) -> Self {
        Self {
            program: counted.program.clone(),
            source: counted.source.clone(),
            observed_at: Some(to_wire(counted.observed_at)),
            networks: counted.networks,
            total: Some(counted.total.into()),
            grown: counted.grown.map(|grown| grown.counts.into()),
            grown_since: counted.grown.map(|grown| to_wire(grown.since)),
        }
    }
}

impl TryFrom<&v1::CountedSetups> for CountedSetups {
    type Error = Malformed;

    fn try_from(wire: &v1::CountedSetups) -> Result<Self, Malformed> {
        let since = wire.grown_since.and_then(from_wire);
        Ok(Self {
            program: wire.program.clone(),
            source: wire.source.clone(),
            observed_at: wire
                .observed_at
                .and_then(from_wire)
                .ok_or(Malformed::Missing("setups.counted.observed_at"))?,
            networks: wire.networks,
            total: wire.total.as_ref().map(Into::into).unwrap_or_default(),
            grown: since.zip(wire.grown.as_ref()).map(|(since, counts)| GrownSetups {
                since,
                counts: counts.into(),
            }),
        })
    }
}

impl From<SetupCounts> for v1::SetupCounts {
    fn from(counts: SetupCounts) -> Self {
        Self {
            calls: counts.calls,
            failed: counts.failed,
            mean_ms: counts.mean_ms,
            slowest_within_ms: counts.slowest_within_ms,
            slowest_beyond_ms: counts.slowest_beyond_ms,
        }
    }
}

impl From<&v1::SetupCounts> for SetupCounts {
    fn from(wire: &v1::SetupCounts) -> Self {
        Self {
            calls: wire.calls,
            failed: wire.failed,
            mean_ms: wire.mean_ms,
            slowest_within_ms: wire.slowest_within_ms,
            slowest_beyond_ms: wire.slowest_beyond_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn facts() -> SetupFacts {
        let counts = |calls, failed| SetupCounts {
            calls,
            failed,
            mean_ms: Some(17),
            slowest_within_ms: Some(50),
            slowest_beyond_ms: None,
        };
        SetupFacts {
            observed_at: at(9),
            logged: Some(LoggedSetups {
                source: "/var/log/containerd.log".into(),
                since: Some(at(-900)),
                spans: vec![SetupSpan {
                    seconds: 600,
                    made: 12,
                    failed: 9,
                    median_ms: Some(412),
                    percentile_95_ms: None,
                    slowest_ms: Some(41_300),
                    slowest_failed_ms: Some(4_000),
                }],
                waiting: 2,
                waiting_since: Some(at(-60)),
            }),
            counted: vec![CountedSetups {
                program: "containerd".into(),
                source: "containerd's metrics at 127.0.0.1:1338".into(),
                observed_at: at(8),
                networks: true,
                total: counts(6, 1),
                grown: Some(GrownSetups {
                    since: at(-592),
                    counts: counts(1, 0),
                }),
            }],
        }
    }

    #[test]
    fn they_survive_the_wire() {
        assert_eq!(SetupFacts::try_from(&v1::SandboxSetups::from(&facts())), Ok(facts()));
        let bare = SetupFacts {
            logged: None,
            counted: vec![CountedSetups {
                grown: None,
                ..facts().counted.remove(0)
            }],
            ..facts()
        };
        assert_eq!(SetupFacts::try_from(&v1::SandboxSetups::from(&bare)), Ok(bare));
    }

    #[test]
    fn a_time_that_is_missing_is_refused() {
        let mut wire = v1::SandboxSetups::from(&facts());
        wire.observed_at = None;
        let missing = Err(Malformed::Missing("setups.observed_at"));
        assert_eq!(SetupFacts::try_from(&wire), missing);
        let mut wire = v1::SandboxSetups::from(&facts());
        wire.counted[0].observed_at = None;
        assert!(SetupFacts::try_from(&wire).is_err());
    }

    #[test]
    fn people_read_them_in_a_line_each() {
        let facts = facts();
        let logged = facts.logged.unwrap();
        assert_eq!(
            logged.lately().unwrap().words(),
            "12 sandboxes in 10 min, half of them within 0.4 s, slowest 41 s; 9 tries failed, slowest 4.0 s"
        );
        assert_eq!(
            logged.waits().unwrap(),
            "2 that were asked for since 2026-09-21T14:12:20Z have neither come nor failed"
        );
        assert_eq!(
            facts.counted[0].words(),
            "6 calls to set up a pod's network since it started: 1 failed, 0.02 s on average, none longer than 0.05 s; \
             1 in the last 10 min: none failed, 0.02 s on average, none longer than 0.05 s"
        );
        let none = SetupSpan {
            seconds: 3600,
            ..SetupSpan::default()
        };
        assert_eq!(none.words(), "no sandbox in 60 min");
        let one = SetupSpan {
            made: 1,
            failed: 1,
            slowest_ms: Some(80),
            median_ms: Some(80),
            ..none
        };
        assert_eq!(one.words(), "1 sandbox in 60 min, slowest 0.08 s; 1 try failed");
    }
}
