//! Whole hosts, judged. Every rule with what must make it fire and what must not.

use cidrift_proto::facts::{CniConfig, FlannelSubnet};
use cidrift_proto::landing::{Discard, Landing, RouteMatch, Via};
mod addresses_low;
mod against_the_real_table;
mod agent_restricted;
mod bridge_address_foreign;
mod cni_config_stale;
mod cni_not_ready;
mod compared;
mod forwarding_off;
mod kubelet_cidr_differs;
mod local_route_wrong;
mod models;
mod pods_outside_cidr;
mod properties;
mod proxy_cidr_differs;
mod routes_at_risk;
mod rule_diverts;
mod sandbox_failures;
mod what_can_be_judged;

use super::*;
use crate::view::{LinkAddress, LinkDetail};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// A forwarding table given row by row, looked up in the slow, obvious way.
#[derive(Clone, Default)]
struct Rows(Vec<ForwardingEntry>);

impl Rows {
    fn row(mut self, prefix: &str, landing: Landing) -> Self {
        self.0.push(ForwardingEntry {
            prefix: net(prefix),
            route: (landing != Landing::NoRoute).then(|| RouteMatch {
                prefix: net(prefix),
                table: 254,
                metric: 0,
                protocol: 3,
            }),
            landing,
            changed_at: at(5),
        });
        self
    }
}

impl Lookup for Rows {
    fn coverage(&self, prefix: IpNet) -> Option<Coverage> {
        let above = self.0.iter().filter(|row| row.prefix.contains(&prefix));
        Some(Coverage {
            base: Some(above.max_by_key(|row| row.prefix.prefix_len())?.clone()),
            specifics: self
                .0
                .iter()
                .filter(|row| prefix.contains(&row.prefix) && row.prefix != prefix)
                .cloned()
                .collect(),
        })
    }
}

fn via(address: &str) -> Landing {
    Landing::Underlay {
        address: address.parse().unwrap(),
        via: Via::Gateway { device: "eth0".into() },
    }
}

fn local(device: &str) -> Landing {
    Landing::Local {
        device: device.into(),
        carrier: true,
    }
}

fn discard() -> Landing {
    Landing::Discard {
        how: Discard::Blackhole,
    }
}

/// A host; a healthy flannel node with pods until something is changed.
#[derive(Clone)]
struct Host {
    expectation: Expectation,
    kernel: Kernel,
    cni: CniFacts,
    rows: Rows,
    gaps: Vec<Gap>,
    /// What else is read of it; nothing of all that until something is added.
    seen: crate::view::Host,
}

fn config(file: &str, plugin: &str, ipam: Option<&str>, ranges: &[&str], bridge: Option<&str>) -> CniFacts {
    CniFacts {
        directory: "/etc/cni/net.d".into(),
        chosen: Some(CniConfig {
            path: format!("/etc/cni/net.d/{file}"),
            network: "cbr0".into(),
            cni_version: "1.0.0".into(),
            plugins: vec![plugin.into(), "portmap".into()],
            ipam: ipam.map(str::to_owned),
            ranges: nets(ranges),
            subnets: nets(ranges),
            bridge: bridge.map(str::to_owned),
            generated_by: None,
            modified_at: Some(at(1)),
        }),
        ..CniFacts::default()
    }
}

impl Host {
    /// flannel, with the Node's 10.244.1.0/24 everywhere.
    fn flannel() -> Self {
        let mut cni = config("10-flannel.conflist", "flannel", None, &[], Some("cni0"));
        cni.flannel = Some(FlannelSubnet {
            path: "/run/flannel/subnet.env".into(),
            networks: nets(&["10.244.0.0/16"]),
            subnets: nets(&["10.244.1.0/24"]),
            mtu: 1450,
            ipmasq: true,
        });
        Self {
            expectation: Expectation {
                source: "Node node-a".into(),
                node_known: true,
                pod_cidrs: nets(&["10.244.1.0/24"]),
                observed_at: Some(at(3)),
                ..Expectation::default()
            },
            kernel: Kernel::default(),
            cni,
            rows: Rows::default()
                .row("0.0.0.0/0", via("10.0.0.1"))
                .row("10.244.1.0/24", local("cni0"))
                .row(
                    "10.244.1.0/32",
                    Landing::Host {
                        device: "flannel.1".into(),
                    },
                )
                .row("10.244.1.1/32", Landing::Host { device: "cni0".into() })
                .row("10.244.2.0/24", via("10.0.0.2")),
            gaps: Vec::new(),
            seen: crate::view::Host::bare(at(0)),
        }
        .link("eth0", "", &["10.0.0.11/24"])
        .link("flannel.1", "vxlan", &["10.244.1.0/32", "fe80::1/64"])
        .link("cni0", "bridge", &["10.244.1.1/24", "fe80::2/64"])
        .pods(2)
    }

