//! The aggregator goes to another node, as after a drain: agents find it by the Service, which kube-proxy leads there.
//! Without kube-proxy they find it when their kubelets have told them the ConfigMap's new address: a minute and a half,
//! which is too long for a test.

use std::ffi::OsString;
use std::time::Instant;

use cidrift_lab::kubernetes::{Service, Wanted, kubeadm, tools};

use crate::life::{aggregator, all_report};
use crate::stage::{PATIENCE, Stage};
use crate::watching::watching;

/// A real kube-proxy on this node. Its limits of connection tracking are the machine's, not the node's: it leaves them.
fn proxy(stage: &Stage, node: &str) -> Service {
    let cluster = stage.cluster();
    let kubernetes = tools::build(&tools::KUBERNETES, &|_| {}).unwrap();
    let kubeconfig = cluster.kubeconfig_for("system:kube-proxy", None, true).unwrap();
    let arguments = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={node}"),
        "--cluster-cidr=10.244.0.0/16".to_owned(),
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
    ];
    let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
    let program = kubernetes.path("kube-proxy").unwrap();
    let node = cluster.node(node).unwrap();
    let proxy = node
        .start_program("kube-proxy", &program, arguments, Vec::new())
        .unwrap();
    proxy.wait_log("Caches are synced", PATIENCE).unwrap();
    proxy
}

pub(crate) fn to_another_node(stage: &Stage, mut wanted: Wanted) {
    let cluster = stage.cluster();
    let scenario = cluster.scenario();
    kubeadm::record(cluster.api(), &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    let proxies: Vec<Service> = cluster.nodes().iter().map(|node| proxy(stage, &node.name)).collect();
    stage.healthy();
    wanted.node = Some("n2".to_owned());
    let began = Instant::now();
    let ((ready, found), seen) = watching(stage, || {
        stage.install(&wanted);
        let ready = began.elapsed();
        all_report(stage);
        (ready, began.elapsed())
    });
    eprintln!(
        "moved: ready after {ready:.1?}, found by all after {found:.1?}, no answer for {:.1?}",
        seen.dark
    );
    assert_eq!(aggregator(stage).0, "n2");
    assert!(seen.open.is_empty(), "{seen:?}");
    stage.healthy();
    drop(proxies);
}
