//! Another `--cluster-cidr`: changed too early, every controller manager ends at its start; in the right order all nodes are
//! moved while one runs, and it starts with the new range in the end.

use cidrift_lab::kubernetes::flanneld::missing_routes;
use cidrift_lab::kubernetes::kubeadm::{self, StaticManager};
use cidrift_lab::kubernetes::swap::swap;
use cidrift_lab::require::{Need, have};
use ipnet::IpNet;
use serde_json::Value;

use crate::ground::{Ground, PATIENCE};
use crate::mend::{fix, mend};
use crate::ping;

/// What flannel is told: it holds both.
const NETWORK: &str = "10.240.0.0/12";

const OLD: &str = "10.244.0.0/16";
const NEW: &str = "10.250.0.0/16";

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What kube-controller-manager is given besides kubeadm's own flags.
fn flags(range: &str, more: &[&str]) -> Vec<String> {
    let own = [
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={range}"),
    ];
    own.into_iter()
        .chain(more.iter().map(|&flag| flag.to_owned()))
        .collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
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
    let ground = Ground::start_in(net(NETWORK));
    let manager = StaticManager::install(&ground.cluster, "n1").unwrap();
    let api = ground.cluster.api();
    ground.cluster.kcm().stop().unwrap();
    manager.run(&flags(OLD, &[])).unwrap();
    manager.wait_ready(api, PATIENCE).unwrap();
    ground.is_whole();

    too_early(&ground, &manager);
    in_order(&ground, &manager);
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
    ground.phase("every node to the new range");
    let shown = ground.deployed.cidrift(&["fix", "--migrate", NEW]).unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("3 nodes have steps"), "{text}");
    let told = fix(ground, &["--migrate", NEW, "--yes"]);
    for node in NODES {
        assert!(net(NEW).contains(&ground.cidr(node)), "{told}");
        assert!(told.contains(&format!("{node}  mended")), "{told}");
    }
    assert_eq!(missing_routes(&ground.cluster).unwrap(), [""; 0]);
    ground.spread();
    ping::wait(&ground.cluster, PATIENCE);
    let (api, services) = (ground.cluster.api(), &ground.cluster.scenario().service_cidr);
    kubeadm::record(api, &[net(NEW)], services, &[]).unwrap();
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

/// One node is outside, and for that the controller manager ends: it is swapped first, and drained when that runs again.
fn one_is_left(ground: &Ground, manager: &StaticManager<'_>) {
    ground.phase("one node outside for which the controller manager ends");
    let inside = ground.cidr("n2");
    swap(&ground.cluster, "n2", net("10.244.9.0/24"), PATIENCE).unwrap();
    manager.run(&flags(NEW, &["--v=1"])).unwrap();
    ends_at_its_start(ground, manager);
    ground.found(&["POOL02/n2"]);
    let waits = |row: &Value| {
        let mut steps = row["steps"].as_array().into_iter().flatten();
        steps.any(|step| step["does"]["do"] == "controllers")
    };
    let row = planned(ground, "n2", waits);
    assert_eq!((&row["method"], &row["blocked"]), (&Value::from("swap"), &Value::Null));
    let kinds: Vec<&str> = row["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["does"]["do"].as_str())
        .collect();
    let at = |kind: &str| kinds.iter().position(|one| *one == kind);
    assert!(
        at("recreate") < at("controllers") && at("controllers") < at("drain"),
        "{kinds:?}"
    );
    mend(ground, "n2");
    assert_eq!(ground.cidr("n2"), inside, "what its host hands out of");
    manager.wait_ready(ground.cluster.api(), PATIENCE).unwrap();
    ground.is_whole();
}
