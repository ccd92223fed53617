//! Whole directories, as CNIs and runtimes leave them.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A host filesystem in a directory of its own.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.mkdir(runtime::DEFAULT_DIR);
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn mkdir(&self, path: &str) {
        std::fs::create_dir_all(self.at(path)).unwrap();
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        self.mkdir(Path::new(path).parent().unwrap().to_str().unwrap());
        std::fs::write(self.at(path), text).unwrap();
        self
    }

    /// Puts a fixture into the CNI directory.
    fn install(&self, name: &str) -> &Self {
        self.write(&format!("/etc/cni/net.d/{name}"), &fixture(name))
    }

    fn read(&self) -> CniFacts {
        read(self.dir.path())
    }
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/observe/cni/fixtures")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

/// One line that says what was understood.
fn line(facts: &CniFacts) -> String {
    let list = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let Some(config) = &facts.chosen else {
        return format!("nothing chosen: {}", facts.problem.as_deref().unwrap_or("no reason"));
    };
    let mut text = format!(
        "{}: {} [{}] ipam {} ranges {} bridge {}",
        config.path,
        config.network,
        config.plugins.join(" "),
        config.ipam.as_deref().unwrap_or("-"),
        if config.ranges.is_empty() {
            "-".into()
        } else {
            list(&config.ranges)
        },
        config.bridge.as_deref().unwrap_or("-"),
    );
    if let Some(by) = &config.generated_by {
        text += &format!(" by {by}");
    }
    if let Some(problem) = &facts.problem {
        text += &format!(" PROBLEM {problem}");
    }
    text
}

