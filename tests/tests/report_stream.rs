//! Report streams over real gRPC on loopback: what an aggregator answers to
//! agents that speak well, badly, twice or too much, and restarts of either side.

#![allow(clippy::unwrap_used)]

mod report_stream_parts;

use std::time::Duration;

use cidrift_agent::report::stream::{Event, ProblemKind};
use cidrift_aggregator::ingest::Limits;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind as Up;
use cidrift_proto::v1::aggregator_message::Kind as Down;
use report_stream_parts::{Aggregator, FakeAgent, Talker, chunk, delta, hello};
use tonic::Code;

#[tokio::test]
async fn an_unknown_protocol_version_is_refused_with_both_versions() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut odd = hello("node-a", "one");
    odd.protocol = 42;
    let status = Talker::open(&aggregator, odd).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("protocol 42") && status.message().contains("speaks 1"),
        "{status}"
    );
}

#[tokio::test]
async fn a_nameless_agent_is_refused() {
    let aggregator = Aggregator::start(Limits::default()).await;
    for name in ["", "Node_A", &"a".repeat(300)] {
        let status = Talker::open(&aggregator, hello(name, "one")).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_closed() {
    let limits = Limits {
        hello_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let aggregator = Aggregator::start(limits).await;
    let status = Talker::mute(&aggregator).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn welcome_comes_with_an_expectation_and_every_new_one_follows() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut talker = Talker::open(&aggregator, hello("node-a", "one")).await.unwrap();
    assert!(matches!(talker.hear().await.unwrap(), Down::Welcome(w) if w.applied == 0 && w.protocol == 1));
    assert!(matches!(talker.hear().await.unwrap(), Down::Expectation(e) if e.revision == 0));
    aggregator.expect(7, "10.244.1.0/24");
    assert!(
        matches!(talker.hear().await.unwrap(), Down::Expectation(e) if e.revision == 7 && e.pod_cidrs[0].length == 24)
    );
}

#[tokio::test]
async fn duplicated_deltas_are_applied_once() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut talker = Talker::welcome(&aggregator, "node-a", "one").await;
    talker.say(Up::Snapshot(chunk(0, 0, true))).await;
    for sequence in [1, 1, 2, 2, 1] {
        talker.say(Up::Delta(delta(sequence, 9))).await;
    }
    talker.hear_ack(2).await;
    aggregator
        .until("node-a", |host| host.applied == 2 && host.deltas == 2)
        .await;
}

#[tokio::test]
async fn reordered_deltas_make_the_view_lost_until_a_snapshot() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut talker = Talker::welcome(&aggregator, "node-a", "one").await;
    talker.say(Up::Snapshot(chunk(0, 0, true))).await;
    for sequence in [2, 1] {
        talker.say(Up::Delta(delta(sequence, 9))).await;
    }
    let reason = talker.hear_resync().await;
    assert_eq!(reason, "delta 2 came, 0 was the last applied");
    aggregator.until("node-a", |host| !host.whole).await;
    talker.say(Up::Snapshot(chunk(2, 0, false))).await;
    talker.say(Up::Snapshot(chunk(2, 1, true))).await;
    aggregator
        .until("node-a", |host| {
            host.whole && host.applied == 2 && host.entries.len() == 2
        })
        .await;
}

#[tokio::test]
async fn invalid_prefixes_are_refused_whole_and_in_the_end_close_the_stream() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut talker = Talker::welcome(&aggregator, "node-a", "one").await;
    let mut bad = delta(1, 9);
    bad.removed.push(v1::Prefix {
        address: vec![10, 0, 0, 1],
        length: 99,
    });
    for _ in 0..3 {
        talker.say(Up::Snapshot(chunk(0, 0, true))).await;
        talker.say(Up::Delta(bad.clone())).await;
        let reason = talker.hear_resync().await;
        assert!(reason.contains("prefix length 99 is more than 32"), "{reason}");
    }
    talker.say(Up::Snapshot(chunk(0, 0, true))).await;
    talker.say(Up::Delta(bad)).await;
    let status = talker.hear_end().await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    aggregator
        .until("node-a", |host| host.deltas == 0 && host.entries.len() == 1)
        .await;
}

