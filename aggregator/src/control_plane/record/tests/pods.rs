use super::{nets, yaml};
use crate::cluster::around::PodRecord;
use crate::control_plane::record::daemon;
use crate::control_plane::record::pod::{Pod, record};

const POD: &str = r#"
metadata: {name: web-1, namespace: shop, uid: u-1, creationTimestamp: "2026-11-23T10:00:00Z"}
spec: {nodeName: node-a, containers: [{name: web, image: web}]}
status:
  phase: Running
  podIP: 10.244.1.7
  podIPs: [{ip: 10.244.1.7}, {ip: "fd00:1::7"}]
  conditions:
  - {type: PodScheduled, status: "True", lastTransitionTime: "2026-11-23T10:00:01Z"}
  - {type: PodReadyToStartContainers, status: "True", lastTransitionTime: "2026-11-23T10:00:09Z"}
"#;

fn read(text: &str) -> Option<PodRecord> {
    record(&yaml::<Pod>(text))
}

#[test]
fn a_pod_is_trimmed_to_its_addresses_and_the_age_of_its_sandbox() {
    let record = read(POD).unwrap();
    assert_eq!((&*record.name, &*record.uid), ("shop/web-1", "u-1"));
    let addresses: Vec<String> = record.addresses.iter().map(|address| address.to_string()).collect();
    assert_eq!(addresses, ["10.244.1.7", "fd00:1::7"]);
    assert_eq!(record.sandbox_since - record.created, 9);
}

#[test]
fn a_pod_without_a_place_in_the_pod_network_is_left_out() {
    assert_eq!(
        read(&POD.replace("nodeName: node-a", "hostNetwork: false")),
        None,
        "unbound"
    );
    assert_eq!(
        read(&POD.replace("nodeName: node-a", "nodeName: node-a, hostNetwork: true")),
        None
    );
    assert_eq!(read(&POD.replace("phase: Running", "phase: Succeeded")), None);
    assert_eq!(read(&POD.replace("phase: Running", "phase: Failed")), None);
    assert!(read(&POD.replace("phase: Running", "phase: Pending")).is_some());
}

#[test]
fn a_pod_whose_sandbox_went_has_none() {
    let torn = POD.replace(
        "PodReadyToStartContainers, status: \"True\"",
        "PodReadyToStartContainers, status: \"False\"",
    );
    assert_eq!(read(&torn).unwrap().sandbox_since, 0);
}

#[test]
fn an_older_kubelet_shows_a_sandbox_by_the_first_container_that_started() {
    let older = POD.replace("PodReadyToStartContainers", "Other")
        + r#"
  initContainerStatuses:
  - {name: first, state: {terminated: {exitCode: 0, startedAt: "2026-11-23T10:00:05Z"}}}
  containerStatuses:
  - {name: web, state: {running: {startedAt: "2026-11-23T10:00:08Z"}}}
"#;
    let record = read(&older).unwrap();
    assert_eq!(record.sandbox_since - record.created, 5);
    let waiting = POD.replace("PodReadyToStartContainers", "Other");
    assert_eq!(read(&waiting).unwrap().sandbox_since, 0);
}

const FLANNEL: &str = r#"
metadata:
  name: kube-flannel-ds-x7k2p
  namespace: kube-flannel
  labels: {app: flannel, k8s-app: flannel, tier: node}
  ownerReferences: [{kind: DaemonSet, name: kube-flannel-ds}]
spec: {nodeName: node-a, hostNetwork: true, containers: [{name: kube-flannel}]}
status:
  containerStatuses:
  - {name: kube-flannel, ready: true}
"#;

