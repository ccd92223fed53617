//! Which words mean what: texts of Kubernetes, of runtimes and of CNIs as they stand in their sources, in lower case.

use super::Signature::{self, *};

/// Texts and what they mean; the first that is found counts. Several parts must all be there, in this order. What a
/// daemon says stands before what its socket says, and both before timeouts, which are often only how the others end.
const TEXTS: &[(&[&str], Signature)] = &[
    // bridge and host-local; flannel, kube-router and kindnet end in these too.
    (&["already has an ip address different from"], BridgeAddress),
    (&["no ip addresses available in range set"], AddressesExhausted),
    (&["no ip addresses available in network"], AddressesExhausted),
    (&["duplicate allocation is not allowed"], Configuration),
    (&["requested ip", "is subnet's gateway"], Configuration),
    (
        &["requested ip address", "is not available in range set"],
        Configuration,
    ),
    (&["failed to allocate all requested ips"], Configuration),
    (&["invalid range set"], Configuration),
    (&["too small to allocate from"], Configuration),
    (&["network has host bits set"], Configuration),
    (&["range set", "overlaps with"], Configuration),
    (&["no ip ranges specified"], Configuration),
    (&["ipam plugin returned missing ip config"], Configuration),
    (&["already exists but is not a bridge"], Configuration),
    // Cilium.
    (&["range is full"], AddressesExhausted),
    (&["all cidr ranges are exhausted"], AddressesExhausted),
    (&["no ips currently available on the node"], DelegateFull),
    (&["provided ip is not in the valid range"], Configuration),
    (&["requested cidr", "is already allocated"], OverlappingCidr),
    (&["requested cidr", "collides with"], OverlappingCidr),
    (
        &["unable to allocate cidr", "allocator for", "does not exist"],
        Configuration,
    ),
    (&["cidr must be provided when using clusterpool"], Configuration),
    (&["allocator full"], DelegateFull),
    (&["contains gateway", "must be directly reachable"], HostRefuses),
    // Calico.
    (&["no ips available in pools"], DelegateFull),
    (&["cannot allocate new block due to per host block limit"], DelegateFull),
    (&["no configured calico pools for node"], DelegateFull),
    (&["cannot find a qualified ippool"], DelegateFull),
    (&["unable to allocate a new ipam block"], DelegateFull),
    (&["failed to find or claim a block"], DelegateFull),
    (&["no free blocks available"], DelegateFull),
    // AWS, Azure, whereabouts, OVN-Kubernetes.
    (&["failed to assign an ip address to container"], DelegateFull),
    (&["no available ip/prefix addresses"], DelegateFull),
    (&["insufficientfreeaddressesinsubnet"], DelegateFull),
    (&["insufficientcidrblocks"], DelegateFull),
    (&["missingiampermissions"], Unauthorized),
    (&["not enough ips available"], DelegateFull),
    (&["failed to get ip address from cns"], DelegateFull),
    (&["no ncs found in the cns internal state"], DelegateFull),
    (&["failed to allocate pool"], DelegateFull),
    (&["failed to allocate address"], DelegateFull),
    (&["could not allocate ip in range"], DelegateFull),
    (&["no subnets available"], DelegateFull),
    // Allocators and their pool.
    (&["failed to mark cidr", "out the range of cluster cidr"], OutsidePool),
    (&["is out of the range of cidr allocator"], OutsidePool),
    (&["does not exist in cluster cidrs configuration"], OutsidePool),
    (&["specified in the flannel net config doesn't contain"], OutsidePool),
    (&["there are no remaining cidrs left to allocate"], PoolExhausted),
    (&["has no ranges from which cidrs can be allocated"], PoolExhausted),
    (&["ip_space_exhausted"], PoolExhausted),
    (&["is duplicate with node"], OverlappingCidr),
    // A gateway that is the node's own address: the peer has this node's range.
    (
        &["failed to install route to peer", "invalid argument"],
        OverlappingCidr,
    ),
    // Cloud routes.
    (&["could not create route", "for node"], CloudRoute),
    (&["couldn't reconcile node routes"], CloudRoute),
    (&["failed to create a route"], CloudRoute),
    (&["noroutecreated"], CloudRoute),
    (&["waiting for cloud routes"], CloudRoute),
    // Waiting for a CIDR.
    (&["/run/flannel/subnet.env"], SubnetEnvMissing),
    (&["pod cidr not assigned"], NoCidr),
    (&["podcidr not available"], NoCidr),
    (&["podcidr is empty"], NoCidr),
    (&["no podcidr for node"], NoCidr),
    (&["usepodcidr found but there is no"], NoCidr),
    (&["podcidr not set for node"], NoCidr),
    (&["podcidrs empty for node"], NoCidr),
    (&["failed to get pod cidr from node spec"], NoCidr),
    (&["has no cidr, ignoring"], NoCidr),
    (&["timeout waiting for podcidr allocation"], NoCidr),
    // The runtime's side of CNI.
    (&["failed to find plugin"], PluginMissing),
    (&["cni plugin not initialized"], NotInitialised),
    (&["cni config not initialized"], NotInitialised),
    (&["cni config uninitialized"], NotInitialised),
    (&["no cni configuration file in"], NotInitialised),
    (&["no networks found in"], NotInitialised),
    (&["no network config found in"], NotInitialised),
    (&["failed to load cni config list file"], Configuration),
    (&["failed to load cni"], NotInitialised),
    (&["failed to reload cni configuration"], NotInitialised),
    // CNI daemons.
    (&["connection is unauthorized"], Unauthorized),
    (&["check that the calico/node container is running"], DaemonUnreachable),
    (&["error received from addnetwork grpc call"], DaemonUnreachable),
    (&["unable to connect to cilium"], DaemonUnreachable),
    (&["failed to create cilium agent client"], DaemonUnreachable),
    (&["cilium api client"], DaemonUnreachable),
    (&["cilium.sock"], DaemonUnreachable),
    (&["still waiting for readinessindicatorfile"], DaemonUnreachable),
    (&["failed to send cni request"], DaemonUnreachable),
    (&["failed to get pod annotation"], DaemonUnreachable),
    (&["cni request failed with status"], DaemonUnreachable),
    (&[":443: i/o timeout"], ApiUnreachable),
    (&[":443: connect: connection refused"], ApiUnreachable),
    (&[":443: connect: no route to host"], ApiUnreachable),
    (&[":6443: i/o timeout"], ApiUnreachable),
    (&[":6443: connect: connection refused"], ApiUnreachable),
    (&[":6443: connect: no route to host"], ApiUnreachable),
    (&["containerd.sock: connect:"], Runtime),
    (&["crio.sock: connect:"], Runtime),
    (&["connect: connection refused"], DaemonUnreachable),
    (&["unable to allocate ip address"], DelegateFull),
    // What the kernel is asked for.
    (&["failed to set vlan interface for bridge"], HostRefuses),
    (&["failed to create bridge"], HostRefuses),
    (&["bridge port in error state"], HostRefuses),
    (&["container veth name", "already exists"], HostRefuses),
    (&["failed to add route on host"], HostRefuses),
    (&["unable to setup dnat"], HostRefuses),
    (&["neither iptables nor ip6tables is usable"], HostRefuses),
    (&["unable to set hairpin mode"], HostRefuses),
    (&["addarp failed"], HostRefuses),
    (&["addfdb failed"], HostRefuses),
    (&["failed to add vxlanroute"], HostRefuses),
    (&["failed to install route to peer"], HostRefuses),
    (&["error adding route to"], HostRefuses),
    (&["error recovering route to"], HostRefuses),
    (&["route could not be replaced due to"], HostRefuses),
    (&["maximum retries reconciling node routes"], HostRefuses),
    // Slow.
    (&["putendpointidtoomanyrequests"], Timeout),
    (&["excessive concurrent ipam requests"], Timeout),
    (&["deadlineexceeded"], Timeout),
    (&["context deadline exceeded"], Timeout),
    (&["netplugin failed with no error message"], Timeout),
    (&["i/o timeout"], Timeout),
    // The runtime and its kernel.
    (&["failed to create network namespace for sandbox"], Runtime),
    (&["failed to create containerd task"], Runtime),
    (&["failed to create shim task"], Runtime),
    (&["failed to start sandbox container"], Runtime),
    (&["failed to get sandbox image"], Runtime),
    (&["failed to get sandbox runtime"], Runtime),
    (&["oci runtime create failed"], Runtime),
    (&["runc create failed"], Runtime),
    (&["failed to reserve sandbox name"], Timeout),
    (&["failed to find network info for sandbox"], Configuration),
    (&["error reading from server: eof"], Runtime),
    (&["resource temporarily unavailable"], Runtime),
    (&["too many open files"], Runtime),
    (&["no space left on device"], Runtime),
    (&["cgroup"], Runtime),
    (&["seccomp"], Runtime),
];

/// What a text in lower case means.
pub(super) fn find(text: &str) -> Option<Signature> {
    let found = TEXTS.iter().find(|(parts, _)| contains(text, parts));
    found.map(|(_, signature)| *signature)
}

fn contains(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_as_it_stands_in_the_table() {
        for (parts, signature) in TEXTS {
            let text = parts.join(" 10.244.0.0/24 ");
            assert_eq!(text, text.to_ascii_lowercase(), "texts are compared in lower case");
            assert_eq!(find(&text), Some(*signature), "{text} is hidden by an earlier one");
        }
    }

    #[test]
    fn several_parts_count_only_together_and_in_their_order() {
        assert_eq!(
            find("requested cidr (10.0.0.0/24) is already allocated"),
            Some(OverlappingCidr)
        );
        assert_eq!(find("is already allocated: the requested cidr"), None);
        assert_eq!(find("the requested cidr is fine"), None);
    }
}
