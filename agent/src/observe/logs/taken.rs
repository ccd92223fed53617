//! The pod CIDR that the kubelet last took over, by its own words.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::view::host::{KubeletCidr, Missing};

/// procfs counts a process's start from a boot time in whole seconds: so much may the two clocks differ.
const STARTED: SignedDuration = SignedDuration::from_secs(2);

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Taken {
    newest: Option<Said>,
    error: Option<(Timestamp, String)>,
    /// The earliest line that was read, with nothing left out since.
    from: Option<Timestamp>,
}

#[derive(Debug)]
struct Said {
    at: Timestamp,
    cidrs: Vec<IpNet>,
    before: Vec<IpNet>,
}

impl Taken {
    /// A line was read.
    pub(super) fn read(&mut self, at: Timestamp) {
        self.from = Some(self.from.map_or(at, |from| from.min(at)));
    }

    /// Whether nothing was read yet since the beginning or a gap.
    pub(super) fn is_new(&self) -> bool {
        self.from.is_none()
    }

    /// Lines were lost: what was said before may be said otherwise in them.
    pub(super) fn gap(&mut self) {
        *self = Self::default();
    }

    /// It took this over.
    pub(super) fn took(&mut self, at: Timestamp, before: Vec<IpNet>, cidrs: Vec<IpNet>) {
        if self.newest.as_ref().is_none_or(|said| said.at <= at) {
            self.newest = Some(Said { at, cidrs, before });
        }
    }

    /// The runtime refused one.
    pub(super) fn refused(&mut self, at: Timestamp, error: &str) {
        if self.error.as_ref().is_none_or(|(known, _)| *known <= at) {
            let text = error.chars().take(600).collect();
            self.error = Some((at, text));
        }
    }

    /// What the kubelet that started then has taken over.
    pub(super) fn cidr(&self, started: Option<Timestamp>) -> Result<KubeletCidr, Missing> {
        let Some(started) = started else {
            return Err(Missing::Absent("when the kubelet started is not known".to_owned()));
        };
        let by_this_one = |at: Timestamp| at.checked_add(STARTED).is_ok_and(|at| at >= started);
        let said = self.newest.as_ref().filter(|said| by_this_one(said.at));
        let after = said.map_or(Timestamp::MIN, |said| said.at);
        let error = self.error.as_ref().filter(|(at, _)| by_this_one(*at) && *at > after);
        match (said, error) {
            (Some(said), error) => Ok(KubeletCidr {
                cidrs: said.cidrs.clone(),
                before: said.before.clone(),
                said_at: said.at,
                error: error.map(|(_, text)| text.clone()),
            }),
            (None, Some((at, text))) => Ok(KubeletCidr {
                cidrs: Vec::new(),
                before: Vec::new(),
                said_at: *at,
                error: Some(text.clone()),
            }),
            (None, None) => Err(Missing::Absent(match self.from {
                Some(from) if !reaches_back(from, started) => {
                    format!(
                        "the log is read from {from:.0} on; the kubelet started at {started:.0} and has named no pod CIDR since"
                    )
                }
                _ => "the kubelet has named no pod CIDR since it started".to_owned(),
            })),
        }
    }
}

/// Whether lines from then on reach back to the start.
fn reaches_back(from: Timestamp, started: Timestamp) -> bool {
    started.checked_add(STARTED).is_ok_and(|limit| from <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_newest_word_of_this_kubelet_counts_in_whatever_order_it_is_read() {
        let mut taken = Taken::default();
        taken.took(at(50), nets(&["10.0.1.0/24"]), nets(&["10.0.2.0/24"]));
        taken.took(at(10), vec![], nets(&["10.0.1.0/24"]));
        let cidr = taken.cidr(Some(at(5))).unwrap();
        assert_eq!(
            (cidr.cidrs, cidr.before),
            (nets(&["10.0.2.0/24"]), nets(&["10.0.1.0/24"]))
        );
    }

    #[test]
    fn what_a_former_kubelet_said_is_unknown_of_this_one() {
        let mut taken = Taken::default();
        taken.read(at(0));
        taken.took(at(10), vec![], nets(&["10.0.1.0/24"]));
        assert!(taken.cidr(Some(at(12))).is_ok(), "clocks differ by up to two seconds");
        let missing = taken.cidr(Some(at(13))).unwrap_err();
        assert_eq!(
            missing,
            Missing::Absent("the kubelet has named no pod CIDR since it started".into())
        );
        assert!(taken.cidr(None).is_err());
    }

    #[test]
    fn a_log_that_does_not_reach_back_says_so() {
        let mut taken = Taken::default();
        taken.read(at(500));
        let Err(Missing::Absent(why)) = taken.cidr(Some(at(0))) else {
            panic!("nothing was said");
        };
        assert!(why.starts_with("the log is read from 2026"), "{why}");
    }

    #[test]
    fn a_gap_makes_what_was_said_before_unknown() {
        let mut taken = Taken::default();
        taken.took(at(10), vec![], nets(&["10.0.1.0/24"]));
        taken.gap();
        assert!(taken.cidr(Some(at(5))).is_err());
    }

    #[test]
    fn a_refusal_counts_until_something_is_taken_over() {
        let mut taken = Taken::default();
        taken.refused(at(10), "failed to update pod CIDR: x");
        let cidr = taken.cidr(Some(at(5))).unwrap();
        assert_eq!(
            (cidr.cidrs.len(), cidr.error.as_deref()),
            (0, Some("failed to update pod CIDR: x"))
        );
        taken.took(at(20), vec![], nets(&["10.0.1.0/24"]));
        assert_eq!(taken.cidr(Some(at(5))).unwrap().error, None);
        taken.refused(at(30), "y");
        assert_eq!(taken.cidr(Some(at(5))).unwrap().error.as_deref(), Some("y"));
    }
}
