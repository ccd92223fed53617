//! Binaries of the CNI plugins that the configuration names.
//!
//! A look costs a few `stat` calls for each plugin, some tens of µs: that also shows what a directory's own time
//! does not, a file that lost its execute bit or a link that leads nowhere now.

mod binary;
mod directories;

use std::collections::BTreeSet;

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use self::binary::Binary;
use self::directories::Directories;
use super::cni;
use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, Plugins, Runtime};

/// The plugin that makes `lo` in a sandbox.
const LOOPBACK: &str = "loopback";

/// Looks for them.
#[derive(Debug)]
pub struct PluginReader {
    root: HostRoot,
}

impl PluginReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root }
    }

    /// Looks for each plugin of the chosen configuration and its ipam plugin.
    pub fn look(&mut self, cni: &CniFacts, runtime: &Observed<Runtime>, now: Timestamp) -> Observed<Plugins> {
        if cni.chosen.is_none() {
            let why = Missing::Absent("no CNI configuration is used that would name plugins".to_owned());
            return Observed::missing(now, cni.directory.clone(), why);
        }
        let mut needed = cni::programs(&self.root, cni);
        if runtime.get().is_some_and(needs_loopback) {
            needed.insert(LOOPBACK.to_owned());
        }
        let dirs = directories::find(&self.root, cni, runtime);
        match self.search(&needed, &dirs) {
            Ok(missing) => Observed::seen(
                now,
                dirs.source.clone(),
                Plugins {
                    directories: dirs.names(),
                    missing,
                },
            ),
            Err(why) => Observed::missing(now, dirs.source.clone(), why),
        }
    }

    /// The plugins that are missing, or why that cannot be told.
    fn search(&self, needed: &BTreeSet<String>, dirs: &Directories) -> Result<Vec<(String, String)>, Missing> {
        let mut missing = Vec::new();
        let mut found = false;
        for name in needed {
            match binary::find(&self.root, &dirs.paths, name) {
                Binary::Runs => found = true,
                Binary::Missing(why) => missing.push((name.clone(), why)),
                Binary::Unknown(why) => return Err(Missing::Unreadable(why)),
            }
        }
        if missing.is_empty() || dirs.named {
            return Ok(missing);
        }
        let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
        match dirs.paths.as_slice() {
            [] if !dirs.runtime_runs => Err(Missing::Absent("there is no directory of CNI plugins".to_owned())),
            [] => Err(Missing::Unreadable(
                "no directory of CNI plugins was found, and nothing tells which one the runtime has".to_owned(),
            )),
            // The default one, and it is in use: some of what is needed, or what every sandbox needs, is there.
            [_] if found || matches!(binary::find(&self.root, &dirs.paths, LOOPBACK), Binary::Runs) => Ok(missing),
            _ if !dirs.runtime_runs => Err(Missing::Absent("no container runtime runs here".to_owned())),
            _ => Err(Missing::Unreadable(format!(
                "{} not found in {}, and nothing tells whether the runtime looks there",
                names.join(", "),
                dirs.names().join(", ")
            ))),
        }
    }
}

/// containerd starts the loopback plugin for every sandbox and lists it among its networks, unless
/// `use_internal_loopback` (2.1) is set; CRI-O brings `lo` up by itself (ocicni, `bringUpLoopback`).
fn needs_loopback(runtime: &Runtime) -> bool {
    let first = |text: &str| text.trim_start_matches('v').split('.').next()?.parse::<u32>().ok();
    let listed = runtime.networks.iter().any(|network| network.plugins == [LOOPBACK]);
    listed || (runtime.name == "containerd" && first(&runtime.version) == Some(1))
}

#[cfg(test)]
mod tests;
