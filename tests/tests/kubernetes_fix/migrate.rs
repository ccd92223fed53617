//! Another `--cluster-cidr` of a dual-stack cluster: changed too early, every controller manager ends at its start; in the
//! right order all nodes are moved while one runs, and it starts with the new ranges in the end. It ends as well where a
//! node's IPv6 CIDR alone lies outside.

use cidrift_lab::kubernetes::flanneld::missing_routes;
use cidrift_lab::kubernetes::kubeadm::{self, StaticManager};
use cidrift_lab::kubernetes::swap::swap;
use cidrift_lab::require::{Need, have};
use ipnet::IpNet;
use serde_json::Value;

use crate::ground::{Ground, PATIENCE};
use crate::mend::{fix, mend};
use crate::ping;

/// What flannel is told: it holds old and new.
const NETWORKS: &str = "10.240.0.0/12,fd00:240::/27";

const OLD: &str = "10.244.0.0/16,fd00:244::/48";
const NEW: &str = "10.250.0.0/16,fd00:250::/48";

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What kube-controller-manager is given besides kubeadm's own flags.
fn flags(ranges: &str, more: &[&str]) -> Vec<String> {
    let own = [
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={ranges}"),
    ];
    own.into_iter()
        .chain(more.iter().map(|&flag| flag.to_owned()))
        .collect()
}

fn nets(text: &str) -> Vec<IpNet> {
    text.split(',').map(|net| net.parse().unwrap()).collect()
}

/// Waits until it ends as often as it is started.
fn ends_at_its_start(ground: &Ground, manager: &StaticManager<'_>) {
    let api = ground.cluster.api();
    let waits = || Ok((manager.waiting(api)?.as_deref() == Some("CrashLoopBackOff")).then_some(()));
    api.wait("the controller manager ends at its start", PATIENCE * 2, waits)
        .unwrap();
}

/// Waits until a node's plan is as wanted.
fn planned(ground: &Ground, node: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let api = ground.cluster.api();
    let waited = api.wait(&format!("{node} is planned for"), PATIENCE * 2, || {
        last = ground.row(&ground.deployed.ask(&["plan"])?, node);
        Ok(wanted(&last).then_some(()))
    });
    assert!(waited.is_ok(), "{last:#}");
    last
}

#[test]
fn a_new_cluster_cidr_node_by_node_while_a_controller_manager_runs() {
    if !have(Need::Kubernetes) {
        return;
    }
    let ground = Ground::start_dual_stack_in(&nets(NETWORKS));
    let manager = StaticManager::install(&ground.cluster, "n1").unwrap();
    let api = ground.cluster.api();
    ground.cluster.kcm().stop().unwrap();
    manager.run(&flags(OLD, &[])).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();

    too_early(&ground, &manager);
    in_order(&ground, &manager);
    one_family(&ground);
    one_is_left(&ground, &manager);
    ground.end();
}

/// It is changed before any node was moved: no node can be drained then, and none is.
fn too_early(ground: &Ground, manager: &StaticManager<'_>) {
    ground.phase("the flag is changed too early");
    manager.run(&flags(NEW, &[])).unwrap();
    ends_at_its_start(ground, manager);
    ground.found(&["POOL02/n1", "POOL02/n2", "POOL02/n3"]);
    let blocked = |row: &Value| {
        let whys = row["blocked"].as_array().into_iter().flatten();
        whys.filter_map(Value::as_str)
            .any(|why| why.contains("the --cluster-cidr from before"))
    };
    for node in NODES {
        planned(ground, node, blocked);
    }
    // As that says.
    manager.run(&flags(OLD, &[])).unwrap();
    manager.wait_ready(ground.cluster.api(), PATIENCE * 2).unwrap();
    ground.is_whole();
}

