//! One directory of the host, held open: what is done in it is done in no other, whoever moves things meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::Error;
use crate::observe::root::HostRoot;

/// CNI configurations have a few hundred bytes, leases less than a hundred.
const READ_LIMIT: u64 = 1 << 20;

/// A directory of the host.
#[derive(Debug)]
pub(super) struct Directory {
    directory: OwnedFd,
    path: PathBuf,
}

/// A regular file in it, as it was found.
#[derive(Debug)]
pub(super) struct Found {
    /// What is in it.
    pub(super) content: Vec<u8>,
    /// Which file it is.
    stat: FileStat,
}

impl Directory {
    /// Opens the host's `path`. A symbolic link is followed as the host would follow it and never out of `root`.
    ///
    /// # Errors
    ///
    /// It is not there: what is mounted for an errand is there, so this is a mount that was left out, and nothing is
    /// said to be done already.
    pub(super) fn open(root: &HostRoot, path: &Path) -> Result<Self, Error> {
        let whole = root.base() == Path::new("/");
        let resolved = if whole { path.canonicalize() } else { root.resolve(path) };
        let opened = resolved.and_then(|resolved| descend(root.base(), &resolved));
        let directory = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Refused(format!(
                "{} is not there below {}: is the host's directory mounted?",
                path.display(),
                root.base().display()
            )),
            _ => Error::io(format!("{} cannot be opened", path.display()))(source),
        })?;
        Ok(Self {
            directory,
            path: path.to_owned(),
        })
    }

    /// The directory of the host's file `path`, and the file's name in it.
    pub(super) fn of<'a>(root: &HostRoot, path: &'a Path) -> Result<(Self, &'a OsStr), Error> {
        match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) => Ok((Self::open(root, directory)?, name)),
            _ => Err(Error::Refused(format!("{} names no file", path.display()))),
        }
    }

    /// The host's path of `name` in here, for messages.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> String {
        self.path.join(name).display().to_string()
    }

    /// The names in here that are text, in order.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let cannot = || format!("{} cannot be listed", self.path.display());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut opened = Dir::openat(&self.directory, ".", flags, Mode::empty()).map_err(Error::io(cannot()))?;
        let mut names = Vec::new();
        for entry in opened.iter() {
            let entry = entry.map_err(Error::io(cannot()))?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Opens the file `name` in here to lock it, and makes an empty one where there is none.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        file.map(File::from)
            .map_err(Error::io(format!("{} cannot be opened", self.path(name))))
    }

    /// The regular file `name` in here. `None`: there is nothing of that name.
    ///
    /// # Errors
    ///
    /// It is something else, it is too large to be what is looked for, or it cannot be read.
    pub(super) fn read(&self, name: &OsStr) -> Result<Option<Found>, Error> {
        let cannot = || format!("{} cannot be read", self.path(name));
        if self.regular(name)?.is_none() {
            return Ok(None);
        }
        // Another thing may have come in its place since: no link is followed, and no FIFO waited for.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => File::from(opened.map_err(Error::io(cannot()))?),
        };
        let stat = fstat(&file).map_err(Error::io(cannot()))?;
        if let Some(what) = no_file(&stat) {
            return Err(self.is_no_file(name, what));
        }
        let mut content = Vec::new();
        file.take(READ_LIMIT + 1)
            .read_to_end(&mut content)
            .map_err(Error::io(cannot()))?;
        if content.len() as u64 > READ_LIMIT {
            let why = format!("{} has more than the {READ_LIMIT} bytes that are read", self.path(name));
            return Err(Error::Refused(why));
        }
        Ok(Some(Found { content, stat }))
    }

    /// Removes the regular file `name` in here. False: there is nothing of that name.
    ///
    /// # Errors
    ///
    /// It is something else, or cannot be removed.
    pub(super) fn remove(&self, name: &OsStr) -> Result<bool, Error> {
        if self.regular(name)?.is_none() {
            return Ok(false);
        }
        // A directory that came in its place is not removed by this call.
        match unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(Error::io(format!("{} cannot be removed", self.path(name)))(error)),
        }
    }

    /// The same, if it is still the file that was `found`.
    ///
    /// # Errors
    ///
    /// As [`Self::remove`]'s, and another file has taken its place, or it was written to.
    pub(super) fn remove_found(&self, name: &OsStr, found: &Found) -> Result<bool, Error> {
        let of = |stat: &FileStat| {
            let times = (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec);
            (stat.st_dev, stat.st_ino, stat.st_size, times)
        };
        match self.regular(name)? {
            Some(now) if of(&now) != of(&found.stat) => Err(Error::Refused(format!(
                "{} was written anew in this very moment: try again",
                self.path(name)
            ))),
            _ => self.remove(name),
        }
    }

    fn regular(&self, name: &OsStr) -> Result<Option<FileStat>, Error> {
        match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(Error::io(format!("{} cannot be looked at", self.path(name)))(error)),
            Ok(stat) => match no_file(&stat) {
                Some(what) => Err(self.is_no_file(name, what)),
                None => Ok(Some(stat)),
            },
        }
    }

    fn is_no_file(&self, name: &OsStr, what: &str) -> Error {
        let path = self.path(name);
        Error::Refused(format!("{path} is {what}: nothing but a regular file is removed"))
    }
}

