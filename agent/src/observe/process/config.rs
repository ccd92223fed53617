//! Configuration files of kubelet and kube-proxy, as these merge them with their flags.

use std::path::Path;

use serde_json::Value;

use super::sources::Sources;
use super::told::{Told, scalar, yaml};
use crate::observe::root::HostRoot;

/// Fields of KubeletConfiguration and the flags that they stand for.
const KUBELET: &[(&str, &str)] = &[
    ("/address", "address"),
    ("/containerRuntimeEndpoint", "container-runtime-endpoint"),
    ("/logging/format", "logging-format"),
    ("/logging/verbosity", "v"),
    ("/maxPods", "max-pods"),
    ("/runtimeRequestTimeout", "runtime-request-timeout"),
    ("/podCIDR", "pod-cidr"),
    ("/readOnlyPort", "read-only-port"),
    ("/registerNode", "register-node"),
    ("/staticPodPath", "pod-manifest-path"),
];

/// Fields of KubeProxyConfiguration and the flags that they stand for; v1alpha1's and its successors'.
const PROXY: &[(&str, &str)] = &[
    ("/clusterCIDR", "cluster-cidr"),
    ("/detectLocal/clusterCIDRs", "cluster-cidr"),
    ("/detectLocalMode", "detect-local-mode"),
    ("/detectLocal/bridgeInterface", "pod-bridge-interface"),
    ("/detectLocal/interfaceNamePrefix", "pod-interface-name-prefix"),
    ("/iptables/masqueradeAll", "masquerade-all"),
    ("/linux/masqueradeAll", "masquerade-all"),
    ("/mode", "proxy-mode"),
    ("/hostnameOverride", "hostname-override"),
    ("/logging/format", "logging-format"),
    ("/logging/verbosity", "v"),
];

/// Flags of kube-proxy that go before its configuration file; the file takes the place of all others.
const PROXY_FLAGS_THAT_WIN: &[&str] = &["hostname-override", "logging-format", "v"];

/// Where a program's files are.
pub(super) struct Place<'a> {
    /// The file system as the program sees it, or why it may not be looked into.
    pub root: Result<&'a HostRoot, &'a str>,
    /// It is a container's own: said with the path.
    pub container: bool,
}

impl Place<'_> {
    fn source(&self, path: &Path) -> String {
        match self.container {
            true => format!("{} in its container", path.display()),
            false => path.display().to_string(),
        }
    }

    /// A file that a program was told to read: that there is none is a problem too.
    fn read(&self, path: &Path, sources: &mut Sources) -> Result<Value, String> {
        let root = self.root.map_err(|why| format!("{}: {why}", self.source(path)))?;
        let text = sources.read(root, path)?;
        let text = text.ok_or_else(|| format!("{}: there is no such file", self.source(path)))?;
        yaml(&text).map_err(|error| format!("{}: {error}", self.source(path)))
    }
}

/// kubelet: its file, then the files of `--config-dir` one after the other, then its flags, which `told` holds.
pub(super) fn kubelet(told: &mut Told, place: &Place<'_>, sources: &mut Sources) {
    let mut below = Told::default();
    if let Some(path) = path(told, "config") {
        apply(&mut below, KUBELET, place, &path, sources);
    }
    if let Some(dir) = path(told, "config-dir") {
        let listed = match place.root {
            Ok(root) => sources.list(root, &dir, &[".conf"]),
            Err(why) => Err(format!("{}: {why}", place.source(&dir))),
        };
        match listed {
            Ok(files) => files
                .iter()
                .for_each(|file| apply(&mut below, KUBELET, place, file, sources)),
            Err(why) => below.problem(why),
        }
    }
    told.over(below);
}

/// kube-proxy: where it has a file, all but a few of its flags mean nothing (`Complete` in its options.go).
pub(super) fn proxy(told: &mut Told, place: &Place<'_>, sources: &mut Sources) {
    let Some(path) = path(told, "config") else { return };
    let fields = || PROXY.iter().map(|(_, name)| *name);
    told.settings
        .retain(|name, _| PROXY_FLAGS_THAT_WIN.contains(&name.as_str()) || fields().all(|field| field != name));
    let mut below = Told::default();
    apply(&mut below, PROXY, place, &path, sources);
    told.over(below);
}

fn path(told: &Told, name: &str) -> Option<std::path::PathBuf> {
    told.get(name).filter(|path| !path.is_empty()).map(Into::into)
}

