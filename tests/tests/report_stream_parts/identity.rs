//! Report streams of agents that must show who they are, over real gRPC on loopback: the authority is a list of tokens.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Aggregator, FakeAgent, Talker, hello};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cidrift_agent::report::stream::{Event, ProblemKind};
use cidrift_aggregator::identity::access::Rule;
use cidrift_aggregator::identity::authority::{Access, PodPlace, Reviewed, Unavailable};
use cidrift_aggregator::identity::times::Times;
use cidrift_aggregator::identity::token::Token;
use cidrift_aggregator::identity::{Authority, Checked, Identity, User};
use cidrift_aggregator::ingest::Limits;
use cidrift_aggregator::metrics::Metrics;
use jiff::Timestamp;
use tonic::Code;

/// Takes the tokens that this test makes; each says its node and its end.
#[derive(Default)]
struct Tokens {
    down: Mutex<bool>,
    /// All that were made are invalid.
    revoked: Mutex<bool>,
}

/// A token of this node's agent that ends after so long.
fn token(node: &str, lives: Duration) -> String {
    let ends = Timestamp::now().as_second() + i64::try_from(lives.as_secs()).unwrap();
    // `n` makes each its own.
    let n = Timestamp::now().as_nanosecond();
    let payload = format!(r#"{{"exp":{ends},"node":"{node}","n":"{n}"}}"#);
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

#[tonic::async_trait]
impl Authority for Tokens {
    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<Reviewed, Unavailable> {
        if *self.down.lock().unwrap() {
            return Err(Unavailable("connection refused".to_owned()));
        }
        if *self.revoked.lock().unwrap() {
            let why = "service account token has been invalidated";
            return Ok(Reviewed::Refused(why.to_owned()));
        }
        let payload = token
            .secret()
            .split('.')
            .nth(1)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let payload = payload.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let Some(payload) = payload else {
            return Ok(Reviewed::Refused("no token of this test".to_owned()));
        };
        if payload["exp"].as_i64().unwrap() <= Timestamp::now().as_second() {
            return Ok(Reviewed::Refused("token has expired".to_owned()));
        }
        let node = payload["node"].as_str().unwrap().to_owned();
        let key = "authentication.kubernetes.io/node-name".to_owned();
        Ok(Reviewed::Known {
            user: User {
                name: "system:serviceaccount:cidrift:cidrift-agent".to_owned(),
                extra: BTreeMap::from([(key, vec![node])]),
                ..User::default()
            },
            audiences: vec![audience.unwrap().to_owned()],
        })
    }

    async fn pod(&self, _namespace: &str, _name: &str) -> Result<Option<PodPlace>, Unavailable> {
        Ok(None)
    }

    async fn allowed(&self, _user: &User, _rule: Rule) -> Result<Access, Unavailable> {
        unreachable!("nobody asks here")
    }
}

async fn aggregator(authority: &Arc<Tokens>) -> Aggregator {
    aggregator_with(authority, Times::default()).await
}

async fn aggregator_with(authority: &Arc<Tokens>, times: Times) -> Aggregator {
    let asked: Arc<dyn Authority> = Arc::<Tokens>::clone(authority);
    let checked = Checked::new(
        asked,
        "cidrift/cidrift-agent".parse().unwrap(),
        Arc::<Metrics>::default(),
    )
    .with_times(times);
    let identity = Identity::Checked(Arc::new(checked));
    Aggregator::start_with("127.0.0.1:0".parse().unwrap(), Limits::default(), identity).await
}

/// As the kubelet does it: the file is never half there.
fn put(path: &Path, token: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, token).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn who_shows_nothing_or_nonsense_is_not_let_in() {
    let aggregator = aggregator(&Arc::default()).await;
    let status = Talker::open(&aggregator, hello("node-a", "one")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("--token-file"), "{status}");
    let status = Talker::open_as(&aggregator, hello("node-a", "one"), "nonsense")
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains("no token of this test"), "{status}");
    assert!(aggregator.refused().is_empty(), "nobody's node is known");
}

#[tokio::test]
async fn an_agent_reports_for_the_node_of_its_token_and_for_no_other() {
    let aggregator = aggregator(&Arc::default()).await;
    let token = token("node-a", HOUR);
    Talker::open_as(&aggregator, hello("node-a", "one"), &token)
        .await
        .unwrap();
    let status = Talker::open_as(&aggregator, hello("node-b", "one"), &token)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(
        status.message().contains("\"node-a\"") && status.message().contains("\"node-b\""),
        "{status}"
    );
    let refused = aggregator.refused();
    assert_eq!(
        (refused.len(), refused[0].0.as_str(), refused[0].1.named.as_str()),
        (1, "node-a", "node-b")
    );
    assert_eq!(refused[0].1.from, Some("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn an_agent_without_its_token_says_so_and_comes_once_there_is_one() {
    let aggregator = aggregator(&Arc::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let mut agent = FakeAgent::start_as(aggregator.address, "one", Some(path.clone()));
    for (put_first, why) in [
        (None, "No such file"),
        (Some(""), "is empty"),
        (Some("nonsense"), "no token of this test"),
    ] {
        if let Some(text) = put_first {
            put(&path, text);
        }
        loop {
            let Event::Down(problem) = agent.event().await else {
                panic!("it was let in")
            };
            assert_eq!(problem.kind, ProblemKind::Credentials, "{problem}");
            if problem.text.contains(why) {
                break;
            }
        }
    }
    put(&path, &token("node-a", HOUR));
    agent.run_until_up().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_the_next_one_goes_on_where_it_stopped() {
    let aggregator = aggregator(&Arc::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    put(&path, &token("node-a", Duration::from_secs(3)));
    let mut agent = FakeAgent::start_as(aggregator.address, "one", Some(path.clone()));
    agent.set(1);
    agent.run_until_up().await;
    agent.set(2);
    agent.pump();
    aggregator.until("node-a", |host| host.entries.len() == 2).await;
    put(&path, &token("node-a", HOUR));
    let began = Instant::now();
    agent.run_until_down().await;
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(agent.problems[0].kind, ProblemKind::Credentials);
    assert!(agent.problems[0].text.contains("has expired"), "{}", agent.problems[0]);
    // What happens while it is down comes as a delta.
    agent.set(3);
    agent.run_until_up().await;
    aggregator
        .until("node-a", |host| host.entries.len() == 3 && host.snapshots == 1)
        .await;
    // And it was never gone: an ordinary end of a token makes no node unknown.
    aggregator
        .until("node-a", |host| (host.connections, host.disconnections) == (2, 0))
        .await;
}

#[tokio::test]
async fn an_agent_whose_token_is_not_replaced_is_gone_after_a_heartbeats_time() {
    let limits = Limits {
        heartbeat: Duration::from_millis(500),
        ..Limits::default()
    };
    let asked: Arc<dyn Authority> = Arc::<Tokens>::default();
    let checked = Checked::new(
        asked,
        "cidrift/cidrift-agent".parse().unwrap(),
        Arc::<Metrics>::default(),
    );
    let identity = Identity::Checked(Arc::new(checked));
    let aggregator = Aggregator::start_with("127.0.0.1:0".parse().unwrap(), limits, identity).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    put(&path, &token("node-a", Duration::from_secs(2)));
    let mut agent = FakeAgent::start_as(aggregator.address, "one", Some(path));
    agent.run_until_up().await;
    agent.run_until_down().await;
    aggregator.until("node-a", |host| !host.connected).await;
    let Event::Down(problem) = agent.event().await else {
        panic!("it was let in")
    };
    assert_eq!(problem.kind, ProblemKind::Credentials);
    assert!(problem.text.contains("token has expired"), "{problem}");
}

#[tokio::test]
async fn while_the_api_server_is_away_streams_stay_known_tokens_count_and_new_ones_wait() {
    let authority = Arc::<Tokens>::default();
    let aggregator = aggregator(&authority).await;
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (token("node-a", HOUR), token("node-a", HOUR));
    let path = directory.path().join("token");
    put(&path, &old);
    let mut agent = FakeAgent::start_as(aggregator.address, "one", Some(path.clone()));
    agent.run_until_up().await;
    *authority.down.lock().unwrap() = true;
    agent.set(1);
    agent.pump();
    aggregator.until("node-a", |host| host.entries.len() == 1).await;
    // One that was seen a moment ago is as good as before.
    let mut again = FakeAgent::start_as(aggregator.address, "one", Some(path.clone()));
    again.run_until_up().await;
    drop(again);
    let status = Talker::open_as(&aggregator, hello("node-a", "one"), &new)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("connection refused"), "{status}");
    *authority.down.lock().unwrap() = false;
    Talker::open_as(&aggregator, hello("node-a", "one"), &new)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked_and_not_while_nobody_can_be_asked() {
    let authority = Arc::<Tokens>::default();
    let often = Times {
        fresh: Duration::ZERO,
        again: Duration::from_millis(200),
        ..Times::default()
    };
    let aggregator = aggregator_with(&authority, often).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    put(&path, &token("node-a", HOUR));
    let mut agent = FakeAgent::start_as(aggregator.address, "one", Some(path));
    agent.run_until_up().await;
    *authority.down.lock().unwrap() = true;
    tokio::time::sleep(often.again * 3).await;
    agent.set(1);
    agent.pump();
    aggregator.until("node-a", |host| host.entries.len() == 1).await;
    assert!(agent.problems.is_empty(), "{:?}", agent.problems);

    *authority.revoked.lock().unwrap() = true;
    *authority.down.lock().unwrap() = false;
    agent.run_until_down().await;
    aggregator.until("node-a", |host| !host.connected).await;
    let problem = agent.problems.first().unwrap();
    assert_eq!(problem.kind, ProblemKind::Credentials, "{problem}");
    assert!(problem.text.contains("has been invalidated"), "{problem}");
}
