//! A snapshot file, watched: replaced by a rename or rewritten in place.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::parse::parse;
use super::{Push, Source, SourceError};
use crate::cluster::{ControlPlane, PlaneEvent};

/// Looked at this often though nothing was heard of it: inotify does not see
/// changes made on another machine of a network filesystem, and mounts over it.
const POLL: Duration = Duration::from_secs(5);

/// A file that is being written is read once it has been quiet for this long:
/// kubectl writes a snapshot at once, in pieces some µs apart.
const QUIET: Duration = Duration::from_millis(200);

/// Larger files are refused: 15,000 Nodes as kubectl prints them have some 150 MB.
const LIMIT: u64 = 256 << 20;

/// A file as `kubectl get nodes,pods,events,configmaps,… --all-namespaces -o yaml` prints it; Nodes alone will do.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    path: PathBuf,
}

/// What tells one state of a file from another.
type Stamp = (u64, u64, i64, i64);

/// What was heard of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It is whole: renamed to its name, or closed by its writer.
    Whole,
    /// Somebody is at it.
    Changing,
}

impl SnapshotFile {
    /// The file at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its text, at most [`LIMIT`].
    fn read(&self) -> Result<Vec<u8>, String> {
        let file = std::fs::File::open(&self.path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LIMIT {
            return Err(format!("it is larger than {} MiB", LIMIT >> 20));
        }
        Ok(bytes)
    }

    fn stamp(&self) -> Option<Stamp> {
        let data = std::fs::metadata(&self.path).ok()?;
        Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    }

    /// The next state: the file's, or the last good one with the problem.
    fn next(&self, last: &ControlPlane, now: Timestamp) -> ControlPlane {
        match self.read().and_then(|bytes| parse(&bytes, now)) {
            Ok(snapshot) => {
                let others: usize = snapshot.others.values().sum();
                tracing::info!(file = %self.path.display(), nodes = snapshot.nodes.len(), others, "snapshot read");
                ControlPlane {
                    source: last.source.clone(),
                    problem: None,
                    observed_at: Some(now),
                    nodes: snapshot.nodes,
                    around: snapshot.around,
                }
            }
            Err(reason) => {
                tracing::warn!(file = %self.path.display(), reason, "snapshot cannot be read; the last good one stands");
                ControlPlane {
                    problem: Some(format!("{}: {reason}", self.path.display())),
                    ..last.clone()
                }
            }
        }
    }
}

impl Source for SnapshotFile {
    async fn run(self, push: Push, shutdown: CancellationToken) -> Result<(), SourceError> {
        let (heard, mut news) = mpsc::channel(1);
        let watcher = watch(&self.path, heard)?;
        let mut plane = ControlPlane {
            source: format!("file {}", self.path.display()),
            ..ControlPlane::default()
        };
        let mut stamp = self.stamp();
        plane = self.next(&plane, Timestamp::now());
        push(PlaneEvent::Whole(Box::new(plane.clone())));
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Set while somebody is at the file: when it will have been quiet for long enough.
        let mut quiet: Option<Instant> = None;
        loop {
            let whole = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(heard) = news.recv() => heard == Heard::Whole,
                _ = poll.tick() => false,
                () = until(quiet) => true,
            };
            let now = Timestamp::now();
            let found = self.stamp();
            if whole {
                quiet = None;
                stamp = found;
                plane = self.next(&plane, now);
                push(PlaneEvent::Whole(Box::new(plane.clone())));
            } else if found != stamp {
                stamp = found;
                quiet = Some(Instant::now() + QUIET);
            } else if plane.problem.is_none() && quiet.is_none() {
                // It still says so.
                plane.observed_at = Some(now);
                push(PlaneEvent::Whole(Box::new(plane.clone())));
            }
        }
        drop(watcher);
        Ok(())
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Watches the file's directory: the file itself may be replaced at any time.
fn watch(path: &Path, heard: mpsc::Sender<Heard>) -> Result<notify::RecommendedWatcher, SourceError> {
    let name = path.file_name().map(ToOwned::to_owned);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let fail = |error: notify::Error| SourceError::Watch {
        directory: directory.display().to_string(),
        reason: error.to_string(),
    };
    let handler = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        // ConfigMap volumes replace a link beside the file: any rename in the directory counts.
        let about = |path: &PathBuf| path.file_name() == name.as_deref();
        let ours = event.paths.iter().any(about) || event.paths.is_empty();
        let heard_now = match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Heard::Whole,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) if ours => Heard::Whole,
            EventKind::Access(_) => return,
            _ if ours => Heard::Changing,
            _ => return,
        };
        // Whoever is told once will look; more of the same need not queue. But that
        // it is whole must not be lost behind that it changes.
        match heard_now {
            Heard::Whole => _ = heard.blocking_send(heard_now),
            Heard::Changing => _ = heard.try_send(heard_now),
        }
    };
    let mut watcher = notify::recommended_watcher(handler).map_err(fail)?;
    watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(fail)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn yaml(names: &[&str]) -> String {
        let mut text = "kind: List\nitems: []\n".to_owned();
        for name in names {
            text.push_str(&format!("---\nkind: Node\nmetadata: {{name: {name}}}\n"));
        }
        text
    }

    struct Running {
        states: mpsc::UnboundedReceiver<ControlPlane>,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<Result<(), SourceError>>,
    }

    fn start(path: &Path) -> Running {
        let (sender, states) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let push: Push = Box::new(move |event| {
            if let PlaneEvent::Whole(plane) = event {
                let _ = sender.send(*plane);
            }
        });
        let task = tokio::spawn(SnapshotFile::new(path).run(push, shutdown.clone()));
        Running { states, shutdown, task }
    }

    impl Running {
        /// The next state that satisfies `wanted`.
        async fn wait(&mut self, wanted: impl Fn(&ControlPlane) -> bool) -> ControlPlane {
            let looking = async {
                loop {
                    let plane = self.states.recv().await.unwrap();
                    if wanted(&plane) {
                        return plane;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), looking).await.unwrap()
        }

        async fn nodes(&mut self, names: &[&str]) -> ControlPlane {
            self.wait(|plane| plane.problem.is_none() && plane.nodes.keys().eq(names.iter()))
                .await
        }
    }

    #[tokio::test]
    async fn a_file_is_followed_through_rename_and_rewrite() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.yaml");
        std::fs::write(&path, yaml(&["a"])).unwrap();
        let mut running = start(&path);
        running.nodes(&["a"]).await;

        let other = directory.path().join("nodes.yaml.new");
        std::fs::write(&other, yaml(&["a", "b"])).unwrap();
        std::fs::rename(&other, &path).unwrap();
        running.nodes(&["a", "b"]).await;

        std::fs::write(&path, yaml(&["c"])).unwrap();
        running.nodes(&["c"]).await;
        running.shutdown.cancel();
        running.task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_leaves_the_last_good_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.yaml");
        std::fs::write(&path, yaml(&["a"])).unwrap();
        let mut running = start(&path);
        running.nodes(&["a"]).await;
        for bad in ["kind: List\nitems: {", "", "\u{0}"] {
            std::fs::write(&path, bad).unwrap();
            let plane = running.wait(|plane| plane.problem.is_some()).await;
            assert_eq!(plane.nodes.len(), 1, "the last good one stands");
        }
        std::fs::remove_file(&path).unwrap();
        running
            .wait(|plane| plane.problem.as_ref().is_some_and(|text| text.contains("No such file")))
            .await;
        std::fs::write(&path, yaml(&["b"])).unwrap();
        running.nodes(&["b"]).await;
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.yaml");
        let mut running = start(&path);
        let plane = running.wait(|plane| plane.problem.is_some()).await;
        assert_eq!((plane.observed_at, plane.nodes.len()), (None, 0));
        std::fs::write(&path, yaml(&["a"])).unwrap();
        running.nodes(&["a"]).await;
    }

    #[tokio::test]
    async fn a_file_that_is_still_being_written_is_not_taken_for_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nodes.yaml");
        std::fs::write(&path, yaml(&["a", "b"])).unwrap();
        let mut running = start(&path);
        running.nodes(&["a", "b"]).await;
        let whole = yaml(&["a", "b", "c"]);
        let mut file = std::fs::File::create(&path).unwrap();
        let (first, second) = whole.split_at(whole.find("---\nkind: Node\nmetadata: {name: b}").unwrap());
        file.write_all(first.as_bytes()).unwrap();
        file.flush().unwrap();
        file.write_all(second.as_bytes()).unwrap();
        drop(file);
        let next = running.wait(|plane| plane.nodes.len() != 2).await;
        assert_eq!(next.nodes.len(), 3, "half of it was never told");
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_an_error_at_the_start() {
        let path = Path::new("/nonexistent/cidrift/nodes.yaml");
        let run = SnapshotFile::new(path).run(Box::new(|_| {}), CancellationToken::new());
        let error = run.await.unwrap_err().to_string();
        assert!(error.contains("/nonexistent/cidrift"), "{error}");
    }
}
