//! The bench itself: a real cluster comes up, its pods run and reach each
//! other, its controller manager can be restarted with other flags, and
//! nothing of it is left afterwards, however its owner ended.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use cidrift_lab::binaries;
use cidrift_lab::kubernetes::leftovers::Traces;
use cidrift_lab::kubernetes::{Api, Cluster, Cni, Containerd, Scenario, place, shared};
use cidrift_lab::ping::ping;
use cidrift_lab::require::{Need, have};

static BRIDGE: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// A pod on an idle machine runs within 3 s; a loaded one may take a while.
const RUNNING: Duration = Duration::from_secs(60);

fn start(scenario: Scenario) -> Cluster {
    Cluster::start(scenario, &|text| eprintln!("{text}")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn pods_run_on_their_nodes_own_cidrs_and_reach_each_other() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = shared(&BRIDGE, Scenario::default);
    let api = cluster.api();
    let mut pods = Vec::new();
    for node in cluster.nodes() {
        let name = format!("reach-{}", node.name);
        api.create_pod(&name, Some(&node.name)).unwrap();
        let addresses = api.wait_running(&name, RUNNING).unwrap();
        let cidrs = api.wait_cidrs(&node.name, Duration::from_secs(1)).unwrap();
        assert!(cidrs[0].contains(&addresses[0]), "{addresses:?} in {cidrs:?}");
        pods.push((node.pod_netns("default", &name).unwrap(), addresses[0]));
    }
    assert_ne!(pods[0].1, pods[1].1);
    // Two hops: the own host, the other host.
    assert!(ping(&pods[0].0, pods[1].1, 3).unwrap().is_some());
    assert!(ping(&pods[1].0, pods[0].1, 3).unwrap().is_some());
    for node in cluster.nodes() {
        api.delete_pod(&format!("reach-{}", node.name)).unwrap();
    }
}

#[test]
fn the_scheduler_puts_a_pod_somewhere_and_kubelet_answers_through_the_api_server() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = shared(&BRIDGE, Scenario::default);
    let api = cluster.api();
    api.create_pod("anywhere", None).unwrap();
    assert!(!api.wait_running("anywhere", RUNNING).unwrap().is_empty());
    let config = api.raw("/api/v1/nodes/n1/proxy/configz").unwrap();
    assert!(config.contains("containerRuntimeEndpoint"), "{config}");
    let metrics = api.raw("/api/v1/nodes/n2/proxy/metrics").unwrap();
    assert!(metrics.contains("kubelet_running_pods"));
    let audit = std::fs::read_to_string(&cluster.plane().audit_log).unwrap();
    assert!(audit.contains("\"username\":\"system:node:n1\""));
    api.delete_pod("anywhere").unwrap();
}

#[test]
fn under_another_cluster_cidr_the_controller_manager_exits_and_under_the_old_one_it_lives() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario {
        nodes: 0,
        ..Scenario::default()
    });
    let (api, kcm) = (cluster.api(), cluster.kcm());
    api.create_fake_node("fake-1", &[]).unwrap();
    let cidrs = api.wait_cidrs("fake-1", Duration::from_secs(30)).unwrap();
    assert_eq!(cidrs, ["10.244.0.0/24".parse().unwrap()]);

    let flags = |cidr: &str| {
        [
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={cidr}"),
        ]
    };
    kcm.restart(&flags("10.100.0.0/16")).unwrap();
    assert!(!kcm.wait_ended(Duration::from_secs(60)).unwrap().success());
    let line = kcm
        .wait_log("failed to mark cidr[10.244.0.0/24]", Duration::from_secs(1))
        .unwrap();
    assert!(
        line.contains("is out the range of cluster cidr 10.100.0.0/16"),
        "{line}"
    );

    kcm.restart(&flags("10.244.0.0/16")).unwrap();
    api.create_fake_node("fake-2", &[]).unwrap();
    let cidrs = api.wait_cidrs("fake-2", Duration::from_secs(30)).unwrap();
    assert_eq!(cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert!(kcm.ended().is_none());
}

#[test]
fn containerds_template_gets_the_nodes_cidr_and_a_node_without_a_conflist_is_not_ready() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario {
        nodes: 1,
        cni: Cni::Template,
        ..Scenario::default()
    });
    let (api, node) = (cluster.api(), &cluster.nodes()[0]);
    let conflists = node.conflists().unwrap();
    assert_eq!(conflists, [node.cni_directory().join("10-containerd-net.conflist")]);
    let text = std::fs::read_to_string(&conflists[0]).unwrap();
    assert!(text.contains("10.244.0.0/24"), "{text}");
    node.delete_conflist().unwrap();
    api.wait_ready("n1", false, Duration::from_secs(60)).unwrap();
}

