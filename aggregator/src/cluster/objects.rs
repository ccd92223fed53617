//! Objects of the control plane other than Nodes, trimmed to the fields that rules use.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

/// A kind of object that is watched, or an endpoint that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// `nodes`.
    Nodes,
    /// `pods`.
    Pods,
    /// `events`.
    Events,
    /// `csinodes.storage.k8s.io`.
    CsiNodes,
    /// ConfigMap kube-system/kubeadm-config.
    KubeadmConfig,
    /// ConfigMap kube-system/kube-proxy.
    KubeProxyConfig,
    /// ConfigMap kube-flannel-cfg.
    FlannelConfig,
    /// ConfigMap kube-system/cilium-config.
    CiliumConfig,
    /// ConfigMap kube-system/antrea-config.
    AntreaConfig,
    /// `ciliumnodes.cilium.io`.
    CiliumNodes,
    /// `ippools.crd.projectcalico.org`, or the same of `projectcalico.org`.
    IpPools,
    /// `blockaffinities.crd.projectcalico.org`, or the same of `projectcalico.org`.
    BlockAffinities,
    /// `clustercidrs.networking.x-k8s.io`.
    ClusterCidrs,
    /// `nodenetworkconfigs.acn.azure.com`.
    NodeNetworkConfigs,
    /// `cninodes.vpcresources.k8s.aws`.
    CniNodes,
    /// `networks.config.openshift.io`.
    OpenShiftNetworks,
    /// Pods of kube-controller-manager (from `pods`).
    ManagerPods,
    /// Pods of kube-proxy (from `pods`).
    ProxyPods,
    /// Pods of CNI daemons (from `pods`).
    CniPods,
    /// `/metrics` of kube-controller-manager.
    ManagerMetrics,
    /// `k3s.io/node-args` on Nodes, and k3s' defaults.
    K3sNodes,
    /// Processes and static pod manifests that agents find on hosts.
    HostPrograms,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Events => "events",
            Self::CsiNodes => "csinodes.storage.k8s.io",
            Self::KubeadmConfig => "configmap kubeadm-config",
            Self::KubeProxyConfig => "configmap kube-proxy",
            Self::FlannelConfig => "configmap kube-flannel-cfg",
            Self::CiliumConfig => "configmap cilium-config",
            Self::AntreaConfig => "configmap antrea-config",
            Self::CiliumNodes => "ciliumnodes.cilium.io",
            Self::IpPools => "ippools.crd.projectcalico.org",
            Self::BlockAffinities => "blockaffinities.crd.projectcalico.org",
            Self::ClusterCidrs => "clustercidrs.networking.x-k8s.io",
            Self::NodeNetworkConfigs => "nodenetworkconfigs.acn.azure.com",
            Self::CniNodes => "cninodes.vpcresources.k8s.aws",
            Self::OpenShiftNetworks => "networks.config.openshift.io",
            Self::ManagerPods => "pods of kube-controller-manager",
            Self::ProxyPods => "pods of kube-proxy",
            Self::CniPods => "pods of CNI daemons",
            Self::ManagerMetrics => "metrics of kube-controller-manager",
            Self::K3sNodes => "k3s' node arguments",
            Self::HostPrograms => "programs on hosts",
        })
    }
}

/// How the watch of a kind of object fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// Its first list is not through yet (450,000 pods take minutes): that nothing is known of it shows nothing. With
    /// what went wrong, if something did.
    Unlisted(Option<String>),
    /// Listed and followed; so it was last at that time, aggregator's clock.
    Live(Timestamp),
    /// The API server does not have this kind: nobody uses it here.
    Absent,
    /// It may not be read (RBAC); with the API server's words.
    Refused(String),
    /// It could be read and cannot now; what was last known stands. With the reason.
    Broken(String),
}

impl Watched {
    /// Whether nothing said of it means that there is nothing.
    pub fn complete(&self) -> bool {
        matches!(self, Self::Live(_) | Self::Absent)
    }
}