/// Every file of the fixtures, so that none is forgotten.
#[test]
fn every_cnis_configuration_is_understood() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/cni/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut lines = Vec::new();
    for name in names {
        let host = Host::new();
        lines.push(line(&host.install(&name).read()));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn kindnets_own_range_that_is_no_prefix_is_a_problem() {
    let host = Host::new();
    host.write(
        "/etc/cni/net.d/10-kindnet.conflist",
        r#"{"name":"kindnet","plugins":[{"type":"cni-kindnet","ranges":["10.244.2.0/24","10.244",7]}]}"#,
    );
    let facts = host.read();
    assert_eq!(facts.chosen.unwrap().ranges.len(), 1);
    assert_eq!(
        facts.problem.unwrap(),
        "/etc/cni/net.d/10-kindnet.conflist: the range \"10.244\" is not a prefix; \
         /etc/cni/net.d/10-kindnet.conflist: the range 7 is not a prefix"
    );
}

#[test]
fn whether_a_host_has_no_usable_configuration_is_certain_only_where_it_could_be_looked_at() {
    let host = Host::new();
    assert!(is_certainly_unusable(&host.read()) && is_empty(&host.read()));
    host.write("/etc/cni/net.d/10-x.conflist", "nonsense");
    assert!(is_certainly_unusable(&host.read()) && !is_empty(&host.read()));
    host.install("10-flannel.conflist");
    std::fs::remove_file(host.at("/etc/cni/net.d/10-x.conflist")).unwrap();
    assert!(!is_certainly_unusable(&host.read()));
    for at in 0..ENTRY_LIMIT {
        host.write(&format!("/etc/cni/net.d/{at}.conf"), "{}");
    }
    assert!(!is_certainly_unusable(&host.read()));
    let refused = CniFacts {
        directory: "/etc/cni/net.d".into(),
        problem: Some(describe(&ReadError::Io(std::io::ErrorKind::PermissionDenied.into()))),
        ..CniFacts::default()
    };
    assert!(!is_certainly_unusable(&refused));
    let several = CniFacts {
        problem: Some("two directories".into()),
        ..CniFacts::default()
    };
    assert!(!is_certainly_unusable(&several));
}

#[test]
fn the_first_file_in_byte_order_wins_and_the_others_are_listed() {
    let host = Host::new();
    host.install("10-flannel.conflist")
        .install("10-containerd-net.conflist");
    host.write("/etc/cni/net.d/README", "not a configuration");
    host.mkdir("/etc/cni/net.d/05-dir.conflist");
    let facts = host.read();
    assert_eq!(facts.chosen.unwrap().path, "/etc/cni/net.d/10-containerd-net.conflist");
    assert_eq!(facts.others, ["/etc/cni/net.d/10-flannel.conflist"]);
    assert_eq!(facts.problem, None);
}

#[test]
fn a_broken_first_file_leaves_nothing_chosen_as_containerd_does() {
    let host = Host::new();
    host.install("10-flannel.conflist")
        .write("/etc/cni/net.d/00-x.conf", "nonsense");
    let facts = host.read();
    assert_eq!(facts.chosen, None);
    assert_eq!(
        facts.problem.unwrap(),
        "/etc/cni/net.d/00-x.conf: expected ident at line 1 column 2"
    );
}

#[test]
fn crio_passes_a_broken_file_over_and_it_is_said() {
    let host = Host::new();
    host.install("10-flannel.conflist")
        .write("/etc/cni/net.d/00-x.conf", "nonsense")
        .write("/run/crio/crio.sock", "");
    let facts = host.read();
    assert_eq!(facts.chosen.unwrap().path, "/etc/cni/net.d/10-flannel.conflist");
    assert!(facts.problem.unwrap().starts_with("/etc/cni/net.d/00-x.conf: "));
}

#[test]
fn crios_default_network_goes_before_the_order() {
    let host = Host::new();
    host.install("10-flannel.conflist")
        .install("10-calico.conflist")
        .write("/run/crio/crio.sock", "")
        .write(
            "/etc/crio/crio.conf",
            "[crio.network]\ncni_default_network = \"cbr0\"\n",
        );
    assert_eq!(host.read().chosen.unwrap().network, "cbr0");
}

#[test]
fn a_torn_file_is_unknown_not_the_next_one() {
    let host = Host::new();
    let whole = fixture("10-containerd-net.conflist");
    host.install("10-flannel.conflist")
        .write("/etc/cni/net.d/10-containerd-net.conflist", &whole[..whole.len() / 2]);
    let facts = host.read();
    assert_eq!(facts.chosen, None);
    assert!(facts.problem.unwrap().contains("EOF while parsing"));
}

#[test]
fn a_file_that_is_whole_at_the_second_look_is_no_problem() {
    let host = Host::new();
    host.write("/etc/cni/net.d/10-flannel.conflist", "");
    let reader = CniReader::new(HostRoot::new(host.dir.path()), None);
    let facts = reader.read_waiting(|| {
        host.install("10-flannel.conflist");
    });
    assert_eq!((facts.problem, facts.chosen.unwrap().network.as_str()), (None, "cbr0"));
}

#[test]
fn too_large_and_too_many_are_refused_with_the_reason() {
    let host = Host::new();
    host.write("/etc/cni/net.d/00-x.conf", &" ".repeat(FILE_LIMIT as usize + 1));
    assert_eq!(
        host.read().problem.unwrap(),
        "/etc/cni/net.d/00-x.conf: it is 1048577 bytes long, more than the 1048576 that are read"
    );
    for at in 0..ENTRY_LIMIT {
        host.write(&format!("/etc/cni/net.d/{at}.conf"), "{}");
    }
    assert_eq!(
        host.read().problem.unwrap(),
        "/etc/cni/net.d has more than 256 entries: it is not read"
    );
}

#[test]
fn an_unreadable_file_leaves_nothing_chosen() {
    let host = Host::new();
    host.install("10-flannel.conflist");
    let path = host.at("/etc/cni/net.d/10-flannel.conflist");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same; anyone else is told what to do.
    let facts = host.read();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(facts.chosen.unwrap().network, "cbr0");
    } else {
        assert!(facts.problem.unwrap().ends_with("run as root to read it"));
    }
}

#[test]
fn an_empty_and_a_missing_directory_say_so() {
    let host = Host::new();
    assert!(
        host.read()
            .problem
            .unwrap()
            .starts_with("/etc/cni/net.d holds no CNI configuration")
    );
    std::fs::remove_dir(host.at("/etc/cni/net.d")).unwrap();
    assert!(host.read().problem.unwrap().contains("No such file or directory"));
    assert!(is_empty(&host.read()));
}

#[test]
fn multus_hands_on_to_the_file_it_names() {
    let host = Host::new();
    host.install("00-multus-shim.conf").install("10-flannel.conflist");
    let config = host.read().chosen.unwrap();
    assert_eq!(config.path, "/etc/cni/net.d/10-flannel.conflist");
    assert_eq!(config.plugins[0], "flannel");
    assert_eq!(
        config.generated_by.as_deref(),
        Some("delegate of Multus in /etc/cni/net.d/00-multus-shim.conf")
    );
}

