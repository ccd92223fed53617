//! All state, and how it changes: an event goes in, the rows that depend on it are
//! judged anew, and their claims go to the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cidrift_proto::finding::Finding;
use cidrift_proto::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Config;
use super::apply::{Touched, apply};
use super::expect::{Expectations, STRANGERS};
use super::memory::Memory;
use super::row::{Row, Why};
use crate::cluster::{ControlPlane, Expectation, HostEvent, HostState, NodeRecord, ReportState};
use crate::correlate::book::Book;
use crate::correlate::{Scene, explain, habit, routes};
use crate::ledger::{Group, Ledger};

/// Cluster, verdicts and ledger.
#[derive(Debug)]
pub struct State {
    pub(super) config: Config,
    pub(super) plane: ControlPlane,
    pub(super) book: Book,
    pub(super) hosts: BTreeMap<String, HostState>,
    pub(super) rows: BTreeMap<String, Row>,
    pub(super) ledger: Ledger,
    pub(super) expectations: Expectations,
    pub(super) memory: Memory,
    majorities: BTreeSet<String>,
    /// What each agent's report was good for when it was last looked at.
    reports: BTreeMap<String, ReportState>,
    told_strangers: bool,
    /// Sources whose claims are to be made anew at the next tick.
    later: BTreeSet<String>,
    /// The newest time that was handed in: what a look without a time is made for.
    pub(super) clock: Timestamp,
}

