use super::{nets, yaml};
use crate::cluster::objects::{Manager, ManagerFlags};
use crate::control_plane::record::flags::{CommandLine, manager};
use crate::control_plane::record::manager::record;
use crate::control_plane::record::pod::Pod;

fn flags(words: &[&str]) -> ManagerFlags {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let known = |name: &str| (name == "POD_CIDR").then(|| "10.9.0.0/16".to_owned());
    manager(&CommandLine::of(&words, "kube-controller-manager", &known))
}

/// As kubeadm writes it, crash-looping after its range was changed.
const STATIC_POD: &str = r#"
metadata:
  name: kube-controller-manager-cp-1
  namespace: kube-system
  uid: 5b1c
  labels: {component: kube-controller-manager, tier: control-plane}
  ownerReferences: [{kind: Node, name: cp-1}]
spec:
  nodeName: cp-1
  hostNetwork: true
  containers:
  - name: kube-controller-manager
    command:
    - kube-controller-manager
    - --allocate-node-cidrs=true
    - --authorization-kubeconfig=/etc/kubernetes/controller-manager.conf
    - --bind-address=127.0.0.1
    - --cluster-cidr=10.247.0.0/16,fd00:10:247::/56
    - --controllers=*,bootstrapsigner,tokencleaner
    - --node-cidr-mask-size-ipv4=25
    - --service-cluster-ip-range=10.96.0.0/12
    - --use-service-account-credentials=true
status:
  phase: Running
  containerStatuses:
  - name: kube-controller-manager
    ready: false
    restartCount: 7
    state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s restarting failed container}}
    lastState:
      terminated:
        exitCode: 1
        reason: Error
        finishedAt: "2026-11-23T10:00:07Z"
        message: |
          E1123 "Error initializing a controller" err="failed to mark cidr[10.244.1.0/24] at idx [0] as occupied for node: a"
"#;

#[test]
fn a_static_pod_tells_its_flags_and_why_it_crashes() {
    let manager: Manager = record(&yaml::<Pod>(STATIC_POD)).unwrap();
    assert_eq!(manager.name, "kube-system/kube-controller-manager-cp-1");
    assert_eq!(manager.node.as_deref(), Some("cp-1"));
    assert_eq!(manager.flags.allocate_node_cidrs, Some(true));
    assert_eq!(nets(&manager.flags.cluster_cidr), ["10.247.0.0/16", "fd00:10:247::/56"]);
    assert_eq!(nets(&manager.flags.service_cidr), ["10.96.0.0/12"]);
    assert_eq!((manager.flags.mask_v4, manager.flags.mask_v6), (Some(25), None));
    assert!(!manager.flags.ipam_disabled);
    assert_eq!((manager.ready, manager.restarts), (false, 7));
    assert_eq!(manager.waiting.as_deref(), Some("CrashLoopBackOff"));
    let (code, words) = manager.last_exit.unwrap();
    assert_eq!(code, 1);
    assert!(words.contains("failed to mark cidr[10.244.1.0/24]"), "{words}");
    assert_eq!(manager.last_exit_at, "2026-11-23T10:00:07Z".parse().ok());
}

#[test]
fn kubelets_reason_is_no_last_word_unless_it_says_more_than_the_exit_code() {
    let (before, _) = STATIC_POD.split_once("        message: |").unwrap();
    let words = |text: &str| record(&yaml::<Pod>(text)).unwrap().last_exit;
    assert_eq!(words(before), Some((1, String::new())));
    let killed = before
        .replace("exitCode: 1", "exitCode: 137")
        .replace("reason: Error", "reason: OOMKilled");
    assert_eq!(words(&killed), Some((137, "OOMKilled".to_owned())));
}

#[test]
fn a_pod_that_only_resembles_it_is_none() {
    let text = STATIC_POD.replace("component: kube-controller-manager", "component: web");
    assert!(
        record(&yaml::<Pod>(&text)).is_some(),
        "in kube-system its name is enough: kind and k3s label it in other ways"
    );
    let elsewhere = text.replace("namespace: kube-system", "namespace: shop");
    assert_eq!(record(&yaml::<Pod>(&elsewhere)), None);
    let other = STATIC_POD
        .replace("- name: kube-controller-manager", "- name: sidecar")
        .replace("    - kube-controller-manager\n", "    - sidecar\n");
    assert_eq!(
        record(&yaml::<Pod>(&other)),
        None,
        "no container of it runs the program"
    );
}

