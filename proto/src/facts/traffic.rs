//! What the kernel counted on the way of pods' packets.

use jiff::Timestamp;
use serde::Serialize;

use super::{LinkRole, role_from_wire};
use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

/// Counters of a host. They only show that packets were lost, never whose: no finding rests on them alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrafficFact {
    /// When they were read.
    pub observed_at: Timestamp,
    /// Uplinks, bridges and tunnels, and the ports of all pods together.
    pub links: Vec<LinkTraffic>,
    /// Of the host's network namespace, those that are not 0.
    pub counted: Vec<Counted>,
}

/// One device, or all devices of a role together, since they were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkTraffic {
    /// Its name; empty: all of the role together.
    pub name: String,
    /// What it is to pod traffic.
    pub role: LinkRole,
    /// How many devices this counts.
    pub links: u32,
    /// What came in by it.
    pub received: Direction,
    /// What went out by it.
    pub sent: Direction,
}

/// One direction of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Direction {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were damaged or could not be sent.
    pub errors: u64,
    /// Packets that were thrown away.
    pub dropped: u64,
}

/// A counter of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// As nstat(8) names it: "IpExtInNoRoutes".
    pub name: String,
    /// Since the namespace was made.
    pub value: u64,
}

impl Direction {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            packets: self.packets.saturating_add(other.packets),
            errors: self.errors.saturating_add(other.errors),
            dropped: self.dropped.saturating_add(other.dropped),
        }
    }
}

impl From<Direction> for v1::Direction {
    fn from(counts: Direction) -> Self {
        Self {
            bytes: counts.bytes,
            packets: counts.packets,
            errors: counts.errors,
            dropped: counts.dropped,
        }
    }
}

impl From<&v1::Direction> for Direction {
    fn from(wire: &v1::Direction) -> Self {
        Self {
            bytes: wire.bytes,
            packets: wire.packets,
            errors: wire.errors,
            dropped: wire.dropped,
        }
    }
}

impl From<&TrafficFact> for v1::Traffic {
    fn from(traffic: &TrafficFact) -> Self {
        let link = |link: &LinkTraffic| v1::LinkTraffic {
            name: link.name.clone(),
            role: v1::LinkRole::from(link.role).into(),
            links: link.links,
            received: Some(link.received.into()),
            sent: Some(link.sent.into()),
        };
        let counted = |row: &Counted| v1::Counted {
            name: row.name.clone(),
            value: row.value,
        };
        Self {
            observed_at: Some(to_wire(traffic.observed_at)),
            links: traffic.links.iter().map(link).collect(),
            counted: traffic.counted.iter().map(counted).collect(),
        }
    }
}

impl TryFrom<&v1::Traffic> for TrafficFact {
    type Error = Malformed;

    fn try_from(wire: &v1::Traffic) -> Result<Self, Malformed> {
        let link = |link: &v1::LinkTraffic| -> Result<LinkTraffic, Malformed> {
            Ok(LinkTraffic {
                name: link.name.clone(),
                role: role_from_wire(link.role, "traffic.role")?,
                links: link.links,
                received: link.received.as_ref().map(Into::into).unwrap_or_default(),
                sent: link.sent.as_ref().map(Into::into).unwrap_or_default(),
            })
        };
        let counted = |row: &v1::Counted| Counted {
            name: row.name.clone(),
            value: row.value,
        };
        Ok(Self {
            observed_at: wire
                .observed_at
                .and_then(from_wire)
                .ok_or(Malformed::Missing("traffic.observed_at"))?,
            links: wire.links.iter().map(link).collect::<Result<_, _>>()?,
            counted: wire.counted.iter().map(counted).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic() -> TrafficFact {
        TrafficFact {
            observed_at: Timestamp::from_second(1_790_000_000).unwrap(),
            links: vec![LinkTraffic {
                name: String::new(),
                role: LinkRole::PodPort,
                links: 12,
                received: Direction {
                    bytes: u64::MAX,
                    packets: 2,
                    errors: 3,
                    dropped: 4,
                },
                sent: Direction {
                    bytes: 5,
                    packets: 6,
                    errors: 7,
                    dropped: 8,
                },
            }],
            counted: vec![Counted {
                name: "IpExtInNoRoutes".into(),
                value: 9,
            }],
        }
    }

    #[test]
    fn counters_survive_the_wire() {
        assert_eq!(TrafficFact::try_from(&v1::Traffic::from(&traffic())), Ok(traffic()));
    }

    #[test]
    fn a_role_or_a_time_that_is_missing_is_refused() {
        let mut wire = v1::Traffic::from(&traffic());
        wire.links[0].role = 0;
        assert!(TrafficFact::try_from(&wire).is_err());
        let mut wire = v1::Traffic::from(&traffic());
        wire.observed_at = None;
        assert_eq!(
            TrafficFact::try_from(&wire),
            Err(Malformed::Missing("traffic.observed_at"))
        );
    }

    #[test]
    fn a_sum_never_wraps() {
        let most = traffic().links[0].received;
        assert_eq!(most.plus(most).bytes, u64::MAX);
    }
}
