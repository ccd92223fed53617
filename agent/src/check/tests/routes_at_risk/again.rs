//! Routes that a CNI's daemon writes again by itself.

use std::collections::BTreeMap;

use cidrift_proto::finding::Severity;

use super::*;
use crate::view::host::{Process, Program, Sandbox, Setting};

fn process(program: Program, settings: &[(&str, &str)]) -> Process {
    let setting = |value: &str| Setting {
        value: value.into(),
        source: "command line".into(),
    };
    Process {
        program,
        embedded_in: None,
        pid: 77,
        started_at: Some(at(0)),
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), setting(value)))
            .collect::<BTreeMap<_, _>>(),
        problem: None,
    }
}

fn sandbox(pod: &str) -> Sandbox {
    Sandbox {
        id: "c0ffee".into(),
        pod: pod.into(),
        uid: "u".into(),
        created_at: Some(at(0)),
        ready: true,
        host_network: true,
        addresses: vec![],
    }
}

/// A node of that CNI whose one route to pods, of this protocol, is at risk.
fn node(cni: CniFacts, protocol: u8) -> Node {
    Node::new(vec![networkd(ROUTES, &["eth0"])]).with(|node| {
        node.kernel.links.retain(|_, link| !link.name.starts_with("flannel"));
        let mut routes = node.kernel.routes.at(254, &net("10.244.2.0/24")).to_vec();
        routes[0].protocol = protocol;
        node.kernel.routes.set(254, net("10.244.2.0/24"), routes);
        node.cni = cni;
    })
}

fn runs(node: &mut Node, processes: Vec<Process>) {
    node.seen.processes = Observed::seen(at(8), "/proc", processes);
}

fn pods(node: &mut Node, sandboxes: Vec<Sandbox>) {
    node.seen.sandboxes = Observed::seen(at(8), "/run/containerd/containerd.sock", sandboxes);
}

/// flannel with host-gw: no tunnel, and pods may send what the uplink takes.
fn host_gw() -> Node {
    let mut cni = Host::flannel().cni;
    if let Some(env) = &mut cni.flannel {
        env.mtu = 1500;
    }
    node(cni, 3).with(|node| runs(node, vec![process(Program::Flanneld, &[])]))
}

fn kindnet() -> Node {
    let mut cni = config("10-kindnet.conflist", "ptp", Some("host-local"), &[], None);
    if let Some(config) = &mut cni.chosen {
        config.network = "kindnet".into();
    }
    node(cni, 3).with(|node| pods(node, vec![sandbox("kube-system/kindnet-x7k2p")]))
}

fn calico(protocol: u8) -> Node {
    let cni = config("10-calico.conflist", "calico", Some("calico-ipam"), &[], None);
    node(cni, protocol).with(|node| pods(node, vec![sandbox("calico-system/calico-node-9s8df")]))
}

fn kube_router() -> Node {
    let bridge = Some("kube-bridge");
    let cni = config("10-kuberouter.conflist", "bridge", Some("host-local"), &[], bridge);
    node(cni, 17).with(|node| pods(node, vec![sandbox("kube-system/kube-router-abcde")]))
}

#[track_caller]
fn assert_comes_back(node: &Node, says: &str) {
    let claim = node.claim();
    assert_eq!(claim.severity, Severity::Info, "{claim:?}");
    assert!(claim.summary.ends_with(says), "{}", claim.summary);
}

#[track_caller]
fn assert_lost(node: &Node) -> Claim {
    let claim = node.claim();
    assert_eq!(claim.severity, Severity::Warning, "{claim:?}");
    assert!(!claim.summary.contains("again"), "{}", claim.summary);
    claim
}

#[test]
fn routes_that_flannel_writes_again_are_an_information() {
    insta::assert_snapshot!(text(&host_gw().judge()));
}

#[test]
fn what_each_cni_writes_again_is_said_with_how_often() {
    assert_comes_back(&host_gw(), "; flanneld writes them again every 10 s");
    assert_comes_back(&kindnet(), "; kindnetd writes them again every 10 s");
    assert_comes_back(&calico(12), "; Calico's BIRD writes them again every 2 s");
    let felix = "; Calico's Felix writes them again every 90 s (unless RouteRefreshInterval says otherwise)";
    assert_comes_back(&calico(80), felix);
    let router = "; kube-router writes them again every 60 s (unless --injected-routes-sync-period says otherwise)";
    assert_comes_back(&kube_router(), router);
    let ipip = host_gw().with(|node| {
        add_link(&mut node.kernel, 20, "flannel.ipip", "ipip", &[]);
        node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
        add(
            &mut node.kernel,
            "10.244.2.0/24 via 192.168.1.2 dev flannel.ipip onlink",
        );
        node.managers = Observed::seen(at(8), "networkd", vec![networkd(ROUTES, &["flannel.ipip"])]);
    });
    assert_comes_back(&ipip, "; flanneld writes them again every 10 s");
    // Of routes of both the slower one counts.
    let both = calico(12).with(|node| {
        let mut other = fixture::route(&node.kernel, "10.244.3.0/24 via 192.168.1.3 dev eth0");
        other.protocol = 80;
        fixture::push(&mut node.kernel, other);
    });
    assert_comes_back(&both, felix);
}

