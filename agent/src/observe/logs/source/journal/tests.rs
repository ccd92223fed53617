//! journalctl by scripts that behave as it does, well and badly.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Taken {
    lines: Vec<(String, Option<Timestamp>, String)>,
    gaps: usize,
}

impl Sink for Taken {
    fn line(&mut self, stream: &str, at: Option<Timestamp>, line: &str) {
        self.lines.push((stream.to_owned(), at, line.to_owned()));
    }

    fn gap(&mut self) {
        self.gaps += 1;
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

/// A journal whose journalctl is this script; it notes its arguments.
fn journal(script: &str, started: Option<Timestamp>) -> (tempfile::TempDir, JournalSource) {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("journalctl");
    let arguments = dir.path().join("arguments");
    fs::write(
        &program,
        format!("#!/bin/sh\necho \"$*\" >> {}\n{script}\n", arguments.display()),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(dir.path().join("journal/3f2a")).unwrap();
    let query = Query {
        units: vec!["containerd.service".into(), "kubelet.service".into()],
        kubelet: vec!["kubelet.service".into()],
        started,
    };
    let source = JournalSource::new(program, vec![dir.path().join("journal")], true, query);
    (dir, source)
}

fn arguments(dir: &tempfile::TempDir) -> Vec<String> {
    let text = fs::read_to_string(dir.path().join("arguments")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// As systemd 252 prints it.
const ENTRY: &str = r#"{"__CURSOR":"s=49a1;i=2;b=3dc2","__REALTIME_TIMESTAMP":"1790000000123456","__MONOTONIC_TIMESTAMP":"47","_BOOT_ID":"3dc2","_SYSTEMD_UNIT":"kubelet.service","MESSAGE":"I1125 07:22:16.893408      18 k.go:48] hello"}"#;

#[test]
fn entries_are_followed_by_their_cursor() {
    let (dir, mut source) = journal(&format!("echo '{ENTRY}'"), None);
    let mut taken = Taken::default();
    source.read(now(), &mut taken).unwrap();
    let (unit, at, line) = &taken.lines[0];
    assert_eq!((unit.as_str(), line.ends_with("hello")), ("kubelet.service", true));
    assert_eq!(at.unwrap().as_microsecond(), 1_790_000_000_123_456);
    source.read(now(), &mut taken).unwrap();
    assert_eq!(arguments(&dir).len(), 1, "not with every look");
    source.read(now() + PERIOD, &mut taken).unwrap();
    let asked = arguments(&dir);
    assert!(asked[0].contains("--since=@1789999100 --lines 20000"), "{asked:?}");
    assert!(
        asked[0].contains("--unit=containerd.service --unit=kubelet.service"),
        "{asked:?}"
    );
    assert!(asked[0].contains("--directory "), "{asked:?}");
    assert!(asked[1].contains("--after-cursor=s=49a1;i=2;b=3dc2"), "{asked:?}");
}

#[test]
fn a_kubelet_that_runs_for_long_is_read_from_its_start_once() {
    let (dir, mut source) = journal(&format!("echo '{ENTRY}'"), Some(now() - SignedDuration::from_hours(50)));
    let mut taken = Taken::default();
    source.read(now(), &mut taken).unwrap();
    source.read(now() + PERIOD, &mut taken).unwrap();
    let asked = arguments(&dir);
    assert_eq!((asked.len(), taken.gaps), (3, 0));
    assert!(
        asked[0].contains("--since=@1789819999") && !asked[0].contains("containerd"),
        "{asked:?}"
    );
}

#[test]
fn nothing_is_asked_while_nothing_is_written() {
    let (dir, mut source) = journal(&format!("echo '{ENTRY}'"), None);
    fs::write(dir.path().join("journal/3f2a/system.journal"), "x").unwrap();
    let mut taken = Taken::default();
    source.read(now(), &mut taken).unwrap();
    source.read(now() + PERIOD, &mut taken).unwrap();
    assert_eq!(arguments(&dir).len(), 1);
    let file = fs::File::options()
        .write(true)
        .open(dir.path().join("journal/3f2a/system.journal"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    source.read(now() + PERIOD + PERIOD, &mut taken).unwrap();
    assert_eq!(arguments(&dir).len(), 2);
}

#[test]
fn one_that_hangs_is_killed_and_is_the_reason() {
    let (_dir, mut source) = journal("sleep 60", None);
    let started = Instant::now();
    let error = source.read(now(), &mut Taken::default()).unwrap_err();
    assert_eq!(error.to_string(), "journalctl did not answer within 5 s");
    assert!(!error.is_absent());
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn one_that_floods_is_stopped_and_goes_on_where_it_was() {
    let (dir, mut source) = journal(&format!("yes '{ENTRY}'"), None);
    let mut taken = Taken::default();
    source.read(now(), &mut taken).unwrap();
    assert!(
        taken.lines.len() * ENTRY.len() <= LIMITS.bytes + (1 << 20),
        "{}",
        taken.lines.len()
    );
    source.read(now() + PERIOD, &mut taken).unwrap();
    assert!(arguments(&dir)[1].contains("--after-cursor="));
}

#[test]
fn a_backlog_that_does_not_end_is_a_gap() {
    let script = format!("case \"$*\" in *containerd*) echo '{ENTRY}';; *) yes '{ENTRY}';; esac");
    let (_dir, mut source) = journal(&script, Some(now() - SignedDuration::from_hours(50)));
    let mut taken = Taken::default();
    source.read(now(), &mut taken).unwrap();
    assert_eq!(taken.gaps, 1);
}

#[test]
fn one_that_fails_says_why_and_one_that_is_not_there_is_absent() {
    let (_dir, mut source) = journal(
        "echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1",
        None,
    );
    let error = source.read(now(), &mut Taken::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "journalctl: No journal files were opened due to insufficient permissions."
    );
    source.program = PathBuf::from("/nowhere/journalctl");
    source.looked = None;
    assert!(source.read(now(), &mut Taken::default()).unwrap_err().is_absent());
}

#[test]
fn a_message_may_be_bytes_or_several_or_nothing() {
    let read = |message: &str| Row::read(&format!("{{\"MESSAGE\":{message}}}")).map(|row| row.message);
    assert_eq!(read("\"a\"").as_deref(), Some("a"));
    assert_eq!(read("[97,98,255]").as_deref(), Some("ab\u{fffd}"));
    assert_eq!(read("[\"a\",\"b\"]").as_deref(), Some("a"));
    assert_eq!(read("[[1],[2]]").as_deref(), Some(""));
    assert_eq!(read("null").as_deref(), Some(""));
    assert_eq!(read("torn"), None);
}

#[test]
fn a_directory_without_machines_is_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().to_owned(), dir.path().join("nowhere")];
    assert_eq!(JournalSource::present(&paths).unwrap(), Vec::<PathBuf>::new());
    fs::create_dir(dir.path().join("3f2a")).unwrap();
    assert_eq!(JournalSource::present(&paths).unwrap(), paths[..1]);
}

proptest! {
    #[test]
    fn any_line_is_read_without_a_panic(line in "(\\{\"MESSAGE\":)?\\PC{0,100}\\}?") {
        let _ = Row::read(&line);
    }

    #[test]
    fn any_message_reads_back(message in "\\PC{0,100}") {
        let line = serde_json::json!({ "MESSAGE": message, "__CURSOR": "c" }).to_string();
        prop_assert_eq!(Row::read(&line).map(|row| row.message), Some(message));
    }
}