#[test]
fn five_nodes_with_containerd_2_run_pods_that_reach_each_other() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario {
        nodes: 5,
        containerd: Containerd::V2,
        ..Scenario::default()
    });
    let api = cluster.api();
    for node in cluster.nodes() {
        api.create_pod(&format!("five-{}", node.name), Some(&node.name))
            .unwrap();
    }
    api.wait_running("five-n1", RUNNING).unwrap();
    let from = cluster.nodes()[0].pod_netns("default", "five-n1").unwrap();
    for node in cluster.nodes() {
        let address = api.wait_running(&format!("five-{}", node.name), RUNNING).unwrap()[0];
        let runtime = api
            .node(&node.name)
            .unwrap()
            .unwrap()
            .status
            .unwrap()
            .node_info
            .unwrap();
        assert!(
            runtime.container_runtime_version.starts_with("containerd://2."),
            "{}",
            runtime.container_runtime_version
        );
        assert!(ping(&from, address, 3).unwrap().is_some(), "n1 to {}", node.name);
    }
}

#[test]
fn a_cluster_that_is_dropped_leaves_nothing() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario {
        nodes: 1,
        ..Scenario::default()
    });
    let api = cluster.api();
    api.create_pod("last", Some("n1")).unwrap();
    api.wait_running("last", RUNNING).unwrap();
    let pod = cluster.nodes()[0].pod_netns("default", "last").unwrap();
    let traces = Traces::of(&cluster, &[&pod]);
    drop(pod);
    // Were it not so now, finding nothing afterwards would mean nothing.
    let running = traces.processes();
    for program in ["kubelet", "containerd-shim", "/pause", "etcd", "kube-scheduler"] {
        assert!(
            running.iter().any(|line| line.contains(program)),
            "{program} in {running:#?}"
        );
    }
    assert!(!traces.cgroups().unwrap().is_empty());
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert_eq!(traces.processes(), Vec::<String>::new());
    assert_eq!(traces.cgroups().unwrap(), Vec::<PathBuf>::new());
    assert!(!directory.exists());
}

/// A process that holds a cluster.
struct Holder(Child);

impl Holder {
    fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a cluster in a process of its own; returns its directory too.
fn hold(lab: &Path) -> (Holder, PathBuf) {
    let holder = Command::new(lab)
        .args(["kubernetes", "hold", "--nodes=1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut holder = Holder(holder);
    let lines = BufReader::new(holder.0.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines {
        if let Some(kubeconfig) = line.strip_prefix("export KUBECONFIG=") {
            return (holder, Path::new(kubeconfig).parent().unwrap().to_owned());
        }
        said.push(line);
    }
    panic!("it did not start: {said:#?}");
}

#[test]
fn a_cluster_whose_owner_is_killed_runs_no_longer_and_the_next_start_removes_the_rest() {
    if !have(Need::Kubernetes) {
        return;
    }
    let lab = binaries::find(|text| eprintln!("{text}")).unwrap().lab;
    let (mut holder, directory) = hold(&lab);
    let api = Api::new(&directory.join("kubeconfig")).unwrap();
    api.create_pod("orphan", Some("n1")).unwrap();
    api.wait_running("orphan", RUNNING).unwrap();
    let traces = Traces::of_directory(&directory);
    assert!(traces.processes().iter().any(|line| line.contains("/pause")));

    holder.kill();
    assert_eq!(traces.wait_processes(Duration::from_secs(20)), Vec::<String>::new());
    // Other tests start clusters beside this one: any of them may have been first.
    place::remove_stale(&place::base()).unwrap();
    assert!(!directory.exists());
    assert_eq!(traces.cgroups().unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_dual_stack_pod_has_an_address_of_each_of_its_nodes_cidrs_and_is_reached_over_both() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario::dual_stack());
    let api = cluster.api();
    let mut pods = Vec::new();
    for node in cluster.nodes() {
        let name = format!("both-{}", node.name);
        api.create_pod(&name, Some(&node.name)).unwrap();
        let addresses = api.wait_running(&name, RUNNING).unwrap();
        let cidrs = api.wait_cidrs(&node.name, Duration::from_secs(1)).unwrap();
        assert_eq!((addresses.len(), cidrs.len()), (2, 2), "{addresses:?} {cidrs:?}");
        for (address, cidr) in addresses.iter().zip(&cidrs) {
            assert!(cidr.contains(address), "{address} in {cidr}");
        }
        pods.push((node.pod_netns("default", &name).unwrap(), addresses));
    }
    for &address in &pods[1].1 {
        assert!(ping(&pods[0].0, address, 3).unwrap().is_some(), "{address}");
    }
}
