//! Report streams over TLS, real programs' parts on loopback: an aggregator with a CA of its own, and the agent's end.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cidrift_agent::report::stream::{self, Event, Problem, ProblemKind, Target};
use cidrift_agent::report::way::Ways;
use cidrift_aggregator::app::App;
use cidrift_aggregator::cli::Cli;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind;
use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Only a guard against hanging for ever.
const GUARD: Duration = Duration::from_secs(30);

struct Aggregator {
    address: SocketAddr,
    directory: PathBuf,
    stop: CancellationToken,
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Aggregator {
    /// With its CA in `directory`, and these flags.
    async fn start(directory: &Path, flags: &[&str]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let state = directory.join("nodes.yaml");
        std::fs::write(&state, "{apiVersion: v1, kind: NodeList, items: []}").unwrap();
        let mut words: Vec<String> = [
            "cidrift-aggregator",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
        ]
        .iter()
        .chain(flags)
        .map(|word| (*word).to_owned())
        .collect();
        words.extend(["--cluster-state".to_owned(), state.display().to_string()]);
        if !flags.contains(&"--plaintext") {
            words.extend(["--tls-directory".to_owned(), directory.display().to_string()]);
        }
        let app = App::bind(Cli::parse_from(words)).await.unwrap();
        let (address, _) = app.addresses().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(app.serve(stop.clone()));
        Self {
            address,
            directory: directory.to_owned(),
            stop,
        }
    }

    fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    fn bundle(&self) -> String {
        std::fs::read_to_string(self.ca()).unwrap_or_default()
    }

    async fn published(&self) {
        until("the CA is told", || self.bundle().contains("END CERTIFICATE")).await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}");
}

struct Agent {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn start(ways: Ways) -> Self {
        let (sender, events) = mpsc::channel(64);
        let target = Target {
            ways,
            node: "node-a".into(),
            version: "0.1.0".into(),
            instance: "one".into(),
        };
        Self {
            events,
            task: tokio::spawn(stream::run(target, sender)),
        }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(GUARD, self.events.recv()).await.unwrap().unwrap()
    }

    /// Waits for a stream; what came before it.
    async fn up(&mut self) -> (mpsc::Sender<v1::AgentMessage>, Vec<Problem>) {
        let mut problems = Vec::new();
        loop {
            match self.next().await {
                Event::Up { sender, .. } => return (sender, problems),
                Event::Down(problem) => problems.push(problem),
                _ => {}
            }
        }
    }

