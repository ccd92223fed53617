//! Single changes come to the same as the whole state anew: two engines live through the
//! same history, one of them told change by change, the other by whole lists; and a third
//! one that was told only how it ended agrees on all that history does not matter for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::around::{
    AllocationEvents, FailingPod, NodePods, PodAddresses, PodRecord, SandboxFailures, Told,
};
use cidrift_aggregator::cluster::objects::{Resource, Watched};
use cidrift_aggregator::cluster::{Expectation, FlannelAnnotations, HostEvent, NodeRecord, PlaneEvent, PoolConfig};
use cidrift_aggregator::engine::{Config, Engine};
use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{CniConfig, CniFacts, HostFacts, LinkFact, LinkRole};
use cidrift_proto::finding::Finding;
use cidrift_proto::landing::{ForwardingEntry, Landing, RouteMatch, Via};
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What nodes may have: neighbours, one that holds others, one outside of the pool, another family.
const CIDRS: [&str; 9] = [
    "10.244.0.0/24",
    "10.244.1.0/24",
    "10.244.2.0/24",
    "10.244.3.0/24",
    "10.244.2.0/23",
    "10.244.8.0/24",
    "10.250.1.0/24",
    "fd00:0:0:1::/64",
    "fd00:0:0:2::/64",
];

/// What routes may be for, besides.
const WIDE: [&str; 5] = [
    "0.0.0.0/0",
    "10.244.0.0/16",
    "10.244.0.0/22",
    "10.244.0.0/23",
    "10.244.1.128/25",
];

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix in a test")
}

fn address(at: usize) -> IpAddr {
    IpAddr::from([172, 30, 0, 10 + u8::try_from(at).expect("a few addresses")])
}

