//! What the container runtime makes of a CNI directory: which directory it
//! reads, whether it skips a file that it cannot load, containerd's template,
//! and where it looks for plugins.

mod containerd;
mod crio;
pub(in crate::observe) mod settings;

use std::path::{Path, PathBuf};

use self::containerd::Containerd;
use self::crio::Crio;
use super::super::root::HostRoot;

/// CNI's default directory.
pub(super) const DEFAULT_DIR: &str = "/etc/cni/net.d";

const CRIO_SOCKET: &str = "/run/crio/crio.sock";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
const CRI_DOCKERD_SOCKET: &str = "/run/cri-dockerd.sock";
/// k3s and rke2 have the same.
const K3S_SOCKET: &str = "/run/k3s/containerd/containerd.sock";

/// What is known of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::observe) struct Runtime {
    /// The directory it reads; `None`: there are several, and none could be told.
    pub dir: Option<PathBuf>,
    /// Why the directory is not certain.
    pub doubt: Option<String>,
    /// Every directory that a runtime of this host may read.
    pub dirs: Vec<PathBuf>,
    /// A file that cannot be loaded is passed over. CRI-O and dockershim do so;
    /// containerd loads none at all then, and so does this agent where it does not know.
    pub skips_bad_files: bool,
    /// CRI-O: `cni_default_network`, which goes before the order of the files.
    pub default_network: Option<String>,
    /// containerd: its `conf_template`. `None`: its configuration could not be read.
    pub template: Option<Template>,
    /// Directories of plugins, where the configuration of the runtime that reads this directory names them.
    pub plugin_dirs: Option<PluginDirs>,
    /// A runtime's socket is there.
    pub runs: bool,
}

/// Where a runtime's configuration tells it to look for plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::observe) struct PluginDirs {
    /// In this order.
    pub paths: Vec<PathBuf>,
    /// The file that says so.
    pub file: PathBuf,
}

/// What containerd's configuration says of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::observe) enum Template {
    /// `conf_template` names this file.
    Named(String),
    /// It names none.
    None,
}

/// A runtime of this host: the CNI directory it reads, and what shows it running.
struct Home {
    dir: PathBuf,
    socket: &'static str,
    config: Config,
}

enum Config {
    Containerd(Containerd),
    Crio(Crio),
    Unread,
}

impl Home {
    fn crio(crio: Crio) -> Self {
        Self {
            dir: crio.dir.clone().unwrap_or_else(|| DEFAULT_DIR.into()),
            socket: CRIO_SOCKET,
            config: Config::Crio(crio),
        }
    }

    /// A containerd whose configuration is `file`; `unread` is the directory that is told where that cannot be read.
    fn containerd(root: &HostRoot, file: &str, socket: &'static str, unread: &str) -> Self {
        match Containerd::read(root, Path::new(file)) {
            Some(config) => Self {
                dir: config.dir.clone().unwrap_or_else(|| DEFAULT_DIR.into()),
                socket,
                config: Config::Containerd(config),
            },
            None => Self {
                dir: unread.into(),
                socket,
                config: Config::Unread,
            },
        }
    }

    fn is_read(&self) -> bool {
        !matches!(self.config, Config::Unread)
    }
}

