//! Who may ask, over real gRPC: every call has its right, `kubectl cidrift` says which one is missing, and a client
//! certificate of the TLS handshake reaches the rules.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use cidrift_aggregator::engine::{Config, Engine};
use cidrift_aggregator::identity::access::Rule;
use cidrift_aggregator::identity::authority::{Access, PodPlace, Reviewed, Unavailable};
use cidrift_aggregator::identity::token::Token;
use cidrift_aggregator::identity::{Authority, Checked, Identity, Question, User};
use cidrift_aggregator::metrics::Metrics;
use cidrift_aggregator::query::Query;
use cidrift_proto::v1;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use support::World;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity as Pair, Server, ServerTlsConfig};
use tonic::{Code, Request, Status};

/// Knows jane's token, and lets nobody ask anything; notes who wanted what.
#[derive(Default)]
struct Strict {
    wanted: Mutex<Vec<(User, Rule)>>,
}

#[tonic::async_trait]
impl Authority for Strict {
    async fn review(&self, token: &Token, audience: Option<&str>) -> Result<Reviewed, Unavailable> {
        assert_eq!(audience, None);
        Ok(match token.secret() {
            "janes" => Reviewed::Known {
                user: User {
                    name: "jane".to_owned(),
                    ..User::default()
                },
                audiences: Vec::new(),
            },
            _ => Reviewed::Refused("unknown token".to_owned()),
        })
    }

    async fn pod(&self, _namespace: &str, _name: &str) -> Result<Option<PodPlace>, Unavailable> {
        Ok(None)
    }

    async fn allowed(&self, user: &User, rule: Rule) -> Result<Access, Unavailable> {
        self.wanted.lock().unwrap().push((user.clone(), rule));
        Ok(Access {
            allowed: false,
            reason: String::new(),
        })
    }
}

fn strict() -> (Arc<Strict>, Identity) {
    let strict = Arc::<Strict>::default();
    let authority: Arc<dyn Authority> = Arc::<Strict>::clone(&strict);
    let checked = Checked::new(
        authority,
        "cidrift/cidrift-agent".parse().unwrap(),
        Arc::<Metrics>::default(),
    );
    (strict, Identity::Checked(Arc::new(checked)))
}

fn by_jane<T>(question: T) -> Request<T> {
    let mut request = Request::new(question);
    request
        .metadata_mut()
        .insert("authorization", "Bearer janes".parse().unwrap());
    request
}

