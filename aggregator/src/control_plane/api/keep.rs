//! Keeps one kind of object followed, whatever happens, and says how that fares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;

use super::Shared;
use super::discover::fixed;
use super::follow::{Change, Target, Trouble, follow};
use crate::cluster::objects::Watched;
use crate::control_plane::kind::Kind;

/// While nothing changes, an open watch is said to be right this often.
pub(super) const STILL_SO: Duration = Duration::from_secs(10);

/// What may not be read is tried again this often: somebody may allow it.
pub(super) const REFUSED: Duration = Duration::from_secs(60);

/// An error's words.
pub(super) fn words(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Gone => "the API server no longer knows what happened since".to_owned(),
        Trouble::Absent => "the API server does not have it".to_owned(),
        Trouble::Refused(why) | Trouble::Broken(why) => why.clone(),
    }
}

/// How it fares, for those who ask; `None`: it goes on.
pub(super) fn watched(trouble: &Trouble) -> Option<Watched> {
    match trouble {
        Trouble::Gone => None,
        Trouble::Absent => Some(Watched::Absent),
        Trouble::Refused(why) => Some(Watched::Refused(why.clone())),
        Trouble::Broken(why) => Some(Watched::Broken(why.clone())),
    }
}

/// Waits as long as the trouble asks for.
pub(super) async fn pause(trouble: &Trouble, backoff: &mut DefaultBackoff) {
    let wait = match trouble {
        Trouble::Refused(_) => REFUSED,
        Trouble::Absent => super::DISCOVER,
        Trouble::Gone | Trouble::Broken(_) => backoff.next().unwrap_or(STILL_SO),
    };
    tokio::time::sleep(wait).await;
}

/// One pass of a watch, with a sign of life as long as it is open.
pub(super) async fn pass(
    shared: &Shared,
    target: &Target,
    version: &mut Option<String>,
    backoff: &mut DefaultBackoff,
    mut tell: impl FnMut(Change),
    alive: impl Fn(),
) -> Trouble {
    let open = AtomicBool::new(false);
    let mut following = std::pin::pin!(follow(&shared.client, target, version, |change| {
        let opened = matches!(change, Change::Open);
        let closed = matches!(change, Change::Begin | Change::Closed);
        tell(change);
        if opened {
            open.store(true, Ordering::Relaxed);
            backoff.reset();
            alive();
        } else if closed {
            open.store(false, Ordering::Relaxed);
        }
    }));
    let mut ticks = tokio::time::interval(STILL_SO);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            trouble = &mut following => return trouble,
            _ = ticks.tick() => {
                if open.load(Ordering::Relaxed) {
                    alive();
                }
            }
        }
    }
}

/// Follows a kind, except Nodes.
pub(super) async fn keep(shared: &Shared, kind: Kind) {
    let mut version = None;
    let mut backoff = DefaultBackoff::default();
    let mut found = shared.found.subscribe();
    let mut before: Option<Target> = None;
    let fares = |watched| shared.gathered().fares(kind, watched);
    loop {
        let target = match fixed(kind) {
            Some(target) => target,
            None => {
                let said = found
                    .borrow_and_update()
                    .as_ref()
                    .map(|found| found.get(&kind).cloned());
                match said {
                    Some(Some(Ok(target))) => target,
                    other => {
                        match other {
                            Some(Some(Err(trouble))) => {
                                if let Some(watched) = watched(&trouble) {
                                    fares(watched);
                                }
                            }
                            Some(_) => absent(shared, kind),
                            None => {}
                        }
                        version = None;
                        if found.changed().await.is_err() {
                            return;
                        }
                        continue;
                    }
                }
            }
        };
        if before.as_ref() != Some(&target) {
            version = None;
            before = Some(target.clone());
        }
        let tell = |change| {
            let mut gathered = shared.gathered();
            match change {
                Change::Begin => gathered.list_begins(kind),
                Change::Put(object) => gathered.put(kind, &*object.0),
                Change::Gone(object) => gathered.gone(kind, &*object.0),
                Change::Listed => gathered.listed(kind),
                Change::Open | Change::Closed => {}
            }
        };
        let alive = || fares(Watched::Live(Timestamp::now()));
        let trouble = pass(shared, &target, &mut version, &mut backoff, tell, alive).await;
        match &trouble {
            Trouble::Gone => tracing::info!(path = target.path, "{}; it is listed anew", words(&trouble)),
            Trouble::Refused(why) => tracing::warn!(path = target.path, why, "it may not be read"),
            Trouble::Broken(why) => tracing::warn!(path = target.path, why, "the watch broke; the last state stands"),
            Trouble::Absent => tracing::info!(path = target.path, "the API server does not have it"),
        }
        match &trouble {
            Trouble::Absent => {
                version = None;
                absent(shared, kind);
            }
            other => {
                if let Some(watched) = watched(other) {
                    fares(watched);
                }
            }
        }
        tokio::select! {
            () = pause(&trouble, &mut backoff) => {}
            // It may have come, gone, or moved to another version.
            changed = found.changed(), if fixed(kind).is_none() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// The API server has no such kind: nothing of it is left.
fn absent(shared: &Shared, kind: Kind) {
    let mut gathered = shared.gathered();
    gathered.list_begins(kind);
    gathered.listed(kind);
    gathered.fares(kind, Watched::Absent);
}

/// Follows CustomResourceDefinitions, by their metadata: whenever one changes, discovery is to be repeated.
pub(super) async fn definitions(shared: &Shared) {
    let target = Target {
        metadata: true,
        ..Target::of("/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned())
    };
    let mut version = None;
    let mut backoff = DefaultBackoff::default();
    loop {
        let tell = |change| {
            if matches!(change, Change::Put(_) | Change::Gone(_)) {
                shared.definitions.notify_one();
            }
        };
        let trouble = pass(shared, &target, &mut version, &mut backoff, tell, || {}).await;
        tracing::debug!(
            why = words(&trouble),
            "CustomResourceDefinitions cannot be followed; discovery goes on every 30 s"
        );
        pause(&trouble, &mut backoff).await;
    }
}
