//! What is read of a host besides its networking state and its CNI configuration: who runs, which pods there are,
//! which addresses are given out, what failed, how the kernel is set.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::signature::Signature;
use ipnet::IpNet;
use jiff::Timestamp;

use super::setup::{Operations, Setups};
use super::traffic::Traffic;

/// EACCES and EPERM in the system's own words, as they stand in what is told of a file or link that may not be read.
const REFUSED: [&str; 2] = ["Permission denied", "Operation not permitted"];

/// Something that was looked at: when, where, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed<T> {
    /// When it was read.
    pub at: Timestamp,
    /// Where it was read, for evidence: "/run/containerd/containerd.sock", "/var/lib/cni/networks".
    pub source: String,
    /// What was read, or why there is nothing.
    pub value: Result<T, Missing>,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// It was not looked at yet, or nothing that was found leads there.
    NotYet,
    /// There is no such thing on this host (no such process, socket or directory): a fact, not a fault.
    Absent(String),
    /// It may not be read, is damaged, or did not answer in time: nobody can say what it holds.
    Unreadable(String),
}

impl<T> Observed<T> {
    /// Read.
    pub fn seen(at: Timestamp, source: impl Into<String>, value: T) -> Self {
        Self {
            at,
            source: source.into(),
            value: Ok(value),
        }
    }

    /// Not read, for this reason.
    pub fn missing(at: Timestamp, source: impl Into<String>, why: Missing) -> Self {
        Self {
            at,
            source: source.into(),
            value: Err(why),
        }
    }

    /// Not looked at yet.
    pub fn not_yet() -> Self {
        Self::missing(Timestamp::UNIX_EPOCH, "", Missing::NotYet)
    }

    /// What was read.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().ok()
    }

    /// Why it may not be read, where that is so.
    pub fn unreadable(&self) -> Option<&str> {
        match &self.value {
            Err(Missing::Unreadable(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether it says the same; that it was read once more is no news.
    pub fn same(&self, other: &Self) -> bool
    where
        T: PartialEq,
    {
        self.source == other.source && self.value == other.value
    }
}

/// One host, as far as its files, processes and runtime tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Programs of Kubernetes in this host's network namespace.
    pub processes: Observed<Vec<Process>>,
    /// The container runtime, over CRI.
    pub runtime: Observed<Runtime>,
    /// Pod sandboxes, over CRI.
    pub sandboxes: Observed<Vec<Sandbox>>,
    /// The ranges that host-local hands out of, as the CNI configuration names them.
    pub ranges: Observed<Vec<RangeSet>>,
    /// Addresses that host-local has given out.
    pub leases: Observed<Vec<Lease>>,
    /// libcni's cached results.
    pub results: Observed<Vec<CachedResult>>,
    /// Binaries of the plugins that the CNI configuration names.
    pub plugins: Observed<Plugins>,
    /// Sandboxes that failed and that went well, as the logs of runtime and kubelet tell it.
    pub failures: Observed<Failures>,
    /// The pod CIDR that the kubelet last took over.
    pub kubelet: Observed<KubeletCidr>,
    /// Kernel settings.
    pub settings: Observed<Settings>,
    /// Network managers that may remove what a CNI makes.
    pub managers: Observed<Vec<NetworkManager>>,
    /// What the kernel counted.
    pub traffic: Observed<Traffic>,
    /// How long sandboxes took, as the runtime's log tells it.
    pub setups: Observed<Setups>,
    /// What runtime and kubelet count of setting up sandboxes, a row for each that may offer its metrics without asking
    /// who somebody is.
    pub operations: Vec<Observed<Operations>>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            processes: Observed::not_yet(),
            runtime: Observed::not_yet(),
            sandboxes: Observed::not_yet(),
            ranges: Observed::not_yet(),
            leases: Observed::not_yet(),
            results: Observed::not_yet(),
            plugins: Observed::not_yet(),
            failures: Observed::not_yet(),
            kubelet: Observed::not_yet(),
            settings: Observed::not_yet(),
            managers: Observed::not_yet(),
            traffic: Observed::not_yet(),
            setups: Observed::not_yet(),
            operations: Vec::new(),
        }
    }
}

impl Host {
    /// A host on which there is nothing of all this.
    pub fn bare(at: Timestamp) -> Self {
        fn none<T>(at: Timestamp) -> Observed<T> {
            Observed::missing(at, "", Missing::Absent("there is none on this host".to_owned()))
        }
        Self {
            processes: none(at),
            runtime: none(at),
            sandboxes: none(at),
            ranges: none(at),
            leases: none(at),
            results: none(at),
            plugins: none(at),
            failures: none(at),
            kubelet: none(at),
            settings: none(at),
            managers: none(at),
            traffic: none(at),
            setups: none(at),
            operations: Vec::new(),
        }
    }

