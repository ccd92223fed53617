//! Where a program of this host serves its metrics without asking who somebody is, as its configuration names it.
//!
//! Only what is this host's own is asked: a loopback address, or one that a device of this network namespace has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::config;
use crate::observe::root::HostRoot;
use crate::view::host::{Missing, Process, Program};

/// kubelet's `--read-only-port` without a configuration file (`ports.KubeletReadOnlyPort`); with one it is 0.
const KUBELET_READ_ONLY: &str = "10255";

/// What is served where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Whose.
    pub(super) program: Program,
    /// Where it can be asked, or why it cannot.
    pub(super) target: Result<Target, Missing>,
}

/// A place to ask at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Of this host.
    pub(super) address: SocketAddr,
    /// Below it.
    pub(super) path: &'static str,
    /// Somebody has named it; else it is a default, and another program may be there.
    pub(super) named: bool,
}

/// Those of the programs that run here, one for each program and address.
pub(super) fn endpoints(root: &HostRoot, processes: &[Process], own: &[IpAddr]) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for process in processes.iter().filter(|process| process.pid != 0) {
        let target = match process.program {
            Program::Containerd => config::containerd(root, process),
            Program::Crio => config::crio(root, process),
            Program::Kubelet => kubelet(process),
            _ => continue,
        };
        let endpoint = Endpoint {
            program: process.program,
            target: target.and_then(|served| served.at(own)),
        };
        if !found.contains(&endpoint) {
            found.push(endpoint);
        }
    }
    found
}

/// What a program was told to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// "", "127.0.0.1", "::", "localhost".
    pub(super) host: String,
    /// A port.
    pub(super) port: u16,
    /// As in [`Target`].
    pub(super) path: &'static str,
    /// As in [`Target`].
    pub(super) named: bool,
}

