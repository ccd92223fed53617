//! The pool.

use cidrift_proto::prefix::{prefix_from_wire, prefix_to_wire};
use cidrift_proto::{Malformed, v1};

use super::{optional, required};
use crate::summary::{PoolNode, PoolRange, PoolReport};

/// To the wire.
pub fn pool_to_wire(pool: &PoolReport) -> v1::Pool {
    v1::Pool {
        ranges: pool
            .ranges
            .iter()
            .map(|range| v1::PoolRange {
                range: Some(prefix_to_wire(range.range)),
                witness: range.witness.clone(),
                node_mask: range.node_mask.into(),
                capacity: range.capacity,
                used: range.used,
                free: range.free,
            })
            .collect(),
        nodes: pool
            .nodes
            .iter()
            .map(|node| v1::PoolNode {
                node: node.node.clone(),
                cidr: Some(prefix_to_wire(node.cidr)),
                in_pool: node.in_pool.unwrap_or(false),
                overlaps: node.overlaps.clone(),
            })
            .collect(),
        unknown: pool.unknown.clone().unwrap_or_default(),
        service_ranges: pool.service_ranges.iter().copied().map(prefix_to_wire).collect(),
    }
}

/// From the wire. Without ranges nobody can say what is in the pool.
pub fn pool_from_wire(wire: &v1::Pool) -> Result<PoolReport, Malformed> {
    let known = !wire.ranges.is_empty();
    Ok(PoolReport {
        ranges: wire
            .ranges
            .iter()
            .map(|range| {
                Ok(PoolRange {
                    range: prefix_from_wire(required(&range.range, "pool.range")?, "pool.range")?,
                    witness: range.witness.clone(),
                    node_mask: u8::try_from(range.node_mask).map_err(|_| Malformed::Range {
                        field: "pool.node_mask",
                        value: range.node_mask.into(),
                    })?,
                    capacity: range.capacity,
                    used: range.used,
                    free: range.free,
                })
            })
            .collect::<Result<_, Malformed>>()?,
        nodes: wire
            .nodes
            .iter()
            .map(|node| {
                Ok(PoolNode {
                    node: node.node.clone(),
                    cidr: prefix_from_wire(required(&node.cidr, "pool.cidr")?, "pool.cidr")?,
                    in_pool: known.then_some(node.in_pool),
                    overlaps: node.overlaps.clone(),
                })
            })
            .collect::<Result<_, Malformed>>()?,
        unknown: optional(&wire.unknown),
        service_ranges: wire
            .service_ranges
            .iter()
            .map(|prefix| prefix_from_wire(prefix, "pool.service_ranges"))
            .collect::<Result<_, _>>()?,
    })
}
