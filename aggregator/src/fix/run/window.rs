//! The time of day within which nodes may be begun.

use std::fmt;
use std::str::FromStr;

use jiff::Zoned;
use jiff::civil::Time;

use super::halt::Halt;
use super::record::Work;
use super::{Eyes, Runner};
use crate::fix::plan::Does;

/// From one time of day to another, over midnight where the end comes first; in the time zone of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
}

impl Window {
    /// Whether `now` lies within it; its end does not.
    pub fn open(&self, now: &Zoned) -> bool {
        let time = now.time();
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no window: give it as 22:00-06:00");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| wrong());
        let window = Self {
            from: time(from)?,
            to: time(to)?,
        };
        if window.from == window.to {
            return Err(format!("{text:?} has no length"));
        }
        Ok(window)
    }
}

impl<E: Eyes> Runner<'_, E> {
    /// Whether it is time to begin a node, or to go on with one that another program has begun.
    pub(super) fn timely(&self, node: &str, verb: &str) -> Result<(), Halt> {
        match &self.settings.window {
            Some(window) if !window.open(&Zoned::now()) => Err(Halt::Closed(format!(
                "{node} is not {verb} outside of the window {window}"
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether a node that was begun may stay as it is until a window opens: it is at its first step, or yet to be taken away.
/// One that is gone may not; nor one that was made anew and is drained: it would stay cordoned for nothing.
pub(super) fn may_wait(work: &Work, gone: bool) -> bool {
    let mut left = work.plan.steps.iter().skip(work.at);
    let takes = |does: &Does| match does {
        Does::Cordon | Does::Drain => true,
        Does::Recreate | Does::Rotate => !work.swapped(),
        _ => false,
    };
    !gone && (work.at == 0 || left.any(|step| takes(&step.does)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: &str, time: &str) -> bool {
        let now: Zoned = format!("2026-11-30T{time}[UTC]").parse().unwrap();
        window.parse::<Window>().unwrap().open(&now)
    }

    #[test]
    fn it_may_go_over_midnight_and_its_end_is_outside() {
        for (time, within) in [
            ("21:59:59", false),
            ("22:00", true),
            ("23:30", true),
            ("00:00", true),
            ("05:59", true),
            ("06:00", false),
        ] {
            assert_eq!(open("22:00-06:00", time), within, "{time}");
        }
        assert!(open("09:00-17:30", "17:29") && !open("09:00-17:30", "17:30") && !open("09:00-17:30", "08:59"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "22",
            "22:00",
            "22:00-25:00",
            "22:00-22:00",
            "a-b",
            "22:00-06:00-07:00",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
        assert_eq!(" 22:00 - 6:05".parse::<Window>().unwrap().to_string(), "22:00-06:05");
    }

    #[test]
    fn what_has_taken_its_node_away_does_not_wait() {
        use super::super::tests::work;
        let at = |at, gone| {
            let deleting = gone;
            may_wait(&Work { at, deleting, ..work() }, gone)
        };
        // Cordon, drain, recreate, adopt, verify, uncordon.
        assert!(at(0, false) && at(1, false) && at(2, false));
        assert!(!at(2, true) && !at(3, true) && !at(5, true));
        let decided = Work {
            at: 2,
            deleting: true,
            ..work()
        };
        assert!(may_wait(&decided, false), "it is to be deleted, and is there still");
        let made = |at| {
            let made = Work {
                at,
                deleting: true,
                made: Some("new".to_owned()),
                ..work()
            };
            may_wait(&made, false)
        };
        assert!(!made(2), "it is made, and that the step is over was not written down");
        assert!(!made(3) && !made(5));
        let mut host = work();
        host.plan.steps.remove(2);
        // Its bridge, say, is gone by then.
        host.at = 2;
        assert!(!may_wait(&host, false));
    }

    /// As where no controller manager runs: its pods are there still.
    #[test]
    fn what_was_made_anew_and_is_yet_to_be_drained_waits() {
        use super::super::tests::work;
        let mut late = Work {
            deleting: true,
            made: Some("new".to_owned()),
            ..work()
        };
        // Cordon, recreate, adopt, drain, verify, uncordon.
        let drain = late.plan.steps.remove(1);
        late.plan.steps.insert(3, drain);
        let mut at = |at| {
            late.at = at;
            may_wait(&late, false)
        };
        assert!(at(2) && at(3));
        assert!(!at(4));
    }
}
