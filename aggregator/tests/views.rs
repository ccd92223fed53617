//! A plan that rests on views without what is plain is the plan that rests on all of them.

use std::cell::Cell;
use std::time::Duration;

use cidrift_aggregator::cluster::{ControlPlane, HostEvent, NodeRecord, PoolConfig};
use cidrift_aggregator::engine::{Config, Engine, State};
use cidrift_aggregator::fix::gather::{Answers, Objects, Views, assemble};
use cidrift_aggregator::fix::ground::Pods;
use cidrift_aggregator::fix::migrate::Target;
use cidrift_aggregator::fix::plan::Plan;
use cidrift_aggregator::fix::planner::{Wish, plan};
use cidrift_aggregator::query::convert;
use cidrift_aggregator::summary::NodeDetail;
use cidrift_proto::facts::{CniConfig, CniFacts, HostFacts};
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing, RouteMatch, Via};
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

/// So many that CIDRs of four nodes overlap now and then.
const BLOCKS: u8 = 6;

fn name(n: usize) -> String {
    format!("n{n}")
}

fn address(n: usize) -> std::net::IpAddr {
    std::net::IpAddr::from([172, 30, 0, u8::try_from(n).expect("few") + 1])
}

/// /24s of the pool, and /23s, which overlap two of them.
fn block() -> impl Strategy<Value = IpNet> {
    (0..BLOCKS, 23u8..=24).prop_map(|(block, bits)| {
        let net: IpNet = format!("10.244.{block}.0/{bits}").parse().expect("a prefix");
        net.trunc()
    })
}

/// A route for a block, for a part of it, or for more.
fn route(nodes: usize) -> impl Strategy<Value = ForwardingEntry> {
    let prefix = (0..BLOCKS, prop::sample::select(vec![16u8, 22, 23, 24, 25, 32])).prop_map(|(block, bits)| {
        let net: IpNet = format!("10.244.{block}.0/{bits}").parse().expect("a prefix");
        net.trunc()
    });
    let landing = prop_oneof![
        6 => (0..nodes).prop_map(|n| Landing::Underlay {
            address: address(n),
            via: Via::Gateway { device: "eth0".to_owned() },
        }),
        1 => Just(Landing::Local { device: "cni0".to_owned(), carrier: true }),
        1 => Just(Landing::Discard { how: Discard::Blackhole }),
        1 => Just(Landing::Onlink { device: "eth0".to_owned() }),
    ];
    (prefix, landing, prop::option::of(14u8..=32)).prop_map(|(prefix, landing, wider)| {
        let wider = wider.and_then(|bits| IpNet::new(prefix.addr(), bits.min(prefix.prefix_len())).ok());
        ForwardingEntry {
            prefix,
            landing,
            route: wider.map(|net| RouteMatch {
                prefix: net.trunc(),
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            changed_at: Timestamp::UNIX_EPOCH,
        }
    })
}

#[derive(Debug, Clone)]
struct Host {
    cidr: Option<IpNet>,
    routes: Vec<ForwardingEntry>,
}

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let host = (
        prop::option::weighted(0.9, block()),
        prop::collection::vec(route(4), 0..8),
    );
    prop::collection::vec(host.prop_map(|(cidr, routes)| Host { cidr, routes }), 4)
}

fn record(n: usize, host: &Host, at: Timestamp) -> NodeRecord {
    NodeRecord {
        name: name(n),
        uid: format!("uid-{n}"),
        created_at: Some(at),
        pod_cidr: host.cidr.map(|cidr| cidr.to_string()),
        pod_cidrs_raw: host.cidr.iter().map(ToString::to_string).collect(),
        pod_cidrs: host.cidr.into_iter().collect(),
        cidr_writers: vec!["kube-controller-manager".to_owned()],
        internal_ips: vec![address(n)],
        ready: Some(true),
        changed_at: at,
        ..NodeRecord::default()
    }
}

/// The engine after all findings have had the time to open.
fn engine(hosts: &[Host]) -> (std::sync::Arc<Engine>, Timestamp) {
    let engine = Engine::new(Config {
        hold: Duration::from_secs(1),
        settle: Duration::from_secs(1),
        silence: Duration::from_secs(36_000),
        pool: PoolConfig {
            ranges: vec!["10.244.0.0/21".parse().expect("a prefix")],
            mask_v4: Some(24),
            mask_v6: None,
            service_ranges: vec!["10.96.0.0/12".parse().expect("a prefix")],
            witness: "the test".to_owned(),
        },
    });
    let mut now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let records = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| (name(n), record(n, host, now)));
    let plane = ControlPlane {
        source: "test".to_owned(),
        observed_at: Some(now),
        nodes: records.collect(),
        ..ControlPlane::default()
    };
    engine.control_plane(plane, now);
    for (n, host) in hosts.iter().enumerate() {
        let name = name(n);
        let expectation = engine.expectation(&name).borrow().revision;
        let connected = HostEvent::Connected {
            instance: format!("agent-{n}"),
            version: "0.1.0".to_owned(),
        };
        engine.host_event(&name, connected, now);
        let snapshot = HostEvent::Snapshot {
            sequence: 1,
            expectation,
            entries: host.routes.clone(),
            facts: facts(host, now),
            claims: Vec::new(),
        };
        engine.host_event(&name, snapshot, now);
    }
    for _ in 0..40 {
        now += Duration::from_secs(2);
        engine.tick(now);
    }
    (engine, now)
}

