//! Kinds and servers that come and go.

use super::*;

#[tokio::test]
async fn a_kind_that_comes_later_is_found_and_one_that_goes_is_absent() {
    let there = Arc::new(AtomicBool::new(false));
    let installed = Arc::clone(&there);
    let server = Server::start(move |asked| {
        let there = installed.load(Ordering::Relaxed);
        match (asked.path.as_str(), asked.watch) {
            // A CustomResourceDefinition is written whenever it comes or goes.
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", true) => Reply::Later(
                Duration::from_millis(1500),
                vec![json!({"type": "MODIFIED", "object": {"metadata": {"name": "x", "resourceVersion": (10 + asked.nth).to_string()}}})],
            ),
            ("/apis/crd.projectcalico.org/v1/ippools", false) if there => {
                list("3", &[json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.1.0.0/16"}})])
            }
            ("/apis/crd.projectcalico.org/v1/ippools", true) if there => Reply::End(Vec::new()),
            ("/apis/crd.projectcalico.org/v1/ippools", _) => status(404, "NotFound", "the server could not find the requested resource"),
            _ if there => discovery(asked, "crd.projectcalico.org", "v1", "ippools").unwrap_or_else(|| quiet(asked)),
            _ => quiet(asked),
        }
    })
    .await;
    let mut running = start(&server);
    running
        .fares(Resource::IpPools, |watched| *watched == Watched::Absent)
        .await;
    there.store(true, Ordering::Relaxed);
    let pools = |event| match event {
        PlaneEvent::Delegates(delegates) => Some(delegates.ip_pools.len()),
        _ => None,
    };
    assert_eq!(running.next("pools", pools).await, 1);
    there.store(false, Ordering::Relaxed);
    assert_eq!(running.next("no pools", pools).await, 0);
    running
        .fares(Resource::IpPools, |watched| *watched == Watched::Absent)
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_went_and_came_back_is_followed_from_where_it_was() {
    let answer = |asked: &Asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (PODS, false, _) => list("5", &[pod("a", 1)]),
        (PODS, true, 0) => Reply::Watch(vec![json!({"type": "BOOKMARK", "object":
            {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "42"}}})]),
        _ => quiet(asked),
    };
    let mut server = Server::start(answer).await;
    let mut running = start(&server);
    running.live(Resource::Pods).await;
    // The bookmark is behind the sign of life.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.stop().await;
    let broken = |watched: &Watched| matches!(watched, Watched::Broken(_));
    let Watched::Broken(why) = running.fares(Resource::Pods, broken).await else {
        panic!()
    };
    assert!(why.contains("refused"), "{why}");
    server.again().await;
    running.live(Resource::Pods).await;
    assert_eq!(
        server.asked(PODS, false).len(),
        1,
        "450,000 pods are not listed again for that"
    );
    assert_eq!(server.asked(PODS, true).last().unwrap().query["resourceVersion"], "42");
    running.stop().await;
}

/// A watch of each runs its time, and then the API server answers so when it is to be opened again.
async fn closed(again: fn() -> Reply) {
    let server = Server::start(move |asked| match (asked.path.as_str(), asked.watch, asked.nth) {
        (NODES, false, _) => list("5", &[node("a", 1)]),
        (NODES | PODS, true, 0) => Reply::Later(Duration::from_millis(1_200), Vec::new()),
        (NODES | PODS, true, _) => again(),
        _ => quiet(asked),
    })
    .await;
    let mut running = start(&server);
    running.live(Resource::Pods).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!server.asked(NODES, true).is_empty() && !server.asked(PODS, true).is_empty());
    while running.events.try_recv().is_ok() {}
    // By now it would have been said again, if it could have been.
    tokio::time::sleep(keep::STILL_SO).await;
    while let Ok(event) = running.events.try_recv() {
        let alive = matches!(
            event,
            PlaneEvent::StillSo | PlaneEvent::Watch(Resource::Pods, Watched::Live(_))
        );
        assert!(!alive, "{event:?}, though nothing is heard");
    }
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_still_so_while_a_watch_is_not_open_again_because_the_server_hangs() {
    closed(|| Reply::Hang).await;
}

#[tokio::test]
async fn nothing_is_still_so_while_a_watch_is_not_open_again_because_the_server_is_unavailable() {
    closed(|| {
        status(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        )
    })
    .await;
}
