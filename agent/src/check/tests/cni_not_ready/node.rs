//! A node with everything that HOST06 looks at.

use jiff::SignedDuration;

use super::super::*;
use crate::view::host::{Condition, LoadedNetwork, Plugins, Process, Program, Runtime};

/// A node that is up for an hour: containerd, a kubelet, flannel, all plugins.
pub(super) struct Node {
    pub(super) net: Host,
    pub(super) host: crate::view::Host,
    pub(super) now: Timestamp,
}

pub(super) fn process(program: Program, started: Timestamp) -> Process {
    Process {
        program,
        embedded_in: None,
        pid: 7,
        started_at: Some(started),
        settings: Default::default(),
        problem: None,
    }
}

pub(super) fn condition(ok: bool, message: &str) -> Option<Condition> {
    Some(Condition {
        ok,
        reason: if ok {
            String::new()
        } else {
            "NetworkPluginNotReady".into()
        },
        message: message.into(),
    })
}

pub(super) fn loaded(name: &str, plugins: &[&str], ranges: &[&str]) -> LoadedNetwork {
    LoadedNetwork {
        name: name.into(),
        plugins: plugins.iter().map(|name| (*name).to_owned()).collect(),
        ranges: nets(ranges),
    }
}

pub(super) const HOUR: i64 = 3600;

impl Node {
    pub(super) fn new() -> Self {
        let runtime = Runtime {
            name: "containerd".into(),
            version: "2.1.4".into(),
            runtime_ready: condition(true, ""),
            network_ready: condition(true, ""),
            networks: vec![
                loaded("cni-loopback", &["loopback"], &[]),
                loaded("cbr0", &["flannel", "portmap"], &[]),
            ],
            load_problem: None,
            template: None,
            plugin_dirs: vec!["/opt/cni/bin".into()],
        };
        let mut host = crate::view::Host::bare(at(0));
        let processes = vec![process(Program::Kubelet, at(0)), process(Program::Containerd, at(0))];
        host.processes = Observed::seen(at(HOUR), "/proc", processes);
        host.runtime = Observed::seen(at(HOUR), "/run/containerd/containerd.sock", runtime);
        host.plugins = Observed::seen(
            at(HOUR),
            "/opt/cni/bin",
            Plugins {
                directories: vec!["/opt/cni/bin".into()],
                missing: vec![],
            },
        );
        Self {
            net: Host::flannel(),
            host,
            now: at(HOUR),
        }
    }

    /// containerd's template on a bridge.
    pub(super) fn template() -> Self {
        let mut node = Self::new();
        node.net = Host::bridge(&["10.244.1.0/24"]);
        let chosen = node.net.cni.chosen.as_mut().unwrap();
        chosen.generated_by = Some("containerd template /etc/containerd/cni.template".into());
        node.runtime(|runtime| {
            runtime.template = Some("/etc/containerd/cni.template".into());
            runtime.networks = vec![loaded("cbr0", &["bridge", "portmap"], &["10.244.1.0/24"])];
        })
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn runtime(mut self, change: impl FnOnce(&mut Runtime)) -> Self {
        change(self.host.runtime.value.as_mut().unwrap());
        self
    }

    /// No file, and the runtime says so.
    pub(super) fn empty(self) -> Self {
        self.no_file("/etc/cni/net.d holds no CNI configuration (*.conf, *.conflist, *.json)")
            .runtime(|runtime| {
                runtime.network_ready = condition(false, "cni plugin not initialized");
                runtime.networks.clear();
                runtime.load_problem =
                    Some("no network config found in /etc/cni/net.d: cni plugin not initialized".into());
            })
    }

    pub(super) fn no_file(self, problem: &str) -> Self {
        self.with(|node| {
            node.net.cni.chosen = None;
            node.net.cni.flannel = None;
            node.net.cni.problem = Some(problem.into());
        })
    }

    pub(super) fn without_cidr(self) -> Self {
        self.with(|node| node.net.expectation.pod_cidrs.clear())
    }

    pub(super) fn without_devices(self) -> Self {
        self.with(|node| node.net.kernel.links.retain(|_, link| link.name == "eth0"))
    }

    /// Nobody was asked over CRI.
    pub(super) fn without_cri(self) -> Self {
        self.with(|node| node.host.runtime = crate::view::Host::bare(at(0)).runtime)
    }

    pub(super) fn missing(self, names: &[&str]) -> Self {
        self.with(|node| {
            let missing = names
                .iter()
                .map(|name| ((*name).to_owned(), "it is not in /opt/cni/bin".to_owned()));
            node.host.plugins.value.as_mut().unwrap().missing = missing.collect();
        })
    }

    /// Kubelet and containerd started that many seconds ago.
    pub(super) fn up_for(self, seconds: i64) -> Self {
        self.with(|node| {
            for process in node.host.processes.value.as_mut().unwrap() {
                process.started_at = Some(node.now - SignedDuration::from_secs(seconds));
            }
        })
    }

    /// What is said of HOST06 alone.
    pub(super) fn judge(&self) -> Judged {
        let mut judged = check(&Input {
            node: "node-a",
            expectation: Some(&self.net.expectation),
            kernel: &self.net.kernel,
            kernel_at: at(10),
            kernel_gaps: &[],
            links_changed_at: None,
            cni: &self.net.cni,
            cni_at: at(9),
            cni_changed_at: Some(at(2)),
            lookup: &self.net.rows,
            host: &self.host,
            lease_growth: &[],
            now: self.now,
        });
        judged.claims.retain(|claim| claim.code == Code::Host06);
        judged.unjudged.retain(|row| row.code == Code::Host06);
        judged
    }

    pub(super) fn claim(&self) -> Claim {
        let judged = self.judge();
        assert_eq!(judged.claims.len(), 1, "{judged:#?}");
        judged.claims.into_iter().next().unwrap()
    }

    pub(super) fn silent(&self) {
        assert_eq!(self.judge(), Judged::default());
    }

    pub(super) fn unknown(&self) -> String {
        let judged = self.judge();
        assert_eq!(judged.claims, vec![]);
        judged.unjudged.into_iter().next().unwrap().reason
    }
}
