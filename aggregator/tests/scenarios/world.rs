//! A small cluster as plain data: nodes with CIDR 10.244.N.0/24 and address
//! 172.30.0.1N, whose hosts route as flannel does it, and a clock that the test moves.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::around::Around;
use cidrift_aggregator::cluster::{ControlPlane, FlannelAnnotations, HostEvent, NodeRecord, PoolConfig};
use cidrift_aggregator::engine::{Config, Engine};
use cidrift_proto::facts::{CniConfig, CniFacts, HostFacts, LinkFact, LinkRole, VxlanFact};
use cidrift_proto::finding::{Finding, FindingState};
use cidrift_proto::landing::{ForwardingEntry, Landing, MacAddress, RouteMatch, Via};
use cidrift_proto::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::broadcast;

pub(crate) const HOLD: Duration = Duration::from_secs(1);
pub(crate) const SETTLE: Duration = Duration::from_secs(30);
pub(crate) const SILENCE: Duration = Duration::from_secs(15);

/// How packets get from node to node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plane {
    Vxlan,
    HostGw,
}

pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) now: Timestamp,
    pub(crate) plane: Plane,
    pub(crate) nodes: BTreeMap<String, NodeRecord>,
    pub(crate) facts: BTreeMap<String, HostFacts>,
    pub(crate) problem: Option<String>,
    /// Everything besides Nodes, published with them.
    pub(crate) around: Around,
    sequence: BTreeMap<String, u64>,
    changes: broadcast::Receiver<Arc<Finding>>,
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix in a test")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address in a test")
}

/// "node-b" → 2.
pub(crate) fn number(name: &str) -> u8 {
    name.as_bytes()[name.len() - 1] - b'a' + 1
}

pub(crate) fn mac(name: &str) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, number(name)])
}

pub(crate) fn address(name: &str) -> IpAddr {
    IpAddr::from([172, 30, 0, 10 + number(name)])
}

pub(crate) fn cidr(name: &str) -> IpNet {
    net(&format!("10.244.{}.0/24", number(name)))
}

pub(crate) fn pool() -> PoolConfig {
    PoolConfig {
        ranges: vec![net("10.244.0.0/16")],
        witness: "--cluster-cidr".to_owned(),
        ..PoolConfig::default()
    }
}

impl World {
    /// Nodes of these names on this data plane, all of them reporting and right, long after the start.
    pub(crate) fn healthy(plane: Plane, names: &[&str]) -> Self {
        let mut world = Self::bare(plane, pool());
        for name in names {
            world.add(name);
        }
        world.publish();
        for name in names {
            world.connect(name);
        }
        world.pass(SETTLE + HOLD);
        assert_eq!(
            world.standing(),
            Vec::<String>::new(),
            "a healthy cluster has no findings"
        );
        world.drain();
        world
    }

    /// Nothing yet.
    pub(crate) fn bare(plane: Plane, pool: PoolConfig) -> Self {
        Self::patient(plane, pool, SETTLE)
    }

    /// Nothing yet, and a `--settle` no longer than `--hold`.
    pub(crate) fn impatient(plane: Plane) -> Self {
        Self::patient(plane, pool(), HOLD)
    }

    fn patient(plane: Plane, pool: PoolConfig, settle: Duration) -> Self {
        let engine = Engine::new(Config {
            hold: HOLD,
            settle,
            silence: SILENCE,
            pool,
        });
        let (_, changes) = engine.subscribe();
        Self {
            engine,
            now: "2026-11-23T10:00:00Z".parse().expect("a time"),
            plane,
            nodes: BTreeMap::new(),
            facts: BTreeMap::new(),
            problem: None,
            around: Around::default(),
            sequence: BTreeMap::new(),
            changes,
        }
    }

    /// Adds a Node, not yet published.
    pub(crate) fn add(&mut self, name: &str) -> &mut NodeRecord {
        let flannel = FlannelAnnotations {
            backend: match self.plane {
                Plane::Vxlan => "vxlan".to_owned(),
                Plane::HostGw => "host-gw".to_owned(),
            },
            public_ip: Some(address(name)),
            vtep_mac: (self.plane == Plane::Vxlan).then(|| mac(name)),
            vni: (self.plane == Plane::Vxlan).then_some(1),
        };
        let node = NodeRecord {
            name: name.to_owned(),
            uid: format!("uid-{name}-1"),
            created_at: Some(self.now),
            deleting: false,
            pod_cidr: None,
            pod_cidrs_raw: Vec::new(),
            pod_cidrs: Vec::new(),
            internal_ips: vec![address(name)],
            ready: Some(true),
            provider_id: None,
            labels: BTreeMap::new(),
            flannel: Some(flannel),
            changed_at: self.now,
            ..NodeRecord::default()
        };
        self.facts.insert(name.to_owned(), facts(self.plane, name, self.now));
        self.nodes.insert(name.to_owned(), node);
        self.assign(name, &[&cidr(name).to_string()])
    }

