//! The real flanneld as people run it: a DaemonSet of pods in the hosts' network, with labels and rights of upstream's
//! `kube-flannel.yml`.
//!
//! It is the data plane between the nodes of [`Cni::Template`](crate::kubernetes::Cni): its own CNI plugin is not to be
//! had here, so containerd's `conf_template` makes the pods' side. Its backend is host-gw, and it needs no firewall:
//! nothing is masqueraded, and forwarding is not filtered here.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::kubernetes::client::pod_cidrs;
use crate::kubernetes::control_plane::API_PORT;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::kubectl::Kubectl;
use crate::kubernetes::{Cluster, Node, image, optional, tools};
use crate::topology;

/// Its namespace.
pub const NAMESPACE: &str = "kube-flannel";

/// Its DaemonSet.
pub const DAEMON_SET: &str = "kube-flannel-ds";

/// Its image, made here from the program that was built.
const IMAGE: &str = "ghcr.io/flannel-io/flannel:v0.26.7";

/// How long its pods may take until the nodes have their routes: 5 s on an idle machine.
const READY: Duration = Duration::from_secs(90);

/// Imports its image on every node, applies its manifest, and returns once every node has a route to every peer's CIDRs.
///
/// # Errors
///
/// flanneld cannot be built, imported or applied, or the routes do not come about.
pub fn install(cluster: &Cluster, progress: &dyn Fn(&str)) -> Result<()> {
    install_in(cluster, &cluster.scenario().cluster_cidr, progress)
}

/// The same with these networks in its configuration, one a family: outside of them flanneld takes no CIDR.
///
/// # Errors
///
/// As [`install`].
pub fn install_in(cluster: &Cluster, networks: &[IpNet], progress: &dyn Fn(&str)) -> Result<()> {
    let program = tools::build(&optional::FLANNEL, progress)?.path("flannel")?;
    let archive = &image::with_libraries(&program, IMAGE, "opt/bin/flanneld")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = cluster
            .nodes()
            .iter()
            .map(|node| scope.spawn(move || node.import(archive)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        // Every thread is waited for, also after a failure.
        threads
            .into_iter()
            .map(join)
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Result<()>>()
    })?;
    let manifest = cluster.directory().join("kube-flannel.json");
    fs::write(&manifest, format!("{:#}\n", manifests(networks)))
        .map_err(io(format!("write {}", manifest.display())))?;
    let kubectl = Kubectl::new(cluster, Path::new("/"), progress)?;
    kubectl.run(&["apply", "-f", &manifest.to_string_lossy()])?;
    wait_routes(cluster, READY)?;
    progress("flanneld runs on every node, and every node has a route to each of its peers");
    Ok(())
}

/// Waits until every node has a route to the CIDRs of every other, as their Node objects say them now, through that
/// node's own address.
///
/// # Errors
///
/// Some do not come about in `patience`; with the first that is missing.
pub fn wait_routes(cluster: &Cluster, patience: Duration) -> Result<()> {
    let mut missing = String::new();
    let waited = cluster
        .api()
        .wait("every node has a route to every peer", patience, || {
            missing = missing_routes(cluster)?.join("; ");
            Ok(missing.is_empty().then_some(()))
        });
    waited.map_err(|error| Error::Malformed(format!("{error}; missing: {missing}")))
}

/// The routes between nodes that are not there, as `ip route` would show them with the node before: `n1: 10.244.1.0/24
/// via 172.30.0.12`. A Node without a CIDR is missing whole.
///
/// # Errors
///
/// A Node or a node's routes cannot be read.
pub fn missing_routes(cluster: &Cluster) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for node in cluster.nodes() {
        let cidrs = cluster.api().node(&node.name)?.map(|object| pod_cidrs(&object));
        wanted.push((node, cidrs.unwrap_or_default()));
    }
    let mut missing: Vec<String> = wanted
        .iter()
        .filter(|(_, cidrs)| cidrs.is_empty())
        .map(|(node, _)| format!("{} has no CIDR", node.name))
        .collect();
    for (node, _) in &wanted {
        let there = routes(node)?;
        for (peer, cidrs) in wanted.iter().filter(|(peer, _)| peer.name != node.name) {
            for cidr in cidrs {
                let route = format!("{cidr} via {}", address(peer, cidr)?);
                if !there.lines().any(|line| line.starts_with(&format!("{route} "))) {
                    missing.push(format!("{}: {route}", node.name));
                }
            }
        }
    }
    Ok(missing)
}