    async fn problem(&mut self) -> Problem {
        match self.next().await {
            Event::Down(problem) => problem,
            other => panic!("{other:?}"),
        }
    }
}

fn at(address: SocketAddr, ca: &Path) -> Ways {
    Ways {
        aggregators: vec![format!("https://{address}").parse().unwrap()],
        ca: Some(ca.to_owned()),
        ..Ways::default()
    }
}

fn says(problem: &Problem, kind: ProblemKind, words: &[&str]) {
    assert_eq!(problem.kind, kind, "{problem}");
    for word in words {
        assert!(problem.text.contains(word), "{word:?} is not in {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_rotation_of_the_ca_and_the_next_connection_verifies_by_the_new_one() {
    let place = tempfile::tempdir().unwrap();
    let quick = ["--rotate-ca-after", "2s", "--ca-lead", "1s", "--silence", "3s"];
    let aggregator = Aggregator::start(&place.path().join("tls"), &quick).await;
    aggregator.published().await;
    let first = aggregator.bundle();
    let mut agent = Agent::start(at(aggregator.address, &aggregator.ca()));
    let (sender, _) = agent.up().await;
    let current = || {
        let text = std::fs::read_to_string(aggregator.directory.join("authority.json")).unwrap_or_default();
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        kept["ca.crt"].as_str().unwrap_or_default().to_owned()
    };
    until("another CA signs", || !current().is_empty() && current() != first).await;
    // A copy of the bundle that was made before the rotation is out of date once it is over.
    let stale = place.path().join("stale.crt");
    std::fs::write(&stale, &first).unwrap();
    // The certificate that is served follows at the same look: wait for it, by asking as whoever knows the old CA only.
    let mut late = Agent::start(at(aggregator.address, &stale));
    let mut refused = None;
    for _ in 0..100 {
        match late.next().await {
            Event::Down(problem) if problem.kind == ProblemKind::Untrusted => {
                refused = Some(problem);
                break;
            }
            Event::Up { .. } => late = Agent::start(at(aggregator.address, &stale)),
            _ => {}
        }
    }
    says(
        &refused.unwrap(),
        ProblemKind::Untrusted,
        &["signed by none of the 1 CA(s)", "stale.crt", "out of date"],
    );
    // The stream that began under the old CA was displaced by that agent at most, which has the same name: speak on
    // another that lives.
    drop(sender);
    drop(agent);
    let mut again = Agent::start(at(aggregator.address, &aggregator.ca()));
    let (sender, problems) = again.up().await;
    assert_eq!(problems, []);
    let before = current();
    until("yet another CA signs", || current() != before).await;
    let beat = v1::AgentMessage {
        kind: Some(Kind::Heartbeat(v1::Heartbeat::default())),
    };
    sender.send(beat).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    while let Ok(event) = again.events.try_recv() {
        assert!(!matches!(event, Event::Down(_)), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_address_that_can_be_trusted_is_taken_and_what_the_others_said_is_told_when_none_can() {
    let place = tempfile::tempdir().unwrap();
    let ours = Aggregator::start(&place.path().join("ours"), &[]).await;
    let other = Aggregator::start(&place.path().join("other"), &[]).await;
    ours.published().await;
    other.published().await;
    // Bound and closed again: nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let trust = place.path().join("trust");
    std::fs::create_dir(&trust).unwrap();
    std::fs::copy(ours.ca(), trust.join("ca.crt")).unwrap();
    std::fs::write(trust.join("addresses"), format!("{dead}\n{}\n", other.address)).unwrap();
    let ways = Ways {
        trust_dir: Some(trust.clone()),
        aggregators: vec![format!("https://{}", ours.address).parse().unwrap()],
        ..Ways::default()
    };
    let (_, problems) = Agent::start(ways).up().await;
    assert_eq!(problems, [], "one round is enough");
    let mut lost = Agent::start(Ways {
        trust_dir: Some(trust.clone()),
        ..Ways::default()
    });
    let problem = lost.problem().await;
    says(
        &problem,
        ProblemKind::Untrusted,
        &[
            &dead.to_string(),
            "refused",
            &other.address.to_string(),
            "signed by none",
        ],
    );
    // The aggregator says where it is now: the files are read anew.
    std::fs::write(trust.join("addresses"), format!("{}\n", ours.address)).unwrap();
    lost.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_read_as_soon_as_it_is_there() {
    let place = tempfile::tempdir().unwrap();
    let aggregator = Aggregator::start(&place.path().join("tls"), &[]).await;
    aggregator.published().await;
    let (ca, token) = (place.path().join("ca.crt"), place.path().join("token"));
    let ways = Ways {
        token_file: Some(token.clone()),
        ..at(aggregator.address, &ca)
    };
    let mut agent = Agent::start(ways);
    says(
        &agent.problem().await,
        ProblemKind::Credentials,
        &["token", "No such file"],
    );
    std::fs::write(&token, "").unwrap();
    says(&agent.problem().await, ProblemKind::Credentials, &["is empty"]);
    std::fs::write(&token, "a.b.c").unwrap();
    says(
        &agent.problem().await,
        ProblemKind::Untrusted,
        &["ca.crt is not there yet"],
    );
    let whole = aggregator.bundle();
    std::fs::write(&ca, &whole[..whole.len() / 2]).unwrap();
    says(&agent.problem().await, ProblemKind::Untrusted, &["breaks off"]);
    std::fs::write(&ca, whole).unwrap();
    agent.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_where_tls_is_spoken_and_tls_where_it_is_not_are_told_apart() {
    let place = tempfile::tempdir().unwrap();
    let secure = Aggregator::start(&place.path().join("tls"), &[]).await;
    secure.published().await;
    let open = Aggregator::start(&place.path().join("open"), &["--plaintext"]).await;
    let plain = |address: SocketAddr| Ways {
        aggregators: vec![format!("http://{address}").parse().unwrap()],
        ..Ways::default()
    };
    let problem = Agent::start(plain(secure.address)).problem().await;
    says(&problem, ProblemKind::Unreachable, &["http://"]);
    let problem = Agent::start(at(open.address, &secure.ca())).problem().await;
    says(&problem, ProblemKind::Untrusted, &["does not speak TLS"]);
    Agent::start(plain(open.address)).up().await;
    // Something that says nothing at all does not hold up the agent for ever.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held: Vec<TcpStream> = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let problem = Agent::start(at(address, &secure.ca())).problem().await;
    says(&problem, ProblemKind::Unreachable, &["no TLS handshake within"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_the_cluster_is_taken_and_another_is_refused_in_words() {
    let place = tempfile::tempdir().unwrap();
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
    };
    let (cluster, stranger) = (authority("kubernetes"), authority("stranger"));
    let client_ca = place.path().join("client-ca.crt");
    std::fs::write(&client_ca, cluster.pem()).unwrap();
    let flags = ["--client-ca", client_ca.to_str().unwrap()];
    let aggregator = Aggregator::start(&place.path().join("tls"), &flags).await;
    aggregator.published().await;
    // As the kubelet keeps it: certificate and key in one file.
    let pair = |issuer: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>, name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:node-a");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&key, issuer).unwrap();
        let path = place.path().join(name);
        std::fs::write(&path, format!("{}{}", made.pem(), key.serialize_pem())).unwrap();
        path
    };
    let with = |file: &Path| Ways {
        client: Some((file.to_owned(), file.to_owned())),
        ..at(aggregator.address, &aggregator.ca())
    };
    let (good, bad) = (pair(&cluster, "good.pem"), pair(&stranger, "bad.pem"));
    Agent::start(with(&good)).up().await;
    let problem = Agent::start(with(&bad)).problem().await;
    says(
        &problem,
        ProblemKind::Untrusted,
        &["does not accept this side's client certificate"],
    );
    let torn = place.path().join("torn.pem");
    std::fs::write(
        &torn,
        std::fs::read_to_string(&good).unwrap().split_once("PRIVATE").unwrap().0,
    )
    .unwrap();
    let problem = Agent::start(with(&torn)).problem().await;
    says(&problem, ProblemKind::Credentials, &["torn.pem"]);
}
