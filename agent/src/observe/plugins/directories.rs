//! Where a runtime looks for CNI plugins.

use std::path::{Path, PathBuf};

use cidrift_proto::facts::CniFacts;

use super::super::cni::runtime;
use super::super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, Runtime};

/// Directories that runtimes have by default, or that a distribution builds into them.
const DEFAULTS: [&str; 11] = [
    // containerd's and CRI-O's own; kubeadm, rke2, k0s, Flatcar, Talos, Bottlerocket, NixOS.
    "/opt/cni/bin",
    // Debian, Arch, Alpine.
    "/usr/lib/cni",
    // Fedora, RHEL, SUSE.
    "/usr/libexec/cni",
    // OpenShift, beside the one above.
    "/var/lib/cni/bin",
    // GKE: Container-Optimized OS has /opt read-only.
    "/home/kubernetes/bin",
    // k3s: its own plugins, and since 1.31 those that others install.
    "/var/lib/rancher/k3s/data/current/bin",
    "/var/lib/rancher/k3s/data/cni",
    "/var/snap/microk8s/current/opt/cni/bin",
    "/usr/libexec/cni/bin",
    "/usr/local/lib/cni",
    "/run/current-system/sw/lib/cni",
];

/// Where plugins are searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directories {
    /// In this order.
    pub paths: Vec<PathBuf>,
    /// The runtime or its configuration names them; else they are defaults that exist here.
    pub named: bool,
    /// Who names them, for evidence.
    pub source: String,
    /// A container runtime runs here, as far as its socket and its answers show.
    pub runtime_runs: bool,
}

impl Directories {
    /// Their paths as text.
    pub(super) fn names(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.display().to_string()).collect()
    }
}

/// Asks the runtime, its configuration and the defaults, in this order. No file is read where the runtime says it.
pub(super) fn find(root: &HostRoot, cni: &CniFacts, runtime: &Observed<Runtime>) -> Directories {
    if let Some(says) = runtime.get().filter(|says| !says.plugin_dirs.is_empty()) {
        return Directories {
            paths: says.plugin_dirs.iter().map(PathBuf::from).collect(),
            named: true,
            source: runtime.source.clone(),
            runtime_runs: true,
        };
    }
    let files = runtime::look(root, Some(Path::new(&cni.directory)));
    let runtime_runs = files.runs || !matches!(runtime.value, Err(Missing::NotYet | Missing::Absent(_)));
    let named = match runtime.get() {
        Some(says) if says.name == "cri-o" => runtime::crio_plugin_dirs(root),
        _ => files.plugin_dirs,
    };
    if let Some(named) = named {
        return Directories {
            paths: named.paths,
            named: true,
            source: named.file.display().to_string(),
            runtime_runs,
        };
    }
    let there = DEFAULTS.iter().map(PathBuf::from).filter(|path| root.exists(path));
    let paths: Vec<PathBuf> = there.collect();
    Directories {
        source: match paths.as_slice() {
            [] => DEFAULTS[0].to_owned(),
            paths => paths
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        },
        paths,
        named: false,
        runtime_runs,
    }
}