/// How long a host that the control plane does not know is kept after its agent left:
/// as long as a person may need to wonder about it.
const STRANGER_STAYS: std::time::Duration = std::time::Duration::from_secs(600);

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            ledger: Ledger::new(config.hold, config.settle),
            config,
            plane: ControlPlane::default(),
            book: Book::default(),
            hosts: BTreeMap::new(),
            rows: BTreeMap::new(),
            expectations: Expectations::default(),
            memory: Memory::default(),
            majorities: BTreeSet::new(),
            reports: BTreeMap::new(),
            told_strangers: false,
            later: BTreeSet::new(),
            clock: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn scene(&self, now: Timestamp) -> Scene<'_> {
        Scene {
            plane: &self.plane,
            book: &self.book,
            pool: &self.config.pool,
            hosts: &self.hosts,
            now,
            silence: self.config.silence,
        }
    }

    pub(super) fn applied(&self, node: &str, instance: &str) -> u64 {
        let host = self
            .hosts
            .get(node)
            .filter(|host| host.instance == instance && host.whole);
        host.map_or(0, |host| host.applied)
    }

    pub(super) fn watch_expectation(&mut self, node: &str) -> watch::Receiver<Arc<Expectation>> {
        self.expectations.watch(&self.plane, node)
    }

    pub(super) fn drain(&mut self, now: Timestamp) -> Vec<Arc<Finding>> {
        self.clock = self.clock.max(now);
        self.ledger.drain(explain::explained_by, now)
    }

    pub(super) fn host_event(&mut self, node: &str, event: HostEvent, now: Timestamp) {
        let strangers = || {
            self.hosts
                .keys()
                .filter(|name| !self.plane.nodes.contains_key(*name))
                .count()
        };
        if !self.hosts.contains_key(node) && !self.plane.nodes.contains_key(node) && strangers() >= STRANGERS {
            if !self.told_strangers {
                tracing::warn!(
                    node,
                    "too many agents report for nodes that the control plane does not have; leaving them out"
                );
                self.told_strangers = true;
            }
            return;
        }
        let host = self
            .hosts
            .entry(node.to_owned())
            .or_insert_with(|| HostState::new(node, now));
        let touched = apply(host, event, now);
        let report = host.report(now, self.config.silence);
        let before = self.reports.insert(node.to_owned(), report);
        let woke = before != Some(report);
        self.rejudge_host(node, touched, woke, now);
    }

    pub(super) fn control_plane(&mut self, mut plane: ControlPlane, now: Timestamp) {
        // The record says itself when it changed; a source that reads a list anew keeps that.
        for (name, node) in &mut plane.nodes {
            node.changed_at = match self.plane.nodes.get(name) {
                Some(before) if same_record(before, node) => before.changed_at,
                _ => now,
            };
        }
        if plane.observed_at.is_none() {
            // Never read: agents are not told that their Nodes do not exist.
            self.plane = plane;
            return;
        }
        let nodes_same = plane.nodes == self.plane.nodes;
        let problem_same = plane.problem.is_some() == self.plane.problem.is_some();
        let old = std::mem::replace(&mut self.plane, plane);
        if nodes_same && self.expectations.started() {
            if !problem_same {
                self.claim_everything(now);
            }
            return;
        }
        let started = self.expectations.started();
        if let Some(changed) = in_place(&old, &self.plane).filter(|_| started) {
            self.rejudge_nodes(&changed, now);
            return;
        }
        self.memory.note(&old, &self.plane, now);
        let book = Book::new(&self.plane);
        let from = moved(&self.book, &book);
        self.book = book;
        self.expectations
            .refresh(&self.plane, &self.config.pool, &self.memory, now);
        self.expectations.sweep(&self.plane);
        let nodes = &self.plane.nodes;
        self.rows.retain(|name, _| nodes.contains_key(name));
        for name in nodes.keys() {
            self.rows.entry(name.clone()).or_default();
        }
        let scene = Scene {
            plane: &self.plane,
            book: &self.book,
            pool: &self.config.pool,
            hosts: &self.hosts,
            now,
            silence: self.config.silence,
        };
        for (name, row) in &mut self.rows {
            row.follow(&scene, &from);
            if let Some(host) = scene.hosts.get(name) {
                row.read_all(&scene, host);
            }
        }
        self.count_majorities();
        self.judge_everything(now);
    }

    /// Judges what depends on Nodes that changed in what they say of themselves only.
    fn rejudge_nodes(&mut self, changed: &BTreeSet<String>, now: Timestamp) {
        let Self {
            config,
            plane,
            book,
            hosts,
            rows,
            expectations,
            majorities,
            ..
        } = self;
        let scene = Scene {
            plane,
            book,
            pool: &config.pool,
            hosts,
            now,
            silence: config.silence,
        };
        let since = |cidr: IpNet| expectations.since(cidr);
        let columns = changed.iter().filter_map(|name| book.by_owner.get(name));
        let columns: BTreeSet<usize> = columns.flatten().copied().collect();
        let mut dirty = changed.clone();
        for (name, row) in rows.iter_mut() {
            let Some(node) = plane.nodes.get(name) else { continue };
            let own = changed.contains(name) && row.expect(node, scene.hosts.get(name), majorities);
            let judged = if own {
                row.judge(&scene, node, 0..book.slots.len(), Why::Else, &since)
            } else {
                let broken = row.broken.keys().filter_map(|cidr| book.by_net.get(*cidr)?.first());
                let slots: BTreeSet<usize> = broken.chain(&columns).copied().collect();
                row.judge(&scene, node, slots.into_iter(), Why::Else, &since)
            };
            if judged || self.ledger.has(&Group::Row(name.clone())) {
                dirty.insert(name.clone());
            }
        }
        for name in dirty {
            self.claim_row(&name, now);
        }
        self.claim_pool(now);
        self.claim_reborn(now);
        self.claim_silent(now);
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        for name in std::mem::take(&mut self.later) {
            self.claim_row(&name, now);
        }
        let silence = self.config.silence;
        let turned: Vec<String> = self
            .hosts
            .iter()
            .filter(|(name, host)| self.reports.get(*name) != Some(&host.report(now, silence)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in turned {
            if let Some(host) = self.hosts.get(&name) {
                self.reports.insert(name.clone(), host.report(now, silence));
            }
            self.rejudge_host(&name, Touched::default(), true, now);
        }
        let woken: Vec<String> = self
            .rows
            .iter()
            .filter(|(_, row)| row.wake.is_some_and(|wake| wake <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in woken {
            self.claim_row(&name, now);
        }
        let nodes = &self.plane.nodes;
        let reports = &mut self.reports;
        let mut gone = false;
        self.hosts.retain(|name, host| {
            let stays =
                nodes.contains_key(name) || host.connected || routes::elapsed(host.heard_at, now) < STRANGER_STAYS;
            if !stays {
                reports.remove(name);
                gone = true;
            }
            stays
        });
        if gone {
            self.expectations.sweep(&self.plane);
            self.told_strangers = false;
        }
        self.ledger.tick(now);
    }

    /// Judges what depends on one host.
    fn rejudge_host(&mut self, name: &str, touched: Touched, woke: bool, now: Timestamp) {
        let why = Why::Host(touched.seen);
        let mut dirty: BTreeSet<String> = BTreeSet::new();
        let all = touched.all || woke;
        let Self {
            config,
            plane,
            book,
            hosts,
            rows,
            expectations,
            majorities,
            ..
        } = self;
        let scene = Scene {
            plane,
            book,
            pool: &config.pool,
            hosts,
            now,
            silence: config.silence,
        };
        let since = |cidr: IpNet| expectations.since(cidr);
        let mut programs_changed = false;
        if let (Some(node), Some(row)) = (plane.nodes.get(name), rows.get_mut(name)) {
            let host = scene.hosts.get(name);
            let programmed = row.habit.programs.is_some();
            if let Some(host) = host {
                if touched.all {
                    row.read_all(&scene, host);
                }
                for prefix in &touched.prefixes {
                    row.read(&scene, host, *prefix);
                }
            }
            let habit = row.expect(node, host, majorities);
            programs_changed = habit || programmed != row.habit.programs.is_some();
            let changed = if all || habit || touched.facts {
                row.judge(&scene, node, 0..book.slots.len(), why, &since)
            } else {
                let slots = touching(book, &touched.prefixes);
                row.judge(&scene, node, slots.into_iter(), why, &since)
            };
            let strays = touched
                .prefixes
                .iter()
                .any(|prefix| book.overlapping(*prefix).next().is_none());
            if changed || all || strays || touched.claims {
                dirty.insert(name.to_owned());
            }
        }
        // Packets that others misdeliver to this node go on from here.
        let own_slots = book.by_owner.get(name).cloned().unwrap_or_default();
        let column = touched.all || touched.facts || woke;
        for (other, row) in rows.iter_mut().filter(|(other, _)| *other != name) {
            let Some(node) = plane.nodes.get(other) else { continue };
            let by_way: BTreeSet<usize> = row
                .broken
                .iter()
                .filter(|(_, pair)| leads_to(&pair.verdict, name))
                .filter_map(|(cidr, _)| book.by_net.get(*cidr)?.first().copied())
                .collect();
            let slots: BTreeSet<usize> = if column && row.blind.is_none() {
                by_way.into_iter().chain(own_slots.iter().copied()).collect()
            } else {
                by_way
            };
            if !slots.is_empty() && row.judge(&scene, node, slots.into_iter(), Why::Else, &since) {
                dirty.insert(other.clone());
            }
            // Whether it is one-way depends on this node's row. When all break at once that
            // concerns everybody each time, so it is looked at together.
            if dirty.contains(name) && row.broken.values().any(|pair| pair.owner == name) {
                self.later.insert(other.clone());
            }
        }
        if programs_changed {
            for other in self.count_majorities() {
                self.judge_row(&other, now);
                dirty.insert(other);
            }
        }
        for other in dirty {
            self.claim_row(&other, now);
        }
        if touched.claims || woke {
            self.claim_host(name, now);
        }
        if touched.facts || touched.claims || woke {
            self.claim_pool(now);
        }
        if woke {
            self.claim_silent(now);
        }
        if woke || !touched.prefixes.is_empty() || touched.all {
            self.claim_reborn(now);
        }
    }

    fn judge_row(&mut self, name: &str, now: Timestamp) {
        let Self {
            config,
            plane,
            book,
            hosts,
            rows,
            expectations,
            majorities,
            ..
        } = self;
        let scene = Scene {
            plane,
            book,
            pool: &config.pool,
            hosts,
            now,
            silence: config.silence,
        };
        if let (Some(node), Some(row)) = (plane.nodes.get(name), rows.get_mut(name)) {
            row.expect(node, scene.hosts.get(name), majorities);
            let since = |cidr: IpNet| expectations.since(cidr);
            row.judge(&scene, node, 0..book.slots.len(), Why::Else, &since);
        }
    }

    fn judge_everything(&mut self, now: Timestamp) {
        let names: Vec<String> = self.rows.keys().cloned().collect();
        for name in &names {
            self.judge_row(name, now);
        }
        self.claim_everything(now);
    }

    /// Which plugins program routes on most nodes; gives the nodes for which that makes a difference.
    fn count_majorities(&mut self) -> Vec<String> {
        let rows = self.rows.values();
        let seen = rows.filter_map(|row| Some((row.habit.plugin.as_deref()?, !row.seen.cidrs.is_empty())));
        let new = habit::majorities(seen);
        if new == self.majorities {
            return Vec::new();
        }
        let differ: BTreeSet<&String> = new.symmetric_difference(&self.majorities).collect();
        let rows = self.rows.iter();
        let names = rows
            .filter(|(_, row)| row.habit.plugin.as_ref().is_some_and(|plugin| differ.contains(plugin)))
            .map(|(name, _)| name.clone())
            .collect();
        self.majorities = new;
        names
    }
}

/// The Nodes that differ, if none came, went, or changed what it owns: then nobody
/// else's CIDRs or addresses mean anything new.
fn in_place(old: &ControlPlane, new: &ControlPlane) -> Option<BTreeSet<String>> {
    if !old.nodes.keys().eq(new.nodes.keys()) {
        return None;
    }
    let mut changed = BTreeSet::new();
    for (before, after) in old.nodes.values().zip(new.nodes.values()) {
        let public = |node: &NodeRecord| node.flannel.as_ref().and_then(|flannel| flannel.public_ip);
        let owns_same = before.uid == after.uid
            && before.pod_cidrs == after.pod_cidrs
            && before.internal_ips == after.internal_ips
            && public(before) == public(after);
        if !owns_same {
            return None;
        }
        if before != after {
            changed.insert(after.name.clone());
        }
    }
    Some(changed)
}

/// Records say the same, whenever they were read.
fn same_record(a: &NodeRecord, b: &NodeRecord) -> bool {
    let mut b = b.clone();
    b.changed_at = a.changed_at;
    *a == b
}

/// Where each slot of `new` was in `old`.
fn moved(old: &Book, new: &Book) -> Vec<Option<usize>> {
    let place = |cidr: IpNet, owner: &str| {
        let places = old.by_net.get(cidr)?;
        places.iter().copied().find(|at| old.slots[*at].owner == owner)
    };
    new.slots.iter().map(|slot| place(slot.cidr, &slot.owner)).collect()
}

/// Slots that have an address in common with one of these prefixes.
fn touching(book: &Book, prefixes: &[IpNet]) -> BTreeSet<usize> {
    let mut slots = BTreeSet::new();
    for prefix in prefixes {
        let above = book.by_net.covering(*prefix);
        slots.extend(above.chain(book.by_net.inside(*prefix)).flat_map(|(_, at)| at).copied());
    }
    slots
}

/// A broken pair whose packets pass this node.
fn leads_to(verdict: &Verdict, name: &str) -> bool {
    match verdict {
        Verdict::Misdelivered { to } => to == name,
        Verdict::Loop { reason } => reason.split(" → ").any(|node| node == name),
        _ => false,
    }
}
