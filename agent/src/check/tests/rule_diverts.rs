//! HOST10.

use super::*;
use crate::resolve::fixture::{self, CNI0, FLANNEL, add, add_fdb, add_link, add_neighbour, add_rule, link, rule};
use crate::resolve::{Fib, Scope};
use crate::view::{Rule, RuleAction};

/// A flannel host with two peers (10.244.2.0/24 and, on older terms, 10.244.8.0/21), in a pool that is known.
struct Node {
    kernel: Kernel,
    cni: CniFacts,
}

impl Node {
    fn new() -> Self {
        let mut kernel = fixture::host();
        add(&mut kernel, "0.0.0.0/0 via 192.168.1.254 dev eth0");
        for (cidr, gateway, mac, end) in [
            ("10.244.2.0/24", "10.244.2.0", "02:00:00:00:00:02", "192.168.1.2"),
            ("10.244.8.0/21", "10.244.8.0", "02:00:00:00:00:08", "192.168.1.8"),
        ] {
            add(&mut kernel, &format!("{cidr} via {gateway} dev flannel.1 onlink"));
            add_neighbour(&mut kernel, FLANNEL, gateway, mac);
            add_fdb(&mut kernel, FLANNEL, mac, end);
        }
        add_link(&mut kernel, 11, "veth1", "veth", &[]);
        link(&mut kernel, "veth1").master = Some(CNI0);
        Self {
            kernel,
            cni: Host::flannel().cni,
        }
    }

    fn route(mut self, text: &str) -> Self {
        add(&mut self.kernel, text);
        self
    }

    /// A route that the kernel made for an address.
    fn connected(mut self, name: &str, kind: &str, address: &str) -> Self {
        add_link(&mut self.kernel, 20, name, kind, &[address]);
        let mut route = fixture::route(&self.kernel, &format!("{} dev {name}", net(address).trunc()));
        route.protocol = 2;
        fixture::push(&mut self.kernel, route);
        self
    }

    fn rule(mut self, priority: u32, action: RuleAction, change: impl FnOnce(&mut Rule)) -> Self {
        let mut added = rule(false, priority, action);
        change(&mut added);
        add_rule(&mut self.kernel, added);
        self
    }

    fn plugin(mut self, plugin: &str) -> Self {
        self.cni = config("10-x.conflist", plugin, Some("host-local"), &["10.244.1.0/24"], None);
        self
    }

    /// What HOST10 has to say.
    fn judge(&self) -> Judged {
        let mut fib = Fib::new();
        fib.set_scope(Scope {
            interest: nets(&["10.244.0.0/16", "fd01::/48"]),
            internal_ips: vec!["192.168.1.1".parse().unwrap()],
            pod_cidrs: nets(&["10.244.1.0/24"]),
            pod_device: Some("cni0".into()),
        });
        fib.rebuild(&self.kernel, at(5));
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
            host: &crate::view::Host::bare(at(8)),
            lease_growth: &[],
            now: at(11),
        });
        judged.claims.retain(|claim| claim.code == Code::Host10);
        judged.unjudged.retain(|row| row.code == Code::Host10);
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

fn from(prefix: &str) -> impl FnOnce(&mut Rule) {
    let prefix = net(prefix);
    move |rule| rule.source = Some(prefix)
}

fn to(prefix: &str) -> impl FnOnce(&mut Rule) {
    let prefix = net(prefix);
    move |rule| rule.destination = Some(prefix)
}

#[test]
fn a_host_without_rules_of_its_own_is_silent() {
    Node::new().assert_silent();
}

#[test]
fn a_rule_for_pods_that_leaves_by_another_gateway_counts() {
    let node = Node::new().route("0.0.0.0/0 via 192.168.1.9 dev eth0 table 100").rule(
        100,
        RuleAction::Table(100),
        from("10.244.1.0/24"),
    );
    let judged = node.judge();
    insta::assert_snapshot!(text(&judged));
    let prefixes: Vec<_> = judged.claims[0].affected.iter().filter_map(|row| row.prefix).collect();
    assert!(prefixes.contains(&net("10.244.2.0/24")) && prefixes.contains(&net("10.244.8.0/21")));
}

