//! Kernel settings that pod traffic depends on, from `/proc/sys/net` of this network namespace.

use jiff::Timestamp;

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::Settings;

/// Reads them.
#[derive(Debug)]
pub struct SettingReader {
    #[expect(dead_code)]
    root: HostRoot,
}

impl SettingReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Reads all of them.
    pub fn look(&mut self, _now: Timestamp) -> Observed<Settings> {
        Observed::not_yet()
    }
}
