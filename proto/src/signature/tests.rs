//! Texts of real components, whole.

use super::*;

/// Texts of references D and E and of real reports, each in the shape in which kubelet tells it.
#[test]
fn the_texts_of_real_components_are_told_apart() {
    let cases = [
        (
            "failed to allocate for range 0: no IP addresses available in range set: 10.244.7.1-10.244.7.6",
            Signature::AddressesExhausted,
        ),
        (
            "failed to delegate add: failed to allocate for range 0: no IP addresses available in range set: 10.42.2.1-10.42.2.254",
            Signature::AddressesExhausted,
        ),
        (
            "unable to allocate IP via local cilium agent: [POST /ipam][502] postIpamFailure \"range is full\"",
            Signature::AddressesExhausted,
        ),
        (
            "unable to allocate IP via local cilium agent: [POST /ipam][502] postIpamFailure  range is full",
            Signature::AddressesExhausted,
        ),
        (
            "failed to request IPv4 addresses: Assigned 0 out of 1 requested IPv4 addresses; No IPs available in pools: [192.168.0.0/16]",
            Signature::DelegateFull,
        ),
        (
            "add cmd: failed to assign an IP address to container",
            Signature::DelegateFull,
        ),
        ("Failed to get IP address from CNS", Signature::DelegateFull),
        (
            "failed to set bridge addr: \"cni0\" already has an IP address different from 10.244.1.1/24",
            Signature::BridgeAddress,
        ),
        (
            "failed to load flannel 'subnet.env' file: open /run/flannel/subnet.env: no such file or directory. Check the flannel pod log for this node.",
            Signature::SubnetEnvMissing,
        ),
        (
            "open /run/flannel/subnet.env: no such file or directory",
            Signature::SubnetEnvMissing,
        ),
        (
            "failed to find plugin \"loopback\" in path [/opt/cni/bin]",
            Signature::PluginMissing,
        ),
        (
            "no network config found in /etc/cni/net.d: cni plugin not initialized",
            Signature::NotInitialised,
        ),
        ("cni config uninitialized", Signature::NotInitialised),
        (
            "error getting ClusterInformation: connection is unauthorized: Unauthorized",
            Signature::Unauthorized,
        ),
        (
            "stat /var/lib/calico/nodename: no such file or directory: check that the calico/node container is running and has mounted /var/lib/calico/",
            Signature::DaemonUnreachable,
        ),
        (
            "add cmd: Error received from AddNetwork gRPC call: rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing dial tcp 127.0.0.1:50051: connect: connection refused\"",
            Signature::DaemonUnreachable,
        ),
        (
            "error getting ClusterInformation: Get \"https://10.96.0.1:443/apis/crd.projectcalico.org/v1/clusterinformations/default\": dial tcp 10.96.0.1:443: i/o timeout",
            Signature::ApiUnreachable,
        ),
        ("context deadline exceeded", Signature::Timeout),
        (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: can't get final child's PID from pipe: EOF: unknown",
            Signature::Runtime,
        ),
        (
            "failed to allocate for range 0: 10.244.1.9 has been allocated to 3f2a, duplicate allocation is not allowed",
            Signature::Configuration,
        ),
        (
            "failed to find plugin \"flannel\" in path [/opt/cni/bin]",
            Signature::PluginMissing,
        ),
        (
            "unable to connect to Cilium daemon: failed to create cilium agent client after 30.000000 seconds timeout: Get \"http://localhost/v1/config\": dial unix /var/run/cilium/cilium.sock: connect: no such file or directory\nIs the agent running?",
            Signature::DaemonUnreachable,
        ),
        (
            "unable to allocate IP address: Post \"http://127.0.0.1:6784/ip/7f12\": dial tcp 127.0.0.1:6784: connect: connection refused",
            Signature::DaemonUnreachable,
        ),
        (
            "Multus: [ns/pod]: have you checked that your default network is ready? still waiting for readinessindicatorfile @ /var/run/multus/cni/net.d/10-ovn-kubernetes.conf. pollimmediate error: timed out waiting for the condition",
            Signature::DaemonUnreachable,
        ),
        (
            "CmdAdd (shim): failed to send CNI request: Post \"http://dummy/cni\": dial unix /run/multus/socket/multus.sock: connect: no such file or directory",
            Signature::DaemonUnreachable,
        ),
        (
            "unable to set hairpin mode to true for bridge side of veth vethweplb256e93: operation not supported",
            Signature::HostRefuses,
        ),
        (
            "not enough IPs available of type IPv4 for nc, waiting on Azure CNS to allocate more with NC Status: Available",
            Signature::DelegateFull,
        ),
        ("no podCidr for node worker-1", Signature::NoCidr),
        ("\"cni0\" already exists but is not a bridge", Signature::Configuration),
        ("something that nobody has ever seen", Signature::Unknown),
    ];
    for (tail, signature) in cases {
        for prefix in ["", "(combined from similar events): "] {
            let id = "d615cc04".repeat(8);
            let text = format!(
                "{prefix}Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"{id}\": plugin type=\"flannel\" failed (add): {tail}"
            );
            assert_eq!(Signature::of(&text), signature, "{tail}");
            assert!(
                !stable(&text).contains(&id) && stable(&text).starts_with("Failed"),
                "{text}"
            );
            assert!(stable(&text).contains(&tail[..tail.len().min(40)]), "{text}");
        }
    }
    let exceeded = "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    assert_eq!(Signature::of(exceeded), Signature::Timeout);
}

