//! Addresses that were given out: host-local's leases, and libcni's cached results.

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{CachedResult, Lease};

/// Reads both stores.
#[derive(Debug)]
pub struct AddressReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl AddressReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Reads what is new in them.
    pub fn look(&mut self, _cni: &CniFacts, _now: Timestamp) -> (Observed<Vec<Lease>>, Observed<Vec<CachedResult>>) {
        (Observed::not_yet(), Observed::not_yet())
    }
}
