//! The pool.

use cidrift_proto::prefix::{prefix_from_wire, prefix_to_wire};
use cidrift_proto::{Malformed, v1};

use super::{optional, required};
use crate::summary::{PoolNode, PoolRange, PoolReport, PoolWitness};

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
                mask_stated: range.mask_stated,
                service: range.service,
                partial: range.partial,
                leaked: range.leaked,
                left_over: range.left_over,
                headroom: range.headroom,
                full_in_days: range.full_in_days,
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
        witnesses: pool
            .witnesses
            .iter()
            .map(|witness| v1::PoolWitness {
                who: witness.who.clone(),
                ranges: witness.ranges.iter().copied().map(prefix_to_wire).collect(),
                stance: witness.stance.clone(),
                why: witness.why.clone(),
            })
            .collect(),
        growth: pool.growth.clone(),
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
                    mask_stated: range.mask_stated,
                    service: range.service,
                    partial: range.partial,
                    leaked: range.leaked,
                    left_over: range.left_over,
                    headroom: range.headroom,
                    full_in_days: range.full_in_days,
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
        witnesses: wire
            .witnesses
            .iter()
            .map(|witness| {
                let ranges = witness.ranges.iter();
                Ok(PoolWitness {
                    who: witness.who.clone(),
                    ranges: ranges
                        .map(|prefix| prefix_from_wire(prefix, "pool.witnesses.ranges"))
                        .collect::<Result<_, _>>()?,
                    stance: witness.stance.clone(),
                    why: witness.why.clone(),
                })
            })
            .collect::<Result<_, Malformed>>()?,
        growth: wire.growth.clone(),
    })
}