    /// Gives a Node these CIDRs, not yet published.
    pub(crate) fn assign(&mut self, name: &str, cidrs: &[&str]) -> &mut NodeRecord {
        let node = self.nodes.get_mut(name).expect("a node of this test");
        node.pod_cidr = cidrs.first().map(|cidr| (*cidr).to_owned());
        node.pod_cidrs_raw = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
        node.pod_cidrs = cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect();
        node
    }

    /// Tells the engine what the control plane says.
    pub(crate) fn publish(&mut self) {
        let plane = ControlPlane {
            source: "file nodes.yaml".to_owned(),
            problem: self.problem.clone(),
            observed_at: Some(self.now),
            nodes: self.nodes.clone(),
            around: self.around.clone(),
        };
        self.engine.control_plane(plane, self.now);
    }

    /// The entry that this data plane has on any node for `prefix`, by way of `peer`.
    pub(crate) fn route(&self, prefix: &str, peer: &str) -> ForwardingEntry {
        let via = match self.plane {
            Plane::HostGw => Via::Gateway {
                device: "eth0".to_owned(),
            },
            Plane::Vxlan => Via::Vxlan {
                device: "flannel.1".to_owned(),
                vni: 1,
                gateway: cidr(peer).network(),
                lladdr: mac(peer),
            },
        };
        let landing = Landing::Underlay {
            address: address(peer),
            via,
        };
        self.entry(prefix, landing)
    }

    pub(crate) fn entry(&self, prefix: &str, landing: Landing) -> ForwardingEntry {
        let prefix = net(prefix);
        ForwardingEntry {
            prefix,
            route: (landing != Landing::NoRoute).then_some(RouteMatch {
                prefix,
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            landing,
            changed_at: self.now,
        }
    }

    /// All that a right host has: its own CIDR, its peers', and the way out.
    pub(crate) fn view(&self, name: &str) -> Vec<ForwardingEntry> {
        let gateway = Landing::Underlay {
            address: ip("172.30.0.1"),
            via: Via::Gateway {
                device: "eth0".to_owned(),
            },
        };
        let mut view = vec![self.entry("0.0.0.0/0", gateway)];
        for (peer, node) in &self.nodes {
            for cidr in &node.pod_cidrs {
                view.push(if peer == name {
                    let landing = Landing::Local {
                        device: "cni0".to_owned(),
                        carrier: true,
                    };
                    self.entry(&cidr.to_string(), landing)
                } else {
                    self.route(&cidr.to_string(), peer)
                });
            }
        }
        view
    }

    /// The node's agent connects and sends its whole, right view.
    pub(crate) fn connect(&mut self, name: &str) {
        let view = self.view(name);
        self.connect_with(name, view);
    }

    pub(crate) fn connect_with(&mut self, name: &str, entries: Vec<ForwardingEntry>) {
        let event = HostEvent::Connected {
            instance: format!("{name}-{}", self.now),
            version: "0.1.0".to_owned(),
        };
        self.engine.host_event(name, event, self.now);
        let expectation = self.engine.expectation(name).borrow().revision;
        self.sequence.insert(name.to_owned(), 0);
        let event = HostEvent::Snapshot {
            sequence: 0,
            expectation,
            entries,
            facts: self.facts[name].clone(),
            claims: Vec::new(),
        };
        self.engine.host_event(name, event, self.now);
    }

    /// The node's agent reports a change.
    pub(crate) fn delta(&mut self, name: &str, upserts: Vec<ForwardingEntry>, removed: &[&str]) {
        let removed = removed.iter().map(|prefix| net(prefix)).collect();
        self.delta_with(name, upserts, removed, None, None);
    }

    pub(crate) fn delta_with(
        &mut self,
        name: &str,
        upserts: Vec<ForwardingEntry>,
        removed: Vec<IpNet>,
        facts: Option<HostFacts>,
        claims: Option<Vec<cidrift_proto::finding::Claim>>,
    ) {
        let sequence = self.sequence.entry(name.to_owned()).or_default();
        *sequence += 1;
        let event = HostEvent::Delta {
            sequence: *sequence,
            expectation: self.engine.expectation(name).borrow().revision,
            upserts,
            removed,
            facts,
            claims,
            observed_at: Some(self.now),
        };
        self.engine.host_event(name, event, self.now);
    }

    /// Lets time pass, with heartbeats of every connected agent.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + Duration::from_millis(500)).min(until);
            let names: Vec<String> = self.sequence.keys().cloned().collect();
            for name in names {
                let event = HostEvent::Heartbeat {
                    verified_at: Some(self.now),
                };
                self.engine.host_event(&name, event, self.now);
            }
            self.engine.tick(self.now);
        }
    }

