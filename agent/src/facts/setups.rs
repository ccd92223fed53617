//! How sandboxes are set up, as it is told.

use std::time::Duration;

use cidrift_proto::facts::{CountedSetups, GrownSetups, LoggedSetups, SetupCounts, SetupFacts};

use crate::view::Host;
use crate::view::host::Observed;
use crate::view::setup::{Counted, Counting, Operations, Setups, millis};

/// What log and metrics tell; `None`: neither tells anything.
pub fn setups(host: &Host) -> Option<SetupFacts> {
    let logged = logged(&host.setups);
    let counted: Vec<CountedSetups> = host.operations.iter().filter_map(counted).collect();
    let log_at = logged.as_ref().map(|_| host.setups.at);
    let newest = counted.iter().map(|row| row.observed_at).chain(log_at).max()?;
    Some(SetupFacts {
        observed_at: newest,
        logged,
        counted,
    })
}

/// What the runtime's log tells.
pub fn logged(observed: &Observed<Setups>) -> Option<LoggedSetups> {
    let setups = observed.get()?;
    Some(LoggedSetups {
        source: observed.source.clone(),
        since: setups.since,
        spans: setups.spans.clone(),
        waiting: setups.waiting,
        waiting_since: setups.waiting_since,
    })
}

fn counted(observed: &Observed<Operations>) -> Option<CountedSetups> {
    let operations = observed.get()?;
    Some(CountedSetups {
        program: operations.program.name().to_owned(),
        source: observed.source.clone(),
        observed_at: observed.at,
        networks: operations.of == Counting::Networks,
        total: counts(&operations.total),
        grown: operations.grown.as_ref().map(|(since, grown)| GrownSetups {
            since: *since,
            counts: counts(grown),
        }),
    })
}

fn counts(counted: &Counted) -> SetupCounts {
    // An edge is told as no less than it is.
    let up = |edge: Duration| millis(edge + Duration::from_micros(999));
    let slowest = counted.slowest();
    SetupCounts {
        calls: counted.calls,
        failed: counted.failed,
        mean_ms: counted.mean().map(millis),
        slowest_within_ms: slowest.and_then(Result::ok).map(up),
        slowest_beyond_ms: slowest.and_then(Result::err).map(millis),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::view::host::{Missing, Program};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_program_that_offers_no_metrics_has_no_row() {
        let mut host = Host::bare(at(0));
        assert_eq!(setups(&host), None);
        let missing = Missing::Absent("nothing listens there".into());
        host.operations
            .push(Observed::missing(at(1), "kubelet's metrics", missing));
        assert_eq!(setups(&host), None);
        let operations = Operations {
            program: Program::Containerd,
            of: Counting::Networks,
            total: Counted {
                calls: 3,
                failed: 1,
                micros: 36_000,
                within: vec![(2_500, 2), (10_000_000, 2), (u64::MAX, 3)],
            },
            grown: None,
        };
        host.operations
            .push(Observed::seen(at(2), "containerd's metrics", operations));
        let facts = setups(&host).unwrap();
        assert_eq!((facts.observed_at, facts.logged, facts.counted.len()), (at(2), None, 1));
        let total = facts.counted[0].total;
        assert_eq!((total.calls, total.failed, total.mean_ms), (3, 1, Some(12)));
        assert_eq!((total.slowest_within_ms, total.slowest_beyond_ms), (None, Some(10_000)));
    }
}
