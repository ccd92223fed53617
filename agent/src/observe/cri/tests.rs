//! The reader against runtimes that answer, hang, lie and come back.

mod bad;
mod fake;
mod whole;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use self::fake::Fake;
use super::*;

const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// A host without a runtime, and its reader.
struct Host {
    directory: tempfile::TempDir,
    reader: CriReader,
    now: Timestamp,
}

impl Host {
    fn new() -> Self {
        // Short: a socket's path ends at 107 bytes.
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        Self {
            reader: CriReader::new(HostRoot::new(directory.path())),
            directory,
            now: "2026-11-24T12:00:00Z".parse().unwrap(),
        }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A look, 10 s after the one before.
    async fn look(&mut self) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
        self.look_with(&Observed::not_yet()).await
    }

    async fn look_with(&mut self, processes: &Observed<Vec<Process>>) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
        self.now += SignedDuration::from_secs(10);
        self.reader.look(processes, self.now).await
    }
}

/// The reason, of either kind.
fn why<T: std::fmt::Debug>(observed: &Observed<T>) -> (&'static str, &str) {
    match &observed.value {
        Err(Missing::Absent(why)) => ("absent", why),
        Err(Missing::Unreadable(why)) => ("unreadable", why),
        other => panic!("{other:?}"),
    }
}

/// A kubelet that names this socket.
fn kubelet(socket: &str) -> Observed<Vec<Process>> {
    let setting = crate::view::host::Setting {
        value: format!("unix://{socket}"),
        source: "/var/lib/kubelet/config.yaml".to_owned(),
    };
    let kubelet = Process {
        program: crate::view::host::Program::Kubelet,
        embedded_in: None,
        pid: 7,
        started_at: None,
        settings: [("containerRuntimeEndpoint".to_owned(), setting)].into(),
        problem: None,
    };
    Observed::seen(Timestamp::UNIX_EPOCH, "/proc", vec![kubelet])
}
