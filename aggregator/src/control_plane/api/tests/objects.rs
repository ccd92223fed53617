//! Objects: what cannot be read, what of them is kept, who else is asked.

use super::*;

#[tokio::test]
async fn an_object_that_cannot_be_read_stops_neither_a_list_nor_a_watch() {
    let torn = json!({"metadata": {"namespace": "shop", "name": "torn", "resourceVersion": "8"}, "spec": "what?"});
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch) {
        (PODS, false) => list("5", &[pod("a", 1), torn.clone()]),
        (PODS, true) if asked.nth == 0 => Reply::Watch(vec![
            json!({"type": "MODIFIED", "object": torn}),
            json!({"type": "ADDED", "object": pod("b", 9)}),
        ]),
        (NODES, false) => list(
            "5",
            &[
                node("a", 1),
                json!({"metadata": {"name": "b"}, "spec": {"podCIDRs": 7}}),
            ],
        ),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut pods, mut said) = (Vec::new(), std::collections::BTreeMap::new());
    let of = |event: PlaneEvent| {
        if let Some(names) = pods_of(&event) {
            pods = names;
        }
        if let PlaneEvent::Unreadable(resource, Some(unreadable)) = event {
            said.insert(resource, unreadable);
        }
        (pods.len() == 2 && said.len() == 2).then(|| (pods.clone(), said.clone()))
    };
    let (pods, said) = running.next("pods and what cannot be read", of).await;
    assert_eq!(pods, ["shop/a", "shop/b"]);
    assert!(said[&Resource::Pods].examples[0].starts_with("shop/torn: "), "{said:?}");
    assert_eq!((said[&Resource::Nodes].count, said[&Resource::Pods].count), (1, 1));
    running.stop().await;
}

/// The group of a kind, with its resources.

#[tokio::test]
async fn a_node_that_cannot_be_read_is_named_with_the_list_until_it_is_gone() {
    let odd = |version: u32| json!({"metadata": {"name": "b", "resourceVersion": version.to_string()}, "spec": {"podCIDRs": 7}});
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, 0) => list("5", &[node("a", 1), node("b", 2)]),
        (NODES, false, 1) => list("8", &[node("a", 1), odd(7)]),
        (NODES, false, _) => list("9", &[node("a", 1)]),
        (NODES, true, 0 | 1) => status(410, "Expired", "too old resource version"),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut told, mut unreadable) = (Vec::new(), Vec::new());
    let of = |event| {
        match event {
            PlaneEvent::Nodes(nodes, unread) => told.push((nodes.into_keys().collect::<Vec<_>>(), unread)),
            PlaneEvent::Unreadable(Resource::Nodes, what) => unreadable.push(what.map_or(0, |what| what.count)),
            _ => {}
        }
        (told.len() == 3 && unreadable.last() == Some(&0)).then_some(())
    };
    running.next("lists", of).await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(told[0], (names(&["a", "b"]), BTreeSet::new()));
    assert_eq!(told[1], (names(&["a"]), BTreeSet::from(["b".to_owned()])));
    assert_eq!(told[2], (names(&["a"]), BTreeSet::new()));
    running.stop().await;
}

#[tokio::test]
async fn labels_that_a_cluster_cidr_selects_by_are_kept_of_all_nodes() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch) {
        (NODES, false) => list("5", &[node("a", 1)]),
        ("/apis/networking.x-k8s.io/v1/clustercidrs", false) => list(
            "3",
            &[json!({"metadata": {"name": "r"}, "spec": {
            "perNodeHostBits": 8, "ipv4": "10.1.0.0/16",
            "nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "Exists"}]}]}}})],
        ),
        _ => discovery(asked, "networking.x-k8s.io", "v1", "clustercidrs").unwrap_or_else(|| quiet(asked)),
    })
    .await;
    let mut running = start(&server);
    let of = |event| match event {
        PlaneEvent::Nodes(nodes, _) => nodes["a"].labels.contains_key("rack").then_some(()),
        _ => None,
    };
    running.next("the label", of).await;
    running.stop().await;
}

#[tokio::test]
async fn managers_are_asked_where_that_is_allowed_and_it_is_said_where_not() {
    let manager = |name: &str| {
        json!({"metadata": {"namespace": "kube-system", "name": name, "labels": {"component": "kube-controller-manager"}},
            "spec": {"nodeName": "a", "hostNetwork": true, "containers": [{"name": "kube-controller-manager", "command": ["kube-controller-manager"]}]}})
    };
    for allowed in [true, false] {
        let server = Server::start(move |asked| match asked.path.as_str() {
            NODES if !asked.watch => list("5", &[node("a", 1)]),
            PODS if !asked.watch => list("5", &[manager("kube-controller-manager-a")]),
            "/api/v1/namespaces/kube-system/pods/https:kube-controller-manager-a:10257/proxy/metrics" if allowed => {
                Reply::Text("node_ipam_controller_cidrset_usage_cidrs{clusterCIDR=\"10.244.0.0/16\"} 0.25\n".to_owned())
            }
            _ => quiet(asked),
        })
        .await;
        let mut running = start(&server);
        if allowed {
            let of = |event| match event {
                PlaneEvent::PoolMetrics(read) => read.first().map(|pool| pool.usage),
                _ => None,
            };
            assert_eq!(running.next("pools", of).await, Some(0.25));
            running.live(Resource::ManagerMetrics).await;
        } else {
            let refused = |watched: &Watched| matches!(watched, Watched::Refused(why) if why.contains("forbidden"));
            running.fares(Resource::ManagerMetrics, refused).await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let source = Kubernetes {
        kubeconfig: Some(PathBuf::from("/nonexistent/kubeconfig")),
    };
    let run = source.run(Box::new(|_| {}), CancellationToken::new());
    let error = run.await.unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/kubeconfig") && error.contains("--kubeconfig"),
        "{error}"
    );
}

#[test]
fn a_watch_event_is_taken_as_it_stands() {
    for line in [
        r#"{"type":"ADDED","object":{"metadata":{"resourceVersion":"7"}}}"#.to_owned(),
        format!("{{\"type\":\"MODIFIED\",\"object\":{}}}", node("a", 7)),
        r#"{"type":"BOOKMARK","object":{"kind":"Node","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}"#
            .to_owned(),
    ] {
        let event: Result<kube::api::WatchEvent<follow::Raw>, _> = serde_json::from_str(&line);
        assert!(event.is_ok(), "{line}: {event:?}");
    }
}
