//! The API server goes away under real pods. Kubelets, agents and aggregator go on: kernels are read, what breaks is found.

use std::net::SocketAddr;
use std::time::Duration;

use cidrift_lab::forward;
use cidrift_lab::kubernetes::Node;
use cidrift_lab::kubernetes::deployed::NAMESPACE;
use cidrift_lab::route::Route;

use crate::life::{aggregator, all_report, figure};
use crate::stage::{PATIENCE, Stage};
use crate::watching::watching;

const BEGAN: &str = "cidrift_aggregator_report_streams_began_total";

/// Longer than an agent may be silent here.
const A_WHILE: Duration = Duration::from_secs(8);

pub(crate) fn api_server_gone(stage: &Stage) {
    let cluster = stage.cluster();
    let (node, pod) = aggregator(stage);
    let address = cluster.node(&node).unwrap().addresses[0];
    let forward = forward::open(&cluster.plane().netns, 0, SocketAddr::new(address, 7440)).unwrap();
    let ca = cluster.directory().join("trust.crt");
    let trust = [
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "cidrift-trust",
        "-o=jsonpath={.data.ca\\.crt}",
    ];
    std::fs::write(&ca, stage.kubectl(&trust)).unwrap();
    let near = stage.at(format!("https://{}", forward.address()), ca);
    // A right that was never asked for cannot be known later.
    near.findings().unwrap();
    let began = figure(stage, &node, BEGAN);

    let [n2, n3] = ["n2", "n3"].map(|name| cluster.node(name).unwrap());
    let cidr = cluster.api().wait_cidrs("n3", PATIENCE).unwrap()[0];
    let route = Route::via(cidr, n3.addresses[0], "eth0");
    cluster.plane().apiserver.stop().unwrap();
    let ((), seen) = watching(&near, || std::thread::sleep(A_WHILE));
    assert!(
        seen.open.is_empty() && seen.why.is_empty(),
        "nothing is wrong: {seen:?}"
    );
    n2.ip.del_route(&route).unwrap();
    near.wait_open(cluster, &["PATH01/n2"], false, PATIENCE).unwrap();
    n2.ip.add_route(&route).unwrap();
    let ((), seen) = watching(&near, || {
        near.wait_open(cluster, &[], true, PATIENCE).unwrap();
    });
    assert!(seen.open.iter().all(|id| id.ends_with("/n2")), "{seen:?}");
    assert_eq!(figure(stage, &node, BEGAN), began, "agents kept their streams");

    // The aggregator dies, and its kubelet starts it again, while nobody can tell it its own CA.
    let home = cluster.node(&node).unwrap();
    kill(home, "cidrift-aggrega");
    std::thread::sleep(A_WHILE);
    cluster.plane().apiserver.start_again().unwrap();
    cluster.plane().wait_listening().unwrap();
    let waited = cluster.api().wait("the API server is back", PATIENCE, || {
        cluster.api().raw("/readyz").map(Some)
    });
    waited.unwrap();
    // Kubernetes' own controllers wait most of a minute until they try again: that is not what is looked at here.
    cluster.kcm().restart(&cluster.scenario().kcm()).unwrap();
    cluster.plane().scheduler.restart().unwrap();
    let ((), seen) = watching(stage, || {
        all_report(stage);
        stage.healthy();
    });
    assert!(seen.open.is_empty(), "{seen:?}");
    assert_eq!(
        aggregator(stage),
        (node, pod),
        "the same pod, in which it was started again"
    );
}

/// Kills the only process of this name (as the kernel has it, 15 characters) on a node.
fn kill(node: &Node, name: &str) {
    let all = node.run("/usr/bin/ps", &["-eo", "pid=,comm="]).unwrap();
    let all = String::from_utf8_lossy(&all.stdout).into_owned();
    let pids: Vec<&str> = all
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter_map(|(pid, comm)| (comm.trim() == name).then_some(pid))
        .collect();
    let [pid] = pids[..] else {
        panic!("{name}: {pids:?} of {all}")
    };
    let killed = node.run("/usr/bin/kill", &["-KILL", pid]).unwrap();
    assert!(killed.status.success(), "{killed:?}");
}
