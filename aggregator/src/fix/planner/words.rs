//! Whose matter a node is, and what is said of it.

use super::super::ground::NodeGround;

/// Beginnings of `spec.providerID` of providers that own the instances behind Nodes (reference G), and what they are called.
/// kind and k3s name themselves too, and own nothing.
const OWNERS: &[(&str, &str)] = &[
    ("aws://", "AWS"),
    ("gce://", "Google Cloud"),
    ("azure://", "Azure"),
    ("openstack://", "OpenStack"),
    ("vsphere://", "vSphere"),
    ("hcloud://", "Hetzner Cloud"),
    ("digitalocean://", "DigitalOcean"),
    ("linode://", "Linode"),
    ("equinixmetal://", "Equinix Metal"),
    ("metal3://", "Metal³"),
    ("ibm://", "IBM Cloud"),
    ("oci://", "Oracle Cloud"),
    ("ocid1.", "Oracle Cloud"),
];

/// The provider that owns the instance of a Node; deleting the Node may end it.
pub(super) fn owner(node: &NodeGround) -> Option<&'static str> {
    let known = OWNERS.iter().find(|(start, _)| node.provider.starts_with(start));
    known.map(|(_, name)| *name)
}

/// Why nothing of a node's CIDRs may be planned: its addresses are not `spec.podCIDRs`' matter, or that is not known.
/// Where it is a provider's or a CNI's, what to look at there.
///
/// `judged`: a finding has settled already whose matter it is, where the node itself does not show it.
pub(super) fn not_ours(name: &str, node: &NodeGround, judged: bool) -> Option<String> {
    let Some(ipam) = node.view.as_ref().and_then(|view| view.classification.as_ref()) else {
        return Some(format!("what allocates the addresses of {name} is not known"));
    };
    match ipam.authoritative {
        Some(true) => None,
        None if judged => None,
        Some(false) => Some(format!(
            "the addresses of {name} are not the Node's matter ({}): {}",
            ipam.why,
            path(node)
        )),
        None => Some(format!(
            "what allocates the addresses of {name} cannot be told: {}",
            ipam.why
        )),
    }
}

/// Where to go instead, by the CNI's primary plugin and the provider.
fn path(node: &NodeGround) -> &'static str {
    let view = node.view.as_ref();
    let plugin = view.map(|view| view.summary.plugin.as_str()).unwrap_or_default();
    match plugin {
        "cilium-cni" => {
            "look at the CiliumNode's spec.ipam.podCIDRs and at cilium-operator's log; a CIDR that must change goes with the \
             CiliumNode (kubectl get ciliumnode NODE -o yaml), after a drain"
        }
        "calico" => {
            "look at the node's BlockAffinities and the IPPools (kubectl get ippools,blockaffinities); calicoctl ipam check \
             finds what leaked, calicoctl ipam release gives it back"
        }
        "aws-cni" => {
            "look at the aws-node DaemonSet and the instance's limit of ENIs and addresses; a subnet that is full needs another \
             one, or prefix delegation (ENABLE_PREFIX_DELEGATION)"
        }
        "azure-vnet" => {
            "look at the NodeNetworkConfig (kubectl -n kube-system get nodenetworkconfigs); AKS widens the pod subnet or adds \
             one with a node pool of its own"
        }
        "ovn-k8s-cni-overlay" => {
            "look at the annotation k8s.ovn.org/node-subnets and at networks.config.openshift.io/cluster"
        }
        _ if node.provider.starts_with("gce://") => {
            "GKE: add a pod range to the cluster, and a node pool that uses it; nodes of the old pool are drained away"
        }
        _ if node.provider.starts_with("aws://") => "EKS: its VPC's subnets and the CNI's own settings decide",
        _ if node.provider.starts_with("azure://") => "AKS: the node pool's pod subnet decides",
        _ => "look at the CNI's own objects; for node-ipam-controller at the ClusterCIDRs that match the node's labels",
    }
}
