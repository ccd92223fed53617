//! Rows of answers that come in pages.

use cidrift_proto::{Malformed, v1};

use super::{health_from_wire, health_to_wire, required};
use crate::query::answer::{PathRow, WayAnswer};

fn way_to_wire(way: &WayAnswer) -> v1::Way {
    v1::Way {
        health: health_to_wire(way.health).into(),
        wrong: way.wrong.iter().map(Into::into).collect(),
    }
}

fn way_from_wire(wire: &v1::Way) -> Result<WayAnswer, Malformed> {
    Ok(WayAnswer {
        health: health_from_wire(wire.health),
        wrong: wire.wrong.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

/// To the wire.
pub fn row_to_wire(row: &PathRow) -> v1::PathRow {
    v1::PathRow {
        from: row.from.clone(),
        forward: Some(way_to_wire(&row.forward)),
        backward: Some(way_to_wire(&row.backward)),
    }
}

/// From the wire.
pub fn row_from_wire(wire: &v1::PathRow) -> Result<PathRow, Malformed> {
    Ok(PathRow {
        from: wire.from.clone(),
        forward: way_from_wire(required(&wire.forward, "path.forward")?)?,
        backward: way_from_wire(required(&wire.backward, "path.backward")?)?,
    })
}
