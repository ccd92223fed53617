//! A directory of small files of which each is read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::observe::root::{HostRoot, ReadError};

/// Looks in which a directory that is as it was is believed to hold what it held: with one in 10 s, almost a minute. Files
/// come and go by its own time; only what is written in place, into a file that is there, is seen that much later.
const CALM: u32 = 5;

/// What changed this recently may be about to change again, without another time: kernels' clocks tick, some file systems'
/// in whole seconds.
const RECENT: Duration = Duration::from_secs(3);

/// What was read of a directory's files. A file that is as it was is not opened again: its name is listed and its
/// metadata asked for, which costs a microsecond or two; and not even that while the directory itself is as it was.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    books: BTreeMap<OsString, Book<T>>,
    limits: Limits,
    calm: Option<Calm>,
}

/// A directory that nothing has come to or gone from for a while.
#[derive(Debug, Clone, Copy)]
struct Calm {
    stamp: Stamp,
    survey: Survey,
    /// Looks that may still believe it.
    left: u32,
}

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Entries of the directory at most; one with more is not read at all.
    pub entries: usize,
    /// Files kept at most: the newest.
    pub files: usize,
    /// Bytes of a file at most.
    pub bytes: u64,
    /// A file that has gone is told in one more look.
    pub linger: bool,
}

#[derive(Debug)]
struct Book<T> {
    stamp: Stamp,
    content: Result<T, String>,
    gone: bool,
}

/// A file with the same of all these has the same content. Writing changes the time; of two writes within one tick of
/// the kernel's clock (4 ms) the second changes the size, since these files are only ever written from empty to full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    /// The system said no.
    #[error("{}: {error}{}", path.display(), advice(error))]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// More than anybody should have.
    #[error("{} has more than {limit} entries: it is not read", path.display())]
    Crowded {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run as root to read it",
        _ => "",
    }
}

impl ShelfError {
    fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { path, error }
    }

    /// True when there is no such directory.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What there is in a directory, besides what was read of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Files that are read.
    pub read: usize,
    /// Files that were left out because there are newer ones.
    pub older: usize,
}

/// A file to be read: what of it is wanted is told by its name alone.
pub(super) struct Page<'a> {
    /// File name.
    pub name: &'a OsStr,
    /// What it holds, or why that is not read: too long, no file any more.
    pub content: Result<&'a [u8], String>,
    /// mtime.
    pub modified: Option<Timestamp>,
}

