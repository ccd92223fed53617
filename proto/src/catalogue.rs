//! The findings catalogue: every code with its name, severity and page.
//! Codes are never renumbered.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::Malformed;
use crate::finding::Severity;

mod host;
mod host_kernel;
mod path;
mod pool_node;
mod pool_range;
mod seen;
#[cfg(test)]
mod tests;

/// One catalogue entry: what `explain` prints. Words in capitals in commands
/// (NODE, CIDR, ADDRESS) are for the reader to fill in.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// Its name, kebab-case.
    pub name: &'static str,
    /// Its usual severity.
    pub severity: Severity,
    /// One line: what it says.
    pub title: &'static str,
    /// What it says and what it does not.
    pub meaning: &'static str,
    /// Likely causes, the most frequent first.
    pub causes: &'static [&'static str],
    /// How a person checks it by hand.
    pub look: &'static [Step],
    /// What to do, the least destructive first, with the traps.
    pub remedy: &'static [Step],
    /// When it does not apply: IPAM models and data planes, and what is normal there.
    pub silence: &'static str,
    /// Codes to read next.
    pub related: &'static [Code],
}

/// One thing to look at or to do.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Step {
    /// What, and why.
    pub text: &'static str,
    /// The command, several on several lines, where there is one.
    pub command: Option<&'static str>,
}

const fn say(text: &'static str) -> Step {
    Step { text, command: None }
}

const fn run(text: &'static str, command: &'static str) -> Step {
    Step {
        text,
        command: Some(command),
    }
}

/// A finding code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Code {
    /// node-without-cidr: The control plane's own IPAM should have given this node a pod CIDR and has not.
    Pool01,
    /// cidr-outside-pool: A node's pod CIDR is not inside --cluster-cidr: kube-controller-manager exits at its next start.
    Pool02,
    /// cidr-overlap: Two nodes, or a node and the service range, the node network or a host interface, claim the same addresses.
    Pool03,
    /// pool-exhausted: No node CIDR is left in the pool.
    Pool04,
    /// pool-low: The pool has little headroom left, or will be full soon at the present growth.
    Pool05,
    /// family-missing: A node of a dual-stack cluster has a pod CIDR of one family only.
    Pool06,
    /// mask-differs: A node's mask differs from --node-cidr-mask-size where one size is expected.
    Pool07,
    /// cidr-fields-differ: `spec.podCIDR` is not `spec.podCIDRs[0]`.
    Pool08,
    /// allocator-off: Built-in IPAM is expected, but nothing allocates node CIDRs.
    Pool09,
    /// control-planes-disagree: Witnesses of the cluster's pod range name different ranges.
    Pool10,
    /// assignment-raced: CIDRAssignmentFailed was reported though the node got a CIDR.
    Pool11,
    /// node-reborn: A Node was deleted and made again under its name with another pod CIDR.
    Pool12,
    /// clustercidr-mismatch: A node is in no matching ClusterCIDR, or its capacity is short.
    Pool13,
    /// delegate-mismatch: The CNI's own allocation objects are inconsistent, overlapping or exhausted.
    Pool14,
    /// node-churn: Node objects are created and deleted at an unusual rate.
    Pool15,
    /// cni-config-stale: CNI configuration on the host names another CIDR than the Node has.
    Host01,
    /// bridge-address-foreign: The pod bridge or the tunnel device has an address outside the Node's pod CIDR.
    Host02,
    /// pods-outside-cidr: Running pods have addresses outside the Node's pod CIDR.
    Host03,
    /// local-route-wrong: The Node's own pod CIDR is not delivered on the node itself.
    Host04,
    /// addresses-low: The node's address range is nearly full, leaked, or about to be given out twice.
    Host05,
    /// cni-not-ready: The runtime has no usable CNI configuration or plugin.
    Host06,
    /// forwarding-off: The host does not forward pod traffic.
    Host07,
    /// kubelet-cidr-differs: What the kubelet last applied is not what the Node says.
    Host08,
    /// proxy-cidr-differs: kube-proxy's idea of the pod range differs.
    Host09,
    /// rule-diverts: A policy rule or a more specific route takes pod traffic elsewhere.
    Host10,
    /// routes-at-risk: A network manager of the host may remove what the CNI makes.
    Host11,
    /// route-missing: A node has no landing for a peer's pod CIDR though its data plane programs one.
    Path01,
    /// route-misdelivers: Packets for a pod CIDR land on a node that does not own it.
    Path02,
    /// route-stale: A node still routes a CIDR that no node owns any more.
    Path03,
    /// route-blackholes: Packets for a pod CIDR are dropped by a route, a dead device or an unresolved neighbour.
    Path04,
    /// route-loops: Nodes pass packets for a pod CIDR round.
    Path05,
    /// tunnel-inconsistent: Route, neighbour, FDB and the peer's annotations do not agree.
    Path06,
    /// one-way: One node reaches another, which does not reach it.
    Path07,
    /// sandbox-failures: Pod sandboxes fail on a node for one classified reason.
    Sand01,
    /// host-silent: A node whose agent does not report.
    Seen01,
    /// agent-restricted: The agent may not read something it needs.
    Seen02,
    /// report-refused: An agent showed one node's token and named another.
    Seen03,
    /// rival-agents: Several agents report for one node.
    Seen04,
}