    /// This agent sends no heartbeats any more.
    pub(crate) fn hush(&mut self, name: &str) {
        self.engine.host_event(name, HostEvent::Disconnected, self.now);
        self.sequence.remove(name);
    }

    /// "PATH01/node-a open", sorted.
    pub(crate) fn standing(&self) -> Vec<String> {
        let findings = self.engine.read(|state| state.findings());
        let stale = |finding: &Finding| if finding.stale { " stale" } else { "" };
        findings
            .iter()
            .map(|finding| format!("{} {}{}", finding.id, finding.state, stale(finding)))
            .collect()
    }

    /// The standing finding of this id.
    pub(crate) fn finding(&self, id: &str) -> Arc<Finding> {
        let findings = self.engine.read(|state| state.findings());
        let found = findings.iter().find(|finding| finding.id == id).cloned();
        found.unwrap_or_else(|| panic!("{id} does not stand, but {:?}", self.standing()))
    }

    /// Ids that were resolved, newest first.
    pub(crate) fn resolved(&self) -> Vec<String> {
        let history = self.engine.read(|state| state.history());
        history.iter().map(|finding| finding.id.clone()).collect()
    }

    /// Changes that a subscriber got since the last call.
    pub(crate) fn drain(&mut self) -> Vec<(String, FindingState)> {
        let mut told = Vec::new();
        while let Ok(finding) = self.changes.try_recv() {
            told.push((finding.id.clone(), finding.state));
        }
        told
    }

    pub(crate) fn verdict(&self, source: &str, owner: &str) -> Verdict {
        let verdicts = self.engine.read(|state| state.verdicts_from(source));
        let found = verdicts.into_iter().find(|verdict| verdict.owner == owner);
        found.expect("a pod CIDR of that node").verdict
    }
}

pub(crate) fn link(name: &str, role: LinkRole, addresses: &[&str]) -> LinkFact {
    LinkFact {
        index: 1,
        name: name.to_owned(),
        kind: String::new(),
        up: true,
        carrier: true,
        mtu: 1500,
        lladdr: None,
        addresses: addresses.iter().map(|address| net(address)).collect(),
        role,
        vxlan: None,
    }
}

pub(crate) fn facts(plane: Plane, name: &str, now: Timestamp) -> HostFacts {
    let number = number(name);
    let mut links = vec![
        link("eth0", LinkRole::Uplink, &[&format!("{}/24", address(name))]),
        link("cni0", LinkRole::Bridge, &[&format!("10.244.{number}.1/24")]),
    ];
    if plane == Plane::Vxlan {
        links.push(LinkFact {
            kind: "vxlan".to_owned(),
            lladdr: Some(mac(name)),
            vxlan: Some(VxlanFact {
                vni: 1,
                port: 8472,
                learning: false,
                local: Some(address(name)),
            }),
            ..link("flannel.1", LinkRole::Tunnel, &[&format!("10.244.{number}.0/32")])
        });
    }
    HostFacts {
        observed_at: now,
        kernel: "6.18.44".to_owned(),
        links,
        links_omitted: 0,
        cni: CniFacts {
            directory: "/etc/cni/net.d".to_owned(),
            chosen: Some(config("flannel", None)),
            ..CniFacts::default()
        },
        ..HostFacts::default()
    }
}

pub(crate) fn config(plugin: &str, ipam: Option<&str>) -> CniConfig {
    CniConfig {
        path: "/etc/cni/net.d/10-cni.conflist".to_owned(),
        network: "cbr0".to_owned(),
        cni_version: "1.0.0".to_owned(),
        plugins: vec![plugin.to_owned(), "portmap".to_owned()],
        ipam: ipam.map(str::to_owned),
        ranges: Vec::new(),
        subnets: Vec::new(),
        bridge: Some("cni0".to_owned()),
        generated_by: None,
        modified_at: None,
    }
}
