//! HOST04.

use super::*;

fn flannel(landing: Landing) -> Host {
    Host::flannel().rows(
        Rows::default()
            .row("0.0.0.0/0", via("10.0.0.1"))
            .row("10.244.1.0/24", landing),
    )
}

#[test]
fn a_peers_route_for_the_own_cidr_counts_and_the_remedy_is_one_command() {
    let host = flannel(via("10.0.0.2"));
    assert_eq!(host.codes(), [Code::Host04]);
    insta::assert_snapshot!(text(&host.judge()));
}

#[test]
fn a_part_that_leads_away_counts() {
    let rows = Host::flannel().rows.row("10.244.1.128/25", via("10.0.0.2"));
    let judged = Host::flannel().rows(rows).judge();
    assert_eq!(judged.claims[0].code, Code::Host04);
    assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.1.128/25")));
}

#[test]
fn parts_count_where_they_leave_nothing_to_the_whole() {
    struct Halves;
    impl Lookup for Halves {
        fn coverage(&self, _: IpNet) -> Option<Coverage> {
            let rows = Rows::default()
                .row("10.244.1.0/25", via("10.0.0.2"))
                .row("10.244.1.128/25", via("10.0.0.2"));
            Some(Coverage {
                base: None,
                specifics: rows.0,
            })
        }
    }
    let host = Host::flannel();
    let judged = check(&Input {
        node: "node-a",
        expectation: Some(&host.expectation),
        kernel: &host.kernel,
        kernel_at: at(0),
        kernel_gaps: &[],
        links_changed_at: None,
        cni: &host.cni,
        cni_at: at(0),
        cni_changed_at: None,
        lookup: &Halves,
        host: &crate::view::Host::bare(Timestamp::UNIX_EPOCH),
        lease_growth: &[],
        now: Timestamp::UNIX_EPOCH,
    });
    assert_eq!(judged.claims[0].affected_total, 2);
}

#[test]
fn a_route_that_leads_back_to_the_host_is_its_own_daemons() {
    let mut host = flannel(via("10.0.0.11"));
    host.expectation.internal_ips = vec!["10.0.0.11".parse().unwrap()];
    let judged = host.judge();
    assert_eq!(judged.claims[0].code, Code::Host04);
    assert!(judged.claims[0].cause.contains("takes the new one for a peer's"));
    assert!(judged.claims[0].remedy.contains("ip route del 10.244.1.0/24 dev eth0"));
    let mut on_the_uplink = flannel(Landing::Onlink { device: "eth0".into() });
    on_the_uplink.expectation.internal_ips = vec!["10.0.0.11".parse().unwrap()];
    assert_eq!(on_the_uplink.judge().claims[0].cause, judged.claims[0].cause);
}

#[test]
fn what_the_cni_does_not_hand_out_has_no_pod_to_deliver_to() {
    let mut host = Host::flannel();
    host.cni = config(
        "10-bridge.conflist",
        "bridge",
        Some("host-local"),
        &["10.244.1.0/29"],
        Some("cni0"),
    );
    for link in host.kernel.links.values_mut().filter(|link| link.name == "cni0") {
        for address in &mut link.addresses {
            address.net = net("10.244.1.1/29");
        }
    }
    let rows = Rows::default().row("0.0.0.0/0", via("10.0.0.1"));
    host.clone()
        .rows(rows.clone().row("10.244.1.0/29", local("cni0")))
        .assert_healthy();
    // What it does hand out must still be delivered, and nobody else's route for all of it is right.
    let judged = host.clone().rows(rows.clone()).judge();
    assert_eq!(judged.claims[0].code, Code::Host04);
    assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.1.0/29")));
    assert_eq!(
        host.rows(rows.row("10.244.1.0/24", via("10.0.0.2"))).codes(),
        [Code::Host04]
    );
}

#[test]
fn a_connected_route_that_is_gone_counts() {
    let host = Host::flannel().rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")));
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host04]);
    assert_eq!(
        judged.claims[0].remedy,
        "On the node: ip route add 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1."
    );
}

