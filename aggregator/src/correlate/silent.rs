//! SEEN01: nodes whose agent does not report.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, Evidence, Trigger};

use super::Scene;
use crate::cluster::{NodeRecord, ReportState};
use crate::ipam::Ipam;

/// The claim of one node, if nothing is heard of its agent. A node without a data
/// plane of its own (virtual kubelets, Windows) has no agent to miss.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let host = scene.hosts.get(&node.name);
    let state = host.map_or(ReportState::Never, |host| host.report(scene.now, scene.silence));
    if !matches!(state, ReportState::Silent | ReportState::Never) {
        return None;
    }
    if matches!(scene.ipam(node), Ipam::NoDataPlane(_)) {
        return None;
    }
    let name = &node.name;
    let down = node.ready == Some(false);
    let mut evidence = vec![match host {
        Some(host) => Evidence {
            source: format!("agent of {name}"),
            text: format!("last heard at {}", host.heard_at),
            observed_at: Some(host.heard_at),
            stale: true,
        },
        None => Evidence {
            source: "aggregator".to_owned(),
            text: format!("no agent has ever reported for {name}"),
            observed_at: None,
            stale: false,
        },
    }];
    if down {
        evidence.push(scene.plane_evidence(format!("Node {name}"), "not Ready".to_owned()));
    }
    Some(Claim {
        code: Code::Seen01,
        subject: name.clone(),
        severity: Code::Seen01.entry().severity,
        nodes: vec![name.clone()],
        summary: match host {
            Some(_) => format!("the agent of {name} has gone quiet"),
            None => format!("no agent reports for {name}"),
        },
        affected: Vec::new(),
        affected_total: 0,
        evidence,
        unseen: vec![format!("routes, CNI configuration and devices of {name}")],
        cause: match (down, host) {
            (true, _) => "The Node is not Ready either: the host is down or cut off.".to_owned(),
            (false, Some(_)) => "The agent stopped, or cannot reach the aggregator.".to_owned(),
            (false, None) => "The agent does not run there, or cannot reach the aggregator.".to_owned(),
        },
        remedy: format!(
            "See whether cidrift-agent runs on {name} and reaches the aggregator's port 7440: its log says so."
        ),
        changed_at: host.map_or(Some(node.changed_at), |host| Some(host.heard_at)),
        trigger: match host {
            Some(_) => Trigger::Host,
            None => Trigger::ControlPlane,
        },
    })
}
