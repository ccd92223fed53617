//! What happens because time passes: agents fall silent, claims ripen, what was put off is done.
//! Everything that may become due stands in a queue, so that a tick costs what is due.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::State;
use super::apply::Touched;
use crate::cluster::ReportState;
use crate::correlate::routes;

/// How long a host that the control plane does not know is kept after its agent left:
/// as long as a person may need to wonder about it.
const STRANGER_STAYS: Duration = Duration::from_secs(600);

/// Claims about the whole cluster are made anew after this time even where nothing changed:
/// what they read grows older, and some of it expires.
const REFRESH: Duration = Duration::from_secs(10);

/// Up to this many Nodes such claims are made anew at every tick that follows a change.
const CROWD: u32 = 1_000;

/// For each Node more they rest this long first, 1.4 s at 15,000: a pass takes some 5 µs a Node
/// (`bench scale`), holds the lock, and is to take a twentieth of the time at most.
const REST: Duration = Duration::from_micros(100);

/// What is to be looked at later.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Sources whose claims are to be made anew at the next tick.
    pub(super) rows: BTreeSet<String>,
    /// The claims about the whole cluster are.
    pub(super) pool: bool,
    /// Those that rest on what is remembered are.
    pub(super) reborn: bool,
    /// Those about the whole cluster were made for a host's sake since the last tick.
    pub(super) spent: bool,
    /// When these were made last.
    pub(super) pool_at: Timestamp,
    /// When [`State::claim_reborn`] last ran.
    pub(super) reborn_at: Timestamp,
    /// Sources by when their claims must be looked at again though nothing changes: every [`super::row::Row::wake`].
    pub(super) wakes: BTreeSet<(Timestamp, String)>,
    /// Hosts that are not silent, by when they may be: no later than they are.
    silences: BTreeSet<(Timestamp, String)>,
    /// Hosts that the control plane does not have.
    pub(super) strangers: BTreeSet<String>,
}

impl State {
    pub(super) fn tick(&mut self, now: Timestamp) {
        for name in std::mem::take(&mut self.agenda.rows) {
            self.claim_row(&name, now);
        }
        for name in self.fallen_silent(now) {
            self.rejudge_host(&name, Touched::default(), true, now);
        }
        let mut woken = BTreeSet::new();
        while let Some((wake, _)) = self.agenda.wakes.first()
            && *wake <= now
            && let Some((_, name)) = self.agenda.wakes.pop_first()
        {
            woken.insert(name);
        }
        for name in woken {
            self.claim_row(&name, now);
        }
        self.forget_strangers(now);
        self.forget_refused(now);
        self.agenda.spent = false;
        let known = self.plane.observed_at.is_some();
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let crowd = u32::try_from(self.plane.nodes.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(CROWD);
        let rested = |at: Timestamp| routes::elapsed(at, now) >= REST.saturating_mul(crowd);
        if (self.agenda.reborn && rested(self.agenda.reborn_at)) || due(self.ripens.reborn) {
            self.claim_reborn(now);
        }
        if (self.agenda.pool && rested(self.agenda.pool_at))
            || due(self.ripens.pool)
            || (known && routes::elapsed(self.agenda.pool_at, now) >= REFRESH)
        {
            self.claim_pool(now);
        }
        self.ledger.tick(now);
    }

    /// Keeps what a host's report is good for; true where that changed.
    pub(super) fn reported(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(host) = self.hosts.get(name) else { return false };
        let report = host.report(now, self.config.silence);
        let silence = host.heard_at.checked_add(self.config.silence);
        let before = self.reports.insert(name.to_owned(), report);
        if report != ReportState::Silent && matches!(before, None | Some(ReportState::Silent)) {
            let due = silence.unwrap_or(Timestamp::MAX);
            self.agenda.silences.insert((due, name.to_owned()));
        }
        before != Some(report)
    }

    /// Hosts that have been quiet for too long since the last tick.
    fn fallen_silent(&mut self, now: Timestamp) -> BTreeSet<String> {
        let mut fallen = BTreeSet::new();
        while let Some((due, _)) = self.agenda.silences.first()
            && *due < now
            && let Some((_, name)) = self.agenda.silences.pop_first()
        {
            let Some(host) = self.hosts.get(&name) else { continue };
            let report = host.report(now, self.config.silence);
            if report == ReportState::Silent {
                self.reports.insert(name.clone(), report);
                fallen.insert(name);
            } else {
                // It was heard since.
                let due = host.heard_at.checked_add(self.config.silence);
                self.agenda.silences.insert((due.unwrap_or(Timestamp::MAX), name));
            }
        }
        fallen
    }

    /// Drops hosts that the control plane does not know and whose agents left long ago.
    fn forget_strangers(&mut self, now: Timestamp) {
        let leaves = |name: &&String| {
            let host = self.hosts.get(*name);
            host.is_none_or(|host| !host.connected && routes::elapsed(host.heard_at, now) >= STRANGER_STAYS)
        };
        let gone: Vec<String> = self.agenda.strangers.iter().filter(leaves).cloned().collect();
        for name in &gone {
            self.agenda.strangers.remove(name);
            self.hosts.remove(name);
            self.reports.remove(name);
        }
        if !gone.is_empty() {
            self.expectations.sweep(&self.plane);
            self.told_strangers = false;
        }
    }
}
