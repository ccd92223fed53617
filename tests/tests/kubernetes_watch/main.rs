//! The aggregator's watches against a real kube-apiserver and etcd, kube-controller-manager and kubelet: what may not be
//! read, kinds that come later, objects that no schema keeps in order, an API server that goes and comes back, a history
//! that etcd has thrown away, and what the components themselves say.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod etcd;
mod forward;
mod role;
mod trust;
mod world;

use cidrift_aggregator::cluster::PlaneEvent;
use cidrift_aggregator::cluster::objects::{Resource, Watched};
use cidrift_lab::kubernetes::{Cni, Scenario, audit, cni};
use cidrift_lab::require::{Need, have};
use serde_json::json;

use world::{Watching, ask, install, pool, start, without_nodes};

fn is_live(watched: &Watched) -> bool {
    matches!(watched, Watched::Live(_))
}

#[test]
fn what_rbac_refuses_is_said_and_read_once_it_is_allowed() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(without_nodes());
    let rule = |resource: &str| json!([{"apiGroups": [""], "resources": [resource], "verbs": ["list", "watch"]}]);
    role::bind(&cluster, "reader", "nodes-only", rule("nodes"));
    cluster.api().create_fake_node("n1", &[]).unwrap();
    let mut watching = Watching::start(cluster.kubeconfig_for("reader", None, false).unwrap());
    let refused = watching.fares("refused", Resource::Pods, |watched| {
        matches!(watched, Watched::Refused(_))
    });
    let Watched::Refused(words) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        words.contains("pods is forbidden") && words.contains("\"reader\""),
        "{words}"
    );
    role::bind(&cluster, "reader", "pods-too", rule("pods"));
    watching.live(Resource::Pods);
    for (resource, fares) in &watching.fares {
        let refused = matches!(fares, Watched::Refused(_));
        match resource {
            Resource::Events | Resource::KubeadmConfig => assert!(refused, "{resource}: {fares:?}"),
            Resource::IpPools => assert_eq!(*fares, Watched::Absent),
            Resource::Pods | Resource::Nodes => assert!(is_live(fares), "{resource}: {fares:?}"),
            _ => {}
        }
    }
    assert!(watching.fares.contains_key(&Resource::Events) && watching.fares.contains_key(&Resource::IpPools));
}

#[test]
fn kinds_that_come_later_are_found_and_a_malformed_object_stops_nothing() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(without_nodes());
    let mut watching = Watching::start(cluster.kubeconfig());
    watching.fares("absent", Resource::IpPools, |watched| *watched == Watched::Absent);
    install(&cluster, "crd.projectcalico.org", "ippools", "IPPool");
    pool(&cluster, "good", json!({"cidr": "192.168.0.0/16"}));
    pool(&cluster, "malformed", json!("what?"));
    let (mut pools, mut odd) = (0, 0);
    watching.next("one pool and one that cannot be read", |event| {
        match event {
            PlaneEvent::Delegates(delegates) => pools = delegates.ip_pools.len(),
            PlaneEvent::Unreadable(Resource::IpPools, what) => odd = what.as_ref().map_or(0, |what| what.count),
            _ => {}
        }
        (pools == 1 && odd == 1).then_some(())
    });
    watching.live(Resource::IpPools);
    pool(&cluster, "later", json!({"cidr": "172.16.0.0/16"}));
    watching.next("the next pool", |event| match event {
        PlaneEvent::Delegates(delegates) => (delegates.ip_pools.len() == 2).then_some(()),
        _ => None,
    });
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.crd.projectcalico.org";
    ask(&cluster, "DELETE", definition, &json!({}));
    let (mut pools, mut odd, mut absent) = (2, 1, false);
    watching.next("the kind is gone, and all that it had", |event| {
        match event {
            PlaneEvent::Delegates(delegates) => pools = delegates.ip_pools.len(),
            PlaneEvent::Unreadable(Resource::IpPools, what) => odd = what.as_ref().map_or(0, |what| what.count),
            PlaneEvent::Watch(Resource::IpPools, watched) => absent = *watched == Watched::Absent,
            _ => {}
        }
        (pools == 0 && odd == 0 && absent).then_some(())
    });
}