fn in_order(ground: &Ground, manager: &StaticManager<'_>) {
    ground.phase("every node to the new ranges");
    let shown = ground.deployed.cidrift(&["fix", "--migrate", NEW]).unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("3 nodes have steps"), "{text}");
    let told = fix(ground, &["--migrate", NEW, "--yes"]);
    for node in NODES {
        let cidrs = ground.cidrs(node);
        let inside: Vec<bool> = nets(NEW)
            .iter()
            .zip(&cidrs)
            .map(|(new, cidr)| new.contains(cidr))
            .collect();
        assert_eq!((cidrs.len(), inside), (2, vec![true, true]), "{cidrs:?}: {told}");
        assert!(told.contains(&format!("{node}  mended")), "{told}");
    }
    assert_eq!(missing_routes(&ground.cluster).unwrap(), [""; 0]);
    ground.spread();
    ping::wait(&ground.cluster, PATIENCE);
    let (api, services) = (ground.cluster.api(), &ground.cluster.scenario().service_cidr);
    kubeadm::record(api, &nets(NEW), services, &[]).unwrap();
    manager.run(&flags(NEW, &[])).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();
    ground.is_whole();
    let again = ground.deployed.cidrift(&["fix", "--migrate", NEW, "--yes"]).unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && text.contains("Nothing that is open needs a step"),
        "{text}"
    );
}

/// A Node has no IPv6 CIDR, and what its runtime rendered is for IPv4 alone. It keeps that, and gets both.
fn one_family(ground: &Ground) {
    ground.phase("a node with one family");
    let before = ground.cidrs("n3");
    let (v4, node) = (before[0], ground.node("n3"));
    swap(&ground.cluster, "n3", &[v4], PATIENCE).unwrap();
    node.delete_conflist().unwrap();
    node.kubelet.restart().unwrap();
    ground.rendered("n3");
    assert!(!ground.conflist("n3").contains("fd00:"), "{}", ground.conflist("n3"));
    ground.found(&["POOL06/n3"]);
    let row = ground.planned("n3", "swap");
    assert!(has_in_order(&row, &["drain", "remove-file", "recreate"]), "{row:#}");
    mend(ground, "n3");
    let after = ground.cidrs("n3");
    assert_eq!((after.len(), after[0]), (2, v4), "{after:?}");
    assert!(nets(NEW)[1].contains(&after[1]), "{after:?}");
    assert!(
        ground.conflist("n3").contains(&after[1].to_string()),
        "{}",
        ground.conflist("n3")
    );
    assert_eq!(missing_routes(&ground.cluster).unwrap(), [""; 0]);
}

/// Whether a node's plan has steps of all these kinds, the first of each in this order.
fn has_in_order(row: &Value, kinds: &[&str]) -> bool {
    let steps = row["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = |kind: &&str| steps.iter().position(|step| step["does"]["do"] == **kind);
    let places: Option<Vec<usize>> = kinds.iter().map(at).collect();
    places.is_some_and(|places| places.is_sorted())
}

/// The IPv6 CIDR of one node is outside, and for that the controller manager ends: it is swapped first, and drained when
/// that runs again.
fn one_is_left(ground: &Ground, manager: &StaticManager<'_>) {
    ground.phase("one node outside for which the controller manager ends");
    let inside = ground.cidrs("n2");
    let outside = [inside[0], nets("fd00:244:0:9::/64")[0]];
    swap(&ground.cluster, "n2", &outside, PATIENCE).unwrap();
    manager.run(&flags(NEW, &["--v=1"])).unwrap();
    ends_at_its_start(ground, manager);
    ground.found(&["POOL02/n2"]);
    let row = planned(ground, "n2", |row| has_in_order(row, &["controllers"]));
    assert_eq!((&row["method"], &row["blocked"]), (&Value::from("swap"), &Value::Null));
    assert!(has_in_order(&row, &["recreate", "controllers", "drain"]), "{row:#}");
    mend(ground, "n2");
    assert_eq!(
        ground.cidrs("n2"),
        inside,
        "its own IPv4, and what its host hands out of"
    );
    manager.wait_ready(ground.cluster.api(), PATIENCE).unwrap();
    ground.is_whole();
}
