//! Ways to the aggregator: where it may be, whom to believe, what to show. All files are read anew for every attempt:
//! the kubelet renews them in place.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cidrift_proto::tls::dial::{self, ClientAuth, DialError, Trust, TrustError};
use cidrift_proto::tls::pem;
use cidrift_proto::tls::secured::Verdict;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use super::address::Address;
use super::stream::{Problem, ProblemKind};
use super::token;

/// A TCP connection inside a cluster takes milliseconds; the next address should not wait for a dead one.
const CONNECT: Duration = Duration::from_secs(3);

/// A handshake takes two round trips; a busy aggregator after its restart needs longer.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// HTTP/2 ping when nothing comes, and how long its answer may take: a dead
/// aggregator is noticed within 10 s, long before TCP gives up.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// For the HTTP/2 preface.
const PREFACE: Duration = Duration::from_secs(10);

/// Where the aggregator may be, and the files that say the rest.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// A mounted ConfigMap: `ca.crt` and `addresses`.
    pub trust_dir: Option<PathBuf>,
    /// Addresses of the command line.
    pub aggregators: Vec<Address>,
    /// The Service's address.
    pub service: Option<SocketAddr>,
    /// CAs to believe, in place of those of the trust directory.
    pub ca: Option<PathBuf>,
    /// Holds this agent's token.
    pub token_file: Option<PathBuf>,
    /// Client certificate (PEM), and its key's file.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Ways {
    /// Every address, best first: where an aggregator said that it is, then what a person said, then the Service,
    /// whose address needs kube-proxy's rules on this very host.
    pub fn addresses(&self) -> Result<Vec<Address>, Problem> {
        let mut found = Vec::new();
        let mut unread = None;
        if let Some(directory) = &self.trust_dir {
            match told(&directory.join("addresses")) {
                Ok(told) => found.extend(told.into_iter().map(Address::secure)),
                Err(why) => unread = Some(why),
            }
        }
        found.extend(self.aggregators.iter().cloned());
        found.extend(self.service.map(Address::secure));
        let mut seen = BTreeSet::new();
        found.retain(|address| seen.insert(address.authority.clone()));
        if found.is_empty() {
            let why = unread.unwrap_or_else(|| "no aggregator is named".to_owned());
            return Err(Problem::new(ProblemKind::Unreachable, why));
        }
        Ok(found)
    }

    /// Connects to one of them.
    pub async fn connect(&self, address: &Address) -> Result<Connection, Problem> {
        let endpoint =
            endpoint(&address.authority).map_err(|error| Problem::new(ProblemKind::Unreachable, chain(&error)))?;
        if !address.tls {
            let io = dial::tcp(&address.authority, CONNECT).await?;
            let channel = over(dial::channel(endpoint, io)).await?;
            return Ok(Connection {
                channel,
                verdict: Verdict::default(),
            });
        }
        let trust = self.trust()?;
        let io = dial::tcp(&address.authority, CONNECT).await?;
        let io = trust.handshake(io, HANDSHAKE).await?;
        let verdict = io.verdict();
        let channel = over(dial::channel(endpoint.origin(dial::origin()), io)).await?;
        Ok(Connection { channel, verdict })
    }

    /// What is to be shown in every request to it; `None`: nothing is.
    pub fn bearer(&self, address: &Address) -> Result<Option<MetadataValue<Ascii>>, Problem> {
        let Some(path) = &self.token_file else { return Ok(None) };
        // Whoever listens on the way could use it as well.
        if !address.is_private() {
            return Ok(None);
        }
        let token = token::read(path);
        token
            .map(Some)
            .map_err(|error| Problem::new(ProblemKind::Credentials, error.to_string()))
    }

    fn trust(&self) -> Result<Trust, Problem> {
        let untrusted = |why: String| Problem::new(ProblemKind::Untrusted, why);
        let mounted = self.trust_dir.as_ref().map(|directory| directory.join("ca.crt"));
        let Some(path) = self.ca.clone().or(mounted) else {
            return Err(untrusted(
                "https:// needs a CA to believe: --trust-dir or --ca".to_owned(),
            ));
        };
        let bundle = std::fs::read(&path).map_err(|error| {
            untrusted(if error.kind() == io::ErrorKind::NotFound {
                format!(
                    "{} is not there yet: the aggregator writes it at its first start",
                    path.display()
                )
            } else {
                format!("cannot read {}: {error}", path.display())
            })
        })?;
        let client = self.client_auth()?;
        Trust::new(&bundle, &path.display().to_string(), client).map_err(|error| match error {
            TrustError::Client(text) => Problem::new(ProblemKind::Credentials, text),
            error => untrusted(error.to_string()),
        })
    }

    fn client_auth(&self) -> Result<ClientAuth, Problem> {
        let Some((certificate, key)) = &self.client else {
            return Ok(ClientAuth::None);
        };
        let missing = |why: String| Problem::new(ProblemKind::Credentials, why);
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| missing(format!("cannot read {}: {error}", path.display())))
        };
        let name = |path: &Path| path.display().to_string();
        let chain = pem::certificates(&read(certificate)?, &name(certificate));
        let key = pem::key(&read(key)?, &name(key)).map_err(|error| missing(error.to_string()))?;
        Ok(ClientAuth::Pair(
            chain.map_err(|error| missing(error.to_string()))?,
            key,
        ))
    }
}

