//! The container runtime over CRI: is it ready, and which pod sandboxes does it have.

use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Process, Runtime, Sandbox};

/// Asks the runtime.
#[derive(Debug)]
pub struct CriReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl CriReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Asks for its state and its sandboxes.
    pub async fn look(
        &mut self,
        _processes: &Observed<Vec<Process>>,
        _now: Timestamp,
    ) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
        (Observed::not_yet(), Observed::not_yet())
    }
}
