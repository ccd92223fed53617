//! HOST11.

mod again;

use super::*;
use crate::resolve::fixture::{self, add, add_link, add_rule, link, rule};
use crate::resolve::{Fib, Scope};
use crate::view::host::{Missing, NetworkManager};
use crate::view::{Observed, RuleAction};

/// A host-gw node; its managers, and what the CNI is.
struct Node {
    kernel: Kernel,
    cni: CniFacts,
    managers: Observed<Vec<NetworkManager>>,
    interest: Vec<IpNet>,
    /// What else is seen of the host.
    seen: crate::view::Host,
}

fn networkd(key: &str, devices: &[&str]) -> NetworkManager {
    NetworkManager {
        name: "systemd-networkd".into(),
        setting: format!("{key}=yes (default)"),
        file: None,
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
    }
}

impl Node {
    fn new(managers: Vec<NetworkManager>) -> Self {
        let mut kernel = fixture::host();
        add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0");
        add(&mut kernel, "10.244.2.0/24 via 192.168.1.2 dev eth0");
        Self {
            kernel,
            cni: Host::flannel().cni,
            managers: Observed::seen(at(8), "systemd-networkd and NetworkManager", managers),
            interest: nets(&["10.244.0.0/16"]),
            seen: crate::view::Host::bare(at(8)),
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// What HOST11 has to say.
    fn judge(&self) -> Judged {
        let mut fib = Fib::new();
        fib.set_scope(Scope {
            interest: self.interest.clone(),
            ..Scope::default()
        });
        fib.rebuild(&self.kernel, at(5));
        let mut host = self.seen.clone();
        host.managers = self.managers.clone();
        let mut judged = check(&Input {
            node: "node-a",
            expectation: Some(&Host::flannel().expectation),
            kernel: &self.kernel,
            kernel_at: at(10),
            kernel_gaps: &[],
            links_changed_at: Some(at(4)),
            cni: &self.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &fib,
            host: &host,
            lease_growth: &[],
            now: at(11),
        });
        judged.claims.retain(|claim| claim.code == Code::Host11);
        judged.unjudged.retain(|row| row.code == Code::Host11);
        judged
    }

    #[track_caller]
    fn assert_silent(&self) {
        assert_eq!(self.judge(), Judged::default());
    }

    #[track_caller]
    fn claim(&self) -> Claim {
        let judged = self.judge();
        assert_eq!((judged.claims.len(), judged.unjudged.len()), (1, 0), "{judged:?}");
        judged.claims.into_iter().next().unwrap()
    }
}

const ROUTES: &str = "ManageForeignRoutes";
const RULES: &str = "ManageForeignRoutingPolicyRules";

#[test]
fn pod_routes_over_a_device_that_networkd_configures_are_at_risk() {
    let node = Node::new(vec![networkd(ROUTES, &["eth0"]), networkd(RULES, &["eth0"])]);
    insta::assert_snapshot!(text(&node.judge()));
}

#[test]
fn routes_that_networkd_leaves_alone_are_not() {
    let node = |devices: &[&str]| Node::new(vec![networkd(ROUTES, devices)]);
    // By the tunnel's device, which no .network file matches: flannel's vxlan.
    node(&["eth0"])
        .with(|node| {
            node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
            add(&mut node.kernel, "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
        })
        .assert_silent();
    node(&[]).assert_silent();
    node(&["eth1"]).assert_silent();
    // The kernel's, DHCP's, a router's, an operator's own.
    for protocol in [2, 16, 9, 4] {
        node(&["eth0"])
            .with(|node| {
                let mut routes = node.kernel.routes.at(254, &net("10.244.2.0/24")).to_vec();
                routes[0].protocol = protocol;
                node.kernel.routes.set(254, net("10.244.2.0/24"), routes);
            })
            .assert_silent();
    }
    // Not to pods.
    node(&["eth0"])
        .with(|node| {
            node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
            add(&mut node.kernel, "10.99.0.0/24 via 192.168.1.2 dev eth0");
        })
        .assert_silent();
}

#[test]
fn a_network_file_that_matches_everything_puts_the_tunnel_at_risk_too() {
    Node::new(vec![networkd(ROUTES, &["cni0", "eth0", "flannel.1"])])
        .with(|node| {
            node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
            add(&mut node.kernel, "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
        })
        .claim();
}

#[test]
fn rules_for_pods_are_at_risk_whatever_networkd_configures() {
    let with_rule = |change: fn(&mut crate::view::Rule)| {
        Node::new(vec![networkd(RULES, &[])]).with(|node| {
            let mut added = rule(false, 512, RuleAction::Table(254));
            change(&mut added);
            add_rule(&mut node.kernel, added);
        })
    };
    with_rule(|rule| rule.destination = Some(net("10.244.1.7/32"))).claim();
    with_rule(|rule| rule.source = Some(net("10.244.1.0/24"))).claim();
    with_rule(|rule| rule.source = Some(net("192.168.1.1/32"))).assert_silent();
    with_rule(|_| {}).assert_silent();
    // AWS' pods have addresses of the VPC; there the rules themselves tell.
    let aws = |node: &mut Node| {
        node.cni = config("10-aws.conflist", "aws-cni", None, &[], None);
        node.interest.clear();
    };
    let claim = with_rule(|rule| rule.destination = Some(net("192.168.97.30/32")))
        .with(aws)
        .claim();
    assert!(
        claim
            .summary
            .contains("1 policy rules for pods, as 512: from all to 192.168.97.30/32"),
        "{}",
        claim.summary
    );
}

#[test]
fn network_manager_is_told_of_where_it_manages_the_cnis_devices() {
    let nm = |devices: &[&str]| NetworkManager {
        name: "NetworkManager".into(),
        setting: "managed=true".into(),
        file: Some("/run/NetworkManager/devices".into()),
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
    };
    insta::assert_snapshot!(text(&Node::new(vec![nm(&["cni0", "eth0", "flannel.1"])]).judge()));
    Node::new(vec![nm(&["eth0"])]).assert_silent();
    // Named like one, and not there any more.
    Node::new(vec![nm(&["cali1234"])]).assert_silent();
    let veth = |peer_elsewhere| {
        Node::new(vec![nm(&["veth1"])]).with(|node| {
            add_link(&mut node.kernel, 11, "veth1", "veth", &[]);
            link(&mut node.kernel, "veth1").peer_elsewhere = peer_elsewhere;
        })
    };
    veth(true).claim();
    veth(false).assert_silent();
}

#[test]
fn without_managers_or_without_a_cni_nothing_is_at_risk() {
    Node::new(vec![]).assert_silent();
    let absent = |node: &mut Node| {
        node.managers = Observed::missing(at(8), "", Missing::Absent("neither runs here".into()));
    };
    Node::new(vec![]).with(absent).assert_silent();
    Node::new(vec![networkd(ROUTES, &["eth0"])])
        .with(|node| node.cni.chosen = None)
        .assert_silent();
}

#[test]
fn managers_that_cannot_be_read_are_unknown() {
    let node = Node::new(vec![]).with(|node| {
        let why = "systemd-networkd runs: whether it works in this network namespace cannot be told: no /proc";
        node.managers = Observed::missing(
            at(8),
            "systemd-networkd and NetworkManager",
            Missing::Unreadable(why.into()),
        );
    });
    assert!(
        text(&node.judge()).starts_with("unjudged HOST11: systemd-networkd and NetworkManager: systemd-networkd runs")
    );
}