#[derive(Debug, Clone)]
enum Op {
    Node(Box<NodeRecord>),
    Gone(usize),
    Broken,
    Listed,
    Connect(usize, Vec<ForwardingEntry>, &'static str),
    Delta(usize, Vec<ForwardingEntry>, Vec<IpNet>),
    Facts(usize, &'static str),
    Lost(usize),
    Leave(usize),
    Pods(usize, Vec<(u8, u8)>),
    Allocation(usize, bool, bool),
    Sandboxes(usize, u32),
    Pass(u64),
}

fn record() -> impl Strategy<Value = NodeRecord> {
    let cidrs = subsequence(CIDRS.to_vec(), 0..=2).prop_shuffle();
    (0..NAMES.len(), cidrs, 0..7usize, any::<[bool; 4]>(), 0..3u8).prop_map(
        |(name, cidrs, at, [ready, flannel, deleting, steady], life)| NodeRecord {
            name: NAMES[name].to_owned(),
            uid: format!("uid-{name}-{life}"),
            deleting: deleting && !steady,
            pod_cidr: cidrs.first().map(|cidr| (*cidr).to_owned()),
            pod_cidrs_raw: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            pod_cidrs: cidrs.iter().map(|cidr| net(cidr)).collect(),
            // Mostly its own, sometimes another's too.
            internal_ips: vec![address(if steady { name } else { at })],
            ready: Some(ready || steady),
            flannel: flannel.then(|| FlannelAnnotations {
                backend: "host-gw".to_owned(),
                public_ip: Some(address(name)),
                vtep_mac: None,
                vni: None,
            }),
            ..NodeRecord::default()
        },
    )
}

fn entry() -> impl Strategy<Value = ForwardingEntry> {
    let prefixes: Vec<&str> = CIDRS.iter().chain(&WIDE).copied().collect();
    (any::<Index>(), 0..4u8, 0..10usize, 0..8u8).prop_map(move |(prefix, wider, at, kind)| {
        let prefix = net(prefix.get::<&str>(&prefixes));
        let route = prefix.supernet().filter(|_| wider == 0).unwrap_or(prefix);
        let device = "eth0".to_owned();
        let landing = match kind {
            0 => Landing::NoRoute,
            1 => Landing::Local {
                device: "cni0".to_owned(),
                carrier: true,
            },
            _ => Landing::Underlay {
                address: address(at % 7),
                via: Via::Gateway { device },
            },
        };
        ForwardingEntry {
            prefix,
            route: (landing != Landing::NoRoute).then_some(RouteMatch {
                prefix: route,
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            landing,
            changed_at: Timestamp::UNIX_EPOCH,
        }
    })
}

fn plugin() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("bridge"), 1 => Just("calico")]
}

fn op() -> impl Strategy<Value = Op> {
    let host = 0..NAMES.len();
    let view = || proptest::collection::vec(entry(), 0..10);
    let removed = proptest::collection::vec(any::<Index>().prop_map(|at| net(at.get::<&str>(&CIDRS))), 0..2);
    prop_oneof![
        8 => record().prop_map(Box::new).prop_map(Op::Node),
        2 => host.clone().prop_map(Op::Gone),
        1 => Just(Op::Broken),
        1 => Just(Op::Listed),
        4 => (host.clone(), view(), plugin()).prop_map(|(host, view, plugin)| Op::Connect(host, view, plugin)),
        4 => (host.clone(), view(), removed).prop_map(|(host, view, removed)| Op::Delta(host, view, removed)),
        1 => (host.clone(), plugin()).prop_map(|(host, plugin)| Op::Facts(host, plugin)),
        1 => host.clone().prop_map(Op::Lost),
        1 => host.clone().prop_map(Op::Leave),
        2 => (host.clone(), proptest::collection::vec((0u8..10, 0u8..3), 0..4)).prop_map(|(host, pods)| Op::Pods(host, pods)),
        1 => (host.clone(), any::<bool>(), any::<bool>()).prop_map(|(host, full, failed)| Op::Allocation(host, full, failed)),
        1 => (host, 0u32..3).prop_map(|(host, pods)| Op::Sandboxes(host, pods)),
        3 => prop_oneof![Just(300u64), Just(2_000), Just(40_000), Just(700_000)].prop_map(Op::Pass),
    ]
}

fn facts(host: usize, plugin: &str) -> HostFacts {
    let link = |name: &str, address: &str, role| LinkFact {
        index: 2,
        name: name.to_owned(),
        kind: String::new(),
        up: true,
        carrier: true,
        mtu: 1_500,
        lladdr: None,
        addresses: vec![net(address)],
        role,
        vxlan: None,
    };
    HostFacts {
        observed_at: Timestamp::UNIX_EPOCH,
        kernel: "6.18.44".to_owned(),
        links: vec![
            link("eth0", &format!("{}/24", address(host)), LinkRole::Uplink),
            link("docker0", "10.244.8.1/24", LinkRole::Other),
        ],
        links_omitted: 0,
        cni: CniFacts {
            directory: "/etc/cni/net.d".to_owned(),
            chosen: Some(CniConfig {
                path: "/etc/cni/net.d/10-cni.conflist".to_owned(),
                network: "pods".to_owned(),
                cni_version: "1.0.0".to_owned(),
                plugins: vec![plugin.to_owned()],
                ipam: Some(
                    if plugin == "calico" {
                        "calico-ipam"
                    } else {
                        "host-local"
                    }
                    .to_owned(),
                ),
                ranges: Vec::new(),
                subnets: Vec::new(),
                bridge: None,
                generated_by: None,
                modified_at: None,
            }),
            ..CniFacts::default()
        },
        ..HostFacts::default()
    }
}

fn engine(pool: bool) -> Arc<Engine> {
    Engine::new(Config {
        hold: Duration::from_secs(1),
        settle: Duration::from_secs(30),
        silence: Duration::from_secs(15),
        pool: PoolConfig {
            ranges: if pool { vec![net("10.244.0.0/16")] } else { Vec::new() },
            service_ranges: vec![net("10.244.8.0/22")],
            witness: "--cluster-cidr".to_owned(),
            ..PoolConfig::default()
        },
    })
}

/// Both engines, and what was told last.
struct Twins {
    single: Arc<Engine>,
    whole: Arc<Engine>,
    nodes: BTreeMap<String, NodeRecord>,
    hosts: BTreeMap<usize, (u64, BTreeMap<IpNet, ForwardingEntry>, &'static str)>,
    now: Timestamp,
}

impl Twins {
    fn new(pool: bool) -> Self {
        let twins = Self {
            single: engine(pool),
            whole: engine(pool),
            nodes: BTreeMap::new(),
            hosts: BTreeMap::new(),
            now: "2026-11-23T10:00:00Z".parse().expect("a time"),
        };
        for engine in [&twins.single, &twins.whole] {
            engine.plane_event(PlaneEvent::Source("test".to_owned()), twins.now);
            engine.plane_event(PlaneEvent::Nodes(BTreeMap::new(), BTreeSet::new()), twins.now);
        }
        twins
    }

    fn both(&self, tell: impl Fn(&Engine)) {
        tell(&self.single);
        tell(&self.whole);
    }

    fn tell(&self, host: usize, event: &HostEvent) {
        self.both(|engine| engine.host_event(NAMES[host], event.clone(), self.now));
    }

    /// Tells one engine the change, the other all that the first one now holds.
    fn change(&self, event: PlaneEvent) {
        self.single.plane_event(event, self.now);
        let plane = self.single.read(|state| state.plane().clone());
        self.whole.control_plane(plane, self.now);
    }

    fn revision(&self, host: usize) -> u64 {
        self.single.expectation(NAMES[host]).borrow().revision
    }

    fn snapshot(&mut self, host: usize) {
        let Some((sequence, view, plugin)) = self.hosts.get(&host) else {
            return;
        };
        let event = HostEvent::Snapshot {
            sequence: *sequence,
            expectation: self.revision(host),
            entries: view.values().cloned().collect(),
            facts: facts(host, plugin),
            claims: Vec::new(),
        };
        self.tell(host, &event);
    }

    fn delta(&mut self, host: usize, upserts: Vec<ForwardingEntry>, removed: Vec<IpNet>, plugin: Option<&'static str>) {
        let expectation = self.revision(host);
        let Some((sequence, view, of)) = self.hosts.get_mut(&host) else {
            return;
        };
        *sequence += 1;
        *of = plugin.unwrap_or(of);
        for prefix in &removed {
            view.remove(prefix);
        }
        view.extend(upserts.iter().map(|entry| (entry.prefix, entry.clone())));
        let event = HostEvent::Delta {
            sequence: *sequence,
            expectation,
            upserts,
            removed,
            facts: plugin.map(|plugin| facts(host, plugin)),
            claims: None,
            observed_at: Some(self.now),
        };
        self.tell(host, &event);
    }

    fn pod(&self, at: usize, range: u8, age: u8) -> PodRecord {
        let since = self.now.as_second() - i64::from(age) * 400;
        PodRecord {
            name: format!("shop/web-{at}").into(),
            uid: format!("uid-{at}").into(),
            addresses: PodAddresses {
                v4: Some(Ipv4Addr::new(10, 244, range, 7)),
                v6: None,
            },
            sandbox_since: if age == 0 { 0 } else { since },
            created: since,
        }
    }

    fn told(&self, message: &str) -> Told {
        Told {
            component: "test".to_owned(),
            message: message.to_owned(),
            count: 5,
            first: Some(self.now),
            last: Some(self.now),
        }
    }

    fn play(&mut self, op: Op) {
        self.now += Duration::from_millis(10);
        match op {
            Op::Node(node) => {
                self.nodes.insert(node.name.clone(), (*node).clone());
                self.change(PlaneEvent::Node(node));
            }
            Op::Gone(node) => {
                self.nodes.remove(NAMES[node]);
                self.change(PlaneEvent::NodeGone(NAMES[node].to_owned()));
            }
            Op::Broken => {
                let watched = Watched::Broken("the connection was refused".to_owned());
                let event = PlaneEvent::Watch(Resource::Nodes, watched);
                self.both(|engine| engine.plane_event(event.clone(), self.now));
            }
            Op::Listed => {
                let event = PlaneEvent::Nodes(self.nodes.clone(), BTreeSet::new());
                self.both(|engine| engine.plane_event(event.clone(), self.now));
            }
            Op::Connect(host, view, plugin) => {
                let event = HostEvent::Connected {
                    instance: format!("{host}-{}", self.now),
                    version: "0.1.0".to_owned(),
                };
                self.tell(host, &event);
                let view = view.into_iter().map(|entry| (entry.prefix, entry)).collect();
                self.hosts.insert(host, (0, view, plugin));
                self.snapshot(host);
            }
            Op::Delta(host, upserts, removed) => self.delta(host, upserts, removed, None),
            Op::Facts(host, plugin) => self.delta(host, Vec::new(), Vec::new(), Some(plugin)),
            Op::Lost(host) => {
                let reason = "the kernel lost messages".to_owned();
                self.tell(host, &HostEvent::Lost { reason });
            }
            Op::Leave(host) => {
                self.hosts.remove(&host);
                self.tell(host, &HostEvent::Disconnected);
            }
            Op::Pods(host, pods) => {
                let pods = pods
                    .iter()
                    .enumerate()
                    .map(|(at, (range, age))| self.pod(at, *range, *age))
                    .collect();
                let pods = Some(Arc::new(NodePods { pods }));
                self.change(PlaneEvent::Pods(vec![(NAMES[host].to_owned(), pods)]));
            }
            Op::Allocation(host, full, failed) => {
                let events = AllocationEvents {
                    not_available: full.then(|| self.told("CIDRNotAvailable")),
                    assignment_failed: failed.then(|| self.told("CIDRAssignmentFailed")),
                    ..AllocationEvents::default()
                };
                self.change(PlaneEvent::Allocation(NAMES[host].to_owned(), Some(Box::new(events))));
            }
            Op::Sandboxes(host, total) => {
                let failing = (0..total).map(|at| FailingPod {
                    pod: format!("shop/web-{at}"),
                    uid: format!("uid-{at}"),
                    told: self.told("failed to setup network for sandbox"),
                });
                let failures = SandboxFailures {
                    failing: failing.collect(),
                    total,
                };
                self.change(PlaneEvent::Sandboxes(NAMES[host].to_owned(), Some(failures)));
            }
            Op::Pass(time) => self.now += Duration::from_millis(time),
        }
        let now = self.now;
        self.both(|engine| engine.tick(now));
    }
}

/// Findings without the times at which witnesses were read, which may be older where nothing changed.
fn plain(findings: Vec<Arc<Finding>>) -> Vec<Finding> {
    let plain = |finding: Arc<Finding>| {
        let mut finding = Arc::unwrap_or_clone(finding);
        for row in &mut finding.claim.evidence {
            row.observed_at = None;
        }
        finding
    };
    findings.into_iter().map(plain).collect()
}

/// What ended at the same time has no order.
fn ended(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| (finding.resolved_at, finding.id.clone()));
    findings
}

/// Everything that can be asked, in words.
fn answers(engine: &Engine, now: Timestamp) -> Vec<String> {
    let mut answers = engine.read(|state| {
        let mut answers = vec![
            format!("{:?}", state.status(now)),
            format!("{:?}", state.node_summaries(now)),
            format!("{:?}", plain(state.findings())),
            format!("{:?}", ended(plain(state.history()))),
            format!("{:?}", state.pool_report()),
        ];
        for name in NAMES {
            answers.push(format!("{:?}", state.verdicts_from(name)));
            answers.push(format!("{:?}", state.verdicts_to(name)));
        }
        for cidr in CIDRS {
            answers.push(format!("{:?}", state.owners_of(net(cidr).addr())));
        }
        answers
    });
    for name in NAMES {
        let told = engine.expectation(name).borrow().as_ref().clone();
        // The channel of a node that does not exist may go at any time, once nobody listens.
        let revision = if told.node_uid.is_some() { told.revision } else { 0 };
        answers.push(format!("{name}: {:?}", Expectation { revision, ..told }));
    }
    answers
}

fn same(twins: &Twins, op: &Op) -> Result<(), TestCaseError> {
    let (single, whole) = (answers(&twins.single, twins.now), answers(&twins.whole, twins.now));
    for (single, whole) in single.iter().zip(&whole) {
        prop_assert_eq!(single, whole, "after {:?}", op);
    }
    Ok(())
}

/// What history does not matter for.
fn timeless(engine: &Engine, now: Timestamp) -> Vec<String> {
    engine.read(|state| {
        let status = state.status(now);
        let findings = state.findings();
        let of_plane = findings.iter().filter(|finding| {
            matches!(
                finding.claim.code,
                Code::Pool01 | Code::Pool02 | Code::Pool03 | Code::Pool08 | Code::Pool11 | Code::Seen01
            )
        });
        let mut answers = vec![
            format!("{:?}", state.pool_report()),
            format!("{} {}", status.nodes, status.nodes_reporting),
        ];
        answers.extend(of_plane.map(|finding| format!("{} {:?}", finding.claim.summary, finding.claim.affected)));
        answers
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn single_changes_come_to_the_same_as_whole_lists(
        pool in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let mut twins = Twins::new(pool);
        for op in ops {
            twins.play(op.clone());
            same(&twins, &op)?;
        }
    }

    #[test]
    fn an_engine_that_was_told_only_the_end_agrees(
        pool in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let mut twins = Twins::new(pool);
        for op in ops {
            twins.play(op);
        }
        // The watch is alive and every agent that is still there reports anew, for what is expected now.
        twins.play(Op::Listed);
        let fresh = engine(pool);
        fresh.plane_event(PlaneEvent::Source("test".to_owned()), twins.now);
        fresh.plane_event(PlaneEvent::Nodes(twins.nodes.clone(), BTreeSet::new()), twins.now);
        let around = twins.single.read(|state| state.plane().around.clone());
        fresh.plane_event(PlaneEvent::AllPods(around.pods), twins.now);
        for (node, events) in around.allocation {
            fresh.plane_event(PlaneEvent::Allocation(node, Some(Box::new(events))), twins.now);
        }
        for (node, failures) in around.sandboxes {
            fresh.plane_event(PlaneEvent::Sandboxes(node, Some(failures)), twins.now);
        }
        for (host, name) in NAMES.iter().enumerate() {
            let last = twins.hosts.get(&host).cloned();
            let (_, view, plugin) = last.unwrap_or((0, BTreeMap::new(), "bridge"));
            twins.play(Op::Connect(host, view.values().cloned().collect(), plugin));
            let event = HostEvent::Connected { instance: "anew".to_owned(), version: "0.1.0".to_owned() };
            fresh.host_event(name, event, twins.now);
            let event = HostEvent::Snapshot {
                sequence: 0,
                expectation: fresh.expectation(name).borrow().revision,
                entries: view.into_values().collect(),
                facts: facts(host, plugin),
                claims: Vec::new(),
            };
            fresh.host_event(name, event, twins.now);
        }
        twins.both(|engine| engine.tick(twins.now));
        fresh.tick(twins.now);
        prop_assert_eq!(timeless(&twins.single, twins.now), timeless(&fresh, twins.now));
    }
}