impl Served {
    /// Of "HOST:PORT" as Go's `net.Listen` takes it: without a host it is every address.
    pub(super) fn of(address: &str, path: &'static str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Some(Self {
            host: host.to_owned(),
            port: port.parse().ok().filter(|port| *port != 0)?,
            path,
            named: true,
        })
    }

    fn at(self, own: &[IpAddr]) -> Result<Target, Missing> {
        let absent = |why: String| Err(Missing::Absent(why));
        let ip = match (self.host.as_str(), self.host.parse::<IpAddr>()) {
            ("" | "localhost", _) => Ipv4Addr::LOCALHOST.into(),
            // `::` takes IPv4 as well, as Go listens; and ::1 may not be there (disable_ipv6).
            (_, Ok(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            (_, Ok(ip)) if ip.is_loopback() || own.contains(&ip) => ip,
            (host, Ok(_)) => {
                return absent(format!(
                    "it would be served at {host}, which is no address of this host"
                ));
            }
            (host, Err(_)) => return absent(format!("it would be served at {host}, and names are not looked up")),
        };
        Ok(Target {
            address: SocketAddr::new(ip, self.port),
            path: self.path,
            named: self.named,
        })
    }
}

/// Its port that asks nobody who he is, where that is open. The other one (10250) wants a right that nobody needs here.
fn kubelet(process: &Process) -> Result<Served, Missing> {
    let told = |name: &str| process.settings.get(name).map(|setting| setting.value.trim());
    let port = match (told("read-only-port"), &process.problem) {
        (Some(port), _) => port,
        (None, Some(why)) => {
            return Err(Missing::Absent(format!(
                "whether kubelet has a read-only port is not known: {why}"
            )));
        }
        (None, None) if process.embedded_in.is_some() || told("config").is_some_and(|path| !path.is_empty()) => "0",
        (None, None) => KUBELET_READ_ONLY,
    };
    match port.parse::<u16>() {
        Ok(0) => Err(Missing::Absent("kubelet has no read-only port".to_owned())),
        Ok(number) => Ok(Served {
            host: told("address").unwrap_or_default().to_owned(),
            port: number,
            path: "/metrics",
            named: told("read-only-port").is_some(),
        }),
        Err(_) => Err(Missing::Absent(format!(
            "kubelet's read-only port is no port: {port:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::view::host::Setting;

    fn process(program: Program, settings: &[(&str, &str)]) -> Process {
        let setting = |value: &str| Setting {
            value: value.to_owned(),
            source: "command line".to_owned(),
        };
        Process {
            program,
            embedded_in: None,
            pid: 7,
            started_at: None,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), setting(value)))
                .collect::<BTreeMap<_, _>>(),
            problem: None,
        }
    }

    /// "127.0.0.1:1338/v1/metrics", or the reason.
    fn at(root: &HostRoot, process: &Process) -> String {
        let found = endpoints(root, std::slice::from_ref(process), &["172.30.0.11".parse().unwrap()]);
        let [endpoint] = found.as_slice() else {
            panic!("{found:?}");
        };
        match &endpoint.target {
            Ok(target) => format!("{}{}", target.address, target.path),
            Err(Missing::Absent(why)) => why.clone(),
            Err(other) => format!("{other:?}"),
        }
    }

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, HostRoot) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = HostRoot::new(directory.path());
        (directory, root)
    }

    #[test]
    fn of_containerd_it_stands_in_every_version_of_its_file_and_in_what_that_imports() {
        let containerd = process(Program::Containerd, &[]);
        let main = "etc/containerd/config.toml";
        for (files, expected) in [
            (
                &[(main, "version = 2\n[metrics]\naddress = '127.0.0.1:1338'")][..],
                "127.0.0.1:1338/v1/metrics",
            ),
            (&[(main, "[metrics]\naddress = ':1338'")], "127.0.0.1:1338/v1/metrics"),
            (
                &[(main, "[metrics]\naddress = '[::]:1338'")],
                "127.0.0.1:1338/v1/metrics",
            ),
            (
                &[(main, "[metrics]\naddress = '172.30.0.11:1338'")],
                "172.30.0.11:1338/v1/metrics",
            ),
            (
                &[(main, "[metrics]\naddress = '172.30.0.12:1338'")],
                "it would be served at 172.30.0.12, which is no address of this host",
            ),
            (
                &[(main, "[metrics]\naddress = 'metrics.example:1338'")],
                "it would be served at metrics.example, and names are not looked up",
            ),
            (
                &[(
                    main,
                    "version = 4\n[plugins.'io.containerd.server.v1.metrics']\naddress = '127.0.0.1:1'",
                )],
                "127.0.0.1:1/v1/metrics",
            ),
            (
                &[
                    (
                        main,
                        "version = 3\nimports = ['conf.d/*.toml']\n[metrics]\naddress = '127.0.0.1:1'",
                    ),
                    (
                        "etc/containerd/conf.d/10.toml",
                        "version = 3\n[metrics]\naddress = '127.0.0.1:2'",
                    ),
                    ("etc/containerd/conf.d/20.toml", "version = 3\n[metrics]\naddress = ''"),
                ],
                "127.0.0.1:2/v1/metrics",
            ),
            (
                &[(main, "version = 2")],
                "containerd's configuration names no address for its metrics",
            ),
            (
                &[(main, "[metrics]\naddress = 'rubbish'")],
                "containerd's metrics have no address and port: \"rubbish\"",
            ),
            (
                &[],
                "containerd has no configuration file that names an address for its metrics",
            ),
        ] {
            let (_directory, root) = host(files);
            assert_eq!(at(&root, &containerd), expected);
        }
        let (_directory, root) = host(&[("srv/own.toml", "[metrics]\naddress = '127.0.0.1:9'")]);
        let own = process(Program::Containerd, &[("config", "/srv/own.toml")]);
        assert_eq!(at(&root, &own), "127.0.0.1:9/v1/metrics");
    }

    #[test]
    fn a_file_that_may_not_be_read_is_unreadable_and_one_that_makes_no_sense_tells_nothing() {
        for bad in ["[metrics", "\u{0}"] {
            let (_directory, root) = host(&[("etc/containerd/config.toml", bad)]);
            let text = at(&root, &process(Program::Containerd, &[]));
            let expected = "/etc/containerd/config.toml: it is no configuration that this agent understands";
            assert_eq!(text, expected);
        }
        let (_directory, root) = host(&[("etc/containerd/config.toml/x", "")]);
        let text = at(&root, &process(Program::Containerd, &[]));
        let expected = "/etc/containerd/config.toml: it is not a regular file";
        assert_eq!(text, format!("Unreadable({expected:?})"));
    }

    #[test]
    fn cri_o_serves_where_it_is_enabled_and_without_a_certificate() {
        let enabled = "[crio.metrics]\nenable_metrics = true\n";
        let port = format!("{enabled}metrics_port = 9537\nmetrics_host = '0.0.0.0'\n");
        let secured = format!("{enabled}metrics_cert = '/c'\nmetrics_key = '/k'\n");
        let none = "CRI-O's metrics are not enabled";
        for (files, settings, expected) in [
            (
                &[("etc/crio/crio.conf", enabled)][..],
                &[][..],
                "127.0.0.1:9090/metrics",
            ),
            (
                &[("etc/crio/crio.conf.d/01-metrics.conf", port.as_str())],
                &[],
                "127.0.0.1:9537/metrics",
            ),
            (
                &[("etc/crio/crio.conf.d/01-metrics.conf", secured.as_str())],
                &[],
                "CRI-O serves its metrics by HTTPS only, which is not asked",
            ),
            (
                &[("etc/crio/crio.conf", "[crio.metrics]\nenable_metrics = false")],
                &[],
                none,
            ),
            (&[], &[], none),
            (
                &[],
                &[("enable-metrics", ""), ("metrics-port", "9091")],
                "127.0.0.1:9091/metrics",
            ),
            (&[("etc/crio/crio.conf", enabled)], &[("enable-metrics", "false")], none),
        ] {
            let (_directory, root) = host(files);
            assert_eq!(at(&root, &process(Program::Crio, settings)), expected, "{files:?}");
        }
    }

    #[test]
    fn kubelets_read_only_port_is_open_where_it_is_told_or_has_no_file() {
        let (_directory, root) = host(&[]);
        let none = "kubelet has no read-only port";
        for (settings, expected) in [
            (&[("config", "/var/lib/kubelet/config.yaml")][..], none),
            (
                &[("config", "/c"), ("read-only-port", "10255")],
                "127.0.0.1:10255/metrics",
            ),
            (
                &[
                    ("config", "/c"),
                    ("read-only-port", "10255"),
                    ("address", "172.30.0.11"),
                ],
                "172.30.0.11:10255/metrics",
            ),
            (&[("read-only-port", "0")], none),
            (
                &[("read-only-port", "70000")],
                "kubelet's read-only port is no port: \"70000\"",
            ),
            (&[], "127.0.0.1:10255/metrics"),
        ] {
            assert_eq!(at(&root, &process(Program::Kubelet, settings)), expected);
        }
        let mut embedded = process(Program::Kubelet, &[]);
        embedded.embedded_in = Some(Program::K3s);
        assert_eq!(at(&root, &embedded), none);
        let mut unread = process(Program::Kubelet, &[("config", "/c")]);
        unread.problem = Some("/c: Permission denied".to_owned());
        assert_eq!(
            at(&root, &unread),
            "whether kubelet has a read-only port is not known: /c: Permission denied"
        );
    }

    #[test]
    fn a_manifest_is_no_process_and_others_serve_nothing_here() {
        let (_directory, root) = host(&[]);
        let mut manifest = process(Program::Kubelet, &[]);
        manifest.pid = 0;
        let all = [manifest, process(Program::Proxy, &[]), process(Program::K3s, &[])];
        assert_eq!(endpoints(&root, &all, &[]), []);
    }
}