fn apply(below: &mut Told, fields: &[(&str, &str)], place: &Place<'_>, path: &Path, sources: &mut Sources) {
    match place.read(path, sources) {
        Ok(document) if document.is_object() => {
            let source = place.source(path);
            for (pointer, name) in fields {
                if let Some(value) = document.pointer(pointer).and_then(scalar) {
                    below.set(name, value, &source);
                }
            }
        }
        Ok(_) => below.problem(format!("{}: it is no configuration", place.source(path))),
        Err(why) => below.problem(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::host::Program;
    use proptest::prelude::*;

    struct Fixture {
        dir: tempfile::TempDir,
        told: Told,
    }

    impl Fixture {
        fn new(program: Program, line: &str) -> Self {
            let mut told = Told::default();
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            told.words(program, &words, "command line");
            let dir = tempfile::tempdir().unwrap();
            Self { dir, told }
        }

        fn file(self, path: &str, text: &str) -> Self {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

        fn merge(mut self, with: fn(&mut Told, &Place<'_>, &mut Sources)) -> Told {
            let root = HostRoot::new(self.dir.path());
            let place = Place {
                root: Ok(&root),
                container: false,
            };
            with(&mut self.told, &place, &mut Sources::default());
            self.told
        }
    }

    fn rows(told: &Told) -> Vec<String> {
        let row = |(name, setting): (&String, &crate::view::host::Setting)| {
            format!("{name}={} ({})", setting.value, setting.source)
        };
        told.settings.iter().map(row).collect()
    }

    #[test]
    fn a_flag_of_the_kubelet_goes_before_drop_ins_and_these_before_its_file() {
        let told = Fixture::new(
            Program::Kubelet,
            "--config=/k.yaml --config-dir=/k.d --pod-cidr=10.9.0.0/24",
        )
        .file(
            "k.yaml",
            "maxPods: 110\npodCIDR: 10.8.0.0/24\nstaticPodPath: /m\nlogging: {verbosity: 2}\n",
        )
        .file("k.d/20-b.conf", "maxPods: 250\n")
        .file(
            "k.d/10-a.conf",
            "maxPods: 200\nruntimeRequestTimeout: 10m0s\ncontainerRuntimeEndpoint: unix:///run/a.sock\n",
        )
        .file("k.d/readme", "maxPods: 1\n")
        .merge(kubelet);
        assert_eq!(
            rows(&told),
            [
                "config=/k.yaml (command line)",
                "config-dir=/k.d (command line)",
                "container-runtime-endpoint=unix:///run/a.sock (/k.d/10-a.conf)",
                "max-pods=250 (/k.d/20-b.conf)",
                "pod-cidr=10.9.0.0/24 (command line)",
                "pod-manifest-path=/m (/k.yaml)",
                "runtime-request-timeout=10m0s (/k.d/10-a.conf)",
                "v=2 (/k.yaml)",
            ]
        );
        assert_eq!(told.problems(), None);
    }

    #[test]
    fn kube_proxys_file_takes_the_place_of_its_flags() {
        let line =
            "--config=/p.conf --cluster-cidr=10.9.0.0/16 --detect-local-mode=NodeCIDR --hostname-override=n1 --v=4";
        let told = Fixture::new(Program::Proxy, line)
            .file(
                "p.conf",
                "clusterCIDR: 10.244.0.0/16\nmode: \"\"\nhostnameOverride: x\nlogging: {verbosity: 1}\n",
            )
            .merge(proxy);
        assert_eq!(
            rows(&told),
            [
                "cluster-cidr=10.244.0.0/16 (/p.conf)",
                "config=/p.conf (command line)",
                "hostname-override=n1 (command line)",
                "proxy-mode= (/p.conf)",
                "v=4 (command line)",
            ]
        );
    }

    #[test]
    fn without_a_file_kube_proxys_flags_stand() {
        let told = Fixture::new(Program::Proxy, "--cluster-cidr=10.9.0.0/16").merge(proxy);
        assert_eq!(rows(&told), ["cluster-cidr=10.9.0.0/16 (command line)"]);
    }

    #[test]
    fn a_missing_or_torn_file_leaves_the_flags_and_says_so() {
        let told = Fixture::new(Program::Kubelet, "--config=/k.yaml --max-pods=5").merge(kubelet);
        assert_eq!(told.get("max-pods"), Some("5"));
        assert_eq!(told.problems().unwrap(), "/k.yaml: there is no such file");

        let told = Fixture::new(Program::Proxy, "--config=/p.conf --cluster-cidr=10.9.0.0/16")
            .file("p.conf", "clusterCIDR: [10.244")
            .merge(proxy);
        assert_eq!(told.get("cluster-cidr"), None);
        assert!(told.problems().unwrap().starts_with("/p.conf: "));
    }

    #[test]
    fn a_containers_file_that_may_not_be_read_is_said_with_its_place() {
        let mut told = Fixture::new(Program::Proxy, "--config=/p.conf").told;
        let place = Place {
            root: Err("Permission denied (os error 13)"),
            container: true,
        };
        proxy(&mut told, &place, &mut Sources::default());
        assert_eq!(
            told.problems().unwrap(),
            "/p.conf in its container: Permission denied (os error 13)"
        );
    }

    #[test]
    fn a_list_of_cluster_cidrs_reads_like_the_flag() {
        let told = Fixture::new(Program::Proxy, "--config=/p.conf")
            .file(
                "p.conf",
                "detectLocal: {clusterCIDRs: [10.244.0.0/16, \"fd00::/56\"]}\n",
            )
            .merge(proxy);
        assert_eq!(told.get("cluster-cidr"), Some("10.244.0.0/16,fd00::/56"));
    }

    proptest! {
        #[test]
        fn arbitrary_files_never_panic(text in "(clusterCIDR|maxPods|logging|detectLocal|[ \\[\\]{}a-z:&*\n-]){0,12}") {
            let _ = Fixture::new(Program::Kubelet, "--config=/f --config-dir=/").file("f", &text).merge(kubelet);
            let _ = Fixture::new(Program::Proxy, "--config=/f").file("f", &text).merge(proxy);
        }
    }
}
