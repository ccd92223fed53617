//! HOST07.

use super::*;
use crate::resolve::fixture::{self, CNI0, FLANNEL, add, add_fdb, add_link, add_neighbour, add_rule, link, rule};
use crate::resolve::{Fib, Scope};
use crate::view::Observed;
use crate::view::host::{Missing, Settings};
use crate::view::traffic::{Counts, Traffic};
use crate::view::{Rule, RuleAction};

/// A real kernel's state, with what the CNI's files and /proc/sys say.
struct Node {
    kernel: Kernel,
    cni: CniFacts,
    settings: Observed<Settings>,
    gaps: Vec<Gap>,
    traffic: Observed<Traffic>,
}

fn forwards() -> Settings {
    Settings {
        ipv4_forward: Some(true),
        ipv6_forward: Some(true),
        rp_filter_all: Some(0),
        ..Settings::default()
    }
}

impl Node {
    /// flannel's vxlan as it should be: pods and cni0 1450, flannel.1 1450, eth0 1500.
    fn flannel() -> Self {
        let mut kernel = fixture::host();
        add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0");
        add(&mut kernel, "10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink");
        add_neighbour(&mut kernel, FLANNEL, "10.244.2.0", "02:00:00:00:00:02");
        add_fdb(&mut kernel, FLANNEL, "02:00:00:00:00:02", "192.168.1.2");
        add_link(&mut kernel, 11, "veth1", "veth", &[]);
        link(&mut kernel, "veth1").master = Some(CNI0);
        let mut node = Self {
            kernel,
            cni: Host::flannel().cni,
            settings: Observed::seen(at(8), "/proc/sys/net", forwards()),
            gaps: Vec::new(),
            traffic: Observed::not_yet(),
        };
        node.mtu("flannel.1", 1450).mtu("cni0", 1450).mtu("veth1", 1450);
        node
    }

    /// flannel's host-gw: no tunnel, 1500 everywhere.
    fn host_gw() -> Self {
        let mut node = Self::flannel();
        node.kernel.links.remove(&FLANNEL);
        node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
        add(&mut node.kernel, "10.244.2.0/24 via 192.168.1.2 dev eth0");
        node.mtu("cni0", 1500).mtu("veth1", 1500);
        node.cni.flannel.as_mut().unwrap().mtu = 1500;
        node
    }

    /// kind's node: a route for each pod, 1500 everywhere.
    fn kind() -> Self {
        let mut node = Self::host_gw();
        node.kernel.links.remove(&CNI0);
        node.kernel.routes.set(254, net("10.244.1.0/24"), Vec::new());
        let veth = link(&mut node.kernel, "veth1");
        veth.master = None;
        veth.peer_elsewhere = true;
        add(&mut node.kernel, "10.244.1.2/32 dev veth1");
        let range = &["10.244.1.0/24"];
        node.cni = config("10-kindnet.conflist", "ptp", Some("host-local"), range, None);
        node
    }

