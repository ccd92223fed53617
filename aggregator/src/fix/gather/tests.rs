use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::fix::ground::{Budget, Ground, Room};
use crate::summary::PoolReport;

fn read<T: serde::de::DeserializeOwned>(all: &[Value]) -> Vec<T> {
    all.iter()
        .map(|value| serde_json::from_value(value.clone()).unwrap())
        .collect()
}

fn ground(nodes: &[Value], pods: &[Value], budgets: &[Value]) -> Result<Ground, GatherError> {
    let objects = Objects {
        controllers: None,
        gaps: vec!["whether a kube-controller-manager runs".to_owned()],
        nodes: read(nodes),
        budgets: read(budgets),
        csi: read(&[
            json!({"metadata": {"name": "n1"}, "spec": {"drivers": [{"name": "csi.example.com", "nodeID": "n1"}]}}),
        ]),
    };
    let selectors = Selectors::new(&objects.budgets)?;
    let mut living = Pods::default();
    for pod in read::<Pod>(pods) {
        selectors.living(&pod).into_iter().for_each(|pod| living.push(pod));
    }
    let pool = PoolReport {
        ranges: Vec::new(),
        nodes: Vec::new(),
        unknown: None,
        service_ranges: Vec::new(),
        witnesses: Vec::new(),
        growth: String::new(),
    };
    let answers = Answers {
        findings: Vec::new(),
        pool,
        views: Views::default(),
        gaps: Vec::new(),
    };
    assemble(Timestamp::UNIX_EPOCH, &objects, living, answers)
}

fn node(cidrs: &[&str]) -> Value {
    json!({
        "metadata": {"name": "n1", "uid": "u", "labels": {"node-role.kubernetes.io/control-plane": ""}, "finalizers": ["x/y"]},
        "spec": {"podCIDRs": cidrs, "unschedulable": true, "providerID": "aws:///a/i-1"},
        "status": {
            "allocatable": {"cpu": "1930m", "memory": "7Gi", "pods": "110"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "0.2"}}},
        ]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}, {"ip": "fd00::5"}]},
    });
    for (path, value) in more.as_object().unwrap() {
        *pod.pointer_mut(path.rsplit_once('/').unwrap().0)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .entry(path.rsplit_once('/').unwrap().1)
            .or_insert(Value::Null) = value.clone();
    }
    pod
}

fn budget(name: &str, selector: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "generation": 2},
        "spec": {"minAvailable": 1, "selector": selector},
        "status": {"disruptionsAllowed": 1, "desiredHealthy": 1, "currentHealthy": 2, "expectedPods": 2, "observedGeneration": 2},
    })
}

