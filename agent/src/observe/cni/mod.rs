//! CNI configuration of a host: which file the runtime uses and what it says.
//!
//! libcni takes the files `*.conf`, `*.conflist` and `*.json` of one directory in
//! byte order. containerd loads the first; if that one is broken it loads none.
//! CRI-O passes a broken file over.

mod config;
mod flannel;
pub(super) mod ipam;
mod picker;
mod programs;
pub(in crate::observe) mod runtime;
mod watch;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cidrift_proto::facts::{CniFacts, FlannelSubnet};

use self::picker::Picker;
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

/// What [`generated_by`](cidrift_proto::facts::CniConfig::generated_by) begins with where containerd rendered the file.
pub const CONTAINERD_TEMPLATE: &str = "containerd template";

/// What [`generated_by`](cidrift_proto::facts::CniConfig::generated_by) begins with where Multus hands on to this configuration; its own file follows.
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

/// What to do about it, where that is known.
fn describe(error: &ReadError) -> String {
    match error {
        ReadError::Io(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
            format!("{io}: {NOT_ALLOWED}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
