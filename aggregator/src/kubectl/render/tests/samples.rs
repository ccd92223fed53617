//! Answers to show.

mod answers;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{
    Agrees, CniConfig, CniFacts, Compared, Counted, CountedSetups, Direction, FlannelSubnet, Gap, GrownSetups,
    HostFacts, LinkFact, LinkRole, LinkTraffic, LoggedSetups, ProgramFact, RuntimeFact, SettingFact, SetupCounts,
    SetupFacts, SetupSpan, TrafficFact, VxlanFact,
};
use cidrift_proto::finding::{Affected, Claim, Evidence, Finding, FindingState, Trigger};
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing, MacAddress, RouteMatch, Via};
use cidrift_proto::verdict::{CidrVerdict, Standing, Verdict};
use jiff::{SignedDuration, Timestamp};

use crate::cluster::ReportState;
use crate::kubectl::render::{Look, WIDTH};
use crate::query::answer::{NodeAnswer, StatusAnswer};
use crate::summary::{
    Health, IpamEvidence, IpamReport, NodeSummary, PoolNode, PoolRange, PoolReport, PoolWitness, Status, Tally,
};

pub(super) use answers::{a_pool, pending, resolved, route_missing, status_of};

/// 2026-03-01T12:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

pub(super) const TABLE: Look = Look {
    now: NOW,
    colour: false,
    wide: false,
    columns: WIDTH,
};
pub(super) const WIDE: Look = Look { wide: true, ..TABLE };

pub(super) fn ago(seconds: i64) -> Timestamp {
    NOW - SignedDuration::from_secs(seconds)
}

pub(super) fn narrow(text: String) -> String {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
    text
}

pub(super) fn entry(prefix: &str, landing: Landing) -> ForwardingEntry {
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

pub(super) fn vxlan(n: u8) -> Landing {
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

pub(super) fn bridge() -> Landing {
    Landing::Local {
        device: "cni0".into(),
        carrier: true,
    }
}

pub(super) fn verdict(source: &str, owner: &str, cidr: &str, verdict: Verdict, landing: Landing) -> CidrVerdict {
    CidrVerdict {
        source: source.into(),
        owner: owner.into(),
        cidr: cidr.parse().unwrap(),
        verdict,
        landings: vec![entry(cidr, landing)],
        observed_at: Some(ago(2)),
    }
}

pub(super) fn names(n: u8) -> Vec<String> {
    (0..n).map(|i| format!("node-{}", char::from(b'a' + i))).collect()
}

pub(in crate::kubectl::render) fn summary(name: &str, n: u8, verdicts: &[CidrVerdict]) -> NodeSummary {
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
        not_ready: String::new(),
        pod_cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
        internal_ips: vec![format!("172.30.0.1{n}").parse().unwrap()],
        report: ReportState::Live,
        report_problem: String::new(),
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
        model: "spec.podCIDR".into(),
    }
}

/// What shows that a node's addresses come from its pod CIDR.
fn by_pod_cidr(name: &str) -> IpamReport {
    let evidence = |source: &str, text: &str, decides| IpamEvidence {
        source: source.into(),
        text: text.into(),
        decides,
    };
    IpamReport {
        model: "spec.podCIDR".into(),
        authoritative: Some(true),
        why: String::new(),
        evidence: vec![
            evidence(
                &format!("/etc/cni/net.d/10-flannel.conflist on {name}"),
                "plugins flannel > portmap",
                true,
            ),
            evidence(
                &format!("Node {name}"),
                "flannel has registered it, backend vxlan",
                false,
            ),
        ],
        unseen: vec!["pods: not watched by this source".into()],
        rules: "POOL, HOST and PATH rules judge it by spec.podCIDRs".into(),
    }
}

/// Nodes that reach each other over flannel's vxlan.
pub(super) fn cluster(names: &[String]) -> Vec<NodeAnswer> {
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
            classification: Some(by_pod_cidr(name)),
        });
    }
    nodes
}

