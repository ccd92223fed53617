//! A file that grows, is rotated and is truncated.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use jiff::Timestamp;
use nix::libc;

use super::super::lines::Lines;
use super::{LogError, LogSource, Sink};

/// So much of a file is read in one look, from its end: a busy node's runtime and kubelet write some KiB a second,
/// so this is the window several times over, and 4 MiB are parsed in some ten milliseconds.
const MOST: u64 = 4 << 20;

const CHUNK: usize = 64 << 10;

/// Follows one.
#[derive(Debug)]
pub(in super::super) struct FileSource {
    path: PathBuf,
    open: Option<Open>,
    lines: Lines,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    offset: u64,
}

impl FileSource {
    /// The file that can be opened at `path`.
    pub(in super::super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            lines: Lines::default(),
        }
    }

    fn open(&self) -> Result<Open, LogError> {
        // O_NONBLOCK: opening a FIFO that nobody writes to must not hang.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(LogError::NotAFile);
        }
        Ok(Open {
            file,
            id: (metadata.dev(), metadata.ino()),
            offset: 0,
        })
    }

    /// Reads what is new in the file that is open.
    fn drain(&mut self, sink: &mut dyn Sink) -> Result<(), LogError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let size = open.file.metadata()?.len();
        if size < open.offset {
            // Truncated (copytruncate): what was written between the last look and that is lost.
            open.offset = 0;
            self.lines.restart();
            sink.gap();
        }
        if size - open.offset > MOST {
            if open.offset > 0 {
                sink.gap();
            }
            open.offset = size - MOST;
            self.lines.skip_first();
        }
        let mut buffer = vec![0; CHUNK];
        while open.offset < size {
            let count = open.file.read_at(&mut buffer, open.offset)?;
            if count == 0 {
                break;
            }
            open.offset += count as u64;
            self.lines.push(&buffer[..count], &mut |line| sink.line("", None, line));
        }
        Ok(())
    }
}

impl LogSource for FileSource {
    fn read(&mut self, _now: Timestamp, sink: &mut dyn Sink) -> Result<(), LogError> {
        // The old file to its end first, also where it was renamed or deleted.
        self.drain(sink)?;
        let id = std::fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()))?;
        if self.open.as_ref().is_some_and(|open| open.id == id) {
            return Ok(());
        }
        self.open = Some(self.open()?);
        self.lines.restart();
        self.drain(sink)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[derive(Default)]
    struct Taken {
        lines: Vec<String>,
        gaps: usize,
    }

    impl Sink for Taken {
        fn line(&mut self, _stream: &str, _at: Option<Timestamp>, line: &str) {
            self.lines.push(line.to_owned());
        }

        fn gap(&mut self) {
            self.gaps += 1;
        }
    }

    fn read(source: &mut FileSource) -> (Vec<String>, usize) {
        let mut taken = Taken::default();
        source.read(Timestamp::UNIX_EPOCH, &mut taken).unwrap();
        (taken.lines, taken.gaps)
    }

    fn append(path: &std::path::Path, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn log() -> (tempfile::TempDir, PathBuf, FileSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let source = FileSource::new(path.clone());
        (dir, path, source)
    }

    #[test]
    fn what_is_new_is_read_once_and_a_torn_line_when_it_is_whole() {
        let (_dir, path, mut source) = log();
        append(&path, b"one\ntw");
        assert_eq!(read(&mut source), (vec!["one".into()], 0));
        assert_eq!(read(&mut source), (vec![], 0));
        append(&path, b"o\nthree\n");
        assert_eq!(read(&mut source), (vec!["two".into(), "three".into()], 0));
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
        let (dir, path, mut source) = log();
        append(&path, b"one\n");
        read(&mut source);
        append(&path, b"two\n");
        fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        append(&path, b"three\n");
        assert_eq!(read(&mut source), (vec!["two".into(), "three".into()], 0));
        fs::remove_file(&path).unwrap();
        let mut taken = Taken::default();
        let error = source.read(Timestamp::UNIX_EPOCH, &mut taken).unwrap_err();
        assert!(error.is_absent(), "{error}");
        append(&path, b"four\n");
        assert_eq!(read(&mut source), (vec!["four".into()], 0));
    }

    #[test]
    fn a_truncated_file_is_read_from_its_beginning_and_has_a_gap() {
        let (_dir, path, mut source) = log();
        append(&path, b"one\ntwo\n");
        read(&mut source);
        fs::write(&path, b"new\n").unwrap();
        assert_eq!(read(&mut source), (vec!["new".into()], 1));
    }

    #[test]
    fn only_the_end_of_a_large_file_is_read() {
        let (_dir, path, mut source) = log();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        append(&path, &line.repeat(5 << 10));
        let (lines, gaps) = read(&mut source);
        assert_eq!((lines.len(), gaps), ((4 << 10) - 1, 0), "the first line is not whole");
        append(&path, &line.repeat(5 << 10));
        let (lines, gaps) = read(&mut source);
        assert_eq!((lines.len(), gaps), ((4 << 10) - 1, 1));
    }

    #[test]
    fn rubbish_and_a_line_of_ten_megabytes_do_not_hide_what_follows() {
        let (_dir, path, mut source) = log();
        append(&path, &[0, 255, 254, b'\n']);
        append(&path, &vec![0; 10 << 20]);
        append(&path, b"\nlast\n");
        let (lines, _) = read(&mut source);
        assert_eq!(lines.last().map(String::as_str), Some("last"));
    }

    #[test]
    fn a_fifo_and_a_directory_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [fifo, dir.path().to_owned()] {
            let error = FileSource::new(path).read(Timestamp::UNIX_EPOCH, &mut Taken::default());
            assert!(matches!(error, Err(LogError::NotAFile)), "{error:?}");
        }
    }
}
