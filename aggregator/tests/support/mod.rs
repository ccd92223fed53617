//! A cluster of three nodes in an engine, served on loopback.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cidrift_aggregator::cluster::{ControlPlane, HostEvent, NodeRecord, PoolConfig};
use cidrift_aggregator::engine::{Config, Engine};
use cidrift_aggregator::identity::Identity;
use cidrift_aggregator::query::Query;
use cidrift_proto::facts::{CniConfig, CniFacts, FlannelSubnet, HostFacts, LinkFact, LinkRole};
use cidrift_proto::landing::{ForwardingEntry, Landing, RouteMatch, Via};
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

/// Findings open after this.
pub const HOLD: Duration = Duration::from_secs(1);

/// A served engine, and its clock.
pub struct World {
    pub engine: Arc<Engine>,
    pub address: SocketAddr,
    pub now: Timestamp,
    pub stop: CancellationToken,
    pub server: JoinHandle<Result<(), tonic::transport::Error>>,
}

pub fn name(n: u8) -> String {
    format!("node-{}", char::from(b'a' + n))
}

pub fn cidr(n: u8) -> IpNet {
    format!("10.244.{n}.0/24").parse().expect("a prefix")
}

pub fn entry(n: u8, landing: Landing, at: Timestamp) -> ForwardingEntry {
    ForwardingEntry {
        prefix: cidr(n),
        landing,
        route: Some(RouteMatch {
            prefix: cidr(n),
            table: 254,
            metric: 0,
            protocol: 3,
        }),
        changed_at: at,
    }
}

/// A route to node `n`'s address.
pub fn via(n: u8) -> Landing {
    Landing::Underlay {
        address: format!("172.30.0.1{n}").parse().expect("an address"),
        via: Via::Gateway { device: "eth0".into() },
    }
}

/// No entry covers it: what an agent says where no route matches.
pub fn nothing(n: u8, at: Timestamp) -> ForwardingEntry {
    ForwardingEntry {
        route: None,
        ..entry(n, Landing::NoRoute, at)
    }
}

impl World {
    /// Three nodes that reach each other.
    pub async fn healthy() -> Self {
        let mut world = Self::empty().await;
        world.control_plane(3);
        for n in 0..3 {
            world.report(n, 3);
        }
        world.pass(Duration::from_secs(60));
        world
    }

    /// Nothing known.
    pub async fn empty() -> Self {
        Self::empty_for(Identity::Believed).await
    }

    /// Nothing known, and asked by those whom this lets in.
    pub async fn empty_for(identity: Identity) -> Self {
        let engine = Engine::new(Config {
            hold: HOLD,
            settle: HOLD,
            silence: Duration::from_secs(3600),
            pool: PoolConfig {
                ranges: vec!["10.244.0.0/16".parse().expect("a prefix")],
                mask_v4: Some(24),
                mask_v6: None,
                service_ranges: vec!["10.96.0.0/12".parse().expect("a prefix")],
                witness: "the test".into(),
            },
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let query = Query::new(Arc::clone(&engine), stop.clone()).with_identity(identity, Arc::default());
        let server = Server::builder()
            .add_service(query.into_server())
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop.clone().cancelled_owned());
        Self {
            engine,
            address,
            // In the past, so that the clock of the answers is never behind the test's.
            now: Timestamp::now() - SignedDuration::from_mins(30),
            stop,
            server: tokio::spawn(server),
        }
    }

    pub async fn client(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::connect(format!("http://{}", self.address))
            .await
            .expect("it listens")
    }

    /// The control plane has the first `count` nodes.
    pub fn control_plane(&mut self, count: u8) {
        let node = |n: u8| NodeRecord {
            name: name(n),
            uid: format!("uid-{n}"),
            created_at: Some(self.now),
            deleting: false,
            pod_cidr: Some(cidr(n).to_string()),
            pod_cidrs_raw: vec![cidr(n).to_string()],
            pod_cidrs: vec![cidr(n)],
            internal_ips: vec![format!("172.30.0.1{n}").parse().expect("an address")],
            ready: Some(true),
            provider_id: None,
            labels: Default::default(),
            flannel: None,
            changed_at: self.now,
            ..NodeRecord::default()
        };
        let plane = ControlPlane {
            source: "test".into(),
            problem: None,
            observed_at: Some(self.now),
            nodes: (0..count).map(|n| (name(n), node(n))).collect(),
            ..ControlPlane::default()
        };
        self.engine.control_plane(plane, self.now);
    }

    /// Node `n`'s agent says that all is well with `count` nodes.
    pub fn report(&mut self, n: u8, count: u8) {
        self.tell(
            n,
            HostEvent::Connected {
                instance: format!("agent-{n}"),
                version: "0.1.0".into(),
            },
        );
        let expectation = self.engine.expectation(&name(n)).borrow().revision;
        let entries = (0..count)
            .map(|to| match to == n {
                true => entry(
                    to,
                    Landing::Local {
                        device: "cni0".into(),
                        carrier: true,
                    },
                    self.now,
                ),
                false => entry(to, via(to), self.now),
            })
            .collect();
        self.tell(
            n,
            HostEvent::Snapshot {
                sequence: 1,
                expectation,
                entries,
                facts: facts(n, self.now),
                claims: Vec::new(),
            },
        );
        self.tell(
            n,
            HostEvent::Heartbeat {
                verified_at: Some(self.now),
            },
        );
    }

    /// Node `n`'s agent says that these entries are so now.
    pub fn change(&mut self, n: u8, sequence: u64, upserts: Vec<ForwardingEntry>) {
        let expectation = self.engine.expectation(&name(n)).borrow().revision;
        self.tell(
            n,
            HostEvent::Delta {
                sequence,
                expectation,
                upserts,
                removed: Vec::new(),
                facts: None,
                claims: None,
                observed_at: Some(self.now),
            },
        );
    }

    pub fn tell(&mut self, n: u8, event: HostEvent) {
        self.engine.host_event(&name(n), event, self.now);
    }

    /// Time passes; agents go on living.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.engine.tick(self.now);
    }
}

fn facts(n: u8, at: Timestamp) -> HostFacts {
    let link = |index, name: &str, kind: &str, address: String, role| LinkFact {
        index,
        name: name.into(),
        kind: kind.into(),
        up: true,
        carrier: true,
        mtu: 1500,
        lladdr: None,
        addresses: vec![address.parse().expect("an address")],
        role,
        vxlan: None,
    };
    HostFacts {
        observed_at: at,
        kernel: "6.18.44".into(),
        links: vec![
            link(2, "eth0", "", format!("172.30.0.1{n}/24"), LinkRole::Uplink),
            link(3, "cni0", "bridge", format!("10.244.{n}.1/24"), LinkRole::Bridge),
        ],
        links_omitted: 0,
        cni: CniFacts {
            directory: "/etc/cni/net.d".into(),
            chosen: Some(CniConfig {
                path: "/etc/cni/net.d/10-flannel.conflist".into(),
                network: "cbr0".into(),
                cni_version: "0.3.1".into(),
                plugins: vec!["flannel".into(), "portmap".into()],
                ipam: None,
                ranges: Vec::new(),
                subnets: Vec::new(),
                bridge: None,
                generated_by: None,
                modified_at: None,
            }),
            others: Vec::new(),
            flannel: Some(FlannelSubnet {
                path: "/run/flannel/subnet.env".into(),
                networks: vec!["10.244.0.0/16".parse().expect("a prefix")],
                subnets: vec![cidr(n)],
                mtu: 1500,
                ipmasq: true,
            }),
            problem: None,
        },
        ..HostFacts::default()
    }
}
