//! A generated cluster of any size, as the lists of an API server would show it: the
//! same each time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::around::{NodePods, PodAddresses, PodRecord};
use cidrift_aggregator::cluster::{HostEvent, NodeRecord, PoolConfig};
use cidrift_aggregator::engine::Config;
use cidrift_proto::facts::{CniConfig, CniFacts, HostFacts, LinkFact, LinkRole};
use cidrift_proto::landing::{ForwardingEntry, Landing, RouteMatch, Via};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

/// Its shape.
pub(super) struct Cluster {
    /// Nodes in the first list.
    pub(super) count: u32,
    /// The clock then.
    pub(super) start: Timestamp,
    /// What its Nodes are called.
    named: fn(u32) -> String,
}

/// 16,384 CIDRs of /24.
const POOL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);
const POOL_BITS: u8 = 10;
const UNDERLAY: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);

fn v4(base: Ipv4Addr, bits: u8) -> IpNet {
    // Lengths here are constants of at most 32.
    IpNet::V4(Ipv4Net::new(base, bits).unwrap_or_default())
}

fn plus(base: Ipv4Addr, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base) + offset)
}

fn name(node: u32) -> String {
    let [_, b, c, d] = plus(UNDERLAY, node).octets();
    format!("ip-172-{b:03}-{c:03}-{d:03}.eu-central-1.compute.internal")
}

impl Cluster {
    pub(super) fn new(count: u32) -> Self {
        Self::named(count, name)
    }

    /// With names of their own.
    pub(super) fn named(count: u32, named: fn(u32) -> String) -> Self {
        Self {
            count,
            start: Timestamp::now(),
            named,
        }
    }

    pub(super) fn config(&self) -> Config {
        Config {
            hold: Duration::from_secs(1),
            settle: Duration::from_secs(30),
            // The clock of the run is not this machine's: nobody goes silent by it.
            silence: Duration::from_secs(36_000),
            pool: PoolConfig {
                ranges: vec![v4(POOL, POOL_BITS)],
                mask_v4: Some(24),
                mask_v6: None,
                service_ranges: vec![v4(Ipv4Addr::new(10, 96, 0, 0), 12)],
                witness: "--cluster-cidr".to_owned(),
            },
        }
    }

    pub(super) fn name(&self, node: u32) -> String {
        (self.named)(node)
    }

    fn cidr(&self, node: u32) -> IpNet {
        v4(plus(POOL, node << 8), 24)
    }

    fn address(&self, node: u32) -> IpAddr {
        plus(UNDERLAY, node).into()
    }

    pub(super) fn node(&self, node: u32) -> NodeRecord {
        let cidr = self.cidr(node);
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        NodeRecord {
            name: self.name(node),
            uid: uid(node, 0),
            created_at: Some(self.start),
            pod_cidr: Some(cidr.to_string()),
            pod_cidrs_raw: vec![cidr.to_string()],
            pod_cidrs: vec![cidr],
            cidr_writers: vec!["kube-controller-manager".to_owned()],
            internal_ips: vec![self.address(node)],
            ready: Some(true),
            provider_id: Some(format!("cloud:///eu-central-1a/i-{node:017x}")),
            kubelet_version: Some("v1.36.3".to_owned()),
            labels: BTreeMap::from([label("kubernetes.io/os", "linux")]),
            changed_at: self.start,
            ..NodeRecord::default()
        }
    }

    pub(super) fn nodes(&self) -> BTreeMap<String, NodeRecord> {
        (0..self.count).map(|node| (self.name(node), self.node(node))).collect()
    }

    pub(super) fn pods(&self, node: u32, count: u32) -> NodePods {
        let base = plus(POOL, node << 8);
        let pod = |at: u32| PodRecord {
            name: format!("team-{:03}/checkout-backend-7d9f8c6b5-{:05x}", at % 200, node * 31 + at).into(),
            uid: uid(node, at + 1).into(),
            addresses: PodAddresses {
                v4: Some(plus(base, at + 2)),
                v6: None,
            },
            sandbox_since: self.start.as_second(),
            created: self.start.as_second() - 5,
        };
        NodePods {
            pods: (0..count).map(pod).collect(),
        }
    }