    /// Whether there is nothing new in `other`. What is only counted is no news: it goes with what is, or is told after
    /// a while.
    pub fn same(&self, other: &Self) -> bool {
        self.processes.same(&other.processes)
            && self.runtime.same(&other.runtime)
            && self.sandboxes.same(&other.sandboxes)
            && self.ranges.same(&other.ranges)
            && self.leases.same(&other.leases)
            && self.results.same(&other.results)
            && self.plugins.same(&other.plugins)
            && self.failures.same(&other.failures)
            && self.kubelet.same(&other.kubelet)
            && self.settings.same(&other.settings)
            && self.managers.same(&other.managers)
    }

    /// Everything that could not be read though it is there: what, and why.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let parts = [
            (&self.processes.source, self.processes.unreadable()),
            (&self.runtime.source, self.runtime.unreadable()),
            (&self.sandboxes.source, self.sandboxes.unreadable()),
            (&self.ranges.source, self.ranges.unreadable()),
            (&self.leases.source, self.leases.unreadable()),
            (&self.results.source, self.results.unreadable()),
            (&self.plugins.source, self.plugins.unreadable()),
            (&self.failures.source, self.failures.unreadable()),
            (&self.kubelet.source, self.kubelet.unreadable()),
            (&self.settings.source, self.settings.unreadable()),
            (&self.managers.source, self.managers.unreadable()),
            (&self.traffic.source, self.traffic.unreadable()),
        ];
        // They are of the same logs, which are said once.
        let setups = self
            .setups
            .unreadable()
            .filter(|_| self.failures.unreadable().is_none());
        let operations = self.operations.iter().map(|one| (&one.source, one.unreadable()));
        let mut rows: Vec<(String, String)> = parts
            .into_iter()
            .chain([(&self.setups.source, setups)])
            .chain(operations)
            .filter_map(|(source, why)| Some((source.clone(), why?.to_owned())))
            .collect();
        // What else is not known of a process is for the rules that need it to say.
        let processes = self.processes.get().into_iter().flatten();
        rows.extend(processes.filter_map(|process| {
            let why = process
                .problem
                .clone()
                .filter(|why| REFUSED.iter().any(|text| why.contains(text)))?;
            Some((format!("{} (pid {})", process.program, process.pid), why))
        }));
        rows.sort();
        rows.dedup();
        rows
    }
}

/// A program of Kubernetes, of a container runtime or of a CNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Program {
    /// kubelet.
    Kubelet,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-proxy.
    Proxy,
    /// flanneld.
    Flanneld,
    /// containerd.
    Containerd,
    /// CRI-O.
    Crio,
    /// k3s, server or agent: kubelet, kube-proxy, flannel, containerd and the control plane in one.
    K3s,
    /// rke2: a supervisor that starts kubelet and containerd.
    Rke2,
    /// microk8s' kubelite.
    Kubelite,
    /// k0s: a supervisor.
    K0s,
}

impl Program {
    /// As its binary is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubelet => "kubelet",
            Self::ControllerManager => "kube-controller-manager",
            Self::Proxy => "kube-proxy",
            Self::Flanneld => "flanneld",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Kubelite => "kubelite",
            Self::K0s => "k0s",
        }
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A running process, or a static pod manifest that starts one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What it is. One that embeds others (k3s) is listed once for itself and once for each that it embeds.
    pub program: Program,
    /// The program that it is a part of, where that is another.
    pub embedded_in: Option<Program>,
    /// Process id as this agent's procfs numbers it; 0 for a manifest.
    pub pid: u32,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// What it was told, by name: flags without dashes ("cluster-cidr") and values of the configuration file that it
    /// names, as the components themselves merge them (a flag wins). Only those that say something of pod ranges,
    /// of the runtime, of CNI or of logs.
    pub settings: BTreeMap<String, Setting>,
    /// What of it could not be read.
    pub problem: Option<String>,
}

/// What a program was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value as written; empty for a flag alone.
    pub value: String,
    /// Where it stands: "command line", "/var/lib/kubelet/config.yaml".
    pub source: String,
}

/// The container runtime as it answers over CRI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// "containerd", "cri-o".
    pub name: String,
    /// Its version.
    pub version: String,
    /// `RuntimeReady`.
    pub runtime_ready: Option<Condition>,
    /// `NetworkReady`: only that a configuration could be loaded.
    pub network_ready: Option<Condition>,
    /// The CNI networks that it has loaded (containerd says it; CRI-O does not).
    pub networks: Vec<LoadedNetwork>,
    /// containerd's `lastCNILoadStatus`, where it is not "OK".
    pub load_problem: Option<String>,
    /// `conf_template` of containerd.
    pub template: Option<String>,
    /// Directories of plugin binaries that it names.
    pub plugin_dirs: Vec<String>,
}

