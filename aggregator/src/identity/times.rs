//! How long what was answered counts.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cache::Life;

/// How long answers count.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// A good credential is not asked about again for so long. The default is what kube-apiserver itself takes for its webhook
    /// (`--authentication-token-webhook-cache-ttl`); a token that was revoked opens no stream any more by then.
    pub fresh: Duration,
    /// While the API server cannot be asked, what was good counts for so long where the token does not say when it ends, and so
    /// does what somebody was allowed: as long as the restart of a control plane takes.
    pub kept: Duration,
    /// A refusal is not asked about again for so long: it may be mended at any time, and whoever tries all the time must not make
    /// the API server work each time.
    pub refused: Duration,
    /// What somebody may do is asked again after so long.
    pub rights: Duration,
    /// The credential of a report stream that stands is looked at again after so long at most, each stream at a time of its own:
    /// 50 questions a second with 15,000 agents. A token that was revoked ends its stream by then.
    pub again: Duration,
    /// How long the API server may take. It answers within milliseconds; an agent waits 10 s for its welcome, and is to hear
    /// why it gets none.
    pub patience: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(2 * 60),
            kept: Duration::from_secs(5 * 60),
            refused: Duration::from_secs(10),
            rights: Duration::from_secs(10),
            again: Duration::from_secs(5 * 60),
            patience: Duration::from_secs(5),
        }
    }
}

/// What was good is kept no longer than this where the token says when it ends: the kubelet replaces every token within 24 hours.
const KEPT_LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The API server calls a token good that has ended by this host's clock: the clocks differ. It is asked again after so long.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// A stream lasts no longer than this on one credential, whatever that says: a clock cannot show any time.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Times {
    /// How long a good answer about a credential that ends then may be kept, and until when a stream may rest on it. `wall` and
    /// `now` are the same moment by the host's clock and by the monotonic one.
    pub fn of(&self, ends: Option<Timestamp>, wall: Timestamp, now: Instant) -> (Life, Instant) {
        let Some(ends) = ends else {
            let life = Life {
                fresh: now + self.fresh,
                ends: now + self.kept,
            };
            return (life, now + LONGEST);
        };
        let left = match Duration::try_from(ends.duration_since(wall)) {
            Ok(left) if !left.is_zero() => left.min(LONGEST),
            _ => CLOCKS_DIFFER,
        };
        let life = Life {
            fresh: now + left.min(self.fresh),
            ends: now + left.min(KEPT_LONGEST),
        };
        (life, now + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_never_outlives_its_token_and_clocks_that_differ_are_no_refusal() {
        let (times, now, wall) = (Times::default(), Instant::now(), Timestamp::now());
        let seconds = |seconds: i64| wall + jiff::SignedDuration::from_secs(seconds);
        let (life, until) = times.of(Some(seconds(3_600)), wall, now);
        assert_eq!(life.fresh, now + times.fresh);
        assert_eq!(
            (life.ends, until),
            (now + Duration::from_secs(3_600), now + Duration::from_secs(3_600))
        );
        let (life, until) = times.of(Some(seconds(30)), wall, now);
        assert_eq!(
            (life.fresh, life.ends, until),
            (now + Duration::from_secs(30), now + Duration::from_secs(30), life.ends)
        );
        // The API server called it good.
        let (life, until) = times.of(Some(seconds(-500)), wall, now);
        assert_eq!((life.ends, until), (now + Duration::from_secs(60), life.ends));
        let (life, until) = times.of(None, wall, now);
        assert_eq!(life.ends, now + times.kept);
        assert!(until > now + Duration::from_secs(24 * 60 * 60));
        let (life, _) = times.of(Some(Timestamp::MAX), wall, now);
        assert_eq!(life.ends, now + Duration::from_secs(24 * 60 * 60));
    }
}
