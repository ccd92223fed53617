//! A subscriber to the aggregator's findings, with the time at which each
//! change arrived.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cidrift_proto::finding::Finding;
use cidrift_proto::v1;
use cidrift_proto::v1::finding_event::Kind;
use cidrift_proto::v1::query_service_client::QueryServiceClient;
use tokio::sync::oneshot;

use crate::client::{Error, connect};
use crate::netns::Netns;

/// How many changes are kept: the demo makes a few hundred.
const KEPT: usize = 10_000;
/// Before connecting again: the lab restarts an aggregator in less than a second.
const AGAIN: Duration = Duration::from_millis(50);

/// A change of a finding, as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it arrived here.
    pub at: Instant,
    /// What it says.
    pub finding: Arc<Finding>,
}

/// Everything that arrived.
#[derive(Debug, Default)]
pub struct Board {
    /// Every change, oldest first.
    pub log: Vec<Seen>,
    /// What stands, by finding id.
    pub standing: BTreeMap<String, Arc<Finding>>,
    /// All that stood when the stream came up has arrived.
    pub synced: bool,
    /// Messages that made no sense, and changes that were left out.
    pub faults: Vec<String>,
}

impl Board {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < KEPT {
            self.faults.push(fault);
        }
    }
}

/// The subscriber; it ends when this is dropped.
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<(Mutex<Board>, Condvar)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<io::Result<()>>>>,
}

impl Subscriber {
    /// Subscribes from inside the underlay, and again whenever the stream ends, to an aggregator that the CAs in `ca`
    /// prove.
    pub fn start(underlay: &Netns, ca: PathBuf) -> io::Result<Self> {
        let shared = Arc::new((Mutex::new(Board::default()), Condvar::new()));
        let (stop, stopped) = oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = underlay.thread("subscriber", move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    () = follow(&theirs, &ca) => {}
                    _ = stopped => {}
                }
            });
            Ok(())
        })?;
        Ok(Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Looks at the board.
    pub fn look<T>(&self, look: impl FnOnce(&Board) -> T) -> T {
        look(&lock(&self.shared.0))
    }

    /// Waits until `found` finds something on the board; `None` after `patience`.
    pub fn wait<T>(&self, patience: Duration, mut found: impl FnMut(&Board) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut board = lock(&self.shared.0);
        loop {
            if let Some(found) = found(&board) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let waited = self.shared.1.wait_timeout(board, left);
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only when the thread is gone already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(shared: &(Mutex<Board>, Condvar), ca: &Path) {
    loop {
        // Whatever ended it, the aggregator is asked again.
        let _ = stream(shared, ca).await;
        lock(&shared.0).synced = false;
        shared.1.notify_all();
        tokio::time::sleep(AGAIN).await;
    }
}

async fn stream(shared: &(Mutex<Board>, Condvar), ca: &Path) -> Result<(), Error> {
    let mut client = QueryServiceClient::new(connect(ca).await?);
    let mut events = client
        .watch_findings(v1::WatchFindingsRequest::default())
        .await?
        .into_inner();
    // What the stream says from here on replaces what stood before.
    let mut fresh = BTreeMap::new();
    while let Some(event) = events.message().await? {
        let at = Instant::now();
        let mut board = lock(&shared.0);
        match event.kind {
            Some(Kind::Finding(wire)) => match Finding::try_from(&wire) {
                Ok(finding) => {
                    let finding = Arc::new(finding);
                    let standing = if board.synced { &mut board.standing } else { &mut fresh };
                    if finding.stands() {
                        standing.insert(finding.id.clone(), Arc::clone(&finding));
                    } else {
                        standing.remove(&finding.id);
                    }
                    if board.log.len() < KEPT {
                        board.log.push(Seen { at, finding });
                    }
                }
                Err(error) => board.fault(format!("a finding that makes no sense: {error}")),
            },
            Some(Kind::Synced(_)) => {
                board.standing = std::mem::take(&mut fresh);
                board.synced = true;
            }
            Some(Kind::Lagged(count)) => board.fault(format!("{count} changes were left out")),
            None => board.fault("an empty event".to_owned()),
        }
        drop(board);
        shared.1.notify_all();
    }
    Ok(())
}
