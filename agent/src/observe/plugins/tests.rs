//! Hosts with plugins and without.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::view::host::LoadedNetwork;

struct Host {
    dir: tempfile::TempDir,
}

const FLANNEL: &str = r#"{"name":"cbr0","plugins":[{"type":"flannel"},{"type":"portmap"}]}"#;

impl Host {
    /// flannel's configuration, and no plugin.
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.write("/etc/cni/net.d/10-flannel.conflist", FLANNEL);
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        std::fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        std::fs::write(self.at(path), text).unwrap();
        self
    }

    fn plugins(&self, dir: &str, names: &[&str]) -> &Self {
        for name in names {
            let path = format!("{dir}/{name}");
            self.write(&path, "\u{7f}ELF").mode(&path, 0o755);
        }
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Self {
        std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn look(&self, runtime: &Observed<Runtime>) -> Observed<Plugins> {
        let cni = cni::read(self.dir.path());
        PluginReader::new(HostRoot::new(self.dir.path())).look(&cni, runtime, Timestamp::UNIX_EPOCH)
    }

    /// The names of what is missing; `None` where nobody can tell.
    fn missing(&self, runtime: &Observed<Runtime>) -> Option<Vec<String>> {
        let seen = self.look(runtime);
        Some(seen.get()?.missing.iter().map(|(name, _)| name.clone()).collect())
    }
}

fn none() -> Observed<Runtime> {
    Observed::missing(Timestamp::UNIX_EPOCH, "", Missing::Absent("none".into()))
}

fn runtime(name: &str, version: &str, dirs: &[&str], networks: &[&str]) -> Observed<Runtime> {
    let network = |plugin: &&str| LoadedNetwork {
        name: (*plugin).to_owned(),
        plugins: vec![(*plugin).to_owned()],
        ranges: vec![],
    };
    Observed::seen(
        Timestamp::UNIX_EPOCH,
        "/run/containerd/containerd.sock",
        Runtime {
            name: name.into(),
            version: version.into(),
            runtime_ready: None,
            network_ready: None,
            networks: networks.iter().map(network).collect(),
            load_problem: None,
            template: None,
            plugin_dirs: dirs.iter().map(|dir| (*dir).to_owned()).collect(),
        },
    )
}

const ALL: [&str; 5] = ["flannel", "bridge", "host-local", "portmap", "loopback"];

#[test]
fn with_everything_there_nothing_is_missing() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &ALL);
    assert_eq!(host.missing(&none()), Some(vec![]));
    assert_eq!(host.look(&none()).get().unwrap().directories, ["/opt/cni/bin"]);
}

#[test]
fn a_plugin_missing_in_the_directory_that_the_runtime_names_is_missing() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &["bridge", "host-local", "portmap"]);
    let says = runtime("containerd", "2.1.4", &["/opt/cni/bin"], &[]);
    assert_eq!(host.missing(&says), Some(vec!["flannel".into()]));
    let seen = host.look(&says);
    assert_eq!(seen.source, "/run/containerd/containerd.sock");
    assert_eq!(seen.get().unwrap().missing[0].1, "it is not in /opt/cni/bin");
}

#[test]
fn the_runtimes_word_goes_before_files_and_defaults() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &ALL)
        .plugins("/usr/lib/cni", &["loopback"])
        .write(
            "/etc/containerd/config.toml",
            "[plugins.cri.cni]\nbin_dir = \"/opt/cni/bin\"\n",
        );
    let says = runtime("containerd", "2.1.4", &["/usr/lib/cni"], &[]);
    assert_eq!(host.missing(&says).unwrap().len(), 4);
    assert_eq!(host.missing(&none()), Some(vec![]));
}

#[test]
fn containerds_configuration_names_the_directory() {
    let host = Host::new();
    host.plugins("/srv/cni", &["bridge"])
        .plugins("/opt/cni/bin", &ALL)
        .write(
            "/etc/containerd/config.toml",
            "[plugins.cri.cni]\nbin_dir = \"/srv/cni\"\n",
        );
    assert_eq!(host.missing(&none()).unwrap(), ["flannel", "host-local", "portmap"]);
    assert_eq!(host.look(&none()).source, "/etc/containerd/config.toml");
}

#[test]
fn the_only_default_directory_counts_where_it_is_in_use() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &["loopback"]);
    assert_eq!(host.missing(&none()).unwrap().len(), 4);
    std::fs::remove_file(host.at("/opt/cni/bin/loopback")).unwrap();
    assert!(matches!(host.look(&none()).value, Err(Missing::Absent(_))));
    host.write("/run/containerd/containerd.sock", "");
    assert!(host.look(&none()).unreadable().is_some());
}

