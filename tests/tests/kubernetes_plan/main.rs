//! What `kubectl cidrift plan` prints, typed: on a real Kubernetes it mends what it was planned for.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use cidrift_lab::binaries;
use cidrift_lab::kubernetes::client::{is_ready, pod_cidrs};
use cidrift_lab::kubernetes::deployed::id;
use cidrift_lab::kubernetes::swap::swap;
use cidrift_lab::kubernetes::{Cluster, Cni, Deployed, Scenario, Typist, kubeadm};
use cidrift_lab::require::{Need, have};
use ipnet::IpNet;
use serde_json::{Value, json};

/// What a finding may take: an idle machine needs 3 s, a loaded one a multiple.
const PATIENCE: Duration = Duration::from_secs(60);

/// Real kubelets take some seconds to follow the control plane.
const FLAGS: [&str; 3] = ["--hold=500ms", "--settle=3s", "--silence=6s"];

const CONFLIST: &str = "etc/cni/net.d/10-containerd-net.conflist";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn conflist(cluster: &Cluster, node: &str) -> String {
    let path = cluster.node(node).unwrap().root().join(CONFLIST);
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Node, kubelet, rendered configuration and bridge of n2 all have a range that the pool does not have.
fn drift(cluster: &Cluster) {
    let (api, node) = (cluster.api(), cluster.node("n2").unwrap());
    swap(cluster, "n2", &[net("10.200.2.0/24")], PATIENCE).unwrap();
    node.delete_conflist().unwrap();
    node.kubelet.restart().unwrap();
    let rendered = || Ok(conflist(cluster, "n2").contains("10.200.2.0/24").then_some(()));
    api.wait("containerd renders 10.200.2.0/24", PATIENCE, rendered)
        .unwrap();
    api.wait_ready("n2", true, PATIENCE).unwrap();
    // The scheduler passes over it until kube-controller-manager has seen that, too.
    let free = || {
        let taints = api.node("n2")?.and_then(|node| node.spec?.taints).unwrap_or_default();
        Ok((!taints.iter().any(|taint| taint.key.starts_with("node.kubernetes.io/"))).then_some(()))
    };
    api.wait("n2 takes pods", PATIENCE, free).unwrap();
}

/// Four pods that a budget guards, two on each node.
fn workload(typist: &Typist<'_>, cluster: &Cluster) {
    let labels = json!({"app": "web"});
    let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels}}]);
    let pod = cidrift_lab::kubernetes::client::pod("web", None);
    let mut spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
    spec["topologySpreadConstraints"] = spread;
    spec["terminationGracePeriodSeconds"] = json!(0);
    // Those that tolerate everything come back to a cordoned node.
    spec["tolerations"] = json!([{"key": "soft", "operator": "Exists"}]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 4, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": labels}},
    });
    typist.apply(&deployment).unwrap();
    typist.apply(&budget).unwrap();
    typist
        .type_line("kubectl rollout status deployment/web --timeout=90s")
        .unwrap();
    let there = || {
        let pods = typist
            .type_line("kubectl get pods -l app=web -o jsonpath='{.items[*].spec.nodeName}'")
            .unwrap();
        Ok(pods.contains("n2").then_some(()))
    };
    cluster.api().wait("a pod of web is on n2", PATIENCE, there).unwrap();
}

fn plan(deployed: &Deployed, arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["plan"].iter().chain(arguments).copied().collect();
    deployed.ask(&all).unwrap()
}

