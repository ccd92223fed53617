//! Logs of the runtime and the kubelet: sandboxes that failed or went well, and the pod CIDR that was taken over.

use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Failures, KubeletCidr, Process};

/// Follows them.
#[derive(Debug)]
pub struct LogReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl LogReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Reads what is new in them.
    pub fn look(
        &mut self,
        _processes: &Observed<Vec<Process>>,
        _now: Timestamp,
    ) -> (Observed<Failures>, Observed<KubeletCidr>) {
        (Observed::not_yet(), Observed::not_yet())
    }
}
