//! CNI configuration as it changes: inotify where it can, and a slow look anyway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::root::HostRoot;
use super::{CniReader, TORN_RETRY};

/// A CNI installer makes a handful of changes in a row (write, chmod, rename,
/// remove the old file): some ms. One look after all of them is enough.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// A look without any event: for a filesystem without inotify, a watch that
/// could not be set, a directory replaced under its watch. As often as
/// kube-router and Felix look at their own state.
const PERIOD: Duration = Duration::from_secs(60);

/// Keeps a host's [`CniFacts`] up to date.
#[derive(Debug)]
pub struct CniWatcher {
    reader: CniReader,
    facts: CniFacts,
    inotify: Option<INotifyWatcher>,
    /// What has a watch now, and what the watches are for; shared with inotify's thread.
    interest: Arc<Mutex<Interest>>,
    /// One slot: any number of events asks for one look.
    events: mpsc::Receiver<Timestamp>,
    /// When to look next, for an event at that time; survives a cancelled [`Self::changed`].
    due: Option<(Instant, Timestamp)>,
    next_period: Instant,
    /// The last look found a half-written file; it gets one more.
    torn: bool,
}

#[derive(Debug, Default)]
struct Interest {
    /// Paths with a watch.
    watched: BTreeSet<PathBuf>,
    /// Directories of which every entry matters.
    places: Vec<PathBuf>,
}

impl Interest {
    /// An entry of a place, a place itself or a directory on the way to one.
    fn wants(&self, event: &Event) -> bool {
        if matches!(event.kind, EventKind::Access(_)) {
            return false;
        }
        event.need_rescan()
            || event.paths.iter().any(|path| {
                self.places
                    .iter()
                    .any(|place| place.starts_with(path) || path.parent() == Some(place))
            })
    }
}

impl CniWatcher {
    /// Reads once and watches from then on.
    pub fn new(reader: CniReader) -> Self {
        let interest = Arc::new(Mutex::new(Interest::default()));
        let (sender, events) = mpsc::channel(1);
        let shared = Arc::clone(&interest);
        let handler = move |event: notify::Result<Event>| {
            let wanted = match &event {
                Ok(event) => shared.lock().unwrap_or_else(PoisonError::into_inner).wants(event),
                Err(_) => true,
            };
            if wanted {
                // Full: a look is asked for already.
                let _ = sender.try_send(Timestamp::now());
            }
        };
        let inotify = INotifyWatcher::new(handler, notify::Config::default())
            .inspect_err(|error| {
                tracing::warn!(%error, "no inotify: CNI configuration is looked at every {} s only", PERIOD.as_secs());
            })
            .ok();
        let mut watcher = Self {
            facts: CniFacts::default(),
            reader,
            inotify,
            interest,
            events,
            due: None,
            next_period: Instant::now() + PERIOD,
            torn: false,
        };
        // Watch first, then read: nothing can change unseen in between.
        watcher.rewatch();
        watcher.facts = watcher.reader.read();
        watcher
    }

    /// The newest facts.
    pub fn facts(&self) -> &CniFacts {
        &self.facts
    }

    /// Waits until the facts differ and returns when that was noticed. Cancel
    /// safe: what a cancelled call was about to do the next one does.
    pub async fn changed(&mut self) -> Timestamp {
        loop {
            let deadline = self.due.map_or(self.next_period, |(at, _)| at.min(self.next_period));
            tokio::select! {
                event = self.events.recv(), if self.due.is_none() => {
                    // `None`: inotify's thread is gone; the period remains, without a busy loop.
                    let noticed = event.unwrap_or_else(Timestamp::now);
                    let wait = if event.is_some() { DEBOUNCE } else { PERIOD };
                    self.due = Some((Instant::now() + wait, noticed));
                    continue;
                }
                () = sleep_until(deadline) => {}
            }
            if let Some(noticed) = self.look() {
                return noticed;
            }
        }
    }

    /// Looks, and returns the time of the event where something is different.
    fn look(&mut self) -> Option<Timestamp> {
        let noticed = self.due.take().map_or_else(Timestamp::now, |(_, at)| at);
        self.next_period = Instant::now() + PERIOD;
        self.rewatch();
        let look = self.reader.look();
        if look.torn && !self.torn {
            self.torn = true;
            self.due = Some((Instant::now() + TORN_RETRY, noticed));
            return None;
        }
        self.torn = false;
        if look.facts == self.facts {
            return None;
        }
        self.facts = look.facts;
        Some(noticed)
    }

    /// Sets a watch on every place, or on the nearest directory above it that exists.
    fn rewatch(&mut self) {
        let Some(inotify) = &mut self.inotify else { return };
        let root = &self.reader.root;
        let places = self.reader.places();
        let wanted: BTreeSet<PathBuf> = places.iter().filter_map(|place| nearest(root, place)).collect();
        let resolved = places
            .iter()
            .map(|place| root.resolve(place).unwrap_or_else(|_| below(root, place)))
            .collect();
        let old = {
            let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
            interest.places = resolved;
            std::mem::take(&mut interest.watched)
        };
        for path in old.difference(&wanted) {
            // It may be gone, and its watch with it.
            let _ = inotify.unwatch(path);
        }
        let mut watched = BTreeSet::new();
        for path in wanted {
            // Again even where there is a watch: the directory may be another one of that name.
            match inotify.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(path);
                }
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "cannot be watched, only looked at every {} s", PERIOD.as_secs())
                }
            }
        }
        self.interest.lock().unwrap_or_else(PoisonError::into_inner).watched = watched;
    }
}

/// Where a place that does not exist would be.
fn below(root: &HostRoot, place: &Path) -> PathBuf {
    root.base().join(place.strip_prefix("/").unwrap_or(place))
}

/// The place or the nearest directory above it that exists, as it can be opened here.
fn nearest(root: &HostRoot, place: &Path) -> Option<PathBuf> {
    place
        .ancestors()
        .find_map(|path| root.resolve(path).ok().filter(|at| at.is_dir()))
}