/// A CRI condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its status.
    pub ok: bool,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// A CNI network in the runtime's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedNetwork {
    /// Network name.
    pub name: String,
    /// Plugin types in chain order.
    pub plugins: Vec<String>,
    /// Ranges of the primary plugin's host-local block.
    pub ranges: Vec<IpNet>,
}

/// A pod sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Its container id.
    pub id: String,
    /// "namespace/name".
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// `SANDBOX_READY`.
    pub ready: bool,
    /// It shares the host's network: its addresses are the host's.
    pub host_network: bool,
    /// Its addresses; empty until they are known.
    pub addresses: Vec<IpAddr>,
}

/// Ranges that stand for each other: a pod gets one address out of each set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// The ranges, in the order in which they are gone through.
    pub ranges: Vec<AddressRange>,
}

/// A range of addresses that host-local hands out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last one, of the same family.
    pub last: IpAddr,
    /// Never given out, wherever it lies.
    pub gateway: IpAddr,
}

/// An address that host-local has given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the CNI network.
    pub network: String,
    /// The directory that it lies in.
    pub directory: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// Id of the sandbox that has it; empty where the file names none (cut short by a crash): taken all the same.
    pub container: String,
    /// When it was given.
    pub given_at: Option<Timestamp>,
}

/// A result that libcni keeps of a sandbox that was set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedResult {
    /// Name of the CNI network.
    pub network: String,
    /// Id of the sandbox.
    pub container: String,
    /// "namespace/name", where the runtime said it.
    pub pod: Option<String>,
    /// Its addresses, host bits kept.
    pub addresses: Vec<IpNet>,
    /// The ranges that the configuration named when it was set up.
    pub ranges: Vec<IpNet>,
    /// When it was set up.
    pub made_at: Option<Timestamp>,
}

/// Binaries of CNI plugins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plugins {
    /// Directories that were searched, in order.
    pub directories: Vec<String>,
    /// Plugins that the configuration names and no directory has, or whose file cannot be run: name and why.
    pub missing: Vec<(String, String)>,
}

/// What the logs tell of sandboxes within a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failures {
    /// Since when the logs were read.
    pub since: Option<Timestamp>,
    /// Failures by class, those told last first.
    pub classes: Vec<FailureClass>,
    /// When a sandbox was last set up without an error, by the logs.
    pub last_success: Option<Timestamp>,
}

/// Failures of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureClass {
    /// What the text says is wrong.
    pub signature: Signature,
    /// How many were told in the window.
    pub count: u32,
    /// When the first of them was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// Pods ("namespace/name") that failed so and have not succeeded since; bounded.
    pub pods: Vec<String>,
    /// The newest text, without ids.
    pub text: String,
    /// Who told it: "containerd", "kubelet".
    pub component: String,
    /// Addresses and ranges that the texts name.
    pub addresses: Vec<String>,
    /// The plugin that the newest text blames.
    pub plugin: Option<String>,
}

/// The pod CIDR that the kubelet last took over, as it logs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletCidr {
    /// `newPodCIDR`.
    pub cidrs: Vec<IpNet>,
    /// `originalPodCIDR`: not empty where it changed under the running kubelet.
    pub before: Vec<IpNet>,
    /// When it said so.
    pub said_at: Timestamp,
    /// The newest error of taking over a pod CIDR that came after that.
    pub error: Option<String>,
}

/// Kernel settings that pod traffic depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `net.ipv4.ip_forward`.
    pub ipv4_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; `None` without IPv6.
    pub ipv6_forward: Option<bool>,
    /// `net.ipv4.conf.DEV.forwarding` where it is off though `ip_forward` is on, by device.
    pub ipv4_forward_off: Vec<String>,
    /// `net.ipv6.conf.DEV.forwarding` where it is off though `all` is on, by device.
    pub ipv6_forward_off: Vec<String>,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<u8>,
    /// `net.ipv4.conf.DEV.rp_filter` by device, where it is not 0.
    pub rp_filter: BTreeMap<String, u8>,
    /// `net.bridge.bridge-nf-call-iptables`; `None` where br_netfilter is not loaded.
    pub bridge_nf_call_iptables: Option<bool>,
}

/// A network manager that is active and may remove what a CNI makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkManager {
    /// "systemd-networkd", "NetworkManager".
    pub name: String,
    /// What it would do, in its own setting's words: "ManageForeignRoutes=yes (default)".
    pub setting: String,
    /// The file that says so; `None`: nobody says otherwise and that is the default.
    pub file: Option<String>,
    /// Devices of the CNI that it manages, where it is about devices.
    pub devices: Vec<String>,
}
