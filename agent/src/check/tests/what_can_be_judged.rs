//! What can be judged, and what must be said of the rest.

use super::*;

#[test]
fn a_healthy_host_has_neither_claims_nor_doubts() {
    Host::flannel().assert_healthy();
    Host::bridge(&["10.244.1.0/24"]).assert_healthy();
    Host::ptp().assert_healthy();
}

#[test]
fn without_an_expectation_nothing_is_judged() {
    let host = Host::flannel();
    let judged = check(&Input {
        expectation: None,
        node: "node-a",
        kernel: &host.kernel,
        kernel_at: at(0),
        kernel_gaps: &[],
        links_changed_at: None,
        cni: &host.cni,
        cni_at: at(0),
        cni_changed_at: None,
        lookup: &host.rows,
        host: &crate::view::Host::bare(Timestamp::UNIX_EPOCH),
        lease_growth: &[],
        now: Timestamp::UNIX_EPOCH,
    });
    assert_eq!((judged.claims.len(), judged.unjudged.len()), (0, 6));
}

#[test]
fn an_unknown_node_and_one_without_cidr_are_not_judged() {
    let unknown = Host::flannel().with(|host| host.expectation.node_known = false);
    assert!(unknown.unjudged().contains("knows no Node \"node-a\""));
    let empty = Host::flannel().with(|host| host.expectation.pod_cidrs.clear());
    assert!(empty.unjudged().contains("Node node-a has no podCIDR"));
}

#[test]
fn a_cni_with_its_own_allocator_is_not_judged_by_the_pod_cidr() {
    let mut reasons = Vec::new();
    for (plugin, ipam) in [
        ("calico", Some("calico-ipam")),
        ("cilium-cni", None),
        ("aws-cni", None),
        ("azure-vnet", Some("azure-cns")),
        ("ovn-k8s-cni-overlay", None),
        ("weave-net", None),
        ("kube-ovn", None),
        ("macvlan", Some("host-local")),
        ("bridge", Some("whereabouts")),
        ("bridge", Some("dhcp")),
        ("multus", None),
        ("my-own", None),
    ] {
        // Everything on the host contradicts the Node, and none of it may be held against it.
        let host = Host::flannel().link("cni0", "bridge", &["10.9.0.1/24"]).with(|host| {
            host.cni.chosen = config("x.conflist", plugin, ipam, &["10.9.0.0/24"], Some("cni0")).chosen;
        });
        let text = host.unjudged();
        assert_eq!(text.lines().count(), 6);
        reasons.push(text.lines().next().unwrap().trim_start_matches("HOST01 ").to_owned());
    }
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn flannel_that_takes_its_subnet_from_etcd_is_not_judged_by_the_node() {
    let host = Host::flannel().with(|host| {
        host.expectation.kube_subnet_manager = Some(false);
        host.expectation.pod_cidrs = nets(&["10.9.0.0/24"]);
    });
    assert!(host.unjudged().contains("etcd"));
}

#[test]
fn a_torn_file_is_unknown() {
    let host = Host::flannel().with(|host| {
        host.cni.chosen = None;
        host.cni.problem = Some("/etc/cni/net.d/10-flannel.conflist: EOF while parsing".into());
    });
    assert!(
        host.unjudged()
            .contains("HOST01 the host's CNI is not known: /etc/cni/net.d/10-flannel.conflist: EOF")
    );
}

#[test]
fn what_the_kernel_did_not_tell_is_not_judged() {
    let host = Host::flannel().link("cni0", "bridge", &["10.9.0.1/24"]).with(|host| {
        host.gaps.push(Gap {
            what: "addresses".into(),
            why: "interrupted".into(),
        });
    });
    assert_eq!(
        host.unjudged(),
        "HOST02 addresses could not be read: interrupted\nHOST04 addresses could not be read: interrupted\n\
         HOST07 addresses could not be read: interrupted\n\
         HOST10 addresses could not be read: interrupted"
    );
}
