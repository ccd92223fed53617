//! What the control plane says of one Node, for a single look: from a snapshot
//! file or a pipe, or from the API server with the kubelet's own kubeconfig.

use std::fs::File;
use std::io::{self, Read};
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
    /// kube-router's annotations `kube-router.io/pod-cidrs` or `pod-cidr`, which
    /// it takes before `spec.podCIDRs`; empty without them.
    pub kube_router_cidrs: Vec<IpNet>,
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
/// prints: a List, one Node, or several documents. "-" is standard input. `None`: it is not in there. Also says what was read.
pub fn from_cluster_state(path: &Path, node: &str) -> Result<(Option<NodeFacts>, String), NodeError> {
    let (shown, opened): (String, io::Result<Box<dyn Read>>) = match path == Path::new("-") {
        true => ("standard input".to_owned(), Ok(Box::new(io::stdin().lock()))),
        // A person names it: it may well be a pipe (`<(kubectl …)`), whose writer is waited for.
        false => (
            path.display().to_string(),
            File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
        ),
    };
    let text = opened.map_err(|error| error.to_string()).and_then(whole);
    let text = text.map_err(|reason| NodeError::Unreadable {
        path: shown.clone(),
        reason,
    })?;
    let documents = parse(&text).map_err(|reason| NodeError::NotASnapshot {
        path: shown.clone(),
        reason,
    })?;
    let found = documents.iter().flat_map(nodes).find(|value| name(value) == Some(node));
    Ok((found.map(|value| facts(value, node)).transpose()?, shown))
}

/// All of a text, or why there is none.
fn whole(from: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = from.take(SNAPSHOT_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SNAPSHOT_LIMIT {
        return Err(format!("it is longer than {} MiB", SNAPSHOT_LIMIT >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

fn parse(text: &str) -> Result<Vec<Value>, String> {
    // What a kubectl that failed leaves in a pipe.
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
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
    let pod_cidrs = prefixes(cidrs, node)?;
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let internal = |entry: &&Value| entry.get("type").and_then(Value::as_str) == Some("InternalIP");
    let annotations = value.pointer("/metadata/annotations");
    let annotation = |key: &str| annotations.and_then(|all| all.get(key)?.as_str());
    let kube_router = annotation("kube-router.io/pod-cidrs").or_else(|| annotation("kube-router.io/pod-cidr"));
    let kube_router = kube_router.into_iter().flat_map(|list| list.split(','));
    let flannel = annotation("flannel.alpha.coreos.com/kube-subnet-manager");
    Ok(NodeFacts {
        pod_cidrs,
        kube_router_cidrs: prefixes(kube_router.map(|text| text.trim().to_owned()).collect(), node)?,
        internal_ips: addresses
            .into_iter()
            .flatten()
            .filter(internal)
            .filter_map(|entry| entry.get("address")?.as_str()?.parse().ok())
            .collect(),
        kube_subnet_manager: flannel.map(|text| text.eq_ignore_ascii_case("true")),
    })
}

fn prefixes(texts: Vec<String>, node: &str) -> Result<Vec<IpNet>, NodeError> {
    let one = |text: String| match text.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc()),
        Err(_) => Err(NodeError::Cidr {
            node: node.to_owned(),
            text,
        }),
    };
    texts.into_iter().map(one).collect()
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
    let mut denied = None;
    for path in KUBELET_KUBECONFIGS.map(PathBuf::from) {
        match root.resolve(&path).and_then(|at| at.metadata()) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = denied.or(Some((path, error))),
            Err(_) => {}
        }
    }
    match denied {
        None => Err(NodeError::NoKubeconfig),
        Some((path, error)) => Err(NodeError::Kubeconfig {
            path: path.display().to_string(),
            reason: error.to_string(),
            permission: true,
        }),
    }
}

async fn config(root: &HostRoot, path: &Path) -> Result<Config, NodeError> {
    let broken = |reason: String, permission: bool| NodeError::Kubeconfig {
        path: path.display().to_string(),
        reason,
        permission,
    };
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let at = root
        .resolve(path)
        .map_err(|error| broken(error.to_string(), denied(&error)))?;
    // Asked first for the reason: kube's own error does not tell a missing right apart.
    File::open(&at).map_err(|error| broken(error.to_string(), denied(&error)))?;
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
mod tests;
