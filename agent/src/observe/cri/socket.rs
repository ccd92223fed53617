//! Which socket is the runtime's that the kubelet uses.

use std::io;
use std::path::{Path, PathBuf};

use super::Nothing;
use crate::observe::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, Process, Program};

/// Where runtimes listen (reference C, and the distributions' own). Those that only Kubernetes uses come first:
/// containerd's own may also be there for Docker.
const KNOWN: [&str; 7] = [
    "/run/k3s/containerd/containerd.sock",
    "/run/k3s/cri-dockerd/cri-dockerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/containerd/containerd.sock",
];

/// The kubelet's flag, and the field of its configuration file.
const SETTINGS: [&str; 2] = ["container-runtime-endpoint", "containerRuntimeEndpoint"];

/// Sockets to try, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidates {
    /// It is one, and a kubelet of this host names it.
    pub named: bool,
    /// Paths on the host.
    pub sockets: Vec<PathBuf>,
}

/// The sockets that may be the kubelet's runtime's.
pub(super) fn candidates(root: &HostRoot, processes: &Observed<Vec<Process>>) -> Result<Candidates, Nothing> {
    if let Some(endpoint) = endpoint(processes) {
        let unreadable = |socket: &str, why: String| Nothing::new(Path::new(socket), Missing::Unreadable(why));
        let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
        if !path.starts_with('/') {
            let why = "the kubelet's container runtime endpoint is no unix socket".to_owned();
            return Err(unreadable(endpoint, why));
        }
        return match look_for(root, Path::new(path)) {
            Ok(true) => Ok(Candidates {
                named: true,
                sockets: vec![path.into()],
            }),
            Ok(false) => Err(unreadable(
                path,
                "the kubelet uses it, and there is no such socket: the runtime does not run, or its directory is \
                 not mounted for this agent"
                    .to_owned(),
            )),
            Err(error) => Err(unreadable(path, error.to_string())),
        };
    }
    let mut sockets = Vec::new();
    for known in KNOWN.map(Path::new) {
        match look_for(root, known) {
            Ok(true) => sockets.push(known.to_owned()),
            Ok(false) => {}
            Err(error) => return Err(Nothing::new(known, Missing::Unreadable(error.to_string()))),
        }
    }
    if sockets.is_empty() {
        return Err(none());
    }
    Ok(Candidates { named: false, sockets })
}

/// There is no runtime here.
pub(super) fn none() -> Nothing {
    Nothing {
        source: KNOWN[KNOWN.len() - 1].to_owned(),
        why: Missing::Absent(format!(
            "there is no container runtime's socket: none of {}",
            KNOWN.join(", ")
        )),
    }
}

/// What a kubelet of this host was told.
fn endpoint(processes: &Observed<Vec<Process>>) -> Option<&str> {
    let kubelets = processes.get()?.iter().filter(|p| p.program == Program::Kubelet);
    kubelets
        .flat_map(|kubelet| SETTINGS.iter().filter_map(|name| kubelet.settings.get(*name)))
        .map(|setting| setting.value.trim())
        .find(|value| !value.is_empty())
}

/// Whether it is there; an error where that may not be known.
fn look_for(root: &HostRoot, socket: &Path) -> io::Result<bool> {
    match root.resolve(socket).and_then(|path| path.metadata()) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::view::host::Setting;

    fn kubelet(name: &str, endpoint: &str) -> Observed<Vec<Process>> {
        let setting = Setting {
            value: endpoint.to_owned(),
            source: "command line".to_owned(),
        };
        let kubelet = Process {
            program: Program::Kubelet,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: BTreeMap::from([(name.to_owned(), setting)]),
            problem: None,
        };
        Observed::seen(Timestamp::UNIX_EPOCH, "/proc", vec![kubelet])
    }

    fn host(files: &[&str]) -> (tempfile::TempDir, HostRoot) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = HostRoot::new(directory.path());
        (directory, root)
    }

    #[test]
    fn what_the_kubelet_names_goes_before_everything_that_is_there() {
        let (_directory, root) = host(&["run/containerd/containerd.sock", "srv/own.sock"]);
        for (name, endpoint) in [
            ("container-runtime-endpoint", "unix:///srv/own.sock"),
            ("containerRuntimeEndpoint", "/srv/own.sock"),
        ] {
            let found = candidates(&root, &kubelet(name, endpoint)).unwrap();
            assert!(found.named);
            assert_eq!(found.sockets, [Path::new("/srv/own.sock")]);
        }
    }

    #[test]
    fn a_kubelets_socket_that_is_not_there_is_no_host_without_a_runtime() {
        let (_directory, root) = host(&["run/containerd/containerd.sock"]);
        for endpoint in ["unix:///srv/own.sock", "tcp://127.0.0.1:3735"] {
            let nothing = candidates(&root, &kubelet("container-runtime-endpoint", endpoint)).unwrap_err();
            assert!(matches!(nothing.why, Missing::Unreadable(_)), "{nothing:?}");
        }
    }

    #[test]
    fn without_a_kubelet_kubernetes_own_sockets_go_before_containerds() {
        let (_directory, root) = host(&["run/containerd/containerd.sock", "run/k3s/containerd/containerd.sock"]);
        let found = candidates(&root, &Observed::not_yet()).unwrap();
        assert!(!found.named);
        assert_eq!(
            found.sockets,
            [
                Path::new("/run/k3s/containerd/containerd.sock"),
                Path::new("/run/containerd/containerd.sock")
            ]
        );
        let (_directory, root) = host(&[]);
        let nothing = candidates(&root, &Observed::not_yet()).unwrap_err();
        assert!(matches!(nothing.why, Missing::Absent(_)), "{nothing:?}");
    }
}
