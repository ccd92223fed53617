//! Which CNI's daemon would mend it.

use super::super::Input;
use crate::view::host::Program;

/// A CNI's daemon: what shows it, and how its pod is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Daemon {
    /// As people call it.
    pub name: &'static str,
    /// It writes its configuration, or what its plugin needs, only with the Node's podCIDR.
    pub waits_for_cidr: bool,
    /// Primary plugins.
    plugins: &'static [&'static str],
    /// What the name of its configuration file contains.
    file: &'static str,
    /// Devices that it makes on the host; one that ends in `*` is the beginning of a name.
    devices: &'static [&'static str],
    /// Namespace and label of its pods.
    pods: (&'static str, &'static str),
}

const fn daemon(
    name: &'static str,
    waits_for_cidr: bool,
    (plugins, file, devices): (&'static [&'static str], &'static str, &'static [&'static str]),
    pods: (&'static str, &'static str),
) -> Daemon {
    Daemon {
        name,
        waits_for_cidr,
        plugins,
        file,
        devices,
        pods,
    }
}

/// As their own manifests install them (reference F).
const ALL: [Daemon; 12] = [
    daemon(
        "flannel",
        true,
        (&["flannel"], "flannel", &["flannel.1", "flannel-wg", "flannel.ipip"]),
        ("kube-flannel", "app=flannel"),
    ),
    daemon(
        "Calico",
        false,
        (&["calico"], "calico", &["vxlan.calico", "cali*"]),
        ("calico-system", "k8s-app=calico-node"),
    ),
    daemon(
        "Cilium",
        false,
        (&["cilium-cni"], "cilium", &["cilium_host"]),
        ("kube-system", "k8s-app=cilium"),
    ),
    daemon(
        "Antrea",
        true,
        (&["antrea"], "antrea", &["antrea-gw0"]),
        ("kube-system", "app=antrea,component=antrea-agent"),
    ),
    daemon(
        "kube-router",
        true,
        (&[], "kuberouter", &["kube-bridge"]),
        ("kube-system", "k8s-app=kube-router"),
    ),
    daemon(
        "kindnet",
        true,
        (&["cni-kindnet"], "kindnet", &[]),
        ("kube-system", "app=kindnet"),
    ),
    daemon(
        "the AWS VPC CNI",
        false,
        (&["aws-cni"], "aws", &[]),
        ("kube-system", "k8s-app=aws-node"),
    ),
    daemon(
        "Azure's CNS",
        false,
        (&["azure-vnet"], "azure", &["azv*"]),
        ("kube-system", "k8s-app=azure-cns"),
    ),
    daemon(
        "OVN-Kubernetes",
        false,
        (&["ovn-k8s-cni-overlay"], "ovn-kubernetes", &["ovn-k8s-mp0"]),
        ("ovn-kubernetes", "app=ovnkube-node"),
    ),
    daemon(
        "Kube-OVN",
        false,
        (&["kube-ovn"], "kube-ovn", &["ovn0"]),
        ("kube-system", "app=kube-ovn-cni"),
    ),
    daemon(
        "Weave Net",
        false,
        (&["weave-net"], "weave", &["weave"]),
        ("kube-system", "name=weave-net"),
    ),
    daemon(
        "Multus",
        false,
        (&["multus", "multus-shim"], "multus", &[]),
        ("kube-system", "app=multus"),
    ),
];

/// The CNI of this host, as far as its configuration, else its devices and processes show it.
pub(super) fn find(input: &Input<'_>) -> Option<Daemon> {
    let by_file = input.cni.chosen.as_ref().and_then(|config| {
        let named = |text: &str| ALL.into_iter().find(|daemon| daemon.name == text);
        match (config.bridge.as_deref(), config.network.as_str()) {
            (Some("kube-bridge"), _) => named("kube-router"),
            (_, "kindnet") => named("kindnet"),
            _ => config
                .plugins
                .first()
                .and_then(|plugin| ALL.into_iter().find(|daemon| daemon.plugins.contains(&plugin.as_str()))),
        }
    });
    by_file
        .or_else(|| ALL.into_iter().find(|daemon| daemon.device(input).is_some()))
        .or_else(|| Some(ALL[0]).filter(|_| input.cni.flannel.is_some() || runs(input, Program::Flanneld)))
}

fn runs(input: &Input<'_>, program: Program) -> bool {
    let processes = input.host.processes.get().into_iter().flatten();
    processes.into_iter().any(|process| process.program == program)
}

impl Daemon {
    /// The CNI whose configuration file has this name.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        ALL.into_iter().find(|daemon| name.contains(daemon.file))
    }

    /// A device of it on this host.
    pub(super) fn device<'a>(&self, input: &Input<'a>) -> Option<&'a str> {
        let is_its = |name: &str| {
            self.devices.iter().any(|device| match device.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == *device,
            })
        };
        let mut names = input.kernel.links.values().map(|link| link.name.as_str());
        names.find(|name| is_its(name))
    }

    /// How to restart it on this node.
    pub(super) fn restart(&self, input: &Input<'_>) -> String {
        let node = input.node;
        if self.name == "flannel" && runs(input, Program::K3s) {
            return format!(
                "Restart k3s on {node}, which has flannel inside: systemctl restart k3s (k3s-agent on agents)."
            );
        }
        let (namespace, label) = self.pods;
        format!(
            "Restart {} on {node}: kubectl -n {namespace} delete pod -l {label} --field-selector spec.nodeName={node}.",
            self.name
        )
    }
}
