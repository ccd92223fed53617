//! Handshakes over real sockets: good ones, wrong ones, and none at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cidrift_proto::tls::dial::{ClientAuth, DialError, Trust, tcp};
use cidrift_proto::tls::{ALPN, pem, provider};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::super::acceptor::{Acceptor, FROM_ONE, HANDSHAKE, Standing};
use super::super::authority::Authority;
use super::super::figures::Figures;
use super::super::serving::Offer;
use super::names;

const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    offer: Arc<Offer>,
    figures: Arc<Figures>,
    standing: Standing,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (offer, figures, stop) = (
            Arc::<Offer>::default(),
            Arc::<Figures>::default(),
            CancellationToken::new(),
        );
        let (acceptor, standing) = Acceptor::new(listener, Arc::clone(&offer), Arc::clone(&figures));
        tokio::spawn(acceptor.run(stop.clone()));
        Self {
            address,
            offer,
            figures,
            standing,
            stop,
        }
    }

    async fn serving(ca: &Authority) -> Self {
        let server = Self::start().await;
        server
            .offer
            .serve(ca.issue(&names(), Timestamp::now()).unwrap())
            .unwrap();
        server
    }

    async fn dial(&self, bundle: &str, client: ClientAuth) -> Result<(), DialError> {
        let trust = Trust::new(bundle.as_bytes(), "/trust/ca.crt", client).unwrap();
        let io = tcp(&self.address.to_string(), PATIENCE).await.unwrap();
        let mut stream = trust.handshake(io, PATIENCE).await?;
        // In TLS 1.3 the server judges the client after the client is done: it says so at the first read.
        match timeout(Duration::from_millis(300), stream.read_u8()).await {
            Err(_) => Ok(()),
            Ok(Ok(_)) => panic!("nobody sends anything"),
            Ok(Err(error)) => Err(DialError::Untrusted(format!("{error}"))),
        }
    }

    async fn counted(&self, result: &str) {
        let mut text = String::new();
        for _ in 0..100 {
            let mut registry = prometheus_client::registry::Registry::default();
            self.figures.register(&mut registry);
            text.clear();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            if text.contains(&format!("tls_handshakes_total{{result=\"{result}\"}}")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no {result} in {text}");
    }
}

fn ca() -> Authority {
    Authority::make(Timestamp::now()).unwrap()
}

fn says(result: Result<(), DialError>, words: &[&str]) {
    let Err(DialError::Untrusted(text)) = result else {
        panic!("{result:?} is not distrust");
    };
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_client_that_trusts_the_ca_is_let_in_and_one_of_another_cluster_says_what_is_wrong() {
    let ours = ca();
    let mut server = Server::serving(&ours).await;
    server.dial(&ours.certificate, ClientAuth::None).await.unwrap();
    let stream = server.standing.recv().await.unwrap().unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
    says(
        server.dial(&ca().certificate, ClientAuth::None).await,
        &["signed by none of the 1 CA(s) in /trust/ca.crt", "out of date"],
    );
    server.counted("distrusted").await;
}

#[tokio::test]
async fn clocks_that_are_off_by_hours_do_not_matter_and_by_more_both_are_said() {
    let ours = ca();
    let server = Server::serving(&ours).await;
    let now = Timestamp::now();
    for hours in [-1, 1, -23] {
        let made = ours.issue(&names(), now - SignedDuration::from_hours(hours)).unwrap();
        server.offer.serve(made).unwrap();
        server.dial(&ours.certificate, ClientAuth::None).await.unwrap();
    }
    let later = Authority::make(now + SignedDuration::from_hours(100)).unwrap();
    let made = later.issue(&names(), now + SignedDuration::from_hours(100)).unwrap();
    let from = made.not_before.to_string();
    server.offer.serve(made).unwrap();
    let year = now.to_string()[..4].to_owned();
    says(
        server.dial(&later.certificate, ClientAuth::None).await,
        &["is valid from", &from, "this host's clock says", &year],
    );
    let old = Authority::make(now - SignedDuration::from_hours(24 * 30)).unwrap();
    let made = old.issue(&names(), now - SignedDuration::from_hours(24 * 30)).unwrap();
    let until = made.not_after.to_string();
    server.offer.serve(made).unwrap();
    says(
        server.dial(&old.certificate, ClientAuth::None).await,
        &["expired at", &until, "this host's clock says"],
    );
}

#[tokio::test]
async fn another_services_certificate_is_not_taken_for_the_aggregators() {
    let ours = ca();
    let server = Server::start().await;
    let other = ours.issue(&["other.example".to_owned()], Timestamp::now()).unwrap();
    server.offer.serve(other).unwrap();
    says(
        server.dial(&ours.certificate, ClientAuth::None).await,
        &["not for \"cidrift-aggregator\"", "other.example"],
    );
}

#[tokio::test]
async fn a_connection_outlives_the_ca_that_it_began_with_and_the_next_one_takes_the_new() {
    let (old, new) = (ca(), ca());
    let mut server = Server::serving(&old).await;
    let trust = Trust::new(old.certificate.as_bytes(), "old", ClientAuth::None).unwrap();
    let io = tcp(&server.address.to_string(), PATIENCE).await.unwrap();
    let mut living = trust.handshake(io, PATIENCE).await.unwrap();
    let mut theirs = server.standing.recv().await.unwrap().unwrap();
    server
        .offer
        .serve(new.issue(&names(), Timestamp::now()).unwrap())
        .unwrap();
    living.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    theirs.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
    // Whoever read the bundle of both meanwhile connects; whoever did not is told.
    let both = format!("{}{}", old.certificate, new.certificate);
    server.dial(&both, ClientAuth::None).await.unwrap();
    says(
        server.dial(&old.certificate, ClientAuth::None).await,
        &["signed by none"],
    );
}

/// A client certificate of `issuer`, for a kubelet.
fn kubelet(issuer: &rcgen::CertifiedIssuer<'static, rcgen::KeyPair>) -> ClientAuth {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "system:node:n1");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let made = params.signed_by(&key, issuer).unwrap();
    let key = pem::key(key.serialize_pem().as_bytes(), "k").unwrap();
    ClientAuth::Pair(vec![made.der().clone()], key)
}

fn cluster_ca() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes");
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn client_certificates_of_the_clusters_ca_reach_the_server_and_others_are_refused() {
    let ours = ca();
    let cluster = cluster_ca();
    let mut server = Server::serving(&ours).await;
    let certificates = |stream: &tokio_rustls::server::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().map(<[CertificateDer<'_>]>::len)
    };
    // Nobody's CA is known yet: nobody is asked.
    server.dial(&ours.certificate, kubelet(&cluster)).await.unwrap();
    assert_eq!(certificates(&server.standing.recv().await.unwrap().unwrap()), None);
    server
        .offer
        .clients(Some(cluster.pem().as_bytes()), "client CA")
        .unwrap();
    server.dial(&ours.certificate, kubelet(&cluster)).await.unwrap();
    assert_eq!(certificates(&server.standing.recv().await.unwrap().unwrap()), Some(1));
    // A certificate is not asked of everybody.
    server.dial(&ours.certificate, ClientAuth::None).await.unwrap();
    assert_eq!(certificates(&server.standing.recv().await.unwrap().unwrap()), None);
    let stranger = server.dial(&ours.certificate, kubelet(&cluster_ca())).await;
    says(stranger, &["alert"]);
    server.counted("client-certificate").await;
    // Torn: what was believed before stands.
    assert!(server.offer.clients(Some(b"-----BEGIN CERT"), "client CA").is_err());
    server.dial(&ours.certificate, kubelet(&cluster)).await.unwrap();
}

#[tokio::test]
async fn plaintext_old_tls_and_no_http2_are_refused_and_named() {
    let ours = ca();
    let server = Server::serving(&ours).await;
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // An alert, or a reset: it is over in any case.
    timeout(PATIENCE, plain.read_to_end(&mut rest)).await.unwrap().ok();
    server.counted("plaintext").await;

    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(pem::certificates(ours.certificate.as_bytes(), "ca").unwrap().remove(0))
        .unwrap();
    let with = |version, alpn: &[u8]| {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let name = ServerName::try_from(names()[0].clone()).unwrap();
    for (version, alpn) in [(&rustls::version::TLS12, ALPN), (&rustls::version::TLS13, b"http/1.1")] {
        let io = TcpStream::connect(server.address).await.unwrap();
        assert!(with(version, alpn).connect(name.clone(), io).await.is_err());
    }
    server.counted("incompatible").await;
}

#[tokio::test]
async fn without_a_certificate_the_connection_ends_at_once() {
    let server = Server::start().await;
    let started = Instant::now();
    let ended = server.dial(&ca().certificate, ClientAuth::None).await;
    let Err(DialError::Unreachable(text)) = ended else {
        panic!("{ended:?}")
    };
    assert!(text.contains("no certificate yet"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(2));
    server.counted("no-certificate").await;
}

#[tokio::test]
async fn those_that_never_finish_a_handshake_are_bounded_in_number_and_time() {
    let ours = ca();
    let server = Server::serving(&ours).await;
    let mut slow = Vec::new();
    for _ in 0..FROM_ONE {
        let mut io = TcpStream::connect(server.address).await.unwrap();
        // The beginning of a record, and no more.
        io.write_all(&[22, 3, 1]).await.unwrap();
        slow.push(io);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let crowded = server.dial(&ours.certificate, ClientAuth::None).await;
    assert!(matches!(crowded, Err(DialError::Unreachable(_))), "{crowded:?}");
    server.counted("crowded").await;
    tokio::time::sleep(HANDSHAKE).await;
    for mut io in slow {
        let mut byte = [0];
        // Nothing is left of it but the end.
        let read = timeout(Duration::from_secs(2), io.read(&mut byte)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    server.dial(&ours.certificate, ClientAuth::None).await.unwrap();
    server.counted("timeout").await;
}
