//! The plan, as it is shown and saved.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cidrift_proto::landing::Discard;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::planner::Wish;
use crate::correlate::words::count;

/// `apiVersion` of a saved plan.
pub const API_VERSION: &str = "cidrift.dev/v1alpha1";

/// Where containerd listens, unless a host says otherwise.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// What would mend what is found, in the order in which it should be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// [`API_VERSION`].
    pub api_version: String,
    /// "Plan".
    pub kind: String,
    /// When what it rests on was observed.
    pub made_at: Timestamp,
    /// What was asked for and allowed: it holds when this is carried out. In files from before that was saved: nothing.
    #[serde(default)]
    pub wish: Wish,
    /// One node after the other; never two at a time.
    pub nodes: Vec<NodePlan>,
    /// What no step of a node mends: others must act, or nothing can be planned yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<ByHand>,
    /// Nodes whose CIDRs could go back to the pool; only where it is full or short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<Release>,
    /// What could not be seen while planning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
}

impl Plan {
    /// An empty one.
    pub fn new(made_at: Timestamp, wish: Wish) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Plan".to_owned(),
            made_at,
            wish,
            nodes: Vec::new(),
            by_hand: Vec::new(),
            release: Vec::new(),
            unseen: Vec::new(),
        }
    }

    /// Whether anything in it can be done.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.by_hand.is_empty() && self.release.is_empty()
    }
}

/// What is to be done to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePlan {
    /// Its name.
    pub node: String,
    /// UID of the Node that this was planned for: another Node of that name is another plan.
    pub uid: String,
    /// Findings that it removes, by id.
    pub mends: Vec<String>,
    /// How.
    pub method: Method,
    /// The CIDRs that it has.
    pub from: Vec<IpNet>,
    /// The CIDRs that it shall have; the same where its Node is not touched, none where the controller manager chooses.
    pub to: Vec<IpNet>,
    /// In this order.
    pub steps: Vec<Step>,
    /// What it interrupts.
    pub interrupts: Interrupts,
    /// What shows that it worked.
    pub verify: Vec<String>,
    /// What can go wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<String>,
    /// Why it must not be begun as things are; empty: it may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
}

impl NodePlan {
    /// Whether new pods get other addresses or ways by it, so that one is tried.
    pub fn probes(&self) -> bool {
        let does = self.steps.iter().map(|step| &step.does);
        self.method != Method::Restart && does.into_iter().any(|does| does.sets_up_pods(&self.to))
    }
}

/// The least that removes the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Something of the node is started anew; its Node and its pods stay.
    Restart,
    /// A Node without a CIDR is given one; nothing else changes.
    Assign,
    /// Stale state of the host goes; its Node stays.
    Host,
    /// The Node is deleted and made again at once with other CIDRs.
    Swap,
    /// The Node is deleted and registered anew by its kubelet, which must be restarted for that.
    Rotate,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Restart => "restart",
            Self::Assign => "assign",
            Self::Host => "host",
            Self::Swap => "swap",
            Self::Rotate => "rotate",
        })
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub does: Does,
    /// The same for people, as a command where one does it.
    pub text: String,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Does {
    /// `spec.unschedulable`; one that somebody else set is kept afterwards.
    Cordon,
    /// Evictions, which budgets may hold up.
    Drain,
    /// A file of the host goes.
    RemoveFile {
        /// Its path on the host.
        path: String,
        /// What is stale in it: a file that does not say so any more stays. Empty: what it does not say is what is wrong.
        containing: String,
    },
    /// A network device of the host goes.
    RemoveLink {
        /// Its name.
        name: String,
        /// Its addresses that are foreign: one that has none of them any more stays.
        addresses: Vec<IpNet>,
    },
    /// The runtime is told the Node's CIDRs, as a kubelet's start does, and renders its configuration anew.
    Render {
        /// The file that it renders, on the host.
        path: String,
        /// The runtime's socket on the host.
        socket: String,
    },
    /// The Node is deleted and made again.
    Recreate,
    /// The Node is deleted, its kubelet is restarted and registers it anew, and the controller manager gives it CIDRs.
    Rotate,
    /// A Node without CIDRs gets them.
    Assign,
    /// A kube-controller-manager runs again.
    Controllers,
    /// The kubelet has taken the Node as its own, which is Ready.
    Adopt,
    /// The CNI's pod of this node is deleted; its DaemonSet makes it anew.
    RestartDaemon {
        /// "namespace/name" now.
        pod: String,
    },
    /// A route of the node goes that leads its own pods' packets away, or where nobody is, or nowhere.
    RemoveRoute {
        /// For what.
        prefix: IpNet,
        /// Only that one is meant.
        #[serde(flatten)]
        by: Hop,
    },
    /// host-local's leases of sandboxes that are gone are removed: their addresses can be given out again.
    RemoveLeases {
        /// The directory of one network, on the host.
        directory: String,
        /// Addresses, each with the sandbox that its lease still has to name.
        leases: BTreeMap<IpAddr, String>,
    },
    /// The kubelet is started anew, so that it looks at its Node; its pods run on.
    RestartKubelet,
    /// The node's own packets for these nodes land there; else its CNI's pod is started anew.
    Reach {
        /// Whom.
        nodes: Vec<String>,
    },
    /// The CNI's pods of those other nodes are started anew that do not lead to these.
    Announce {
        /// The node itself, and those that had its CIDR too.
        nodes: Vec<String>,
    },
    /// Pods with addresses of another range are made anew.
    ReplacePods {
        /// "namespace/name".
        pods: Vec<String>,
    },
    /// The operator does it, with a command for the host.
    ByHand,
    /// What [`NodePlan::verify`] says.
    Verify,
    /// As it was before the cordon.
    Uncordon,
}

