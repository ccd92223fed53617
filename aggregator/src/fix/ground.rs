//! What a plan rests on, as plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::facts::CniFacts;
use cidrift_proto::finding::Finding;
use ipnet::IpNet;
use jiff::Timestamp;

use super::place::{Place, Taint};
use crate::query::answer::NodeAnswer;
use crate::summary::PoolReport;

/// The cluster, as the API server and the aggregator tell it at about one time.
#[derive(Debug, Clone)]
pub struct Ground {
    /// When it was gathered.
    pub at: Timestamp,
    /// Every Node, by name.
    pub nodes: BTreeMap<String, NodeGround>,
    /// Hosts that the aggregator knows and that have no Node, by name: what they show is used all the same.
    pub strays: BTreeMap<String, NodeAnswer>,
    /// Every pod that has not ended.
    pub pods: Pods,
    /// Every PodDisruptionBudget, by "namespace/name".
    pub budgets: BTreeMap<String, Budget>,
    /// Findings that stand, pending ones too.
    pub findings: Vec<Finding>,
    /// The pool, and who names it.
    pub pool: PoolReport,
    /// Why no kube-controller-manager is thought to run; `None`: one does, or that cannot be told.
    pub controllers: Option<String>,
    /// What could not be asked, each with what rests on it.
    pub gaps: Vec<String>,
    /// Pod CIDRs of Nodes, ways to which are not told of where they are right.
    pub plain: Vec<IpNet>,
}

/// A Node, and what its agent tells.
#[derive(Debug, Clone)]
pub struct NodeGround {
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.podCIDRs`.
    pub cidrs: Vec<IpNet>,
    /// InternalIP addresses.
    pub addresses: Vec<IpAddr>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// The id of the fix whose mark it carries.
    pub fix: Option<String>,
    /// The Ready condition is True.
    pub ready: bool,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// Its finalizers: whoever holds one keeps a deleted Node, so it cannot be made again at once.
    pub finalizers: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.taints`.
    pub taints: Vec<Taint>,
    /// `spec.providerID`; empty: none.
    pub provider: String,
    /// CSI drivers that are registered on it.
    pub drivers: Vec<String>,
    /// What its pods may request in all.
    pub allocatable: Room,
    /// What the aggregator tells; `None`: it does not know the node.
    pub view: Option<NodeAnswer>,
}

impl NodeGround {
    /// Whether it carries a part of the control plane, by the labels of kubeadm, k3s and rke2.
    pub fn control_plane(&self) -> bool {
        const ROLES: [&str; 3] = ["control-plane", "master", "etcd"];
        ROLES
            .iter()
            .any(|role| self.labels.contains_key(&format!("node-role.kubernetes.io/{role}")))
    }

    /// Whether its host has what flanneld writes, which k3s has built in and no pod shows.
    pub fn flannel(&self) -> bool {
        let facts = self.view.as_ref().and_then(|view| view.facts.as_ref());
        facts.is_some_and(|facts| facts.cni.flannel.is_some())
    }

    /// Whether new pods can come to it.
    pub fn available(&self) -> bool {
        self.ready && !self.unschedulable && !self.deleting
    }
}

/// What a host hands out of, by the CNI's files: its configuration's subnets, or flannel's where that names none. Empty: no
/// file says it.
pub fn handed(cni: &CniFacts) -> Vec<IpNet> {
    let chosen = cni.chosen.iter().flat_map(|config| &config.subnets);
    let named: Vec<IpNet> = chosen.copied().collect();
    if !named.is_empty() {
        return named;
    }
    let flannel = cni.flannel.iter().flat_map(|env| &env.subnets);
    flannel.copied().collect()
}

/// What pods request and nodes have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Number.
    pub pods: u64,
}

impl Room {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            pods: self.pods.saturating_add(other.pods),
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            pods: self.pods.saturating_sub(other.pods),
        }
    }

    /// Whether that much fits.
    pub fn holds(self, other: Self) -> bool {
        self.cpu >= other.cpu && self.memory >= other.memory && self.pods >= other.pods
    }
}

