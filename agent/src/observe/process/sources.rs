//! The files that a program's settings come from, remembered so that they are read again only when they changed.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::observe::root::{HostRoot, ReadError};

/// Larger files are not read. A ConfigMap, and any object of the API, is at most 1 MiB.
pub(super) const FILE_LIMIT: u64 = 1024 * 1024;

/// Directories of configuration and of manifests with more entries are not looked through.
const ENTRY_LIMIT: usize = 1000;

/// A program that read a file as it started may have a start time, which is known to a second, before the file's.
const START_SLACK_SECONDS: i64 = 2;

/// One state of a file or directory; whatever writes it changes one of these.
type State = Result<(u64, u64, u64, i64, i64), ErrorKind>;

/// What was read, as it was then.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    seen: Vec<(HostRoot, PathBuf, State)>,
    newest: Option<(PathBuf, i64)>,
}

impl Sources {
    /// A file's text. `None` when there is none; an error in the words of the person who must act.
    pub(super) fn read(&mut self, root: &HostRoot, path: &Path) -> Result<Option<String>, String> {
        // Its state goes first: a change while it is read is then seen at the next look.
        let state = self.watch(root, path);
        let told = |why: String| format!("{}: {why}", path.display());
        match root.read(path, FILE_LIMIT) {
            Ok((bytes, metadata)) => {
                if self.newest.as_ref().is_none_or(|(_, at)| *at < metadata.mtime()) {
                    self.newest = Some((path.to_owned(), metadata.mtime()));
                }
                String::from_utf8(bytes)
                    .map(Some)
                    .map_err(|_| told("it is not UTF-8 text".to_owned()))
            }
            Err(error) if error.is_not_found() || state == Err(ErrorKind::NotADirectory) => Ok(None),
            Err(ReadError::Io(error)) => Err(told(error.to_string())),
            Err(error) => Err(told(error.to_string())),
        }
    }

    /// The files in a directory whose names end in one of `endings`, in byte order; none where there is no directory.
    pub(super) fn list(&mut self, root: &HostRoot, dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, String> {
        let _ = self.watch(root, dir);
        let told = |why: String| format!("{}: {why}", dir.display());
        match root.list(dir, ENTRY_LIMIT) {
            Ok(Some(names)) => Ok(names
                .iter()
                .filter_map(|name| name.to_str())
                .filter(|name| !name.starts_with('.') && endings.iter().any(|ending| name.ends_with(ending)))
                .map(|name| dir.join(name))
                .collect()),
            Ok(None) => Err(told(format!("it has more than {ENTRY_LIMIT} entries"))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(error) => Err(told(error.to_string())),
        }
    }

    /// Remembers those of `other` too, but not that one of them is new.
    pub(super) fn add(&mut self, other: Self) {
        self.seen.extend(other.seen);
    }

    /// Whether everything is as it was.
    pub(super) fn unchanged(&self) -> bool {
        self.seen.iter().all(|(root, path, was)| state(root, path) == *was)
    }

    /// The newest file that was read, where it was written after `start`: the program may not have it yet.
    pub(super) fn written_after(&self, start: Timestamp) -> Option<&Path> {
        let (path, at) = self.newest.as_ref()?;
        (*at > start.as_second().saturating_add(START_SLACK_SECONDS)).then_some(path)
    }

    fn watch(&mut self, root: &HostRoot, path: &Path) -> State {
        let state = state(root, path);
        self.seen.push((root.clone(), path.to_owned(), state));
        state
    }
}

fn state(root: &HostRoot, path: &Path) -> State {
    let look = || -> io::Result<_> {
        let metadata = root.resolve(path)?.metadata()?;
        Ok((
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    };
    look().map_err(|error| error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_file_or_of_a_directory_is_seen_and_its_coming_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        let mut sources = Sources::default();
        assert_eq!(sources.read(&root, Path::new("/a.yaml")), Ok(None));
        assert_eq!(sources.list(&root, Path::new("/d"), &[".conf"]), Ok(vec![]));
        assert!(sources.unchanged());

        std::fs::write(dir.path().join("a.yaml"), "a: 1").unwrap();
        assert!(!sources.unchanged());
        let mut sources = Sources::default();
        assert_eq!(sources.read(&root, Path::new("/a.yaml")), Ok(Some("a: 1".into())));
        assert!(sources.unchanged());
        std::fs::write(dir.path().join("a.yaml"), "a: 22").unwrap();
        assert!(!sources.unchanged());
    }

    #[test]
    fn only_the_endings_asked_for_and_no_hidden_file() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["20-b.conf", "10-a.conf", ".swp.conf", "readme"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let listed = Sources::default().list(&HostRoot::new(dir.path()), Path::new("/"), &[".conf"]);
        assert_eq!(listed, Ok(vec!["/10-a.conf".into(), "/20-b.conf".into()]));
    }

    #[test]
    fn what_cannot_be_read_says_which_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        std::fs::write(dir.path().join("big"), vec![b' '; 1 + FILE_LIMIT as usize]).unwrap();
        std::fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
        let mut sources = Sources::default();
        let why = |sources: &mut Sources, path| sources.read(&root, Path::new(path)).unwrap_err();
        assert!(why(&mut sources, "/big").starts_with("/big: it is 1048577 bytes long"));
        assert_eq!(why(&mut sources, "/binary"), "/binary: it is not UTF-8 text");
        assert_eq!(why(&mut sources, "/"), "/: it is not a regular file");
    }

    #[test]
    fn a_file_written_after_the_start_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        std::fs::write(dir.path().join("a"), "").unwrap();
        let mut sources = Sources::default();
        sources.read(&root, Path::new("/a")).unwrap();
        let now = Timestamp::now();
        assert_eq!(sources.written_after(now), None);
        let hour = jiff::SignedDuration::from_hours(1);
        assert_eq!(sources.written_after(now - hour), Some(Path::new("/a")));
    }
}
