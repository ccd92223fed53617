//! The aggregator's CA in a real cluster: made once by two that start together, told, rotated as a person asks, kept
//! while the API server is gone; and `kubectl cidrift`'s words where rights are missing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cidrift_aggregator::app::App;
use cidrift_aggregator::cli::Cli;
use cidrift_lab::binaries;
use cidrift_lab::kubernetes::Cluster;
use cidrift_lab::require::{Need, have};
use cidrift_proto::tls::dial::{ClientAuth, DialError, Trust, tcp};
use cidrift_proto::tls::pem;
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::role;
use crate::world::{ask, start, without_nodes};

const PATIENCE: Duration = Duration::from_secs(30);
const SECRET: &str = "/api/v1/namespaces/cidrift/secrets/cidrift-aggregator-ca";
const MAP: &str = "/api/v1/namespaces/cidrift/configmaps/cidrift-trust";

/// An aggregator of this process.
struct Aggregator {
    grpc: SocketAddr,
    http: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Aggregator {
    fn start(runtime: &Runtime, kubeconfig: &Path) -> Self {
        let words = [
            "cidrift-aggregator",
            "--listen=127.0.0.1:0",
            "--http-listen=127.0.0.1:0",
            "--namespace=cidrift",
            "--advertise=10.0.0.1",
            // Looks come every 250 ms then, and a CA that was told signs after a second.
            "--ca-lead=1s",
        ];
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let words = words.iter().map(|word| (*word).to_owned()).chain([kubeconfig]);
        let cli = Cli::parse_from(words);
        runtime.block_on(async {
            let app = App::bind(cli).await.unwrap();
            let (grpc, http) = app.addresses().unwrap();
            let stop = CancellationToken::new();
            tokio::spawn(app.serve(stop.clone()));
            Self { grpc, http, stop }
        })
    }

    fn get(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Whether somebody who believes `bundle` and shows `client` is let in.
    fn lets_in(&self, runtime: &Runtime, bundle: &str, client: ClientAuth) -> Result<(), DialError> {
        let trust = Trust::new(bundle.as_bytes(), "bundle", client).unwrap();
        runtime.block_on(async {
            let io = tcp(&self.grpc.to_string(), PATIENCE).await?;
            let mut io = trust.handshake(io, PATIENCE).await?;
            let verdict = io.verdict();
            // The server judges a client after the handshake. It sends its HTTP/2 settings only to a client that
            // has begun: silence is consent.
            let read = tokio::time::timeout(Duration::from_millis(500), io.read_u8()).await;
            match verdict.said() {
                Some(said) => Err(DialError::Untrusted(said.to_owned())),
                None if matches!(read, Ok(Err(_))) => Err(DialError::Unreachable(format!("{read:?}"))),
                None => Ok(()),
            }
        })
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn raw(cluster: &Cluster, path: &str) -> Option<Value> {
    serde_json::from_str(&cluster.api().raw(path).ok()?).ok()
}

fn bundle(cluster: &Cluster) -> Option<String> {
    Some(raw(cluster, MAP)?["data"]["ca.crt"].as_str()?.to_owned())
}

fn count(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

/// The rights of the README for the CA, for this user.
fn grant(cluster: &Cluster, user: &str) {
    let rules = json!([
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["cidrift-aggregator-ca"], "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cidrift-trust"], "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["extension-apiserver-authentication"],
         "verbs": ["get"]},
    ]);
    role::bind(cluster, user, "ca", rules);
}

/// The client certificate of a kubeconfig that the bench wrote.
fn client_of(kubeconfig: &Path) -> ClientAuth {
    use base64::Engine as _;
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let bytes = |key: &str| {
        let text = config["users"][0]["user"][key].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let chain = pem::certificates(&bytes("client-certificate-data"), "certificate").unwrap();
    ClientAuth::Pair(chain, pem::key(&bytes("client-key-data"), "key").unwrap())
}

#[test]
fn the_ca_is_made_once_told_to_all_rotated_as_a_person_asks_and_outlives_the_api_server() {
    if !have(Need::Kubernetes) {
        return;
    }
    let cluster = start(without_nodes());
    ask(
        &cluster,
        "POST",
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "cidrift"}}),
    );
    let kubeconfig = cluster.kubeconfig_for("aggregator", None, false).unwrap();
    let runtime = Runtime::new().unwrap();
    let one = Aggregator::start(&runtime, &kubeconfig);
    // Nothing is allowed yet: the missing right is named.
    let says = until("readiness names the right", || {
        Some(one.get("/readyz")).filter(|text| text.contains("may not get Secret cidrift/cidrift-aggregator-ca"))
    });
    assert!(says.contains("pending: certificate"), "{says}");
    cluster.plane().apiserver.kill();
    // And one that starts without any API server at all.
    let two = Aggregator::start(&runtime, &kubeconfig);
    until("readiness says that nobody answers", || {
        two.get("/readyz")
            .contains("pending: certificate: cannot get Secret")
            .then_some(())
    });
    cluster.plane().apiserver.start_again().unwrap();
    until("the API server is back", || raw(&cluster, "/api/v1/namespaces/cidrift"));
    grant(&cluster, "aggregator");

    let first = until("the CA is told", || bundle(&cluster));
    assert_eq!(count(&first), 1);
    assert_eq!(
        raw(&cluster, MAP).unwrap()["data"]["addresses"]
            .as_str()
            .unwrap()
            .split(':')
            .next(),
        Some("10.0.0.1")
    );
    for aggregator in [&one, &two] {
        until("both serve by the same CA", || {
            aggregator.lets_in(&runtime, &first, ClientAuth::None).ok()
        });
    }

    // Clients of the cluster's own CA are known; a stranger's certificate is refused.
    let known = || client_of(&kubeconfig);
    let stranger = {
        let made = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let key = move || pem::key(key.as_bytes(), "key").unwrap();
        move || ClientAuth::Pair(vec![made.cert.der().clone()], key())
    };
    until("clients' CAs are known", || {
        one.lets_in(&runtime, &first, stranger()).err()
    });
    one.lets_in(&runtime, &first, known()).unwrap();

    // A person asks for another.
    let wish = json!({"metadata": {"annotations": {"cidrift.dev/rotate": "now"}}});
    ask(&cluster, "PATCH", SECRET, &wish);
    let both = until("the next CA is told", || {
        bundle(&cluster).filter(|text| count(text) == 2)
    });
    assert!(both.contains(first.trim()));
    until("it signs, at both", || {
        let late = |one: &Aggregator| one.lets_in(&runtime, &first, ClientAuth::None).is_err();
        (late(&one) && late(&two)).then_some(())
    });
    one.lets_in(&runtime, &both, ClientAuth::None).unwrap();
    two.lets_in(&runtime, &both, ClientAuth::None).unwrap();
    let secret = raw(&cluster, SECRET).unwrap();
    assert!(
        secret["metadata"]["annotations"]["cidrift.dev/rotate"].is_null(),
        "{secret}"
    );
    assert!(secret["data"]["previous.crt"].is_string() && secret["data"]["next.key"].is_null());

    // A person empties the ConfigMap: it is told again. He breaks the Secret: said, not overwritten, and still served.
    ask(&cluster, "PATCH", MAP, &json!({"data": {"ca.crt": ""}}));
    until("it is told again", || {
        bundle(&cluster).filter(|text| *text == bundle_of(&both, text))
    });
    ask(&cluster, "PATCH", SECRET, &json!({"data": {"ca.key": "aGVsbG8="}}));
    until("the trouble is counted", || {
        one.get("/metrics")
            .contains("tls_troubles_total{part=\"ca\"}")
            .then_some(())
    });
    assert_eq!(raw(&cluster, SECRET).unwrap()["data"]["ca.key"], "aGVsbG8=");
    one.lets_in(&runtime, &both, ClientAuth::None).unwrap();

    // Without an API server it goes on serving.
    cluster.plane().apiserver.kill();
    std::thread::sleep(Duration::from_secs(2));
    two.lets_in(&runtime, &both, ClientAuth::None).unwrap();
}

/// The same CAs, in whatever order they stand.
fn bundle_of(wanted: &str, found: &str) -> String {
    let set = |text: &str| -> std::collections::BTreeSet<Vec<u8>> {
        let all = pem::certificates(text.as_bytes(), "bundle").unwrap_or_default();
        all.iter().map(|one| one.to_vec()).collect()
    };
    if set(wanted) == set(found) {
        found.to_owned()
    } else {
        String::new()
    }
}

fn kubectl(program: &Path, kubeconfig: &Path) -> String {
    let ran = Command::new(program)
        .args(["status", "--kubeconfig"])
        .arg(kubeconfig)
        .env_remove("CIDRIFT_SERVER")
        .env_remove("CIDRIFT_CA")
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2));
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn kubectl_names_the_right_or_the_object_that_is_missing() {
    if !have(Need::Kubernetes) {
        return;
    }
    let program: PathBuf = binaries::find(|text| eprintln!("{text}")).unwrap().kubectl;
    let cluster = start(without_nodes());
    let kubeconfig = cluster.kubeconfig_for("operator", None, false).unwrap();
    let says = |words: &[&str]| {
        let text = kubectl(&program, &kubeconfig);
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    };
    let rule = |resource: &str, verbs: &[&str]| json!([{"apiGroups": [""], "resources": [resource], "verbs": verbs}]);
    // RBAC's caches are a moment behind.
    let bind = |name: &str, rules: Value| {
        role::bind(&cluster, "operator", name, rules);
        std::thread::sleep(Duration::from_secs(2));
    };
    says(&[
        "may not get configmaps cidrift-trust in namespace cidrift",
        "resources [\"configmaps\"]",
        "verbs [\"get\"]",
    ]);
    bind("maps", rule("configmaps", &["get"]));
    says(&["no ConfigMap cidrift-trust", "-n"]);
    ask(
        &cluster,
        "POST",
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "cidrift"}}),
    );
    let maps = "/api/v1/namespaces/cidrift/configmaps";
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let map = json!({"metadata": {"name": "cidrift-trust"}, "data": {"ca.crt": made.cert.pem()}});
    ask(&cluster, "POST", maps, &map);
    says(&["may not list pods in namespace cidrift", "verbs [\"list\"]"]);
    bind("pods", rule("pods", &["list"]));
    says(&["no pod of the aggregator", "is cidrift installed there"]);
    let pods = "/api/v1/namespaces/cidrift/pods";
    let pod = json!({"metadata": {"name": "a1", "labels": {"app.kubernetes.io/name": "cidrift-aggregator"}},
        "spec": {"automountServiceAccountToken": false, "nodeName": "n1",
            "containers": [{"name": "aggregator", "image": "x"}]}});
    let made = until("a pod may be made", || {
        let client = cluster.api().client();
        let request = http::Request::post(pods).header("content-type", "application/json");
        let request = request.body(pod.to_string().into_bytes()).unwrap();
        cluster.api().block_on(client.request::<Value>(request)).ok()
    });
    assert_eq!(made["metadata"]["name"], "a1");
    says(&["a1 is Pending"]);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    ask(&cluster, "PATCH", "/api/v1/namespaces/cidrift/pods/a1/status", &status);
    says(&[
        "may not create pods/portforward a1 in namespace cidrift",
        "verbs [\"get\", \"create\"]",
    ]);
    bind("forward", rule("pods/portforward", &["get", "create"]));
    says(&["cannot create pods/portforward a1"]);
}
