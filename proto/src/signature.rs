//! What the error text of a failed pod sandbox says is wrong (references D and E).

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::Malformed;
use crate::catalogue::Code;

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// The node's own address range is used up.
    AddressesExhausted,
    /// The CNI's allocator beyond the node has nothing left to give.
    DelegateFull,
    /// The pod bridge has an address of another range.
    BridgeAddress,
    /// The runtime has no CNI configuration.
    NotInitialised,
    /// A plugin's binary is missing.
    PluginMissing,
    /// flanneld has not written its subnet.env.
    SubnetEnvMissing,
    /// The CNI waits for the node's pod CIDR.
    NoCidr,
    /// The CNI's daemon on the node does not answer.
    DaemonUnreachable,
    /// The API server refuses the CNI's credential.
    Unauthorized,
    /// The API server's Service cannot be reached from the node.
    ApiUnreachable,
    /// It took too long.
    Timeout,
    /// The runtime failed, not the network: image, cgroup, seccomp.
    Runtime,
    /// None of the known texts.
    Unknown,
}

impl Signature {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AddressesExhausted,
        Self::DelegateFull,
        Self::BridgeAddress,
        Self::NotInitialised,
        Self::PluginMissing,
        Self::SubnetEnvMissing,
        Self::NoCidr,
        Self::DaemonUnreachable,
        Self::Unauthorized,
        Self::ApiUnreachable,
        Self::Timeout,
        Self::Runtime,
        Self::Unknown,
    ];

    /// Its stable name: "addresses-exhausted".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddressesExhausted => "addresses-exhausted",
            Self::DelegateFull => "delegate-full",
            Self::BridgeAddress => "bridge-address",
            Self::NotInitialised => "not-initialised",
            Self::PluginMissing => "plugin-missing",
            Self::SubnetEnvMissing => "subnet-env-missing",
            Self::NoCidr => "no-cidr",
            Self::DaemonUnreachable => "daemon-unreachable",
            Self::Unauthorized => "unauthorized",
            Self::ApiUnreachable => "api-unreachable",
            Self::Timeout => "timeout",
            Self::Runtime => "runtime",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Takes a stable name.
impl FromStr for Signature {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let found = Self::ALL.into_iter().find(|signature| signature.as_str() == text);
        found.ok_or_else(|| Malformed::UnknownName {
            field: "signature",
            name: text.chars().take(64).collect(),
        })
    }
}

/// Texts and what they mean; the first that is found counts. What a daemon says stands before what its
/// socket says, and both before timeouts, which are often only how the others end.
const TEXTS: &[(&str, Signature)] = &[
    ("already has an ip address different from", Signature::BridgeAddress),
    ("no ip addresses available in range set", Signature::AddressesExhausted),
    ("no ip addresses available in network", Signature::AddressesExhausted),
    ("range is full", Signature::AddressesExhausted),
    ("all cidr ranges are exhausted", Signature::AddressesExhausted),
    ("no ips currently available on the node", Signature::DelegateFull),
    ("no ips available in pools", Signature::DelegateFull),
    (
        "cannot allocate new block due to per host block limit",
        Signature::DelegateFull,
    ),
    ("no configured calico pools for node", Signature::DelegateFull),
    ("cannot find a qualified ippool", Signature::DelegateFull),
    ("unable to allocate a new ipam block", Signature::DelegateFull),
    ("failed to find or claim a block", Signature::DelegateFull),
    ("failed to assign an ip address to container", Signature::DelegateFull),
    ("no available ip/prefix addresses", Signature::DelegateFull),
    ("insufficientfreeaddressesinsubnet", Signature::DelegateFull),
    ("insufficientcidrblocks", Signature::DelegateFull),
    ("not enough ips available", Signature::DelegateFull),
    ("failed to get ip address from cns", Signature::DelegateFull),
    ("failed to allocate pool", Signature::DelegateFull),
    ("no subnets available", Signature::DelegateFull),
    ("/run/flannel/subnet.env", Signature::SubnetEnvMissing),
    ("pod cidr not assigned", Signature::NoCidr),
    ("podcidr not available", Signature::NoCidr),
    ("podcidr is empty", Signature::NoCidr),
    ("no podcidr for node", Signature::NoCidr),
    ("podcidr not set for node", Signature::NoCidr),
    ("failed to find plugin", Signature::PluginMissing),
    ("cni plugin not initialized", Signature::NotInitialised),
    ("cni config not initialized", Signature::NotInitialised),
    ("cni config uninitialized", Signature::NotInitialised),
    ("no cni configuration file in", Signature::NotInitialised),
    ("no networks found in", Signature::NotInitialised),
    ("no network config found in", Signature::NotInitialised),
    ("failed to load cni", Signature::NotInitialised),
    ("connection is unauthorized", Signature::Unauthorized),
    (
        "check that the calico/node container is running",
        Signature::DaemonUnreachable,
    ),
    ("error received from addnetwork grpc call", Signature::DaemonUnreachable),
    ("unable to connect to cilium agent", Signature::DaemonUnreachable),
    ("cilium api client", Signature::DaemonUnreachable),
    ("cilium.sock", Signature::DaemonUnreachable),
    ("cni request failed with status", Signature::DaemonUnreachable),
    (":443: i/o timeout", Signature::ApiUnreachable),
    (":443: connect: connection refused", Signature::ApiUnreachable),
    (":443: connect: no route to host", Signature::ApiUnreachable),
    (":6443: i/o timeout", Signature::ApiUnreachable),
    ("connect: connection refused", Signature::DaemonUnreachable),
    ("deadlineexceeded", Signature::Timeout),
    ("context deadline exceeded", Signature::Timeout),
    ("netplugin failed with no error message", Signature::Timeout),
    ("i/o timeout", Signature::Timeout),
    ("failed to create containerd task", Signature::Runtime),
    ("failed to create shim task", Signature::Runtime),
    ("failed to start sandbox container", Signature::Runtime),
    ("failed to get sandbox image", Signature::Runtime),
    ("failed to get sandbox runtime", Signature::Runtime),
    ("oci runtime create failed", Signature::Runtime),
    ("runc create failed", Signature::Runtime),
    ("failed to reserve sandbox name", Signature::Timeout),
    ("cgroup", Signature::Runtime),
    ("seccomp", Signature::Runtime),
];

