//! Programs that the lab starts never outlive it, however it ends.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cidrift_lab::require::{Need, have};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far more than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A demo whose programs only write down their process ids and sleep.
struct Demo {
    child: Child,
    directory: tempfile::TempDir,
}

impl Demo {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("programs");
        let files = directory.path().join("files");
        fs::create_dir(&programs).unwrap();
        fs::create_dir(&files).unwrap();
        symlink(env!("CARGO_BIN_EXE_cidrift-lab"), programs.join("cidrift-lab")).unwrap();
        for name in [
            "cidrift-agent",
            "cidrift-errand",
            "cidrift-aggregator",
            "kubectl-cidrift",
        ] {
            let program = programs.join(name);
            fs::write(&program, "#!/bin/sh\necho $$ >> \"$0.pids\"\nexec sleep 1000\n").unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let child = Command::new(env!("CARGO_BIN_EXE_cidrift-lab"))
            .arg("demo")
            .env("CIDRIFT_BIN_DIR", &programs)
            .env("TMPDIR", &files)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    /// The process ids, once all four programs are there.
    fn programs(&self) -> Vec<PathBuf> {
        let read = |name: &str| {
            let path = self.directory.path().join("programs").join(name);
            fs::read_to_string(path).unwrap_or_default()
        };
        let mut found = Vec::new();
        wait_until(|| {
            let pids = read("cidrift-agent.pids") + &read("cidrift-aggregator.pids");
            found = pids.lines().map(|pid| Path::new("/proc").join(pid)).collect();
            found.len() == 4
        });
        found
    }

    fn files(&self) -> usize {
        fs::read_dir(self.directory.path().join("files")).unwrap().count()
    }
}

fn wait_until(mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "it did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_programs_of_a_killed_lab_are_killed_with_it() {
    if !have(Need::Netns) {
        return;
    }
    let mut demo = Demo::start();
    let programs = demo.programs();
    demo.child.kill().unwrap();
    demo.child.wait().unwrap();
    wait_until(|| programs.iter().all(|process| !process.exists()));
}

#[test]
fn an_interrupted_lab_leaves_neither_programs_nor_files() {
    if !have(Need::Netns) {
        return;
    }
    let mut demo = Demo::start();
    let programs = demo.programs();
    assert_eq!(demo.files(), 1);
    kill(Pid::from_raw(demo.child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(demo.child.wait().unwrap().code(), Some(130));
    wait_until(|| programs.iter().all(|process| !process.exists()));
    assert_eq!(demo.files(), 0);
}