/// Texts of daemons and allocators, as they stand in their logs: nothing around them.
#[test]
fn what_allocators_and_daemons_log_is_told_apart_too() {
    let cases = [
        (
            "failed to mark cidr[10.200.0.0/24] at idx [0] as occupied for node: n1: cidr 10.200.0.0/24 is out the range of cluster cidr 10.244.0.0/16",
            Signature::OutsidePool,
        ),
        (
            "failed to allocate cidr from cluster cidr at idx:0: CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range",
            Signature::PoolExhausted,
        ),
        (
            "Error registering network: failed to acquire lease: subnet \"10.244.0.0/16\" specified in the flannel net config doesn't contain \"10.245.1.0/24\" PodCIDR of the \"n1\" node",
            Signature::OutsidePool,
        ),
        (
            "Error registering network: failed to acquire lease: node \"n1\" pod cidr not assigned",
            Signature::NoCidr,
        ),
        (
            "skipping addNodeRoute for Node a because podCIDR 10.0.1.0/24 is duplicate with Node b, will retry later",
            Signature::OverlappingCidr,
        ),
        (
            "failed to install route to peer ip-100-1-1-2.ec2.internal (100.1.1.2) with netlink. Route config: {Ifindex: 6 Dst: 10.42.141.0/24 Src: <nil> Gw: 10.42.141.1 Flags: [onlink] Table: 0 Realm: 0}. Error: invalid argument",
            Signature::OverlappingCidr,
        ),
        (
            "requested CIDR (10.0.1.0/24) is already allocated",
            Signature::OverlappingCidr,
        ),
        (
            "Could not create route 5af944ce 10.244.0.0/24 for node aks-1 after 29.9s: AmbiguousPolicyEvaluationPaths",
            Signature::CloudRoute,
        ),
        (
            "route to destination 10.0.0.0/24 contains gateway 10.1.0.1, must be directly reachable. Add `direct-routing-skip-unreachable` to skip unreachable routes",
            Signature::HostRefuses,
        ),
        (
            "level=warning msg=\"Waiting for k8s node information\" error=\"required IPv4 PodCIDR not available\"",
            Signature::NoCidr,
        ),
        ("Node {Name:n1} has no CIDR, ignoring", Signature::NoCidr),
        (
            "failed to allocate cidr: Node n1 has no ranges from which CIDRs can be allocated",
            Signature::PoolExhausted,
        ),
    ];
    for (text, signature) in cases {
        assert_eq!(Signature::of(text), signature, "{text}");
    }
}

#[test]
fn every_class_has_a_name_words_a_cause_and_a_remedy() {
    for signature in Signature::ALL {
        assert_eq!(signature.as_str().parse(), Ok(signature));
        assert!(!signature.words().is_empty());
        for waits in [false, true] {
            assert!(signature.cause("node-a", waits).ends_with('.'), "{signature}");
        }
        assert!(
            signature
                .remedy("node-a")
                .starts_with("Until it is mended: kubectl cordon node-a. ")
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_text_has_a_class_and_a_stable_form(text in "\\PC{0,400}") {
        let _ = Signature::of(&text);
        let once = stable(&text);
        proptest::prop_assert!(once.chars().count() <= 600);
    }
}