/// Which route of a prefix is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// The one by this next hop.
    Via(IpAddr),
    /// The one that drops so.
    Type(Discard),
}

impl Hop {
    /// The route, as iproute2 would name it.
    pub fn route(&self, prefix: IpNet) -> String {
        match self {
            Self::Via(via) => format!("{prefix} via {via}"),
            Self::Type(how) => format!("{how} {prefix}"),
        }
    }
}

impl Does {
    /// Whether it decides which addresses or ways the pods of a node with these CIDRs have.
    pub fn sets_up_pods(&self, cidrs: &[IpNet]) -> bool {
        match self {
            Self::RemoveFile { .. }
            | Self::RemoveLink { .. }
            | Self::Render { .. }
            | Self::Recreate
            | Self::Rotate
            | Self::Assign
            | Self::ReplacePods { .. } => true,
            Self::RemoveRoute { prefix, .. } => cidrs.iter().any(|cidr| crate::netmap::overlap(cidr, prefix)),
            _ => false,
        }
    }

    /// Whether pods go by it, which somebody has to make anew.
    pub fn deletes_pods(&self) -> bool {
        matches!(
            self,
            Self::Drain
                | Self::RestartDaemon { .. }
                | Self::Announce { .. }
                | Self::Reach { .. }
                | Self::ReplacePods { .. }
        )
    }

    /// What it is called while it runs.
    pub fn title(&self) -> String {
        match self {
            Self::Cordon => "cordon".to_owned(),
            Self::Drain => "drain".to_owned(),
            Self::RemoveFile { path, .. } => format!("remove {path}"),
            Self::RemoveLink { name, .. } => format!("remove device {name}"),
            Self::Render { path, .. } => format!("have {path} rendered anew"),
            Self::Recreate => "delete the Node and make it again".to_owned(),
            Self::Rotate => "delete the Node and have its kubelet register it anew".to_owned(),
            Self::Assign => "give the Node its CIDRs".to_owned(),
            Self::Controllers => "wait for a kube-controller-manager".to_owned(),
            Self::Adopt => "wait until its kubelet has taken the Node over".to_owned(),
            Self::RestartDaemon { pod } => format!("restart the CNI's pod {pod}"),
            Self::RemoveRoute { prefix, by } => format!("remove the route {}", by.route(*prefix)),
            Self::RemoveLeases { directory, leases } => {
                format!("remove {} from {directory}", count(leases.len(), "lease", "leases"))
            }
            Self::RestartKubelet => "have its kubelet restarted".to_owned(),
            Self::Reach { nodes } => format!("see that it leads to {}", nodes.join(", ")),
            Self::Announce { nodes } => format!("see that every node leads to {}", nodes.join(", ")),
            Self::ReplacePods { .. } => "replace pods with addresses of another range".to_owned(),
            Self::ByHand => "a step for your own hands".to_owned(),
            Self::Verify => "verify".to_owned(),
            Self::Uncordon => "uncordon".to_owned(),
        }
    }

    /// Its name in a saved plan.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Drain => "drain",
            Self::RemoveFile { .. } => "remove-file",
            Self::RemoveLink { .. } => "remove-link",
            Self::Render { .. } => "render",
            Self::Recreate => "recreate",
            Self::Rotate => "rotate",
            Self::Assign => "assign",
            Self::Controllers => "controllers",
            Self::Adopt => "adopt",
            Self::RestartDaemon { .. } => "restart-daemon",
            Self::RemoveRoute { .. } => "remove-route",
            Self::RemoveLeases { .. } => "remove-leases",
            Self::RestartKubelet => "restart-kubelet",
            Self::Reach { .. } => "reach",
            Self::Announce { .. } => "announce",
            Self::ReplacePods { .. } => "replace-pods",
            Self::ByHand => "by-hand",
            Self::Verify => "verify",
            Self::Uncordon => "uncordon",
        }
    }
}

/// Whom a plan interrupts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interrupts {
    /// Pods that are evicted or made anew, by "namespace/name".
    pub pods: Vec<String>,
    /// Budgets that select them, with what they allow now.
    pub budgets: Vec<String>,
}

/// A finding that nobody mends by steps of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ByHand {
    /// Its id; of a migration, the node, or "--cluster-cidr".
    pub finding: String,
    /// Nodes that it concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Why no step is planned.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A node whose CIDRs could be given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Release {
    /// Its name.
    pub node: String,
    /// What would be free.
    pub cidrs: Vec<IpNet>,
    /// Why it is thought to be unused.
    pub why: String,
    /// What to do.
    pub text: String,
}
