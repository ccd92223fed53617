//! What the container runtime makes of a CNI directory: which directory it
//! reads, whether it skips a file that it cannot load, and containerd's template.

use std::path::{Path, PathBuf};

use super::super::root::HostRoot;
use super::FILE_LIMIT;

/// CNI's default directory.
pub(super) const DEFAULT_DIR: &str = "/etc/cni/net.d";

/// A runtime's CNI directory, with the socket that shows the runtime running.
struct Home {
    dir: PathBuf,
    socket: &'static str,
}

/// What is known of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runtime {
    /// The directory it reads; `Err`: there are several, and why none could be told.
    pub dir: Option<PathBuf>,
    /// Why the directory is not certain.
    pub doubt: Option<String>,
    /// A file that cannot be loaded is passed over. CRI-O and dockershim do so;
    /// containerd loads none at all then, and so does this agent where it does not know.
    pub skips_bad_files: bool,
    /// CRI-O: `cni_default_network`, which goes before the order of the files.
    pub default_network: Option<String>,
    /// containerd: its `conf_template`. `None`: its configuration could not be read.
    pub template: Option<Template>,
}

/// What containerd's configuration says of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Template {
    /// `conf_template` names this file.
    Named(String),
    /// It names none.
    None,
}

/// Looks at the runtimes' configuration and sockets. `given` is the directory
/// that the operator named, if any.
pub(super) fn look(root: &HostRoot, given: Option<&Path>) -> Runtime {
    let containerd = Containerd::read(root, "/etc/containerd/config.toml");
    let crio = Crio::read(root);
    let running = |socket: &str| root.exists(Path::new(socket));
    let crio_runs = running("/run/crio/crio.sock");
    let docker_runs = running("/run/cri-dockerd.sock");
    let containerd_runs = running("/run/containerd/containerd.sock");
    let mut runtime = Runtime {
        // Docker brings a containerd of its own, CRI-O does not.
        skips_bad_files: (crio_runs && !containerd_runs) || docker_runs,
        default_network: crio.default_network.filter(|_| crio_runs),
        ..Runtime::default()
    };
    let standard = if crio_runs && !containerd_runs {
        crio.dir
    } else {
        containerd.as_ref().and_then(|config| config.dir.clone())
    };
    let homes = [
        Home {
            dir: standard.unwrap_or_else(|| DEFAULT_DIR.into()),
            socket: if crio_runs {
                "/run/crio/crio.sock"
            } else {
                "/run/containerd/containerd.sock"
            },
        },
        Home {
            dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d".into(),
            socket: "/run/k3s/containerd/containerd.sock",
        },
        Home {
            dir: "/var/snap/microk8s/current/args/cni-network".into(),
            socket: "/var/snap/microk8s/common/run/containerd.sock",
        },
    ];
    match given {
        Some(dir) => runtime.dir = Some(dir.to_owned()),
        None => choose(root, &homes, &mut runtime),
    }
    if runtime.dir.as_deref() == Some(&homes[0].dir) || given.is_some() {
        runtime.template = containerd.map(|config| config.template);
    }
    runtime
}

fn choose(root: &HostRoot, homes: &[Home], runtime: &mut Runtime) {
    let filled: Vec<&Home> = homes.iter().filter(|home| has_files(root, &home.dir)).collect();
    let live: Vec<&&Home> = filled
        .iter()
        .filter(|home| root.exists(Path::new(home.socket)))
        .collect();
    runtime.dir = match (filled.as_slice(), live.as_slice()) {
        ([], _) => Some(homes[0].dir.clone()),
        ([only], _) => Some(only.dir.clone()),
        (_, [live]) => Some(live.dir.clone()),
        _ => {
            let names: Vec<String> = filled.iter().map(|home| home.dir.display().to_string()).collect();
            runtime.doubt = Some(format!(
                "{} all hold CNI configuration, and it does not show which of them the kubelet's runtime reads: name it with --cni-dir",
                names.join(" and ")
            ));
            None
        }
    };
}

fn has_files(root: &HostRoot, dir: &Path) -> bool {
    root.list(dir, super::ENTRY_LIMIT)
        .ok()
        .flatten()
        .is_some_and(|names| names.iter().any(|name| super::is_config(name)))
}

struct Containerd {
    dir: Option<PathBuf>,
    template: Template,
}

impl Containerd {
    fn read(root: &HostRoot, path: &str) -> Option<Self> {
        let (bytes, _) = root.read(Path::new(path), FILE_LIMIT).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        // Version 2: [plugins."io.containerd.grpc.v1.cri".cni]; 3: [plugins.'io.containerd.cri.v1.runtime'.cni].
        let cni = |table: &str| table.ends_with(".cni") && table.contains("cri");
        Some(Self {
            dir: value(&text, cni, "conf_dir").map(PathBuf::from),
            template: value(&text, cni, "conf_template").map_or(Template::None, Template::Named),
        })
    }
}

