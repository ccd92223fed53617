//! containerd's configuration, as far as it is about CNI.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::super::root::HostRoot;
use super::{PluginDirs, Template, settings};

/// The CRI plugin's name in the three versions of the file's format.
const CRI: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

/// Imported files that are read at most; real ones have one or two.
const IMPORTS: usize = 32;

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Containerd {
    path: PathBuf,
    /// `conf_dir`.
    pub dir: Option<PathBuf>,
    /// `conf_template`.
    pub template: Template,
    /// `bin_dirs`, or `bin_dir` as it was called before containerd 2.1; empty where it names none.
    plugin_dirs: Vec<PathBuf>,
}

impl Containerd {
    /// Reads the file and what it imports. A file that is imported and cannot be read may say anything: then nothing is known.
    pub(super) fn read(root: &HostRoot, path: &Path) -> Option<Self> {
        let main = settings::read(root, path)?;
        let mut found = Self {
            path: path.to_owned(),
            dir: None,
            template: Template::None,
            plugin_dirs: Vec::new(),
        };
        found.take(&main, false);
        let from = path.parent().unwrap_or(Path::new("/"));
        let patterns = main.get("imports").and_then(Value::as_array);
        let files = patterns
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .flat_map(|pattern| settings::matching(root, from, pattern));
        for (at, file) in files.enumerate() {
            if at >= IMPORTS {
                return None;
            }
            // What is imported goes before what imports it.
            found.take(&settings::read(root, &file)?, true);
        }
        Some(found)
    }

    /// Where plugins are, if it says so.
    pub(super) fn plugin_dirs(&self) -> Option<PluginDirs> {
        (!self.plugin_dirs.is_empty()).then(|| PluginDirs {
            paths: self.plugin_dirs.clone(),
            file: self.path.clone(),
        })
    }

    fn take(&mut self, file: &Table, imported: bool) {
        let plugins = file.get("plugins").and_then(Value::as_table);
        for name in CRI {
            let Some(cri) = plugins.and_then(|plugins| plugins.get(name)?.as_table()) else {
                continue;
            };
            // containerd 1.x puts an imported section in the place of the whole earlier one, 2.x joins them.
            if imported {
                self.plugin_dirs.clear();
            }
            let Some(cni) = cri.get("cni").and_then(Value::as_table) else {
                continue;
            };
            if let Some(dir) = settings::text(cni, "conf_dir") {
                self.dir = settings::path(&dir);
            }
            if let Some(template) = settings::text(cni, "conf_template") {
                self.template = Template::Named(template);
            }
            let mut dirs = settings::paths(cni, "bin_dirs");
            if dirs.is_empty() {
                dirs.extend(settings::text(cni, "bin_dir").and_then(|dir| settings::path(&dir)));
            }
            if !dirs.is_empty() {
                self.plugin_dirs = dirs;
            }
        }
    }
}
