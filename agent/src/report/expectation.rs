//! What the aggregator says this node is expected to have.

use std::net::IpAddr;

use cidrift_proto::prefix::{address_from_wire, prefix_from_wire};
use cidrift_proto::{Malformed, v1};
use ipnet::IpNet;

/// What the control plane says of this node, and which prefixes matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Revision in the aggregator's present life; 0: the control plane was not read yet.
    pub revision: u64,
    /// The Node's UID; `None`: the control plane has no such Node.
    pub node_uid: Option<String>,
    /// The Node's pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Its InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// Prefixes whose landings are to be reported.
    pub interest: Vec<IpNet>,
}

impl TryFrom<&v1::Expectation> for Expectation {
    type Error = Malformed;

    fn try_from(wire: &v1::Expectation) -> Result<Self, Malformed> {
        let nets = |prefixes: &[v1::Prefix], field| -> Result<Vec<IpNet>, Malformed> {
            prefixes.iter().map(|prefix| prefix_from_wire(prefix, field)).collect()
        };
        Ok(Self {
            revision: wire.revision,
            node_uid: (!wire.node_uid.is_empty()).then(|| wire.node_uid.clone()),
            pod_cidrs: nets(&wire.pod_cidrs, "expectation.pod_cidrs")?,
            internal_ips: wire
                .internal_ips
                .iter()
                .map(|bytes| address_from_wire(bytes, "expectation.internal_ips"))
                .collect::<Result<_, _>>()?,
            interest: nets(&wire.interest, "expectation.interest")?,
        })
    }
}
