//! Command lines of Kubernetes' programs, and the names in them that say something of pod ranges, of the runtime, of
//! CNI or of logs. Nothing else of a command line is kept: it may hold secrets.

use crate::view::host::Program;

/// Flags that are kept and take a value, in alphabetical order: those of node IPAM, those that say where a runtime,
/// a CNI, configuration or a log is, and those that say which Node a program speaks for.
const VALUES: &[&str] = &[
    "address",
    "cidr-allocator-type",
    "cloud-provider",
    "cluster-cidr",
    "cni",
    "cni-bin-dir",
    "cni-conf-dir",
    "cni-config-dir",
    "cni-default-network",
    "cni-plugin-dir",
    "config",
    "config-dir",
    "container-runtime",
    "container-runtime-endpoint",
    "controller-manager-args-file",
    "controllers",
    "cri-socket",
    "data-dir",
    "detect-local-mode",
    "etcd-prefix",
    "flannel-backend",
    "flannel-cni-conf",
    "flannel-conf",
    "flannel-iface",
    "hostname-override",
    "iface",
    "iface-regex",
    "kube-annotation-prefix",
    "kubelet-args-file",
    "listen",
    "log",
    "log-dir",
    "log-file",
    "log-level",
    "logging-format",
    "max-pods",
    "metrics-cert",
    "metrics-host",
    "metrics-port",
    "net-config-path",
    "network-plugin",
    "node-cidr-mask-size",
    "node-cidr-mask-size-ipv4",
    "node-cidr-mask-size-ipv6",
    "node-ip",
    "node-name",
    "non-masquerade-cidr",
    "pod-bridge-interface",
    "pod-cidr",
    "pod-interface-name-prefix",
    "pod-manifest-path",
    "proxy-args-file",
    "proxy-mode",
    "public-ip",
    "public-ipv6",
    "read-only-port",
    "root",
    "root-dir",
    "runtime-request-timeout",
    "service-cidr",
    "service-cluster-ip-range",
    "state",
    "subnet-file",
    "v",
];

/// Flags that are kept and stand alone (`--flag`, or `--flag=false`), in alphabetical order.
const SWITCHES: &[&str] = &[
    "allocate-node-cidrs",
    "alsologtostderr",
    "configure-cloud-routes",
    "disable-agent",
    "disable-cloud-controller",
    "disable-controller-manager",
    "disable-kube-proxy",
    "docker",
    "enable-metrics",
    "ip-masq",
    "kube-subnet-mgr",
    "logtostderr",
    "masquerade-all",
    "register-node",
    "start-control-plane",
];

/// Flags of k3s and rke2 that carry flags of a program inside: taken apart, never kept as they stand.
const CARRIERS: &[&str] = &["kube-controller-manager-arg", "kube-proxy-arg", "kubelet-arg"];

/// A flag that counts, by its long name without dashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    pub name: &'static str,
    /// Empty for a flag alone.
    pub value: String,
}

/// The name as it is kept, or `None` for one that says nothing here. Underscores count as dashes.
pub(super) fn kept(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    let find = |names: &'static [&'static str]| names.binary_search(&name.as_str()).ok().map(|at| names[at]);
    find(VALUES).or_else(|| find(SWITCHES)).or_else(|| find(CARRIERS))
}

/// Whether a name carries flags of a program inside.
pub(super) fn carries(name: &str) -> bool {
    CARRIERS.contains(&name)
}

/// The flags among the words after a program's name, in order: `--flag=v`, `--flag v`, `--flag` alone, and the same
/// with a single dash, as flannel's are written.
pub(super) fn parse(program: Program, words: &[String]) -> Vec<Flag> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        if flag.is_empty() {
            // "--": what follows are no flags.
            break;
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let Some(name) = kept(long(program, name)) else {
            continue;
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if SWITCHES.contains(&name) => String::new(),
            // A value may begin with a dash: `--controllers -node-ipam-controller`.
            None => words.next().cloned().unwrap_or_default(),
        };
        found.push(Flag { name, value });
    }
    found
}