#[test]
fn a_rule_that_drops_what_goes_to_a_peer_counts_by_itself_and_by_its_table() {
    let by_rule = Node::new().rule(100, RuleAction::Blackhole, to("10.244.2.0/24"));
    assert!(
        by_rule
            .claim()
            .summary
            .contains("rule 100: from all to 10.244.2.0/24 blackhole loses it")
    );
    let by_table = Node::new()
        .route("unreachable 10.244.2.0/24 table 100")
        .rule(100, RuleAction::Table(100), |_| {});
    let claim = by_table.claim();
    assert_eq!(claim.affected_total, 1);
    assert!(
        claim
            .summary
            .contains("10.244.2.0/24 lands unreachable, main has via 10.244.2.0 dev flannel.1")
    );
}

#[test]
fn a_rule_that_leads_to_the_same_next_hop_or_finds_nothing_is_no_diversion() {
    let same = Node::new()
        .route("10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink table 100")
        .rule(100, RuleAction::Table(100), |_| {});
    same.assert_silent();
    Node::new().rule(100, RuleAction::Table(100), |_| {}).assert_silent();
    let host_gw = Node::new()
        .route("10.244.3.0/24 via 192.168.1.3 dev eth0")
        .route("10.244.3.0/24 via 192.168.1.3 dev eth0 table 100")
        .rule(100, RuleAction::Table(100), |_| {});
    host_gw.assert_silent();
}

#[test]
fn rules_that_pods_packets_do_not_meet_are_no_diversion() {
    let other_table = |change: fn(&mut Rule)| {
        Node::new()
            .route("0.0.0.0/0 via 192.168.1.9 dev eth0 table 100")
            .rule(100, RuleAction::Table(100), change)
    };
    other_table(|rule| rule.mark = Some((0x80, 0x80))).assert_silent();
    other_table(|rule| rule.source = Some(net("192.168.1.1/32"))).assert_silent();
    other_table(|rule| rule.destination = Some(net("192.168.0.0/16"))).assert_silent();
    other_table(|rule| rule.iif = Some("lo".into())).assert_silent();
    // wg-quick's: what main has is taken first.
    let wg_quick = Node::new()
        .rule(32764, RuleAction::Table(254), |rule| {
            rule.suppress_prefix_length = Some(0)
        })
        .route("0.0.0.0/0 via 192.168.1.9 dev eth0 table 51820")
        .rule(32765, RuleAction::Table(51820), |rule| rule.mark = Some((0, 0xca6c)));
    wg_quick.assert_silent();
}

#[test]
fn what_may_be_a_cnis_own_way_is_not_held_against_it() {
    // Calico's WireGuard.
    let mut wireguard = Node::new().plugin("calico");
    add_link(&mut wireguard.kernel, 30, "wireguard.cali", "wireguard", &[]);
    let wireguard = wireguard
        .route("10.244.2.0/24 dev wireguard.cali table 1")
        .rule(99, RuleAction::Table(1), |_| {});
    wireguard.assert_silent();
    // kube-router's table 77: the way to the tunnels' far ends.
    let kube_router =
        Node::new()
            .route("192.168.1.2/32 dev eth0 table 77")
            .rule(32765, RuleAction::Table(77), from("10.244.1.0/24"));
    kube_router.assert_silent();
    // Another overlay.
    let mut overlay = Node::new();
    add_link(&mut overlay.kernel, 31, "vx-submariner", "vxlan", &["240.0.0.1/8"]);
    let overlay = overlay
        .route("10.244.2.0/24 via 240.0.0.2 dev vx-submariner table 150")
        .rule(100, RuleAction::Table(150), |_| {});
    overlay.assert_silent();
}