impl Signature {
    /// Classifies an error text; case does not matter, and neither what stands around it.
    pub fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let found = TEXTS.iter().find(|(part, _)| text.contains(part));
        found.map_or(Self::Unknown, |(_, signature)| *signature)
    }

    /// Normal for a while on a node that has just come up.
    pub fn at_start(self) -> bool {
        matches!(
            self,
            Self::NotInitialised
                | Self::PluginMissing
                | Self::SubnetEnvMissing
                | Self::NoCidr
                | Self::DaemonUnreachable
                | Self::ApiUnreachable
                | Self::Timeout
        )
    }

    /// What it says, in few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::AddressesExhausted => "the node's address range is used up",
            Self::DelegateFull => "the CNI's allocator has no address to give",
            Self::BridgeAddress => "the pod bridge has an address of another range",
            Self::NotInitialised => "the runtime has no CNI configuration",
            Self::PluginMissing => "a CNI plugin's binary is missing",
            Self::SubnetEnvMissing => "flannel has not written subnet.env",
            Self::NoCidr => "the CNI waits for the node's pod CIDR",
            Self::DaemonUnreachable => "the CNI's daemon does not answer",
            Self::Unauthorized => "the API server refuses the CNI's credential",
            Self::ApiUnreachable => "the API server's Service cannot be reached from the node",
            Self::Timeout => "it takes too long",
            Self::Runtime => "the container runtime fails, not the network",
            Self::Unknown => "for a reason that is not among the known ones",
        }
    }

    /// Findings of the same node that explain it.
    pub fn explained_by(self) -> &'static [Code] {
        match self {
            Self::AddressesExhausted => &[Code::Host05, Code::Host01, Code::Pool14],
            Self::DelegateFull => &[Code::Pool14, Code::Host05],
            Self::BridgeAddress => &[Code::Host02, Code::Host01, Code::Pool12],
            Self::NotInitialised | Self::SubnetEnvMissing | Self::NoCidr => {
                &[Code::Pool01, Code::Host06, Code::Pool13, Code::Pool14]
            }
            Self::PluginMissing => &[Code::Host06],
            Self::DaemonUnreachable => &[Code::Pool01, Code::Pool14, Code::Host06],
            Self::ApiUnreachable => &[Code::Path01, Code::Path02, Code::Path04, Code::Host07, Code::Host09],
            Self::Timeout => &[Code::Host06, Code::Host07],
            Self::Unauthorized | Self::Runtime | Self::Unknown => &[],
        }
    }
}

/// The message without what changes from try to try: the prefix of combined events and the sandbox's id.
pub fn stable(message: &str) -> String {
    let rest = message
        .strip_prefix("(combined from similar events): ")
        .unwrap_or(message);
    let mut text = String::with_capacity(rest.len());
    let mut word = String::new();
    let flush = |word: &mut String, text: &mut String| {
        let id = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        text.push_str(if id { "…" } else { word });
        word.clear();
    };
    for c in rest.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c);
        } else {
            flush(&mut word, &mut text);
            text.push(c);
        }
    }
    flush(&mut word, &mut text);
    let cut = text.char_indices().nth(600).map_or(text.len(), |(at, _)| at);
    text.truncate(cut);
    text
}

#[cfg(test)]
mod tests {
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
        let exceeded =
            "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded";
        assert_eq!(Signature::of(exceeded), Signature::Timeout);
    }

    #[test]
    fn every_text_is_found_as_it_stands_in_the_table() {
        for (text, signature) in TEXTS {
            assert_eq!(*text, text.to_ascii_lowercase(), "texts are compared in lower case");
            assert_eq!(Signature::of(text), *signature, "{text} is hidden by an earlier one");
        }
    }
}
