//! The cluster in a few figures.

use cidrift_proto::time::{from_wire, to_wire};
use cidrift_proto::{Malformed, v1};

use super::{health_from_wire, health_to_wire, optional};
use crate::query::answer::StatusAnswer;
use crate::summary::{Status, Tally};

/// To the wire.
pub fn status_to_wire(answer: &StatusAnswer) -> v1::Status {
    let status = &answer.status;
    v1::Status {
        health: health_to_wire(status.health).into(),
        aggregator_version: answer.aggregator_version.clone(),
        control_plane_source: status.control_plane_source.clone(),
        control_plane_problem: status.control_plane_problem.clone().unwrap_or_default(),
        control_plane_at: status.control_plane_at.map(to_wire),
        nodes: status.nodes,
        nodes_reporting: status.nodes_reporting,
        critical: status.critical,
        errors: status.errors,
        warnings: status.warnings,
        infos: status.infos,
        pending: status.pending,
        pairs: status
            .pairs
            .delivered
            .saturating_add(status.pairs.broken)
            .saturating_add(status.pairs.unknown),
        delivered: status.pairs.delivered,
        broken: status.pairs.broken,
        unknown: status.pairs.unknown,
        unknowns: status.unknowns.clone(),
        at: Some(to_wire(status.at)),
        identity_warning: answer.identity_warning.clone().unwrap_or_default(),
    }
}

/// From the wire.
pub fn status_from_wire(wire: &v1::Status) -> Result<StatusAnswer, Malformed> {
    Ok(StatusAnswer {
        aggregator_version: wire.aggregator_version.clone(),
        identity_warning: optional(&wire.identity_warning),
        status: Status {
            health: health_from_wire(wire.health),
            control_plane_source: wire.control_plane_source.clone(),
            control_plane_problem: optional(&wire.control_plane_problem),
            control_plane_at: wire.control_plane_at.and_then(from_wire),
            nodes: wire.nodes,
            nodes_reporting: wire.nodes_reporting,
            critical: wire.critical,
            errors: wire.errors,
            warnings: wire.warnings,
            infos: wire.infos,
            pending: wire.pending,
            pairs: Tally {
                delivered: wire.delivered,
                broken: wire.broken,
                unknown: wire.unknown,
            },
            unknowns: wire.unknowns.clone(),
            at: wire.at.and_then(from_wire).ok_or(Malformed::Missing("status.at"))?,
        },
    })
}