#[test]
fn every_way_to_write_a_flag_is_read_and_the_later_one_wins() {
    let found = flags(&[
        "/usr/local/bin/kube-controller-manager",
        "--cluster-cidr=10.1.0.0/16",
        "--cluster-cidr",
        "10.2.0.0/16",
        "--allocate_node_cidrs",
        "--node-cidr-mask-size",
        "26",
        "--cidr-allocator-type=RangeAllocator",
        "--cloud-provider=external",
    ]);
    assert_eq!(nets(&found.cluster_cidr), ["10.2.0.0/16"]);
    assert_eq!((found.allocate_node_cidrs, found.mask), (Some(true), Some(26)));
    assert_eq!(found.allocator_type.as_deref(), Some("RangeAllocator"));
    assert_eq!(found.cloud_provider.as_deref(), Some("external"));
    assert_eq!(flags(&["kube-controller-manager"]), ManagerFlags::default());
}

#[test]
fn a_shells_script_is_taken_apart() {
    let found = flags(&[
        "/bin/sh",
        "-c",
        "set -e; exec /usr/bin/kube-controller-manager --cluster-cidr='10.3.0.0/16' \\\n --allocate-node-cidrs=true 2>&1 | tee /var/log/x --cluster-cidr=10.8.0.0/16",
    ]);
    assert_eq!(nets(&found.cluster_cidr), ["10.3.0.0/16"]);
    assert_eq!(found.allocate_node_cidrs, Some(true));
    let args_only = flags(&["--cluster-cidr=10.4.0.0/16"]);
    assert_eq!(
        nets(&args_only.cluster_cidr),
        ["10.4.0.0/16"],
        "the image's entrypoint is the program"
    );
}

#[test]
fn variables_are_replaced_where_they_are_known() {
    let found = flags(&[
        "kube-controller-manager",
        "--cluster-cidr=$(POD_CIDR)",
        "--service-cluster-ip-range=$(OTHER)",
    ]);
    assert_eq!(nets(&found.cluster_cidr), ["10.9.0.0/16"]);
    assert_eq!(found.odd, ["--service-cluster-ip-range=$(OTHER)"]);
}

#[test]
fn what_cannot_be_understood_is_kept_as_written() {
    let found = flags(&[
        "kube-controller-manager",
        "--cluster-cidr=10.244.0.0/160,10.1.0.0/16",
        "--allocate-node-cidrs=maybe",
        "--node-cidr-mask-size-ipv4=33",
        "--node-cidr-mask-size=0",
    ]);
    assert_eq!(nets(&found.cluster_cidr), ["10.1.0.0/16"]);
    assert_eq!(
        (found.allocate_node_cidrs, found.mask_v4, found.mask),
        (None, None, None)
    );
    assert_eq!(
        found.odd,
        [
            "--cluster-cidr=10.244.0.0/160",
            "--allocate-node-cidrs=maybe",
            "--node-cidr-mask-size-ipv4=33"
        ]
    );
}

#[test]
fn hosted_control_planes_of_other_clusters_are_no_instances_of_this_one() {
    let of = |namespace: &str| {
        let text = STATIC_POD.replace("namespace: kube-system", &format!("namespace: {namespace}"));
        record(&yaml::<Pod>(&text)).map(|manager| manager.name)
    };
    assert_eq!(
        of("openshift-kube-controller-manager").as_deref(),
        Some("openshift-kube-controller-manager/kube-controller-manager-cp-1")
    );
    for hosted in ["clusters-tenant-a", "shoot--garden--a", "default"] {
        assert_eq!(of(hosted), None);
    }
}

#[test]
fn a_pod_that_has_ended_for_good_is_no_instance() {
    for phase in ["Failed", "Succeeded"] {
        let text = STATIC_POD.replace("phase: Running", &format!("phase: {phase}\n  reason: Evicted"));
        assert_eq!(record(&yaml::<Pod>(&text)), None);
    }
}

#[test]
fn the_list_of_controllers_decides_as_kubernetes_reads_it() {
    let disabled = |lists: &[&str]| {
        let mut words = vec!["kube-controller-manager"];
        for list in lists {
            words.extend(["--controllers", list]);
        }
        flags(&words).ipam_disabled
    };
    assert!(!disabled(&[]));
    assert!(!disabled(&["*"]));
    assert!(disabled(&["*,-nodeipam"]));
    assert!(disabled(&["*", "-node-ipam-controller"]), "two flags add up");
    assert!(
        disabled(&["deployment,replicaset"]),
        "without * only those that are named run"
    );
    assert!(!disabled(&["node-ipam-controller"]));
    assert!(!disabled(&["nodeipam,-nodeipam,*"]), "the first that names it decides");
}