/// Flags of kube-controller-manager that concern pod CIDRs (reference A), as the command line states them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManagerFlags {
    /// `--allocate-node-cidrs`; `None`: not stated, so false.
    pub allocate_node_cidrs: Option<bool>,
    /// `--cluster-cidr`, what of it is a prefix.
    pub cluster_cidr: Vec<IpNet>,
    /// `--service-cluster-ip-range`.
    pub service_cidr: Vec<IpNet>,
    /// `--node-cidr-mask-size`.
    pub mask: Option<u8>,
    /// `--node-cidr-mask-size-ipv4`.
    pub mask_v4: Option<u8>,
    /// `--node-cidr-mask-size-ipv6`.
    pub mask_v6: Option<u8>,
    /// `--cidr-allocator-type`.
    pub allocator_type: Option<String>,
    /// `--cloud-provider`.
    pub cloud_provider: Option<String>,
    /// The controller named node-ipam-controller (alias nodeipam) is switched off by `--controllers`.
    pub ipam_disabled: bool,
    /// Flags whose value could not be understood, as written.
    pub odd: Vec<String>,
}

/// One instance of kube-controller-manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manager {
    /// "kube-system/kube-controller-manager-cp-1".
    pub name: String,
    /// The node it runs on.
    pub node: Option<String>,
    /// Its flags.
    pub flags: ManagerFlags,
    /// Its container is ready.
    pub ready: bool,
    /// Its container's restarts.
    pub restarts: u32,
    /// Why its container waits ("CrashLoopBackOff").
    pub waiting: Option<String>,
    /// How its container ended last: exit code, and its last words where kubelet kept them.
    pub last_exit: Option<(i32, String)>,
    /// When its container ended last.
    pub last_exit_at: Option<Timestamp>,
    /// When its container started.
    pub started_at: Option<Timestamp>,
}

impl Manager {
    /// Why it does not run, in words; `None`: it does.
    pub fn down(&self) -> Option<String> {
        match (&self.waiting, &self.last_exit) {
            (Some(waiting), Some((code, _))) => Some(format!("{waiting}, exit code {code}")),
            (Some(waiting), None) => Some(waiting.clone()),
            (None, Some((code, _))) if !self.ready => Some(format!("not ready, last exit code {code}")),
            (None, None) if !self.ready => Some("not ready".to_owned()),
            (None, _) => None,
        }
    }
}

/// Somebody's word on what the pod ranges are. Ranked by `resource` (reference H).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeWitness {
    /// The kind of object that says so.
    pub resource: Resource,
    /// Which one, for people: "ConfigMap kube-system/kubeadm-config, networking.podSubnet".
    pub what: String,
    /// The ranges that it names; empty: it names none (which may be right, as an empty clusterCIDR of kube-proxy is).
    pub ranges: Vec<IpNet>,
    /// Service ranges that it names.
    pub service_ranges: Vec<IpNet>,
    /// IPv4 prefix length of a node's or block's share, where it says so.
    pub mask_v4: Option<u8>,
    /// The same for IPv6.
    pub mask_v6: Option<u8>,
    /// What of it could not be understood, as written.
    pub odd: Vec<String>,
}

/// A pod of a CNI daemon, of kube-proxy or of a CCM on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// The node.
    pub node: String,
    /// Which daemon: "flannel", "cilium", "calico-node", "aws-node", "kindnet", "kube-router", "antrea", "ovnkube", "weave", "azure-cns", "kube-ovn", "kube-proxy".
    pub kind: String,
    /// "kube-flannel/kube-flannel-ds-x7k2p".
    pub pod: String,
    /// All its containers are ready.
    pub ready: bool,
    /// Why a container waits ("CrashLoopBackOff"), or how it ended last.
    pub trouble: Option<String>,
}

/// Objects of CNI allocators, all kinds. The engine keeps them in the order of their nodes ([`Delegates::sort`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delegates {
    /// CiliumNodes.
    pub cilium_nodes: Vec<CiliumNode>,
    /// `ipam` of cilium-config ("cluster-pool", "kubernetes" …); `None`: not seen.
    pub cilium_ipam: Option<String>,
    /// Calico's IPPools.
    pub ip_pools: Vec<IpPool>,
    /// Calico's BlockAffinities.
    pub blocks: Vec<Block>,
    /// ClusterCIDRs of node-ipam-controller.
    pub cluster_cidrs: Vec<ClusterCidr>,
    /// NodeNetworkConfigs.
    pub node_network_configs: Vec<NodeNetworkConfig>,
    /// Names of CNINodes.
    pub cni_nodes: Vec<String>,
}

