//! CNI configuration of a host: which file the runtime uses and what it says.
//!
//! libcni takes the files `*.conf`, `*.conflist` and `*.json` of one directory in
//! byte order. containerd loads the first; if that one is broken it loads none.
//! CRI-O passes a broken file over.

mod config;
mod flannel;
mod ipam;
mod programs;
pub(in crate::observe) mod runtime;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cidrift_proto::facts::{CniConfig, CniFacts, FlannelSubnet};
use jiff::Timestamp;

use self::config::{Config, Delegate};
use self::runtime::{Runtime, Template};
use super::root::{HostRoot, ReadError};

pub use self::watch::CniWatcher;

/// Bytes of a file that are read at most. Real ones have a few KiB; Multus' with its delegates some ten.
const FILE_LIMIT: u64 = 1 << 20;

/// Entries of a directory that are looked at; a real one has a handful.
const ENTRY_LIMIT: usize = 256;

/// A file in the middle of being written is read once more after this: writing
/// a few KiB takes a writer well below a millisecond, a loaded machine some tens.
const TORN_RETRY: Duration = Duration::from_millis(100);

/// containerd's name for the file that it renders from `conf_template`.
const CONTAINERD_FILE: &str = "10-containerd-net.conflist";

/// What [`CniConfig::generated_by`] begins with where containerd rendered the file.
pub const CONTAINERD_TEMPLATE: &str = "containerd template";

/// What [`CniConfig::generated_by`] begins with where Multus hands on to this configuration; its own file follows.
pub const MULTUS_DELEGATE: &str = "delegate of Multus in ";

/// How a reason ends where a file is there and this agent may not read it.
const NOT_ALLOWED: &str = "run as root to read it";

/// How a reason ends where a directory is there and this agent does not read all of it.
const NOT_READ: &str = "it is not read";

/// How a reason says that a directory has no file for a runtime.
const HOLDS_NONE: &str = "holds no CNI configuration";

/// Where flanneld writes what its plugin needs, unless the configuration names another file.
pub const SUBNET_FILE: &str = flannel::SUBNET_FILE;

/// True where the directory is not there, or has no file for a runtime.
pub fn is_empty(facts: &CniFacts) -> bool {
    let none = format!("{} {HOLDS_NONE}", facts.directory);
    let gone = format!("{}: No such file", facts.directory);
    let problem = facts.problem.as_deref().unwrap_or_default();
    facts.chosen.is_none() && (problem.starts_with(&none) || problem.starts_with(&gone))
}

/// True where it is certain that the host has no configuration that a runtime could use. Where this agent could
/// not look (no right to, too much to read, several directories and no sign of which counts), it is not.
pub fn is_certainly_unusable(facts: &CniFacts) -> bool {
    facts.chosen.is_none()
        && !facts.directory.is_empty()
        && facts
            .problem
            .as_ref()
            .is_some_and(|problem| !problem.contains(NOT_ALLOWED) && !problem.contains(NOT_READ))
}

pub(in crate::observe) use self::programs::programs;

/// Reads a host's CNI configuration.
#[derive(Debug, Clone)]
pub struct CniReader {
    root: HostRoot,
    dir: Option<PathBuf>,
}

/// What one look gave.
struct Look {
    facts: CniFacts,
    /// A file seemed to be in the middle of being written.
    torn: bool,
}

/// Reads the CNI configuration of the host whose `/` is at `root`.
pub fn read(root: &Path) -> CniFacts {
    CniReader::new(HostRoot::new(root), None).read()
}

impl CniReader {
    /// `dir` is the runtime's CNI directory as the host knows it; without it,
    /// it is found by the runtimes' configuration.
    pub fn new(root: HostRoot, dir: Option<PathBuf>) -> Self {
        Self { root, dir }
    }

    /// Reads everything now; once more shortly after where a file seems to be half written.
    pub fn read(&self) -> CniFacts {
        self.read_waiting(|| std::thread::sleep(TORN_RETRY))
    }

    fn read_waiting(&self, wait: impl FnOnce()) -> CniFacts {
        let look = self.look();
        if !look.torn {
            return look.facts;
        }
        wait();
        self.look().facts
    }

    fn look(&self) -> Look {
        let runtime = runtime::look(&self.root, self.dir.as_deref());
        let mut look = Look {
            facts: CniFacts::default(),
            torn: false,
        };
        let mut problems = Vec::new();
        let mut subnet_file = None;
        match &runtime.dir {
            None => problems.extend(runtime.doubt.clone()),
            Some(dir) => {
                look.facts.directory = dir.display().to_string();
                let mut picker = Picker {
                    root: &self.root,
                    dir,
                    runtime: &runtime,
                    problems: &mut problems,
                    torn: &mut look.torn,
                };
                let (chosen, others) = picker.pick();
                look.facts.others = others;
                if let Some(picked) = chosen {
                    subnet_file.clone_from(&picked.config.subnet_file);
                    look.facts.chosen = Some(picked.into_fact(&runtime));
                }
            }
        }
        let subnet_file = subnet_file.unwrap_or_else(|| flannel::SUBNET_FILE.to_owned());
        match self.subnet_env(&subnet_file) {
            Ok(env) => look.facts.flannel = env,
            Err(problem) => {
                look.torn = true;
                problems.push(problem);
            }
        }
        look.facts.problem = (!problems.is_empty()).then(|| problems.join("; "));
        look
    }

    /// `Ok(None)`: there is none, as on every host without flannel.
    fn subnet_env(&self, path: &str) -> Result<Option<FlannelSubnet>, String> {
        match self.root.read(Path::new(path), FILE_LIMIT) {
            Ok((bytes, _)) => flannel::parse(path, &bytes)
                .map(Some)
                .map_err(|error| format!("{path}: {error}")),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(format!("{path}: {}", describe(&error))),
        }
    }

    /// Directories and files whose changes matter, as the host knows them.
    fn places(&self) -> Vec<PathBuf> {
        let mut places = match &self.dir {
            Some(dir) => vec![dir.clone()],
            None => runtime::look(&self.root, None).dirs,
        };
        places.push(PathBuf::from("/run/flannel"));
        places.sort();
        places.dedup();
        places
    }
}

/// True for the endings that runtimes ask libcni for.
fn is_config(name: &OsStr) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "conf" || ending == "conflist" || ending == "json")
}

/// Picks the file that the runtime uses.
struct Picker<'a> {
    root: &'a HostRoot,
    dir: &'a Path,
    runtime: &'a Runtime,
    problems: &'a mut Vec<String>,
    torn: &'a mut bool,
}

/// A configuration and the file it stands in.
struct Picked {
    path: PathBuf,
    config: Config,
    metadata: Metadata,
    /// Multus' own file, where the configuration is a delegate's.
    multus: Option<PathBuf>,
}

impl Picker<'_> {
    fn pick(&mut self) -> (Option<Picked>, Vec<String>) {
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

/// What to do about it, where that is known.
fn describe(error: &ReadError) -> String {
    match error {
        ReadError::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("{io}: {NOT_ALLOWED}")
        }
        other => other.to_string(),
    }
}

impl Picked {
    fn into_fact(self, runtime: &Runtime) -> CniConfig {
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

#[cfg(test)]
mod tests;