/// Every entry, in the order of the codes.
pub const CATALOGUE: &[Entry] = &[
    pool_node::POOL01,
    pool_node::POOL02,
    pool_node::POOL03,
    pool_range::POOL04,
    pool_range::POOL05,
    pool_node::POOL06,
    pool_node::POOL07,
    pool_node::POOL08,
    pool_range::POOL09,
    pool_range::POOL10,
    pool_range::POOL11,
    pool_node::POOL12,
    pool_range::POOL13,
    pool_range::POOL14,
    pool_range::POOL15,
    host::HOST01,
    host::HOST02,
    host::HOST03,
    host_kernel::HOST04,
    host::HOST05,
    host::HOST06,
    host_kernel::HOST07,
    host::HOST08,
    host_kernel::HOST09,
    host_kernel::HOST10,
    host_kernel::HOST11,
    path::PATH01,
    path::PATH02,
    path::PATH03,
    path::PATH04,
    path::PATH05,
    path::PATH06,
    path::PATH07,
    seen::SAND01,
    seen::SEEN01,
    seen::SEEN02,
    seen::SEEN03,
    seen::SEEN04,
];

impl Code {
    /// "PATH01".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool01 => "POOL01",
            Self::Pool02 => "POOL02",
            Self::Pool03 => "POOL03",
            Self::Pool04 => "POOL04",
            Self::Pool05 => "POOL05",
            Self::Pool06 => "POOL06",
            Self::Pool07 => "POOL07",
            Self::Pool08 => "POOL08",
            Self::Pool09 => "POOL09",
            Self::Pool10 => "POOL10",
            Self::Pool11 => "POOL11",
            Self::Pool12 => "POOL12",
            Self::Pool13 => "POOL13",
            Self::Pool14 => "POOL14",
            Self::Pool15 => "POOL15",
            Self::Host01 => "HOST01",
            Self::Host02 => "HOST02",
            Self::Host03 => "HOST03",
            Self::Host04 => "HOST04",
            Self::Host05 => "HOST05",
            Self::Host06 => "HOST06",
            Self::Host07 => "HOST07",
            Self::Host08 => "HOST08",
            Self::Host09 => "HOST09",
            Self::Host10 => "HOST10",
            Self::Host11 => "HOST11",
            Self::Path01 => "PATH01",
            Self::Path02 => "PATH02",
            Self::Path03 => "PATH03",
            Self::Path04 => "PATH04",
            Self::Path05 => "PATH05",
            Self::Path06 => "PATH06",
            Self::Path07 => "PATH07",
            Self::Sand01 => "SAND01",
            Self::Seen01 => "SEEN01",
            Self::Seen02 => "SEEN02",
            Self::Seen03 => "SEEN03",
            Self::Seen04 => "SEEN04",
        }
    }

    /// Findings of the same host that explain this one: its effect goes when they are mended.
    pub fn explained_on_host(self) -> &'static [Self] {
        match self {
            // What takes packets away before the host's own route is looked at.
            Self::Host04 => &[Self::Host10],
            _ => &[],
        }
    }

    /// Its catalogue entry. The catalogue is in the order of the codes.
    pub fn entry(self) -> &'static Entry {
        &CATALOGUE[self as usize]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Takes a code in either case ("path01") or an entry's name ("route-missing").
impl FromStr for Code {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        CATALOGUE
            .iter()
            .find(|entry| entry.code.as_str().eq_ignore_ascii_case(text) || entry.name == text)
            .map(|entry| entry.code)
            .ok_or_else(|| Malformed::UnknownCode(text.to_owned()))
    }
}
