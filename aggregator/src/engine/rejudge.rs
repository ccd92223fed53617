//! Judging anew what a change of some Nodes or of one host can have changed.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::verdict::Verdict;
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use super::apply::Touched;
use super::expect::Expectations;
use super::row::{Row, Why};
use super::state::count_majorities;
use crate::correlate::Scene;
use crate::correlate::book::Book;

/// What is judged, and by what.
pub(super) struct Judging<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) rows: &'a mut BTreeMap<String, Row>,
    expectations: &'a Expectations,
    majorities: &'a BTreeSet<String>,
}

impl State {
    /// Everything that judging rows takes, side by side.
    pub(super) fn judging(&mut self, now: Timestamp) -> Judging<'_> {
        Judging {
            scene: Scene {
                plane: &self.plane,
                book: &self.book,
                census: &self.census,
                pool: &self.pool,
                hosts: &self.hosts,
                now,
                silence: self.config.silence,
            },
            rows: &mut self.rows,
            expectations: &self.expectations,
            majorities: &self.majorities,
        }
    }

    /// Judges what depends on Nodes that changed in what they say of themselves only.
    /// The claims about the whole cluster are the caller's.
    pub(super) fn rejudge_nodes(&mut self, changed: &BTreeSet<String>, now: Timestamp) {
        let mut dirty = changed.clone();
        dirty.extend(self.ledger.rows().cloned());
        let Judging {
            scene,
            rows,
            expectations,
            majorities,
        } = self.judging(now);
        let (plane, book) = (scene.plane, scene.book);
        let since = |cidr: IpNet| expectations.since(cidr);
        let columns = changed.iter().filter_map(|name| book.by_owner.get(name));
        let columns: BTreeSet<usize> = columns.flatten().copied().collect();
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
        let Judging {
            scene,
            rows,
            expectations,
            majorities,
        } = self.judging(now);
        let (plane, book) = (scene.plane, scene.book);
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
        let mut together = BTreeSet::new();
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
                together.insert(other.clone());
            }
        }
        self.agenda.rows.extend(together);
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
        if touched.all || woke || touched.prefixes.iter().any(routes_twins) {
            self.agenda.cluster = true;
        }
        if touched.facts || touched.claims || woke {
            self.agenda.nodes.insert(name.to_owned());
            // At once for one host; where many tell something between two ticks, the rest wait for the next.
            if (touched.facts || touched.claims) && !std::mem::replace(&mut self.agenda.spent, true) {
                if self.agenda.pool {
                    self.claim_pool(now);
                } else {
                    self.claim_due(now);
                }
            }
        }
        if woke {
            self.claim_silent(name, now);
        }
        if woke || touched.rivals {
            self.claim_rivals(name, now);
        }
        if woke || touched.all {
            self.claim_reborn(now);
        } else if !touched.prefixes.is_empty() {
            self.claim_reborn_of(name, &touched.prefixes, now);
        }
    }

    fn judge_row(&mut self, name: &str, now: Timestamp) {
        let Judging {
            scene,
            rows,
            expectations,
            majorities,
        } = self.judging(now);
        let (plane, book) = (scene.plane, scene.book);
        if let (Some(node), Some(row)) = (plane.nodes.get(name), rows.get_mut(name)) {
            row.expect(node, scene.hosts.get(name), majorities, &plane.around);
            let since = |cidr: IpNet| expectations.since(cidr);
            row.judge(&scene, node, 0..book.slots.len(), Why::Else, &since);
        }
    }

    pub(super) fn judge_everything(&mut self, now: Timestamp) {
        let names: Vec<String> = self.rows.keys().cloned().collect();
        for name in &names {
            self.judge_row(name, now);
        }
        self.claim_everything(now);
    }
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
