//! All state, and how it changes: an event goes in, the rows that depend on it are
//! judged anew, and their claims go to the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
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
use super::refused::Refused;
use super::row::{Row, Why};
use super::time::Agenda;
use crate::cluster::around::Around;
use crate::cluster::objects::RangeWitness;
use crate::cluster::{ControlPlane, Expectation, HostEvent, HostState, NodeRecord, PoolConfig, ReportState};
use crate::correlate::book::Book;
use crate::correlate::{Scene, explain, habit};
use crate::ipam::{self, witness};
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
    /// What each Node's IPAM was taken for, condensed, without what its host says.
    pub(super) classes: HashMap<String, u64>,
    pub(super) agenda: Agenda,
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
            hosts: BTreeMap::new(),
            rows: BTreeMap::new(),
            expectations: Expectations::default(),
            memory: Memory::default(),
            refused: Refused::default(),
            majorities: BTreeSet::new(),
            reports: BTreeMap::new(),
            told_strangers: false,
            ripens: Ripens::default(),
            classes: HashMap::new(),
            programs: BTreeMap::new(),
            agenda: Agenda::default(),
            clock: Timestamp::UNIX_EPOCH,
        }
    }

    pub(super) fn scene(&self, now: Timestamp) -> Scene<'_> {
        Scene {
            plane: &self.plane,
            book: &self.book,
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
        let touched = apply(host, event, now);
        if stranger {
            self.agenda.strangers.insert(node.to_owned());
        } else if !self.rows.contains_key(node) {
            self.rows.insert(node.to_owned(), Row::default());
        }
        if touched.facts {
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
            if problem_same {
                self.claim_pool(now);
                self.claim_reborn(now);
            } else {
                self.claim_everything(now);
            }
            return;
        }
        if let Some(changed) = in_place(&old, &self.plane).filter(|_| started && pool_same) {
            for name in &changed {
                self.note_class(name);
            }
            self.rejudge_nodes(&changed, now);
            self.claim_pool(now);
            return;
        }
        let nodes = self.plane.nodes.iter();
        self.classes = nodes
            .map(|(name, node)| (name.clone(), class(node, &self.plane.around)))
            .collect();
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
        let scene = Scene {
            plane: &self.plane,
            book: &self.book,
            pool: &self.pool,
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
        count_majorities(&self.rows, &mut self.majorities);
        self.judge_everything(now);
    }

    /// The source of this name is no Node any more.
    pub(super) fn drop_row(&mut self, name: &str) {
        if let Some(wake) = self.rows.remove(name).and_then(|row| row.wake) {
            self.agenda.wakes.remove(&(wake, name.to_owned()));
        }
    }

    /// Keeps what a Node's IPAM is taken for.
    pub(super) fn note_class(&mut self, name: &str) {
        match self.plane.nodes.get(name) {
            Some(node) => _ = self.classes.insert(name.to_owned(), class(node, &self.plane.around)),
            None => _ = self.classes.remove(name),
        }
    }

    /// What shows which IPAM nodes have changed: where it says something else now, everything is judged anew.
    pub(super) fn reclassify(&mut self, now: Timestamp) {
        let Self {
            plane,
            hosts,
            rows,
            majorities,
            classes,
            ..
        } = self;
        let mut changed = false;
        for (name, row) in rows.iter_mut() {
            if let Some(node) = plane.nodes.get(name) {
                changed |= row.expect(node, hosts.get(name), majorities, &plane.around);
            }
        }
        // Nodes whose hosts do not report count as owners.
        let mut differ = Vec::new();
        let mut new = HashMap::new();
        for (name, node) in plane.nodes.iter().filter(|(name, _)| !rows.contains_key(*name)) {
            let class = class(node, &plane.around);
            if classes.get(name).is_some_and(|before| *before != class) {
                differ.push(name.clone());
            }
            new.insert(name.clone(), class);
        }
        classes.extend(new);
        if (changed || !differ.is_empty()) && self.plane.observed_at.is_some() {
            if !self.rows.is_empty() {
                self.judge_everything(now);
            }
            for name in differ {
                self.claim_silent(&name, now);
            }
        }
    }

    /// The same of these nodes only.
    pub(super) fn reclassify_nodes(&mut self, names: &[String], now: Timestamp) {
        let mut differ = BTreeSet::new();
        for name in names {
            let Some(node) = self.plane.nodes.get(name) else {
                continue;
            };
            let around = &self.plane.around;
            let changed = match self.rows.get(name) {
                Some(row) => {
                    let host = self.hosts.get(name);
                    habit::of(node, host, &row.seen, &self.majorities, around) != row.habit
                }
                None => {
                    let class = class(node, around);
                    let before = self.classes.insert(name.clone(), class);
                    before.is_some_and(|before| before != class)
                }
            };
            if changed {
                differ.insert(name.clone());
            }
        }
        if !differ.is_empty() && self.plane.observed_at.is_some() {
            self.rejudge_nodes(&differ, now);
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

    /// Judges what depends on Nodes that changed in what they say of themselves only.
    /// The claims about the whole cluster are the caller's.
    pub(super) fn rejudge_nodes(&mut self, changed: &BTreeSet<String>, now: Timestamp) {
        let Self {
            config,
            plane,
            pool,
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
            pool,
            hosts,
            now,
            silence: config.silence,
        };
        let since = |cidr: IpNet| expectations.since(cidr);
        let columns = changed.iter().filter_map(|name| book.by_owner.get(name));
        let columns: BTreeSet<usize> = columns.flatten().copied().collect();
        let mut dirty = changed.clone();
        dirty.extend(self.ledger.rows().cloned());
        for (name, row) in rows.iter_mut() {
            let Some(node) = plane.nodes.get(name) else { continue };
            let own = changed.contains(name) && row.expect(node, scene.hosts.get(name), majorities, &plane.around);
            let judged = if own {
                row.judge(&scene, node, 0..book.slots.len(), Why::Else, &since)
            } else {
                let broken = row.broken.keys().filter_map(|cidr| book.by_net.get(*cidr)?.first());
                let slots: BTreeSet<usize> = broken.chain(&columns).copied().collect();
                row.judge(&scene, node, slots.into_iter(), Why::Else, &since)
            };
            if judged {
                dirty.insert(name.clone());
            }
        }
        for name in dirty {
            self.claim_row(&name, now);
        }
        for name in changed {
            self.claim_reborn_of(name, &[], now);
            self.claim_silent(name, now);
        }
    }

    /// Judges what depends on one host.
    pub(super) fn rejudge_host(&mut self, name: &str, touched: Touched, woke: bool, now: Timestamp) {
        if !woke && touched.nothing() {
            return;
        }
        let why = Why::Host(touched.seen);
        let mut dirty: BTreeSet<String> = BTreeSet::new();
        let all = touched.all || woke;
        let Self {
            config,
            plane,
            pool,
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
            pool,
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
            let habit = row.expect(node, host, majorities, &plane.around);
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
            if changed || all || habit || touched.facts || strays || touched.claims {
                dirty.insert(name.to_owned());
            }
        }
        // Packets that others misdeliver to this node go on from here.
        let own_slots = book.by_owner.get(name).cloned().unwrap_or_default();
        let column = touched.all || touched.facts || woke;
        for (other, row) in rows.iter_mut().filter(|(other, _)| *other != name) {
            let Some(node) = plane.nodes.get(other) else { continue };
            if row.broken.is_empty() && !(column && row.blind.is_none()) {
                continue;
            }
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
                self.agenda.rows.insert(other.clone());
            }
        }
        if programs_changed {
            for other in count_majorities(&self.rows, &mut self.majorities) {
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
        // Whom the others route a CIDR of two nodes to is told with the overlap.
        let routes_twins = |prefix: &IpNet| self.book.overlapping(*prefix).any(|slot| !slot.contested.is_empty());
        if touched.all || touched.prefixes.iter().any(routes_twins) {
            self.agenda.pool = true;
        }
        if touched.facts || touched.claims || woke {
            // At once for one host; where many tell something between two ticks, the rest wait for the next.
            self.agenda.pool = true;
            if (touched.facts || touched.claims) && !std::mem::replace(&mut self.agenda.spent, true) {
                self.claim_pool(now);
            }
        }
        if woke {
            self.claim_silent(name, now);
        }
        if woke || touched.all {
            self.claim_reborn(now);
        } else if !touched.prefixes.is_empty() {
            self.claim_reborn_of(name, &touched.prefixes, now);
        }
    }

    fn judge_row(&mut self, name: &str, now: Timestamp) {
        let Self {
            config,
            plane,
            pool,
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
            pool,
            hosts,
            now,
            silence: config.silence,
        };
        if let (Some(node), Some(row)) = (plane.nodes.get(name), rows.get_mut(name)) {
            row.expect(node, scene.hosts.get(name), majorities, &plane.around);
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

/// What a Node's IPAM is taken for, condensed.
fn class(node: &NodeRecord, around: &Around) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    ipam::classify(node, None, around).hash(&mut hasher);
    hasher.finish()
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
