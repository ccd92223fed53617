//! Network managers that are active and may remove what a CNI makes: systemd-networkd and NetworkManager.

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::NetworkManager;

/// Reads their configuration.
#[derive(Debug)]
pub struct NetworkManagerReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl NetworkManagerReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Reads it.
    pub fn look(&mut self, _cni: &CniFacts, _now: Timestamp) -> Observed<Vec<NetworkManager>> {
        Observed::not_yet()
    }
}
