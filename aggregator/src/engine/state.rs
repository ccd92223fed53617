//! All state, and how it changes: an event goes in, the rows that depend on it are
//! judged anew, and their claims go to the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cidrift_proto::finding::Finding;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;

use super::Config;
use super::apply::apply;
use super::expect::{Expectations, STRANGERS};
use super::hearing::Hearing;
use super::memory::Memory;
use super::refused::Refused;
use super::rejudge::Judging;
use super::row::Row;
use super::time::Agenda;
use crate::cluster::objects::RangeWitness;
use crate::cluster::{ControlPlane, Expectation, HostEvent, HostState, NodeRecord, PoolConfig, ReportState};
use crate::correlate::book::Book;
use crate::correlate::census::Census;
use crate::correlate::without::Footing;
use crate::correlate::{Scene, explain, habit};
use crate::ipam::witness;
use crate::ledger::Ledger;

/// When claims may change by time alone.
#[derive(Debug, Default)]
pub(super) struct Ripens {
    /// Those of the pool's group.
    pub(super) pool: Option<Timestamp>,
    /// Those that rest on what is remembered.
    pub(super) reborn: Option<Timestamp>,
}

/// Cluster, verdicts and ledger.
#[derive(Debug)]
pub struct State {
    pub(super) config: Config,
    pub(super) plane: ControlPlane,
    /// What is known of the pool, of all who name it.
    pub(super) pool: PoolConfig,
    pub(super) book: Book,
    /// What is counted of the Nodes.
    pub(super) census: Census,
    pub(super) hosts: BTreeMap<String, HostState>,
    /// The Nodes whose agents have reported; the others have nothing to be judged.
    pub(super) rows: BTreeMap<String, Row>,
    pub(super) ledger: Ledger,
    pub(super) expectations: Expectations,
    pub(super) memory: Memory,
    /// Who reported under another node's name.
    pub(super) refused: Refused,
    pub(super) majorities: BTreeSet<String>,
    /// What each agent's report was good for when it was last looked at.
    pub(super) ripens: Ripens,
    pub(super) reports: BTreeMap<String, ReportState>,
    pub(super) told_strangers: bool,
    pub(super) agenda: Agenda,
    /// Since when agents can be heard.
    pub(super) hearing: Hearing,
    /// What claims of nodes without a CIDR were last made on.
    pub(super) footing: Footing,
    /// What [`outside::by_place`](crate::correlate::outside::by_place) was last.
    pub(super) by_place: bool,
    /// What each host's programs say of pod ranges.
    pub(super) programs: BTreeMap<String, Vec<RangeWitness>>,
    /// The newest time that was handed in: what a look without a time is made for.
    pub(super) clock: Timestamp,
}

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            ledger: Ledger::new(config.hold, config.settle),
            pool: config.pool.clone(),
            config,
            plane: ControlPlane::default(),
            book: Book::default(),
            census: Census::default(),
            hosts: BTreeMap::new(),
            rows: BTreeMap::new(),
            expectations: Expectations::default(),
            memory: Memory::default(),
            refused: Refused::default(),
            majorities: BTreeSet::new(),
            reports: BTreeMap::new(),
            told_strangers: false,
            ripens: Ripens::default(),
            programs: BTreeMap::new(),
            agenda: Agenda::default(),
            hearing: Hearing::default(),
            footing: Footing::default(),
            by_place: false,
            clock: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn scene(&self, now: Timestamp) -> Scene<'_> {
        Scene {
            plane: &self.plane,
            book: &self.book,
            census: &self.census,
            pool: &self.pool,
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
        let stranger = !self.plane.nodes.contains_key(node);
        if stranger && !self.hosts.contains_key(node) && self.agenda.strangers.len() >= STRANGERS {
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
        let was = host.connected;
        let touched = apply(host, event, now);
        self.hearing.stream(was, host.connected, now);
        if stranger {
            self.agenda.strangers.insert(node.to_owned());
        } else if !self.rows.contains_key(node) {
            self.rows.insert(node.to_owned(), Row::default());
        }
        if touched.facts {
            if self.plane.nodes.contains_key(node) {
                self.note_class(node);
            }
            self.hear_programs(node, now);
        }
        let woke = self.reported(node, now);
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
        let pool = witness::settle(&self.config.pool, &plane.around);
        let pool_same = pool == self.pool;
        self.pool = pool;
        let nodes_same = plane.nodes == self.plane.nodes;
        let problem_same = plane.problem.is_some() == self.plane.problem.is_some();
        let old = std::mem::replace(&mut self.plane, plane);
        self.place_programs();
        let started = self.expectations.started();
        if nodes_same && started && pool_same {
            self.reclassify(now);
            if problem_same {
                self.claim_pool(now);
                self.claim_reborn(now);
            } else {
                self.claim_everything(now);
            }
            return;
        }
        self.note_classes();
        if let Some(changed) = in_place(&old, &self.plane).filter(|_| started && pool_same) {
            self.rejudge_nodes(&changed, now);
            self.claim_pool(now);
            return;
        }
        self.memory.note(&old, &self.plane, now);
        let book = Book::new(&self.plane);
        let from = moved(&self.book, &book);
        self.book = book;
        self.expectations.refresh(&self.plane, &self.pool, &self.memory, now);
        self.expectations.sweep(&self.plane);
        let nodes = &self.plane.nodes;
        let left: Vec<String> = self
            .rows
            .keys()
            .filter(|name| !nodes.contains_key(*name))
            .cloned()
            .collect();
        for name in left {
            self.drop_row(&name);
        }
        let (known, strangers): (Vec<&String>, Vec<&String>) =
            self.hosts.keys().partition(|name| self.plane.nodes.contains_key(*name));
        self.agenda.strangers = strangers.into_iter().cloned().collect();
        for name in known {
            self.rows.entry(name.clone()).or_default();
        }
        let Judging { scene, rows, .. } = self.judging(now);
        for (name, row) in rows {
            row.follow(&scene, &from);
            if let Some(host) = scene.hosts.get(name) {
                row.read_all(&scene, host);
            }
        }
        count_majorities(&self.rows, &mut self.majorities);
        self.judge_everything(now);
    }

    /// The source of this name is no Node any more.
    pub(super) fn drop_row(&mut self, name: &str) {
        if let Some(wake) = self.rows.remove(name).and_then(|row| row.wake) {
            self.agenda.wakes.remove(&(wake, name.to_owned()));
        }
    }

    /// Something besides the Nodes changed.
    pub(super) fn around_changed(&mut self, now: Timestamp) {
        if self.plane.observed_at.is_none() {
            return;
        }
        let pool = witness::settle(&self.config.pool, &self.plane.around);
        if pool != self.pool {
            self.pool = pool;
            self.expectations.refresh(&self.plane, &self.pool, &self.memory, now);
            self.judge_everything(now);
        } else {
            self.agenda.pool = true;
            self.agenda.reborn = true;
        }
    }
}

