//! How agents come back: what they themselves keep to, and what an aggregator may expect of them.

use std::time::Duration;

/// Between two signs of life where the aggregator asks for none in particular.
/// It calls an agent silent after 15 s by default: two may be late or lost.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// First and longest pause between attempts, jitter (up to as much again) not
/// counted: an aggregator that restarts in a second is found at once, and one
/// that comes back to 5,000 agents meets some 500 attempts a second.
pub const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(7_500));

/// After so long every agent that lives has tried again, and had its heartbeat's time to be let in:
/// the longest pause, as much again of jitter, and a heartbeat; 20 s.
pub const BACK: Duration = Duration::from_millis(2 * 7_500 + 5_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_is_the_longest_pause_with_its_jitter_and_a_heartbeat() {
        assert_eq!(BACK, PAUSE.1 * 2 + HEARTBEAT);
    }
}
