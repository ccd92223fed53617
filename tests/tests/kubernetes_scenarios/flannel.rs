//! Real flannel and a Node that is made again with another CIDR: the peers follow by themselves, flanneld of that Node
//! takes itself for a peer, and a host whose flanneld is stopped keeps the old world alone.

use std::collections::BTreeMap;
use std::fs;

use cidrift_lab::kubernetes::client::fake_node;
use cidrift_lab::kubernetes::cni::{self, write_conflist};
use cidrift_lab::kubernetes::{Backend, Cluster, Cni, Scenario};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::node::{RANGES, delete_bridge, net, run, swap};
use crate::stage::{PATIENCE, Says, Stage};

/// The CIDR of the node that joins while nobody tells n2.
const JOINED: &str = "10.244.103.0/24";

/// flanneld, started again, takes over the Node's CIDR; then its conflist, the pod and the bridge are made anew, as the
/// remedies say. With host-gw the route that led back to the host outlives flanneld.
fn move_to(cluster: &Cluster, backend: Backend, cidr: &str, pods: (&str, &str)) {
    let (api, node) = (cluster.api(), cluster.node("n1").unwrap());
    cluster.flanneld("n1").unwrap().restart().unwrap();
    let first = net(cidr).hosts().next().unwrap();
    let wanted = format!("FLANNEL_SUBNET={first}/24");
    let path = node.root().join("run/flannel/subnet.env");
    let told = api.wait("flanneld has the new subnet", PATIENCE, || {
        Ok(fs::read_to_string(&path).ok().filter(|text| text.contains(&wanted)))
    });
    let conflist = cni::flannel(&told.unwrap()).unwrap();
    if backend == Backend::HostGw {
        run(node, "/sbin/ip", &["route", "del", cidr, "dev", "eth0"]);
    }
    write_conflist(&node.cni_directory(), "10-flannel.conflist", &conflist).unwrap();
    api.delete_pod(pods.0).unwrap();
    delete_bridge(node);
    api.create_pod(pods.1, Some("n1")).unwrap();
    let address = api.wait_running(pods.1, PATIENCE).unwrap()[0];
    assert!(net(cidr).contains(&address), "{address}");
}

/// A Node that joins: its flanneld has told of it, as far as the others can see.
fn join(cluster: &Cluster, backend: Backend) {
    let api = cluster.api();
    let flannel = |key: &str, value: &str| (format!("flannel.alpha.coreos.com/{key}"), value.to_owned());
    let data = match backend {
        Backend::Vxlan => r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:99"}"#,
        Backend::HostGw => "null",
    };
    let mut node = fake_node("n9", &[net(JOINED)]);
    node.metadata.annotations = Some(BTreeMap::from([
        flannel("backend-type", &backend.to_string()),
        flannel("backend-data", data),
        flannel("kube-subnet-manager", "true"),
        flannel("public-ip", "172.30.0.99"),
    ]));
    api.create_node(&node).unwrap();
    let nodes: kube::Api<Node> = kube::Api::all(api.client());
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.99"}]}});
    let parameters = PatchParams::default();
    let patched = api.block_on(nodes.patch_status("n9", &parameters, &Patch::Merge(status)));
    assert!(patched.is_ok(), "{patched:?}");
}

fn routes(cluster: &Cluster, node: &str) -> String {
    run(cluster.node(node).unwrap(), "/sbin/ip", &["route"])
}

fn reborn(name: &'static str, backend: Backend) {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 3,
        cni: Cni::Flannel(backend),
        ..Scenario::default()
    };
    let mut stage = Stage::start_with(name, scenario, &RANGES);
    let cluster = stage.cluster();
    for (pod, node) in [("p1", "n1"), ("p2", "n2"), ("p3", "n3")] {
        cluster.api().create_pod(pod, Some(node)).unwrap();
        cluster.api().wait_running(pod, PATIENCE).unwrap();
    }
    stage.only(&[]);

    // n2 and n3 follow at once. n1 does not, and its flanneld makes a route for its own new CIDR, back to itself.
    swap(&cluster, "n1", net("10.244.101.0/24"));
    let reborn = ["HOST01/n1", "HOST02/n1", "HOST03/n1", "HOST04/n1", "POOL12/n1"];
    stage.open(
        "HOST04/n1",
        &Says {
            severity: Some(Severity::Error),
            evidence: &[("kernel of n1", "10.244.101.0/24")],
            cause: &["leads back to this very host", "takes the new one for a peer's"],
            remedy: &["restart the CNI's daemon", "ip route del 10.244.101.0/24 dev"],
            ..Says::default()
        },
    );
    stage.only(&reborn);
    for peer in ["n2", "n3"] {
        let routes = routes(&cluster, peer);
        assert!(routes.contains("10.244.101.0/24 via"), "{routes}");
    }
    stage.mark("reborn");
    move_to(&cluster, backend, "10.244.101.0/24", ("p1", "p1-again"));
    stage.only(&[]);
    stage.mark("mended");

    // Once more, and a node joins, and nobody tells n2.
    cluster.flanneld("n2").unwrap().stop().unwrap();
    join(&cluster, backend);
    swap(&cluster, "n1", net("10.244.102.0/24"));
    move_to(&cluster, backend, "10.244.102.0/24", ("p1-again", "p1-last"));
    stage.open(
        "PATH01/n2",
        &Says {
            evidence: &[
                ("kernel of n2", "10.244.102.0/24"),
                ("Node n1", "10.244.102.0/24"),
                ("kernel of n2", JOINED),
                ("Node n9", JOINED),
            ],
            cause: &["the CNI's daemon missed the node's arrival"],
            remedy: &["Restart flannel on n2"],
            ..Says::default()
        },
    );
    // Nobody reports from the one that joined.
    let alone = ["PATH01/n2", "PATH03/n2", "PATH07/n2", "SEEN01/n9", "POOL12/n1"];
    stage.only(&alone);
    for (node, has) in [("n1", true), ("n2", false), ("n3", true)] {
        assert_eq!(routes(&cluster, node).contains(JOINED), has, "{node}");
    }
    stage.mark("n2 alone keeps the old world");
    // What n1 had before was seen by nobody who lives.
    stage.crash(&alone[..4]);

    // flanneld comes back: it makes the new routes, and leaves the old one.
    cluster.flanneld("n2").unwrap().start_again().unwrap();
    stage.only(&["PATH03/n2", "SEEN01/n9"]);
    cluster.api().delete_node("n9").unwrap();
    stage.only(&["PATH03/n2"]);
    stage.open(
        "PATH03/n2",
        &Says {
            evidence: &[("kernel of n2", "10.244.101.0/24")],
            remedy: &["the CNI's daemon leaves it alone", "ip route del 10.244.101.0/24"],
            ..Says::default()
        },
    );
    run(
        cluster.node("n2").unwrap(),
        "/sbin/ip",
        &["route", "del", "10.244.101.0/24"],
    );
    stage.only(&[]);
    let all: Vec<&str> = reborn.iter().chain(&alone).copied().collect();
    stage.end(&all);
}

#[test]
fn a_node_reborn_under_vxlan_and_a_peer_that_was_not_told() {
    reborn("flannel vxlan", Backend::Vxlan);
}

#[test]
fn a_node_reborn_under_host_gw_and_a_peer_that_was_not_told() {
    reborn("flannel host-gw", Backend::HostGw);
}
