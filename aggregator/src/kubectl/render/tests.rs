use cidrift_proto::catalogue::{CATALOGUE, Code};
use cidrift_proto::facts::{CniConfig, CniFacts, FlannelSubnet, Gap, HostFacts, LinkFact, LinkRole, VxlanFact};
use cidrift_proto::finding::{Affected, Claim, Evidence, Finding, FindingState, Trigger};
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing, MacAddress, RouteMatch, Via};
use cidrift_proto::verdict::{CidrVerdict, Standing, Verdict};
use insta::assert_snapshot;
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::cluster::ReportState;
use crate::query::answer::{NodeAnswer, PathAnswer, StatusAnswer, WatchEvent};
use crate::summary::{Health, NodeSummary, PoolNode, PoolRange, PoolReport, Status, Tally};

/// 2026-03-01T12:00:00Z.
const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

const TABLE: Look = Look {
    now: NOW,
    colour: false,
    wide: false,
};
const WIDE: Look = Look { wide: true, ..TABLE };

fn ago(seconds: i64) -> Timestamp {
    NOW - SignedDuration::from_secs(seconds)
}

fn narrow(text: String) -> String {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
    text
}

fn entry(prefix: &str, landing: Landing) -> ForwardingEntry {
    let prefix = prefix.parse().unwrap();
    let routed = landing != Landing::NoRoute;
    ForwardingEntry {
        prefix,
        landing,
        route: routed.then_some(RouteMatch {
            prefix,
            table: 254,
            metric: 0,
            protocol: 3,
        }),
        changed_at: ago(3600),
    }
}

fn vxlan(n: u8) -> Landing {
    Landing::Underlay {
        address: format!("172.30.0.1{n}").parse().unwrap(),
        via: Via::Vxlan {
            device: "flannel.1".into(),
            vni: 1,
            gateway: format!("10.244.{n}.0").parse().unwrap(),
            lladdr: MacAddress([2, 0, 0, 0, 0, n]),
        },
    }
}

fn bridge() -> Landing {
    Landing::Local {
        device: "cni0".into(),
        carrier: true,
    }
}

fn verdict(source: &str, owner: &str, cidr: &str, verdict: Verdict, landing: Landing) -> CidrVerdict {
    CidrVerdict {
        source: source.into(),
        owner: owner.into(),
        cidr: cidr.parse().unwrap(),
        verdict,
        landings: vec![entry(cidr, landing)],
        observed_at: Some(ago(2)),
    }
}

fn names(n: u8) -> Vec<String> {
    (0..n).map(|i| format!("node-{}", char::from(b'a' + i))).collect()
}

fn summary(name: &str, n: u8, verdicts: &[CidrVerdict]) -> NodeSummary {
    let count = |s: Standing| verdicts.iter().filter(|v| v.verdict.standing() == s).count() as u64;
    let pairs = Tally {
        delivered: count(Standing::Delivered),
        broken: count(Standing::Broken),
        unknown: count(Standing::Unknown),
    };
    NodeSummary {
        name: name.into(),
        uid: format!("1f0c6a1e-0000-4000-8000-00000000000{n}"),
        in_control_plane: true,
        ready: true,
        pod_cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
        internal_ips: vec![format!("172.30.0.1{n}").parse().unwrap()],
        report: ReportState::Live,
        agent_version: "0.1.0".into(),
        last_report: Some(ago(1)),
        health: match pairs {
            Tally { broken: 1.., .. } => Health::Findings,
            Tally { unknown: 1.., .. } => Health::Unknown,
            _ => Health::Healthy,
        },
        pairs,
        findings: Vec::new(),
        plugin: "flannel".into(),
        ipam: "host-local".into(),
    }
}

/// Nodes that reach each other over flannel's vxlan.
fn cluster(names: &[String]) -> Vec<NodeAnswer> {
    let mut nodes = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let verdicts: Vec<CidrVerdict> = names
            .iter()
            .enumerate()
            .map(|(j, owner)| {
                let cidr = format!("10.244.{j}.0/24");
                match i == j {
                    true => verdict(name, owner, &cidr, Verdict::Local, bridge()),
                    false => verdict(name, owner, &cidr, Verdict::Delivered, vxlan(j as u8)),
                }
            })
            .collect();
        nodes.push(NodeAnswer {
            summary: summary(name, i as u8, &verdicts),
            facts: None,
            entries: verdicts.iter().flat_map(|v| v.landings.clone()).collect(),
            verdicts,
            findings: Vec::new(),
        });
    }
    nodes
}

