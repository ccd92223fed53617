//! The agent's own reader of processes, with real ones in network namespaces of their own.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cidrift_agent::observe::process::ProcessReader;
use cidrift_agent::observe::root::HostRoot;
use cidrift_agent::view::host::{Process, Program};
use cidrift_lab::netns::Netns;
use cidrift_lab::require::{Need, have};
use jiff::Timestamp;

/// Time for a child to run its own program, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell called kubelet, which waits until its input ends.
struct Kubelet(Child);

impl Kubelet {
    fn start(directory: &Path, netns: Option<&Netns>, node: &str) -> Self {
        let program = directory.join("kubelet");
        if !program.exists() {
            std::fs::copy("/bin/sh", &program).unwrap();
        }
        let mut command = Command::new(program);
        command.args(["-c", "read forever", node]).stdin(Stdio::piped());
        let child = match netns {
            Some(netns) => netns.spawn(&mut command),
            None => command.spawn(),
        };
        let child = Self(child.unwrap());
        let since = Instant::now();
        let comm = format!("/proc/{}/comm", child.0.id());
        while std::fs::read_to_string(&comm).unwrap() != "kubelet\n" {
            assert!(since.elapsed() < PATIENCE, "it never ran");
            sleep(Duration::from_millis(10));
        }
        child
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pids(reader: &mut ProcessReader) -> Vec<u32> {
    let processes: Vec<Process> = reader.look(Timestamp::now()).value.unwrap();
    let kubelets = processes
        .into_iter()
        .filter(|process| process.program == Program::Kubelet);
    kubelets.map(|process| process.pid).collect()
}

#[test]
fn a_kubelet_in_another_network_namespace_is_not_this_hosts() {
    if !have(Need::Netns) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let netns = Netns::new("nested").unwrap();
    let nested = Kubelet::start(directory.path(), Some(&netns), "--hostname-override=nested");
    let own = Kubelet::start(directory.path(), None, "--hostname-override=own");

    let mut reader = ProcessReader::new(HostRoot::new("/"));
    let seen = pids(&mut reader);
    assert!(seen.contains(&own.0.id()), "{seen:?}");
    assert!(!seen.contains(&nested.0.id()), "{seen:?}");
    drop(own);
    let seen = pids(&mut reader);
    assert!(!seen.contains(&nested.0.id()), "{seen:?}");
}
