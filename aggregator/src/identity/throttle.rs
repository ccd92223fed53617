//! How many credentials of one address the API server is asked about in vain. Time is handed in, of the monotonic clock.
//!
//! Only what is refused costs anything, so a fleet behind one address (NAT) that comes back with good tokens is never slowed,
//! however large it is. What is good gives credit back: where half of them are good, the others may all be tried as well.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Refusals at once. Four times the questions that are asked at a time, for each counts as refused until it is answered.
const BURST: f64 = 256.0;

/// Refusals a second after that. A node's agent has an address of its own and causes one in 10 s at most: twenty
/// wrong agents may share one address for good.
const RATE: f64 = 2.0;

/// Addresses that are remembered; 64 bytes each. Those that may do most again are forgotten first.
const ADDRESSES: usize = 4_096;

/// One address, or one IPv6 network of a single host.
type Place = Option<IpAddr>;

/// What an address has left, and when that was counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn left(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * RATE).min(BURST)
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The credential is good.
    Good,
    /// Nobody answered: it says nothing of the credential.
    None,
}

/// All addresses that had something refused a short while ago.
#[derive(Debug, Default)]
pub struct Throttle {
    buckets: HashMap<Place, Bucket>,
}

impl Throttle {
    /// A question about a credential that is not known to be good is to be asked for this address; it counts as refused
    /// until [`Self::settle`] says otherwise. `Err`: not now, but after so long.
    pub fn take(&mut self, from: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let place = place(from);
        let left = self.buckets.get(&place).map_or(BURST, |bucket| bucket.left(now));
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / RATE));
        }
        self.put(place, left - 1.0, now);
        Ok(())
    }

    /// The question was not answered with a refusal.
    pub fn settle(&mut self, from: Option<IpAddr>, answer: Answer, now: Instant) {
        let place = place(from);
        let Some(bucket) = self.buckets.get(&place) else { return };
        let back = match answer {
            Answer::Good => 2.0,
            Answer::None => 1.0,
        };
        let left = bucket.left(now) + back;
        self.put(place, left, now);
    }

    fn put(&mut self, place: Place, left: f64, now: Instant) {
        if left >= BURST {
            self.buckets.remove(&place);
            return;
        }
        if self.buckets.len() >= ADDRESSES && !self.buckets.contains_key(&place) {
            self.buckets.retain(|_, bucket| bucket.left(now) < BURST);
            let most = self.buckets.iter();
            let most = most.max_by(|(_, a), (_, b)| a.left(now).total_cmp(&b.left(now)));
            let most = most.map(|(place, _)| *place);
            if let Some(most) = most.filter(|_| self.buckets.len() >= ADDRESSES) {
                self.buckets.remove(&most);
            }
        }
        self.buckets.insert(place, Bucket { left, at: now });
    }
}

/// IPv6 hosts choose among the addresses of a /64 as they like.
fn place(from: Option<IpAddr>) -> Place {
    Some(match from?.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Questions that are asked before one is not.
    fn asked(throttle: &mut Throttle, from: &str, now: Instant) -> usize {
        (0..10_000).take_while(|_| throttle.take(ip(from), now).is_ok()).count()
    }

    #[test]
    fn what_is_refused_is_bounded_by_address_and_comes_back_with_time() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(asked(&mut throttle, "10.0.0.1", start), 256);
        assert_eq!(throttle.take(ip("10.0.0.1"), start), Err(Duration::from_millis(500)));
        assert_eq!(
            asked(&mut throttle, "::ffff:10.0.0.1", start),
            0,
            "the same, as IPv6 writes it"
        );
        assert_eq!(asked(&mut throttle, "10.0.0.2", start), 256);
        assert_eq!(asked(&mut throttle, "10.0.0.1", start + Duration::from_secs(10)), 20);
        assert_eq!(asked(&mut throttle, "2001:db8::1", start), 256);
        assert_eq!(asked(&mut throttle, "2001:db8::2", start), 0, "the same host's network");
        assert_eq!(asked(&mut throttle, "2001:db8:0:1::1", start), 256);
    }

    #[test]
    fn a_fleet_behind_one_address_is_never_refused_while_its_tokens_are_good() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        // As many at a time as are asked about, 15,000 in all, and a wrong one with every good one.
        for _ in 0..15_000 / 64 {
            for _ in 0..64 {
                assert_eq!(throttle.take(ip("10.0.0.1"), now), Ok(()));
            }
            for _ in 0..32 {
                throttle.settle(ip("10.0.0.1"), Answer::Good, now);
            }
        }
        // While nobody answers nothing is lost.
        for _ in 0..1_000 {
            assert_eq!(throttle.take(ip("10.0.0.1"), now), Ok(()));
            throttle.settle(ip("10.0.0.1"), Answer::None, now);
        }
    }

    #[test]
    fn room_is_bounded_and_who_did_most_is_remembered() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(asked(&mut throttle, "10.0.0.1", now), 256);
        for n in 0..3 * u32::try_from(ADDRESSES).unwrap() {
            let from = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
            throttle.take(Some(from), now).unwrap();
        }
        assert_eq!(throttle.buckets.len(), ADDRESSES);
        assert_eq!(asked(&mut throttle, "10.0.0.1", now), 0);
        // Whatever is whole again is forgotten when room is needed.
        let later = now + Duration::from_secs(1_000);
        throttle.take(ip("10.9.9.9"), later).unwrap();
        assert_eq!(throttle.buckets.len(), 1);
    }
}
