//! When a line was written. klog names neither year nor zone: both are the host's.

use std::path::Path;

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::observe::root::HostRoot;

/// The largest zone of tzdata's 2026 edition has 3.5 KiB.
const ZONE: u64 = 64 << 10;

/// A line that says to be written later than this was written last year.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Reads times of lines.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// When it is read.
    pub(super) now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    pub(super) fn new(now: Timestamp, zone: TimeZone) -> Self {
        Self { now, zone }
    }

    /// klog's "1125 07:01:02.123456".
    pub(super) fn klog(&self, text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        let shape = bytes.len() == 20 && bytes[4] == b' ' && bytes[7] == b':' && bytes[10] == b':' && bytes[13] == b'.';
        if !shape {
            return None;
        }
        let small = |at: std::ops::Range<usize>| text.get(at)?.parse::<i8>().ok().filter(|number| *number >= 0);
        let micros: i32 = text.get(14..20)?.parse().ok().filter(|number| *number >= 0)?;
        let (month, day) = (small(0..2)?, small(2..4)?);
        let (hour, minute, second) = (small(5..7)?, small(8..10)?, small(11..13)?);
        let year = self.zone.to_datetime(self.now).year();
        // The newest year in which it is not in the future: at new year's night that may be the next one already.
        [year.saturating_add(1), year, year.saturating_sub(1)]
            .into_iter()
            .filter_map(|year| {
                let day = jiff::civil::Date::new(year, month, day).unwrap_or(date(1, 1, 1));
                let time = jiff::civil::Time::new(hour, minute, second, micros * 1000).ok()?;
                let known = day.year() == year && day.month() == month;
                let zoned = known.then(|| day.to_datetime(time).to_zoned(self.zone.clone()))?;
                zoned.ok().map(|zoned| zoned.timestamp())
            })
            .find(|at| self.now.checked_add(AHEAD).is_ok_and(|limit| *at <= limit))
    }

    /// RFC 3339, with a `T` or a blank (CRI-O) in the middle.
    pub(super) fn rfc3339(&self, text: &str) -> Option<Timestamp> {
        text.parse().ok()
    }

    /// klog's JSON: milliseconds since 1970, with a fraction.
    pub(super) fn millis(&self, value: f64) -> Option<Timestamp> {
        let whole = value.is_finite().then_some(value * 1000.0)?;
        // Microseconds of any year that jiff knows fit into an i64; casts saturate.
        Timestamp::from_microsecond(whole as i64).ok()
    }
}

/// The host's zone; UTC where it names none.
pub(super) fn zone(root: &HostRoot) -> TimeZone {
    let read = root.read(Path::new("/etc/localtime"), ZONE).ok();
    let zone = read.and_then(|(bytes, _)| TimeZone::tzif("host", &bytes).ok());
    zone.unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn klogs_year_is_the_newest_in_which_the_line_is_not_in_the_future() {
        let cases = [
            (
                "2026-11-25T07:30:00Z",
                "1125 07:01:02.123456",
                Some("2026-11-25T07:01:02.123456Z"),
            ),
            (
                "2027-01-01T00:00:05Z",
                "1231 23:59:59.000001",
                Some("2026-12-31T23:59:59.000001Z"),
            ),
            (
                "2026-12-31T23:59:59Z",
                "0101 00:00:00.000000",
                Some("2027-01-01T00:00:00Z"),
            ),
            ("2026-03-01T00:00:00Z", "0229 10:00:00.000000", None),
            (
                "2028-03-01T00:00:00Z",
                "0229 10:00:00.000000",
                Some("2028-02-29T10:00:00Z"),
            ),
            ("2026-11-25T07:30:00Z", "1325 07:01:02.123456", None),
            ("2026-11-25T07:30:00Z", "1125 07:01:02", None),
            ("2026-11-25T07:30:00Z", "11-5 07:01:02.123456", None),
        ];
        for (now, text, expected) in cases {
            let clock = Clock::new(at(now), TimeZone::UTC);
            assert_eq!(clock.klog(text), expected.map(at), "{text} at {now}");
        }
    }

    #[test]
    fn klogs_zone_is_the_hosts() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let clock = Clock::new(at("2026-06-25T07:30:00Z"), zone);
        assert_eq!(clock.klog("0625 09:01:02.000000"), Some(at("2026-06-25T07:01:02Z")));
    }

    #[test]
    fn containerds_and_crios_times_are_understood() {
        let clock = Clock::new(at("2026-06-25T07:30:00Z"), TimeZone::UTC);
        for text in ["2026-06-25T07:22:02.894414619Z", "2026-06-25 09:22:02.894414619+02:00"] {
            assert_eq!(
                clock.rfc3339(text),
                Some(at("2026-06-25T07:22:02.894414619Z")),
                "{text}"
            );
        }
        assert_eq!(clock.millis(1_782_372_122_894.4), Some(at("2026-06-25T07:22:02.8944Z")));
        assert_eq!(clock.millis(f64::NAN), None);
        assert_eq!(clock.millis(f64::MAX), None);
    }
}
