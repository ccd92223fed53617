//! HOST06: what the runtime says, and what is unknown.

mod files;
mod node;

use cidrift_proto::finding::Severity;

use self::node::{HOUR, Node, condition, loaded, process};
use super::*;
use crate::view::host::{CachedResult, Lease, Program, Sandbox};

#[test]
fn a_healthy_node_and_a_host_without_any_runtime_are_silent() {
    Node::new().silent();
    Node::template().silent();
    let bare = Node::new()
        .no_file("/etc/cni/net.d holds no CNI configuration")
        .with(|node| {
            node.host = crate::view::Host::bare(at(0));
        });
    bare.silent();
}

#[test]
fn a_runtime_that_is_not_ready_is_told_with_its_own_words() {
    insta::assert_snapshot!(text(&Node::new().empty().judge()));
}

#[test]
fn a_cni_that_waits_for_a_pod_cidr_is_told_to_wait_for_it() {
    let flannel = Node::new().empty().without_cidr().claim();
    assert!(
        flannel
            .cause
            .contains("flannel writes its configuration only with a podCIDR, and Node node-a has none (POOL01)")
    );
    let unknown = Node::new().empty().without_cidr().without_devices().claim();
    assert!(unknown.cause.contains("POOL01"), "{}", unknown.cause);
    let template = Node::template().empty().without_cidr().claim();
    assert!(
        template
            .cause
            .contains("containerd renders /etc/containerd/cni.template once"),
        "{}",
        template.cause
    );
    let own = Node::new().empty().without_cidr().without_devices();
    let own = own.with(|node| node.net = node.net.clone().link("cilium_host", "veth", &[]));
    assert!(!own.claim().cause.contains("POOL01"));
}

#[test]
fn a_template_that_was_not_rendered_needs_the_kubelet() {
    let claim = Node::template().empty().claim();
    assert_eq!(claim.remedy, "On node-a: systemctl restart kubelet.");
}

#[test]
fn a_broken_first_file_is_named() {
    let node = Node::new()
        .empty()
        .no_file("/etc/cni/net.d/10-flannel.conflist: EOF while parsing a string");
    let claim = node.claim();
    assert!(
        claim
            .cause
            .starts_with("The first file of the directory cannot be loaded")
    );
    assert!(claim.evidence.iter().any(|row| row.text.contains("EOF while parsing")));
}

#[test]
fn a_file_that_the_runtime_did_not_load_is_said_to_be_there() {
    let node = Node::new().runtime(|runtime| runtime.network_ready = condition(false, "cni config load failed"));
    let claim = node.claim();
    assert!(
        claim
            .cause
            .starts_with("There is a configuration, and the runtime has not loaded it")
    );
    assert!(
        claim
            .remedy
            .contains("kubectl -n kube-flannel delete pod -l app=flannel")
    );
}

#[test]
fn a_file_that_was_moved_in_and_not_noticed_needs_the_runtime_restarted() {
    let node = Node::new().runtime(|runtime| {
        runtime.network_ready = condition(false, "cni plugin not initialized");
        runtime.networks.clear();
        runtime.load_problem = Some("cni config load failed: no network config found in /etc/cni/net.d".into());
    });
    let claim = node.claim();
    assert!(
        claim.cause.contains("moved in from another directory"),
        "{}",
        claim.cause
    );
    assert_eq!(
        claim.remedy,
        "On node-a: systemctl restart containerd; pods go on running."
    );
}

#[test]
fn inside_of_k3s_it_is_k3s_that_is_restarted() {
    let node = Node::new().empty().with(|node| {
        node.host
            .processes
            .value
            .as_mut()
            .unwrap()
            .push(process(Program::K3s, at(0)));
    });
    assert!(node.claim().remedy.starts_with("Restart k3s on node-a"));
}

#[test]
fn without_the_runtimes_word_the_files_count_only_where_a_kubelet_runs() {
    let empty = "/etc/cni/net.d holds no CNI configuration (*.conf, *.conflist, *.json)";
    let node = || Node::new().no_file(empty).without_cri();
    let claim = node().claim();
    assert_eq!(claim.summary, "/etc/cni/net.d holds no usable CNI configuration");
    assert_eq!(claim.unseen.len(), 1);
    let docker = node().with(|node| node.host.processes.value.as_mut().unwrap().remove(0).pid = 0);
    docker.silent();
    let manifest = node().with(|node| node.host.processes.value.as_mut().unwrap()[0].pid = 0);
    manifest.silent();
    for uncertain in [
        "/etc/cni/net.d: Permission denied (os error 13): run as root to read it",
        "several directories",
    ] {
        let node = Node::new().no_file(uncertain).without_cri();
        let node = node.with(|node| {
            if uncertain.starts_with("several") {
                node.net.cni.directory.clear();
            }
        });
        node.silent();
    }
}