/// One of each verdict from node-a.
fn every_verdict() -> Vec<NodeAnswer> {
    let mut nodes = cluster(&names(9));
    let wrong: Vec<(usize, Verdict, Landing)> = vec![
        (2, Verdict::Misdelivered { to: "node-b".into() }, vxlan(1)),
        (
            3,
            Verdict::Blackholed {
                reason: "blackhole route".into(),
            },
            Landing::Discard {
                how: Discard::Blackhole,
            },
        ),
        (
            4,
            Verdict::NoRoute {
                reason: "no route matches".into(),
            },
            Landing::NoRoute,
        ),
        (
            5,
            Verdict::Loop {
                reason: "node-a, node-f, node-a".into(),
            },
            vxlan(1),
        ),
        (
            6,
            Verdict::LeavesCluster {
                to: "172.30.0.1".parse().unwrap(),
            },
            Landing::Underlay {
                address: "172.30.0.1".parse().unwrap(),
                via: Via::Gateway { device: "eth0".into() },
            },
        ),
        (
            7,
            Verdict::Opaque {
                reason: "eBPF of cilium_host decides".into(),
            },
            Landing::Opaque {
                device: Some("cilium_host".into()),
                reason: "eBPF".into(),
            },
        ),
        (
            8,
            Verdict::Unknown {
                reason: "its agent does not report".into(),
            },
            Landing::NoRoute,
        ),
    ];
    for (at, verdict, landing) in wrong {
        let to = &mut nodes[0].verdicts[at];
        let cidr = to.cidr.to_string();
        to.landings = vec![entry(&cidr, landing)];
        if matches!(verdict, Verdict::Unknown { .. }) {
            to.landings.clear();
            to.observed_at = None;
        }
        to.verdict = verdict;
    }
    nodes[0].summary = summary("node-a", 0, &nodes[0].verdicts);
    nodes
}

fn facts() -> HostFacts {
    let link = |index, name: &str, kind: &str, address: &str, role| LinkFact {
        index,
        name: name.into(),
        kind: kind.into(),
        up: true,
        carrier: true,
        mtu: if kind == "vxlan" { 1450 } else { 1500 },
        lladdr: Some(MacAddress([2, 0, 0, 0, 1, index as u8])),
        addresses: vec![address.parse().unwrap()],
        role,
        vxlan: (kind == "vxlan").then_some(VxlanFact {
            vni: 1,
            port: 8472,
            learning: false,
            local: None,
        }),
    };
    HostFacts {
        observed_at: ago(5),
        kernel: "6.18.44".into(),
        links: vec![
            link(2, "eth0", "", "172.30.0.10/24", LinkRole::Uplink),
            link(3, "flannel.1", "vxlan", "10.244.0.0/32", LinkRole::Tunnel),
            LinkFact {
                carrier: false,
                ..link(4, "cni0", "bridge", "10.244.0.1/24", LinkRole::Bridge)
            },
        ],
        links_omitted: 7,
        cni: CniFacts {
            directory: "/etc/cni/net.d".into(),
            chosen: Some(CniConfig {
                path: "/etc/cni/net.d/10-flannel.conflist".into(),
                network: "cbr0".into(),
                cni_version: "0.3.1".into(),
                plugins: vec!["flannel".into(), "portmap".into()],
                ipam: Some("host-local".into()),
                ranges: Vec::new(),
                subnets: Vec::new(),
                bridge: Some("cni0".into()),
                generated_by: None,
                modified_at: Some(ago(86_400)),
            }),
            others: vec!["/etc/cni/net.d/87-podman-bridge.conflist".into()],
            flannel: Some(FlannelSubnet {
                path: "/run/flannel/subnet.env".into(),
                networks: vec!["10.244.0.0/16".parse().unwrap()],
                subnets: vec!["10.244.0.0/24".parse().unwrap()],
                mtu: 1450,
                ipmasq: true,
            }),
            problem: None,
        },
        gaps: vec![Gap {
            what: "/run/containerd".into(),
            why: "permission denied".into(),
        }],
    }
}

