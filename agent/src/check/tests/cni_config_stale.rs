//! HOST01.

use super::*;

#[test]
fn containerds_frozen_template_is_stale_and_named_as_such() {
    let host = Host::bridge(&["10.244.7.0/24"]).with(|host| {
        let config = host.cni.chosen.as_mut().unwrap();
        config.generated_by = Some("containerd template /etc/containerd/cni.template".into());
    });
    insta::assert_snapshot!(text(&host.judge()));
}

#[test]
fn a_stale_subnet_env_is_found_behind_flannels_file_without_ranges() {
    let host = Host::flannel().with(|host| {
        host.cni.flannel.as_mut().unwrap().subnets = nets(&["10.244.7.0/24"]);
    });
    insta::assert_snapshot!(text(&host.judge()));
}

#[test]
fn a_range_inside_the_nodes_cidr_is_not_stale() {
    let mut host = Host::bridge(&["10.244.1.0/26"]).link("cni0", "bridge", &["10.244.1.1/26"]);
    host.assert_healthy();
    host.cni.chosen.as_mut().unwrap().ranges = nets(&["10.244.1.64/27"]);
    host.assert_healthy();
}

#[test]
fn a_subnet_shared_by_all_nodes_is_not_stale_where_the_range_is_the_nodes() {
    let host = Host::bridge(&["10.244.1.0/24"])
        .link("cni0", "bridge", &["10.244.1.1/16"])
        .with(|host| host.cni.chosen.as_mut().unwrap().subnets = nets(&["10.244.0.0/16"]));
    host.assert_healthy();
}

#[test]
fn a_range_wider_than_the_nodes_cidr_is_stale() {
    assert_eq!(Host::bridge(&["10.244.0.0/16"]).codes()[0], Code::Host01);
}

#[test]
fn kube_routers_old_range_beside_the_new_one_is_stale() {
    let host = Host::bridge(&["10.244.7.0/24", "10.244.1.0/24"])
        .link("kube-bridge", "bridge", &["10.244.1.1/24"])
        .rows(Rows::default().row("10.244.1.0/24", local("kube-bridge")))
        .with(|host| host.cni.chosen.as_mut().unwrap().bridge = Some("kube-bridge".into()));
    let judged = host.judge();
    assert_eq!(host.codes(), [Code::Host01]);
    assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.7.0/24")));
    assert!(judged.claims[0].cause.starts_with("kube-router only adds"));
}

#[test]
fn calico_that_asks_the_node_cannot_be_stale() {
    let mut host = Host::ptp();
    host.cni = config("10-canal.conflist", "calico", Some("host-local"), &[], None);
    host.assert_healthy();
}

#[test]
fn antreas_range_is_in_no_file_and_that_is_said() {
    let mut host = Host::flannel().link("antrea-gw0", "openvswitch", &["10.244.1.1/24"]);
    host.cni = config("10-antrea.conflist", "antrea", Some("host-local"), &[], None);
    host.rows = Rows::default().row("10.244.1.0/24", local("antrea-gw0"));
    assert_eq!(
        host.unjudged(),
        "HOST01 antrea's agent keeps the range, no file of the host names it"
    );
}

#[test]
fn a_single_stack_cni_on_a_dual_stack_node_is_fine() {
    Host::flannel()
        .with(|host| host.expectation.pod_cidrs.push(net("fd00:1::/64")))
        .rows(Host::flannel().rows.row("fd00:1::/64", Landing::NoRoute))
        .assert_healthy();
}

#[test]
fn a_family_that_the_node_has_no_cidr_of_cannot_be_judged() {
    let host = Host::bridge(&["10.244.1.0/24", "fd00:1::/64"]);
    assert_eq!(
        host.unjudged(),
        "HOST01 /etc/cni/net.d/10-containerd-net.conflist hands out of fd00:1::/64, and the Node has no podCIDR of that family"
    );
}

#[test]
fn a_missing_subnet_env_is_unknown_not_healthy() {
    let host = Host::flannel().with(|host| host.cni.flannel = None);
    assert!(
        host.unjudged()
            .starts_with("HOST01 flannel's subnet.env does not exist")
    );
}

#[test]
fn a_stale_file_that_changed_after_the_node_was_the_hosts_doing() {
    let stale = |since| {
        let host = Host::bridge(&["10.244.7.0/24"]).with(|host| host.expectation.since = Some(since));
        let claim = host.judge().claims.remove(0);
        (claim.trigger, claim.changed_at)
    };
    assert_eq!(stale(at(0)), (Trigger::Host, Some(at(2))));
    assert_eq!(stale(at(8)), (Trigger::ControlPlane, Some(at(8))));
}

#[test]
fn a_file_that_hides_the_intended_one_is_to_be_moved_away() {
    let host = Host::bridge(&["10.88.0.0/16"]).with(|host| {
        host.cni.others = vec!["/etc/cni/net.d/10-flannel.conflist".into()];
    });
    let claim = host.judge().claims.remove(0);
    assert_eq!(
        claim.remedy,
        "If /etc/cni/net.d/10-flannel.conflist is the one meant for pods, move /etc/cni/net.d/10-containerd-net.conflist \
         out of the directory. Else put 10.244.1.0/24 into its ipam block. \
         Then replace the pods that have addresses of 10.88.0.0/16."
    );
}

#[test]
fn a_file_for_lo_is_not_taken_for_the_one_meant_for_pods() {
    let mut host = Host::bridge(&["10.200.0.0/24"]);
    host.cni.others = vec!["/etc/cni/net.d/99-loopback.conf".into()];
    let claim = host.judge().claims.remove(0);
    assert!(
        claim.remedy.starts_with("Put 10.244.1.0/24 into the ipam block of"),
        "{}",
        claim.remedy
    );
}

#[test]
fn kindnets_own_plugin_names_its_range_in_newer_versions() {
    let mut host = Host::ptp();
    host.cni = config("10-kindnet.conflist", "cni-kindnet", None, &["10.244.7.0/24"], None);
    host.cni.chosen.as_mut().unwrap().network = "kindnet".into();
    let claim = host.judge().claims.remove(0);
    assert_eq!(claim.code, Code::Host01);
    assert!(
        claim.evidence[1]
            .text
            .starts_with("network kindnet, plugin cni-kindnet, ranges 10.244.7.0/24")
    );
    assert!(claim.remedy.starts_with("Restart kindnetd on this node"));
}