#[test]
fn what_may_not_be_read_is_unknown() {
    let refused = || Missing::Unreadable("permission denied".to_owned());
    let node = Node::new().with(|node| {
        node.host.runtime = Observed::missing(at(1), "/run/containerd/containerd.sock", refused());
    });
    assert_eq!(node.unknown(), "/run/containerd/containerd.sock: permission denied");
    let node = Node::new()
        .without_cri()
        .with(|node| node.host.processes = Observed::missing(at(1), "/proc", refused()));
    assert_eq!(node.unknown(), "/proc: permission denied");
    let node = Node::new().with(|node| node.host.plugins = Observed::missing(at(1), "/opt/cni/bin", refused()));
    assert_eq!(node.unknown(), "/opt/cni/bin: permission denied");
    let node = Node::new().with(|node| node.host = crate::view::Host::default());
    assert_eq!(node.unknown(), "the host was not looked at yet");
}

#[test]
fn a_missing_plugin_is_wrong_though_the_runtime_is_ready() {
    insta::assert_snapshot!(text(&Node::new().missing(&["flannel", "loopback"]).judge()));
}

#[test]
fn crio_passes_over_what_lacks_its_plugin_and_one_claim_says_both() {
    let node = Node::new().missing(&["flannel"]).runtime(|runtime| {
        runtime.name = "cri-o".into();
        runtime.network_ready = condition(false, "No CNI configuration file in /etc/cni/net.d/.");
        runtime.networks.clear();
    });
    let claim = node.claim();
    assert_eq!(
        claim.summary,
        "cri-o has no usable CNI configuration; CNI plugin flannel missing in /opt/cni/bin"
    );
    assert!(claim.cause.starts_with("CRI-O passes a configuration over"));
    assert_eq!(claim.severity, Severity::Error);
}

#[test]
fn a_node_that_has_only_just_come_up_is_unknown_until_five_minutes_are_over() {
    let reason = Node::new().empty().up_for(20).unknown();
    assert!(reason.starts_with("kubelet started at "), "{reason}");
    assert!(
        reason.ends_with("containerd has no usable CNI configuration"),
        "{reason}"
    );
    assert!(Node::new().empty().up_for(299).unknown().starts_with("kubelet"));
    Node::new().empty().up_for(300).claim();
    // The base image's containerd runs for long before a kubelet joins.
    let joined = Node::new().empty().with(|node| {
        node.host.processes.value.as_mut().unwrap()[0].started_at = Some(node.now);
    });
    assert!(joined.unknown().starts_with("kubelet"));
    let only_runtime = Node::new().empty().up_for(20).with(|node| {
        node.host.processes.value.as_mut().unwrap().remove(0);
    });
    assert!(only_runtime.unknown().starts_with("containerd"));
    Node::new().up_for(20).silent();
}

#[test]
fn a_kubelet_restarted_beside_running_pods_is_no_new_node() {
    let sandbox = |ready, host_network| Sandbox {
        id: "a".into(),
        pod: "default/web".into(),
        uid: "u".into(),
        created_at: None,
        ready,
        host_network,
        addresses: vec!["10.244.1.2".parse().unwrap()],
    };
    let with = |sandbox| {
        let node = Node::new().empty().up_for(20);
        node.with(|node| node.host.sandboxes = Observed::seen(at(HOUR), "cri", vec![sandbox]))
    };
    with(sandbox(true, false)).claim();
    with(sandbox(false, false)).unknown();
    with(sandbox(true, true)).unknown();
}

#[test]
fn leases_and_results_of_an_earlier_life_do_not_make_a_node_old() {
    let with = |given: Timestamp| {
        let lease = Lease {
            network: "cbr0".into(),
            directory: "/var/lib/cni/networks/cbr0".into(),
            address: "10.244.1.2".parse().unwrap(),
            container: "a".into(),
            given_at: Some(given),
        };
        let result = CachedResult {
            network: "cbr0".into(),
            container: "a".into(),
            pod: None,
            addresses: vec![],
            ranges: vec![],
            made_at: Some(given),
        };
        Node::new().empty().up_for(20).with(|node| {
            node.host.leases = Observed::seen(at(HOUR), "leases", vec![lease]);
            node.host.results = Observed::seen(at(HOUR), "results", vec![result]);
        })
    };
    with(at(HOUR - 21)).unknown();
    with(at(HOUR - 20)).claim();
}

#[test]
fn it_has_to_last_as_long_as_hosts_may_take_to_follow() {
    assert_eq!(Node::new().empty().claim().trigger, Trigger::ControlPlane);
}
