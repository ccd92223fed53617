//! The query service over real gRPC, on an engine that is told what hosts see.

mod support;

use std::time::Duration;

use cidrift_aggregator::cluster::HostEvent;
use cidrift_aggregator::query::answer::{PathRow, WatchEvent};
use cidrift_aggregator::query::convert;
use cidrift_aggregator::summary::Health;
use cidrift_proto::finding::{Finding, FindingState};
use cidrift_proto::landing::{Discard, ForwardingEntry, Landing};
use cidrift_proto::v1;
use cidrift_proto::verdict::Verdict;
use support::{HOLD, World, cidr, entry, name, nothing, via};
use tonic::{Code, Streaming};

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(stream: &mut Streaming<v1::FindingEvent>) -> Option<WatchEvent> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await;
    let wire = message.expect("in time").expect("no error")?;
    convert::event_from_wire(&wire).expect("well formed")
}

async fn finding(stream: &mut Streaming<v1::FindingEvent>) -> Finding {
    match next(stream).await {
        Some(WatchEvent::Finding { finding }) => *finding,
        other => panic!("a finding was expected, not {other:?}"),
    }
}

async fn watch(world: &World, node: &str, code: &str) -> Streaming<v1::FindingEvent> {
    let request = v1::WatchFindingsRequest {
        node: node.to_owned(),
        code: code.to_owned(),
    };
    let answer = world.client().await.watch_findings(request).await;
    answer.expect("watched").into_inner()
}

async fn path(world: &World, from: &str, to: &str) -> Result<v1::Path, tonic::Status> {
    let request = v1::GetPathRequest {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    Ok(world.client().await.get_path(request).await?.into_inner())
}

#[tokio::test]
async fn an_aggregator_that_knows_nothing_is_not_healthy() {
    let world = World::empty().await;
    let wire = world.client().await.get_status(v1::GetStatusRequest {}).await;
    let answer = convert::status_from_wire(&wire.expect("answered").into_inner()).expect("well formed");
    assert_eq!(answer.status.health, Health::Unknown);
}

#[tokio::test]
async fn a_whole_cluster_is_healthy_and_says_so_node_by_node() {
    let world = World::healthy().await;
    let mut client = world.client().await;
    let wire = client
        .get_status(v1::GetStatusRequest {})
        .await
        .expect("answered")
        .into_inner();
    let answer = convert::status_from_wire(&wire).expect("well formed");
    assert_eq!(answer.status.unknowns, Vec::<String>::new());
    assert_eq!(answer.status.health, Health::Healthy);
    assert_eq!(answer.status.pairs.delivered, 9);
    assert_eq!(wire.pairs, 9);

    let wire = client
        .list_nodes(v1::ListNodesRequest {})
        .await
        .expect("answered")
        .into_inner();
    let rows: Vec<_> = wire
        .nodes
        .iter()
        .map(|row| convert::summary_from_wire(row).expect("well formed"))
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["node-a", "node-b", "node-c"]);
    for row in &rows {
        assert_eq!(row.health, Health::Healthy, "{}", row.name);
        assert_eq!(row.plugin, "flannel");
    }

    let request = v1::GetNodeRequest { name: name(1) };
    let wire = client.get_node(request).await.expect("answered").into_inner();
    let node = convert::detail_from_wire(&wire).expect("well formed");
    // The wire loses nothing of what the engine says.
    let now = node.summary.last_report.expect("heard of");
    let told = world.engine.read(|state| state.node(&name(1), now)).expect("known");
    assert_eq!(node.verdicts, told.verdicts);
    assert_eq!(node.entries, told.entries);
    assert_eq!(node.facts, told.facts);
    assert_eq!(node.summary.pod_cidrs, [cidr(1)]);
}

#[tokio::test]
async fn a_watcher_sees_a_finding_pending_then_open_then_resolved() {
    let mut world = World::healthy().await;
    let mut stream = watch(&world, "", "route-missing").await;
    assert_eq!(next(&mut stream).await, Some(WatchEvent::Synced));

    world.change(0, 2, vec![nothing(1, world.now)]);
    let pending = finding(&mut stream).await;
    assert_eq!(
        (pending.id.as_str(), pending.state),
        ("PATH01/node-a", FindingState::Pending)
    );

    world.pass(HOLD * 2);
    let open = finding(&mut stream).await;
    assert_eq!((open.id.as_str(), open.state), ("PATH01/node-a", FindingState::Open));
    assert!(!open.claim.evidence.is_empty());
    assert!(!open.claim.remedy.is_empty());

    let mut late = watch(&world, "", "PATH01").await;
    assert_eq!(finding(&mut late).await.id, "PATH01/node-a");
    assert_eq!(next(&mut late).await, Some(WatchEvent::Synced));

    world.change(0, 3, vec![entry(1, via(1), world.now)]);
    let resolved = finding(&mut stream).await;
    assert_eq!(
        (resolved.id.as_str(), resolved.state),
        ("PATH01/node-a", FindingState::Resolved)
    );
    assert_eq!(finding(&mut late).await.state, FindingState::Resolved);
}

