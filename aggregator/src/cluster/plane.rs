//! What the control plane says, as plain data, and how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cidrift_proto::landing::MacAddress;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::netmap::overlap;

use super::around::{Around, NodePods, SandboxFailures};
use super::objects::{Daemon, Delegates, Manager, RangeWitness, Resource, Watched};

/// What the control plane says, as one source last told it.
#[derive(Debug, Clone, Default)]
pub struct ControlPlane {
    /// "file /tmp/nodes.yaml", "Kubernetes API https://…".
    pub source: String,
    /// Why the newest state could not be had; the last good one stands in `nodes`.
    pub problem: Option<String>,
    /// When `nodes` was last known to be right; `None`: never read.
    pub observed_at: Option<Timestamp>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// Everything else that it says.
    pub around: Around,
}

/// A Node object, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: a pod CIDR never changes under one UID.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created_at: Option<Timestamp>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.podCIDR`, as written.
    pub pod_cidr: Option<String>,
    /// `spec.podCIDRs`, as written.
    pub pod_cidrs_raw: Vec<String>,
    /// Those of `spec.podCIDRs` that are valid prefixes, in order.
    pub pod_cidrs: Vec<IpNet>,
    /// Who wrote `spec.podCIDR` or `spec.podCIDRs`: the managers of those fields in `metadata.managedFields`.
    pub cidr_writers: Vec<String>,
    /// InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// The Ready condition: `Some(false)` when it is False or Unknown (the kubelet does not answer), `None` where absent.
    pub ready: Option<bool>,
    /// Why it is not Ready, as the condition says it ("KubeletNotReady: container runtime network not ready: …").
    pub not_ready: Option<String>,
    /// The reason of the NetworkUnavailable condition, where it is True ("NoRouteCreated").
    pub network_unavailable: Option<String>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// `status.nodeInfo.kubeletVersion`, which tells some platforms (reference G: "-eks-", "-gke.", "+k3s1").
    pub kubelet_version: Option<String>,
    /// Labels that say what IPAM is in use (`kubernetes.azure.com/…`, `eks.amazonaws.com/…`, `type=virtual-kubelet` …),
    /// where the node is, and those that a ClusterCIDR selects by; the others are not kept.
    pub labels: BTreeMap<String, String>,
    /// Annotations that say something of addresses (kube-router's, k3s', OVN's, kube-ovn's, Cilium's); the others are not kept.
    pub annotations: BTreeMap<String, String>,
    /// flannel's annotations.
    pub flannel: Option<FlannelAnnotations>,
    /// When this record last differed from the one before, aggregator's clock.
    pub changed_at: Timestamp,
}

impl NodeRecord {
    /// Those of `spec.podCIDRs` that are no prefix, as written.
    pub fn unreadable(&self) -> impl Iterator<Item = &str> {
        let raw = self.pod_cidrs_raw.iter().map(String::as_str);
        raw.filter(|raw| raw.parse::<IpNet>().is_err())
    }

    /// What is odd about `spec.podCIDRs`, a line each: entries that are no prefix, and host bits.
    pub fn oddities(&self) -> Vec<String> {
        let line = |raw: &String| match raw.parse::<IpNet>() {
            Err(_) => Some(format!("spec.podCIDRs has {raw:?}, which is no prefix")),
            Ok(net) if net != net.trunc() => Some(format!(
                "spec.podCIDRs has {raw:?}, which has host bits set; it is taken for {}",
                net.trunc()
            )),
            Ok(_) => None,
        };
        self.pod_cidrs_raw.iter().filter_map(line).collect()
    }

    /// The entry of `spec.podCIDRs` that is no prefix and may have been meant for addresses of `prefix`.
    /// `mask` is what node CIDRs have; an entry of which not even the address can be read may mean any.
    pub fn may_mean(&self, prefix: IpNet, mask: u8) -> Option<&str> {
        self.unreadable().find(|raw| {
            let address = raw.split('/').next().unwrap_or_default().trim().parse::<IpAddr>();
            address.map_or(true, |address| {
                let around = IpNet::new(address, mask).unwrap_or_else(|_| address.into()).trunc();
                overlap(&around, &prefix)
            })
        })
    }
}

/// `flannel.alpha.coreos.com/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlannelAnnotations {
    /// `backend-type`.
    pub backend: String,
    /// `public-ip` (or its overwrite).
    pub public_ip: Option<IpAddr>,
    /// `VtepMAC` of `backend-data`.
    pub vtep_mac: Option<MacAddress>,
    /// `VNI` of `backend-data`.
    pub vni: Option<u32>,
}

/// What is configured of the pod range, with who said it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolConfig {
    /// Ranges of `--cluster-cidr`; empty: unknown.
    pub ranges: Vec<IpNet>,
    /// `--node-cidr-mask-size-ipv4`, where stated.
    pub mask_v4: Option<u8>,
    /// `--node-cidr-mask-size-ipv6`, where stated.
    pub mask_v6: Option<u8>,
    /// `--service-cluster-ip-range`; empty: unknown.
    pub service_ranges: Vec<IpNet>,
    /// Who said so, for people.
    pub witness: String,
}

/// A change of what the control plane says. Each one stands for itself: a source
/// sends a whole part where it listed it anew, and single objects while it watches.
#[derive(Debug, Clone)]
pub enum PlaneEvent {
    /// Everything anew: a snapshot file.
    Whole(Box<ControlPlane>),
    /// Where the state comes from; sent once, before anything else.
    Source(String),
    /// All Nodes, listed anew; and names of those that are there and could not be read, which stay as they were last known.
    Nodes(BTreeMap<String, NodeRecord>, BTreeSet<String>),
    /// A Node came or changed.
    Node(Box<NodeRecord>),
    /// A Node is gone.
    NodeGone(String),
    /// Nothing changed, and the watch of Nodes is alive.
    StillSo,
    /// How the watch of one kind of object fares. For [`Resource::Nodes`] a broken one is also the plane's problem.
    Watch(Resource, Watched),
    /// All instances of kube-controller-manager that are known, by "namespace/pod".
    Managers(BTreeMap<String, Manager>),
    /// All that this kind of object says of ranges, in place of what it said before.
    Ranges(Resource, Vec<RangeWitness>),
    /// All CNI daemons by node and name, in place of those known before.
    Daemons(Vec<Daemon>),
    /// All objects of CNI allocators, in place of those known before.
    Delegates(Box<Delegates>),
    /// What the allocator's events say of a node, in place of what was known; `None`: its events have expired.
    Allocation(String, Option<Box<super::around::AllocationEvents>>),
    /// Sandbox failures of a node, in place of what was known; `None`: none any more.
    Sandboxes(String, Option<SandboxFailures>),
    /// The pods of these nodes, in place of what was known; `None`: none any more.
    Pods(Vec<(String, Option<std::sync::Arc<NodePods>>)>),
    /// All pods anew: nodes that are not named have none.
    AllPods(BTreeMap<String, std::sync::Arc<NodePods>>),
    /// Labels of kube-controller-manager's pool metrics, as last read, by instance.
    PoolMetrics(Vec<super::objects::PoolMetric>),
    /// Objects of this kind that are there and could not be read, in place of what was known; `None`: none any more.
    Unreadable(Resource, Option<super::around::Unreadable>),
}
