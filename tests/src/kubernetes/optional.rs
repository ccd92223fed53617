//! What a cluster can have beside Kubernetes' own programs: flanneld,
//! containerd 2, the Cilium operator, kubectl. Each is built when it is first asked for.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cni;
use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::node::Node;
use crate::kubernetes::pki::write;
use crate::kubernetes::place;
use crate::kubernetes::scenario::Backend;
use crate::kubernetes::service::Service;
use crate::kubernetes::tools::{GoModule, Tools};

/// flanneld 0.26.7.
pub const FLANNEL: GoModule = GoModule {
    name: "flannel 0.26.7",
    directory: "flannel",
    programs: &["github.com/flannel-io/flannel"],
    tags: "",
    ldflags: "-s -w -X github.com/flannel-io/flannel/pkg/version.Version=v0.26.7",
    // Its backend udp has C in it.
    cgo: true,
    packages: 900,
};

/// containerd 2.4.2.
pub const CONTAINERD: GoModule = GoModule {
    name: "containerd 2.4.2",
    directory: "containerd",
    programs: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    tags: "no_btrfs no_zfs no_devmapper",
    ldflags: "-s -w -X github.com/containerd/containerd/v2/version.Version=2.4.2",
    cgo: false,
    packages: 900,
};

/// The Cilium operator 1.15.19, with the IPAM of cluster pools.
pub const CILIUM: GoModule = GoModule {
    name: "Cilium operator 1.15.19",
    directory: "cilium",
    programs: &["github.com/cilium/cilium/operator"],
    tags: "ipam_provider_operator",
    ldflags: "-s -w",
    cgo: false,
    packages: 1100,
};

/// kubectl, of the control plane's release.
pub const KUBECTL: GoModule = GoModule {
    name: "kubectl 1.36.3",
    directory: "kubectl",
    programs: &["k8s.io/kubernetes/cmd/kubectl"],
    tags: "",
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",
    cgo: false,
    packages: 900,
};

/// How long flanneld may take until it has its subnet: it waits for the Node's CIDR.
const FLANNEL_READY: Duration = Duration::from_secs(60);

/// Starts flanneld on every node, as its DaemonSet does, and writes the
/// configuration that flannel's CNI plugin delegates to: a bridge with the
/// subnet and MTU that flanneld was given.
pub(crate) fn start_flannel(cluster: &Cluster, tools: &Tools, backend: Backend) -> Result<Vec<Service>> {
    let network = cluster.scenario().cluster_cidr.iter().find(|net| net.addr().is_ipv4());
    let network = network.ok_or_else(|| Error::Malformed("flannel needs an IPv4 --cluster-cidr".to_owned()))?;
    let net_config = json!({
        "Network": network,
        "EnableNFTables": true,
        "Backend": {"Type": backend.to_string()},
    });
    let kubeconfig = cluster.kubeconfig_for("flannel", Some("system:masters"), true)?;
    let kubeconfig = fs::read_to_string(&kubeconfig).map_err(io("read flannel's kubeconfig"))?;
    let mut started = Vec::new();
    for node in cluster.nodes() {
        for directory in ["etc/kube-flannel", "run/flannel"] {
            place::make(&node.root().join(directory))?;
        }
        write(
            &node.root().join("etc/kube-flannel/net-conf.json"),
            &net_config.to_string(),
            0o644,
        )?;
        write(&node.root().join("etc/kube-flannel/kubeconfig"), &kubeconfig, 0o600)?;
        // It ends at once where the Node has no CIDR yet, and its DaemonSet would start it again later.
        cluster.api().wait_cidrs(&node.name, FLANNEL_READY)?;
        started.push(flanneld(node, tools)?);
    }
    for (node, service) in cluster.nodes().iter().zip(&started) {
        let subnet = node.root().join("run/flannel/subnet.env");
        cluster.api().wait(
            &format!("flanneld on {} has a subnet", node.name),
            FLANNEL_READY,
            || {
                service.check()?;
                Ok(subnet.exists().then_some(()))
            },
        )?;
        let text = fs::read_to_string(&subnet).map_err(io(format!("read {}", subnet.display())))?;
        cni::write_conflist(&node.cni_directory(), "10-flannel.conflist", &cni::flannel(&text)?)?;
    }
    Ok(started)
}

fn flanneld(node: &Node, tools: &Tools) -> Result<Service> {
    let arguments: Vec<OsString> = [
        "--kube-subnet-mgr",
        "--net-config-path=/etc/kube-flannel/net-conf.json",
        "--kubeconfig-file=/etc/kube-flannel/kubeconfig",
        "--subnet-file=/run/flannel/subnet.env",
        "--iface=eth0",
    ]
    .map(OsString::from)
    .to_vec();
    let environment = vec![("NODE_NAME".into(), OsString::from(&node.name))];
    node.start_program("flanneld", &tools.path("flannel")?, arguments, environment)
}

/// Starts the Cilium operator with this pool (`10.0.0.0/22` in `/24`s), beside the control plane.
pub fn start_cilium_operator(cluster: &Cluster, tools: &Tools, pool: &str, mask: u8) -> Result<Service> {
    let kubeconfig = cluster.kubeconfig_for("cilium-operator", Some("system:masters"), true)?;
    let arguments: Vec<OsString> = [
        "--ipam=cluster-pool".to_owned(),
        "--enable-ipv4=true".to_owned(),
        "--enable-ipv6=false".to_owned(),
        format!("--cluster-pool-ipv4-cidr={pool}"),
        format!("--cluster-pool-ipv4-mask-size={mask}"),
        format!("--k8s-kubeconfig-path={}", kubeconfig.display()),
    ]
    .map(OsString::from)
    .to_vec();
    let environment = vec![("CILIUM_K8S_NAMESPACE".into(), OsString::from("kube-system"))];
    cluster.start_program("cilium-operator", &tools.path("operator")?, arguments, environment)
}