#[tokio::test]
async fn lists_hold_what_was_asked_for_and_history_on_request() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![nothing(1, world.now)]);
    world.pass(HOLD * 2);
    let mut client = world.client().await;
    let list = async |client: &mut v1::query_service_client::QueryServiceClient<_>, all, node: &str, code: &str| {
        let request = v1::ListFindingsRequest {
            include_resolved: all,
            node: node.to_owned(),
            code: code.to_owned(),
        };
        let answer = client.list_findings(request).await?.into_inner();
        let ids = answer.findings.into_iter().map(|finding| finding.id);
        Ok::<Vec<String>, tonic::Status>(ids.collect())
    };
    let everything = list(&mut client, false, "", "").await.expect("answered");
    assert!(everything.contains(&"PATH01/node-a".to_owned()), "{everything:?}");
    assert_eq!(
        list(&mut client, false, "node-a", "path01").await.expect("answered"),
        ["PATH01/node-a"]
    );
    assert_eq!(list(&mut client, false, "", "POOL08").await.expect("answered"), [""; 0]);

    world.change(0, 3, vec![entry(1, via(1), world.now)]);
    world.pass(HOLD * 2);
    assert_eq!(list(&mut client, false, "", "PATH01").await.expect("answered"), [""; 0]);
    assert_eq!(
        list(&mut client, true, "", "PATH01").await.expect("answered"),
        ["PATH01/node-a"]
    );

    let wrong = list(&mut client, false, "", "PATH99").await.expect_err("no such code");
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().contains("PATH99"), "{wrong}");
    let unknown = list(&mut client, false, "node-x", "").await.expect_err("no such node");
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("did you mean node-a"), "{unknown}");
}

#[tokio::test]
async fn a_path_is_asked_by_name_or_by_a_pods_address() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![entry(1, via(2), world.now)]);
    for (from, to) in [
        ("node-a", "node-b"),
        ("node-a", "10.244.1.7"),
        ("10.244.0.3", "10.244.1.7"),
    ] {
        let path = convert::path_from_wire(&path(&world, from, to).await.expect("answered")).expect("well formed");
        assert_eq!((path.from.as_str(), path.to.as_str()), ("node-a", "node-b"));
        assert_eq!(path.health, Health::Findings);
        let forward: Vec<_> = path.forward.iter().map(|v| (v.cidr, v.verdict.clone())).collect();
        assert_eq!(forward, [(cidr(1), Verdict::Misdelivered { to: name(2) })]);
        assert_eq!(path.backward.len(), 1);
        assert_eq!(path.backward[0].verdict, Verdict::Delivered);
    }
}

async fn paths(world: &World, from: &[&str], to: &str) -> Result<Vec<v1::PathPage>, tonic::Status> {
    let request = v1::ListPathsRequest {
        to: to.to_owned(),
        from: from.iter().map(|&name| name.to_owned()).collect(),
    };
    let mut stream = world.client().await.list_paths(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

async fn rows(world: &World, from: &[&str], to: &str) -> Vec<PathRow> {
    let pages = paths(world, from, to).await.expect("answered");
    let (last, others) = pages.split_last().expect("a page");
    assert!(
        last.last && others.iter().all(|page| !page.last),
        "the last page says so"
    );
    let rows = pages.iter().flat_map(|page| &page.rows);
    rows.map(|row| convert::row_from_wire(row).expect("well formed"))
        .collect()
}

/// Whoever asks about all at once is told what he would be told of each.
#[tokio::test]
async fn ways_of_many_nodes_are_those_of_each_of_them() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![entry(1, via(2), world.now)]);
    world.tell(2, HostEvent::Lost { reason: "a gap".into() });
    for to in ["node-b", "10.244.1.7", "node-c"] {
        let told = rows(&world, &[], to).await;
        let mut each = Vec::new();
        for row in &told {
            let one = path(&world, &row.from, to).await.expect("answered");
            let one = convert::path_from_wire(&one).expect("well formed");
            assert_eq!(row.health(), one.health, "{} and {to}", row.from);
            each.push(PathRow::from(one));
        }
        assert_eq!(told, each, "{to}");
        assert_eq!(told.len(), 2, "all but itself");
    }
    let wrong = &rows(&world, &["node-a"], "node-b").await[0];
    assert_eq!(
        (wrong.forward.health, wrong.backward.health),
        (Health::Findings, Health::Healthy)
    );
    assert_eq!(wrong.forward.wrong[0].verdict, Verdict::Misdelivered { to: name(2) });
    assert!(wrong.backward.wrong.is_empty());
    // Who is not known is not told of, and so not known to arrive.
    let some = rows(&world, &["node-x", "node-c", "node-c"], "node-b").await;
    assert_eq!(some.iter().map(|row| row.from.as_str()).collect::<Vec<_>>(), ["node-c"]);
    let refused = paths(&world, &[], "192.0.2.1").await.expect_err("nobody's");
    assert_eq!(refused.code(), Code::NotFound);
}