#[tokio::test]
async fn an_oversize_message_ends_the_stream_and_nothing_else() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut talker = Talker::welcome(&aggregator, "node-a", "one").await;
    let mut neighbour = Talker::welcome(&aggregator, "node-b", "one").await;
    let mut huge = delta(1, 9);
    huge.upserts = vec![huge.upserts[0].clone(); 60_000];
    talker.say(Up::Delta(huge)).await;
    let status = talker.hear_end().await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    neighbour.say(Up::Snapshot(chunk(3, 0, true))).await;
    neighbour.hear_ack(3).await;
}

#[tokio::test]
async fn the_newest_stream_of_a_node_wins() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut old = Talker::welcome(&aggregator, "node-a", "one").await;
    let mut new = Talker::welcome(&aggregator, "node-a", "two").await;
    let status = old.hear_end().await;
    assert_eq!(status.code(), Code::Aborted, "{status}");
    new.say(Up::Snapshot(chunk(3, 0, true))).await;
    new.hear_ack(3).await;
    aggregator
        .until("node-a", |host| host.connected && host.instance == "two")
        .await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let limits = Limits {
        max_streams: 1,
        ..Limits::default()
    };
    let aggregator = Aggregator::start(limits).await;
    let talker = Talker::welcome(&aggregator, "node-a", "one").await;
    let status = Talker::open(&aggregator, hello("node-b", "one")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    drop(talker);
    aggregator.until("node-a", |host| !host.connected).await;
    Talker::welcome(&aggregator, "node-b", "one").await;
}

#[tokio::test]
async fn an_aggregator_restarted_in_mid_stream_gets_everything_anew() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut agent = FakeAgent::start(aggregator.address, "one");
    agent.set(1);
    agent.run_until_up().await;
    aggregator.until("node-a", |host| host.whole).await;
    agent.set(2);
    agent.pump();
    aggregator.until("node-a", |host| host.entries.len() == 2).await;

    let address = aggregator.address;
    aggregator.stop().await;
    agent.set(3);
    agent.run_until_down().await;
    let aggregator = Aggregator::start_at(address, Limits::default()).await;
    agent.set(4);
    agent.run_until_up().await;
    aggregator
        .until("node-a", |host| {
            host.whole && host.entries.len() == 4 && host.snapshots == 1
        })
        .await;
}

#[tokio::test]
async fn a_broken_connection_is_resumed_without_a_snapshot() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut agent = FakeAgent::start(aggregator.address, "one");
    agent.run_until_up().await;
    agent.set(1);
    agent.pump();
    aggregator.until("node-a", |host| host.applied == 1).await;

    // Someone with the same name takes the seat for a moment: the agent's stream is ended.
    let usurper = Talker::same_instance(&aggregator, "node-a", "one").await;
    agent.run_until_down().await;
    drop(usurper);
    agent.set(2);
    agent.set(3);
    agent.run_until_up().await;
    aggregator
        .until("node-a", |host| {
            // What happened meanwhile is one delta.
            host.applied == 2 && host.entries.len() == 3 && host.snapshots == 1
        })
        .await;
}

#[tokio::test]
async fn a_restarted_agent_replaces_the_view_of_its_former_self() {
    let aggregator = Aggregator::start(Limits::default()).await;
    let mut agent = FakeAgent::start(aggregator.address, "one");
    agent.set(1);
    agent.set(2);
    agent.run_until_up().await;
    aggregator
        .until("node-a", |host| host.whole && host.entries.len() == 2)
        .await;
    drop(agent);
    aggregator.until("node-a", |host| !host.connected).await;

    let mut agent = FakeAgent::start(aggregator.address, "two");
    agent.set(3);
    agent.run_until_up().await;
    aggregator
        .until("node-a", |host| {
            host.whole && host.instance == "two" && host.entries.len() == 1
        })
        .await;
}

#[tokio::test]
async fn an_agent_that_meets_another_protocol_version_says_so() {
    let address = report_stream_parts::aggregator_of_the_future().await;
    let mut agent = FakeAgent::start(address, "one");
    let Event::Down(problem) = agent.event().await else {
        panic!("not refused")
    };
    assert_eq!(problem.kind, ProblemKind::Protocol);
    assert!(problem.text.contains("speak 2"), "{problem}");
}

#[tokio::test]
async fn an_agent_without_an_aggregator_goes_on_trying() {
    let mut agent = FakeAgent::start("127.0.0.1:1".parse().unwrap(), "one");
    for _ in 0..3 {
        let Event::Down(problem) = agent.event().await else {
            panic!("connected to nothing")
        };
        assert_eq!(problem.kind, ProblemKind::Unreachable);
        assert!(problem.text.contains("refused"), "the cause is named: {problem}");
    }
}
