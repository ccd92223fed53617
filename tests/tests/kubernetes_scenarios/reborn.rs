//! POOL12: a Node is deleted and made again with another CIDR while its pods run on.

use cidrift_lab::kubernetes::{Api, Cluster, Scenario, kubeadm};
use cidrift_lab::ping::ping;
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use ipnet::IpNet;

use crate::node::swap;
use crate::stage::{PATIENCE, Says, Stage};

/// Makes a pod on the node; returns its address.
fn pod(api: &Api, name: &str, node: &str) -> std::net::IpAddr {
    api.create_pod(name, Some(node)).unwrap();
    api.wait_running(name, PATIENCE).unwrap()[0]
}

fn reach(cluster: &Cluster, from: (&str, &str), to: std::net::IpAddr) -> bool {
    let netns = cluster.node(from.1).unwrap().pod_netns("default", from.0).unwrap();
    ping(&netns, to, 3).unwrap().is_some()
}

#[test]
fn a_node_reborn_under_another_cidr_is_told_while_its_pods_run_on_with_the_old_one() {
    if !have(Need::Kubernetes) {
        return;
    }
    let mut stage = Stage::start("node reborn", Scenario::default());
    let cluster = stage.cluster();
    let api = cluster.api();
    let scenario = cluster.scenario();
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    let old = pod(api, "old", "n1");
    let peer = pod(api, "peer", "n2");
    let was = api.wait_cidrs("n1", PATIENCE).unwrap()[0];
    stage.only(&[]);
    stage.mark("pods");

    let now: IpNet = "10.244.7.0/24".parse().unwrap();
    swap(&cluster, "n1", now);
    let n1 = cluster.node("n1").unwrap();
    stage.mark("the kubelet follows");
    // It goes on as if nothing were: Ready, the pod runs with its old address, and even a new one gets such.
    assert!(was.contains(&old));
    assert_eq!(api.wait_running("old", PATIENCE).unwrap(), [old]);
    let late = pod(api, "late", "n1");
    assert!(was.contains(&late), "{late}");
    assert!(reach(&cluster, ("peer", "n2"), old), "n2 still has the route");

    let says = Says {
        summary: &["10.244.7.0/24", "still routed by n1 and n2", "2 pods run on"],
        evidence: &[
            ("pods of n1", "default/old has"),
            ("kernel of n1", "dev cni0"),
            ("kernel of n2", "via 172.30.0.11"),
        ],
        cause: &["got another CIDR", "Some of them started after that"],
        remedy: &["kubectl delete pod"],
        explained_by: Some(&[]),
        ..Says::default()
    };
    stage.open("POOL12/n1", &says);
    let why = Some(["POOL12/n1"].as_slice());
    let says = Says {
        evidence: &[(
            "/etc/cni/net.d/10-bridge.conflist on n1",
            &format!("host-local ranges {was}"),
        )],
        remedy: &["Put 10.244.7.0/24 into the ipam block of /etc/cni/net.d/10-bridge.conflist"],
        explained_by: why,
        ..Says::default()
    };
    stage.open("HOST01/n1", &says);
    let says = Says {
        evidence: &[("kernel of n1", "cni0: inet 10.244.0.1/24")],
        remedy: &["Mend HOST01 first", "ip link delete cni0"],
        explained_by: why,
        ..Says::default()
    };
    stage.open("HOST02/n1", &says);
    let says = Says {
        summary: &["which no node owns"],
        evidence: &[("kernel of n2", "via 172.30.0.11")],
        remedy: &["On n2: ip route del"],
        explained_by: why,
        ..Says::default()
    };
    stage.open("PATH03/n2", &says);
    let says = Says {
        summary: &["2 running pods have addresses outside 10.244.7.0/24"],
        evidence: &[("containerd.sock on n1", "default/old")],
        explained_by: why,
        ..Says::default()
    };
    stage.open("HOST03/n1", &says);
    let open = ["HOST01/n1", "HOST02/n1", "HOST03/n1", "PATH03/n2", "POOL12/n1"];
    stage.only(&open);
    stage.mark("found");
    // A fresh aggregator has not seen the first Node: the pods that are older than the second show it.
    stage.crash(&open);

    // The remedies, in their order: the configuration, the pods, the bridge, the others' routes.
    cluster.sync_bridge().unwrap();
    for name in ["old", "late"] {
        api.delete_pod(name).unwrap();
    }
    n1.ip.del_link("cni0").unwrap();
    let (n2, via) = (cluster.node("n2").unwrap(), n1.addresses[0]);
    n2.ip.del_route(&Route::via(was, via, "eth0")).unwrap();
    let new = pod(api, "new", "n1");
    assert!(now.contains(&new), "{new}");
    assert!(reach(&cluster, ("peer", "n2"), new) && reach(&cluster, ("new", "n1"), peer));
    stage.mark("mended");
    stage.only(&[]);
    stage.end(&open);
}
