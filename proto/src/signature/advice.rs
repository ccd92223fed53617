//! Why it fails, and what helps, by what the text says.

use super::Signature;

impl Signature {
    /// The likely cause on that node. `waits`: the Node has no pod CIDR.
    pub fn cause(self, node: &str, waits: bool) -> String {
        match self {
            Self::AddressesExhausted => format!(
                "All addresses of {node}'s range are given out: more pods than the range has addresses, or addresses that were never \
                 released (a leak)."
            ),
            Self::BridgeAddress => format!(
                "The pod bridge of {node} still has the gateway address of another range: the Node came back with another CIDR, or the \
                 CNI configuration is of another range."
            ),
            Self::NotInitialised | Self::SubnetEnvMissing | Self::NoCidr if waits => {
                format!(
                    "{node} has no pod CIDR, and its CNI waits for one: this is the allocator's fault, not the runtime's."
                )
            }
            _ => self.plain_cause().to_owned(),
        }
    }

    fn plain_cause(self) -> &'static str {
        match self {
            Self::AddressesExhausted => "All addresses of the node's range are given out.",
            Self::BridgeAddress => "The pod bridge still has the gateway address of another range.",
            Self::DelegateFull => {
                "The CNI's own allocator has nothing left for this node: its pool, its subnet or a limit per host."
            }
            Self::NotInitialised => "The CNI's daemon has not written its configuration on this node.",
            Self::SubnetEnvMissing => {
                "flannel's daemon has not run on this node since it booted, or cannot reach the API server."
            }
            Self::NoCidr => "The CNI's daemon has not seen the node's pod CIDR.",
            Self::PluginMissing => "A binary that the CNI configuration names is not on this host.",
            Self::DaemonUnreachable => "The CNI's daemon on this node does not run or does not answer.",
            Self::Unauthorized => "The credential in the CNI's kubeconfig on this host has expired or was revoked.",
            Self::ApiUnreachable => {
                "The CNI reaches the API server through its Service, and that does not work from this node: kube-proxy, a route or \
                 a firewall."
            }
            Self::Configuration => {
                "The CNI configuration of this host names a range, an address or a device that does not fit."
            }
            Self::HostRefuses => {
                "The kernel refuses what the CNI sets up: a device of that name is there already, a route's next hop is out of \
                 reach, or iptables does not work."
            }
            Self::OverlappingCidr => "Two nodes have one range, or ranges that overlap.",
            Self::OutsidePool => "The Node's CIDR is not of the range that the allocator was told.",
            Self::PoolExhausted => "The pool has no range left that is large enough for a node.",
            Self::CloudRoute => "The cloud's route controller could not make the route to this node.",
            Self::Timeout => {
                "The runtime or the CNI's daemon is overloaded, or waits for something that does not answer."
            }
            Self::Runtime => {
                "The container runtime cannot start the sandbox's container; the network is not concerned."
            }
            Self::Unknown => "The text is not among the known ones: it is quoted as evidence.",
        }
    }

    /// What helps on that node, and what to do until then.
    pub fn remedy(self, node: &str) -> String {
        format!(
            "Until it is mended: kubectl cordon {node}. {} The kubelet tries again by itself; pods need not be deleted.",
            self.mend()
        )
    }

    fn mend(self) -> &'static str {
        match self {
            Self::AddressesExhausted => {
                "On the host, compare given addresses with live sandboxes: ls /var/lib/cni/networks/*/ ; crictl pods -q --state ready. \
                 Files of containers that are gone are a leak (HOST05)."
            }
            Self::DelegateFull => {
                "Widen the allocator's pool, or release what nodes that are gone still hold (POOL14)."
            }
            Self::BridgeAddress => {
                "Drain the node, then on the host: ip link delete cni0; the plugin makes it anew (HOST02)."
            }
            Self::NotInitialised | Self::SubnetEnvMissing | Self::NoCidr => {
                "Mend what the CNI's daemon waits for; its log says what. Without a pod CIDR see POOL01."
            }
            Self::PluginMissing => {
                "Restart the CNI's pod on this node: its init container installs the binaries (HOST06)."
            }
            Self::DaemonUnreachable | Self::Unauthorized => {
                "Restart the CNI's pod on this node: it writes its configuration and credential anew."
            }
            Self::ApiUnreachable => {
                "Look at kube-proxy's pod on this node and at the routes: kubectl cidrift node shows them."
            }
            Self::Configuration => "Correct the file in /etc/cni/net.d, or let what installed it write it anew.",
            Self::HostRefuses => {
                "Look at the device or route that the text names: ip -d link; ip route. Remove it only if nothing uses it."
            }
            Self::OverlappingCidr => "See POOL03: one of the two nodes must get another range.",
            Self::OutsidePool => "See POOL02: put the range back, or replace the node.",
            Self::PoolExhausted => "See POOL04: remove Nodes that are gone, or add a range.",
            Self::CloudRoute => {
                "Read the cloud-controller-manager's log: a limit of the route table, or a Node that is gone."
            }
            Self::Timeout | Self::Runtime | Self::Unknown => {
                "Read the runtime's log on the host: journalctl -u containerd -n 100."
            }
        }
    }
}
