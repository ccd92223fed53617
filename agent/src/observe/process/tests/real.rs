//! Looks at this machine's own processes.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;

/// A shell by another name, which waits for its input to end.
struct Real {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Real {
    fn start(name: &str, words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join(name);
        std::fs::copy("/bin/sh", &program).unwrap();
        let child = Command::new(&program)
            .args(["-c", "read forever"])
            .args(words)
            .stdin(Stdio::piped())
            .spawn();
        Self {
            child: child.unwrap(),
            _dir: dir,
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_process_is_found_with_its_flags_and_its_start_and_is_missed_when_it_ended() {
    let mut reader = ProcessReader::new(HostRoot::new("/"));
    let before = Timestamp::now();
    let real = Real::start("kubelet", &["--node-ip=192.0.2.7", "--token=secret"]);
    let pid = real.child.id();
    let mine = |reader: &mut ProcessReader| found(reader).into_iter().find(|process| process.pid == pid);
    // It is a copy of this test until it runs its own program.
    let patience = Instant::now();
    let seen = loop {
        match mine(&mut reader) {
            Some(seen) => break seen,
            None if patience.elapsed() > Duration::from_secs(20) => panic!("it was not found"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert_eq!((seen.program, seen.embedded_in), (Program::Kubelet, None));
    assert_eq!(seen.settings["node-ip"].value, "192.0.2.7");
    assert_eq!(seen.settings.len(), 1);
    let age = before.duration_since(seen.started_at.unwrap()).as_secs().abs();
    assert!(age <= 2, "it started {age} s away from now");
    drop(real);
    assert_eq!(mine(&mut reader), None);
}

/// Nanoseconds that this thread has had a processor; the kernel's own count, whoever else is busy.
fn spent() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The look that runs every 10 s has 0.2 % of a core for all observers: 20 ms. This one's own share is far less; an
/// unoptimised build may take all of it.
#[test]
fn a_look_at_this_machine_is_cheap() {
    let mut reader = ProcessReader::new(HostRoot::new("/"));
    for _ in 0..8 {
        reader.look(Timestamp::now());
    }
    let Some(start) = spent() else { return };
    for _ in 0..6 {
        reader.look(Timestamp::now());
    }
    let each = Duration::from_nanos((spent().unwrap() - start) / 6);
    println!("{each:?} of a processor a look");
    assert!(each < Duration::from_millis(20), "{each:?}");
}
