//! What the control plane says of one Node, for a single look: from a snapshot
//! file, or from the API server with the kubelet's own kubeconfig.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

use super::root::HostRoot;

/// Where kubelets keep their kubeconfig: kubeadm and most others, older
/// installers, k3s.
pub const KUBELET_KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/kubelet.conf",
    "/var/lib/kubelet/kubeconfig",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
];

/// A snapshot of 15,000 Nodes has some 150 MB; more than this is not one.
const SNAPSHOT_LIMIT: u64 = 512 << 20;

/// Waiting for the API server, in all. client-go gives a dial 30 s; a person waits less gladly.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// What a Node says, as far as it matters to its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// flannel's annotation `kube-subnet-manager`, where flannel wrote it.
    pub kube_subnet_manager: Option<bool>,
}

/// Why nothing is known of the Node. Every text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The snapshot file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The snapshot file is not what kubectl prints.
    #[error("{path} is not what `kubectl get nodes -o yaml` prints: {reason}")]
    NotASnapshot {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A pod CIDR that is none.
    #[error("Node {node:?}: podCIDR {text:?} is not a prefix")]
    Cidr {
        /// The Node.
        node: String,
        /// As written.
        text: String,
    },
    /// No kubeconfig of a kubelet is where kubelets keep theirs.
    #[error(
        "no kubelet kubeconfig found ({}): name one with --kubeconfig, or give --cluster-state FILE or --pod-cidr", KUBELET_KUBECONFIGS.join(", ")
    )]
    NoKubeconfig,
    /// The kubeconfig cannot be used.
    #[error("{path}: {reason}{}", hint(*.permission))]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        reason: String,
        /// True when the system denied the reading.
        permission: bool,
    },
    /// The API server says no.
    #[error(
        "the API server refuses the user of {path}: {reason}. Use the kubelet's own kubeconfig, grant the verb \"get\" on nodes, or give --cluster-state FILE (kubectl get nodes -o yaml)"
    )]
    Refused {
        /// The kubeconfig.
        path: String,
        /// What the API server says.
        reason: String,
    },
    /// The API server cannot be asked.
    #[error(
        "the API server {server} cannot be asked: {reason}. Give --cluster-state FILE (kubectl get nodes -o yaml) or --pod-cidr instead"
    )]
    Unreachable {
        /// Its URL.
        server: String,
        /// Why.
        reason: String,
    },
}

fn hint(permission: bool) -> &'static str {
    if permission {
        ": run as root, or give --cluster-state FILE or --pod-cidr"
    } else {
        ""
    }
}

/// Finds the Node in a file with what `kubectl get nodes -o yaml` (or json)
/// prints: a List, one Node, or several documents. `None`: it is not in there.
pub fn from_cluster_state(path: &Path, node: &str) -> Result<Option<NodeFacts>, NodeError> {
    let shown = path.display().to_string();
    let unreadable = |reason: String| NodeError::Unreadable {
        path: shown.clone(),
        reason,
    };
    let (bytes, _) = HostRoot::new("/")
        .read(path, SNAPSHOT_LIMIT)
        .map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))?;
    let documents = parse(&text).map_err(|reason| NodeError::NotASnapshot {
        path: shown.clone(),
        reason,
    })?;
    let found = documents.iter().flat_map(nodes).find(|value| name(value) == Some(node));
    found.map(|value| facts(value, node)).transpose()
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with('{') {
        let documents = serde_json::Deserializer::from_str(text).into_iter();
        return documents.collect::<Result<_, _>>().map_err(|error| error.to_string());
    }
    // No document has more events, nodes or anchors than bytes: the file's own size is the limit.
    let size = text.len().max(1);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: size, max_nodes: size, max_total_scalar_bytes: size, max_documents: size },
        with_snippet: false,
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    if documents.iter().any(Value::is_object) {
        Ok(documents)
    } else {
        Err("it holds no Kubernetes object".to_owned())
    }
}

