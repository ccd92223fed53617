//! Lists, and the watches that go on from them.

use super::*;

#[tokio::test]
async fn nodes_are_told_only_once_all_pages_are_listed_and_then_one_by_one() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch) {
        (NODES, false) => match asked.query.get("continue").map(String::as_str) {
            None => server::page("5", "more", &[node("a", 1)]),
            Some("more") => list("5", &[node("b", 2)]),
            Some(other) => panic!("{other}"),
        },
        (NODES, true) => Reply::Watch(vec![
            json!({"type": "MODIFIED", "object": node("b", 6)}),
            json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}}}),
            json!({"type": "DELETED", "object": node("a", 8)}),
        ]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut told = Vec::new();
    let of = |event: PlaneEvent| {
        match event {
            PlaneEvent::Source(source) => told.push(source),
            PlaneEvent::Nodes(nodes, _) => {
                told.push(format!("all: {}", nodes.into_keys().collect::<Vec<_>>().join(" ")))
            }
            PlaneEvent::Node(node) => told.push(node.name),
            PlaneEvent::NodeGone(name) => {
                told.push(format!("{name} gone"));
                return Some(());
            }
            _ => {}
        }
        None
    };
    running.next("nodes", of).await;
    assert_eq!(told[1..], ["all: a b", "b", "a gone"]);
    assert!(told[0].starts_with("Kubernetes API http://127.0.0.1"), "{told:?}");
    let asked = server.asked(NODES, true);
    assert_eq!(asked[0].query["resourceVersion"], "5");
    assert_eq!(asked[0].query["allowWatchBookmarks"], "true");
    running.stop().await;
}

#[tokio::test]
async fn a_broken_watch_of_nodes_is_over_only_when_all_are_listed_again() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, 0) => list("5", &[node("a", 1)]),
        (NODES, true, 0) => status(500, "InternalError", "etcdserver: leader changed"),
        (NODES, false, 1) => status(500, "InternalError", "apiserver not ready"),
        (NODES, false, _) => list("9", &[node("a", 9)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut told = Vec::new();
    let of = |event| {
        match event {
            PlaneEvent::Nodes(..) => told.push("all".to_owned()),
            PlaneEvent::StillSo => told.push("still so".to_owned()),
            PlaneEvent::Watch(Resource::Nodes, Watched::Broken(why)) => told.push(why),
            _ => {}
        }
        (told.len() >= 5).then_some(())
    };
    running.next("nodes", of).await;
    assert!(
        told[1].contains("leader changed") && told[2].contains("apiserver not ready"),
        "{told:?}"
    );
    assert_eq!(
        (told[0].as_str(), told[3].as_str(), told[4].as_str()),
        ("all", "all", "still so")
    );
    running.stop().await;
}

#[tokio::test]
async fn what_is_gone_by_the_api_servers_word_is_listed_anew() {
    // Once within the stream, as kube-apiserver says it, and once as an answer, as a proxy may.
    for direct in [false, true] {
        let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
            (PODS, false, 0) => list("5", &[pod("old", 1), pod("stays", 1)]),
            (PODS, true, 0) if direct => status(410, "Expired", "too old resource version: 5 (100)"),
            (PODS, true, 0) => Reply::End(vec![json!({"type": "ERROR", "object":
                {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 5 (100)"}})]),
            (PODS, false, _) => list("100", &[pod("new", 99), pod("stays", 1)]),
            _ => quiet(asked),
        })
        .await;
        let mut running = start(&server);
        let first = running.next("pods", |event| pods_of(&event)).await;
        assert_eq!(first, ["shop/old", "shop/stays"]);
        let second = running.next("pods", |event| pods_of(&event)).await;
        assert_eq!(second, ["shop/new", "shop/stays"]);
        running.live(Resource::Pods).await;
        assert_eq!(server.asked(PODS, true).last().unwrap().query["resourceVersion"], "100");
        running.stop().await;
    }
}

#[tokio::test]
async fn an_expired_page_starts_the_list_again() {
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (PODS, false, 0) => server::page("5", "more", &[pod("a", 1)]),
        (PODS, false, 1) => status(410, "Expired", "The provided continue parameter is too old"),
        (PODS, false, _) => list("9", &[pod("b", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    assert_eq!(
        running.next("pods", |event| pods_of(&event)).await,
        ["shop/b"],
        "half a list is never told"
    );
    running.stop().await;
}

#[tokio::test]
async fn what_may_not_be_read_is_said_in_the_api_servers_words() {
    let words = "pods is forbidden: User \"system:serviceaccount:x:y\" cannot list resource \"pods\"";
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch) {
        (PODS, false) => refused(words),
        (NODES, false) => list("5", &[node("a", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let mut waiting: std::collections::BTreeMap<Resource, Watched> = Default::default();
    let of = |event| {
        match event {
            PlaneEvent::Watch(_, Watched::Unlisted(_)) => {}
            PlaneEvent::Watch(resource, watched) => _ = waiting.insert(resource, watched),
            _ => {}
        }
        let wanted = [Resource::Pods, Resource::CniPods, Resource::Events];
        wanted
            .iter()
            .all(|resource| waiting.contains_key(resource))
            .then(|| waiting.clone())
    };
    let fares = running.next("refusals", of).await;
    assert_eq!(fares[&Resource::Pods], Watched::Refused(words.to_owned()));
    assert_eq!(fares[&Resource::CniPods], fares[&Resource::Pods]);
    assert!(matches!(fares[&Resource::Events], Watched::Live(_)));
    running.stop().await;
}

#[tokio::test]
async fn kinds_are_unlisted_before_nodes_are_told_and_until_their_first_list_is_through() {
    // The second page of Pods fails once: then all of them are listed anew.
    let server = Server::start(|asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, _) => list("5", &[node("a", 1)]),
        (PODS, false, 1) => status(500, "InternalError", "etcdserver: leader changed"),
        (PODS, false, nth) if nth != 3 => server::page("5", "more", &[pod("a", 1)]),
        (PODS, false, _) => list("5", &[pod("b", 1)]),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    let (mut told, mut pods) = (Vec::new(), false);
    let of = |event| {
        match event {
            PlaneEvent::Nodes(..) => told.push("nodes".to_owned()),
            PlaneEvent::AllPods(_) => pods = true,
            PlaneEvent::Watch(Resource::ManagerPods, Watched::Live(_)) => return Some(()),
            PlaneEvent::Watch(Resource::ManagerPods, watched) => {
                assert!(!pods, "{watched:?}");
                told.push(format!("{watched:?}"));
            }
            _ => {}
        }
        None
    };
    running.next("pods", of).await;
    assert_eq!(told[0], "Unlisted(None)", "{told:?}");
    assert!(pods && told.iter().any(|line| line == "nodes"), "{told:?}");
    let failed = |line: &String| line.starts_with("Unlisted(Some(") && line.contains("leader changed");
    assert!(told.iter().any(failed), "{told:?}");
    running.stop().await;
}