#[test]
fn daemons_are_known_by_their_manifests_labels() {
    let daemon = daemon::record(&yaml::<Pod>(FLANNEL)).unwrap();
    assert_eq!(
        (
            daemon.node.as_str(),
            daemon.kind.as_str(),
            daemon.pod.as_str(),
            daemon.ready,
            daemon.trouble
        ),
        ("node-a", "flannel", "kube-flannel/kube-flannel-ds-x7k2p", true, None)
    );
    for (labels, kind) in [
        ("k8s-app: cilium", Some("cilium")),
        ("k8s-app: calico-node", Some("calico-node")),
        ("k8s-app: canal", Some("flannel")),
        ("k8s-app: aws-node", Some("aws-node")),
        ("app: kindnet, k8s-app: kindnet", Some("kindnet")),
        ("k8s-app: kube-router", Some("kube-router")),
        ("app: antrea, component: antrea-agent", Some("antrea")),
        ("app: antrea, component: antrea-controller", None),
        ("app: ovnkube-node", Some("ovnkube")),
        ("name: weave-net", Some("weave")),
        ("k8s-app: azure-cns", Some("azure-cns")),
        ("app: kube-ovn-cni", Some("kube-ovn")),
        ("k8s-app: kube-proxy", Some("kube-proxy")),
        ("app: web", None),
    ] {
        let text = FLANNEL.replace("app: flannel, k8s-app: flannel", labels);
        let found = daemon::record(&yaml::<Pod>(&text)).map(|daemon| daemon.kind);
        assert_eq!(found.as_deref(), kind, "{labels}");
    }
}

#[test]
fn a_pod_that_only_bears_such_a_label_is_no_daemon() {
    assert_eq!(
        daemon::record(&yaml::<Pod>(&FLANNEL.replace("DaemonSet", "ReplicaSet"))),
        None
    );
    assert_eq!(
        daemon::record(&yaml::<Pod>(
            &FLANNEL.replace("hostNetwork: true", "hostNetwork: false")
        )),
        None
    );
}

#[test]
fn a_daemon_that_does_not_run_says_why() {
    let trouble = |status: &str| {
        let text = FLANNEL.replace("{name: kube-flannel, ready: true}", status);
        daemon::record(&yaml::<Pod>(&text)).unwrap().trouble
    };
    let looping = trouble(
        "{name: kube-flannel, ready: false, state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s}}}",
    );
    assert_eq!(
        looping.as_deref(),
        Some("kube-flannel: CrashLoopBackOff: back-off 5m0s")
    );
    let ended = trouble("{name: kube-flannel, ready: false, state: {terminated: {exitCode: 1, reason: Error}}}");
    assert_eq!(ended.as_deref(), Some("kube-flannel: exit code 1: Error"));
    let starting = trouble("{name: kube-flannel, ready: false, state: {waiting: {reason: ContainerCreating}}}");
    assert_eq!(starting, None, "every container starts once");
}

#[test]
fn daemons_say_which_ranges_they_were_given() {
    let ranges = |labels: &str, containers: &str| {
        let text = FLANNEL
            .replace("app: flannel, k8s-app: flannel", labels)
            .replace("[{name: kube-flannel}]", containers);
        let pod: Pod = yaml(&text);
        let kind = daemon::record(&pod).unwrap().kind;
        daemon::ranges(&pod, &kind).map(|word| (word.what, nets(&word.ranges)))
    };
    let (what, found) = ranges(
        "app: kindnet",
        r#"[{name: kindnet-cni, env: [{name: HOST_IP, valueFrom: {}}, {name: POD_SUBNET, value: "10.244.0.0/16,fd00:10:244::/56"}]}]"#,
    )
    .unwrap();
    assert_eq!(what, "pod kube-flannel/kube-flannel-ds-x7k2p, variable POD_SUBNET");
    assert_eq!(found, ["10.244.0.0/16", "fd00:10:244::/56"]);
    let calico = ranges(
        "k8s-app: calico-node",
        "[{name: calico-node, env: [{name: CALICO_IPV4POOL_CIDR, value: 192.168.0.0/16}]}]",
    );
    assert_eq!(calico.unwrap().1, ["192.168.0.0/16"]);
    let proxy = ranges(
        "k8s-app: kube-proxy",
        "[{name: kube-proxy, command: [/bin/sh, -c, 'kube-proxy --cluster-cidr=10.4.0.0/14 --v=2']}]",
    );
    assert_eq!(proxy.unwrap().1, ["10.4.0.0/14"]);
    assert_eq!(
        ranges(
            "k8s-app: kube-proxy",
            "[{name: kube-proxy, command: [kube-proxy, --config=/x]}]"
        ),
        None
    );
}
