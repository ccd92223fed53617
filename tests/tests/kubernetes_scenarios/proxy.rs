//! HOST09: the real kube-proxy with a pod range that is not its node's, and the real kube-proxy when its Node gets
//! another CIDR: then it ends by itself, and there is nothing to tell of it.

use std::ffi::OsString;

use cidrift_lab::kubernetes::{Cluster, Scenario, Service, kubeadm, tools};
use cidrift_lab::require::{Need, have};

use crate::node::{net, swap};
use crate::stage::{PATIENCE, Says, Stage};

/// Starts kube-proxy on n1; `name` is that of its log. Its limits of connection tracking are the machine's, not the
/// node's: it leaves them.
fn proxy(cluster: &Cluster, name: &str, flags: &[&str]) -> Service {
    let kubernetes = tools::build(&tools::KUBERNETES, &|_| {}).unwrap();
    let kubeconfig = cluster.kubeconfig_for("system:kube-proxy", None, true).unwrap();
    let own = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--hostname-override=n1".to_owned(),
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
        "--v=2".to_owned(),
    ];
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    let arguments: Vec<OsString> = own.into_iter().chain(flags).map(OsString::from).collect();
    let program = kubernetes.path("kube-proxy").unwrap();
    let node = cluster.node("n1").unwrap();
    let proxy = node.start_program(name, &program, arguments, Vec::new()).unwrap();
    proxy.wait_log("Caches are synced", PATIENCE).unwrap();
    proxy
}

#[test]
fn a_real_kube_proxy_with_another_range_is_told_and_one_that_ends_when_its_node_is_reborn_is_not() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 1,
        ..Scenario::default()
    };
    let mut stage = Stage::start("kube-proxy", scenario);
    let cluster = stage.cluster();
    let (api, scenario) = (cluster.api(), cluster.scenario());
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    let cidr = api.wait_cidrs("n1", PATIENCE).unwrap()[0];
    let wrong = proxy(&cluster, "kube-proxy-wrong", &["--cluster-cidr=10.250.0.0/16"]);
    let says = Says {
        summary: &[
            "kube-proxy takes 10.250.0.0/16 for the pods' range",
            &format!("{cidr} of the Node lies outside"),
        ],
        evidence: &[("n1", "10.250.0.0/16")],
        ..Says::default()
    };
    stage.open("HOST09/n1", &says);
    stage.mark("told");

    // The remedy: the pool's range. It runs before the other one ends: what clears the finding has seen it.
    let right = proxy(&cluster, "kube-proxy-right", &["--cluster-cidr=10.244.0.0/16"]);
    wrong.stop().unwrap();
    stage.only(&[]);
    stage.mark("mended");
    right.check().unwrap();
    right.stop().unwrap();

    let by_node = proxy(&cluster, "kube-proxy-by-node", &["--detect-local-mode=NodeCIDR"]);
    swap(&cluster, "n1", net("10.244.7.0/24"));
    by_node.wait_ended(PATIENCE).unwrap();
    assert!(by_node.log_contains("PodCIDRs changed"), "{}", by_node.tail());
    // Nothing but the CNI's file is behind: no pod was ever there.
    stage.only(&["HOST01/n1"]);
    stage.mark("reborn");
    stage.end(&["HOST01/n1", "HOST09/n1"]);
}