/// Which plugins program routes on most nodes; gives the nodes for which that makes a difference.
pub(super) fn count_majorities(rows: &BTreeMap<String, Row>, majorities: &mut BTreeSet<String>) -> BTreeSet<String> {
    let seen = rows.values();
    let seen = seen.filter_map(|row| Some((row.habit.plugin.as_deref()?, !row.seen.cidrs.is_empty())));
    let new = habit::majorities(seen);
    if new == *majorities {
        return BTreeSet::new();
    }
    let differ: BTreeSet<&String> = new.symmetric_difference(majorities).collect();
    let names = rows
        .iter()
        .filter(|(_, row)| row.habit.plugin.as_ref().is_some_and(|plugin| differ.contains(plugin)))
        .map(|(name, _)| name.clone())
        .collect();
    *majorities = new;
    names
}

/// The Nodes that differ, if none came, went, or changed what it owns: then nobody
/// else's CIDRs or addresses mean anything new.
fn in_place(old: &ControlPlane, new: &ControlPlane) -> Option<BTreeSet<String>> {
    if !old.nodes.keys().eq(new.nodes.keys()) {
        return None;
    }
    let mut changed = BTreeSet::new();
    for (before, after) in old.nodes.values().zip(new.nodes.values()) {
        if !owns_same(before, after) {
            return None;
        }
        if before != after {
            changed.insert(after.name.clone());
        }
    }
    Some(changed)
}

/// The same Node owns the same CIDRs and addresses.
pub(super) fn owns_same(before: &NodeRecord, after: &NodeRecord) -> bool {
    let public = |node: &NodeRecord| node.flannel.as_ref().and_then(|flannel| flannel.public_ip);
    before.uid == after.uid
        && before.pod_cidrs == after.pod_cidrs
        && before.internal_ips == after.internal_ips
        && public(before) == public(after)
}

/// Records say the same, whenever they were read.
pub(super) fn same_record(a: &NodeRecord, b: &NodeRecord) -> bool {
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