/// What `ip route` shows on a node, of both families.
///
/// # Errors
///
/// It cannot be run.
pub fn routes(node: &Node) -> Result<String> {
    let mut all = String::new();
    for family in ["-4", "-6"] {
        let output = node.run("/sbin/ip", &[family, "route"])?;
        all += &String::from_utf8_lossy(&output.stdout);
    }
    Ok(all)
}

/// A node's own address in a CIDR's family.
fn address(node: &Node, cidr: &IpNet) -> Result<IpAddr> {
    let of_family = |address: &&IpAddr| address.is_ipv4() == cidr.addr().is_ipv4();
    let found = node.addresses.iter().find(of_family);
    let lacks = || Error::Malformed(format!("{} has no address of the family of {cidr}", node.name));
    found.copied().ok_or_else(lacks)
}

/// `net-conf.json`.
fn configuration(networks: &[IpNet]) -> Value {
    let of = |v4: bool| networks.iter().find(|net| net.addr().is_ipv4() == v4);
    let mut all = json!({"EnableNFTables": false, "EnableIPv4": of(true).is_some(), "Backend": {"Type": "host-gw"}});
    if let Some(network) = of(true) {
        all["Network"] = json!(network);
    }
    if let Some(network) = of(false) {
        all["EnableIPv6"] = json!(true);
        all["IPv6Network"] = json!(network);
    }
    all
}

/// Upstream's, but for what is said at the top of this file.
fn manifests(networks: &[IpNet]) -> Value {
    let labels = json!({"tier": "node", "app": "flannel", "k8s-app": "flannel"});
    let named = |name: &str| json!({"name": name, "labels": {"k8s-app": "flannel"}});
    let inside = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": NAMESPACE,
            "labels": {"k8s-app": "flannel", "pod-security.kubernetes.io/enforce": "privileged"},
        }},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": named("flannel"), "rules": [
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": named("flannel"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
            "subjects": [{"kind": "ServiceAccount", "name": "flannel", "namespace": NAMESPACE}]},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": inside("flannel")},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": inside("kube-flannel-cfg"),
            "data": {"net-conf.json": configuration(networks).to_string()}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": inside(DAEMON_SET), "spec": {
            "selector": {"matchLabels": {"app": "flannel"}},
            "template": {"metadata": {"labels": labels}, "spec": pod()},
        }},
    ]})
}

fn pod() -> Value {
    json!({
        "hostNetwork": true,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "flannel",
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 5,
        "containers": [{
            "name": "kube-flannel",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["/opt/bin/flanneld"],
            "args": ["--kube-subnet-mgr", "--ip-masq=false", "--iptables-forward-rules=false", "--iface=eth0"],
            "securityContext": {"privileged": false, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
            "env": [
                {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                // No kube-proxy serves the address of Service kubernetes here.
                {"name": "KUBERNETES_SERVICE_HOST", "value": topology::GATEWAY.to_string()},
                {"name": "KUBERNETES_SERVICE_PORT", "value": API_PORT.to_string()},
            ],
            "volumeMounts": [
                {"name": "run", "mountPath": "/run/flannel"},
                {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel/"},
            ],
        }],
        "volumes": [
            {"name": "run", "hostPath": {"path": "/run/flannel", "type": "DirectoryOrCreate"}},
            {"name": "flannel-cfg", "configMap": {"name": "kube-flannel-cfg"}},
        ],
    })
}