/// Opens `path` below `base` name by name. It has no links any more: one that comes in meanwhile is an error.
fn descend(base: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open(base, flags, Mode::empty())?;
    let below = path.strip_prefix(base).map_err(io::Error::other)?;
    for part in below.components() {
        if let Component::Normal(name) = part {
            at = openat(&at, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        }
    }
    Ok(at)
}

/// What it is where it is no regular file.
fn no_file(stat: &FileStat) -> Option<&'static str> {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => None,
        SFlag::S_IFDIR => Some("a directory"),
        SFlag::S_IFLNK => Some("a symbolic link"),
        SFlag::S_IFIFO => Some("a FIFO"),
        SFlag::S_IFSOCK => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn host() -> (tempfile::TempDir, HostRoot) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("host");
        fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
        fs::write(root.join("etc/cni/net.d/a.conf"), "a").unwrap();
        (outer, HostRoot::new(root))
    }

    fn words(done: Result<Directory, Error>) -> String {
        done.unwrap_err().to_string()
    }

    #[test]
    fn a_link_of_the_host_leads_below_its_root() {
        let (outer, root) = host();
        symlink("/etc/cni", root.base().join("cni")).unwrap();
        fs::create_dir_all(outer.path().join("etc/cni/net.d")).unwrap();
        let (directory, name) = Directory::of(&root, Path::new("/cni/net.d/a.conf")).unwrap();
        assert_eq!(directory.read(name).unwrap().unwrap().content, b"a");
        assert!(directory.remove(name).unwrap());
        assert!(!root.base().join("etc/cni/net.d/a.conf").exists());
    }

    #[test]
    fn a_link_that_climbs_out_of_the_root_leads_nowhere() {
        let (outer, root) = host();
        fs::create_dir(outer.path().join("outside")).unwrap();
        fs::write(outer.path().join("outside/a.conf"), "a").unwrap();
        symlink("../../outside", root.base().join("etc/out")).unwrap();
        symlink(outer.path().join("outside"), root.base().join("etc/far")).unwrap();
        for path in ["/etc/out", "/etc/far"] {
            let told = words(Directory::open(&root, Path::new(path)));
            assert!(told.contains("is the host's directory mounted?"), "{told}");
        }
    }

    #[test]
    fn a_link_that_comes_in_after_the_look_is_not_followed() {
        let (outer, root) = host();
        fs::create_dir(outer.path().join("outside")).unwrap();
        symlink(outer.path().join("outside"), root.base().join("etc/late")).unwrap();
        let error = descend(root.base(), &root.base().join("etc/late")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENOTDIR as i32), "{error}");
    }

    #[test]
    fn with_the_hosts_own_root_its_links_are_followed_too() {
        let (_outer, root) = host();
        symlink(root.base().join("etc"), root.base().join("link")).unwrap();
        let path = root.base().join("link/cni/net.d/a.conf");
        let (directory, name) = Directory::of(&HostRoot::new("/"), &path).unwrap();
        assert!(directory.remove(name).unwrap());
        assert!(!root.base().join("etc/cni/net.d/a.conf").exists());
    }

    #[test]
    fn a_file_that_was_written_since_it_was_read_stays() {
        let (_outer, root) = host();
        let path = Path::new("/etc/cni/net.d/a.conf");
        let (directory, name) = Directory::of(&root, path).unwrap();
        let at = root.base().join("etc/cni/net.d/a.conf");

        // Written in place, to the same length.
        let found = directory.read(name).unwrap().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::write(&at, "b").unwrap();
        let error = directory.remove_found(name, &found).unwrap_err().to_string();
        assert!(error.contains("was written anew"), "{error}");

        // Replaced as programs do it.
        let found = directory.read(name).unwrap().unwrap();
        fs::write(at.with_extension("tmp"), "b").unwrap();
        fs::rename(at.with_extension("tmp"), &at).unwrap();
        assert!(directory.remove_found(name, &found).is_err());
        assert_eq!(fs::read_to_string(&at).unwrap(), "b");

        let found = directory.read(name).unwrap().unwrap();
        assert!(directory.remove_found(name, &found).unwrap());
        assert!(!directory.remove_found(name, &found).unwrap());
    }

    #[test]
    fn what_is_too_large_to_be_meant_is_not_read() {
        let (_outer, root) = host();
        let path = Path::new("/etc/cni/net.d/a.conf");
        let file = File::create(root.base().join("etc/cni/net.d/a.conf")).unwrap();
        file.set_len(READ_LIMIT + 1).unwrap();
        let (directory, name) = Directory::of(&root, path).unwrap();
        let error = directory.read(name).unwrap_err().to_string();
        assert!(error.contains("more than the 1048576 bytes"), "{error}");
    }
}