/// The long name of a flag's letter.
fn long(program: Program, name: &str) -> &str {
    match (program, name) {
        (Program::Containerd | Program::Crio | Program::K3s | Program::Rke2 | Program::K0s, "c") => "config",
        (Program::Containerd, "a") => "address",
        (Program::Containerd | Program::Crio, "l") => "log-level",
        (Program::Crio, "d") => "config-dir",
        (Program::K3s | Program::Rke2, "d") => "data-dir",
        (Program::K3s | Program::Rke2, "l") => "log",
        (_, name) => name,
    }
}

/// Whether a switch is on: alone, or with a value that Go's `strconv.ParseBool` takes for true.
pub(super) fn on(value: &str) -> bool {
    matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(program: Program, line: &str) -> Vec<(&'static str, String)> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(program, &words)
            .into_iter()
            .map(|flag| (flag.name, flag.value))
            .collect()
    }

    #[test]
    fn names_stand_in_order_and_once() {
        for names in [VALUES, SWITCHES, CARRIERS] {
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        }
        assert!(VALUES.iter().all(|name| !SWITCHES.contains(name)));
    }

    #[test]
    fn every_way_to_write_a_flag_is_read() {
        assert_eq!(
            read(
                Program::ControllerManager,
                "--allocate-node-cidrs --cluster_cidr 10.244.0.0/16 --controllers -nodeipam --node-cidr-mask-size=25"
            ),
            [
                ("allocate-node-cidrs", String::new()),
                ("cluster-cidr", "10.244.0.0/16".into()),
                ("controllers", "-nodeipam".into()),
                ("node-cidr-mask-size", "25".into()),
            ]
        );
        assert_eq!(
            read(Program::Containerd, "-c /etc/c.toml -a /run/c.sock"),
            [("config", "/etc/c.toml".into()), ("address", "/run/c.sock".into())]
        );
        assert_eq!(
            read(Program::Flanneld, "-kube-subnet-mgr -iface=eth1"),
            [("kube-subnet-mgr", String::new()), ("iface", "eth1".into())]
        );
    }

    #[test]
    fn secrets_and_what_follows_two_dashes_are_not_kept() {
        assert_eq!(
            read(
                Program::K3s,
                "--token s3cret --datastore-endpoint=mysql://u:p@h --node-ip 10.0.0.1"
            ),
            [("node-ip", "10.0.0.1".to_owned())]
        );
        assert_eq!(read(Program::Kubelet, "-- --node-ip 10.0.0.1"), []);
        assert_eq!(read(Program::Kubelet, "--node-ip"), [("node-ip", String::new())]);
    }

    #[test]
    fn a_letter_means_something_to_the_programs_that_have_it() {
        assert_eq!(read(Program::Kubelet, "-c x -v 4"), [("v", "4".to_owned())]);
        assert!(on("") && on("true") && !on("false") && !on("no"));
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(words in prop::collection::vec(".{0,20}", 0..10)) {
            for program in [Program::Kubelet, Program::K3s, Program::Crio] {
                let _ = parse(program, &words);
            }
        }

        #[test]
        fn flags_read_back_whichever_way_they_are_written(
            rows in prop::collection::vec((0..VALUES.len(), "[a-z0-9./:,-]{0,12}", any::<bool>()), 0..8),
        ) {
            let mut words = Vec::new();
            for (at, value, split) in &rows {
                if *split {
                    words.extend([format!("--{}", VALUES[*at]), value.clone()]);
                } else {
                    words.push(format!("--{}={value}", VALUES[*at].replace('-', "_")));
                }
            }
            let read = parse(Program::Kubelet, &words);
            let wanted: Vec<Flag> = rows.iter().map(|(at, value, _)| Flag { name: VALUES[*at], value: value.clone() }).collect();
            prop_assert_eq!(read, wanted);
        }
    }
}
