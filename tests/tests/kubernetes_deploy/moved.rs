//! The aggregator goes to another node, as after a drain: agents find it by the Service, which kube-proxy leads there.
//! Without kube-proxy they find it when their kubelets have told them the ConfigMap's new address: a minute and a half,
//! which is too long for a test.

use std::time::Instant;

use cidrift_lab::kubernetes::{Node, Service, Wanted, kubeadm, proxy};

use crate::life::{aggregator, all_report};
use crate::stage::{PATIENCE, Stage};
use crate::watching::watching;

pub(crate) fn to_another_node(stage: &Stage, mut wanted: Wanted) {
    let cluster = stage.cluster();
    let scenario = cluster.scenario();
    kubeadm::record(cluster.api(), &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    let flags = ["--cluster-cidr=10.244.0.0/16"];
    let start = |node: &Node| proxy::start(cluster, &node.name, &flags, PATIENCE).unwrap();
    let proxies: Vec<Service> = cluster.nodes().iter().map(start).collect();
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