    pub(super) fn all_pods(&self, each: u32) -> BTreeMap<String, Arc<NodePods>> {
        let of_node = |node| (self.name(node), Arc::new(self.pods(node, each)));
        (0..self.count).map(of_node).collect()
    }

    /// What a right agent says when it connects: plain routes to every peer.
    pub(super) fn report(&self, node: u32, expectation: u64) -> [HostEvent; 2] {
        let entries = (0..self.count)
            .map(|peer| {
                let landing = if peer == node {
                    Landing::Local {
                        device: "cni0".to_owned(),
                        carrier: true,
                    }
                } else {
                    Landing::Underlay {
                        address: self.address(peer),
                        via: Via::Gateway {
                            device: "eth0".to_owned(),
                        },
                    }
                };
                self.entry(peer, landing)
            })
            .collect();
        [
            HostEvent::Connected {
                instance: format!("agent-{node}"),
                version: "0.1.0".to_owned(),
            },
            HostEvent::Snapshot {
                sequence: 0,
                expectation,
                entries,
                facts: self.facts(node),
                claims: Vec::new(),
            },
        ]
    }

    /// The agent of `node` says that it has no route to `peer` any more.
    pub(super) fn breaks(&self, node: u32, peer: u32, expectation: u64) -> HostEvent {
        debug_assert_ne!(node, peer);
        HostEvent::Delta {
            sequence: 1,
            expectation,
            upserts: vec![ForwardingEntry {
                route: None,
                ..self.entry(peer, Landing::NoRoute)
            }],
            removed: Vec::new(),
            facts: None,
            claims: None,
            observed_at: Some(self.start),
        }
    }

    fn entry(&self, peer: u32, landing: Landing) -> ForwardingEntry {
        let prefix = self.cidr(peer);
        ForwardingEntry {
            prefix,
            landing,
            route: Some(RouteMatch {
                prefix,
                table: 254,
                metric: 0,
                protocol: 4,
            }),
            changed_at: self.start,
        }
    }

    fn facts(&self, node: u32) -> HostFacts {
        let bridge = plus(POOL, (node << 8) + 1);
        let underlay = plus(UNDERLAY, node);
        let link = |index, name: &str, address, role| LinkFact {
            index,
            name: name.to_owned(),
            kind: String::new(),
            up: true,
            carrier: true,
            mtu: 1_500,
            lladdr: None,
            addresses: vec![address],
            role,
            vxlan: None,
        };
        HostFacts {
            observed_at: self.start,
            kernel: "6.18.44".to_owned(),
            links: vec![
                link(2, "eth0", v4(underlay, 12), LinkRole::Uplink),
                link(3, "cni0", v4(bridge, 24), LinkRole::Bridge),
            ],
            links_omitted: 0,
            cni: CniFacts {
                directory: "/etc/cni/net.d".to_owned(),
                chosen: Some(CniConfig {
                    path: "/etc/cni/net.d/10-bridge.conflist".to_owned(),
                    network: "pods".to_owned(),
                    cni_version: "1.0.0".to_owned(),
                    plugins: vec!["bridge".to_owned(), "portmap".to_owned()],
                    ipam: Some("host-local".to_owned()),
                    ranges: Vec::new(),
                    subnets: vec![self.cidr(node)],
                    bridge: Some("cni0".to_owned()),
                    generated_by: None,
                    modified_at: None,
                }),
                ..CniFacts::default()
            },
            ..HostFacts::default()
        }
    }
}

/// As long as a real one.
fn uid(node: u32, pod: u32) -> String {
    format!(
        "{node:08x}-{pod:04x}-4b1d-9c55-{:012x}",
        u64::from(node) * 7_919 + u64::from(pod)
    )
}