#[derive(Default)]
struct Crio {
    dir: Option<PathBuf>,
    default_network: Option<String>,
}

impl Crio {
    fn read(root: &HostRoot) -> Self {
        let drop_ins = Path::new("/etc/crio/crio.conf.d");
        let names = root
            .list(drop_ins, super::ENTRY_LIMIT)
            .ok()
            .flatten()
            .unwrap_or_default();
        let paths =
            std::iter::once(PathBuf::from("/etc/crio/crio.conf")).chain(names.iter().map(|name| drop_ins.join(name)));
        let mut crio = Self::default();
        for path in paths {
            let Ok((bytes, _)) = root.read(&path, FILE_LIMIT) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let network = |table: &str| table == "crio.network";
            // A later file goes before an earlier one.
            if let Some(dir) = value(&text, network, "network_dir") {
                crio.dir = Some(dir.into());
            }
            if let Some(name) = value(&text, network, "cni_default_network") {
                crio.default_network = Some(name);
            }
        }
        crio
    }
}

/// A string value out of a TOML file, read leniently line by line: a file with
/// an error elsewhere, or with keys newer than this build, still answers.
fn value(toml: &str, table: impl Fn(&str) -> bool, key: &str) -> Option<String> {
    let mut inside = false;
    let mut found = None;
    for line in toml.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            inside = table(header.split(']').next().unwrap_or_default().trim());
        } else if inside
            && let Some((name, rest)) = line.split_once('=')
            && name.trim() == key
        {
            found = quoted(rest.trim());
        }
    }
    found
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, _) = text[1..].split_once(quote)?;
    (!inner.is_empty()).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = HostRoot::new(dir.path());
        (dir, root)
    }

    const V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/opt/cni/bin\"\n  \
        conf_template = \"/etc/containerd/cni.template\" # kept\n[plugins.\"io.containerd.grpc.v1.cri\"]\nconf_dir = \"/no\"\n";
    const V3: &str =
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n  conf_dir = '/srv/cni'\n  conf_template = ''\n";

    #[test]
    fn containerds_template_is_found_in_both_forms_of_its_configuration() {
        let (_dir, root) = host(&[("etc/containerd/config.toml", V2)]);
        let runtime = look(&root, None);
        assert_eq!(
            runtime.template,
            Some(Template::Named("/etc/containerd/cni.template".into()))
        );
        assert_eq!(runtime.dir.as_deref(), Some(Path::new(DEFAULT_DIR)));

        let (_dir, root) = host(&[("etc/containerd/config.toml", V3)]);
        let runtime = look(&root, None);
        assert_eq!(runtime.template, Some(Template::None));
        assert_eq!(runtime.dir.as_deref(), Some(Path::new("/srv/cni")));
    }

    #[test]
    fn without_a_configuration_nothing_is_known_of_a_template() {
        let (_dir, root) = host(&[]);
        let runtime = look(&root, None);
        assert_eq!((runtime.template, runtime.skips_bad_files), (None, false));
    }

    #[test]
    fn k3s_keeps_its_own_directory_and_a_leftover_in_the_default_one_leaves_doubt() {
        let k3s = "var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist";
        let (_dir, root) = host(&[(k3s, "{}")]);
        assert_eq!(
            look(&root, None).dir.unwrap(),
            Path::new("/").join(k3s).parent().unwrap()
        );

        let podman = "etc/cni/net.d/87-podman.conflist";
        let (_dir, root) = host(&[(k3s, "{}"), (podman, "{}")]);
        let runtime = look(&root, None);
        assert_eq!(runtime.dir, None);
        assert!(runtime.doubt.unwrap().contains("--cni-dir"));

        let (_dir, root) = host(&[(k3s, "{}"), (podman, "{}"), ("run/k3s/containerd/containerd.sock", "")]);
        assert_eq!(
            look(&root, None).dir.unwrap(),
            Path::new("/").join(k3s).parent().unwrap()
        );
    }

    #[test]
    fn crio_skips_bad_files_and_may_name_its_network() {
        let (_dir, root) = host(&[
            ("run/crio/crio.sock", ""),
            (
                "etc/crio/crio.conf",
                "[crio.network]\n# cni_default_network = \"no\"\nnetwork_dir = \"/etc/cni/net.d/\"\n",
            ),
            (
                "etc/crio/crio.conf.d/10-net.conf",
                "[crio.network]\ncni_default_network = \"flannel\"\n",
            ),
        ]);
        let runtime = look(&root, None);
        assert!(runtime.skips_bad_files);
        assert_eq!(runtime.default_network.as_deref(), Some("flannel"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\\[\\]a-z\"'=#\n.é ]{0,200}") {
            let _ = value(&text, |_| true, "a");
        }
    }
}
