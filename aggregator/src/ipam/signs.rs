//! What shows which IPAM a node has: four kinds of evidence, each judged for itself (reference G).

use cidrift_proto::facts::HostFacts;

use super::classify::Ipam;
use crate::cluster::NodeRecord;
use crate::cluster::around::Around;
use crate::cluster::objects::CiliumNode;

/// One kind of evidence: what it says of the node; `None`: nothing.
pub(super) type Sign = fn(&NodeRecord, Option<&HostFacts>, &Around) -> Option<Ipam>;

/// All kinds, the most trusted first.
pub(super) const ALL: [Sign; 4] = [configuration, objects, pods, platform];

/// Primary plugins that never look at `spec.podCIDR`.
const OWN_PLUGINS: &[&str] = &[
    "aws-cni",
    "azure-vnet",
    "azure-cns",
    "ovn-k8s-cni-overlay",
    "weave-net",
    "kube-ovn",
    "sriov",
    "spiderpool",
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

/// Primary plugins of data planes that take `spec.podCIDR`, whatever their IPAM block says.
const POD_CIDR_PLUGINS: &[&str] = &[
    "flannel",
    "bridge",
    "ptp",
    "kindnet",
    "kube-router",
    "antrea",
    "kubenet",
    "host-device",
];

/// Daemons that hand out addresses of their own, by the names of [`crate::cluster::objects::Daemon`].
const OWN_DAEMONS: &[(&str, &str)] = &[
    ("aws-node", "the AWS VPC CNI hands out the addresses"),
    ("azure-cns", "Azure's CNS hands out the addresses"),
    ("ovnkube", "OVN-Kubernetes hands out the addresses"),
    ("kube-ovn", "Kube-OVN hands out the addresses"),
    ("weave", "Weave hands out the addresses"),
];

/// Daemons whose data plane takes `spec.podCIDR`.
const POD_CIDR_DAEMONS: &[&str] = &["flannel", "kindnet", "kube-router", "antrea"];

/// Annotations by which an allocator of its own names a node's range.
const OWN_ANNOTATIONS: &[(&str, &str)] = &[
    ("k8s.ovn.org/node-subnets", "OVN-Kubernetes hands out the addresses"),
    ("ovn.kubernetes.io/", "Kube-OVN hands out the addresses"),
];

/// Labels of AKS nodes with Azure CNI in one of its forms; kubenet has none of them.
const AZURE_CNI: &[&str] = &[
    "kubernetes.azure.com/azure-cni-overlay",
    "kubernetes.azure.com/podnetwork-type",
    "kubernetes.azure.com/podnetwork-subnet",
    "kubernetes.azure.com/ebpf-dataplane",
];

/// Nodes on which no agent can look at anything.
pub(super) fn no_data_plane(node: &NodeRecord) -> Option<Ipam> {
    let label = |key: &str, value: &str| node.labels.get(key).is_some_and(|is| is == value);
    if label("type", "virtual-kubelet") {
        return Some(Ipam::NoDataPlane(
            "a virtual kubelet has no data plane of its own".into(),
        ));
    }
    if label("kubernetes.io/os", "windows") {
        return Some(Ipam::NoDataPlane("no agent runs on Windows".into()));
    }
    if label("eks.amazonaws.com/compute-type", "fargate") {
        return Some(Ipam::NoDataPlane(
            "Fargate runs every pod on a machine of its own".into(),
        ));
    }
    None
}

/// First: the primary plugin and its IPAM, in the CNI configuration that the node's runtime uses.
pub(super) fn configuration(_: &NodeRecord, facts: Option<&HostFacts>, _: &Around) -> Option<Ipam> {
    let config = facts?.cni.chosen.as_ref()?;
    let plugin = config.plugins.first().map(String::as_str).unwrap_or_default();
    let ipam = config.ipam.as_deref().unwrap_or_default();
    if OWN_IPAMS.contains(&ipam) {
        return Some(Ipam::Delegated(format!("{ipam} hands out the addresses").into()));
    }
    if OWN_PLUGINS.contains(&plugin) {
        return Some(Ipam::Delegated(format!("{plugin} hands out the addresses").into()));
    }
    Some(match (plugin, ipam) {
        // calico-ipam is what calico takes where nothing is stated; host-local it must be told.
        ("calico", "") => Ipam::Delegated("calico hands out the addresses".into()),
        ("cilium-cni", _) => Ipam::Unclear("whether Cilium uses spec.podCIDR stands in its ConfigMap".into()),
        ("multus" | "multus-shim", _) => Ipam::Unclear("which plugin multus passes on to is not in its file".into()),
        // A macvlan's host-local range is its network's own, seldom the Node's.
        ("macvlan" | "ipvlan", _) => {
            Ipam::Unclear("what its macvlan or ipvlan makes of spec.podCIDR is not known".into())
        }
        (_, "host-local") => Ipam::PodCidr,
        (known, _) if POD_CIDR_PLUGINS.contains(&known) => Ipam::PodCidr,
        (plugin, _) => Ipam::Unclear(format!("what the plugin {plugin:?} makes of spec.podCIDR is not known").into()),
    })
}

/// Second: daemons, objects and annotations of the CNI.
pub(super) fn objects(node: &NodeRecord, facts: Option<&HostFacts>, around: &Around) -> Option<Ipam> {
    let delegates = &around.delegates;
    let daemons = around.daemons.get(&node.name).map(Vec::as_slice).unwrap_or_default();
    let runs = |kind: &str| daemons.iter().any(|daemon| daemon.kind == kind);
    for (kind, who) in OWN_DAEMONS {
        // Chained plugins (Cilium, Calico's policies) leave the addresses to these.
        if runs(kind) {
            return Some(Ipam::Delegated((*who).into()));
        }
    }
    for (key, who) in OWN_ANNOTATIONS {
        let exact = !key.ends_with('/');
        if node
            .annotations
            .keys()
            .any(|name| if exact { name == key } else { name.starts_with(key) })
        {
            return Some(Ipam::Delegated((*who).into()));
        }
    }
    if delegates.network_config(&node.name).is_some() {
        return Some(Ipam::Delegated("Azure's NodeNetworkConfig names its addresses".into()));
    }
    if delegates
        .cni_nodes
        .binary_search_by(|name| name.as_str().cmp(&node.name))
        .is_ok()
    {
        return Some(Ipam::Delegated("the AWS VPC CNI has a CNINode of it".into()));
    }
    let pod_cidr = POD_CIDR_DAEMONS.iter().find(|kind| runs(kind));
    let primary = facts.and_then(|facts| facts.cni.chosen.as_ref()?.plugins.first());
    let cilium_node = delegates.cilium_node(&node.name);
    if runs("cilium") || primary.is_some_and(|plugin| plugin == "cilium-cni") || cilium_node.is_some() {
        if let (Some(other), true) = (pod_cidr, runs("cilium")) {
            return Some(Ipam::Unclear(format!("both cilium and {other} run on it").into()));
        }
        return Some(cilium(node, cilium_node, around));
    }
    if let Some(own) = kube_router(node) {
        return Some(own);
    }
    // Calico beside flannel is Canal: flannel's range, Calico's policies.
    if pod_cidr.is_some() {
        return Some(Ipam::PodCidr);
    }
    if delegates.blocks_of(&node.name).iter().any(|block| !block.deleted) {
        return Some(Ipam::Delegated("calico-ipam has blocks affine to it".into()));
    }
    if runs("calico-node") {
        return Some(Ipam::Unclear(
            "whether Calico uses calico-ipam or spec.podCIDR is not known".into(),
        ));
    }
    node.flannel.as_ref().map(|_| Ipam::PodCidr)
}

/// Only `ipam: kubernetes` takes spec.podCIDR. In every other mode kcm may assign one that nothing uses.
fn cilium(node: &NodeRecord, of_node: Option<&CiliumNode>, around: &Around) -> Ipam {
    match around.delegates.cilium_ipam.as_deref() {
        Some("kubernetes") => return Ipam::PodCidr,
        Some("delegated-plugin") => {
            return Ipam::Unclear("Cilium leaves the addresses to a plugin that is not known".into());
        }
        Some("cluster-pool") => return Ipam::Delegated("Cilium's ipam is cluster-pool".into()),
        Some(mode) => return Ipam::Delegated(format!("Cilium's ipam is {mode}").into()),
        None => {}
    }
    match of_node {
        Some(cilium) if !cilium.pod_cidrs.is_empty() && node.pod_cidrs.is_empty() => {
            Ipam::Delegated("its CiliumNode has CIDRs, the Node has none".into())
        }
        // With `ipam: kubernetes` the agent copies the Node's CIDRs; a pool of its own would give others.
        Some(cilium)
            if !cilium.pod_cidrs.is_empty()
                && cilium
                    .pod_cidrs
                    .iter()
                    .all(|cidr| node.pod_cidrs.contains(&cidr.trunc())) =>
        {
            Ipam::PodCidr
        }
        _ => Ipam::Unclear("which ipam Cilium has is not known: its ConfigMap was not seen".into()),
    }
}

/// kube-router takes its range from an annotation, where there is one, in place of spec.podCIDR.
fn kube_router(node: &NodeRecord) -> Option<Ipam> {
    let keys = ["kube-router.io/pod-cidrs", "kube-router.io/pod-cidr"];
    let text = keys.iter().find_map(|key| node.annotations.get(*key))?;
    let named = text
        .split(',')
        .map(|cidr| cidr.trim().parse::<ipnet::IpNet>().map(|net| net.trunc()));
    let same = named.clone().count() > 0
        && named
            .into_iter()
            .all(|cidr| cidr.is_ok_and(|cidr| node.pod_cidrs.contains(&cidr)));
    Some(if same {
        Ipam::PodCidr
    } else {
        Ipam::Delegated("kube-router takes the range of its own annotation".into())
    })
}

/// Third: whether the addresses of the node's pods lie inside `spec.podCIDRs`.
pub(super) fn pods(node: &NodeRecord, _: Option<&HostFacts>, around: &Around) -> Option<Ipam> {
    let (inside, outside) = count_pods(node, around);
    match (inside, outside) {
        (0, 0) => None,
        _ if inside > outside => Some(Ipam::PodCidr),
        _ if node.pod_cidrs.is_empty() => Some(Ipam::Unclear(
            "its pods have addresses though it has no pod CIDR: another allocator gives them, or they are left over"
                .into(),
        )),
        _ => Some(Ipam::Unclear(
            "its pods have addresses outside its pod CIDR: another allocator gives them, or the host has drifted"
                .into(),
        )),
    }
}

/// Addresses of the node's pods inside and outside its pod CIDRs. An address of a family
/// that the Node has no CIDR of is outside only where it has none at all.
pub(super) fn count_pods(node: &NodeRecord, around: &Around) -> (usize, usize) {
    let Some(pods) = around.pods.get(&node.name) else {
        return (0, 0);
    };
    let (mut inside, mut outside) = (0, 0);
    for address in pods.pods.iter().flat_map(|pod| pod.addresses.iter()) {
        let mut family = node
            .pod_cidrs
            .iter()
            .filter(|cidr| cidr.addr().is_ipv4() == address.is_ipv4())
            .peekable();
        if family.peek().is_none() && !node.pod_cidrs.is_empty() {
            continue;
        }
        if family.any(|cidr| cidr.contains(&address)) {
            inside += 1;
        } else {
            outside += 1;
        }
    }
    (inside, outside)
}

/// Last: what the platform is by its labels and kubelet's version, and what it does by default.
/// A providerID alone says nothing: any CNI may run there.
pub(super) fn platform(node: &NodeRecord, _: Option<&HostFacts>, _: &Around) -> Option<Ipam> {
    let has = |prefix: &str| node.labels.keys().any(|key| key.starts_with(prefix));
    let label = |key: &str| node.labels.get(key).map(String::as_str);
    let version = node.kubelet_version.as_deref().unwrap_or_default();
    let with_cidr = !node.pod_cidrs.is_empty();
    if label("eks.amazonaws.com/compute-type") == Some("hybrid") {
        return Some(Ipam::Unclear("EKS hybrid nodes bring a CNI of their own".into()));
    }
    if has("eks.amazonaws.com/") || has("alpha.eksctl.io/") || version.contains("-eks-") {
        return Some(if with_cidr {
            Ipam::Unclear("EKS leaves spec.podCIDR empty, and here it is set".into())
        } else {
            Ipam::Delegated("EKS allocates pod addresses itself".into())
        });
    }
    if has("kubernetes.azure.com/") {
        let own = AZURE_CNI.iter().any(|key| has(key));
        return Some(match (own, with_cidr) {
            (true, false) => Ipam::Delegated("Azure CNI allocates pod addresses itself".into()),
            (true, true) => Ipam::Unclear("Azure CNI leaves spec.podCIDR empty, and here it is set".into()),
            (false, true) => Ipam::PodCidr,
            (false, false) => Ipam::Unclear("AKS with kubenet or with Azure CNI: its labels do not say".into()),
        });
    }
    if has("node.openshift.io/os_id") {
        return Some(Ipam::Delegated("OpenShift allocates pod addresses itself".into()));
    }
    if has("cloud.google.com/gke-") || version.contains("-gke.") {
        return Some(Ipam::PodCidr);
    }
    None
}