impl<T> Shelf<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            books: BTreeMap::new(),
            limits,
            calm: None,
        }
    }

    /// Looks at the files whose names are `wanted`; those that are new are read and parsed. A file that does not
    /// parse is kept as such until it changes.
    pub(super) fn look(
        &mut self,
        root: &HostRoot,
        directory: &Path,
        wanted: impl Fn(&OsStr) -> bool,
        parse: impl Fn(&Page<'_>) -> Result<T, String>,
    ) -> Result<Survey, ShelfError> {
        // Asked before it is listed: what comes while it is changes its time.
        let before = root.resolve(directory).and_then(|path| path.metadata());
        let before = before.map_err(|error| ShelfError::io(directory, error))?;
        if let Some(survey) = self.still(&before) {
            return Ok(survey);
        }
        let survey = self.look_at_all(root, directory, wanted, parse)?;
        self.calm = self.rests(&before).then(|| Calm {
            stamp: stamp(&before),
            survey,
            left: CALM,
        });
        Ok(survey)
    }

    /// What was found last, if the directory is as it was and that is not too long ago.
    fn still(&mut self, directory: &Metadata) -> Option<Survey> {
        let mut calm = self.calm.take().filter(|calm| calm.stamp == stamp(directory))?;
        calm.left = calm.left.checked_sub(1)?;
        self.calm = Some(calm);
        Some(calm.survey)
    }

    /// Nothing of it changed lately, and nothing that has gone is still to be told.
    fn rests(&self, directory: &Metadata) -> bool {
        let now = SystemTime::now();
        let old = |time: Option<SystemTime>| {
            time.and_then(|time| now.duration_since(time).ok())
                .is_some_and(|age| age > RECENT)
        };
        old(directory.modified().ok()) && self.books.values().all(|book| !book.gone && old(book.stamp.modified))
    }

    fn look_at_all(
        &mut self,
        root: &HostRoot,
        directory: &Path,
        wanted: impl Fn(&OsStr) -> bool,
        parse: impl Fn(&Page<'_>) -> Result<T, String>,
    ) -> Result<Survey, ShelfError> {
        let listed = list(root, directory, self.limits.entries)?;
        let mut files: Vec<(OsString, Metadata)> = listed
            .into_iter()
            .filter(|(name, metadata)| metadata.is_file() && wanted(name))
            .collect();
        let older = files.len().saturating_sub(self.limits.files);
        if older > 0 {
            files.sort_by_key(|(_, metadata)| std::cmp::Reverse(metadata.modified().ok()));
            files.truncate(self.limits.files);
        }
        let read = files.len();
        let mut before = std::mem::take(&mut self.books);
        for (name, metadata) in files {
            let stamp = stamp(&metadata);
            let known = before.remove(&name).filter(|book| book.stamp == stamp);
            let book = match known {
                Some(book) => Some(Book { gone: false, ..book }),
                None => self.read(root, directory, &name, stamp, &parse)?,
            };
            self.books.extend(book.map(|book| (name, book)));
        }
        if self.limits.linger {
            let left = before.into_iter().filter(|(_, book)| !book.gone);
            self.books
                .extend(left.map(|(name, book)| (name, Book { gone: true, ..book })));
        }
        Ok(Survey { read, older })
    }

    /// `None`: it has gone since it was listed.
    fn read(
        &self,
        root: &HostRoot,
        directory: &Path,
        name: &OsStr,
        stamp: Stamp,
        parse: impl Fn(&Page<'_>) -> Result<T, String>,
    ) -> Result<Option<Book<T>>, ShelfError> {
        let path = directory.join(name);
        let read = match root.read(&path, self.limits.bytes) {
            Ok((bytes, _)) => Ok(bytes),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What is refused once may be allowed without the file changing: the directory is told as unreadable.
            Err(ReadError::Io(error)) => return Err(ShelfError::io(&path, error)),
            Err(error) => Err(error.to_string()),
        };
        let content = parse(&Page {
            name,
            content: read.as_deref().map_err(Clone::clone),
            modified: stamp.modified.and_then(|time| Timestamp::try_from(time).ok()),
        });
        Ok(Some(Book {
            stamp,
            content,
            gone: false,
        }))
    }

    /// What was read, in the order of the files' names.
    pub(super) fn contents(&self) -> impl Iterator<Item = &T> {
        self.books.values().filter_map(|book| book.content.as_ref().ok())
    }

    /// Files that could not be made sense of, and why.
    pub(super) fn senseless(&self) -> impl Iterator<Item = (&OsStr, &str)> {
        self.books
            .iter()
            .filter_map(|(name, book)| Some((name.as_os_str(), book.content.as_ref().err()?.as_str())))
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        modified: metadata.modified().ok(),
        size: metadata.len(),
        inode: metadata.ino(),
    }
}

/// Everything in a directory; what goes while it is listed is left out.
pub(super) fn list(root: &HostRoot, directory: &Path, limit: usize) -> Result<Vec<(OsString, Metadata)>, ShelfError> {
    let failed = |error| ShelfError::io(directory, error);
    let entries = root
        .resolve(directory)
        .and_then(|path| path.read_dir())
        .map_err(failed)?;
    let mut listed = Vec::new();
    for entry in entries {
        if listed.len() >= limit {
            let path = directory.to_owned();
            return Err(ShelfError::Crowded { path, limit });
        }
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(metadata) => listed.push((entry.file_name(), metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const LIMITS: Limits = Limits {
        entries: 8,
        files: 4,
        bytes: 16,
        linger: false,
    };

    struct Place {
        dir: tempfile::TempDir,
        shelf: Shelf<String>,
        parsed: Cell<usize>,
    }

    impl Place {
        fn new(limits: Limits) -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                shelf: Shelf::new(limits),
                parsed: Cell::new(0),
            }
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.dir.path().join(name), text).unwrap();
        }

        /// Everything is as it was an hour ago.
        fn rest(&self) {
            let past = SystemTime::now() - Duration::from_secs(3600);
            for entry in std::fs::read_dir(self.dir.path()).unwrap() {
                let file = std::fs::File::open(entry.unwrap().path()).unwrap();
                file.set_modified(past).unwrap();
            }
            let directory = std::fs::File::open(self.dir.path()).unwrap();
            directory.set_modified(past).unwrap();
        }

        fn remove(&self, name: &str) {
            std::fs::remove_file(self.dir.path().join(name)).unwrap();
        }

        fn look(&mut self) -> Result<Survey, ShelfError> {
            let root = HostRoot::new(self.dir.path());
            self.shelf.look(
                &root,
                Path::new("/"),
                |_| true,
                |page| {
                    self.parsed.set(self.parsed.get() + 1);
                    let text = String::from_utf8_lossy(page.content.clone()?).into_owned();
                    if text.contains('{') {
                        Err("torn".into())
                    } else {
                        Ok(text)
                    }
                },
            )
        }

        fn texts(&self) -> Vec<&str> {
            self.shelf.contents().map(String::as_str).collect()
        }
    }

    #[test]
    fn what_has_not_changed_is_not_read_again_and_what_has_is() {
        let mut place = Place::new(LIMITS);
        place.write("a", "1");
        place.write("b", "{");
        for _ in 0..3 {
            place.look().unwrap();
            assert_eq!((place.parsed.get(), place.texts()), (2, vec!["1"]));
        }
        assert_eq!(place.shelf.senseless().next().unwrap().1, "torn");
        place.write("b", "{} and whole"[3..].trim());
        place.look().unwrap();
        assert_eq!((place.parsed.get(), place.texts()), (3, vec!["1", "and whole"]));
        place.remove("a");
        place.look().unwrap();
        assert_eq!(place.texts(), ["and whole"]);
    }

    #[test]
    fn a_directory_that_rests_is_not_listed_and_wakes_by_what_comes_and_in_the_end_by_itself() {
        let mut place = Place::new(LIMITS);
        place.write("a", "1");
        place.write("b", "2");
        place.rest();
        place.look().unwrap();
        assert_eq!(place.texts(), ["1", "2"]);
        // Written in place: the directory's time stays, and the next looks believe it.
        place.write("a", "one");
        for _ in 0..CALM {
            assert_eq!(place.look().unwrap(), Survey { read: 2, older: 0 });
            assert_eq!(place.texts(), ["1", "2"]);
        }
        place.look().unwrap();
        assert_eq!(place.texts(), ["one", "2"], "seen in the end");
        place.rest();
        place.look().unwrap();
        // Something that comes or goes is seen at once.
        place.write("c", "3");
        place.look().unwrap();
        assert_eq!(place.texts(), ["one", "2", "3"]);
        place.rest();
        place.look().unwrap();
        place.remove("b");
        place.look().unwrap();
        assert_eq!(place.texts(), ["one", "3"]);
    }

    #[test]
    fn a_directory_with_something_new_does_not_rest() {
        let mut place = Place::new(LIMITS);
        place.write("a", "1");
        place.look().unwrap();
        place.write("a", "one");
        place.look().unwrap();
        assert_eq!(place.texts(), ["one"]);
    }

    #[test]
    fn a_file_that_has_gone_is_told_once_more_where_that_is_wanted() {
        let mut place = Place::new(Limits { linger: true, ..LIMITS });
        place.write("a", "1");
        place.look().unwrap();
        place.remove("a");
        place.look().unwrap();
        assert_eq!(place.texts(), ["1"]);
        place.look().unwrap();
        assert_eq!(place.texts(), [""; 0]);
    }

    #[test]
    fn a_large_file_is_senseless_and_a_fifo_is_no_file() {
        let mut place = Place::new(LIMITS);
        place.write("a", "more than sixteen bytes");
        nix::unistd::mkfifo(&place.dir.path().join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(place.look().unwrap(), Survey { read: 1, older: 0 });
        let (name, why) = place.shelf.senseless().next().unwrap();
        assert_eq!(
            (name.to_str(), why),
            (Some("a"), "it is 23 bytes long, more than the 16 that are read")
        );
    }

    #[test]
    fn of_too_many_files_the_newest_are_read_and_a_crowded_directory_is_not() {
        let mut place = Place::new(LIMITS);
        for at in 0..6u64 {
            place.write(&at.to_string(), &at.to_string());
            let file = std::fs::File::options()
                .write(true)
                .open(place.dir.path().join(at.to_string()))
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at))
                .unwrap();
        }
        assert_eq!(place.look().unwrap(), Survey { read: 4, older: 2 });
        assert_eq!(place.texts(), ["2", "3", "4", "5"]);
        for at in 6..9 {
            place.write(&at.to_string(), "");
        }
        assert_eq!(
            place.look().unwrap_err().to_string(),
            "/ has more than 8 entries: it is not read"
        );
    }
}
