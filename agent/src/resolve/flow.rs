//! What identifies the packet that is looked up.

use std::net::IpAddr;

use ipnet::IpNet;

/// One packet's lookup key, as the kernel's `struct flowi` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Destination address.
    pub destination: IpAddr,
    /// Source address; `None`: not chosen yet, as for a socket that is not bound.
    pub source: Option<IpAddr>,
    /// Where the packet comes in.
    pub input: Input,
    /// ifindex of the device it is bound to.
    pub output: Option<u32>,
    /// `fwmark`.
    pub mark: u32,
    /// The TOS byte or traffic class.
    pub tos: u8,
    /// Protocol number, 0: not known, matches no rule that asks for one.
    pub ip_protocol: u8,
    /// Source port, 0: none.
    pub source_port: u16,
    /// Destination port, 0: none.
    pub destination_port: u16,
    /// Owner of the socket. The kernel uses 0 for what it forwards.
    pub uid: u32,
}

impl Flow {
    /// A packet of the host itself to `destination`, with nothing set.
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            input: Input::Host,
            output: None,
            mark: 0,
            tos: 0,
            ip_protocol: 0,
            source_port: 0,
            destination_port: 0,
            uid: 0,
        }
    }
}

/// Where a packet comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Made on the host: rules see `iif lo`.
    Host,
    /// Through the device with this ifindex.
    Device(u32),
    /// Through some pod's device, not known which. A rule that asks for the
    /// input device cannot be decided, unless it names one that no pod is behind.
    SomePod,
}

/// The source of what is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The unspecified address: in no prefix but `/0`.
    Unspecified,
    /// Some address of this prefix (a single address when it is a host prefix).
    Within(IpNet),
    /// Some pod of a host whose pod CIDR is not known.
    Unknown,
}

/// A lookup of a whole prefix: every address in it that no longer prefix of
/// any table or rule covers gets this answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) destination: IpNet,
    pub(crate) source: Source,
    pub(crate) input: Input,
    pub(crate) output: Option<u32>,
    pub(crate) mark: u32,
    pub(crate) tos: u8,
    pub(crate) ip_protocol: u8,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) uid: u32,
}

impl From<&Flow> for Query {
    fn from(flow: &Flow) -> Self {
        Self {
            destination: flow.destination.into(),
            source: match flow.source {
                Some(source) if !source.is_unspecified() => Source::Within(source.into()),
                _ => Source::Unspecified,
            },
            input: flow.input,
            output: flow.output,
            mark: flow.mark,
            tos: flow.tos,
            ip_protocol: flow.ip_protocol,
            source_port: flow.source_port,
            destination_port: flow.destination_port,
            uid: flow.uid,
        }
    }
}

/// True when `outer` and `inner` are of one family and `inner` lies in `outer`.
pub(crate) fn contains(outer: IpNet, inner: IpNet) -> bool {
    match (outer, inner) {
        (IpNet::V4(outer), IpNet::V4(inner)) => outer.contains(&inner),
        (IpNet::V6(outer), IpNet::V6(inner)) => outer.contains(&inner),
        _ => false,
    }
}

/// True for a prefix of IPv6.
pub(crate) fn is_ipv6(prefix: IpNet) -> bool {
    matches!(prefix, IpNet::V6(_))
}