/// What is left out is right, and everything else is there.
#[tokio::test]
async fn views_are_whole_but_for_ways_that_are_right() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![entry(1, via(2), world.now)]);
    // What lies behind a route that drops is right, and matters.
    let part = "10.244.2.0/25".parse().expect("a prefix");
    let how = Discard::Blackhole;
    let dropped = ForwardingEntry {
        prefix: part,
        ..entry(2, Landing::Discard { how }, world.now)
    };
    world.change(1, 2, vec![dropped]);
    let answer = world.client().await.list_views(v1::ListViewsRequest {}).await;
    let mut stream = answer.expect("answered").into_inner();
    let mut views = Vec::new();
    let mut plain = Vec::new();
    while let Some(page) = stream.message().await.expect("whole") {
        plain.extend(page.plain);
        views.extend(page.views);
        if page.last {
            break;
        }
    }
    assert_eq!(plain.len(), 3);
    let views: Vec<_> = views
        .iter()
        .map(|view| convert::detail_from_wire(view).expect("well formed"))
        .collect();
    assert_eq!(views.len(), 3);
    for (n, view) in (0..).zip(&views) {
        let request = v1::GetNodeRequest { name: name(n) };
        let whole = world
            .client()
            .await
            .get_node(request)
            .await
            .expect("answered")
            .into_inner();
        let whole = convert::detail_from_wire(&whole).expect("well formed");
        assert_eq!(
            (&view.summary.name, &view.facts, &view.classification),
            (&whole.summary.name, &whole.facts, &whole.classification)
        );
        let mut kept = whole.entries.clone();
        kept.retain(|entry| match n {
            0 => [cidr(0), cidr(1)].contains(&entry.prefix),
            1 => [cidr(1), cidr(2), part].contains(&entry.prefix),
            _ => entry.prefix == cidr(n),
        });
        assert_eq!(
            view.entries, kept,
            "its own, what leads astray, and what is behind that"
        );
    }
}

#[tokio::test]
async fn an_end_that_does_not_exist_is_answered_with_what_does() {
    let world = World::healthy().await;
    for (to, code, says) in [
        ("node-bb", Code::NotFound, "did you mean node-b"),
        ("192.0.2.1", Code::NotFound, "no node's pod CIDR contains 192.0.2.1"),
        ("172.30.0.11", Code::NotFound, "that of node node-b"),
        ("", Code::InvalidArgument, "to:"),
    ] {
        let refused = path(&world, "node-a", to).await.expect_err(to);
        assert_eq!(refused.code(), code, "{to}: {refused}");
        assert!(refused.message().contains(says), "{to}: {refused}");
    }
    let request = v1::GetNodeRequest { name: "Node-A".into() };
    let refused = world
        .client()
        .await
        .get_node(request)
        .await
        .expect_err("names are lower case");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn the_pool_counts_what_nodes_have() {
    let world = World::healthy().await;
    let wire = world.client().await.get_pool(v1::GetPoolRequest {}).await;
    let pool = convert::pool_from_wire(&wire.expect("answered").into_inner()).expect("well formed");
    assert_eq!(pool, world.engine.read(|state| state.pool_report()));
    assert_eq!((pool.ranges[0].capacity, pool.ranges[0].used), (256, 3));
    assert_eq!(pool.service_ranges.len(), 1);
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_its_watchers() {
    let world = World::healthy().await;
    let mut stream = watch(&world, "", "").await;
    assert_eq!(next(&mut stream).await, Some(WatchEvent::Synced));
    world.stop.cancel();
    assert_eq!(next(&mut stream).await, None);
    drop(stream);
    let served = tokio::time::timeout(PATIENCE, world.server).await;
    served.expect("in time").expect("no panic").expect("no error");
}