#[test]
fn with_two_default_directories_nobody_can_tell_which_counts() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &["flannel", "loopback"])
        .plugins("/usr/lib/cni", &["bridge", "host-local"])
        .write("/run/containerd/containerd.sock", "");
    assert_eq!(
        host.look(&none()).unreadable().unwrap(),
        "portmap not found in /opt/cni/bin, /usr/lib/cni, and nothing tells whether the runtime looks there"
    );
    host.plugins("/usr/lib/cni", &["portmap"]);
    assert_eq!(host.missing(&none()), Some(vec![]));
}

#[test]
fn without_any_directory_it_is_absent_unless_a_runtime_runs() {
    let host = Host::new();
    assert!(matches!(host.look(&none()).value, Err(Missing::Absent(_))));
    let says = runtime("cri-o", "1.34.0", &[], &[]);
    assert!(
        host.look(&says)
            .unreadable()
            .unwrap()
            .starts_with("no directory of CNI plugins")
    );
}

#[test]
fn a_file_that_cannot_be_run_is_missing_and_it_says_why() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &ALL).mode("/opt/cni/bin/flannel", 0o644);
    host.write("/opt/cni/bin/bridge", "");
    std::fs::remove_file(host.at("/opt/cni/bin/portmap")).unwrap();
    std::fs::create_dir(host.at("/opt/cni/bin/portmap")).unwrap();
    let seen = host.look(&none());
    let why: Vec<&str> = seen
        .get()
        .unwrap()
        .missing
        .iter()
        .map(|(_, why)| why.as_str())
        .collect();
    assert_eq!(
        why,
        [
            "/opt/cni/bin/bridge is empty",
            "/opt/cni/bin/flannel is not executable (mode 0644)",
            "/opt/cni/bin/portmap is not a regular file",
        ]
    );
}

#[test]
fn k3s_links_lead_to_one_program() {
    let host = Host::new();
    host.plugins("/var/lib/rancher/k3s/data/0abc/bin", &["cni"]);
    symlink(
        "/var/lib/rancher/k3s/data/0abc",
        host.at("/var/lib/rancher/k3s/data/current"),
    )
    .unwrap();
    for name in ALL {
        symlink("cni", host.at("/var/lib/rancher/k3s/data/0abc/bin").join(name)).unwrap();
    }
    assert_eq!(host.missing(&none()), Some(vec![]));
}

#[test]
fn a_dangling_link_is_missing_but_not_where_its_place_is_out_of_sight() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &["bridge", "host-local", "portmap", "loopback"]);
    symlink("/opt/gone/flannel", host.at("/opt/cni/bin/flannel")).unwrap();
    assert_eq!(host.missing(&none()).unwrap(), ["flannel"]);
    std::fs::remove_file(host.at("/opt/cni/bin/flannel")).unwrap();
    symlink("/nix/store/0abc/bin/flannel", host.at("/opt/cni/bin/flannel")).unwrap();
    assert!(host.look(&none()).unreadable().unwrap().contains("leads to /nix/store"));
}

#[test]
fn a_named_directory_out_of_sight_leaves_it_unknown_and_one_that_is_gone_does_not() {
    let host = Host::new();
    let says = runtime("containerd", "2.1.4", &["/opt/cni/bin"], &[]);
    assert!(
        host.look(&says)
            .unreadable()
            .unwrap()
            .starts_with("/opt/cni/bin cannot be seen")
    );
    std::fs::create_dir(host.at("/opt")).unwrap();
    assert_eq!(host.missing(&says).unwrap().len(), 4);
}

#[test]
fn loopback_is_needed_by_containerd_that_says_so_and_not_by_crio() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &["flannel", "bridge", "host-local", "portmap"]);
    let dirs = ["/opt/cni/bin"];
    let needs = |says: Observed<Runtime>| !host.missing(&says).unwrap().is_empty();
    assert!(needs(runtime("containerd", "1.6.20~ds1", &dirs, &[])));
    assert!(needs(runtime("containerd", "v1.7.28-k3s1", &dirs, &[])));
    assert!(needs(runtime("containerd", "2.1.4", &dirs, &["loopback", "flannel"])));
    assert!(!needs(runtime("containerd", "2.1.4", &dirs, &["flannel"])));
    assert!(!needs(runtime("cri-o", "1.34.0", &dirs, &[])));
}

#[test]
fn a_name_that_is_a_path_is_looked_for_nowhere() {
    let host = Host::new();
    host.plugins("/opt/cni/bin", &ALL).plugins("/opt/cni", &["evil"]);
    host.write(
        "/etc/cni/net.d/10-flannel.conflist",
        r#"{"name":"x","plugins":[{"type":"../evil"}]}"#,
    );
    assert_eq!(host.missing(&none()).unwrap(), ["../evil"]);
}

#[test]
fn without_a_configuration_there_is_nothing_to_look_for() {
    let host = Host::new();
    std::fs::remove_file(host.at("/etc/cni/net.d/10-flannel.conflist")).unwrap();
    assert!(matches!(host.look(&none()).value, Err(Missing::Absent(_))));
}
