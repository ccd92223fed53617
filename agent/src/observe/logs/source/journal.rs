//! systemd's journal, through journalctl: its files have no reader in Rust that is kept up, and journalctl knows
//! every version of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::super::lines::Lines;
use super::super::tally::WINDOW;
use super::child::{End, Limits, run};
use super::{LogError, LogSource, Sink};

/// journalctl opens all files of the journal, which takes some ten milliseconds: not with every look. Failures are
/// judged over minutes.
const PERIOD: SignedDuration = SignedDuration::from_secs(30);

/// Lines of the window at most, the newest: a busy kubelet writes some ten a second.
const FIRST: &str = "20000";

/// 20,000 lines of about 1 KiB of JSON, and half as much again.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    bytes: 32 << 20,
};

/// What the kubelet said since it started is read once; journalctl gives about 10 MiB a second.
const BACKLOG: Limits = Limits {
    time: Duration::from_secs(5),
    bytes: 64 << 20,
};

/// Directories below /var/log/journal that are looked at: one for each machine id, and namespaces.
const MACHINES: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Query {
    /// Units: "kubelet.service".
    pub(in super::super) units: Vec<String>,
    /// Those of them in which the kubelet speaks.
    pub(in super::super) kubelet: Vec<String>,
    /// When the kubelet started.
    pub(in super::super) started: Option<Timestamp>,
}

/// Follows the journal.
#[derive(Debug)]
pub(in super::super) struct JournalSource {
    program: PathBuf,
    /// Where its files are.
    directories: Vec<PathBuf>,
    /// Whether journalctl must be told so: they are another machine's.
    elsewhere: bool,
    query: Query,
    cursor: Option<String>,
    looked: Option<Timestamp>,
    written: Option<SystemTime>,
}

impl JournalSource {
    /// The journal whose files are in these directories; `elsewhere` where they are not this program's own machine's.
    pub(in super::super) fn new(program: PathBuf, directories: Vec<PathBuf>, elsewhere: bool, query: Query) -> Self {
        Self {
            program,
            directories,
            elsewhere,
            query,
            cursor: None,
            looked: None,
            written: None,
        }
    }

    /// The directories of these that hold a journal.
    pub(in super::super) fn present(directories: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in directories {
            match machines(directory) {
                Ok(machines) if machines.is_empty() => {}
                Ok(_) => found.push(directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// When the system's journal was last written; journald touches its file with every entry.
    fn written(&self) -> Option<SystemTime> {
        let machines = self
            .directories
            .iter()
            .flat_map(|directory| machines(directory).unwrap_or_default());
        let files = machines.map(|machine| machine.join("system.journal"));
        files.filter_map(|file| fs::metadata(file).ok()?.modified().ok()).max()
    }

    fn command(&self, units: &[String], more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("LC_ALL", "C")
            // --all: else fields of more than 4096 bytes are left out.
            .args(["--output=json", "--all", "--no-pager", "--quiet"])
            .arg("--output-fields=MESSAGE,_SYSTEMD_UNIT")
            .args(units.iter().map(|unit| format!("--unit={unit}")))
            .args(more);
        // journalctl takes one directory; /var/log/journal stands first.
        if let Some(directory) = self.directories.first().filter(|_| self.elsewhere) {
            command.arg("--directory").arg(directory);
        }
        command
    }

    /// Runs journalctl. True: it gave all that there is.
    fn ask(
        &mut self,
        mut command: Command,
        limits: Limits,
        follow: bool,
        sink: &mut dyn Sink,
    ) -> Result<bool, LogError> {
        let mut lines = Lines::default();
        let mut cursor = None;
        let end = run(&mut command, limits, &mut |bytes| {
            lines.push(bytes, &mut |line| {
                if let Some(row) = Row::read(line) {
                    sink.line(&row.unit, row.at, &row.message);
                    cursor = row.cursor.or(cursor.take());
                }
            });
        });
        let end = end.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::NoJournalctl,
            _ => LogError::Io(error),
        })?;
        let came = cursor.is_some();
        if follow && came {
            self.cursor = cursor;
        }
        match end {
            End::Itself(status, _) if status.success() => Ok(true),
            End::Itself(status, complaint) => {
                // A cursor that means nothing any more is asked for once.
                self.cursor = None;
                let why = if complaint.is_empty() {
                    status.to_string()
                } else {
                    complaint
                };
                Err(LogError::Journalctl(why))
            }
            End::TooMuch => Ok(false),
            End::TooLong if came => Ok(false),
            End::TooLong => Err(LogError::Hangs(limits.time.as_secs())),
        }
    }
}

impl LogSource for JournalSource {
    fn read(&mut self, now: Timestamp, sink: &mut dyn Sink) -> Result<(), LogError> {
        let written = self.written();
        let soon = self.looked.is_some_and(|looked| now.duration_since(looked) < PERIOD);
        if self.looked.is_some() && (soon || written.is_some() && written == self.written) {
            return Ok(());
        }
        self.looked = Some(now);
        if let Some(cursor) = &self.cursor {
            let after = format!("--after-cursor={cursor}");
            let command = self.command(&self.query.units, &[&after]);
            // What is left over is read next time, if more is written or not.
            let whole = self.ask(command, LIMITS, true, sink)?;
            self.written = written.filter(|_| whole);
            return Ok(());
        }
        let window = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
        if let Some(started) = self.query.started.filter(|started| *started < window) {
            // A second earlier: procfs rounds the boot time.
            let since = format!("--since=@{}", started.as_second().saturating_sub(1));
            let command = self.command(&self.query.kubelet, &[&since]);
            match self.ask(command, BACKLOG, false, sink) {
                Ok(true) => {}
                Ok(false) | Err(LogError::Hangs(_)) => sink.gap(),
                Err(error) => return Err(error),
            }
        }
        let since = format!("--since=@{}", window.as_second());
        let command = self.command(&self.query.units, &[&since, "--lines", FIRST]);
        let whole = self.ask(command, LIMITS, true, sink)?;
        self.written = written.filter(|_| whole);
        Ok(())
    }
}

fn machines(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.take(MACHINES) {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// One entry of the journal.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    unit: String,
    at: Option<Timestamp>,
    message: String,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "MESSAGE")]
    message: Option<Value>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    unit: Option<Value>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    micros: Option<String>,
    #[serde(rename = "__CURSOR")]
    cursor: Option<String>,
}

impl Row {
    fn read(line: &str) -> Option<Self> {
        let raw: Raw = serde_json::from_str(line).ok()?;
        let micros = raw.micros.and_then(|text| text.parse::<i64>().ok());
        Some(Self {
            unit: raw.unit.map(text).unwrap_or_default(),
            at: micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            message: raw.message.map(text).unwrap_or_default(),
            cursor: raw.cursor,
        })
    }
}

/// A field: text; null where it is too long; an array of bytes where it is no UTF-8; an array of these where the
/// entry has it more than once.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(values) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            match values.iter().map(byte).collect::<Option<Vec<u8>>>() {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                None => values
                    .into_iter()
                    .next()
                    .map(|first| match first {
                        Value::String(text) => text,
                        _ => String::new(),
                    })
                    .unwrap_or_default(),
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
