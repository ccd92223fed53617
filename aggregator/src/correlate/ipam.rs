//! Whether `spec.podCIDR` is what pods of a node get their addresses from.

use cidrift_proto::facts::HostFacts;

use crate::cluster::NodeRecord;

/// What a node's IPAM makes of its `spec.podCIDR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipam {
    /// Pods get addresses of it.
    PodCidr,
    /// Another allocator decides; the field means nothing. With who that is.
    Delegated(String),
    /// There is no data plane that an agent could see: virtual kubelets, Windows. With which.
    NoDataPlane(String),
    /// It cannot be told; with what is missing.
    Unclear(String),
}

/// Primary plugins that never look at `spec.podCIDR`.
const OWN_PLUGINS: &[&str] = &[
    "aws-cni",
    "azure-vnet",
    "ovn-k8s-cni-overlay",
    "weave-net",
    "kube-ovn",
    "sriov",
];

/// IPAM plugins that never look at `spec.podCIDR`.
const OWN_IPAMS: &[&str] = &[
    "calico-ipam",
    "azure-cns",
    "azure-vnet-ipam",
    "whereabouts",
    "spiderpool",
    "kube-ovn",
    "antrea",
    "dhcp",
];

/// Primary plugins whose mode is not in their configuration file.
const MODE_ELSEWHERE: &[&str] = &["cilium-cni", "multus", "multus-shim"];

/// Label keys (or prefixes of them) of platforms whose CNI allocates by itself.
const PLATFORM_LABELS: &[(&str, &str)] = &[
    ("eks.amazonaws.com/", "EKS"),
    ("alpha.eksctl.io/", "EKS"),
    ("kubernetes.azure.com/azure-cni-overlay", "Azure CNI overlay"),
    ("kubernetes.azure.com/podnetwork-type", "Azure CNI"),
    ("kubernetes.azure.com/podnetwork-subnet", "Azure CNI"),
    ("node.openshift.io/os_id", "OpenShift"),
];

/// Classifies one node: its own CNI configuration first, then flannel's
/// annotations, then what its labels say of the platform.
pub fn classify(node: &NodeRecord, facts: Option<&HostFacts>) -> Ipam {
    if node.labels.get("type").is_some_and(|kind| kind == "virtual-kubelet") {
        return Ipam::NoDataPlane("a virtual kubelet has no data plane of its own".to_owned());
    }
    if node.labels.get("kubernetes.io/os").is_some_and(|os| os == "windows") {
        return Ipam::NoDataPlane("no agent runs on Windows".to_owned());
    }
    if let Some(config) = facts.and_then(|facts| facts.cni.chosen.as_ref()) {
        let plugin = config.plugins.first().map(String::as_str).unwrap_or_default();
        let ipam = config.ipam.as_deref().unwrap_or_default();
        if OWN_IPAMS.contains(&ipam) {
            return Ipam::Delegated(format!("{ipam} hands out the addresses"));
        }
        if OWN_PLUGINS.contains(&plugin) {
            return Ipam::Delegated(format!("{plugin} hands out the addresses"));
        }
        if plugin == "calico" && ipam.is_empty() {
            return Ipam::Delegated("calico hands out the addresses".to_owned());
        }
        if MODE_ELSEWHERE.contains(&plugin) {
            return Ipam::Unclear(format!(
                "whether {plugin} uses spec.podCIDR does not stand in its CNI configuration"
            ));
        }
        return Ipam::PodCidr;
    }
    if node.flannel.is_some() {
        return Ipam::PodCidr;
    }
    for (key, platform) in PLATFORM_LABELS {
        if node.labels.keys().any(|label| label.starts_with(key)) {
            return Ipam::Delegated(format!("{platform} allocates pod addresses itself"));
        }
    }
    Ipam::Unclear("its CNI configuration was not seen".to_owned())
}