#[test]
fn while_the_api_server_is_gone_nothing_is_forgotten_and_what_etcd_forgot_meanwhile_is_found_gone() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(without_nodes());
    cluster.api().create_fake_node("stays", &[]).unwrap();
    cluster.api().create_fake_node("goes", &[]).unwrap();
    cluster.api().create_pod("stays", Some("stays")).unwrap();
    cluster.api().create_pod("goes", Some("stays")).unwrap();
    let mut watching = Watching::start(cluster.kubeconfig());
    watching.next("both pods", |event| match event {
        PlaneEvent::AllPods(pods) => (pods.get("stays")?.pods.len() == 2).then_some(()),
        PlaneEvent::Pods(pods) => pods
            .iter()
            .find_map(|(_, pods)| (pods.as_ref()?.pods.len() == 2).then_some(())),
        _ => None,
    });
    watching.live(Resource::Pods);

    cluster.plane().apiserver.kill();
    let (mut nodes, mut pods) = (false, false);
    let mut lost = Vec::new();
    watching.next("both are broken", |event| {
        match event {
            PlaneEvent::Watch(Resource::Nodes, Watched::Broken(_)) => nodes = true,
            PlaneEvent::Watch(Resource::Pods, Watched::Broken(_)) => pods = true,
            PlaneEvent::NodeGone(_) | PlaneEvent::Nodes(..) | PlaneEvent::Pods(_) | PlaneEvent::AllPods(_) => {
                lost.push(format!("{event:?}"));
            }
            _ => {}
        }
        (nodes && pods).then_some(())
    });
    assert!(lost.is_empty(), "{lost:#?}");
    etcd::delete_and_forget(&cluster, "/registry/pods/default/goes");
    etcd::delete_and_forget(&cluster, "/registry/minions/goes");
    cluster.plane().apiserver.start_again().unwrap();

    let (mut nodes, mut pods, mut live) = (None, 2, false);
    watching.next("what is left, and that it is live again", |event| {
        match event {
            PlaneEvent::Nodes(all, _) => {
                // A server that is starting may never look like a cluster without Nodes.
                assert!(all.contains_key("stays"), "{all:?}");
                nodes = Some(all.len());
            }
            PlaneEvent::AllPods(all) => pods = all.get("stays").map_or(0, |pods| pods.pods.len()),
            PlaneEvent::Pods(changed) => {
                let of_node = changed.iter().find(|(node, _)| node == "stays");
                pods = of_node.map_or(pods, |(_, pods)| pods.as_ref().map_or(0, |pods| pods.pods.len()));
            }
            PlaneEvent::Watch(Resource::Pods, watched) => live = is_live(watched),
            _ => {}
        }
        assert!(pods > 0, "all pods were lost");
        (nodes == Some(1) && pods == 1 && live).then_some(())
    });
}

/// Kinds of CNI allocators: group, plural, kind.
const KINDS: [(&str, &str, &str); 8] = [
    ("cilium.io", "ciliumnodes", "CiliumNode"),
    ("crd.projectcalico.org", "ippools", "IPPool"),
    ("projectcalico.org", "blockaffinities", "BlockAffinity"),
    ("crd.projectcalico.org", "blockaffinities", "BlockAffinity"),
    ("networking.x-k8s.io", "clustercidrs", "ClusterCIDR"),
    ("acn.azure.com", "nodenetworkconfigs", "NodeNetworkConfig"),
    ("vpcresources.k8s.aws", "cninodes", "CNINode"),
    ("config.openshift.io", "networks", "Network"),
];

