//! host-local's leases of sandboxes that are gone.

use std::net::IpAddr;

use serde::Serialize;

use crate::prefix::{address_from_wire, address_to_wire};
use crate::{Malformed, v1};

/// Leases of sandboxes that are gone, as HOST05 judges them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeakedLeases {
    /// By network.
    pub networks: Vec<LeakedNetwork>,
    /// Leases that name a sandbox and are not told here.
    pub omitted: u32,
    /// Leases that name no sandbox.
    pub nameless: u32,
    /// Something else is wrong with the node's addresses, too: HOST05 stands without them all the same.
    pub others: bool,
}

/// Those of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakedNetwork {
    /// host-local's directory of it.
    pub directory: String,
    /// Each that names a sandbox.
    pub leases: Vec<LeakedLease>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeakedLease {
    /// The address.
    pub address: IpAddr,
    /// Id of the sandbox that it names.
    pub container: String,
}

impl From<&LeakedLeases> for v1::LeakedLeases {
    fn from(leaks: &LeakedLeases) -> Self {
        let lease = |lease: &LeakedLease| v1::LeakedLease {
            address: address_to_wire(lease.address),
            container: lease.container.clone(),
        };
        let network = |network: &LeakedNetwork| v1::LeakedNetwork {
            directory: network.directory.clone(),
            leases: network.leases.iter().map(lease).collect(),
        };
        Self {
            networks: leaks.networks.iter().map(network).collect(),
            omitted: leaks.omitted,
            nameless: leaks.nameless,
            others: leaks.others,
        }
    }
}

impl TryFrom<&v1::LeakedLeases> for LeakedLeases {
    type Error = Malformed;

    fn try_from(wire: &v1::LeakedLeases) -> Result<Self, Malformed> {
        let lease = |lease: &v1::LeakedLease| {
            Ok(LeakedLease {
                address: address_from_wire(&lease.address, "leaks.address")?,
                container: lease.container.clone(),
            })
        };
        let network = |network: &v1::LeakedNetwork| {
            Ok(LeakedNetwork {
                directory: network.directory.clone(),
                leases: network.leases.iter().map(lease).collect::<Result<_, Malformed>>()?,
            })
        };
        Ok(Self {
            networks: wire.networks.iter().map(network).collect::<Result<_, Malformed>>()?,
            omitted: wire.omitted,
            nameless: wire.nameless,
            others: wire.others,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_as_it_was() {
        let lease = |address: &str, container: &str| LeakedLease {
            address: address.parse().unwrap(),
            container: container.to_owned(),
        };
        let leaks = LeakedLeases {
            networks: vec![LeakedNetwork {
                directory: "/var/lib/cni/networks/cbr0".to_owned(),
                leases: vec![lease("10.244.1.7", "3f2ab1"), lease("fd00:1::7", "3f2ab1")],
            }],
            omitted: 3,
            nameless: 1,
            others: true,
        };
        let mut wire = v1::LeakedLeases::from(&leaks);
        assert_eq!(LeakedLeases::try_from(&wire).unwrap(), leaks);
        wire.networks[0].leases[0].address.pop();
        assert!(LeakedLeases::try_from(&wire).is_err());
    }
}