#[tokio::test]
async fn no_call_is_answered_without_its_own_right() {
    let (strict, identity) = strict();
    let world = World::empty_for(identity).await;
    let mut client = world.client().await;
    let refused: Vec<Status> = vec![
        client
            .get_status(by_jane(v1::GetStatusRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .list_nodes(by_jane(v1::ListNodesRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .get_node(by_jane(v1::GetNodeRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .list_findings(by_jane(v1::ListFindingsRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .watch_findings(by_jane(v1::WatchFindingsRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .get_path(by_jane(v1::GetPathRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
        client
            .get_pool(by_jane(v1::GetPoolRequest::default()))
            .await
            .map(drop)
            .unwrap_err(),
    ];
    for status in &refused {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains("cidrift-viewer"), "{status}");
    }
    let wanted: BTreeSet<Rule> = strict.wanted.lock().unwrap().iter().map(|(_, rule)| *rule).collect();
    let all: BTreeSet<Rule> = Question::ALL.into_iter().map(Question::rule).collect();
    assert_eq!(wanted, all);
    // Whoever shows nothing learns nothing, not even which nodes there are.
    let status = client.get_node(v1::GetNodeRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_program_says_why_it_gets_no_answer() {
    let (_, identity) = strict();
    let world = World::empty_for(identity).await;
    for arguments in [&["status"][..], &["findings", "--watch"], &["version"]] {
        let program = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-cidrift"))
            .args(["--server", &format!("http://{}", world.address)])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let errors = String::from_utf8(program.stderr).unwrap();
        assert_eq!(program.status.code(), Some(2), "{errors}");
        assert!(errors.contains("who is asking?"), "{errors}");
    }
}

/// An authority, and a pair that it signs for this common name and organization.
fn pair(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str, group: &str, purpose: ExtendedKeyUsagePurpose) -> Pair {
    let mut params = CertificateParams::new(vec!["cidrift-aggregator".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Pair::from_pem(certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn the_client_certificate_of_the_handshake_is_who_asks() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca = Certificate::from_pem(issuer.pem());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (strict, identity) = strict();
    let engine = Engine::new(Config {
        hold: support::HOLD,
        settle: support::HOLD,
        silence: support::HOLD,
        pool: Default::default(),
    });
    let query = Query::new(engine, CancellationToken::new()).with_identity(identity, Arc::default());
    let tls = ServerTlsConfig::new()
        .identity(pair(&issuer, "server", "none", ExtendedKeyUsagePurpose::ServerAuth))
        .client_ca_root(ca.clone())
        .client_auth_optional(true);
    let server = Server::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(query.into_server());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let connect = async |pair: Option<Pair>| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca.clone())
            .domain_name("cidrift-aggregator");
        let tls = match pair {
            Some(pair) => tls.identity(pair),
            None => tls,
        };
        let channel = Channel::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(tls)
            .unwrap();
        QueryServiceClient::new(channel.connect().await.unwrap())
    };
    let mut nobody = connect(None).await;
    let status = nobody.get_pool(v1::GetPoolRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let mut jane = connect(Some(pair(&issuer, "jane", "ops", ExtendedKeyUsagePurpose::ClientAuth))).await;
    let status = jane.get_pool(v1::GetPoolRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let wanted = strict.wanted.lock().unwrap().clone();
    let [(user, rule)] = &wanted[..] else {
        panic!("{wanted:?}")
    };
    assert_eq!((user.name.as_str(), *rule), ("jane", Question::Pool.rule()));
    assert_eq!(user.groups, ["ops", "system:authenticated"]);
}

/// What `kubectl cidrift status` says on standard error.
async fn complaint(arguments: &[&str]) -> String {
    let program = tokio::process::Command::new(env!("CARGO_BIN_EXE_kubectl-cidrift"))
        .args(arguments)
        .arg("status")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(program.status.code(), Some(2), "{program:?}");
    String::from_utf8(program.stderr).unwrap()
}

#[tokio::test]
async fn who_takes_the_wrong_scheme_is_told_which_one_is_right() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca = std::env::temp_dir().join(format!("cidrift-{}-scheme.crt", std::process::id()));
    std::fs::write(&ca, issuer.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, identity) = strict();
    let world = World::empty_for(identity.clone()).await;
    let engine = Engine::new(Config {
        hold: support::HOLD,
        settle: support::HOLD,
        silence: support::HOLD,
        pool: Default::default(),
    });
    let query = Query::new(engine, CancellationToken::new()).with_identity(identity, Arc::default());
    let own = pair(&issuer, "server", "none", ExtendedKeyUsagePurpose::ServerAuth);
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(own))
        .unwrap()
        .add_service(query.into_server());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let url = format!("http://{address}");
    let said = complaint(&["--server", &url]).await;
    assert!(
        said.contains(&format!("{url} speaks TLS: ask it by https://")),
        "{said}"
    );
    let said = complaint(&[
        "--server",
        &format!("https://{}", world.address),
        "--ca",
        ca.to_str().unwrap(),
    ])
    .await;
    assert!(
        said.contains("it does not speak TLS") && said.contains("then http://"),
        "{said}"
    );
    // Who is there and speaks neither is not said to speak TLS.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    tokio::spawn(async move { while nobody.accept().await.is_ok() {} });
    let said = complaint(&["--server", &url]).await;
    assert!(!said.contains("speaks TLS"), "{said}");
    std::fs::remove_file(ca).unwrap();
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_named_in_one_pair_of_quotes() {
    let said = complaint(&["--kubeconfig", "/nonexistent/config"]).await;
    assert!(said.contains("from \"/nonexistent/config\": No such file"), "{said}");
}