#[test]
fn flannels_other_backends_never_write_a_route_again() {
    // vxlan with DirectRouting: the same route, and a tunnel beside it.
    assert_lost(&host_gw().with(|node| add_link(&mut node.kernel, 20, "flannel.1", "vxlan", &[])));
    // Nothing of the tunnel is left but its MTU.
    assert_lost(&host_gw().with(|node| {
        if let Some(env) = &mut node.cni.flannel {
            env.mtu = 1450;
        }
    }));
    assert_lost(&host_gw().with(|node| node.cni.flannel = None));
    let told = |backend: &'static str| {
        host_gw().with(|node| runs(node, vec![process(Program::Flanneld, &[("flannel-backend", backend)])]))
    };
    assert_lost(&told("vxlan"));
    assert_comes_back(&told("host-gw"), "again every 10 s");
}

#[test]
fn a_daemon_that_does_not_run_writes_nothing() {
    assert_lost(&host_gw().with(|node| runs(node, vec![])));
    let manifest = Process {
        pid: 0,
        ..process(Program::Flanneld, &[])
    };
    assert_lost(&host_gw().with(|node| runs(node, vec![manifest])));
    assert_lost(&kindnet().with(|node| pods(node, vec![])));
    let changed = |change: fn(&mut Sandbox)| {
        let mut pod = sandbox("kube-system/kindnet-x7k2p");
        change(&mut pod);
        kindnet().with(|node| pods(node, vec![pod]))
    };
    assert_lost(&changed(|pod| pod.ready = false));
    assert_lost(&changed(|pod| pod.host_network = false));
    assert_lost(&changed(|pod| pod.pod = "default/not-kindnet-x7k2p".into()));
}

#[test]
fn a_daemon_that_cannot_be_seen_is_said_and_is_no_comfort() {
    let why = || Missing::Unreadable("Permission denied".into());
    let claim = assert_lost(&kindnet().with(|node| node.seen.sandboxes = Observed::missing(at(8), "socket", why())));
    assert_eq!(
        claim.unseen,
        ["whether kindnetd runs here, which would write the routes again: socket: Permission denied"]
    );
    let claim = assert_lost(&host_gw().with(|node| node.seen.processes = Observed::missing(at(8), "/proc", why())));
    assert_eq!(
        claim.unseen,
        ["whether flanneld runs here, which would write the routes again: /proc: Permission denied"]
    );
}

#[test]
fn one_thing_that_does_not_come_back_keeps_the_warning() {
    // A route that is not the daemon's.
    let by_hand = calico(12).with(|node| add(&mut node.kernel, "10.244.3.0/24 via 192.168.1.3 dev eth0"));
    assert_lost(&by_hand);
    // Over several hops, as flannel makes none.
    assert_lost(&host_gw().with(|node| {
        let several = "10.244.3.0/24 nexthop via 192.168.1.2 dev eth0 nexthop via 192.168.1.3 dev eth0";
        add(&mut node.kernel, several);
    }));
    // Policy rules.
    let with_rule = kindnet().with(|node| {
        let managers = vec![networkd(ROUTES, &["eth0"]), networkd(RULES, &["eth0"])];
        node.managers = Observed::seen(at(8), "networkd", managers);
        let mut added = rule(false, 512, RuleAction::Table(254));
        added.source = Some(net("10.244.1.0/24"));
        add_rule(&mut node.kernel, added);
    });
    let claim = with_rule.claim();
    assert_eq!(claim.severity, Severity::Warning);
    assert!(
        claim
            .summary
            .contains("kindnetd writes them again every 10 s; 1 policy rules"),
        "{}",
        claim.summary
    );
    // kindnet's newer daemon of its own.
    let newer = config("10-kindnet.conflist", "cni-kindnet", None, &[], None);
    assert_lost(&kindnet().with(|node| node.cni = newer));
}