/// A connection, and what the aggregator says if it refuses this agent's certificate on it.
#[derive(Debug)]
pub struct Connection {
    /// gRPC.
    pub channel: Channel,
    /// Kept from TLS.
    pub verdict: Verdict,
}

impl From<DialError> for Problem {
    fn from(error: DialError) -> Self {
        let kind = match error {
            DialError::Unreachable(_) => ProblemKind::Unreachable,
            DialError::Untrusted(_) => ProblemKind::Untrusted,
        };
        Self::new(kind, error.to_string())
    }
}

async fn over(work: impl Future<Output = Result<Channel, tonic::transport::Error>>) -> Result<Channel, Problem> {
    match tokio::time::timeout(PREFACE, work).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(Problem::new(ProblemKind::Unreachable, chain(&error))),
        Err(_) => Err(Problem::new(
            ProblemKind::Unreachable,
            format!("no HTTP/2 within {PREFACE:?}"),
        )),
    }
}

/// An endpoint with the timeouts that a report stream needs.
fn endpoint(authority: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("http://{authority}"))?
        .http2_keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .keep_alive_while_idle(true))
}

/// What an aggregator says of itself: one ADDRESS:PORT a line. A line that is none does not hide the others.
fn told(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{} is not there yet: no aggregator has said where it is",
                path.display()
            ));
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let read: Vec<_> = lines.map(|line| line.parse::<SocketAddr>().map_err(|_| line)).collect();
    let bad = read.iter().find_map(|line| line.err());
    let good: Vec<SocketAddr> = read.iter().filter_map(|line| line.ok()).collect();
    match (good.is_empty(), bad) {
        (false, _) => Ok(good),
        (true, Some(line)) => Err(format!("{}: {line:?} is no ADDRESS:PORT", path.display())),
        (true, None) => Err(format!("{} names no address yet", path.display())),
    }
}

/// An error with its causes: tonic's own text is only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_aggregator_told_comes_first_then_flags_then_the_service_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let ways = Ways {
            trust_dir: Some(directory.path().to_owned()),
            aggregators: vec![
                "https://10.0.0.2:7440".parse().unwrap(),
                "https://10.0.0.3".parse().unwrap(),
            ],
            service: Some("10.96.0.9:7440".parse().unwrap()),
            ..Ways::default()
        };
        let shown = || -> Vec<String> { ways.addresses().unwrap().iter().map(Address::to_string).collect() };
        assert_eq!(shown().len(), 3);
        std::fs::write(
            directory.path().join("addresses"),
            "\n10.0.0.1:7440\nworker-1:7440\n10.0.0.2:7440\n",
        )
        .unwrap();
        assert_eq!(
            shown(),
            [
                "https://10.0.0.1:7440",
                "https://10.0.0.2:7440",
                "https://10.0.0.3:7440",
                "https://10.96.0.9:7440"
            ]
        );
    }

    #[test]
    fn without_any_address_it_says_what_it_waits_for() {
        let directory = tempfile::tempdir().unwrap();
        let ways = Ways {
            trust_dir: Some(directory.path().to_owned()),
            ..Ways::default()
        };
        let says = |word: &str| {
            let text = ways.addresses().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        };
        says("is not there yet");
        std::fs::write(directory.path().join("addresses"), "").unwrap();
        says("names no address yet");
        std::fs::write(directory.path().join("addresses"), "somewhere\n").unwrap();
        says("\"somewhere\" is no ADDRESS:PORT");
    }

    #[test]
    fn a_token_is_shown_over_tls_and_loopback_only_and_its_absence_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let ways = Ways {
            token_file: Some(file.clone()),
            ..Ways::default()
        };
        let at = |url: &str| ways.bearer(&url.parse().unwrap());
        assert!(at("https://h").unwrap_err().to_string().contains("No such file"));
        std::fs::write(&file, "\n").unwrap();
        let empty = at("https://h").unwrap_err();
        assert_eq!(empty.kind, ProblemKind::Credentials);
        assert!(empty.to_string().contains("is empty"));
        std::fs::write(&file, "a.b.c\n").unwrap();
        for shown in ["https://h", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"] {
            assert_eq!(at(shown).unwrap().unwrap(), "Bearer a.b.c", "{shown}");
        }
        assert_eq!(at("http://10.0.0.1").unwrap(), None);
        std::fs::write(&file, "a\u{1}b").unwrap();
        assert!(at("https://h").unwrap_err().to_string().contains("printable"));
    }

    #[test]
    fn a_missing_or_torn_ca_is_said_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let ways = Ways {
            trust_dir: Some(directory.path().to_owned()),
            ..Ways::default()
        };
        let says = |word: &str| {
            let problem = ways.trust().unwrap_err();
            assert_eq!(problem.kind, ProblemKind::Untrusted);
            assert!(
                problem.text.contains(word) && problem.text.contains("ca.crt"),
                "{problem}"
            );
        };
        says("is not there yet");
        for (text, word) in [("", "is empty"), ("-----BEGIN CERTIFICATE-----\nMII", "breaks off")] {
            std::fs::write(directory.path().join("ca.crt"), text).unwrap();
            says(word);
        }
        let nothing = Ways::default().trust().unwrap_err();
        assert!(nothing.text.contains("--trust-dir"), "{nothing}");
    }
}