impl Delegates {
    /// Puts the lists in the order of their nodes, which the look-ups below need.
    pub fn sort(&mut self) {
        self.cilium_nodes.sort_by(|a, b| a.node.cmp(&b.node));
        self.blocks.sort_by(|a, b| (&a.node, a.cidr).cmp(&(&b.node, b.cidr)));
        self.node_network_configs.sort_by(|a, b| a.node.cmp(&b.node));
        self.cni_nodes.sort();
    }

    /// The CiliumNode of a node.
    pub fn cilium_node(&self, node: &str) -> Option<&CiliumNode> {
        let at = self
            .cilium_nodes
            .binary_search_by(|of| of.node.as_str().cmp(node))
            .ok()?;
        self.cilium_nodes.get(at)
    }

    /// The NodeNetworkConfig of a node.
    pub fn network_config(&self, node: &str) -> Option<&NodeNetworkConfig> {
        let configs = &self.node_network_configs;
        let at = configs.binary_search_by(|of| of.node.as_str().cmp(node)).ok()?;
        configs.get(at)
    }

    /// The BlockAffinities of a node.
    pub fn blocks_of(&self, node: &str) -> &[Block] {
        let from = self.blocks.partition_point(|block| block.node.as_str() < node);
        let rest = &self.blocks[from..];
        &rest[..rest.partition_point(|block| block.node == node)]
    }
}

/// `ciliumnodes.cilium.io`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CiliumNode {
    /// The node.
    pub node: String,
    /// `spec.ipam.podCIDRs`, and those of `spec.ipam.pools.allocated`.
    pub pod_cidrs: Vec<IpNet>,
    /// `status.ipam.operator-status.error`.
    pub error: Option<String>,
    /// What could not be understood, as written.
    pub odd: Vec<String>,
}

/// `ippools` of Calico.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpPool {
    /// Name.
    pub name: String,
    /// `spec.cidr`.
    pub cidr: IpNet,
    /// `spec.blockSize`: prefix length of a block, 26 (IPv6: 122) where absent.
    pub block_size: u8,
    /// `spec.disabled`.
    pub disabled: bool,
    /// `spec.nodeSelector`; "all()" where absent.
    pub node_selector: String,
}

/// `blockaffinities` of Calico.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `spec.node`.
    pub node: String,
    /// `spec.cidr`.
    pub cidr: IpNet,
    /// `spec.state` ("confirmed", "pending", "pendingDeletion").
    pub state: String,
    /// `spec.deleted`.
    pub deleted: bool,
}

/// A requirement of a node selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Label key, or a field ("metadata.name") where `field` is set.
    pub key: String,
    /// "In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt".
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
    /// It is one of `matchFields`.
    pub field: bool,
}

/// `clustercidrs.networking.x-k8s.io` (reference B).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCidr {
    /// Name.
    pub name: String,
    /// `spec.perNodeHostBits`.
    pub per_node_host_bits: u8,
    /// `spec.ipv4`.
    pub v4: Option<IpNet>,
    /// `spec.ipv6`.
    pub v6: Option<IpNet>,
    /// `spec.nodeSelector`: any term, all requirements of it; empty: every node.
    pub selector: Vec<Vec<Requirement>>,
    /// It is being deleted: no node gets a CIDR of it, those that have one keep it.
    pub deleting: bool,
}

/// `nodenetworkconfigs.acn.azure.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetworkConfig {
    /// The node.
    pub node: String,
    /// Prefixes of `status.networkContainers[].primaryIP` (overlay) or `subnetAddressSpace`.
    pub cidrs: Vec<IpNet>,
    /// Single addresses of `status.networkContainers[].ipAssignments`.
    pub addresses: Vec<IpAddr>,
}

/// One range as kube-controller-manager's metrics show it (reference A).
#[derive(Debug, Clone, PartialEq)]
pub struct PoolMetric {
    /// The instance, for people.
    pub manager: String,
    /// Label `clusterCIDR`.
    pub range: IpNet,
    /// `node_ipam_controller_cidrset_usage_cidrs`: a ratio from 0 to 1, despite its name.
    pub usage: Option<f64>,
    /// `node_ipam_controller_cirdset_max_cidrs` (the typo is Kubernetes' own).
    pub max: Option<u64>,
    /// When it was read, aggregator's clock.
    pub read_at: Timestamp,
}