/// One of each verdict from node-a.
pub(super) fn every_verdict() -> Vec<NodeAnswer> {
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

pub(super) fn facts() -> HostFacts {
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
        compared: vec![
            Compared {
                what: "podCIDRs".into(),
                value: "10.244.1.0/24".into(),
                source: "Node node-a".into(),
                agrees: Agrees::Nothing,
            },
            Compared {
                what: "CNI config".into(),
                value: "flannel, host-local".into(),
                source: "/etc/cni/net.d/10-flannel.conflist".into(),
                agrees: Agrees::Yes,
            },
            Compared {
                what: "running pods".into(),
                value: "14 addresses, 1 outside: 10.244.7.5".into(),
                source: "/run/containerd/containerd.sock".into(),
                agrees: Agrees::No,
            },
            Compared {
                what: "CNI's record".into(),
                value: "unknown: Permission denied".into(),
                source: "/var/lib/cni/networks".into(),
                agrees: Agrees::Unknown,
            },
        ],
        programs: vec![ProgramFact {
            name: "kubelet".into(),
            embedded_in: Some("k3s".into()),
            pid: Some(812),
            started_at: Some(ago(7_200)),
            settings: vec![SettingFact {
                name: "max-pods".into(),
                value: "110".into(),
                source: "command line".into(),
            }],
            problem: Some("/etc/rancher/k3s/config.yaml: Permission denied".into()),
        }],
        runtime: Some(RuntimeFact {
            name: "containerd".into(),
            version: "1.6.20".into(),
            socket: "/run/k3s/containerd/containerd.sock".into(),
            network_ready: Some(false),
            why: Some("NetworkPluginNotReady: cni plugin not initialized".into()),
        }),
        traffic: Some(traffic()),
        setups: Some(setups()),
        leaks: None,
    }
}

fn setups() -> SetupFacts {
    let span = |seconds, made, failed, percentile_95_ms| SetupSpan {
        seconds,
        made,
        failed,
        median_ms: Some(412),
        percentile_95_ms,
        slowest_ms: Some(41_300),
        slowest_failed_ms: (failed > 0).then_some(4_000),
    };
    let counts = |calls, failed| SetupCounts {
        calls,
        failed,
        mean_ms: Some(260),
        slowest_within_ms: None,
        slowest_beyond_ms: Some(10_000),
    };
    SetupFacts {
        observed_at: ago(12),
        logged: Some(LoggedSetups {
            source: "/var/log/containerd.log".into(),
            since: Some(ago(2_400)),
            spans: vec![span(600, 12, 0, None), span(3_600, 80, 9, Some(2_100))],
            waiting: 1,
            waiting_since: Some(ago(95)),
        }),
        counted: vec![CountedSetups {
            program: "containerd".into(),
            source: "containerd's metrics at 127.0.0.1:1338".into(),
            observed_at: ago(40),
            networks: true,
            total: counts(310, 11),
            grown: Some(GrownSetups {
                since: ago(640),
                counts: counts(12, 0),
            }),
        }],
    }
}

fn traffic() -> TrafficFact {
    let counts = |packets, errors, dropped| Direction {
        bytes: packets * 100,
        packets,
        errors,
        dropped,
    };
    let link = |name: &str, role, links, received, sent| LinkTraffic {
        name: name.into(),
        role,
        links,
        received,
        sent,
    };
    TrafficFact {
        observed_at: ago(42),
        links: vec![
            link("eth0", LinkRole::Uplink, 1, counts(9000, 0, 0), counts(7000, 0, 0)),
            link("flannel.1", LinkRole::Tunnel, 1, counts(100, 0, 0), counts(200, 3, 4)),
            link("", LinkRole::PodPort, 7, counts(10, 0, 0), counts(20, 0, 0)),
        ],
        counted: vec![Counted {
            name: "IpExtInNoRoutes".into(),
            value: 17,
        }],
    }
}