/// A bridge whose addresses are the Node's matter.
fn facts(host: &Host, at: Timestamp) -> HostFacts {
    let chosen = CniConfig {
        path: "/etc/cni/net.d/10-bridge.conflist".to_owned(),
        network: "pods".to_owned(),
        cni_version: "1.0.0".to_owned(),
        plugins: vec!["bridge".to_owned()],
        ipam: Some("host-local".to_owned()),
        ranges: host.cidr.into_iter().collect(),
        subnets: host.cidr.into_iter().collect(),
        bridge: Some("cni0".to_owned()),
        generated_by: None,
        modified_at: None,
    };
    HostFacts {
        observed_at: at,
        cni: CniFacts {
            directory: "/etc/cni/net.d".to_owned(),
            chosen: Some(chosen),
            ..CniFacts::default()
        },
        ..HostFacts::default()
    }
}

fn objects(hosts: &[Host]) -> Objects {
    let node = |(n, host): (usize, &Host)| {
        let object = json!({
            "metadata": {"name": name(n), "uid": format!("uid-{n}")},
            "spec": {"podCIDRs": host.cidr.iter().map(ToString::to_string).collect::<Vec<_>>()},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address(n).to_string()}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        serde_json::from_value(object).expect("a Node")
    };
    Objects {
        nodes: hosts.iter().enumerate().map(node).collect(),
        ..Objects::default()
    }
}

fn planned(state: &State, hosts: &[Host], (nodes, plain): (Vec<NodeDetail>, Vec<IpNet>), wish: &Wish) -> Plan {
    let view = |detail: &NodeDetail| convert::detail_from_wire(&convert::detail_to_wire(detail)).expect("well formed");
    let answers = Answers {
        findings: state.findings().iter().map(|finding| (**finding).clone()).collect(),
        pool: state.pool_report(),
        views: Views {
            nodes: nodes.iter().map(view).collect(),
            plain,
        },
        gaps: Vec::new(),
    };
    let ground = assemble(Timestamp::UNIX_EPOCH, &objects(hosts), Pods::default(), answers);
    plan(&ground.expect("well formed"), wish)
}

/// Plans of one cluster on whole views and on those without what is plain, and how many entries were left out.
fn both(hosts: &[Host], wish: &Wish) -> (Plan, Plan, usize) {
    let (engine, now) = engine(hosts);
    engine.read(|state| {
        let (summaries, plain) = (state.node_summaries(now), state.plain());
        let whole: Vec<_> = summaries
            .iter()
            .filter_map(|node| state.node(&node.name, now))
            .collect();
        let told: Vec<_> = summaries.iter().map(|node| state.view(node, &plain)).collect();
        let entries = |all: &[NodeDetail]| all.iter().map(|node| node.entries.len()).sum::<usize>();
        let left_out = entries(&whole) - entries(&told);
        (
            planned(state, hosts, (whole, Vec::new()), wish),
            planned(state, hosts, (told, plain.cidrs().collect()), wish),
            left_out,
        )
    })
}

#[test]
fn what_is_plain_changes_no_plan() {
    let migrate = Wish {
        migrate: Some(Target {
            ranges: vec!["10.244.0.0/22".parse().expect("a prefix")],
            mask_v4: None,
            mask_v6: None,
            per_node: Duration::from_secs(60),
        }),
        ..Wish::default()
    };
    let (nodes, left_out) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let held = runner.run(&hosts(), |hosts| {
        for wish in [&Wish::default(), &migrate] {
            let (whole, told, less) = both(&hosts, wish);
            nodes.set(nodes.get() + whole.nodes.len());
            left_out.set(left_out.get() + less);
            prop_assert_eq!(told, whole);
        }
        Ok(())
    });
    held.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        nodes.get() > 20 && left_out.get() > 20,
        "nothing was compared: {} nodes, {} entries",
        nodes.get(),
        left_out.get()
    );
}
