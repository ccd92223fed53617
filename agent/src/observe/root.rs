//! The host's filesystem, which may be mounted somewhere else (`--host-root`).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::libc;

/// As many symbolic links as the kernel itself follows in one path (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Where the host's `/` is seen from here. Paths given to it are the host's
/// own; a symbolic link is followed as the host would follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot {
    base: PathBuf,
}

/// Why a file of the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than the reader takes.
    #[error("it is {size} bytes long, more than the {limit} that are read")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A directory, FIFO, device …
    #[error("it is not a regular file")]
    NotAFile,
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReadError {
    /// True when there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl HostRoot {
    /// With the host's `/` at `base`.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Where the host's `/` is.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The host's procfs, where it is mounted below the root: it numbers the host's processes, which this program's
    /// own `/proc` does only outside of a container, or in a pod with hostPID.
    pub fn procfs(&self) -> Option<PathBuf> {
        let host = self.resolve(Path::new("/proc")).ok()?;
        (host != Path::new("/proc") && host.join("stat").exists()).then_some(host)
    }

    /// The path to open for the host's `path`, links resolved below the root.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if self.base == Path::new("/") {
            return Ok(path.to_owned());
        }
        let mut todo: VecDeque<OsString> = names(path).collect();
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let here = self.base.join(&done).join(&name);
            if !here.symlink_metadata()?.file_type().is_symlink() {
                done.push(name);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = here.read_link()?;
            if target.is_absolute() {
                done = PathBuf::new();
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                todo.push_front(name);
            }
        }
        Ok(self.base.join(done))
    }

    /// True when nothing can be said of `path`: a part of the host's file system that is not mounted below the root
    /// here. It shows by nothing of the path being there, not even its first directory. Parts of `/var` are mounted
    /// one by one, and every host has `/var/lib` and `/var/log`.
    pub fn hides(&self, path: &Path) -> bool {
        let depth = if path.starts_with("/var") { 3 } else { 2 };
        let first: PathBuf = path.components().take(depth).collect();
        path.is_absolute() && !self.exists(&first)
    }

    /// True when the host has something at `path`.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path).is_ok_and(|at| at.exists())
    }

    /// A regular file's content and metadata, if it is at most `limit` bytes long.
    pub fn read(&self, path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), ReadError> {
        // O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
        let file: File = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.resolve(path)?)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile);
        }
        let mut bytes = Vec::new();
        // One byte more than allowed shows a file that grew since it was looked at.
        file.take(limit + 1).read_to_end(&mut bytes)?;
        let size = metadata.len().max(bytes.len() as u64);
        if size > limit {
            return Err(ReadError::TooLarge { size, limit });
        }
        Ok((bytes, metadata))
    }

    /// The names in a directory that are not directories themselves, in byte
    /// order; `None` when it has more than `limit` entries.
    pub fn list(&self, path: &Path, limit: usize) -> io::Result<Option<Vec<OsString>>> {
        let mut found = Vec::new();
        for (at, entry) in self.resolve(path)?.read_dir()?.enumerate() {
            if at >= limit {
                return Ok(None);
            }
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                found.push(entry.file_name());
            }
        }
        found.sort();
        Ok(Some(found))
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn host() -> (tempfile::TempDir, HostRoot) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/cni/net.d")).unwrap();
        std::fs::write(dir.path().join("etc/real"), "here").unwrap();
        let root = HostRoot::new(dir.path());
        (dir, root)
    }

    #[test]
    fn an_absolute_link_is_followed_below_the_root() {
        let (dir, root) = host();
        symlink("/etc/real", dir.path().join("etc/cni/net.d/a.conf")).unwrap();
        let (bytes, _) = root.read(Path::new("/etc/cni/net.d/a.conf"), 100).unwrap();
        assert_eq!(bytes, b"here");
    }

    #[test]
    fn a_link_cannot_climb_out_of_the_root() {
        let (dir, root) = host();
        symlink(
            "../../../../../../etc/hostname",
            dir.path().join("etc/cni/net.d/a.conf"),
        )
        .unwrap();
        let error = root.read(Path::new("/etc/cni/net.d/a.conf"), 100).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }

    #[test]
    fn the_hosts_procfs_is_the_one_below_the_root_and_an_empty_mount_point_is_none() {
        assert_eq!(HostRoot::new("/").procfs(), None);
        let (dir, root) = host();
        let proc = dir.path().join("proc");
        std::fs::create_dir(&proc).unwrap();
        assert_eq!(root.procfs(), None);
        std::fs::write(proc.join("stat"), "btime 1").unwrap();
        assert_eq!(root.procfs(), Some(proc));
    }

    #[test]
    fn what_is_not_mounted_is_hidden_and_what_the_host_has_not_is_not() {
        let (dir, root) = host();
        std::fs::create_dir_all(dir.path().join("var/log")).unwrap();
        for hidden in ["/opt/cni/bin", "/var/lib/cni/networks"] {
            assert!(root.hides(Path::new(hidden)), "{hidden}");
        }
        for seen in ["/etc/nothing/here", "/var/log/nothing"] {
            assert!(!root.hides(Path::new(seen)), "{seen}");
        }
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (dir, root) = host();
        symlink("/etc/b", dir.path().join("etc/a")).unwrap();
        symlink("/etc/a", dir.path().join("etc/b")).unwrap();
        let error = root.read(Path::new("/etc/a"), 100).unwrap_err();
        assert!(matches!(error, ReadError::Io(e) if e.raw_os_error() == Some(libc::ELOOP)));
    }

    #[test]
    fn a_large_file_and_a_fifo_are_refused_with_the_reason() {
        let (dir, root) = host();
        let error = root.read(Path::new("/etc/real"), 3).unwrap_err();
        assert_eq!(error.to_string(), "it is 4 bytes long, more than the 3 that are read");
        nix::unistd::mkfifo(&dir.path().join("etc/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(root.read(Path::new("/etc/fifo"), 3), Err(ReadError::NotAFile)));
    }

    #[test]
    fn a_crowded_directory_is_not_walked() {
        let (_dir, root) = host();
        assert_eq!(root.list(Path::new("/etc"), 1).unwrap(), None);
        assert_eq!(root.list(Path::new("/etc"), 9).unwrap().unwrap(), ["real"]);
    }
}
