//! A healthy cluster, n1 with 10.244.1.0/24 and so on, in which things are then made wrong.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{
    Agrees, CniConfig, CniFacts, Compared, FlannelSubnet, HostFacts, LeakedLease, LeakedLeases, LeakedNetwork,
    LinkFact, LinkRole,
};
use cidrift_proto::finding::{Claim, Finding, FindingState, Severity, Trigger};
use cidrift_proto::landing::{ForwardingEntry, Landing, Via};
use ipnet::IpNet;
use jiff::Timestamp;

use super::ground::{Ground, NodeGround, Owner, PodGround, Pods, Room};
use crate::cluster::ReportState;
use crate::query::answer::NodeAnswer;
use crate::summary::{Health, IpamReport, NodeSummary, PoolRange, PoolReport, Tally};

const NOW: Timestamp = Timestamp::constant(1_772_366_400, 0);

pub(crate) fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) struct World {
    pub(crate) ground: Ground,
}

impl World {
    pub(crate) fn of(nodes: u8) -> Self {
        let nodes = (1..=nodes).map(|n| (format!("n{n}"), node(n)));
        Self {
            ground: Ground {
                at: NOW,
                nodes: nodes.collect(),
                strays: BTreeMap::new(),
                pods: Pods::default(),
                budgets: BTreeMap::new(),
                findings: Vec::new(),
                pool: PoolReport {
                    ranges: vec![range("10.244.0.0/16", 24)],
                    nodes: Vec::new(),
                    unknown: None,
                    service_ranges: nets(&["10.96.0.0/12"]),
                    witnesses: Vec::new(),
                    growth: String::new(),
                },
                controllers: None,
                gaps: Vec::new(),
                plain: Vec::new(),
            },
        }
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut NodeGround {
        self.ground.nodes.get_mut(name).unwrap()
    }

    pub(crate) fn view(&mut self, name: &str) -> &mut NodeAnswer {
        self.node(name).view.as_mut().unwrap()
    }

    /// A host that the aggregator knows and whose Node is gone: that of a node of its own number.
    pub(crate) fn stray(&mut self, number: u8) -> &mut NodeAnswer {
        let (name, view) = (format!("n{number}"), node(number).view.unwrap());
        self.ground.strays.entry(name).or_insert(view)
    }

    fn facts(&mut self, name: &str) -> &mut HostFacts {
        self.view(name).facts.as_mut().unwrap()
    }

    pub(crate) fn second_range(&mut self, net: &str, mask: u8) {
        self.ground.pool.ranges.push(range(net, mask));
    }

    pub(crate) fn find(&mut self, code: Code, subject: &str, nodes: &[&str]) -> &mut Finding {
        let claim = Claim {
            code,
            subject: subject.to_owned(),
            severity: Severity::Error,
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
            summary: "it is wrong".to_owned(),
            affected: Vec::new(),
            affected_total: 0,
            evidence: Vec::new(),
            unseen: Vec::new(),
            cause: "somebody".to_owned(),
            remedy: "do it right".to_owned(),
            changed_at: None,
            trigger: Trigger::Host,
        };
        self.ground.findings.push(Finding {
            id: claim.id(),
            episode: 1,
            state: FindingState::Open,
            claim,
            first_seen: NOW,
            opened_at: Some(NOW),
            resolved_at: None,
            updated_at: NOW,
            resolution: None,
            explained_by: Vec::new(),
            stale: false,
        });
        self.ground.findings.last_mut().unwrap()
    }

    /// A pod of a ReplicaSet in the pods' network.
    pub(crate) fn pod(&mut self, node: &str, name: &str, addresses: &[&str]) -> &mut PodGround {
        self.ground.pods.push(PodGround {
            key: format!("default/{name}"),
            node: Some(node.to_owned()),
            owner: Some(Owner {
                kind: "ReplicaSet".to_owned(),
                name: "web".to_owned(),
            }),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            requests: Room {
                pods: 1,
                ..Room::default()
            },
            ..PodGround::default()
        });
        self.ground.pods.last_on(node)
    }

    pub(crate) fn daemon(&mut self, node: &str, kind: &str) {
        self.ground.pods.push(PodGround {
            key: format!("kube-system/{kind}-{node}"),
            node: Some(node.to_owned()),
            owner: Some(Owner {
                kind: "DaemonSet".to_owned(),
                name: kind.to_owned(),
            }),
            host_network: true,
            daemon: Some(kind.to_owned()),
            ..PodGround::default()
        });
    }

    pub(crate) fn configured(&mut self, node: &str, range: &str, by: Option<&str>) {
        self.facts(node).cni.chosen = Some(config(range, by));
    }

    /// Its kubelet has taken over what its Node has.
    pub(crate) fn follows(&mut self, node: &str) {
        self.facts(node).compared.push(Compared {
            what: "kubelet".to_owned(),
            value: "it has taken it over".to_owned(),
            source: "journal".to_owned(),
            agrees: Agrees::Yes,
        });
    }

    /// flannel's subnet.env.
    pub(crate) fn flannel(&mut self, node: &str, network: &str, subnet: &str) {
        self.facts(node).cni.flannel = Some(FlannelSubnet {
            path: "/run/flannel/subnet.env".to_owned(),
            networks: nets(&[network]),
            subnets: nets(&[subnet]),
            mtu: 1500,
            ipmasq: false,
        });
    }

    pub(crate) fn bridge(&mut self, node: &str, address: &str) {
        let links = &mut self.facts(node).links;
        links.retain(|link| link.role != LinkRole::Bridge);
        links.push(link("cni0", LinkRole::Bridge, address));
    }

    pub(crate) fn link(&mut self, node: &str, name: &str, address: &str) {
        self.facts(node).links.push(link(name, LinkRole::Other, address));
    }

    pub(crate) fn tunnel(&mut self, node: &str, name: &str, address: &str) {
        self.facts(node).links.push(link(name, LinkRole::Tunnel, address));
    }

    /// Leases of one directory, whose sandboxes are gone.
    pub(crate) fn leaks(&mut self, node: &str, directory: &str, leases: &[(&str, &str)]) -> &mut LeakedLeases {
        let lease = |(address, container): &(&str, &str)| LeakedLease {
            address: address.parse().unwrap(),
            container: (*container).to_owned(),
        };
        let leaks = self.facts(node).leaks.get_or_insert_default();
        leaks.networks.push(LeakedNetwork {
            directory: directory.to_owned(),
            leases: leases.iter().map(lease).collect(),
        });
        leaks
    }

    pub(crate) fn route(&mut self, node: &str, prefix: &str, to: &str) {
        let landing = Landing::Underlay {
            address: to.parse().unwrap(),
            via: Via::Gateway {
                device: "eth0".to_owned(),
            },
        };
        self.lands(node, prefix, landing);
    }

    pub(crate) fn lands(&mut self, node: &str, prefix: &str, landing: Landing) {
        self.view(node).entries.push(ForwardingEntry {
            prefix: prefix.parse().unwrap(),
            landing,
            route: None,
            changed_at: NOW,
        });
    }
}

fn range(net: &str, node_mask: u8) -> PoolRange {
    PoolRange {
        range: net.parse().unwrap(),
        node_mask,
        ..PoolRange::default()
    }
}

fn link(name: &str, role: LinkRole, address: &str) -> LinkFact {
    LinkFact {
        index: 5,
        name: name.to_owned(),
        kind: "bridge".to_owned(),
        up: true,
        carrier: true,
        mtu: 1500,
        lladdr: None,
        addresses: nets(&[address]),
        role,
        vxlan: None,
    }
}

fn config(range: &str, by: Option<&str>) -> CniConfig {
    CniConfig {
        path: "/etc/cni/net.d/10-net.conflist".to_owned(),
        network: "net".to_owned(),
        cni_version: "0.4.0".to_owned(),
        plugins: vec!["bridge".to_owned()],
        ipam: Some("host-local".to_owned()),
        ranges: nets(&[range]),
        subnets: nets(&[range]),
        bridge: Some("cni0".to_owned()),
        generated_by: by.map(str::to_owned),
        modified_at: None,
    }
}

fn node(n: u8) -> NodeGround {
    let cidr = format!("10.244.{n}.0/24");
    let name = format!("n{n}");
    let summary = NodeSummary {
        name: name.clone(),
        uid: format!("uid-{n}"),
        in_control_plane: true,
        ready: true,
        not_ready: String::new(),
        pod_cidrs: nets(&[&cidr]),
        internal_ips: Vec::new(),
        report: ReportState::Live,
        report_problem: String::new(),
        agent_version: "0.1.0".to_owned(),
        last_report: Some(NOW),
        pairs: Tally::default(),
        findings: Vec::new(),
        health: Health::Healthy,
        plugin: "bridge".to_owned(),
        ipam: "host-local".to_owned(),
        model: "spec.podCIDR".to_owned(),
    };
    let facts = HostFacts {
        observed_at: NOW,
        kernel: "6.18".to_owned(),
        links: vec![link("cni0", LinkRole::Bridge, &format!("10.244.{n}.1/24"))],
        links_omitted: 0,
        cni: CniFacts {
            directory: "/etc/cni/net.d".to_owned(),
            chosen: Some(config(&cidr, None)),
            ..CniFacts::default()
        },
        ..HostFacts::default()
    };
    let classification = IpamReport {
        model: "spec.podCIDR".to_owned(),
        authoritative: Some(true),
        ..IpamReport::default()
    };
    NodeGround {
        uid: format!("uid-{n}"),
        cidrs: nets(&[&cidr]),
        addresses: vec![format!("172.30.0.{n}").parse().unwrap()],
        unschedulable: false,
        fix: None,
        ready: true,
        deleting: false,
        finalizers: Vec::new(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        provider: String::new(),
        drivers: Vec::new(),
        allocatable: Room {
            cpu: 4000,
            memory: 8 << 30,
            pods: 110,
        },
        view: Some(NodeAnswer {
            summary,
            facts: Some(facts),
            verdicts: Vec::new(),
            findings: Vec::new(),
            entries: Vec::new(),
            classification: Some(classification),
        }),
    }
}
