//! What happens because time passes: agents fall silent, claims ripen, what was put off is done.
//! Everything that may become due stands in a queue, so that a tick costs what is due.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use jiff::Timestamp;

use super::State;
use super::apply::Touched;
use crate::cluster::ReportState;
use crate::correlate::routes;

/// How long a host that the control plane does not know is kept after its agent left:
/// as long as a person may need to wonder about it.
const STRANGER_STAYS: Duration = Duration::from_secs(600);

/// Every claim is made anew after this time even where nothing changed: what it reads grows older, and some of it expires.
const REFRESH: Duration = Duration::from_secs(10);

/// Up to this many Nodes the claims of all of them are made anew at every tick that follows a change that concerns all.
const CROWD: u32 = 1_000;

/// For each Node more they rest this long first, 1.4 s at 15,000: a pass takes some 5 µs a Node
/// (`bench scale`), holds the lock, and is to take a twentieth of the time at most.
const REST: Duration = Duration::from_micros(100);

/// So many nodes are looked at again at once when what their evidence quotes of others changes.
pub(super) const FEW: usize = 32;

/// What is to be looked at later.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Sources whose claims are to be made anew at the next tick.
    pub(super) rows: BTreeSet<String>,
    /// All that is claimed of the pool and of each Node is, looking at every Node.
    pub(super) pool: bool,
    /// Nodes of which what is claimed of each by itself is.
    pub(super) nodes: BTreeSet<String>,
    /// What is claimed of the pool and of the Nodes together is.
    pub(super) cluster: bool,
    /// What objects of CNI allocators show is.
    pub(super) delegates: bool,
    /// Those that rest on what is remembered are.
    pub(super) reborn: bool,
    /// Those were made for a host's sake since the last tick.
    pub(super) spent: bool,
    /// The Node whose claims were made anew last because of their age, and when.
    pub(super) turn: (String, Timestamp),
    /// When [`State::claim_pool`] last ran.
    pub(super) pool_at: Timestamp,
    /// When [`State::claim_reborn`] last ran.
    pub(super) reborn_at: Timestamp,
    /// Sources by when their claims must be looked at again though nothing changes: every [`super::row::Row::wake`].
    pub(super) wakes: BTreeSet<(Timestamp, String)>,
    /// Hosts that are not silent, by when they may be: no later than they are.
    silences: BTreeSet<(Timestamp, String)>,
    /// Nodes of which it is claimed that several agents report for them, by when that may be over.
    pub(super) rivals: BTreeSet<(Timestamp, String)>,
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
        while let Some((until, _)) = self.agenda.rivals.first()
            && *until <= now
            && let Some((_, name)) = self.agenda.rivals.pop_first()
        {
            self.claim_rivals(&name, now);
        }
        for name in self.hearing.due(now) {
            self.claim_silent(&name, now);
        }
        self.forget_strangers(now);
        self.forget_refused(now);
        self.agenda.spent = false;
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let crowd = u32::try_from(self.plane.nodes.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(CROWD);
        let rested = |at: Timestamp| routes::elapsed(at, now) >= REST.saturating_mul(crowd);
        if (self.agenda.reborn && rested(self.agenda.reborn_at)) || due(self.ripens.reborn) {
            self.claim_reborn(now);
        }
        if (self.agenda.pool && rested(self.agenda.pool_at)) || due(self.ripens.pool) {
            self.claim_pool(now);
        }
        self.refresh(now);
        self.claim_due(now);
        if std::mem::take(&mut self.agenda.delegates) {
            self.claim_delegates(now);
        }
        self.ledger.tick(now);
    }

    /// Puts the next Nodes on the agenda whose claims have grown old: each has its turn once in [`REFRESH`], so that no tick
    /// looks at all of them.
    fn refresh(&mut self, now: Timestamp) {
        let (last, at) = &self.agenda.turn;
        let nodes = self.plane.nodes.len();
        let due = routes::elapsed(*at, now).as_millis().min(REFRESH.as_millis()) * nodes as u128;
        let due = usize::try_from(due / REFRESH.as_millis()).unwrap_or(nodes);
        if due == 0 {
            return;
        }
        let after = (Bound::Excluded(last.clone()), Bound::Unbounded);
        let turn: Vec<String> = self
            .plane
            .nodes
            .range(after)
            .map(|(name, _)| name.clone())
            .take(due)
            .collect();
        let last = turn.last().filter(|_| turn.len() == due).cloned();
        self.agenda.nodes.extend(turn);
        if last.is_none() {
            // All had their turn: what concerns several of them has it now.
            (self.agenda.cluster, self.agenda.delegates) = (true, true);
            let gone = self.ledger.nodes().filter(|name| !self.plane.nodes.contains_key(*name));
            self.agenda.nodes.extend(gone.cloned());
        }
        self.agenda.turn = (last.unwrap_or_default(), now);
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
