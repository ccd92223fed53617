//! Binaries of the CNI plugins that the configuration names.

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Plugins, Runtime};

/// Looks for them.
#[derive(Debug)]
pub struct PluginReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl PluginReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Looks for each plugin of the chosen configuration and its ipam plugin.
    pub fn look(&mut self, _cni: &CniFacts, _runtime: &Observed<Runtime>, _now: Timestamp) -> Observed<Plugins> {
        Observed::not_yet()
    }
}
