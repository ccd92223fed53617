//! What the CNI of a host makes of the Node's pod CIDR. Only where pods get
//! their addresses out of it may the host be judged by it.

use cidrift_proto::facts::{CniConfig, CniFacts};

/// A CNI that gives pods addresses of the Node's pod CIDR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The primary plugin.
    pub plugin: String,
    /// Where the range stands that it hands out of.
    pub ranges: Ranges,
    /// How packets reach its pods on the host.
    pub delivery: Delivery,
}

/// Where the range stands that pods get addresses of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranges {
    /// In the configuration file.
    Config,
    /// In flannel's subnet.env.
    SubnetEnv,
    /// Asked of the Node anew for every pod: it cannot go stale.
    Node,
    /// The CNI's agent knows it and no file does.
    Agent,
}

/// How packets reach pods on their own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Over a device that holds an address in the pod CIDR: a bridge, Antrea's gateway port.
    Device(String),
    /// A route for every pod; no route for the whole CIDR, or one that discards.
    PerPod,
}

impl Delivery {
    /// The device's name, where there is one for all pods.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Device(name) => Some(name),
            Self::PerPod => None,
        }
    }
}

impl Model {
    /// Calico drops what its own pods do not cover, by design.
    pub fn is_calico(&self) -> bool {
        self.plugin == "calico"
    }

    /// flannel, whichever backend.
    pub fn is_flannel(&self) -> bool {
        self.plugin == "flannel"
    }
}

/// Plugins that only change what another one of their chain has set up: alone or first they give a pod nothing.
/// portmap, bandwidth, firewall, tuning, sbr, vrf and linkerd-cni refuse without a `prevResult`, istio-cni and AWS'
/// egress plugins add nothing to it.
const CHAINED: [&str; 12] = [
    "portmap",
    "bandwidth",
    "firewall",
    "tuning",
    "sbr",
    "vrf",
    "istio-cni",
    "linkerd-cni",
    "egress-cni",
    "egress-v4-cni",
    "egress-v6-cni",
    "loopback",
];

/// Whether a plugin cannot be the one that gives a pod its interface.
pub(super) fn is_chained(plugin: &str) -> bool {
    CHAINED.contains(&plugin)
}

/// The host's CNI, or why the Node's pod CIDR says nothing about its pods.
pub fn model(cni: &CniFacts) -> Result<Model, String> {
    let Some(config) = &cni.chosen else {
        return Err(match &cni.problem {
            Some(problem) => format!("the host's CNI is not known: {problem}"),
            None => "the host's CNI is not known".to_owned(),
        });
    };
    let plugin = config.plugins.first().map_or("", String::as_str);
    let ipam = config.ipam.as_deref().unwrap_or("none");
    let model = |ranges, delivery| {
        Ok(Model {
            plugin: plugin.to_owned(),
            ranges,
            delivery,
        })
    };
    let own = |who: &str| Err(format!("{who}: the Node's podCIDR says nothing about its pods"));
    match (plugin, ipam) {
        ("flannel", _) => model(Ranges::SubnetEnv, delivery(config)),
        ("calico", "host-local") if config.ranges.is_empty() => model(Ranges::Node, Delivery::PerPod),
        ("calico", "host-local") => model(Ranges::Config, Delivery::PerPod),
        // Calico takes its own where the file names none.
        ("calico", "calico-ipam" | "none") => own("calico-ipam allocates blocks of its own IPPools"),
        ("bridge" | "ptp", "host-local") if config.ranges.is_empty() => Err(format!(
            "{}: host-local has no range that makes sense{}",
            config.path,
            cni.problem.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        )),
        ("bridge" | "ptp", "host-local") => model(Ranges::Config, delivery(config)),
        // Antrea's agent hands the range to host-local itself; antrea-gw0 is its default gateway port.
        ("antrea", "host-local") => model(Ranges::Agent, Delivery::Device("antrea-gw0".to_owned())),
        // kindnet's own plugin: newer versions write the range, older ones ask the daemon.
        ("cni-kindnet", _) if config.ranges.is_empty() => model(Ranges::Agent, Delivery::PerPod),
        ("cni-kindnet", _) => model(Ranges::Config, Delivery::PerPod),
        // GKE's Dataplane V2, and its own plugin that takes the place of ptp since 1.35.
        ("cilium-cni" | "gke", "host-local") if !config.ranges.is_empty() => model(Ranges::Config, Delivery::PerPod),
        ("gke" | "ptp", "metis") => own("GKE adds ranges to the node as it needs them (metis)"),
        ("cilium-cni", "azure-cns" | "azure-ipam") => own("Azure CNI takes addresses from CNS"),
        ("cilium-cni", _) => Err(
            "Cilium allocates by its own ipam mode, which does not show on the host; only ipam=kubernetes uses the Node's podCIDR"
                .to_owned(),
        ),
        ("aws-cni", _) => own("the AWS VPC CNI takes addresses from ENIs"),
        ("azure-vnet", _) => own("Azure CNI takes addresses from CNS"),
        ("ovn-k8s-cni-overlay", _) => own("OVN-Kubernetes uses the annotation k8s.ovn.org/node-subnets"),
        ("weave-net", _) => own("Weave Net allocates from its own ring"),
        ("kube-ovn", _) => own("Kube-OVN allocates from its own subnets"),
        ("bridge" | "ptp", "none") => Err(format!(
            "{}: {plugin} has no ipam plugin, so pods get no address of it",
            config.path
        )),
        (_, "whereabouts" | "spiderpool" | "kube-ovn" | "dhcp" | "azure-vnet-ipam") => {
            own(&format!("the ipam plugin {ipam:?} allocates by itself"))
        }
        ("macvlan" | "ipvlan" | "host-device" | "sriov", _) => {
            own(&format!("{plugin} gives pods addresses of the underlay"))
        }
        ("multus" | "multus-shim", _) => Err(format!(
            "{}: the network that Multus hands on to was not found{}",
            config.path,
            cni.problem.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
        )),
        ("bridge" | "ptp", other) => own(&format!("the ipam plugin {other:?} allocates by itself")),
        (plugin, _) if is_chained(plugin) => Err(format!(
            "{}: {plugin} stands first, and it only changes what another plugin of its chain has set up",
            config.path
        )),
        (plugin, _) => Err(format!(
            "whether the CNI plugin {plugin:?} (ipam {ipam:?}) uses the Node's podCIDR is not known"
        )),
    }
}

fn delivery(config: &CniConfig) -> Delivery {
    config.bridge.clone().map_or(Delivery::PerPod, Delivery::Device)
}
