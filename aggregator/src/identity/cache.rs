//! What was answered a short while ago. Bounded; time is handed in, of the monotonic clock.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use tokio::time::Instant;

/// How long an answer is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Until then nobody need be asked again.
    pub fresh: Instant,
    /// Until then it counts where nobody can be asked.
    pub ends: Instant,
}

/// An answer that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<V> {
    /// It counts.
    Fresh(V),
    /// It counts if nobody can be asked.
    Kept(V),
}

/// Answers by what was asked.
#[derive(Debug)]
pub struct Cache<K, V> {
    room: usize,
    answers: HashMap<K, (V, Life)>,
    /// Every key by when its answer ends.
    order: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Eq + Hash + Ord, V: Clone> Cache<K, V> {
    /// With room for so many answers.
    pub fn new(room: usize) -> Self {
        Self {
            room,
            answers: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// The answer, if it still counts.
    pub fn get(&self, key: &K, now: Instant) -> Option<Found<V>> {
        let (value, life) = self.answers.get(key)?;
        if now < life.fresh.min(life.ends) {
            return Some(Found::Fresh(value.clone()));
        }
        (now < life.ends).then(|| Found::Kept(value.clone()))
    }

    /// Keeps an answer in place of the one before. Where there is no room, those go that would have gone first anyway,
    /// the new one among them: refusals, which live for seconds, never push out what lasts.
    pub fn put(&mut self, key: K, value: V, life: Life, now: Instant) {
        self.remove(&key);
        while let Some((ends, first)) = self.order.first().cloned()
            && ends <= now
        {
            self.remove(&first);
        }
        if life.ends <= now {
            return;
        }
        self.order.insert((life.ends, key.clone()));
        self.answers.insert(key, (value, life));
        while self.answers.len() > self.room
            && let Some((_, first)) = self.order.first().cloned()
        {
            self.remove(&first);
        }
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// None is kept.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, life)) = self.answers.remove(key) {
            self.order.remove(&(life.ends, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// What is done to a cache: a key, how long its answer is fresh and kept, and what time passes first (seconds).
    type Step = (u8, u64, u64, u64);

    fn step() -> impl Strategy<Value = Step> {
        (0..12u8, 0..20u64, 0..30u64, 0..8u64)
    }

    /// The same, slow and plain: of what lives, those that end last.
    fn model(put: &mut Vec<(u8, usize, Life)>, new: (u8, usize, Life), room: usize, now: Instant) {
        put.retain(|(key, ..)| *key != new.0);
        put.push(new);
        put.retain(|(_, _, life)| life.ends > now);
        put.sort_by_key(|(key, _, life)| std::cmp::Reverse((life.ends, *key)));
        put.truncate(room);
    }

    proptest! {
        #[test]
        fn it_holds_what_was_last_put_for_as_long_as_that_lives_and_never_more_than_it_may(
            steps in prop::collection::vec(step(), 1..200),
            room in 1..8usize,
        ) {
            let mut cache = Cache::new(room);
            let mut put = Vec::new();
            let mut now = Instant::now();
            for (count, (key, fresh, kept, passes)) in steps.into_iter().enumerate() {
                now += Duration::from_secs(passes);
                let life = Life {
                    fresh: now + Duration::from_secs(fresh),
                    ends: now + Duration::from_secs(kept),
                };
                cache.put(key, count, life, now);
                model(&mut put, (key, count, life), room, now);
                prop_assert!(cache.len() <= room);
                prop_assert_eq!(cache.answers.len(), cache.order.len());
                for key in 0..12 {
                    let wanted = put.iter().find(|(other, ..)| *other == key).map(|(_, count, life)| {
                        if now < life.fresh { Found::Fresh(*count) } else { Found::Kept(*count) }
                    });
                    prop_assert_eq!(cache.get(&key, now), wanted);
                    // And nothing outlives its end, whether or not anything was put since.
                    prop_assert_eq!(cache.get(&key, now + Duration::from_secs(60)), None);
                }
            }
        }
    }

    #[test]
    fn what_lives_for_seconds_does_not_push_out_what_lasts() {
        let now = Instant::now();
        let life = |seconds| Life {
            fresh: now + Duration::from_secs(seconds),
            ends: now + Duration::from_secs(seconds),
        };
        let mut cache = Cache::new(2);
        cache.put(1, "good", life(300), now);
        for key in 2..100 {
            cache.put(key, "refused", life(10), now);
        }
        assert_eq!(cache.get(&1, now), Some(Found::Fresh("good")));
        assert_eq!(cache.len(), 2);
        cache.put(100, "good too", life(200), now);
        assert_eq!(cache.get(&100, now), Some(Found::Fresh("good too")));
        assert_eq!(cache.get(&1, now + Duration::from_secs(300)), None);
    }
}
