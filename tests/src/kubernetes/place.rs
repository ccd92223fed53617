//! A cluster's directory and its cgroups: all that outlives its processes, and
//! therefore all that somebody else may have to remove.
//!
//! Processes, mounts and network namespaces need no list: the kernel ends them
//! with the process that made them (see [`machine`](super::machine)).

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kubernetes::error::{Result, io};

/// How long the kernel may take to end a cluster's last processes.
const DYING: Duration = Duration::from_secs(10);

/// Where all clusters of this user are. Short on purpose: sockets are below
/// it, and their paths end at 107 bytes.
pub fn base() -> PathBuf {
    PathBuf::from(format!("/tmp/cidrift-kubernetes-{}", nix::unistd::getuid()))
}

/// A cluster's own directory, held by a lock that dies with the process.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    _lock: File,
}

impl Place {
    /// A new one below `base`.
    pub fn new(base: &Path) -> Result<Self> {
        crate::state::make(base).map_err(io(format!("make {}", base.display())))?;
        // Who cleans up takes this lock too: a directory is never seen without its own.
        let _door = door(base)?;
        let directory = tempfile::Builder::new().prefix("").rand_bytes(6).tempdir_in(base);
        let directory = directory
            .map_err(io(format!("make a directory in {}", base.display())))?
            .keep();
        let lock = File::create(directory.join("lock")).map_err(io("make a lock"))?;
        lock.lock().map_err(io("lock"))?;
        Ok(Self { directory, _lock: lock })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cluster's name: unlike any other's on this machine.
    pub fn id(&self) -> String {
        id(&self.directory)
    }

    /// The cgroup that its nodes' pods are below, as kubelet's `cgroupRoot` names it.
    pub fn cgroup(&self) -> String {
        cgroup(&self.id())
    }

    /// Makes the cgroup of a node in every hierarchy of the machine.
    pub fn make_cgroup(&self, node: &str) -> Result<String> {
        let name = format!("{}/{node}", self.cgroup());
        for mount in cgroup_mounts()? {
            let path = mount.join(name.trim_start_matches('/'));
            fs::create_dir_all(&path).map_err(io(format!("make {}", path.display())))?;
        }
        Ok(name)
    }

    /// Removes everything. Call it when nothing of the cluster runs any more.
    pub fn remove(&self) -> Result<()> {
        remove(&self.directory)
    }
}

/// A cluster's directory that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub directory: PathBuf,
    /// Its owner lives.
    pub alive: bool,
}

/// All clusters below `base`.
pub fn all(base: &Path) -> Result<Vec<Found>> {
    if !base.exists() {
        return Ok(Vec::new());
    }
    let _door = door(base)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(base).map_err(io(format!("read {}", base.display())))? {
        let directory = entry.map_err(io(format!("read {}", base.display())))?.path();
        if directory.is_dir() {
            let alive = locked(&directory)?;
            found.push(Found { directory, alive });
        }
    }
    found.sort_by(|one, other| one.directory.cmp(&other.directory));
    Ok(found)
}

/// Removes what clusters left whose process is gone: killed, or crashed.
/// Returns their names.
pub fn remove_stale(base: &Path) -> Result<Vec<String>> {
    let stale: Vec<Found> = all(base)?.into_iter().filter(|found| !found.alive).collect();
    for found in &stale {
        remove(&found.directory)?;
    }
    Ok(stale.iter().map(|found| id(&found.directory)).collect())
}

fn door(base: &Path) -> Result<File> {
    let path = base.join("door");
    let door = File::create(&path).map_err(io(format!("open {}", path.display())))?;
    door.lock().map_err(io(format!("lock {}", path.display())))?;
    Ok(door)
}

fn locked(directory: &Path) -> Result<bool> {
    let path = directory.join("lock");
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io(format!("open {}", path.display()))(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(io(format!("lock {}", path.display()))(error)),
    }
}

fn id(directory: &Path) -> String {
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn cgroup(id: &str) -> String {
    format!("/cidrift-{id}")
}

fn remove(directory: &Path) -> Result<()> {
    let name = cgroup(&id(directory));
    for mount in cgroup_mounts()? {
        let path = mount.join(name.trim_start_matches('/'));
        if path.exists() {
            remove_cgroup(&path)?;
        }
    }
    let patience = Instant::now() + DYING;
    loop {
        match fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A dying program may still write; a dying mount may still be there.
            Err(_) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(io(format!("remove {}", directory.display()))(error)),
        }
    }
}

/// Ends what runs in a cgroup and below, then removes it: depth first, as the kernel wants it.
fn remove_cgroup(path: &Path) -> Result<()> {
    let patience = Instant::now() + DYING;
    loop {
        match try_remove_cgroup(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) if Instant::now() < patience => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(io(format!("remove cgroup {}", path.display()))(error)),
        }
    }
}

fn try_remove_cgroup(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            try_remove_cgroup(&entry.path())?;
        }
    }
    for pid in fs::read_to_string(path.join("cgroup.procs"))?
        .lines()
        .filter_map(|line| line.parse().ok())
    {
        // Gone already is as good; 0 stands for a process of another pid namespace, not for ourselves.
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    fs::remove_dir(path)
}

/// Where the machine's cgroup hierarchies are mounted: one on cgroup v2, one
/// a controller on v1.
pub(crate) fn cgroup_mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(io("read /proc/self/mountinfo"))?;
    Ok(cgroups_in(&text))
}

/// proc(5): the mount point is the fifth field, the type follows the hyphen.
fn cgroups_in(mountinfo: &str) -> Vec<PathBuf> {
    let mut mounts: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let kind = back.split(' ').next()?;
            let point = front.split(' ').nth(4)?;
            kind.starts_with("cgroup").then(|| PathBuf::from(point))
        })
        .collect();
    mounts.sort();
    mounts.dedup();
    mounts
}

/// Makes `path` and what is above it, for root alone.
pub(crate) fn make(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(io(format!("make {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_alive_while_it_is_held_and_stale_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        let place = Place::new(&base).unwrap();
        let id = place.id();
        assert_eq!(
            all(&base).unwrap().iter().map(|found| found.alive).collect::<Vec<_>>(),
            [true]
        );
        assert_eq!(remove_stale(&base).unwrap(), Vec::<String>::new());
        assert!(place.directory().exists());
        drop(place);
        assert_eq!(remove_stale(&base).unwrap(), [id]);
        assert_eq!(all(&base).unwrap(), []);
    }

    #[test]
    fn cgroups_are_found_in_both_layouts() {
        let v1 = "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                  32 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
                  33 24 0:5 / /dev rw - devtmpfs udev rw\n";
        assert_eq!(
            cgroups_in(v1),
            [
                PathBuf::from("/sys/fs/cgroup/cpu"),
                PathBuf::from("/sys/fs/cgroup/unified")
            ]
        );
    }
}
