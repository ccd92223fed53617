//! HOST06: what the files say behind a runtime that is ready.

use super::*;

#[test]
fn a_file_that_was_changed_and_not_loaded_is_a_warning() {
    let node = Node::template().runtime(|runtime| {
        runtime.networks = vec![loaded("cbr0", &["bridge", "portmap"], &["10.244.7.0/24"])];
    });
    assert_eq!(node.claim().severity, Severity::Warning);
    insta::assert_snapshot!(text(&node.judge()));
    let renamed = Node::new().runtime(|runtime| runtime.networks[1].name = "other".into());
    renamed.claim();
    let extended = Node::new().runtime(|runtime| runtime.networks[1].plugins.push("linkerd-cni".into()));
    extended.claim();
}

#[test]
fn a_file_that_was_changed_just_now_may_still_be_loaded() {
    let node = |now| {
        Node::template()
            .with(|node| node.now = now)
            .up_for(HOUR)
            .runtime(|runtime| runtime.networks[0].ranges = nets(&["10.244.7.0/24"]))
    };
    // The file was changed at 2 s.
    node(at(31)).silent();
    node(at(32)).claim();
}

#[test]
fn what_cannot_be_compared_is_not() {
    // CRI-O does not say what it has loaded.
    let crio = Node::new().runtime(|runtime| {
        runtime.name = "cri-o".into();
        runtime.networks.clear();
    });
    crio.silent();
    // Multus has loaded itself; the delegate is its own affair.
    let multus = Node::new()
        .with(|node| {
            let chosen = node.net.cni.chosen.as_mut().unwrap();
            chosen.generated_by = Some("delegate of Multus in /etc/cni/net.d/00-multus.conf".into());
        })
        .runtime(|runtime| runtime.networks[1] = loaded("multus-cni-network", &["multus"], &[]));
    multus.silent();
    // A range that is narrowed may be told as its subnet.
    let narrowed = Node::template().with(|node| {
        let chosen = node.net.cni.chosen.as_mut().unwrap();
        chosen.ranges = nets(&["10.244.1.64/26"]);
    });
    narrowed.silent();
    // Several may be loaded (max_conf_num): one of them is the file's.
    let several = Node::new().runtime(|runtime| runtime.networks.insert(0, loaded("x", &["macvlan"], &[])));
    several.silent();
}

#[test]
fn a_load_that_failed_behind_a_ready_network_is_a_warning() {
    let node = Node::new().runtime(|runtime| runtime.load_problem = Some("failed to load CNI config list file".into()));
    let claim = node.claim();
    assert_eq!(claim.severity, Severity::Warning);
    assert_eq!(claim.summary, "containerd could not load the CNI configuration anew");
}

#[test]
fn flannel_without_subnet_env_starts_no_pod_though_the_node_is_ready() {
    let node = Node::new().with(|node| node.net.cni.flannel = None);
    insta::assert_snapshot!(text(&node.judge()));
    let waits = Node::new().without_cidr().with(|node| node.net.cni.flannel = None);
    assert!(waits.claim().cause.contains("Node node-a has none (POOL01)"));
    // A file that cannot be read is unknown, and HOST01 says so.
    let unread = Node::new().with(|node| {
        node.net.cni.flannel = None;
        node.net.cni.problem = Some("/run/flannel/subnet.env: it names no FLANNEL_SUBNET".into());
    });
    unread.silent();
}

#[test]
fn a_plugin_that_only_extends_others_stands_first() {
    let node = Node::new().with(|node| {
        let mut cni = config("01-linkerd-cni.conf", "linkerd-cni", None, &[], None);
        cni.chosen.as_mut().unwrap().plugins = vec!["linkerd-cni".into()];
        cni.others = vec!["/etc/cni/net.d/10-flannel.conflist".into()];
        node.net.cni = cni;
    });
    let node = node.runtime(|runtime| runtime.networks = vec![loaded("cbr0", &["linkerd-cni"], &[])]);
    let claim = node.claim();
    assert_eq!(
        claim.summary,
        "/etc/cni/net.d/01-linkerd-cni.conf begins with linkerd-cni, which gives a pod no interface"
    );
    assert!(
        claim
            .remedy
            .contains("If /etc/cni/net.d/10-flannel.conflist is the one meant for pods")
    );
}

#[test]
fn host_local_without_a_range_starts_no_pod() {
    let node = || {
        Node::template()
            .runtime(|runtime| runtime.networks[0].ranges.clear())
            .with(|node| {
                let chosen = node.net.cni.chosen.as_mut().unwrap();
                chosen.ranges.clear();
                chosen.subnets.clear();
                chosen.bridge = Some("kube-bridge".into());
            })
    };
    let claim = node().claim();
    assert!(
        claim
            .summary
            .contains("names no range that host-local could give addresses of")
    );
    assert_eq!(
        claim.cause,
        "kube-router adds the range when it runs, and has not done so."
    );
    // cri-dockerd hands the range over with every call.
    node().runtime(|runtime| runtime.name = "docker".into()).silent();
    // Calico asks the Node.
    let calico = node().with(|node| {
        node.net.cni.chosen.as_mut().unwrap().plugins[0] = "calico".into();
        node.host.runtime.value.as_mut().unwrap().networks[0].plugins[0] = "calico".into();
    });
    calico.silent();
}

#[test]
fn a_default_network_that_hides_the_cni_at_work_is_told_where_host01_cannot() {
    let podman = |cidrs: &[&str]| {
        let cidrs = nets(cidrs);
        Node::new()
            .with(|node| {
                let file = "87-podman-bridge.conflist";
                let mut cni = config(
                    file,
                    "bridge",
                    Some("host-local"),
                    &["10.88.0.0/16"],
                    Some("cni-podman0"),
                );
                cni.chosen.as_mut().unwrap().network = "podman".into();
                cni.others = vec!["/etc/cni/net.d/99-calico.conflist".into()];
                node.net.cni = cni;
                node.net.expectation.pod_cidrs = cidrs;
                node.net = node.net.clone().link("cali0123456789a", "veth", &[]);
            })
            .runtime(|runtime| runtime.networks = vec![loaded("podman", &["bridge", "portmap"], &["10.88.0.0/16"])])
    };
    assert_eq!(podman(&[]).claim().severity, Severity::Warning);
    insta::assert_snapshot!(text(&podman(&[]).judge()));
    podman(&["10.244.1.0/24"]).silent();
    // A file that is left of a CNI without anything of it on the host is no sign that it is meant.
    podman(&[]).without_devices().silent();
    podman(&[]).with(|node| node.net.cni.others.clear()).silent();
}
