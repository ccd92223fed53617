//! HOST02.

use super::*;

#[test]
fn a_bridge_with_another_nodes_old_address_is_foreign() {
    let host = Host::flannel().link("cni0", "bridge", &["10.244.7.1/24"]).pods(3);
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host02]);
    insta::assert_snapshot!(text(&judged));
}

#[test]
fn a_bridge_that_follows_a_stale_file_points_at_the_file() {
    let host = Host::bridge(&["10.244.7.0/24"]).link("cni0", "bridge", &["10.244.7.1/24"]);
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host01, Code::Host02]);
    assert!(judged.claims[1].cause.contains("HOST01"));
    assert!(
        judged.claims[1].remedy.starts_with("Mend HOST01 first. Then drain")
            || judged.claims[1].remedy.starts_with("Mend HOST01 first. Then ip link")
    );
}

#[test]
fn no_bridge_yet_is_fine() {
    let mut host = Host::flannel().pods(0);
    host.kernel.links.retain(|_, link| link.name != "cni0");
    host.rows = Rows::default().row("0.0.0.0/0", via("10.0.0.1"));
    host.assert_healthy();
}

#[test]
fn link_local_addresses_do_not_count() {
    Host::flannel()
        .link("cni0", "bridge", &["fe80::1/64", "169.254.1.1/32", "10.244.1.1/24"])
        .pods(1)
        .assert_healthy();
}

#[test]
fn a_leftover_address_before_the_right_one_stops_the_bridge_plugin_and_counts() {
    let before = Host::flannel().link("cni0", "bridge", &["10.244.7.1/24", "10.244.1.1/24"]);
    assert_eq!(before.codes(), [Code::Host02]);
    let after = Host::flannel().link("cni0", "bridge", &["10.244.1.1/24", "192.168.9.1/24"]);
    after.assert_healthy();
}

#[test]
fn a_bridge_with_a_wrong_mask_counts() {
    let host = Host::flannel().link("cni0", "bridge", &["10.244.1.1/26"]).pods(1);
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host02]);
    assert_eq!(
        judged.claims[0].summary,
        "cni0 has 10.244.1.1/26 with mask /26 where the CNI uses /24"
    );
}

#[test]
fn flannels_tunnel_address_of_another_subnet_counts() {
    let host = Host::flannel().link("flannel.1", "vxlan", &["10.244.7.0/32", "fe80::9/64"]);
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host02]);
    assert_eq!(
        judged.claims[0].summary,
        "flannel.1 has 10.244.7.0/32, outside 10.244.1.0/24"
    );
}

#[test]
fn a_tunnel_of_a_backend_that_was_used_before_is_not_held_against_the_node() {
    Host::flannel()
        .link("flannel.4096", "vxlan", &["10.244.7.0/32"])
        .assert_healthy();
}

#[test]
fn another_cnis_leftover_bridge_is_not_this_ones() {
    Host::ptp().link("cni0", "bridge", &["10.244.7.1/24"]).assert_healthy();
    Host::bridge(&["10.244.1.0/24"])
        .link("docker0", "bridge", &["172.17.0.1/16"])
        .link("flannel.1", "vxlan", &["10.244.7.0/32"])
        .assert_healthy();
}

#[test]
fn one_of_several_ipv6_addresses_must_be_the_nodes() {
    let dual = |addresses: &[&str]| {
        Host::flannel()
            .with(|host| {
                host.expectation.pod_cidrs.push(net("fd00:1::/64"));
                host.cni.flannel.as_mut().unwrap().subnets.push(net("fd00:1::/64"));
            })
            .link("cni0", "bridge", addresses)
            .rows(Host::flannel().rows.row("fd00:1::/64", local("cni0")))
    };
    dual(&["10.244.1.1/24", "fd00:7::1/64", "fd00:1::1/64"]).assert_healthy();
    assert_eq!(dual(&["10.244.1.1/24", "fd00:7::1/64"]).codes(), [Code::Host02]);
}
