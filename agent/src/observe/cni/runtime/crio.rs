//! CRI-O's configuration, as far as it is about CNI.

use std::path::{Path, PathBuf};

use toml::Value;

use super::super::super::root::HostRoot;
use super::super::ENTRY_LIMIT;
use super::{PluginDirs, settings};

const FILE: &str = "/etc/crio/crio.conf";
const DROP_INS: &str = "/etc/crio/crio.conf.d";

/// What it says, all files taken together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Crio {
    /// `network_dir`.
    pub dir: Option<PathBuf>,
    /// `cni_default_network`.
    pub default_network: Option<String>,
    /// `plugin_dirs`, and `plugin_dir` as it was called before.
    plugin_dirs: Option<PluginDirs>,
}

impl Crio {
    /// Reads the file and its drop-ins; a later one goes before an earlier one.
    pub(super) fn read(root: &HostRoot) -> Self {
        let names = root.list(Path::new(DROP_INS), ENTRY_LIMIT).ok().flatten();
        let drop_ins = names.unwrap_or_default();
        let paths =
            std::iter::once(PathBuf::from(FILE)).chain(drop_ins.iter().map(|name| Path::new(DROP_INS).join(name)));
        let mut crio = Self::default();
        for path in paths {
            let Some(file) = settings::read(root, &path) else {
                continue;
            };
            let network = file.get("crio").and_then(|crio| crio.as_table()?.get("network"));
            let Some(network) = network.and_then(Value::as_table) else {
                continue;
            };
            if let Some(dir) = settings::text(network, "network_dir") {
                crio.dir = settings::path(&dir);
            }
            if let Some(name) = settings::text(network, "cni_default_network") {
                crio.default_network = Some(name);
            }
            // CRI-O adds the older key's directory to those of the newer one.
            let mut dirs = settings::paths(network, "plugin_dirs");
            dirs.extend(settings::text(network, "plugin_dir").and_then(|dir| settings::path(&dir)));
            if !dirs.is_empty() {
                crio.plugin_dirs = Some(PluginDirs {
                    paths: dirs,
                    file: path,
                });
            }
        }
        crio
    }

    /// Where plugins are, if it says so.
    pub(super) fn plugin_dirs(&self) -> Option<PluginDirs> {
        self.plugin_dirs.clone()
    }
}
