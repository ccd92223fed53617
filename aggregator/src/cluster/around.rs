//! What surrounds the Nodes: the allocator's instances and events, ranges that
//! somebody names, pods, sandbox failures, and how well all that can be seen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::objects::{Daemon, Delegates, Manager, PoolMetric, RangeWitness, Resource, Watched};

/// Everything that the control plane says besides its Nodes.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// How the watch of each kind fares; one that is missing was never tried.
    pub watches: BTreeMap<Resource, Watched>,
    /// Instances of kube-controller-manager by "namespace/pod".
    pub managers: BTreeMap<String, Manager>,
    /// Who names which ranges, besides `managers`, by the kind of object.
    pub ranges: BTreeMap<Resource, Vec<RangeWitness>>,
    /// CNI daemons and kube-proxy, by node.
    pub daemons: BTreeMap<String, Vec<Daemon>>,
    /// Objects of CNI allocators.
    pub delegates: Arc<Delegates>,
    /// The allocator's events by node.
    pub allocation: BTreeMap<String, AllocationEvents>,
    /// Sandbox failures by node.
    pub sandboxes: BTreeMap<String, SandboxFailures>,
    /// Pods by node.
    pub pods: BTreeMap<String, Arc<NodePods>>,
    /// kube-controller-manager's pool metrics.
    pub pool_metrics: Vec<PoolMetric>,
    /// Objects that are there and could not be read, by kind: what they say is not known.
    pub unreadable: BTreeMap<Resource, Unreadable>,
}

/// Objects of one kind that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub count: u32,
    /// The first of them, by name, each with why: at most [`Unreadable::EXAMPLES`].
    pub examples: Vec<String>,
}

impl Unreadable {
    /// Examples that are kept of a kind.
    pub const EXAMPLES: usize = 4;
}

impl Around {
    /// Forgets what metrics said of instances of kube-controller-manager that are gone, do not run, or have been started
    /// since: none of it is so any more.
    pub fn drop_dead_metrics(&mut self) {
        let managers = &self.managers;
        self.pool_metrics.retain(|metric| {
            let instance = managers.get(&metric.manager);
            instance.is_some_and(|instance| {
                let same = instance.started_at.is_none_or(|started| started <= metric.read_at);
                same && instance.down().is_none()
            })
        });
    }

    /// Whether this kind is seen whole: what is not there does not exist.
    pub fn complete(&self, resource: Resource) -> bool {
        self.watches.get(&resource).is_some_and(Watched::complete)
    }

    /// Whether this kind is yet to be listed for the first time: a rule to which its absence means something has to wait.
    pub fn unlisted(&self, resource: Resource) -> bool {
        matches!(self.watches.get(&resource), Some(Watched::Unlisted(_)))
    }

    /// Why this kind is not seen whole, in words; `None`: it is.
    pub fn unseen(&self, resource: Resource) -> Option<String> {
        match self.watches.get(&resource) {
            Some(Watched::Live(_) | Watched::Absent) => None,
            Some(Watched::Unlisted(None)) => Some(format!("{resource}: not listed yet")),
            Some(Watched::Unlisted(Some(why))) => Some(format!("{resource}: not listed yet: {why}")),
            Some(Watched::Refused(why)) => Some(format!("{resource}: not allowed to read: {why}")),
            Some(Watched::Broken(why)) => Some(format!("{resource}: {why}")),
            None => Some(format!("{resource}: not watched by this source")),
        }
    }
}

/// An event of one reason about one object, all its repetitions taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Component that says so: "cidrAllocator", "kubelet".
    pub component: String,
    /// Its newest message, as written, at most 1 KiB of it; empty where far too many fail to keep all their words.
    pub message: String,
    /// How often.
    pub count: u32,
    /// When first, its writer's clock.
    pub first: Option<Timestamp>,
    /// When last, its writer's clock.
    pub last: Option<Timestamp>,
}

/// What the allocator's events say of one node. They expire after the API server's `--event-ttl` (1 h).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllocationEvents {
    /// The UID of the Node that the newest is about, where it says it: kube-controller-manager 1.36 does, some older
    /// writers put the node's name there.
    pub uid: String,
    /// Reason `CIDRNotAvailable`: no CIDR was left.
    pub not_available: Option<Told>,
    /// Reason `CIDRAssignmentFailed`: the Node could not be patched.
    pub assignment_failed: Option<Told>,
    /// Reason `FailedToCreateRoute`, of a cloud's route controller.
    pub route_failed: Option<Told>,
}

/// Pods of one node that could not get their sandboxes, and those that could.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFailures {
    /// Failing pods: newest first, at most [`FAILING`].
    pub failing: Vec<FailingPod>,
    /// How many fail in all.
    pub total: u32,
}

/// Failing pods kept of one node: as many as a node runs by default (`maxPods`).
pub const FAILING: usize = 110;

/// A pod with a `FailedCreatePodSandBox` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingPod {
    /// "namespace/name".
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// What was told.
    pub told: Told,
}

/// Pods that are bound to one node and have an address of the pod network, or want one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodePods {
    /// The pods, by name; hostNetwork ones and those that have ended are left out.
    pub pods: Vec<PodRecord>,
}

/// A pod, trimmed: there may be 450,000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRecord {
    /// "namespace/name".
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `status.podIPs`: none while it has no sandbox.
    pub addresses: PodAddresses,
    /// When kubelet first saw it have all it needs to run in (`PodReadyToStartContainers` became True), whole seconds
    /// since the epoch; where that condition is absent, when its first container started; 0: not yet.
    pub sandbox_since: i64,
    /// `metadata.creationTimestamp`, whole seconds since the epoch.
    pub created: i64,
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodAddresses {
    /// IPv4.
    pub v4: Option<std::net::Ipv4Addr>,
    /// IPv6.
    pub v6: Option<std::net::Ipv6Addr>,
}

impl PodAddresses {
    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }
}