#[test]
fn a_node_is_read_with_what_a_plan_needs_of_it() {
    let ground = ground(&[node(&["10.244.1.0/24", "fd00::/64"])], &[], &[]).unwrap();
    let node = &ground.nodes["n1"];
    assert_eq!(node.cidrs.len(), 2);
    assert!(node.unschedulable && node.ready && !node.deleting && node.control_plane() && !node.available());
    assert_eq!(node.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(
        (node.finalizers.len(), node.drivers.len(), node.provider.as_str()),
        (1, 1, "aws:///a/i-1")
    );
    let room = Room {
        cpu: 1930,
        memory: 7 << 30,
        pods: 110,
    };
    assert_eq!(node.allocatable, room);
    assert_eq!(ground.gaps, ["whether a kube-controller-manager runs"]);
}

#[test]
fn a_cidr_that_is_none_is_no_cidr_to_pass_over() {
    let error = ground(&[node(&["10.244.1.0"])], &[], &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("node n1: its podCIDR \"10.244.1.0\" is none"),
        "{error}"
    );
}

#[test]
fn pods_are_read_with_owner_requests_addresses_and_budgets() {
    let all = [
        pod(
            "web",
            json!({"/spec/initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}],
            "/spec/volumes": [{"name": "v", "emptyDir": {}}], "/spec/tolerations": [{"operator": "Exists"}]}),
        ),
        pod(
            "mirror",
            json!({"/metadata/annotations": {"kubernetes.io/config.mirror": "x"}, "/metadata/ownerReferences": []}),
        ),
        pod("ended", json!({"/status/phase": "Succeeded"})),
        pod(
            "other",
            json!({"/metadata/labels": {}, "/metadata/namespace": "kube-system",
            "/spec/tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoExecute"}]}),
        ),
        pod(
            "flannel",
            json!({"/spec/hostNetwork": true, "/metadata/labels": {"app": "flannel"},
            "/metadata/ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "f", "uid": "d", "controller": true}]}),
        ),
    ];
    let budgets = [
        budget("web", json!({"matchLabels": {"app": "web"}})),
        budget("nobody", Value::Null),
        budget(
            "listed",
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}),
        ),
    ];
    let ground = ground(&[], &all, &budgets).unwrap();
    let names: Vec<&str> = ground.pods.iter().map(|pod| pod.key.as_str()).collect();
    assert_eq!(
        names,
        ["default/web", "default/mirror", "kube-system/other", "default/flannel"]
    );
    let web = &ground.pods.on("n1")[0];
    let requests = Room {
        cpu: 2000,
        memory: 64 << 20,
        pods: 1,
    };
    assert_eq!(web.requests, requests);
    assert_eq!(web.budgets, ["default/web", "default/listed"]);
    assert_eq!(web.addresses.len(), 2);
    assert!(web.scratch && web.returns && !web.host_network);
    assert_eq!(web.owner.as_ref().unwrap().kind, "ReplicaSet");
    assert_eq!(ground.pods.on("n1")[1].owner.as_ref().unwrap().kind, "Node");
    assert!(ground.pods.on("n1")[2].budgets.is_empty() && !ground.pods.on("n1")[2].returns);
    assert_eq!(ground.pods.on("n1")[3].daemon.as_deref(), Some("flannel"));
    let web = &ground.budgets["default/web"];
    let wanted = Budget {
        allowed: 1,
        desired: 1,
        healthy: 2,
        expected: 2,
        current: true,
    };
    assert_eq!(web, &wanted);
    assert!(!web.never());
}

#[test]
fn a_budget_whose_selector_cannot_be_read_is_an_error() {
    let odd = budget(
        "odd",
        json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["web"]}]}),
    );
    let error = ground(&[], &[], &[odd]).unwrap_err();
    assert!(
        error.to_string().starts_with("poddisruptionbudget default/odd"),
        "{error}"
    );
}

#[test]
fn where_a_pod_may_go_is_read_as_the_scheduler_reads_it() {
    use crate::fix::place::{Requirement, Taint, Term, Toleration};
    let mut object = node(&["10.244.1.0/24"]);
    object["spec"]["taints"] = json!([{"key": "for", "value": "db", "effect": "NoSchedule"}]);
    let terms = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}],
        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]);
    let all = [pod(
        "aggregator",
        json!({"/metadata/labels": {"app.kubernetes.io/name": "cidrift-aggregator"}, "/spec/nodeSelector": {"disk": "ssd"},
            "/spec/tolerations": [{"key": "for", "value": "db", "effect": "NoSchedule"}],
            "/spec/affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
    )];
    let ground = ground(&[object], &all, &[]).unwrap();
    let taint = Taint {
        key: "for".to_owned(),
        value: "db".to_owned(),
        effect: "NoSchedule".to_owned(),
    };
    assert_eq!(ground.nodes["n1"].taints, [taint]);
    let asks = |key: &str, operator: &str, value: &str| Requirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: vec![value.to_owned()],
    };
    let term = Term {
        labels: vec![asks("zone", "In", "a")],
        fields: vec![asks("metadata.name", "NotIn", "n1")],
    };
    let pod = &ground.pods.on("n1")[0];
    assert!(pod.aggregator);
    assert_eq!(pod.place.affinity, Some(vec![term]));
    assert_eq!(pod.place.selector["disk"], "ssd");
    let toleration = Toleration {
        key: "for".to_owned(),
        operator: String::new(),
        value: "db".to_owned(),
        effect: "NoSchedule".to_owned(),
    };
    assert_eq!(pod.place.tolerations, [toleration]);
}
