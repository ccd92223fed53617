//! Programs of Kubernetes that run in this host's network namespace, by procfs, and static pod manifests.

use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::Process;

/// Finds and reads them.
#[derive(Debug)]
pub struct ProcessReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl ProcessReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Looks at all processes.
    pub fn look(&mut self, _now: Timestamp) -> Observed<Vec<Process>> {
        Observed::not_yet()
    }
}
