//! Losses that the kernel denies: they wait until it consents, or has been read anew.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::time::Instant;

use super::super::confirm::{confirm, suspects};
use super::{Loop, Observer, merge};
use crate::resolve::Diff;

/// A doubted loss waits for a full dump at most this long: a dump of 50,000
/// routes takes a tenth of it, and a finding is held for a second anyway.
pub(super) const DOUBT: Duration = Duration::from_secs(1);

/// How often the kernel is asked about it meanwhile: as often as the watcher
/// dumps again at most.
pub(super) const DOUBT_LOOK: Duration = Duration::from_millis(5);

/// A loss that the kernel denies, until everything has been read anew.
pub(super) struct Doubt {
    pub(super) diff: Diff,
    pub(super) observed_at: Timestamp,
    /// A whole dump that began after this settles it, as does the kernel's consent.
    pub(super) asked_at: Timestamp,
    pub(super) deadline: Instant,
    pub(super) look_at: Instant,
}

impl Loop {
    /// Whether the kernel denies a loss in this.
    pub(super) async fn doubted(&mut self, diff: &Diff) -> bool {
        let denied = self.denied(diff).await;
        for (prefix, reason) in &denied {
            self.parts.metrics.disagreed(*prefix, reason);
        }
        !denied.is_empty()
    }

    async fn denied(&mut self, diff: &Diff) -> Vec<(IpNet, String)> {
        let suspects = suspects(diff);
        let Some(Observer {
            watcher,
            referee: Some(referee),
        }) = &mut self.kernel
        else {
            return Vec::new();
        };
        if suspects.is_empty() {
            return Vec::new();
        }
        self.parts.metrics.asked(suspects.len());
        confirm(referee, watcher.kernel(), &suspects).await
    }

    /// Tells what was doubted once the kernel denies none of it any more, or
    /// all of it has been read anew: then it is the reading that is doubtful.
    pub(super) async fn settle_doubt(&mut self) {
        let Some(mut doubt) = self.doubt.take() else { return };
        let denied = self.denied(&doubt.diff).await;
        let now = Instant::now();
        let read_anew = self
            .kernel
            .as_ref()
            .is_none_or(|observer| observer.watcher.verified_at() >= doubt.asked_at);
        if !denied.is_empty() && !read_anew && now < doubt.deadline {
            doubt.look_at = now + DOUBT_LOOK;
            self.doubt = Some(doubt);
            return;
        }
        for (prefix, reason) in denied {
            self.parts.metrics.disagreed(prefix, &reason);
            let opaque = self.parts.witness.deny(prefix, reason, Timestamp::now());
            let opaque = Diff {
                upserts: vec![Arc::new(opaque)],
                removed: Vec::new(),
            };
            merge(&mut doubt.diff, opaque);
        }
        self.tell(doubt.diff, doubt.observed_at);
    }
}
