//! Cilium's own allocator: ranges are in CiliumNodes, `Node.spec.podCIDR` is empty, and that is right.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cidrift_lab::kubernetes::optional::{CILIUM, start_cilium_operator};
use cidrift_lab::kubernetes::{Api, Error, Scenario, tools};
use cidrift_lab::require::{Need, have, lacks};
use cidrift_proto::finding::Severity;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::node::net;
use crate::stage::{PATIENCE, Says, Stage};

/// As many blocks as four nodes need.
const POOL: &str = "10.32.0.0/22";

fn cilium_nodes(api: &Api) -> kube::Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("cilium.io", "v2", "CiliumNode");
    kube::Api::all_with(api.client(), &ApiResource::from_gvk(&kind))
}

/// A Node, and the CiliumNode that Cilium's agent makes for it.
fn join(api: &Api, name: &str, address: IpAddr) {
    api.create_fake_node(name, &[]).unwrap();
    let object = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name},
        "spec": {"addresses": [{"type": "InternalIP", "ip": address}], "ipam": {}},
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    // The operator made the kind a moment ago: it may not be served yet.
    api.wait(&format!("CiliumNode {name} is accepted"), PATIENCE, || {
        let created = api.block_on(cilium_nodes(api).create(&PostParams::default(), &object));
        created.map(Some).map_err(|error| Error::Malformed(error.to_string()))
    })
    .unwrap();
}

/// A Node leaves, and its CiliumNode with it.
fn leave(api: &Api, name: &str) {
    api.delete_node(name).unwrap();
    api.block_on(cilium_nodes(api).delete(name, &DeleteParams::default()))
        .unwrap();
}

fn cilium_node(api: &Api, name: &str) -> Value {
    let object = api.block_on(cilium_nodes(api).get(name)).unwrap();
    object.data
}

/// The range that the operator has given it.
fn wait_range(api: &Api, name: &str) -> IpNet {
    api.wait(&format!("CiliumNode {name} has a range"), PATIENCE, || {
        let range = cilium_node(api, name)["spec"]["ipam"]["podCIDRs"][0].as_str().map(net);
        Ok(range)
    })
    .unwrap()
}

/// What Cilium's chart writes beside the operator's flags.
fn configure(api: &Api) {
    let data = [
        ("ipam", "cluster-pool"),
        ("cluster-pool-ipv4-cidr", POOL),
        ("cluster-pool-ipv4-mask-size", "24"),
        ("enable-ipv4", "true"),
        ("enable-ipv6", "false"),
    ];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some("cilium-config".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(
            data.map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        ),
        ..ConfigMap::default()
    };
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(api.client(), "kube-system");
    api.block_on(maps.create(&PostParams::default(), &map)).unwrap();
}

#[test]
fn ciliums_pool_is_exhausted_and_nodes_without_a_pod_cidr_are_right() {
    if !have(Need::Kubernetes) {
        return;
    }
    let programs = match tools::build(&CILIUM, &|text| eprintln!("{text}")) {
        Ok(programs) => programs,
        Err(error) => return lacks(Need::Kubernetes, &format!("Cilium's operator: {error}")),
    };
    let scenario = Scenario {
        nodes: 0,
        allocate_node_cidrs: false,
        cluster_cidr: Vec::new(),
        ..Scenario::default()
    };
    let mut stage = Stage::start_with("cilium", scenario, &["--service-cidr", "10.96.0.0/12"]);
    let cluster = stage.cluster();
    let api = cluster.api();
    configure(api);
    let operator = start_cilium_operator(&cluster, &programs, POOL, 24).unwrap();
    let names = ["w1", "w2", "w3", "w4", "w5"];
    // No agent of ours runs on a Node without a machine.
    let silent = names.map(|name| format!("SEEN01/{name}"));
    let silent: Vec<&str> = silent.iter().map(String::as_str).collect();
    for (name, last) in names.iter().zip(1..).take(4) {
        join(api, name, IpAddr::from([172, 30, 0, last]));
        assert!(net(POOL).contains(&wait_range(api, name)));
        assert_eq!(
            api.node(name).unwrap().unwrap().spec.unwrap_or_default().pod_cidrs,
            None
        );
    }
    // Every Node lacks spec.podCIDR, and nothing is said of it.
    stage.only(&silent[..4]);

    join(api, "w5", IpAddr::from([172, 30, 0, 5]));
    api.wait("the operator says that its pool is full", PATIENCE, || {
        operator.check()?;
        let node = cilium_node(api, "w5");
        let error = node["status"]["ipam"]["operator-status"]["error"]
            .as_str()
            .unwrap_or_default();
        Ok(error.contains("allocator full").then_some(()))
    })
    .unwrap();
    let mut all = silent.clone();
    all.push("POOL14/w5");
    stage.only(&all);
    stage.open(
        "POOL14/w5",
        &Says {
            severity: Some(Severity::Error),
            evidence: &[("CiliumNode w5", "allocator full")],
            cause: &["cluster-pool is taken", "Node.spec.podCIDR has no part in this"],
            remedy: &["CiliumNodes of nodes that are gone hold ranges too"],
            ..Says::default()
        },
    );
    stage.mark("POOL14");
    stage.crash(&all);

    // A node leaves, and the operator takes its range back. It gives it to the one that waits once it is restarted, as
    // the remedy says.
    let range = wait_range(api, "w2");
    leave(api, "w2");
    operator.wait_log("node released cidrs", PATIENCE).unwrap();
    operator.restart().unwrap();
    assert_eq!(wait_range(api, "w5"), range);
    let left: Vec<&str> = silent.iter().copied().filter(|id| *id != "SEEN01/w2").collect();
    stage.only(&left);
    drop(operator);
    stage.end(&all);
}
