//! What changed in a [`super::Kernel`] between two looks at it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::Timestamp;

/// Changes that may move a landing. A change that cannot (a neighbour going
/// from REACHABLE to STALE, a counter) is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Prefixes that gained, lost or changed a route in some table.
    pub prefixes: BTreeSet<IpNet>,
    /// Devices, addresses, rules, neighbours that a route leads by, FDB, nexthop
    /// objects or sysctls changed: any landing may have moved.
    pub wide: bool,
    /// Links, their addresses or state changed: facts must be made anew.
    pub links: bool,
    /// When the first of these changes was read from the kernel.
    pub observed_at: Timestamp,
}

impl Changes {
    /// No change, seen at `at`.
    pub fn none(at: Timestamp) -> Self {
        Self {
            prefixes: BTreeSet::new(),
            wide: false,
            links: false,
            observed_at: at,
        }
    }

    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && !self.wide && !self.links
    }
}