#[test]
fn with_the_role_of_the_readme_nothing_is_refused_and_the_components_own_words_arrive() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(Scenario {
        nodes: 1,
        cni: Cni::Bridge,
        // One block: n1 has it, and nobody after it gets any.
        cluster_cidr: vec!["10.244.0.0/24".parse().unwrap()],
        // Through the API server's proxy nobody is known to it.
        kcm_flags: vec!["--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics".to_owned()],
        ..Scenario::default()
    });
    for (group, plural, kind) in KINDS {
        install(&cluster, group, plural, kind);
    }
    role::grant(&cluster, "aggregator");
    let mut watching = Watching::start(cluster.kubeconfig_for("aggregator", None, false).unwrap());
    let every = [
        Resource::Pods,
        Resource::Events,
        Resource::KubeadmConfig,
        Resource::KubeProxyConfig,
        Resource::FlannelConfig,
        Resource::CiliumConfig,
        Resource::AntreaConfig,
        Resource::CiliumNodes,
        Resource::IpPools,
        Resource::BlockAffinities,
        Resource::ClusterCidrs,
        Resource::NodeNetworkConfigs,
        Resource::CniNodes,
        Resource::OpenShiftNetworks,
    ];
    let mut left: Vec<Resource> = every.to_vec();
    watching.next("everything is live", |event| {
        match event {
            PlaneEvent::Watch(resource, watched) if is_live(watched) => left.retain(|other| other != resource),
            PlaneEvent::Watch(resource, Watched::Refused(why)) => panic!("{resource}: {why}"),
            _ => {}
        }
        left.is_empty().then_some(())
    });

    // kube-controller-manager has nothing left for a second Node, and says so.
    let second = cluster.api().create_fake_node("second", &[]).unwrap();
    let events = watching.next("CIDRNotAvailable", |event| match event {
        PlaneEvent::Allocation(node, Some(events)) if node == "second" => Some((**events).clone()),
        _ => None,
    });
    let told = events.not_available.unwrap();
    assert_eq!(
        (told.component.as_str(), Some(events.uid)),
        ("cidrAllocator", second.metadata.uid)
    );
    assert!(
        told.message.contains("status is now: CIDRNotAvailable"),
        "{}",
        told.message
    );
    assert!(
        told.first.is_some() && told.last >= told.first && told.count > 0,
        "{told:?}"
    );

    // Its own pod, as kubeadm would have it; where it answers, the API server's proxy finds it.
    let container = json!({"name": "kube-controller-manager", "image": "registry.k8s.io/kube-controller-manager",
        "command": ["kube-controller-manager", "--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/24"]});
    ask(
        &cluster,
        "POST",
        "/api/v1/namespaces/kube-system/pods",
        &json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "kube-controller-manager-second", "labels": {"component": "kube-controller-manager"}},
            "spec": {"nodeName": "second", "hostNetwork": true, "containers": [container],
                "automountServiceAccountToken": false, "tolerations": [{"operator": "Exists"}]}}),
    );
    let last_words = "failed to mark cidr[10.244.9.0/24]";
    let ended = json!({"terminated": {"exitCode": 1, "message": last_words, "finishedAt": "2026-01-02T03:04:05Z"}});
    ask(
        &cluster,
        "PATCH",
        "/api/v1/namespaces/kube-system/pods/kube-controller-manager-second/status",
        &json!({"status": {"phase": "Running", "podIP": "172.30.0.1", "podIPs": [{"ip": "172.30.0.1"}],
            "containerStatuses": [{"name": "kube-controller-manager", "ready": true, "restartCount": 3, "image": "x",
                "imageID": "x", "state": {"running": {"startedAt": "2026-01-02T03:04:10Z"}}, "lastState": ended}]}}),
    );
    let key = "kube-system/kube-controller-manager-second";
    let manager = watching.next("the instance, running", |event| match event {
        PlaneEvent::Managers(all) => all.get(key).filter(|manager| manager.ready).cloned(),
        _ => None,
    });
    assert_eq!(manager.flags.cluster_cidr, ["10.244.0.0/24".parse().unwrap()]);
    assert_eq!(manager.flags.allocate_node_cidrs, Some(true));
    assert_eq!((manager.restarts, manager.node.as_deref()), (3, Some("second")));
    assert_eq!(manager.last_exit, Some((1, last_words.to_owned())));
    let metrics = watching.next("its pool", |event| match event {
        PlaneEvent::PoolMetrics(pools) => pools.first().cloned(),
        _ => None,
    });
    assert_eq!(
        (metrics.range, metrics.manager.as_str()),
        ("10.244.0.0/24".parse().unwrap(), key)
    );
    assert_eq!((metrics.usage, metrics.max), (Some(1.0), Some(1)));

    // A conflist whose plugin is not there: kubelet itself says which pod has no sandbox, and when it has one.
    let n1 = cluster.node("n1").unwrap();
    let nowhere = json!({"cniVersion": "0.4.0", "name": "bench", "plugins": [{"type": "nowhere"}]});
    cni::write_conflist(&n1.cni_directory(), cni::CONFLIST, &nowhere).unwrap();
    // containerd follows its directory; were the pod made before it has read it, it would run.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let uid = cluster
        .api()
        .create_pod("late", Some("n1"))
        .unwrap()
        .metadata
        .uid
        .unwrap();
    let failures = watching.next("FailedCreatePodSandBox", |event| match event {
        PlaneEvent::Sandboxes(node, Some(failures)) if node == "n1" => Some(failures.clone()),
        _ => None,
    });
    assert_eq!(failures.total, 1);
    let failing = &failures.failing[0];
    assert_eq!(
        (failing.pod.as_str(), failing.uid.as_str()),
        ("default/late", uid.as_str())
    );
    assert_eq!(failing.told.component, "kubelet");
    assert!(failing.told.message.contains("nowhere"), "{}", failing.told.message);
    cluster.sync_bridge().unwrap();
    let (mut running, mut clear) = (None, false);
    watching.next("it runs, and fails no more", |event| {
        match event {
            PlaneEvent::Sandboxes(node, failures) if node == "n1" => clear = failures.is_none(),
            PlaneEvent::Pods(changed) => {
                let pods = changed
                    .iter()
                    .find(|(node, _)| node == "n1")
                    .and_then(|(_, pods)| pods.as_ref());
                let pod = pods.and_then(|pods| pods.pods.iter().find(|pod| &*pod.name == "default/late"));
                running = pod
                    // Its address comes a moment after its sandbox.
                    .filter(|pod| pod.sandbox_since > 0 && pod.addresses.v4.is_some())
                    .cloned()
                    .or(running.take());
            }
            _ => {}
        }
        (running.is_some() && clear).then_some(())
    });
    let pod = running.unwrap();
    let range: ipnet::Ipv4Net = "10.244.0.0/24".parse().unwrap();
    assert!(
        pod.addresses.v4.is_some_and(|address| range.contains(&address)),
        "{pod:?}"
    );
    assert_eq!(&*pod.uid, uid);

    let asked = audit::asked(&cluster, "aggregator", None).unwrap();
    assert!(asked.refused.is_empty(), "{:#?}", asked.refused);
    // Where the first of Calico's groups is served, the other is not asked for.
    let mut rights = role::rights();
    rights.retain(|(group, ..)| group != "projectcalico.org");
    assert_eq!(asked.used, rights);
}
