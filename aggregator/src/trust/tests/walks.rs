//! Whoever trusts what was published within the last day can verify the certificate that is served, whatever the
//! clock does, whoever restarts, and though publishing fails now and then.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::authority::{Authority, Serving, is_due};
use super::super::record;
use super::super::rotation::{Policy, State, bundle, step};
use super::{names, verify};

#[derive(Debug, Clone)]
enum Act {
    /// The aggregator looks, so many minutes later. Publishing fails, or a person asks for another CA.
    Look { minutes: i64, fails: bool, asks: bool },
    /// It is stopped for so many days.
    Away { days: i64 },
    /// Its clock is set back by so many minutes.
    Back { minutes: i64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => (1..2_000i64, prop::bool::weighted(0.15), prop::bool::weighted(0.05))
            .prop_map(|(minutes, fails, asks)| Act::Look { minutes, fails, asks }),
        2 => (1..200i64).prop_map(|days| Act::Away { days }),
        1 => (1..60i64).prop_map(|minutes| Act::Back { minutes }),
    ]
}

/// What stands outside of the aggregator, and what it holds in memory.
struct World {
    now: Timestamp,
    kept: Option<record::Record>,
    /// Every bundle that could be read, and until when: `None`, it still can.
    published: Vec<(String, Option<Timestamp>)>,
    served: Option<(Serving, String)>,
    /// Until when the CA is valid that signs.
    signs_until: Timestamp,
    rotations: usize,
}

impl World {
    fn look(&mut self, fails: bool, asks: bool) {
        let state: Option<State> = self.kept.as_ref().and_then(|kept| record::read(kept, "store").unwrap());
        let before = state.as_ref().map(|state| state.current.certificate.clone());
        let emergency = state.as_ref().is_some_and(|state| state.current.expired(self.now));
        let published = self.published.last().map(|(text, _)| text.clone());
        let stepped = step(
            self.now,
            state,
            published.as_deref(),
            asks,
            Policy::default(),
            Authority::make,
        )
        .unwrap();
        let state = stepped.state;
        self.kept = Some(record::write(&state));
        assert_eq!(
            record::read(self.kept.as_ref().unwrap(), "store").unwrap().as_ref(),
            Some(&state)
        );
        if emergency {
            // Nothing that was ever published verifies any more, and no rule could help.
            self.published.clear();
            self.served = None;
        } else if before.is_some_and(|before| before != state.current.certificate) {
            self.rotations += 1;
        }
        let wanted = bundle(&state);
        if !fails && self.published.last().is_none_or(|(text, _)| *text != wanted) {
            if let Some((_, until)) = self.published.last_mut() {
                *until = Some(self.now);
            }
            self.published.push((wanted, None));
        }
        let fresh = self.served.as_ref().is_some_and(|(serving, issuer)| {
            *issuer == state.current.certificate && !is_due(serving.not_before, serving.not_after, self.now)
        });
        if !fresh {
            let serving = state.current.issue(&names(), self.now).unwrap();
            self.served = Some((serving, state.current.certificate.clone()));
        }
        self.signs_until = state.current.not_after;
        assert!(!state.current.expired(self.now), "a CA that expired signs");
        assert!(state.next.is_none() || state.previous.len() < 50);
    }

    fn everybody_verifies(&self) {
        let Some((serving, _)) = &self.served else { return };
        let yesterday = self.now - SignedDuration::from_hours(24);
        for (text, until) in &self.published {
            if until.is_none_or(|until| until > yesterday) {
                let verified = verify(&serving.chain, text, self.now);
                assert!(verified.is_ok(), "{verified:?} at {}", self.now);
                // Hosts whose clock is off by hours, too; but for the CA's very last day, which only an aggregator
                // sees that was away for a third of its year.
                for hours in [-20, 20] {
                    let theirs = self.now + SignedDuration::from_hours(hours);
                    let verified = theirs >= self.signs_until || verify(&serving.chain, text, theirs).is_ok();
                    assert!(verified, "{hours} h off at {}", self.now);
                }
            }
        }
    }
}

fn world() -> World {
    World {
        now: "2026-11-25T12:00:00Z".parse().unwrap(),
        kept: None,
        published: Vec::new(),
        served: None,
        signs_until: Timestamp::MIN,
        rotations: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whoever_read_the_bundle_within_a_day_verifies_what_is_served(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = world();
        for act in acts {
            match act {
                Act::Look { minutes, fails, asks } => {
                    world.now += SignedDuration::from_mins(minutes);
                    world.look(fails, asks);
                    world.everybody_verifies();
                }
                Act::Away { days } => {
                    world.served = None;
                    world.now += SignedDuration::from_hours(24 * days);
                }
                Act::Back { minutes } => world.now -= SignedDuration::from_mins(minutes),
            }
        }
    }
}

#[test]
fn ten_years_of_looks_see_a_new_ca_every_eight_months_and_no_gap() {
    let mut world = world();
    for _ in 0..(10 * 365) {
        world.look(false, false);
        world.everybody_verifies();
        world.now += SignedDuration::from_hours(24);
    }
    // Each is made at two thirds of the 366 days for which the one before is valid, the first day being backdated;
    // it signs two looks later.
    assert_eq!(world.rotations, (3650 - 2) / 243);
}

#[test]
fn a_person_gets_another_ca_that_signs_after_it_was_published_for_the_lead() {
    let mut world = world();
    world.look(false, false);
    let first = world.served.as_ref().unwrap().1.clone();
    world.look(true, true);
    for _ in 0..100 {
        // It cannot be published: it must not sign, however long that takes.
        world.now += SignedDuration::from_hours(1);
        world.look(true, false);
        assert_eq!(world.served.as_ref().unwrap().1, first);
    }
    world.look(false, false);
    world.look(false, false);
    world.now += SignedDuration::from_mins(23 * 60 + 59);
    world.look(false, false);
    assert_eq!(world.served.as_ref().unwrap().1, first);
    world.now += SignedDuration::from_mins(1);
    world.look(false, false);
    assert_ne!(world.served.as_ref().unwrap().1, first);
    assert!(
        world.published.last().unwrap().0.contains(first.trim()),
        "the old one is still believed"
    );
    world.now += SignedDuration::from_hours(24 * 7);
    world.look(false, false);
    assert!(!world.published.last().unwrap().0.contains(first.trim()));
}
