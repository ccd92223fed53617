//! Picks the file that the runtime uses, and follows Multus to the configuration behind it.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use cidrift_proto::facts::CniConfig;
use jiff::Timestamp;

use super::super::root::HostRoot;
use super::config::{self, Config, Delegate};
use super::runtime::{Runtime, Template};
use super::{
    CONTAINERD_FILE, CONTAINERD_TEMPLATE, ENTRY_LIMIT, FILE_LIMIT, HOLDS_NONE, MULTUS_DELEGATE, NOT_READ, describe,
    is_config,
};

/// Looks through one directory.
pub(super) struct Picker<'a> {
    pub root: &'a HostRoot,
    pub dir: &'a Path,
    pub runtime: &'a Runtime,
    /// What is wrong with files on the way.
    pub problems: &'a mut Vec<String>,
    /// Set where a file seems to be in the middle of being written.
    pub torn: &'a mut bool,
}

/// A configuration and the file it stands in.
pub(super) struct Picked {
    path: PathBuf,
    pub config: Config,
    metadata: Metadata,
    /// Multus' own file, where the configuration is a delegate's.
    multus: Option<PathBuf>,
}

impl Picker<'_> {
    /// The configuration that the runtime uses, and the files that it does not.
    pub(super) fn pick(&mut self) -> (Option<Picked>, Vec<String>) {
        let names = match self.names() {
            Ok(names) => names,
            Err(problem) => {
                self.problems.push(problem);
                return (None, Vec::new());
            }
        };
        let picked = self.first(&names);
        let used = picked.as_ref().map(|picked| picked.path.clone());
        let others = names
            .iter()
            .map(|name| self.dir.join(name))
            .filter(|path| Some(path) != used.as_ref())
            .map(|path| path.display().to_string())
            .collect();
        (picked, others)
    }

    fn names(&self) -> Result<Vec<OsString>, String> {
        let dir = self.dir.display();
        let names: Vec<OsString> = match self.root.list(self.dir, ENTRY_LIMIT) {
            Ok(Some(names)) => names.into_iter().filter(|name| is_config(name)).collect(),
            Ok(None) => return Err(format!("{dir} has more than {ENTRY_LIMIT} entries: {NOT_READ}")),
            Err(error) => return Err(format!("{dir}: {}", describe(&error.into()))),
        };
        if names.is_empty() {
            return Err(format!(
                "{dir} {HOLDS_NONE} (*.conf, *.conflist, *.json): the CNI's agent has not written one yet"
            ));
        }
        Ok(names)
    }

    fn first(&mut self, names: &[OsString]) -> Option<Picked> {
        let wanted = self.runtime.default_network.as_deref();
        for name in names {
            let path = self.dir.join(name);
            match self.load(&path) {
                Ok(picked) if wanted.is_some_and(|wanted| wanted != picked.config.network) => {}
                Ok(picked) => return self.follow(picked, names),
                Err(problem) => {
                    self.problems.push(format!("{}: {problem}", path.display()));
                    if !self.runtime.skips_bad_files {
                        return None;
                    }
                }
            }
        }
        if let Some(wanted) = wanted {
            self.problems
                .push(format!("no file configures CRI-O's cni_default_network {wanted:?}"));
        }
        None
    }

    fn load(&mut self, path: &Path) -> Result<Picked, String> {
        let (bytes, metadata) = self.root.read(path, FILE_LIMIT).map_err(|error| {
            // Renamed away between the listing and the reading: the next look will do.
            *self.torn |= error.is_not_found();
            describe(&error)
        })?;
        let list = path.extension().is_some_and(|ending| ending == "conflist");
        let config = config::parse(&bytes, list).map_err(|error| {
            *self.torn |= error.is_torn();
            error.to_string()
        })?;
        Ok(Picked {
            path: path.to_owned(),
            config,
            metadata,
            multus: None,
        })
    }

    /// Goes on from Multus to the configuration that gives pods their first interface.
    fn follow(&mut self, picked: Picked, names: &[OsString]) -> Option<Picked> {
        let Some(delegate) = picked.config.delegate.clone() else {
            self.doubts(&picked);
            return Some(picked);
        };
        let found = match delegate {
            Delegate::Inline(config) => Ok(Picked {
                path: picked.path.clone(),
                config: *config,
                metadata: picked.metadata.clone(),
                multus: Some(picked.path.clone()),
            }),
            Delegate::Named(name) => self.named(&name, &picked.path, names),
        };
        match found {
            Ok(found) => {
                self.doubts(&found);
                Some(found)
            }
            Err(why) => {
                self.problems
                    .push(format!("{}: Multus' clusterNetwork: {why}", picked.path.display()));
                Some(picked)
            }
        }
    }

    /// Multus' `clusterNetwork`: a path, or the name of a network or file of the same directory.
    fn named(&mut self, name: &str, multus: &Path, names: &[OsString]) -> Result<Picked, String> {
        let as_delegate = |mut picked: Picked| {
            picked.multus = Some(multus.to_owned());
            picked
        };
        if name.starts_with('/') {
            // Multus' own pod sees the host under /host.
            let path = name
                .strip_prefix("/host")
                .filter(|rest| rest.starts_with('/'))
                .unwrap_or(name);
            return self
                .load(Path::new(path))
                .map(as_delegate)
                .map_err(|why| format!("{path}: {why}"));
        }
        names
            .iter()
            .map(|file| self.dir.join(file))
            .filter(|path| path != multus)
            .find_map(|path| {
                let same_file = path.file_name() == Some(OsStr::new(name));
                let picked = self.load(&path).ok()?;
                (same_file || picked.config.network == name).then_some(picked)
            })
            .map(as_delegate)
            .ok_or_else(|| format!("no file in {} configures {name:?}", self.dir.display()))
    }

    fn doubts(&mut self, picked: &Picked) {
        for doubt in &picked.config.ipam.doubts {
            self.problems.push(format!("{}: {doubt}", picked.path.display()));
        }
    }
}

impl Picked {
    /// What is handed on of it.
    pub(super) fn into_fact(self, runtime: &Runtime) -> CniConfig {
        let modified = self.metadata.modified().ok();
        CniConfig {
            network: self.config.network,
            cni_version: self.config.cni_version,
            plugins: self.config.plugins,
            ipam: self.config.ipam.kind,
            ranges: self.config.ipam.ranges,
            subnets: self.config.ipam.subnets,
            bridge: self.config.bridge,
            generated_by: match self.multus {
                Some(multus) => Some(format!("{MULTUS_DELEGATE}{}", multus.display())),
                None if self.path.file_name() == Some(OsStr::new(CONTAINERD_FILE)) => match &runtime.template {
                    Some(Template::Named(path)) => Some(format!("{CONTAINERD_TEMPLATE} {path}")),
                    Some(Template::None) => None,
                    None => Some(CONTAINERD_TEMPLATE.to_owned()),
                },
                None => None,
            },
            modified_at: modified.and_then(|time| Timestamp::try_from(time).ok()),
            path: self.path.display().to_string(),
        }
    }
}
