//! Network managers that are active and may remove what a CNI makes: systemd-networkd and NetworkManager.
//!
//! Both are told of only where they run, work in this very network namespace, and are set so that they could. Whether
//! there is anything of a CNI's to remove is not asked here.

mod ini;
mod networkd;
mod nm;
mod running;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use cidrift_proto::facts::CniFacts;
use jiff::{Timestamp, ToSpan};

use super::root::HostRoot;
use crate::view::Observed;
use crate::view::host::{Missing, NetworkManager};
use running::{Running, Service};

/// Between two readings of what has not changed, as far as its directories tell: their files may be rewritten in place.
const AGAIN_MINUTES: i64 = 1;

/// Reads their configuration.
#[derive(Debug)]
pub struct NetworkManagerReader {
    root: HostRoot,
    last: Option<Last>,
}

/// What was read last, and how things stood then.
#[derive(Debug)]
struct Last {
    at: Timestamp,
    stamps: Vec<Option<SystemTime>>,
    value: Result<Vec<NetworkManager>, Missing>,
}

/// Their directories change when something starts, a device comes or a file is put there.
const WATCHED: [&str; 6] = [
    networkd::SERVICE.cgroup,
    nm::SERVICE.cgroup,
    networkd::LINKS,
    nm::DEVICES,
    "/etc/systemd/networkd.conf.d",
    "/run/systemd/networkd.conf.d",
];

impl NetworkManagerReader {
    /// On the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self { root, last: None }
    }

    /// Reads it.
    pub fn look(&mut self, _cni: &CniFacts, now: Timestamp) -> Observed<Vec<NetworkManager>> {
        let stamps: Vec<_> = WATCHED.iter().map(|path| stamp(&self.root, path)).collect();
        let fresh = |last: &&Last| last.stamps == stamps && now < last.at + AGAIN_MINUTES.minutes() && now >= last.at;
        let value = match self.last.as_ref().filter(fresh) {
            Some(last) => last.value.clone(),
            None => {
                let value = self.read();
                self.last = Some(Last {
                    at: now,
                    stamps,
                    value: value.clone(),
                });
                value
            }
        };
        Observed {
            at: now,
            source: "systemd-networkd and NetworkManager".to_owned(),
            value,
        }
    }

    fn read(&self) -> Result<Vec<NetworkManager>, Missing> {
        type Read = fn(&HostRoot) -> Result<Vec<NetworkManager>, String>;
        let services: [(&Service, Read); 2] = [(&networkd::SERVICE, networkd::read), (&nm::SERVICE, nm::read)];
        let mut found = Vec::new();
        let mut here = false;
        let mut problem = None;
        for (service, read) in services {
            match running::running(&self.root, service) {
                Running::Here => {
                    here = true;
                    match read(&self.root) {
                        Ok(said) => found.extend(said),
                        Err(why) => problem = Some(format!("{}: {why}", service.name)),
                    }
                }
                Running::No | Running::Elsewhere => {}
                Running::Unknown(why) => problem = Some(format!("{} runs: {why}", service.name)),
            }
        }
        match problem {
            // What one of them would do is not lost because the other cannot be read.
            Some(why) if found.is_empty() => Err(Missing::Unreadable(why)),
            None if !here => Err(Missing::Absent(
                "neither systemd-networkd nor NetworkManager runs here".to_owned(),
            )),
            _ => Ok(found),
        }
    }
}

fn stamp(root: &HostRoot, path: &str) -> Option<SystemTime> {
    root.resolve(Path::new(path)).ok()?.metadata().ok()?.modified().ok()
}

/// Names in a directory that are not directories, in byte order; none where there is no such directory.
fn list(root: &HostRoot, path: &str, limit: usize) -> Result<Vec<OsString>, String> {
    match root.list(Path::new(path), limit) {
        Ok(Some(names)) => Ok(names),
        Ok(None) => Err(format!("{path} has more than {limit} entries")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// State files are called by ifindex.
fn ifindex(name: &OsString) -> Option<u32> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    text.parse().ok().filter(|index| *index > 0)
}

/// A device's name in this network namespace, which is that of the manager.
fn device_name(index: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(index).ok()?.into_string().ok()?;
    // nix 0.31 takes libc's null for a name without a letter.
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
