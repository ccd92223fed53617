//! Findings, and what is answered of the cluster and the pool.

use super::*;

pub(in crate::kubectl::render::tests) fn route_missing() -> Finding {
    Finding {
        id: "PATH01/node-a".into(),
        episode: 2,
        state: FindingState::Open,
        claim: Claim {
            code: Code::Path01,
            subject: "node-a".into(),
            severity: Code::Path01.entry().severity,
            nodes: vec!["node-a".into(), "node-b".into()],
            summary: "node-a has no route to 1 pod CIDR".into(),
            affected: vec![Affected {
                prefix: Some("10.244.1.0/24".parse().unwrap()),
                node: Some("node-b".into()),
                detail: "no route matches".into(),
            }],
            affected_total: 1,
            evidence: vec![
                Evidence {
                    source: "kernel of node-a".into(),
                    text: "10.244.1.0/24: no route matches".into(),
                    observed_at: Some(ago(3)),
                    stale: false,
                },
                Evidence {
                    source: "Node node-b".into(),
                    text: "spec.podCIDRs [10.244.1.0/24]".into(),
                    observed_at: Some(ago(130)),
                    stale: true,
                },
            ],
            unseen: vec!["host of node-c: its agent does not report".into()],
            cause: "the route was deleted, or the device that it led through was down for a while: flannel's vxlan \
                    backend does not put back what is deleted"
                .into(),
            remedy: "restart flannel's pod on node-a:\n  kubectl delete pod -n kube-flannel -l app=flannel \
                     --field-selector spec.nodeName=node-a"
                .into(),
            changed_at: Some(ago(192)),
            trigger: Trigger::Host,
        },
        first_seen: ago(193),
        opened_at: Some(ago(192)),
        resolved_at: None,
        updated_at: ago(192),
        resolution: None,
        explained_by: vec!["POOL12/node-b".into()],
        stale: false,
    }
}

pub(in crate::kubectl::render::tests) fn pending() -> Finding {
    let mut finding = route_missing();
    finding.state = FindingState::Pending;
    finding.episode = 1;
    finding.opened_at = None;
    finding.first_seen = ago(0);
    finding
}

pub(in crate::kubectl::render::tests) fn resolved() -> Finding {
    let mut finding = route_missing();
    finding.state = FindingState::Resolved;
    finding.resolved_at = Some(ago(10));
    finding.updated_at = ago(10);
    finding.resolution = Some("node-a delivers 10.244.1.0/24 again".into());
    finding
}

pub(in crate::kubectl::render::tests) fn status_of(
    nodes: &[NodeAnswer],
    findings: &[Finding],
    unknowns: &[&str],
) -> StatusAnswer {
    let sum = |of: fn(&Tally) -> u64| nodes.iter().map(|node| of(&node.summary.pairs)).sum();
    let pairs = Tally {
        delivered: sum(|t| t.delivered),
        broken: sum(|t| t.broken),
        unknown: sum(|t| t.unknown),
    };
    let open = findings.iter().filter(|f| f.state == FindingState::Open).count() as u32;
    StatusAnswer {
        aggregator_version: "0.1.0".into(),
        identity_warning: None,
        status: Status {
            health: match (open, unknowns.is_empty()) {
                (1.., _) => Health::Findings,
                (0, true) => Health::Healthy,
                (0, false) => Health::Unknown,
            },
            control_plane_source: "file nodes.yaml".into(),
            control_plane_problem: None,
            control_plane_at: Some(ago(4)),
            nodes: nodes.len() as u32,
            nodes_reporting: nodes.len() as u32,
            critical: 0,
            errors: open,
            warnings: 0,
            infos: 0,
            pending: findings.len() as u32 - open,
            pairs,
            unknowns: unknowns.iter().map(|&text| text.to_owned()).collect(),
            at: NOW,
        },
    }
}

pub(in crate::kubectl::render::tests) fn a_pool() -> PoolReport {
    let node = |node: &str, cidr: &str, in_pool, overlaps: &[&str]| PoolNode {
        node: node.into(),
        cidr: cidr.parse().unwrap(),
        in_pool: Some(in_pool),
        overlaps: overlaps.iter().map(|&text| text.to_owned()).collect(),
    };
    PoolReport {
        ranges: vec![PoolRange {
            range: "10.244.0.0/21".parse().unwrap(),
            witness: "--cluster-cidr given to the aggregator".into(),
            node_mask: 24,
            mask_stated: true,
            capacity: 8,
            used: 4,
            service: 1,
            partial: 1,
            leaked: Some(1),
            left_over: 1,
            free: 2,
            headroom: Some(150),
            full_in_days: Some(12),
        }],
        nodes: vec![
            node("node-a", "10.244.0.0/24", true, &[]),
            node("node-b", "10.244.1.0/24", true, &["node-c 10.244.1.0/25"]),
            node("node-d", "10.99.0.0/24", false, &[]),
        ],
        unknown: None,
        service_ranges: vec!["10.96.0.0/12".parse().unwrap()],
        witnesses: vec![
            PoolWitness {
                who: "--cluster-cidr given to the aggregator".into(),
                ranges: vec!["10.244.0.0/21".parse().unwrap()],
                stance: "settles it".into(),
                why: String::new(),
            },
            PoolWitness {
                who: "ConfigMap kube-flannel/kube-flannel-cfg, net-conf.json".into(),
                ranges: vec!["10.99.0.0/16".parse().unwrap()],
                stance: "disagrees".into(),
                why: "it does not hold 10.244.0.0/21".into(),
            },
        ],
        growth: "5 Nodes came in the last 30 days and still stand; those that went are not seen".into(),
    }
}