#[test]
fn a_node_outside_of_the_pool_is_mended_by_what_the_plan_says() {
    if !have(Need::Kubernetes) {
        return;
    }
    let say = |text: &str| eprintln!("{text}");
    let programs = binaries::find(say).unwrap();
    let scenario = Scenario {
        nodes: 2,
        cni: Cni::Template,
        ..Scenario::default()
    };
    let cluster = Cluster::start(scenario, &say).unwrap();
    let (ranges, services) = (&cluster.scenario().cluster_cidr, &cluster.scenario().service_cidr);
    kubeadm::record(cluster.api(), ranges, services, &[]).unwrap();
    let deployed = Deployed::install(&cluster, &programs, &FLAGS, &[], &say).unwrap();
    let typist = Typist::new(&cluster, &deployed).unwrap();
    typist
        .type_line("kubectl label node n2 rack=7 && kubectl taint node n2 soft=yes:PreferNoSchedule")
        .unwrap();
    typist
        .type_line("kubectl annotate node n2 example.com/owner=somebody")
        .unwrap();

    drift(&cluster);
    workload(&typist, &cluster);
    deployed.wait_open(&cluster, &["POOL02/n2"], false, PATIENCE).unwrap();
    let before = cluster.api().node("n2").unwrap().unwrap();

    let planned = plan(&deployed, &[]);
    let node = &planned["nodes"][0];
    assert_eq!(
        (&node["node"], &node["method"]),
        (&json!("n2"), &json!("swap")),
        "{planned:#}"
    );
    assert_eq!(node["blocked"], Value::Null, "{planned:#}");
    assert_eq!(node["from"], json!(["10.200.2.0/24"]));
    assert_eq!(node["to"], json!(["10.244.255.0/24"]));
    let pods = node["interrupts"]["pods"].as_array().unwrap();
    assert!(
        pods.iter().any(|pod| pod.as_str().unwrap().starts_with("default/web-")),
        "{planned:#}"
    );
    assert!(
        node["interrupts"]["budgets"][0]
            .as_str()
            .unwrap()
            .starts_with("default/web:"),
        "{planned:#}"
    );
    // For people, and what they save.
    let text = String::from_utf8(deployed.cidrift(&["plan"]).unwrap().stdout).unwrap();
    eprintln!("{text}");
    assert!(text.contains("1. n2: swap, 10.200.2.0/24 -> 10.244.255.0/24"), "{text}");

    // Another range: one around everything, and one that holds nobody.
    let around = deployed.ask(&["migrate", "10.192.0.0/10"]).unwrap();
    assert_eq!(
        (&around["contains_old"], &around["nodes"]),
        (&json!(true), &json!([])),
        "{around:#}"
    );
    let other = deployed.ask(&["migrate", "10.250.0.0/16"]).unwrap();
    let rows = other["nodes"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().filter_map(|row| row["node"].as_str()).collect();
    assert_eq!((names.len(), &other["conflicts"]), (2, &json!([])), "{other:#}");

    let steps = node["steps"].as_array().unwrap();
    for step in steps {
        typist.step(step).unwrap();
    }

    let after = cluster.api().node("n2").unwrap().unwrap();
    assert_eq!(pod_cidrs(&after), [net("10.244.255.0/24")]);
    assert_ne!(after.metadata.uid, before.metadata.uid);
    assert_eq!(after.metadata.labels, before.metadata.labels);
    // Those of the controller manager say what the kubelet reports; they are its own to set.
    let taints = |node: &k8s_openapi::api::core::v1::Node| {
        let all = node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default();
        let of_people = all
            .into_iter()
            .filter(|taint| !taint.key.starts_with("node.kubernetes.io/"));
        of_people.collect::<Vec<_>>()
    };
    assert_eq!(taints(&after).len(), 1);
    assert_eq!(taints(&after), taints(&before));
    let mine = |node: &k8s_openapi::api::core::v1::Node| {
        node.metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get("example.com/owner").cloned())
    };
    assert_eq!(mine(&after).as_deref(), Some("somebody"));
    assert!(is_ready(&after));
    assert!(
        conflist(&cluster, "n2").contains("10.244.255.0/24"),
        "{}",
        conflist(&cluster, "n2")
    );
    cluster.api().create_pod("probe", Some("n2")).unwrap();
    let address = cluster.api().wait_running("probe", PATIENCE).unwrap();
    assert!(net("10.244.255.0/24").contains(&address[0]), "{address:?}");
    typist
        .type_line("kubectl rollout status deployment/web --timeout=90s")
        .unwrap();
    // What follows is nothing of the plan's: that nobody makes routes between these two nodes is so before and after.
    let mut last = Vec::new();
    let gone = cluster.api().wait("nothing is open of n2", PATIENCE, || {
        last = deployed.findings()?;
        let of_it = |finding: &Value| id(finding).ends_with("/n2") && !id(finding).starts_with("PATH");
        Ok((!last.iter().any(of_it)).then_some(()))
    });
    assert!(gone.is_ok(), "{last:#?}");
    let again = plan(&deployed, &["n2"]);
    assert_eq!(again["nodes"], json!([]), "{again:#}");
    a_node_without_a_cidr_is_given_one(&cluster, &deployed, &typist);
    deployed.remove().unwrap();
}

/// Nobody allocates: the controller manager is down while the Node is made anew without a CIDR.
fn a_node_without_a_cidr_is_given_one(cluster: &Cluster, deployed: &Deployed, typist: &Typist<'_>) {
    cluster.kcm().stop().unwrap();
    typist.type_line(
        "kubectl get node n2 -o json | jq 'del(.status, .metadata.uid, .metadata.resourceVersion, .metadata.creationTimestamp, \
         .metadata.managedFields, .spec.podCIDR, .spec.podCIDRs)' > bare.json && kubectl delete node n2 && \
         kubectl create -f bare.json",
    ).unwrap();
    deployed.wait_open(cluster, &["POOL01/n2"], false, PATIENCE).unwrap();
    let planned = plan(deployed, &["n2"]);
    let node = &planned["nodes"][0];
    assert_eq!(
        (&node["method"], &node["blocked"]),
        (&json!("assign"), &Value::Null),
        "{planned:#}"
    );
    // What the host hands out of already.
    assert_eq!(node["to"], json!(["10.244.255.0/24"]), "{planned:#}");
    for step in node["steps"].as_array().unwrap() {
        typist.step(step).unwrap();
    }
    let uid = |node: &k8s_openapi::api::core::v1::Node| node.metadata.uid.clone();
    let after = cluster.api().node("n2").unwrap().unwrap();
    assert_eq!(pod_cidrs(&after), [net("10.244.255.0/24")]);
    assert_eq!(uid(&after).as_deref(), node["uid"].as_str(), "the same Node");
    let gone = cluster.api().wait("POOL01/n2 is gone", PATIENCE, || {
        let open = deployed.findings()?;
        Ok((!open.iter().any(|finding| id(finding) == "POOL01/n2")).then_some(()))
    });
    gone.unwrap();
    // The controller manager takes it as it is.
    cluster.kcm().start_again().unwrap();
    cluster.api().wait_ready("n2", true, PATIENCE).unwrap();
    assert_eq!(
        pod_cidrs(&cluster.api().node("n2").unwrap().unwrap()),
        [net("10.244.255.0/24")]
    );
}