    /// A host-local CNI on a bridge, as containerd's template makes it.
    fn bridge(ranges: &[&str]) -> Self {
        let mut host = Self::flannel();
        host.kernel.links.retain(|_, link| link.name != "flannel.1");
        host.cni = config(
            "10-containerd-net.conflist",
            "bridge",
            Some("host-local"),
            ranges,
            Some("cni0"),
        );
        host
    }

    /// A CNI with a route for every pod, and the Node's CIDR in its file.
    fn ptp() -> Self {
        let mut host = Self::flannel();
        host.kernel.links.retain(|_, link| link.name == "eth0");
        host.cni = config(
            "10-kindnet.conflist",
            "ptp",
            Some("host-local"),
            &["10.244.1.0/24"],
            None,
        );
        host.rows = Rows::default()
            .row("0.0.0.0/0", via("10.0.0.1"))
            .row("10.244.1.2/32", local("veth2"))
            .row("10.244.1.3/32", local("veth3"));
        host
    }

    fn link(mut self, name: &str, kind: &str, addresses: &[&str]) -> Self {
        self.kernel.links.retain(|_, link| link.name != name);
        let index = 1 + self.kernel.links.keys().max().copied().unwrap_or(0);
        let link = Link {
            index,
            name: name.into(),
            kind: kind.into(),
            up: true,
            carrier: true,
            loopback: false,
            mtu: 1500,
            lladdr: None,
            master: None,
            peer_elsewhere: false,
            addresses: addresses
                .iter()
                .map(|text| LinkAddress {
                    net: net(text),
                    unusable: false,
                })
                .collect(),
            detail: LinkDetail::Plain,
        };
        self.kernel.links.insert(index, link);
        self
    }

    /// That many pods on cni0.
    fn pods(mut self, count: usize) -> Self {
        let bridge = self.kernel.links.values().find(|link| link.name == "cni0");
        let master = bridge.map(|link| link.index);
        self.kernel.links.retain(|_, link| link.master.is_none());
        for at in 0..count {
            self = self.link(&format!("veth{at}"), "veth", &[]);
            if let Some(link) = self
                .kernel
                .links
                .values_mut()
                .find(|link| link.name == format!("veth{at}"))
            {
                link.master = master;
            }
        }
        self
    }

    fn set_down(mut self, name: &str) -> Self {
        for link in self.kernel.links.values_mut().filter(|link| link.name == name) {
            link.up = false;
        }
        self
    }

    fn rows(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn judge(&self) -> Judged {
        self.judge_with(&self.seen, at(10))
    }

    /// With what else the host tells, at that time.
    fn judge_with(&self, other: &crate::view::Host, now: Timestamp) -> Judged {
        check(&Input {
            node: "node-a",
            expectation: Some(&self.expectation),
            kernel: &self.kernel,
            kernel_at: at(10),
            kernel_gaps: &self.gaps,
            links_changed_at: Some(at(4)),
            cni: &self.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &self.rows,
            host: other,
            lease_growth: &[],
            now,
        })
    }

    fn codes(&self) -> Vec<Code> {
        self.judge().claims.iter().map(|claim| claim.code).collect()
    }

    fn assert_healthy(&self) {
        assert_eq!(self.judge(), Judged::default());
    }

    /// Why each rule was not judged; no claim may stand beside it.
    fn unjudged(&self) -> String {
        let judged = self.judge();
        let restricted = |claim: &&Claim| claim.code == Code::Seen02;
        assert_eq!(judged.claims.iter().find(|claim| !restricted(claim)), None);
        let lines: Vec<String> = judged
            .unjudged
            .iter()
            .map(|row| format!("{} {}", row.code, row.reason))
            .collect();
        lines.join("\n")
    }
}

/// What people would read of it, without the times.
fn text(judged: &Judged) -> String {
    let mut lines = Vec::new();
    for claim in &judged.claims {
        lines.push(format!("{} {} {}", claim.severity, claim.id(), claim.summary));
        lines.extend(
            claim
                .evidence
                .iter()
                .map(|row| format!("  {}: {}", row.source, row.text)),
        );
        lines.extend(claim.unseen.iter().map(|unseen| format!("  unseen: {unseen}")));
        lines.push(format!("  why: {}", claim.cause));
        lines.push(format!("  help: {}", claim.remedy));
    }
    lines.extend(
        judged
            .unjudged
            .iter()
            .map(|row| format!("unjudged {}: {}", row.code, row.reason)),
    );
    lines.join("\n")
}