/// Who makes a pod anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// "ReplicaSet", "DaemonSet", "Node" (a static pod), …
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A pod.
#[derive(Debug, Clone, Default)]
pub struct PodGround {
    /// "namespace/name".
    pub key: String,
    /// The node it is bound to; `None`: none yet.
    pub node: Option<String>,
    /// Its controller; `None`: nobody makes it anew.
    pub owner: Option<Owner>,
    /// It is in its host's network.
    pub host_network: bool,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// It has an emptyDir, whose content goes with it.
    pub scratch: bool,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// What it requests.
    pub requests: Room,
    /// The budgets that select it, by "namespace/name".
    pub budgets: Vec<String>,
    /// Where it may go.
    pub place: Place,
    /// It is an aggregator of cidrift's.
    pub aggregator: bool,
    /// It tolerates the taint of a cordon, so that the scheduler may put it back on a node that is drained.
    pub returns: bool,
    /// The kind of CNI daemon that it is: "flannel", "kindnet", …
    pub daemon: Option<String>,
}

impl PodGround {
    /// Whether it is a daemon that makes its node's routes.
    pub fn networks(&self) -> bool {
        self.daemon.as_deref().is_some_and(|kind| kind != "kube-proxy")
    }

    /// Whether the scheduler may put it on a Node, once that is well.
    pub fn may_run_on(&self, name: &str, node: &NodeGround) -> bool {
        let lasting = node.taints.iter().filter(|taint| !taint.passes());
        self.place.selects(name, &node.labels) && self.place.tolerates(lasting)
    }
}

/// Pods, by the node that they are bound to. Of 150,000 nobody looks for those of one node by looking at all.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    /// Shared with the ground that they were taken over from.
    bound: BTreeMap<String, Arc<Vec<PodGround>>>,
    waiting: Vec<PodGround>,
}

impl Pods {
    /// Adds one.
    pub fn push(&mut self, pod: PodGround) {
        match &pod.node {
            Some(node) => Arc::make_mut(self.bound.entry(node.clone()).or_default()).push(pod),
            None => self.waiting.push(pod),
        }
    }

    /// All of them, node by node, and then those that no node has.
    pub fn iter(&self) -> impl Iterator<Item = &PodGround> {
        self.bound.values().flat_map(|pods| pods.iter()).chain(&self.waiting)
    }

    /// Those of a node.
    pub fn on(&self, node: &str) -> &[PodGround] {
        self.bound.get(node).map_or(&[], |pods| pods.as_slice())
    }

    /// Puts these in place of those of a node.
    pub fn replace(&mut self, node: &str, pods: Vec<PodGround>) {
        self.bound.insert(node.to_owned(), Arc::new(pods));
    }
}

#[cfg(test)]
impl Pods {
    /// The last one that was added to a node.
    pub(crate) fn last_on(&mut self, node: &str) -> &mut PodGround {
        Arc::make_mut(self.bound.get_mut(node).unwrap()).last_mut().unwrap()
    }

    /// Without one.
    pub(crate) fn remove(&mut self, key: &str) {
        for pods in self.bound.values_mut() {
            Arc::make_mut(pods).retain(|pod| pod.key != key);
        }
    }
}

/// A PodDisruptionBudget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Budget {
    /// `status.disruptionsAllowed`.
    pub allowed: i32,
    /// `status.desiredHealthy`.
    pub desired: i32,
    /// `status.currentHealthy`.
    pub healthy: i32,
    /// `status.expectedPods`.
    pub expected: i32,
    /// The controller has seen the budget's newest form.
    pub current: bool,
}

impl Budget {
    /// Whether it can never allow an eviction, however well its pods are.
    pub fn never(&self) -> bool {
        self.current && self.expected > 0 && self.desired >= self.expected
    }
}
