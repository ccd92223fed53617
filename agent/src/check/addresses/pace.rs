//! How the leases of a set grew, in words, and when it is full if they go on so.

use jiff::SignedDuration;

use crate::view::growth::LeaseGrowth;

/// A pace says nothing of what is further away.
const FAR_DAYS: u128 = 30;

/// "10.244.1.1-10.244.1.254 grew by 30 leases in the last 50 min; at that pace it is full in about 4 h".
pub(super) fn words(growth: &LeaseGrowth) -> String {
    let (set, window) = (&growth.set, window(growth.over));
    let Some(grown) = growth.now.checked_sub(growth.before).filter(|grown| *grown > 0) else {
        return format!("{set} did not grow in the last {window}");
    };
    let leases = if grown == 1 { "lease" } else { "leases" };
    let mut words = format!("{set} grew by {grown} {leases} in the last {window}");
    let left = set.usable().saturating_sub(growth.now);
    if let Some(when) = full_in(left, grown, growth.over) {
        words += &format!("; at that pace it is full in about {when}");
    }
    words
}

/// To 10 minutes: "20 min", "hour".
fn window(over: SignedDuration) -> String {
    match tens(over.as_secs().unsigned_abs().into()) {
        60.. => "hour".to_owned(),
        minutes => format!("{minutes} min"),
    }
}

/// `None` where it is full, or will not be for long.
fn full_in(left: u128, grown: u128, over: SignedDuration) -> Option<String> {
    if left == 0 {
        return None;
    }
    let seconds = left.checked_mul(over.as_secs().unsigned_abs().into())? / grown;
    let hours = (seconds + 1800) / 3600;
    match (tens(seconds), hours) {
        (minutes @ ..60, _) => Some(format!("{} min", minutes.max(10))),
        (_, hours @ ..48) => Some(format!("{hours} h")),
        (_, hours) => Some((hours + 12) / 24)
            .filter(|days| *days <= FAR_DAYS)
            .map(|days| format!("{days} days")),
    }
}

/// Seconds as minutes, to the nearest ten.
fn tens(seconds: u128) -> u128 {
    (seconds + 300) / 600 * 10
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::view::host::RangeSet;

    fn say(range: &str, minutes: i64, before: u128, now: u128) -> String {
        words(&LeaseGrowth {
            network: "cbr0".into(),
            set: RangeSet::whole(range.parse().unwrap()).unwrap(),
            at: Timestamp::UNIX_EPOCH,
            over: SignedDuration::from_mins(minutes),
            before,
            now,
        })
    }

    #[test]
    fn a_pace_is_told_to_what_it_is_good_for() {
        let range = "10.244.1.0/24";
        let set = "10.244.1.1-10.244.1.254";
        for (minutes, before, now, wanted) in [
            (
                52,
                50,
                80,
                "grew by 30 leases in the last 50 min; at that pace it is full in about 5 h",
            ),
            (
                60,
                100,
                229,
                "grew by 129 leases in the last hour; at that pace it is full in about 10 min",
            ),
            (
                11,
                0,
                200,
                "grew by 200 leases in the last 10 min; at that pace it is full in about 10 min",
            ),
            (
                60,
                200,
                235,
                "grew by 35 leases in the last hour; at that pace it is full in about 30 min",
            ),
            (
                60,
                199,
                200,
                "grew by 1 lease in the last hour; at that pace it is full in about 2 days",
            ),
            (60, 240, 253, "grew by 13 leases in the last hour"),
            (60, 240, 240, "did not grow in the last hour"),
            (24, 240, 230, "did not grow in the last 20 min"),
        ] {
            assert_eq!(say(range, minutes, before, now), format!("{set} {wanted}"));
        }
    }

    #[test]
    fn a_range_without_an_end_is_never_full() {
        let words = say("fd00:1::/64", 60, 0, 30);
        assert!(words.ends_with(" grew by 30 leases in the last hour"), "{words}");
        assert!(say("::/0", 60, 0, 1).ends_with(" grew by 1 lease in the last hour"));
    }
}
