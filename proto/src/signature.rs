//! What the error text of a failed pod sandbox, of a CNI's daemon or of an allocator says is wrong.

mod advice;
mod detail;
mod texts;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::Malformed;
use crate::catalogue::Code;

pub use self::detail::{Detail, detail};

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
    /// The CNI's configuration asks for what cannot be given.
    Configuration,
    /// The kernel refuses a device, an address, a route or a rule that the CNI sets up.
    HostRefuses,
    /// Two nodes have one range, or ranges that overlap.
    OverlappingCidr,
    /// A Node's CIDR is not of the pool: kube-controller-manager and flannel refuse it.
    OutsidePool,
    /// No range is left for another node.
    PoolExhausted,
    /// The cloud's route to a node is missing.
    CloudRoute,
    /// It took too long.
    Timeout,
    /// The runtime failed, not the network: image, cgroup, seccomp.
    Runtime,
    /// None of the known texts.
    Unknown,
}

impl Signature {
    /// All of them.
    pub const ALL: [Self; 19] = [
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
        Self::Configuration,
        Self::HostRefuses,
        Self::OverlappingCidr,
        Self::OutsidePool,
        Self::PoolExhausted,
        Self::CloudRoute,
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
            Self::Configuration => "configuration",
            Self::HostRefuses => "host-refuses",
            Self::OverlappingCidr => "overlapping-cidr",
            Self::OutsidePool => "outside-pool",
            Self::PoolExhausted => "pool-exhausted",
            Self::CloudRoute => "cloud-route",
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

impl Signature {
    /// Classifies an error text; case does not matter, and neither what stands around it.
    pub fn of(text: &str) -> Self {
        texts::find(&text.to_ascii_lowercase()).unwrap_or(Self::Unknown)
    }

    /// Says little of its own: often only how another failure ends, or nothing that is known.
    pub fn vague(self) -> bool {
        matches!(self, Self::Timeout | Self::Unknown)
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
                | Self::CloudRoute
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
            Self::Configuration => "the CNI's configuration asks for what cannot be given",
            Self::HostRefuses => "the host refuses a device or route that the CNI sets up",
            Self::OverlappingCidr => "another node has the same range, or one that overlaps",
            Self::OutsidePool => "the node's CIDR is not of the pool",
            Self::PoolExhausted => "no range is left for another node",
            Self::CloudRoute => "the cloud's route to the node is missing",
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
            Self::Configuration => &[Code::Host01, Code::Host06, Code::Pool14],
            Self::HostRefuses => &[Code::Host02, Code::Host07, Code::Host11],
            Self::OverlappingCidr => &[Code::Pool03, Code::Pool14],
            Self::OutsidePool => &[Code::Pool02],
            Self::PoolExhausted => &[Code::Pool01],
            Self::Unauthorized | Self::CloudRoute | Self::Runtime | Self::Unknown => &[],
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
mod tests;