#[test]
fn a_rule_that_not_every_pod_meets_is_unknown() {
    let some =
        Node::new()
            .route("0.0.0.0/0 via 192.168.1.9 dev eth0 table 100")
            .rule(100, RuleAction::Table(100), |rule| rule.iif = Some("cni0".into()));
    some.claim();
    let mut unknown = some;
    unknown
        .kernel
        .rules
        .iter_mut()
        .filter(|rule| rule.priority == 100)
        .for_each(|rule| {
            rule.unmodelled = Some("tun_id".into());
        });
    let judged = unknown.judge();
    assert_eq!(judged.claims, vec![]);
    assert!(judged.unjudged[0].reason.contains("tun_id"), "{judged:?}");
}

#[test]
fn a_vpn_that_takes_a_peers_range_counts() {
    let mut node = Node::new();
    add_link(&mut node.kernel, 32, "tailscale0", "tun", &["100.64.0.1/32"]);
    let node = node
        .route("10.244.0.0/16 dev tailscale0 table 52")
        .rule(5270, RuleAction::Table(52), |_| {});
    let claim = node.claim();
    assert!(claim.summary.contains("on-link dev tailscale0"), "{}", claim.summary);
}

#[test]
fn a_blackhole_left_inside_a_peers_range_counts() {
    // The range became larger, and flannel left the discard of the former one.
    let node = Node::new().route("blackhole 10.244.9.0/24");
    insta::assert_snapshot!(text(&node.judge()));
}

#[test]
fn discards_that_take_nothing_from_a_peer_are_not_held_against_the_host() {
    // Its own (--ip-blackhole-route), one outside every peer's, and one wider than all.
    Node::new().route("blackhole 10.244.1.0/24 metric 9").assert_silent();
    Node::new().route("blackhole 10.244.77.0/24").assert_silent();
    Node::new().route("blackhole 10.244.0.0/16").assert_silent();
    Node::new().route("blackhole 192.168.77.0/24").assert_silent();
    // A route for the whole network is no peer's.
    let wide = Node::new()
        .route("10.244.0.0/16 via 192.168.1.254 dev eth0")
        .route("blackhole 10.244.77.0/24");
    wide.assert_silent();
    // Something lives there: only the rest is dropped, and that is nobody's.
    let calico = |protocol: u8| {
        let mut node = Node::new();
        let mut route = fixture::route(&node.kernel, "blackhole 10.244.9.64/26");
        route.protocol = protocol;
        fixture::push(&mut node.kernel, route);
        node
    };
    calico(12).assert_silent();
    calico(80).assert_silent();
    calico(3).claim();
    Node::new()
        .plugin("calico")
        .route("blackhole 10.244.9.64/26")
        .assert_silent();
}

#[test]
fn dockers_network_inside_the_pods_ranges_counts_more_where_a_peer_has_it() {
    let inside = Node::new().connected("docker0", "bridge", "10.244.2.129/25").claim();
    assert_eq!(inside.severity, Severity::Error);
    let free = Node::new().connected("docker0", "bridge", "10.244.100.1/24");
    assert_eq!(free.claim().severity, Severity::Warning);
    insta::assert_snapshot!(text(&free.judge()));
    Node::new().connected("tun0", "tun", "10.244.8.1/24").claim();
}

#[test]
fn networks_that_are_the_cnis_or_outside_the_ranges_are_not_held_against_it() {
    Node::new()
        .connected("docker0", "bridge", "172.17.0.1/16")
        .assert_silent();
    // Wider than all: what the CNI's routes name still goes there.
    Node::new()
        .connected("docker0", "bridge", "10.244.0.1/16")
        .assert_silent();
    // A second bridge of the CNI's or somebody else's that nobody here knows.
    Node::new()
        .connected("cni1", "bridge", "10.244.100.1/24")
        .assert_silent();
    Node::new().connected("eth1", "", "10.244.100.1/24").assert_silent();
    Node::new()
        .connected("wg0", "wireguard", "10.244.100.1/24")
        .assert_silent();
    // HOST04's.
    Node::new()
        .connected("docker0", "bridge", "10.244.1.129/25")
        .assert_silent();
}

use cidrift_proto::finding::Severity;