/// The Nodes of one document.
fn nodes(document: &Value) -> Vec<&Value> {
    let kind = |value: &Value| value.get("kind").and_then(Value::as_str).map(str::to_owned);
    match document.get("items").and_then(Value::as_array) {
        // The items of a NodeList, as `kubectl get --raw` prints it, do not repeat their kind.
        Some(items) => {
            let all = kind(document).as_deref() == Some("NodeList");
            let is_node = |item: &&Value| match kind(item) {
                Some(kind) => kind == "Node",
                None => all,
            };
            items.iter().filter(is_node).collect()
        }
        None if kind(document).as_deref() == Some("Node") => vec![document],
        None => Vec::new(),
    }
}

fn name(node: &Value) -> Option<&str> {
    node.pointer("/metadata/name")?.as_str()
}

fn facts(value: &Value, node: &str) -> Result<NodeFacts, NodeError> {
    let strings = |value: Option<&Value>| -> Vec<String> {
        let all = value.and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut cidrs = strings(value.pointer("/spec/podCIDRs"));
    if cidrs.is_empty() {
        let one = value.pointer("/spec/podCIDR").and_then(Value::as_str);
        cidrs.extend(one.filter(|text| !text.is_empty()).map(str::to_owned));
    }
    let pod_cidrs = cidrs
        .into_iter()
        .map(|text| match text.parse::<IpNet>() {
            Ok(net) => Ok(net.trunc()),
            Err(_) => Err(NodeError::Cidr {
                node: node.to_owned(),
                text,
            }),
        })
        .collect::<Result<_, _>>()?;
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let internal = |entry: &&Value| entry.get("type").and_then(Value::as_str) == Some("InternalIP");
    let annotations = value.pointer("/metadata/annotations");
    let flannel = annotations.and_then(|all| all.get("flannel.alpha.coreos.com/kube-subnet-manager"));
    Ok(NodeFacts {
        pod_cidrs,
        internal_ips: addresses
            .into_iter()
            .flatten()
            .filter(internal)
            .filter_map(|entry| entry.get("address")?.as_str()?.parse().ok())
            .collect(),
        kube_subnet_manager: flannel
            .and_then(Value::as_str)
            .map(|text| text.eq_ignore_ascii_case("true")),
    })
}

/// Asks the API server with a kubeconfig: the one given, or the kubelet's own
/// of the host. `None`: there is no such Node. Also says who was asked.
pub async fn from_kubeconfig(
    root: &HostRoot,
    given: Option<&Path>,
    node: &str,
) -> Result<(Option<NodeFacts>, String), NodeError> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => kubelet_kubeconfig(root)?,
    };
    let shown = path.display().to_string();
    // A path given by a person is one of this filesystem, the kubelet's one of the host's.
    let home = if given.is_some() {
        HostRoot::new("/")
    } else {
        root.clone()
    };
    let config = config(&home, &path).await?;
    let server = config.cluster_url.to_string();
    let unreachable = |reason: String| NodeError::Unreachable {
        server: server.clone(),
        reason,
    };
    let client = Client::try_from(config).map_err(|error| NodeError::Kubeconfig {
        path: shown.clone(),
        reason: error.to_string(),
        permission: false,
    })?;
    let asked = Api::<Node>::all(client);
    let answer = tokio::time::timeout(API_TIMEOUT, asked.get_opt(node)).await;
    let found = match answer {
        Err(_) => return Err(unreachable(format!("no answer within {} s", API_TIMEOUT.as_secs()))),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            return Err(NodeError::Refused {
                path: shown,
                reason: status.message.clone(),
            });
        }
        Ok(Err(error)) => return Err(unreachable(chain(&error))),
        Ok(Ok(found)) => found,
    };
    let facts = match &found {
        None => None,
        Some(object) => {
            let value = serde_json::to_value(object).map_err(|error| unreachable(error.to_string()))?;
            Some(facts(&value, node)?)
        }
    };
    Ok((facts, server))
}

/// An error with all its causes, which name the socket, the certificate …
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += &format!(": {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn kubelet_kubeconfig(root: &HostRoot) -> Result<PathBuf, NodeError> {
    let mut paths = KUBELET_KUBECONFIGS.iter().map(PathBuf::from);
    paths.find(|path| root.exists(path)).ok_or(NodeError::NoKubeconfig)
}