fn route_missing() -> Finding {
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

fn pending() -> Finding {
    let mut finding = route_missing();
    finding.state = FindingState::Pending;
    finding.episode = 1;
    finding.opened_at = None;
    finding.first_seen = ago(0);
    finding
}

fn resolved() -> Finding {
    let mut finding = route_missing();
    finding.state = FindingState::Resolved;
    finding.resolved_at = Some(ago(10));
    finding.updated_at = ago(10);
    finding.resolution = Some("node-a delivers 10.244.1.0/24 again".into());
    finding
}

fn status_of(nodes: &[NodeAnswer], findings: &[Finding], unknowns: &[&str]) -> StatusAnswer {
    let sum = |of: fn(&Tally) -> u64| nodes.iter().map(|node| of(&node.summary.pairs)).sum();
    let pairs = Tally {
        delivered: sum(|t| t.delivered),
        broken: sum(|t| t.broken),
        unknown: sum(|t| t.unknown),
    };
    let open = findings.iter().filter(|f| f.state == FindingState::Open).count() as u32;
    StatusAnswer {
        aggregator_version: "0.1.0".into(),
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

#[test]
fn status_of_an_empty_cluster_is_unknown() {
    let mut answer = status_of(&[], &[], &["no control-plane state has been read yet"]);
    answer.status.control_plane_source = String::new();
    answer.status.control_plane_problem = Some("nodes.yaml: line 3: mapping expected".into());
    answer.status.control_plane_at = None;
    let text = narrow(status(&answer, &[], &[], &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn status_of_three_healthy_nodes() {
    let nodes = cluster(&names(3));
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn status_shows_what_is_not_seen() {
    let mut nodes = cluster(&names(3));
    for verdict in &mut nodes[2].verdicts {
        verdict.verdict = Verdict::Unknown {
            reason: "its agent does not report".into(),
        };
        verdict.landings.clear();
    }
    nodes[2].summary = summary("node-c", 2, &nodes[2].verdicts);
    let answer = status_of(&nodes, &[], &["node-c: its agent has been silent for 3m"]);
    let text = narrow(status(&answer, &[], &nodes, &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn status_with_each_kind_of_verdict_and_findings() {
    let nodes = every_verdict();
    let findings = [route_missing(), pending()];
    let answer = status_of(&nodes, &findings, &["node-i: its agent does not report"]);
    assert_snapshot!(narrow(status(&answer, &findings, &nodes, &TABLE)));
}

#[test]
fn status_of_twelve_nodes_with_long_names_fits() {
    let names: Vec<String> = (0..12)
        .map(|n| format!("ip-10-0-131-{n}.eu-central-1.compute.internal"))
        .collect();
    let nodes = cluster(&names);
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn a_dual_stack_cluster_has_a_matrix_for_each_family() {
    let mut nodes = cluster(&names(2));
    for (i, node) in nodes.iter_mut().enumerate() {
        let name = node.summary.name.clone();
        node.summary
            .pod_cidrs
            .push(format!("fd00:10:244:{i}::/64").parse().unwrap());
        for (j, owner) in names(2).iter().enumerate() {
            let how = if i == j { Verdict::Local } else { Verdict::Delivered };
            node.verdicts
                .push(verdict(&name, owner, &format!("fd00:10:244:{j}::/64"), how, bridge()));
        }
    }
    assert_snapshot!(narrow(status(&status_of(&nodes, &[], &[]), &[], &nodes, &TABLE)));
}

#[test]
fn nodes_in_rows() {
    let mut rows: Vec<NodeSummary> = every_verdict().into_iter().map(|node| node.summary).collect();
    rows.truncate(4);
    rows[0].findings = vec!["PATH01/node-a".into(), "PATH07/node-b".into(), "PATH01/node-b".into()];
    rows[1].ready = false;
    rows[2].report = ReportState::Silent;
    rows[2].last_report = Some(ago(200));
    rows[2].health = Health::Unknown;
    rows[3].in_control_plane = false;
    rows[3].pod_cidrs.clear();
    rows[3].report = ReportState::Syncing;
    rows[3].health = Health::Unknown;
    assert_snapshot!("nodes_table", narrow(nodes(&rows, &TABLE)));
    assert_snapshot!("nodes_wide", nodes(&rows, &WIDE));
    assert_snapshot!("nodes_none", nodes(&[], &TABLE));
}

#[test]
fn one_node_with_everything() {
    let mut answer = every_verdict().swap_remove(0);
    answer.facts = Some(facts());
    answer.findings = vec![route_missing()];
    assert_snapshot!("node_table", narrow(node(&answer, &TABLE)));
    assert_snapshot!("node_wide", node(&answer, &WIDE));
}

#[test]
fn a_node_that_nobody_reports_for_is_unknown() {
    let mut answer = cluster(&names(1)).swap_remove(0);
    answer.summary.report = ReportState::Never;
    answer.summary.last_report = None;
    answer.summary.agent_version = String::new();
    answer.summary.health = Health::Unknown;
    answer.verdicts.clear();
    let text = narrow(node(&answer, &TABLE));
    assert!(!text.contains("healthy"));
    assert_snapshot!(text);
}

#[test]
fn findings_read_like_a_compilers_errors() {
    let all = [route_missing(), pending(), resolved()];
    assert_snapshot!(narrow(findings(&all, Health::Findings, &[], None, &TABLE)));
}

#[test]
fn a_finding_about_many_things_shows_some_and_counts_the_rest() {
    let mut finding = route_missing();
    let row = finding.claim.affected[0].clone();
    finding.claim.affected = vec![row; 64];
    finding.claim.affected_total = 5000;
    let evidence = finding.claim.evidence[0].clone();
    finding.claim.evidence = vec![evidence; 20];
    finding.claim.nodes = names(20);
    assert_snapshot!(narrow(super::finding(&finding, &TABLE)));
    assert!(super::finding(&finding, &WIDE).contains("… and 4936 more\n"));
}

#[test]
fn no_finding_is_not_health_where_not_everything_was_seen() {
    let healthy = findings(&[], Health::Healthy, &[], None, &TABLE);
    assert_eq!(healthy, "No finding is open.\n");
    let unknown = findings(&[], Health::Unknown, &["node-c does not report".into()], None, &TABLE);
    assert_snapshot!(narrow(unknown));
    let unjudged = CATALOGUE.iter().find(|entry| !entry.judged).unwrap();
    let text = findings(&[], Health::Healthy, &[], Some(unjudged.code), &TABLE);
    assert!(text.contains("does not look for that code"), "{text}");
}

#[test]
fn a_watch_is_a_line_for_each_change() {
    let finding = |finding| WatchEvent::Finding {
        finding: Box::new(finding),
    };
    let text: String = [
        finding(pending()),
        WatchEvent::Synced,
        finding(route_missing()),
        WatchEvent::Lagged { missed: 12 },
        finding(resolved()),
    ]
    .iter()
    .map(|each| event(each, &TABLE))
    .collect();
    assert_snapshot!(text);
}

#[test]
fn a_path_is_shown_both_ways() {
    let nodes = every_verdict();
    let forward = vec![nodes[0].verdicts[2].clone()];
    let backward = vec![nodes[2].verdicts[0].clone()];
    let answer = PathAnswer {
        from: "node-a".into(),
        to: "node-c".into(),
        health: PathAnswer::judge(&forward, &backward),
        forward,
        backward,
    };
    assert_eq!(answer.health, Health::Findings);
    assert_snapshot!(narrow(path(&answer, &TABLE)));
}

#[test]
fn a_way_without_a_verdict_is_unknown() {
    let nodes = cluster(&names(2));
    let one_way = PathAnswer::judge(&nodes[0].verdicts, &[]);
    assert_eq!(one_way, Health::Unknown);
    assert_eq!(
        PathAnswer::judge(&nodes[0].verdicts, &nodes[1].verdicts),
        Health::Healthy
    );
    let answer = PathAnswer {
        from: "node-a".into(),
        to: "node-b".into(),
        forward: Vec::new(),
        backward: Vec::new(),
        health: Health::Unknown,
    };
    assert_snapshot!(narrow(path(&answer, &TABLE)));
}

fn a_pool() -> PoolReport {
    let node = |node: &str, cidr: &str, in_pool, overlaps: &[&str]| PoolNode {
        node: node.into(),
        cidr: cidr.parse().unwrap(),
        in_pool: Some(in_pool),
        overlaps: overlaps.iter().map(|&text| text.to_owned()).collect(),
    };
    PoolReport {
        ranges: vec![PoolRange {
            range: "10.244.0.0/22".parse().unwrap(),
            witness: "--cluster-cidr given to the aggregator".into(),
            node_mask: 24,
            capacity: 4,
            used: 3,
            free: 1,
        }],
        nodes: vec![
            node("node-a", "10.244.0.0/24", true, &[]),
            node("node-b", "10.244.1.0/24", true, &["node-c 10.244.1.0/25"]),
            node("node-d", "10.99.0.0/24", false, &[]),
        ],
        unknown: None,
        service_ranges: vec!["10.96.0.0/12".parse().unwrap()],
    }
}

#[test]
fn the_pool_known_and_unknown() {
    assert_snapshot!("pool_known", narrow(pool(&a_pool(), &TABLE)));
    let mut unknown = a_pool();
    unknown.ranges.clear();
    unknown.service_ranges.clear();
    unknown.unknown = Some("no --cluster-cidr was given".into());
    for node in &mut unknown.nodes {
        node.in_pool = None;
    }
    assert_snapshot!("pool_unknown", narrow(pool(&unknown, &TABLE)));
}

#[test]
fn the_catalogue_and_a_page_of_it() {
    assert_snapshot!("catalogue", narrow(catalogue(&TABLE)));
    assert_snapshot!("page", page(Code::Pool02.entry(), &TABLE));
    assert!(page(Code::Pool05.entry(), &TABLE).contains("does not look for it"));
}

/// Commands are for copying and may be longer than a line.
#[test]
fn every_pages_prose_fits() {
    for entry in CATALOGUE {
        let commands: Vec<&str> = entry
            .look
            .iter()
            .chain(entry.remedy)
            .filter_map(|step| step.command)
            .flat_map(str::lines)
            .collect();
        for line in page(entry, &TABLE).lines() {
            assert!(
                line.chars().count() <= WIDTH || commands.contains(&line.trim()),
                "{}: {line}",
                entry.code
            );
        }
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let nodes = every_verdict();
    let findings = [route_missing(), pending()];
    let answer = status_of(&nodes, &findings, &[]);
    let colour = Look { colour: true, ..TABLE };
    let plain =
        status(&answer, &findings, &nodes, &TABLE) + &super::findings(&findings, Health::Findings, &[], None, &TABLE);
    let coloured =
        status(&answer, &findings, &nodes, &colour) + &super::findings(&findings, Health::Findings, &[], None, &colour);
    assert!(!plain.contains('\x1b'));
    assert!(coloured.contains("\x1b["));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        stripped += before;
        rest = after.split_once('m').map_or("", |(_, text)| text);
    }
    stripped += rest;
    let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
}

/// What programs read: fields are added, never renamed.
#[test]
fn machine_output_is_stable() {
    let mut answer = cluster(&names(2)).swap_remove(0);
    answer.facts = Some(facts());
    answer.findings = vec![route_missing()];
    insta::assert_json_snapshot!("machine_node", answer);
    insta::assert_json_snapshot!("machine_status", status_of(&[], &[], &["nothing was read"]));
    insta::assert_json_snapshot!("machine_pool", a_pool());
    insta::assert_json_snapshot!(
        "machine_watch",
        [
            WatchEvent::Finding {
                finding: Box::new(pending())
            },
            WatchEvent::Synced,
            WatchEvent::Lagged { missed: 3 }
        ]
    );
    insta::assert_json_snapshot!("machine_verdicts", every_verdict()[0].verdicts);
}