/// Looks at the runtimes' configuration and sockets. `given` is the directory
/// that the operator named, if any.
pub(in crate::observe) fn look(root: &HostRoot, given: Option<&Path>) -> Runtime {
    let running = |socket: &str| root.exists(Path::new(socket));
    let crio = Crio::read(root);
    let crio_runs = running(CRIO_SOCKET);
    let containerd_runs = running(CONTAINERD_SOCKET);
    let docker_runs = running(CRI_DOCKERD_SOCKET);
    let mut runtime = Runtime {
        // Docker brings a containerd of its own, CRI-O does not.
        skips_bad_files: (crio_runs && !containerd_runs) || docker_runs,
        default_network: crio.default_network.clone().filter(|_| crio_runs),
        ..Runtime::default()
    };
    let homes = homes(root, crio, crio_runs && !containerd_runs);
    runtime.runs = docker_runs || crio_runs || homes.iter().any(|home| running(home.socket));
    runtime.dirs = homes
        .iter()
        .map(|home| home.dir.clone())
        .chain(given.map(Path::to_owned))
        .collect();
    runtime.dirs.sort();
    runtime.dirs.dedup();
    match given {
        Some(dir) => runtime.dir = Some(dir.to_owned()),
        None => choose(root, &homes, &mut runtime),
    }
    let mine = |home: &&Home| Some(&home.dir) == runtime.dir.as_ref();
    let read = |home: &&Home| mine(home) && home.is_read();
    let home = homes
        .iter()
        .find(|home| read(home) && running(home.socket))
        .or_else(|| homes.iter().find(read));
    // Two runtimes read the same directory: whose plugins count does not show here.
    let one = !(crio_runs && containerd_runs);
    runtime.plugin_dirs = home.filter(|_| one).and_then(|home| match &home.config {
        Config::Containerd(config) => config.plugin_dirs(),
        Config::Crio(config) => config.plugin_dirs(),
        Config::Unread => None,
    });
    let named = homes.first().filter(|_| given.is_some());
    if let Some(Config::Containerd(config)) = home.or(named).map(|home| &home.config) {
        runtime.template = Some(config.template.clone());
    }
    runtime
}

/// Where CRI-O's configuration tells it to look for plugins.
pub(in crate::observe) fn crio_plugin_dirs(root: &HostRoot) -> Option<PluginDirs> {
    Crio::read(root).plugin_dirs()
}

/// The runtimes that this host may have, the standard one first.
fn homes(root: &HostRoot, crio: Crio, only_crio: bool) -> Vec<Home> {
    let standard = if only_crio {
        Home::crio(crio)
    } else {
        Home::containerd(root, "/etc/containerd/config.toml", CONTAINERD_SOCKET, DEFAULT_DIR)
    };
    let mut homes = vec![
        standard,
        // k3s names its own directory in its containerd's configuration unless it runs without flannel.
        Home::containerd(
            root,
            "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            K3S_SOCKET,
            "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        ),
        Home::containerd(
            root,
            "/var/snap/microk8s/current/args/containerd.toml",
            "/var/snap/microk8s/common/run/containerd.sock",
            "/var/snap/microk8s/current/args/cni-network",
        ),
    ];
    // These two use the default directory: without their configuration they tell nothing new.
    for (file, socket) in [
        ("/var/lib/rancher/rke2/agent/etc/containerd/config.toml", K3S_SOCKET),
        ("/etc/k0s/containerd.toml", "/run/k0s/containerd.sock"),
    ] {
        let home = Home::containerd(root, file, socket, DEFAULT_DIR);
        homes.extend(home.is_read().then_some(home));
    }
    homes
}

fn choose(root: &HostRoot, homes: &[Home], runtime: &mut Runtime) {
    let filled: Vec<&PathBuf> = runtime.dirs.iter().filter(|dir| has_files(root, dir)).collect();
    let runs = |dir: &Path| {
        homes
            .iter()
            .any(|home| home.dir == *dir && root.exists(Path::new(home.socket)))
    };
    let (chosen, doubt) = match filled.as_slice() {
        [] => {
            // Empty, all of them: the one whose runtime runs is waited for.
            let live: Vec<&PathBuf> = runtime.dirs.iter().filter(|dir| runs(dir)).collect();
            match live.as_slice() {
                [only] => (Some((*only).clone()), None),
                _ => (Some(homes[0].dir.clone()), None),
            }
        }
        [only] => (Some((*only).clone()), None),
        several => match several.iter().filter(|dir| runs(dir)).collect::<Vec<_>>().as_slice() {
            [live] => (Some((**live).clone()), None),
            _ => {
                let names: Vec<String> = several.iter().map(|dir| dir.display().to_string()).collect();
                let doubt = format!(
                    "{} all hold CNI configuration, and it does not show which of them the kubelet's runtime reads: name it with --cni-dir",
                    names.join(" and ")
                );
                (None, Some(doubt))
            }
        },
    };
    runtime.dir = chosen;
    runtime.doubt = doubt;
}

fn has_files(root: &HostRoot, dir: &Path) -> bool {
    root.list(dir, super::ENTRY_LIMIT)
        .ok()
        .flatten()
        .is_some_and(|names| names.iter().any(|name| super::is_config(name)))
}

#[cfg(test)]
mod tests;
