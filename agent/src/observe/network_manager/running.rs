//! Whether a service of the host's systemd runs, and in which network namespace.
//!
//! A runtime directory is no witness: it is made when the package is installed and stays when the service ends. A
//! cgroup with processes in it is. The service's network namespace is that of the host's first process, since neither
//! service asks systemd for another.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::observe::root::HostRoot;

/// A list of process ids is short; more than this is no service of ours.
const PROCS: u64 = 64 * 1024;

/// A service of systemd's.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// Its cgroup, in the unified hierarchy.
    pub(super) cgroup: &'static str,
    /// The same in a hierarchy of its own, as hosts with cgroup v1 have it.
    pub(super) cgroup_v1: &'static str,
}

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Running {
    /// In this network namespace.
    Here,
    /// In another one: it is the machine's, and this is a namespace on it.
    Elsewhere,
    /// Not at all.
    No,
    /// It runs; where, cannot be told.
    Unknown(String),
}

pub(super) fn running(root: &HostRoot, service: &Service) -> Running {
    let active = [service.cgroup, service.cgroup_v1].iter().any(|cgroup| {
        let procs = root.read(&Path::new(cgroup).join("cgroup.procs"), PROCS);
        procs.is_ok_and(|(bytes, _)| bytes.iter().any(u8::is_ascii_digit))
    });
    if !active {
        return Running::No;
    }
    match same_namespace(root) {
        Ok(true) => Running::Here,
        Ok(false) => Running::Elsewhere,
        Err(error) => Running::Unknown(format!(
            "whether it works in this network namespace cannot be told: {error}"
        )),
    }
}

/// Whether the host's first process is in the network namespace of this thread.
fn same_namespace(root: &HostRoot) -> io::Result<bool> {
    let link = |path: PathBuf| std::fs::read_link(path);
    let first = root.resolve(Path::new("/proc/1"))?;
    match link(first.join("ns/net")) {
        Ok(theirs) => Ok(theirs == link("/proc/thread-self/ns/net".into())?),
        // Reading that link takes the right to trace the process. What follows does not: every network namespace has
        // its own /proc/PID/net, and the directories in it have inode numbers that no other entry of procfs has.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            let theirs = first.join("net/stat").metadata()?.ino();
            Ok(theirs == Path::new("/proc/thread-self/net/stat").metadata()?.ino())
        }
        Err(error) => Err(error),
    }
}