    fn mtu(&mut self, name: &str, mtu: u32) -> &mut Self {
        link(&mut self.kernel, name).mtu = mtu;
        self
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.settings.value.as_mut().unwrap());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// What HOST07 has to say.
    fn judge(&self) -> Judged {
        let mut fib = Fib::new();
        fib.set_scope(Scope::everything());
        fib.rebuild(&self.kernel, at(5));
        let mut host = crate::view::Host::bare(at(8));
        host.settings = self.settings.clone();
        host.traffic = self.traffic.clone();
        let mut judged = check(&Input {
            node: "node-a",
            expectation: Some(&Host::flannel().expectation),
            kernel: &self.kernel,
            kernel_at: at(10),
            kernel_gaps: &self.gaps,
            links_changed_at: Some(at(4)),
            cni: &self.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &fib,
            host: &host,
            lease_growth: &[],
            now: at(11),
        });
        judged.claims.retain(|claim| claim.code == Code::Host07);
        judged.unjudged.retain(|row| row.code == Code::Host07);
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

#[test]
fn stock_flannel_host_gw_and_kind_are_silent() {
    Node::flannel().assert_silent();
    Node::host_gw().assert_silent();
    Node::kind().assert_silent();
}

#[test]
fn a_host_that_does_not_forward_counts_with_the_command_that_mends_it() {
    let node = Node::flannel().set(|settings| settings.ipv4_forward = Some(false));
    let judged = node.judge();
    assert_eq!(judged.claims[0].severity, Severity::Error);
    insta::assert_snapshot!(text(&judged));
    Node::kind().set(|settings| settings.ipv4_forward = Some(false)).claim();
}

#[test]
fn only_the_families_that_pods_have_must_be_forwarded() {
    let off = |settings: &mut Settings| settings.ipv6_forward = Some(false);
    Node::host_gw()
        .set(off)
        .with(|node| {
            link(&mut node.kernel, "cni0")
                .addresses
                .retain(|a| a.net.addr().is_ipv4())
        })
        .assert_silent();
    assert!(
        Node::host_gw()
            .set(off)
            .claim()
            .summary
            .contains("IPv6 is not forwarded at all")
    );
    Node::host_gw()
        .set(|settings| settings.ipv6_forward = None)
        .assert_silent();
}

#[test]
fn a_node_without_pods_forwards_nothing_yet() {
    let off = |settings: &mut Settings| settings.ipv4_forward = Some(false);
    Node::flannel()
        .set(off)
        .with(|node| link(&mut node.kernel, "veth1").master = None)
        .assert_silent();
    Node::kind()
        .set(off)
        .with(|node| node.kernel.routes.set(254, net("10.244.1.2/32"), Vec::new()))
        .assert_silent();
}

#[test]
fn a_device_that_pods_packets_come_in_by_must_forward_and_others_need_not() {
    for (device, counts) in [
        ("cni0", true),
        ("flannel.1", true),
        ("eth0", true),
        ("veth1", false),
        ("docker0", false),
        ("lo", false),
    ] {
        let node = Node::flannel()
            .with(|node| add_link(&mut node.kernel, 12, "docker0", "bridge", &["172.17.0.1/16"]))
            .set(|settings| settings.ipv4_forward_off = vec![device.to_owned()]);
        assert_eq!(node.judge().claims.len(), usize::from(counts), "{device}");
    }
    // With a route for each pod, its own port is the way in.
    Node::kind()
        .set(|settings| settings.ipv4_forward_off = vec!["veth1".to_owned()])
        .claim();
}

#[test]
fn ipv6_does_not_ask_the_device() {
    let all = ["cni0", "flannel.1", "eth0"].map(str::to_owned).to_vec();
    Node::flannel()
        .set(|settings| settings.ipv6_forward_off = all)
        .assert_silent();
}

#[test]
fn data_planes_that_do_not_forward_in_the_kernel_are_not_asked() {
    for plugin in ["antrea", "cilium-cni", "aws-cni", "ovn-k8s-cni-overlay", "my-own"] {
        let node = Node::flannel().set(|settings| settings.ipv4_forward = Some(false));
        node.with(|node| node.cni.chosen.as_mut().unwrap().plugins = vec![plugin.to_owned()])
            .assert_silent();
    }
    let calico = |ebpf: bool| {
        Node::kind()
            .set(|settings| settings.ipv4_forward = Some(false))
            .with(|node| {
                node.cni = config("10-calico.conflist", "calico", Some("calico-ipam"), &[], None);
                if ebpf {
                    add_link(&mut node.kernel, 20, "bpfin.cali", "veth", &[]);
                }
            })
    };
    calico(false).claim();
    calico(true).assert_silent();
}

#[test]
fn settings_that_cannot_be_read_are_unknown_and_those_not_looked_for_are_not_healthy_either() {
    let mut node = Node::flannel();
    let why = Missing::Unreadable("ipv4/ip_forward: Permission denied".to_owned());
    node.settings = Observed::missing(at(8), "/proc/sys/net", why);
    assert_eq!(
        text(&node.judge()),
        "unjudged HOST07: /proc/sys/net: ipv4/ip_forward: Permission denied"
    );
    node.settings = Observed::not_yet();
    assert_eq!(text(&node.judge()), "unjudged HOST07: the host was not looked at yet");
    node.gaps = vec![Gap {
        what: "links".into(),
        why: "interrupted".into(),
    }];
    assert_eq!(
        text(&node.judge()),
        "unjudged HOST07: links could not be read: interrupted"
    );
}

/// `ip rule add to 10.244.2.0/24 lookup 100`, where table 100 has another way.
fn diverted(node: &mut Node) {
    add(&mut node.kernel, "0.0.0.0/0 via 192.168.1.9 dev eth0 table 100");
    let to = Some(net("10.244.2.0/24"));
    add_rule(
        &mut node.kernel,
        Rule {
            destination: to,
            ..rule(false, 100, RuleAction::Table(100))
        },
    );
}

#[test]
fn strict_filtering_counts_only_where_the_way_back_is_another_device() {
    let strict = |settings: &mut Settings| settings.rp_filter = [("flannel.1".to_owned(), 1)].into();
    Node::flannel().set(strict).assert_silent();
    Node::flannel().with(diverted).assert_silent();
    insta::assert_snapshot!(text(&Node::flannel().with(diverted).set(strict).judge()));
    // The higher of `all` and the device's own: 2 is loose.
    let strict_for_all = |settings: &mut Settings| settings.rp_filter_all = Some(1);
    Node::flannel().with(diverted).set(strict_for_all).claim();
    Node::flannel()
        .with(diverted)
        .set(strict)
        .set(|settings| settings.rp_filter_all = Some(2))
        .assert_silent();
    // A longer route of main's is the CNI's own, or says nothing of the rest.
    Node::flannel()
        .set(strict)
        .with(|node| add(&mut node.kernel, "10.244.2.0/25 via 192.168.1.2 dev eth0"))
        .assert_silent();
}

#[test]
fn a_tunnel_that_is_down_is_told_by_the_peers_that_it_cuts_off() {
    let down = |node: &mut Node| {
        link(&mut node.kernel, "flannel.1").up = false;
        node.kernel.routes.set(254, net("10.244.2.0/24"), Vec::new());
    };
    Node::flannel().with(down).assert_silent();
}

#[test]
fn a_tunnel_must_leave_room_for_its_headers() {
    let with = |tunnel: u32, uplink: u32| {
        Node::flannel().with(|node| {
            node.mtu("flannel.1", tunnel).mtu("cni0", tunnel).mtu("eth0", uplink);
            node.cni.flannel.as_mut().unwrap().mtu = tunnel;
        })
    };
    with(1450, 1500).assert_silent();
    with(1430, 1500).assert_silent();
    with(8951, 9001).assert_silent();
    let judged = with(1450, 1499).judge();
    assert_eq!(judged.claims[0].severity, Severity::Warning);
    insta::assert_snapshot!(text(&judged));
    with(1500, 1500).claim();
    // Nobody to send to, no route by it: a tunnel that carries nothing loses nothing.
    with(1500, 1500).with(|node| node.kernel.fdb.clear()).assert_silent();
}

#[test]
fn the_uplink_of_a_tunnel_is_where_its_far_ends_are_not_where_its_address_is() {
    let mut node = Node::flannel();
    node.mtu("flannel.1", 8950).mtu("cni0", 8950).mtu("eth0", 9000);
    node.cni.flannel.as_mut().unwrap().mtu = 8950;
    // The Node's address is on a dummy device, as with BGP to the host.
    add_link(&mut node.kernel, 30, "dummy0", "dummy", &["10.0.0.11/32"]);
    node.assert_silent();
}

#[test]
fn over_ipv6_a_tunnel_needs_twenty_bytes_more_and_ipip_thirty_less() {
    let outer = |local: &str, mtu: u32| {
        Node::flannel().with(|node| {
            node.mtu("flannel.1", mtu).mtu("cni0", mtu);
            node.cni.flannel.as_mut().unwrap().mtu = mtu;
            let LinkDetail::Vxlan { fact, .. } = &mut link(&mut node.kernel, "flannel.1").detail else {
                unreachable!()
            };
            fact.local = Some(local.parse().unwrap());
        })
    };
    outer("fd00::1", 1430).assert_silent();
    outer("fd00::1", 1431).claim();
    outer("192.168.1.1", 1431).assert_silent();
    let ipip = |mtu: u32| {
        Node::host_gw().with(|node| {
            add_link(&mut node.kernel, 31, "flannel.ipip", "ipip", &["10.244.1.0/32"]);
            node.mtu("flannel.ipip", mtu);
            add(
                &mut node.kernel,
                "10.244.3.0/24 via 192.168.1.3 dev flannel.ipip onlink",
            );
            node.cni.flannel.as_mut().unwrap().mtu = mtu;
            node.mtu("cni0", mtu);
        })
    };
    ipip(1480).assert_silent();
    ipip(1481).claim();
}

#[test]
fn wireguard_and_other_peoples_tunnels() {
    let wireguard = |name: &str, mtu: u32| {
        Node::host_gw().with(|node| {
            add_link(&mut node.kernel, 32, name, "wireguard", &["10.244.1.0/32"]);
            node.mtu(name, mtu);
            add(&mut node.kernel, &format!("10.244.0.0/16 dev {name}"));
        })
    };
    wireguard("flannel-wg", 1440).assert_silent();
    wireguard("flannel-wg", 1441).claim();
    // Somebody's VPN is not pods' business.
    wireguard("wg0", 1500).assert_silent();
}

#[test]
fn a_bridge_whose_pods_were_made_with_a_larger_mtu_is_a_warning() {
    let judged = Node::flannel().with(|node| _ = node.mtu("cni0", 1500)).judge();
    insta::assert_snapshot!(text(&judged));
    // Without ports a bridge has the kernel's own.
    let idle = Node::flannel().with(|node| {
        node.mtu("cni0", 1500);
        link(&mut node.kernel, "veth1").master = None;
    });
    idle.assert_silent();
    // Two tunnels, as dual stack has: the file says the larger.
    let dual = Node::flannel().with(|node| {
        add_link(&mut node.kernel, 33, "flannel-v6.1", "vxlan", &["fd01:1::/128"]);
        node.mtu("flannel-v6.1", 1430);
        add(&mut node.kernel, "fd01:2::/64 via fd01:2:: dev flannel-v6.1 onlink");
    });
    dual.assert_silent();
}

use cidrift_proto::finding::Severity;

fn counted(values: &[(&'static str, u64)], before: Option<&[(&'static str, u64)]>) -> Observed<Traffic> {
    let counts = |values: &[(&'static str, u64)]| Counts {
        ip: values.iter().copied().collect(),
        ..Counts::default()
    };
    let traffic = Traffic {
        now: counts(values),
        before: before.map(|values| (at(-50), counts(values))),
    };
    Observed::seen(at(10), "/proc/thread-self/net", traffic)
}

#[test]
fn counters_alone_are_never_a_finding() {
    let all = [
        ("IpInAddrErrors", 9),
        ("IpFragFails", 9),
        ("TcpExtIPReversePathFilter", 9),
    ];
    let node = Node::flannel().with(|node| node.traffic = counted(&all, Some(&[])));
    node.assert_silent();
}

#[test]
fn the_counters_that_a_fault_shows_in_are_its_evidence() {
    let off = |node: Node| node.set(|settings| settings.ipv4_forward = Some(false));
    let evidence = |values: &[(&'static str, u64)], before: Option<&[(&'static str, u64)]>| {
        let node = off(Node::host_gw()).with(|node| node.traffic = counted(values, before));
        let mut rows = node.claim().evidence.into_iter().map(|row| row.text);
        rows.find(|text| text.starts_with("Ip"))
    };
    let now = [("IpInAddrErrors", 12), ("IpFragFails", 40)];
    assert_eq!(evidence(&now, None).as_deref(), Some("IpInAddrErrors 12"));
    assert_eq!(
        evidence(&now, Some(&[("IpInAddrErrors", 9)])).as_deref(),
        Some("IpInAddrErrors 12, 3 of them within 60 s")
    );
    assert_eq!(
        evidence(&now, Some(&now)).as_deref(),
        Some("IpInAddrErrors 12, none of them within the last minute")
    );
    assert_eq!(evidence(&[("IpFragFails", 40)], None), None);
}

#[test]
fn packets_that_do_not_fit_show_in_fragments() {
    let mut node = Node::flannel().with(|node| node.traffic = counted(&[("IpFragFails", 4)], None));
    node.mtu("flannel.1", 1500);
    assert!(node.claim().evidence.iter().any(|row| row.text == "IpFragFails 4"));
}