#[test]
fn a_route_that_table_main_has_already_is_not_to_be_added_once_more() {
    use crate::resolve::fixture::{CNI0, add, add_link};
    let mut host = Host::flannel().rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")));
    let cni0 = host
        .kernel
        .links
        .values()
        .find(|link| link.name == "cni0")
        .unwrap()
        .index;
    assert_eq!(cni0, CNI0, "the names of the fixture are this host's");
    // A rule leads elsewhere before main is looked at.
    add(&mut host.kernel, "10.244.1.0/24 dev cni0");
    let judged = host.judge();
    assert_eq!(judged.claims[0].code, Code::Host04);
    assert_eq!(
        judged.claims[0].remedy,
        "On the node: table main has the route to cni0 already, but something decides before it: ip rule shows what leads elsewhere; \
         mend that (HOST10)."
    );
    // Nothing decides before it: the kernel passes over what leads to a dead device.
    let mut dark = host.clone();
    let bridge = dark.kernel.links.values_mut().find(|link| link.name == "cni0").unwrap();
    bridge.carrier = false;
    let remedy = &dark.judge().claims[0].remedy;
    assert!(
        remedy.contains("cni0, which has no carrier and is passed over"),
        "{remedy}"
    );
    // Main has another one, which an addition would meet ("File exists").
    host.kernel.routes = Default::default();
    add_link(&mut host.kernel, 77, "old0", "bridge", &[]);
    add(&mut host.kernel, "10.244.1.0/24 dev old0");
    assert_eq!(
        host.judge().claims[0].remedy,
        "On the node: ip route replace 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1."
    );
}

#[test]
fn a_discard_before_the_bridge_counts_and_one_without_a_bridge_does_not() {
    assert_eq!(flannel(discard()).codes(), [Code::Host04]);
    let mut fresh = flannel(discard()).pods(0);
    fresh.kernel.links.retain(|_, link| link.name != "cni0");
    fresh.assert_healthy();
}

#[test]
fn calicos_own_blackhole_and_kindnets_missing_aggregate_are_normal() {
    let mut calico = Host::ptp();
    calico.cni = config(
        "10-calico.conflist",
        "calico",
        Some("host-local"),
        &["10.244.1.0/24"],
        None,
    );
    calico.rows = calico
        .rows
        .row("10.244.1.0/24", discard())
        .row("10.244.1.64/26", discard());
    calico.assert_healthy();
    Host::ptp().assert_healthy();
}

#[test]
fn a_fresh_node_under_a_route_for_the_whole_network_is_normal() {
    let mut host = Host::flannel().link("flannel-wg", "wireguard", &["10.244.1.0/32"]);
    host.kernel.links.retain(|_, link| link.name != "cni0");
    host.rows = Rows::default().row(
        "10.244.0.0/16",
        Landing::Opaque {
            device: Some("flannel-wg".into()),
            reason: "WireGuard".into(),
        },
    );
    host.assert_healthy();
}

#[test]
fn a_bridge_without_carrier_and_pods_is_benign() {
    let idle = Landing::Local {
        device: "cni0".into(),
        carrier: false,
    };
    flannel(idle).pods(0).assert_healthy();
    let ignored = Landing::DeadDevice {
        device: "cni0".into(),
        reason: "no carrier".into(),
    };
    flannel(ignored).pods(0).assert_healthy();
}

#[test]
fn a_bridge_set_down_counts_only_where_pods_hang_on_it() {
    let down = |pods| {
        Host::flannel()
            .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")))
            .pods(pods)
            .set_down("cni0")
    };
    let judged = down(2).judge();
    assert_eq!(down(2).codes(), [Code::Host04]);
    assert_eq!(judged.claims[0].remedy, "On the node: ip link set cni0 up.");
    down(0).assert_healthy();
}

#[test]
fn flannels_bridge_without_any_address_counts_once_pods_hang_on_it() {
    let bare = |pods| {
        Host::flannel()
            .link("cni0", "bridge", &["fe80::1/64"])
            .pods(pods)
            .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")))
    };
    assert_eq!(bare(1).codes(), [Code::Host04]);
    bare(0).assert_healthy();
}

#[test]
fn a_foreign_address_is_one_finding_not_two() {
    let host = Host::flannel()
        .link("cni0", "bridge", &["10.244.7.1/24"])
        .pods(1)
        .rows(Rows::default().row("0.0.0.0/0", via("10.0.0.1")));
    assert_eq!(host.codes(), [Code::Host02]);
}

#[test]
fn a_duplicate_cidr_is_a_warning_where_pods_have_routes_of_their_own() {
    let host = Host::ptp().rows(Host::ptp().rows.row("10.244.1.0/24", via("10.0.0.2")));
    let claim = host.judge().claims.remove(0);
    assert_eq!((claim.code, claim.severity), (Code::Host04, Severity::Warning));
}

#[test]
fn another_bridges_network_inside_the_pods_counts() {
    let host = Host::flannel()
        .link("docker0", "bridge", &["10.244.1.129/25"])
        .rows(Host::flannel().rows.row("10.244.1.128/25", local("docker0")));
    assert_eq!(host.codes(), [Code::Host04]);
}

#[test]
fn what_the_fib_does_not_decide_is_not_judged() {
    let opaque = Landing::Opaque {
        device: Some("cni0".into()),
        reason: "eBPF".into(),
    };
    assert_eq!(
        flannel(opaque).unjudged(),
        "HOST04 10.244.1.0/24: dev cni0: not in the FIB (eBPF)"
    );
}

use cidrift_proto::finding::Severity;