async fn config(root: &HostRoot, path: &Path) -> Result<Config, NodeError> {
    let broken = |reason: String, permission: bool| NodeError::Kubeconfig {
        path: path.display().to_string(),
        reason,
        permission,
    };
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    let at = root
        .resolve(path)
        .map_err(|error| broken(error.to_string(), denied(&error)))?;
    // Asked first for the reason: kube's own error does not tell a missing right apart.
    std::fs::File::open(&at).map_err(|error| broken(error.to_string(), denied(&error)))?;
    let mut kubeconfig = Kubeconfig::read_from(&at).map_err(|error| broken(chain(&error), false))?;
    if root.base() != Path::new("/") {
        below(root, &mut kubeconfig).map_err(|reason| broken(reason, false))?;
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| broken(chain(&error), false))?;
    config.connect_timeout = Some(API_TIMEOUT / 2);
    config.read_timeout = Some(API_TIMEOUT);
    Ok(config)
}

/// Turns the host's paths in a kubeconfig into paths of this filesystem.
fn below(root: &HostRoot, kubeconfig: &mut Kubeconfig) -> Result<(), String> {
    let turn = |path: &mut Option<String>| -> Result<(), String> {
        if let Some(text) = path {
            // Relative ones are below the root already: they were made absolute by the file's own place.
            if !Path::new(text).starts_with(root.base()) {
                let at = root
                    .resolve(Path::new(text))
                    .map_err(|error| format!("{text}: {error}"))?;
                *text = at.display().to_string();
            }
        }
        Ok(())
    };
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        turn(&mut cluster.certificate_authority)?;
    }
    for user in kubeconfig
        .auth_infos
        .iter_mut()
        .filter_map(|named| named.auth_info.as_mut())
    {
        if user.exec.is_some() {
            return Err(
                "it gets its credentials by running a program of the host, which cannot be done from outside it"
                    .to_owned(),
            );
        }
        turn(&mut user.client_certificate)?;
        turn(&mut user.client_key)?;
        turn(&mut user.token_file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIST: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: node-a}
  status: gone
- apiVersion: v1
  kind: Node
  metadata:
    name: node-a
    annotations:
      flannel.alpha.coreos.com/kube-subnet-manager: \"true\"
  spec:
    podCIDR: 10.244.1.0/24
    podCIDRs:
    - 10.244.1.0/24
    - fd00:1::/64
  status:
    addresses:
    - {address: node-a, type: Hostname}
    - {address: 10.0.0.11, type: InternalIP}
";

    fn read(text: &str) -> Result<Option<NodeFacts>, NodeError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        from_cluster_state(file.path(), "node-a")
    }

    #[test]
    fn a_list_a_single_node_and_several_documents_are_read() {
        let facts = read(LIST).unwrap().unwrap();
        assert_eq!(
            facts,
            NodeFacts {
                pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
                internal_ips: vec!["10.0.0.11".parse().unwrap()],
                kube_subnet_manager: Some(true),
            }
        );
        let one = "kind: Node\nmetadata: {name: node-a}\nspec: {podCIDR: 10.244.1.0/24}\n";
        assert_eq!(read(one).unwrap().unwrap().pod_cidrs, facts.pod_cidrs[..1]);
        let several = format!("kind: Node\nmetadata: {{name: node-b}}\n---\n{one}");
        assert_eq!(read(&several).unwrap().unwrap().pod_cidrs, facts.pod_cidrs[..1]);
        let json = r#"{"kind": "NodeList", "items": [{"metadata": {"name": "node-a"}, "spec": {}}]}"#;
        assert_eq!(read(json).unwrap().unwrap().pod_cidrs, []);
    }

    #[test]
    fn a_node_that_is_not_there_is_not_an_error() {
        assert_eq!(read("kind: List\nitems: []\n").unwrap(), None);
    }

    #[test]
    fn a_list_of_thousands_of_nodes_is_no_surprise() {
        let mut text = String::from("kind: List\nitems:\n");
        for at in 0..6000 {
            text += &format!(
                "- kind: Node\n  metadata:\n    name: node-{at}\n    labels: {{a: b, c: d, e: f, g: h, i: j, k: l, m: n, o: p, q: r, s: t, u: v}}\n"
            );
        }
        text += "- kind: Node\n  metadata: {name: node-a}\n";
        assert!(read(&text).unwrap().is_some());
    }

    #[test]
    fn nonsense_is_an_error_that_says_what_was_expected() {
        for text in ["", "just words", "{\"kind\": ", "a: [", "- 1\n- 2\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains("is not what `kubectl get nodes -o yaml` prints"),
                "{text:?}: {error}"
            );
        }
        let error = read("kind: Node\nmetadata: {name: node-a}\nspec: {podCIDR: 10.244.1.0}\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Node \"node-a\": podCIDR \"10.244.1.0\" is not a prefix"
        );
    }

    /// A kubeconfig below a root of its own, as the kubelet keeps it, for a server at `port`.
    fn host(port: u16) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/kubernetes")).unwrap();
        std::fs::write(dir.path().join("etc/kubernetes/token"), "secret").unwrap();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             users: [{{name: u, user: {{tokenFile: /etc/kubernetes/token}}}}]\n"
        );
        std::fs::write(dir.path().join("etc/kubernetes/kubelet.conf"), text).unwrap();
        let root = HostRoot::new(dir.path());
        (dir, root)
    }

    /// Answers one request and returns it.
    async fn answer(status: &str, body: &str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reply = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let got = stream.read(&mut request).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..got]).into_owned()
        });
        (port, served)
    }

    #[tokio::test]
    async fn the_kubelets_kubeconfig_of_a_mounted_host_is_used() {
        let body = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}, "spec": {"podCIDRs": ["10.244.1.0/24"]}}"#;
        let (port, served) = answer("200 OK", body).await;
        let (_dir, root) = host(port);
        let (facts, server) = from_kubeconfig(&root, None, "node-a").await.unwrap();
        assert_eq!(facts.unwrap().pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
        assert_eq!(server, format!("http://127.0.0.1:{port}/"));
        let request = served.await.unwrap().to_lowercase();
        assert!(request.starts_with("get /api/v1/nodes/node-a"), "{request}");
        assert!(request.contains("authorization: bearer secret"), "{request}");
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do_next() {
        let body = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "nodes \"node-a\" is forbidden: node \"node-b\" cannot read \"node-a\", only its own Node object"}"#;
        let (port, _served) = answer("403 Forbidden", body).await;
        let (_dir, root) = host(port);
        let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
        assert!(error.contains("only its own Node object"), "{error}");
        assert!(error.contains("--cluster-state"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_the_api_server_does_not_know_is_not_an_error() {
        let body = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": "nodes \"node-a\" not found"}"#;
        let (port, _served) = answer("404 Not Found", body).await;
        let (_dir, root) = host(port);
        let (facts, _) = from_kubeconfig(&root, None, "node-a").await.unwrap();
        assert_eq!(facts, None);
    }

    #[tokio::test]
    async fn an_api_server_that_is_not_there_and_a_missing_kubeconfig_are_told_apart() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let (_dir, root) = host(port);
        let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
        assert!(
            error.contains("refused") && error.contains("--cluster-state"),
            "{error}"
        );
        let empty = tempfile::tempdir().unwrap();
        let error = from_kubeconfig(&HostRoot::new(empty.path()), None, "node-a")
            .await
            .unwrap_err();
        assert!(matches!(error, NodeError::NoKubeconfig));
    }

    #[tokio::test]
    async fn a_program_of_a_mounted_host_is_never_run() {
        let (dir, root) = host(1);
        let path = dir.path().join("etc/kubernetes/kubelet.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace(
                "tokenFile: /etc/kubernetes/token",
                "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}",
            ),
        )
        .unwrap();
        let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
        assert!(error.contains("running a program of the host"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]{}:,a-z\"'#&*!|>\n -]{0,120}") {
            let _ = parse(&text);
        }
    }
}
