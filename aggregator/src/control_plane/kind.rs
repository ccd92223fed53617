//! Which objects are read, where they are, and whose word they are.

use crate::cluster::objects::Resource;

/// A set of objects that is listed and followed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nodes.
    Nodes,
    /// Pods, of all namespaces.
    Pods,
    /// Events with reason FailedCreatePodSandBox.
    SandboxEvents,
    /// Events about Nodes.
    NodeEvents,
    /// ConfigMap kube-system/kubeadm-config.
    KubeadmConfig,
    /// ConfigMap kube-system/kube-proxy.
    KubeProxyConfig,
    /// ConfigMap kube-flannel/kube-flannel-cfg.
    FlannelConfig,
    /// ConfigMap kube-system/kube-flannel-cfg, where older manifests put it.
    OldFlannelConfig,
    /// ConfigMap kube-system/cilium-config.
    CiliumConfig,
    /// ConfigMap kube-system/antrea-config.
    AntreaConfig,
    /// CiliumNodes.
    CiliumNodes,
    /// IPPools.
    IpPools,
    /// BlockAffinities.
    BlockAffinities,
    /// ClusterCIDRs.
    ClusterCidrs,
    /// NodeNetworkConfigs.
    NodeNetworkConfigs,
    /// CNINodes.
    CniNodes,
    /// Networks of OpenShift.
    OpenShiftNetworks,
}

/// Where the objects of a kind are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Objects of core/v1 that every API server has: their plural, and a field selector.
    Core(&'static str, Option<&'static str>),
    /// One ConfigMap: namespace and name.
    ConfigMap(&'static str, &'static str),
    /// Objects of an API group that may not be there: groups in order of preference, plural and kind.
    Extension(&'static [&'static str], &'static str, &'static str),
}

/// Calico's groups: its own CRDs first; the other is served by its API server, or by newer CRDs.
const CALICO: &[&str] = &["crd.projectcalico.org", "projectcalico.org"];

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Nodes,
        Self::Pods,
        Self::SandboxEvents,
        Self::NodeEvents,
        Self::KubeadmConfig,
        Self::KubeProxyConfig,
        Self::FlannelConfig,
        Self::OldFlannelConfig,
        Self::CiliumConfig,
        Self::AntreaConfig,
        Self::CiliumNodes,
        Self::IpPools,
        Self::BlockAffinities,
        Self::ClusterCidrs,
        Self::NodeNetworkConfigs,
        Self::CniNodes,
        Self::OpenShiftNetworks,
    ];

    /// Where its objects are.
    pub fn place(self) -> Place {
        match self {
            Self::Nodes => Place::Core("nodes", None),
            Self::Pods => Place::Core("pods", None),
            // A busy cluster's other events are not even sent.
            Self::SandboxEvents => Place::Core("events", Some("reason=FailedCreatePodSandBox")),
            Self::NodeEvents => Place::Core("events", Some("involvedObject.kind=Node")),
            Self::KubeadmConfig => Place::ConfigMap("kube-system", "kubeadm-config"),
            Self::KubeProxyConfig => Place::ConfigMap("kube-system", "kube-proxy"),
            Self::FlannelConfig => Place::ConfigMap("kube-flannel", "kube-flannel-cfg"),
            Self::OldFlannelConfig => Place::ConfigMap("kube-system", "kube-flannel-cfg"),
            Self::CiliumConfig => Place::ConfigMap("kube-system", "cilium-config"),
            Self::AntreaConfig => Place::ConfigMap("kube-system", "antrea-config"),
            Self::CiliumNodes => Place::Extension(&["cilium.io"], "ciliumnodes", "CiliumNode"),
            Self::IpPools => Place::Extension(CALICO, "ippools", "IPPool"),
            Self::BlockAffinities => Place::Extension(CALICO, "blockaffinities", "BlockAffinity"),
            Self::ClusterCidrs => Place::Extension(&["networking.x-k8s.io"], "clustercidrs", "ClusterCIDR"),
            Self::NodeNetworkConfigs => Place::Extension(&["acn.azure.com"], "nodenetworkconfigs", "NodeNetworkConfig"),
            Self::CniNodes => Place::Extension(&["vpcresources.k8s.aws"], "cninodes", "CNINode"),
            Self::OpenShiftNetworks => Place::Extension(&["config.openshift.io"], "networks", "Network"),
        }
    }

    /// Whose state tells how well these resources are seen.
    pub fn resources(self) -> &'static [Resource] {
        match self {
            Self::Nodes => &[Resource::Nodes, Resource::K3sNodes],
            Self::Pods => &[
                Resource::Pods,
                Resource::ManagerPods,
                Resource::ProxyPods,
                Resource::CniPods,
            ],
            Self::SandboxEvents | Self::NodeEvents => &[Resource::Events],
            Self::KubeadmConfig => &[Resource::KubeadmConfig],
            Self::KubeProxyConfig => &[Resource::KubeProxyConfig],
            Self::FlannelConfig | Self::OldFlannelConfig => &[Resource::FlannelConfig],
            Self::CiliumConfig => &[Resource::CiliumConfig],
            Self::AntreaConfig => &[Resource::AntreaConfig],
            Self::CiliumNodes => &[Resource::CiliumNodes],
            Self::IpPools => &[Resource::IpPools],
            Self::BlockAffinities => &[Resource::BlockAffinities],
            Self::ClusterCidrs => &[Resource::ClusterCidrs],
            Self::NodeNetworkConfigs => &[Resource::NodeNetworkConfigs],
            Self::CniNodes => &[Resource::CniNodes],
            Self::OpenShiftNetworks => &[Resource::OpenShiftNetworks],
        }
    }

    /// The resource that stands for it.
    pub fn resource(self) -> Resource {
        match self.resources() {
            [first, ..] => *first,
            [] => Resource::Nodes,
        }
    }

    /// The kind of an object by its `apiVersion`, `kind`, namespace and name; `None`: it is not read.
    pub fn of(version: &str, kind: &str, namespace: &str, name: &str) -> Option<Self> {
        let group = version.split_once('/').map(|(group, _)| group).unwrap_or_default();
        Self::ALL.into_iter().find(|known| match known.place() {
            Place::Core("nodes", _) => kind == "Node" && group.is_empty(),
            Place::Core("pods", _) => kind == "Pod" && group.is_empty(),
            // Which of the two an event belongs to, its reason says; see `Gathered`.
            Place::Core(..) => kind == "Event" && matches!(group, "" | "events.k8s.io"),
            Place::ConfigMap(space, known) => {
                kind == "ConfigMap" && group.is_empty() && namespace == space && name == known
            }
            Place::Extension(groups, _, known) => kind == known && groups.contains(&group),
        })
    }
}
