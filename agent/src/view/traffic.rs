//! What the kernel counts on the way of pods' packets.

use std::collections::BTreeMap;

use cidrift_proto::facts::Direction;
use jiff::Timestamp;

/// A reading of the counters of this network namespace, and the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// As they are.
    pub now: Counts,
    /// As they were at the reading before, and when that was; `None` at the first.
    pub before: Option<(Timestamp, Counts)>,
}

/// Counters at one time. They only grow, until their device is made anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Of every device, by name.
    pub devices: BTreeMap<String, DeviceCounts>,
    /// Of the namespace's IP, as nstat(8) names them; bounded.
    pub ip: BTreeMap<&'static str, u64>,
}

/// Counters of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceCounts {
    /// What came in by it.
    pub received: Direction,
    /// What went out by it.
    pub sent: Direction,
}

impl DeviceCounts {
    /// By how much it grew since `before`; all of it where the device was made anew since.
    pub fn since(self, before: Self) -> Self {
        let grown = || {
            Some(Self {
                received: since(self.received, before.received)?,
                sent: since(self.sent, before.sent)?,
            })
        };
        grown().unwrap_or(self)
    }
}

fn since(now: Direction, before: Direction) -> Option<Direction> {
    Some(Direction {
        bytes: now.bytes.checked_sub(before.bytes)?,
        packets: now.packets.checked_sub(before.packets)?,
        errors: now.errors.checked_sub(before.errors)?,
        dropped: now.dropped.checked_sub(before.dropped)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(packets: u64, dropped: u64) -> DeviceCounts {
        DeviceCounts {
            received: Direction {
                packets,
                dropped,
                ..Direction::default()
            },
            sent: Direction::default(),
        }
    }

    #[test]
    fn a_device_that_was_made_anew_grew_by_all_that_it_counts() {
        assert_eq!(counts(9, 3).since(counts(5, 3)), counts(4, 0));
        assert_eq!(counts(9, 0).since(counts(5, 3)), counts(9, 0));
    }
}
