//! Nodes, and paths between them.

use cidrift_proto::prefix::{address_from_wire, address_to_wire, prefix_from_wire, prefix_to_wire};
use cidrift_proto::time::{from_wire, to_wire};
use cidrift_proto::{Malformed, v1};

use super::{health_from_wire, health_to_wire, required};
use crate::cluster::ReportState;
use crate::query::answer::{NodeAnswer, PathAnswer};
use crate::summary::{IpamEvidence, IpamReport, NodeDetail, NodeSummary, Tally};

fn report_to_wire(state: ReportState) -> v1::ReportState {
    match state {
        ReportState::Live => v1::ReportState::Live,
        ReportState::Syncing => v1::ReportState::Syncing,
        ReportState::Silent => v1::ReportState::Silent,
        ReportState::Never => v1::ReportState::Never,
    }
}

fn report_from_wire(value: i32) -> Result<ReportState, Malformed> {
    Ok(match v1::ReportState::try_from(value) {
        Ok(v1::ReportState::Live) => ReportState::Live,
        Ok(v1::ReportState::Syncing) => ReportState::Syncing,
        Ok(v1::ReportState::Silent) => ReportState::Silent,
        Ok(v1::ReportState::Never) => ReportState::Never,
        Ok(v1::ReportState::Unspecified) | Err(_) => {
            return Err(Malformed::UnknownValue {
                field: "node.report",
                value: value.into(),
            });
        }
    })
}

/// To the wire.
pub fn summary_to_wire(node: &NodeSummary) -> v1::NodeSummary {
    // A row has as many verdicts as there are pod CIDRs, far below u32.
    let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    v1::NodeSummary {
        name: node.name.clone(),
        uid: node.uid.clone(),
        in_control_plane: node.in_control_plane,
        ready: node.ready,
        not_ready: node.not_ready.clone(),
        pod_cidrs: node.pod_cidrs.iter().copied().map(prefix_to_wire).collect(),
        internal_ips: node.internal_ips.iter().copied().map(address_to_wire).collect(),
        report: report_to_wire(node.report).into(),
        agent_version: node.agent_version.clone(),
        last_report: node.last_report.map(to_wire),
        delivered: count(node.pairs.delivered),
        broken: count(node.pairs.broken),
        unknown: count(node.pairs.unknown),
        findings: node.findings.clone(),
        health: health_to_wire(node.health).into(),
        plugin: node.plugin.clone(),
        ipam: node.ipam.clone(),
        model: node.model.clone(),
        report_problem: node.report_problem.clone(),
    }
}

/// From the wire.
pub fn summary_from_wire(wire: &v1::NodeSummary) -> Result<NodeSummary, Malformed> {
    Ok(NodeSummary {
        name: wire.name.clone(),
        uid: wire.uid.clone(),
        in_control_plane: wire.in_control_plane,
        ready: wire.ready,
        not_ready: wire.not_ready.clone(),
        pod_cidrs: wire
            .pod_cidrs
            .iter()
            .map(|prefix| prefix_from_wire(prefix, "node.pod_cidrs"))
            .collect::<Result<_, _>>()?,
        internal_ips: wire
            .internal_ips
            .iter()
            .map(|address| address_from_wire(address, "node.internal_ips"))
            .collect::<Result<_, _>>()?,
        report: report_from_wire(wire.report)?,
        agent_version: wire.agent_version.clone(),
        last_report: wire.last_report.and_then(from_wire),
        pairs: Tally {
            delivered: wire.delivered.into(),
            broken: wire.broken.into(),
            unknown: wire.unknown.into(),
        },
        findings: wire.findings.clone(),
        health: health_from_wire(wire.health),
        plugin: wire.plugin.clone(),
        ipam: wire.ipam.clone(),
        model: wire.model.clone(),
        report_problem: wire.report_problem.clone(),
    })
}

fn ipam_to_wire(ipam: &IpamReport) -> v1::Ipam {
    v1::Ipam {
        model: ipam.model.clone(),
        authoritative: ipam.authoritative,
        why: ipam.why.clone(),
        evidence: ipam
            .evidence
            .iter()
            .map(|line| v1::IpamEvidence {
                source: line.source.clone(),
                text: line.text.clone(),
                decides: line.decides,
            })
            .collect(),
        unseen: ipam.unseen.clone(),
        rules: ipam.rules.clone(),
    }
}

fn ipam_from_wire(wire: &v1::Ipam) -> IpamReport {
    IpamReport {
        model: wire.model.clone(),
        authoritative: wire.authoritative,
        why: wire.why.clone(),
        evidence: wire
            .evidence
            .iter()
            .map(|line| IpamEvidence {
                source: line.source.clone(),
                text: line.text.clone(),
                decides: line.decides,
            })
            .collect(),
        unseen: wire.unseen.clone(),
        rules: wire.rules.clone(),
    }
}

/// To the wire.
pub fn detail_to_wire(node: &NodeDetail) -> v1::NodeDetail {
    v1::NodeDetail {
        summary: Some(summary_to_wire(&node.summary)),
        facts: node.facts.as_ref().map(Into::into),
        verdicts: node.verdicts.iter().map(Into::into).collect(),
        findings: node.findings.iter().map(|finding| finding.as_ref().into()).collect(),
        entries: node.entries.iter().map(Into::into).collect(),
        classification: node.classification.as_ref().map(ipam_to_wire),
    }
}

/// From the wire.
pub fn detail_from_wire(wire: &v1::NodeDetail) -> Result<NodeAnswer, Malformed> {
    Ok(NodeAnswer {
        summary: summary_from_wire(required(&wire.summary, "node.summary")?)?,
        facts: wire.facts.as_ref().map(TryInto::try_into).transpose()?,
        verdicts: wire.verdicts.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        findings: wire.findings.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        entries: wire.entries.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        classification: wire.classification.as_ref().map(ipam_from_wire),
    })
}

/// To the wire.
pub fn path_to_wire(path: &PathAnswer) -> v1::Path {
    v1::Path {
        from: path.from.clone(),
        to: path.to.clone(),
        forward: path.forward.iter().map(Into::into).collect(),
        backward: path.backward.iter().map(Into::into).collect(),
        health: health_to_wire(path.health).into(),
    }
}

/// From the wire.
pub fn path_from_wire(wire: &v1::Path) -> Result<PathAnswer, Malformed> {
    Ok(PathAnswer {
        from: wire.from.clone(),
        to: wire.to.clone(),
        forward: wire.forward.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        backward: wire.backward.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        health: health_from_wire(wire.health),
    })
}