#[test]
fn multus_whose_network_is_missing_stays_multus() {
    let host = Host::new();
    let facts = host.install("00-multus-shim.conf").read();
    assert_eq!(facts.chosen.unwrap().plugins, ["multus-shim"]);
    assert!(facts.problem.unwrap().contains("Multus' clusterNetwork"));
}

#[test]
fn containerds_file_is_its_rendering_only_where_a_template_is_configured() {
    let host = Host::new();
    let by = |host: &Host| host.read().chosen.unwrap().generated_by;
    host.install("10-containerd-net.conflist");
    assert_eq!(by(&host).as_deref(), Some(CONTAINERD_TEMPLATE));
    let table = "[plugins.\"io.containerd.grpc.v1.cri\".cni]\n";
    host.write("/etc/containerd/config.toml", table);
    assert_eq!(by(&host), None);
    host.write(
        "/etc/containerd/config.toml",
        &format!("{table}conf_template = \"/etc/cni.template\"\n"),
    );
    assert_eq!(by(&host).as_deref(), Some("containerd template /etc/cni.template"));
}

#[test]
fn subnet_env_is_read_and_a_torn_one_is_a_problem() {
    let host = Host::new();
    host.install("10-flannel.conflist").write(
        "/run/flannel/subnet.env",
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n",
    );
    let facts = host.read();
    assert_eq!(facts.flannel.unwrap().subnets, ["10.244.1.0/24".parse().unwrap()]);
    host.write("/run/flannel/subnet.env", "FLANNEL_NET");
    let facts = host.read();
    assert_eq!(facts.flannel, None);
    assert_eq!(
        facts.problem.unwrap(),
        "/run/flannel/subnet.env: it names no FLANNEL_SUBNET"
    );
}

mod watching {
    use super::*;

    async fn change(watcher: &mut CniWatcher) -> CniFacts {
        // Far above any wait of the watcher itself but its period.
        tokio::time::timeout(Duration::from_secs(30), watcher.changed())
            .await
            .expect("the change was noticed by inotify");
        watcher.facts().clone()
    }

    fn watcher(host: &Host) -> CniWatcher {
        CniWatcher::new(CniReader::new(HostRoot::new(host.dir.path()), None))
    }

    #[tokio::test]
    async fn a_changed_and_a_removed_file_are_noticed() {
        let host = Host::new();
        host.install("10-kindnet.conflist");
        let mut watcher = watcher(&host);
        assert_eq!(watcher.facts().chosen.as_ref().unwrap().network, "kindnet");
        host.install("05-cilium.conflist");
        assert_eq!(change(&mut watcher).await.chosen.unwrap().network, "cilium");
        std::fs::remove_file(host.at("/etc/cni/net.d/05-cilium.conflist")).unwrap();
        assert_eq!(change(&mut watcher).await.chosen.unwrap().network, "kindnet");
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_is_noticed_even_when_it_comes_twice() {
        let host = Host::new();
        std::fs::remove_dir_all(host.at("/etc")).unwrap();
        let mut watcher = watcher(&host);
        assert_eq!(watcher.facts().chosen, None);
        host.install("10-flannel.conflist");
        let facts = loop {
            let facts = change(&mut watcher).await;
            if facts.chosen.is_some() {
                break facts;
            }
        };
        assert_eq!(facts.chosen.unwrap().network, "cbr0");
        std::fs::remove_dir_all(host.at("/etc/cni")).unwrap();
        assert_eq!(change(&mut watcher).await.chosen, None);
        host.install("10-kindnet.conflist");
        let facts = loop {
            let facts = change(&mut watcher).await;
            if facts.chosen.is_some() {
                break facts;
            }
        };
        assert_eq!(facts.chosen.unwrap().network, "kindnet");
    }

    #[tokio::test]
    async fn subnet_env_is_watched_too_and_a_cancelled_wait_loses_nothing() {
        let host = Host::new();
        host.install("10-flannel.conflist");
        let mut watcher = watcher(&host);
        host.write("/run/flannel/subnet.env", "FLANNEL_SUBNET=10.244.1.1/24\n");
        // Cancelled over and over, as a select loop with busy neighbours does.
        loop {
            if tokio::time::timeout(Duration::from_millis(1), watcher.changed())
                .await
                .is_ok()
                && watcher.facts().flannel.is_some()
            {
                break;
            }
        }
    }
}
