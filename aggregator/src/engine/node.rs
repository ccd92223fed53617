//! One Node that came, changed or went: what depends on it follows, and nothing else
//! is looked at. A whole list is [`State::control_plane`]'s, and both come to the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_proto::landing::Landing;
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use super::row::Why;
use super::state::{owns_same, same_record};
use crate::cluster::{HostState, NodeRecord, PoolConfig};
use crate::correlate::book::{Book, addresses, always_aggregate};
use crate::correlate::{Scene, outside};
use crate::netmap::overlap;

impl State {
    /// Takes a Node's new record; `None`: it is gone.
    pub(super) fn node_changed(&mut self, name: &str, mut after: Option<NodeRecord>, now: Timestamp) {
        // Before all Nodes were listed, one of them says nothing of the others; while the
        // watch is broken nothing that comes from it can be.
        let seen = self.plane.observed_at;
        if seen.is_some() && self.plane.problem.is_none() {
            self.plane.observed_at = Some(now);
        }
        let before = self.plane.nodes.get(name);
        if let Some(record) = &mut after {
            let same = before.filter(|before| same_record(before, record));
            record.changed_at = same.map_or(now, |before| before.changed_at);
        }
        if before == after.as_ref() {
            return;
        }
        let before = match after {
            Some(record) => self.plane.nodes.insert(name.to_owned(), record),
            None => self.plane.nodes.remove(name),
        };
        if self.plane.observed_at.is_none() {
            return;
        }
        self.note_class(name);
        match (&before, self.plane.nodes.get(name)) {
            (Some(before), Some(after)) if owns_same(before, after) => {
                self.rejudge_nodes(&BTreeSet::from([name.to_owned()]), now);
                self.agenda.nodes.insert(name.to_owned());
            }
            _ => self.owner_changed(name, (before.as_ref(), seen), now),
        }
        self.claim_due(now);
    }

    /// A Node came, went, or owns something else than before.
    fn owner_changed(&mut self, name: &str, (before, seen): (Option<&NodeRecord>, Option<Timestamp>), now: Timestamp) {
        let after = self.plane.nodes.get(name);
        let forgotten = self.memory.note_node(name, (before, seen), after, now);
        let moved = self.book.replace(name, before, after);
        let both = || before.into_iter().chain(after);
        let mut cidrs: Vec<IpNet> = both().flat_map(|node| &node.pod_cidrs).map(IpNet::trunc).collect();
        cidrs.sort_unstable();
        cidrs.dedup();
        let addresses: BTreeSet<IpAddr> = both().flat_map(addresses).collect();
        let gone = after.is_none();
        let interest: Vec<IpNet> = cidrs.iter().copied().chain(forgotten).collect();
        self.expectations
            .follow(&self.plane, &self.pool, &self.memory, (name, &interest), now);
        for row in self.rows.values_mut() {
            row.step(&self.book, &moved.moves, &cidrs);
        }
        let mut fresh = false;
        if gone {
            self.expectations.sweep_one(name);
            self.drop_row(name);
        }
        if self.hosts.contains_key(name) {
            if gone {
                self.agenda.strangers.insert(name.to_owned());
            } else {
                self.agenda.strangers.remove(name);
                fresh = !self.rows.contains_key(name);
                self.rows.entry(name.to_owned()).or_default();
            }
        }
        let own = self.book.by_owner.get(name).into_iter().flatten();
        let slots: BTreeSet<usize> = moved.touched.iter().chain(own).copied().collect();
        let change = Change { cidrs, addresses };
        let dirty = self.follow_rows(name, fresh, &change, &slots, now);
        for row in dirty {
            self.claim_row(&row, now);
        }
        self.claim_host(name, now);
        if self.hosts.contains_key(name) && (gone || before.is_none()) {
            // Its routes count from now on, or no more: they may be for any former CIDR.
            self.claim_reborn(now);
        } else {
            self.claim_reborn_of(name, &change.cidrs, now);
            self.claim_churn(now);
        }
        self.claim_silent(name, now);
        self.claim_refused(name, now);
        self.claim_rivals(name, now);
        // Interfaces of any host may have addresses of these CIDRs.
        let concerned = self.with_addresses_in(&change.cidrs);
        self.agenda.nodes.extend(concerned);
        self.agenda.nodes.insert(name.to_owned());
        (self.agenda.cluster, self.agenda.delegates) = (true, true);
        let by_place = outside::by_place(&self.scene(now));
        if std::mem::replace(&mut self.by_place, by_place) != by_place {
            self.agenda.pool = true;
        }
    }

    /// Hosts with an interface that has an address of one of these CIDRs.
    pub(super) fn with_addresses_in(&self, cidrs: &[IpNet]) -> BTreeSet<String> {
        let has = |host: &&HostState| {
            let links = host.facts.iter().flat_map(|facts| &facts.links);
            let mut addresses = links.flat_map(|link| &link.addresses);
            addresses.any(|net| cidrs.iter().any(|cidr| cidr.contains(&net.addr())))
        };
        self.hosts.values().filter(has).map(|host| host.node.clone()).collect()
    }

    /// Has every host's row follow; gives those whose claims may differ.
    fn follow_rows(
        &mut self,
        name: &str,
        fresh: bool,
        change: &Change,
        slots: &BTreeSet<usize>,
        now: Timestamp,
    ) -> BTreeSet<String> {
        let mut dirty: BTreeSet<String> = self.ledger.rows().cloned().collect();
        dirty.insert(name.to_owned());
        let scene = Scene {
            plane: &self.plane,
            book: &self.book,
            census: &self.census,
            pool: &self.pool,
            hosts: &self.hosts,
            now,
            silence: self.config.silence,
        };
        let mut depends: Vec<(&String, BTreeSet<usize>)> = Vec::new();
        for (source, row) in &mut self.rows {
            let Some((source, host)) = scene.hosts.get_key_value(source) else {
                continue;
            };
            let mut judge = slots.clone();
            if fresh && source == name {
                row.read_all(&scene, host);
            } else {
                let read = change.meets(host, scene.book, scene.pool, &mut judge);
                for prefix in &read {
                    row.read(&scene, host, *prefix);
                }
                if !read.is_empty() {
                    dirty.insert(source.clone());
                }
            }
            depends.push((source, judge));
        }
        let differ: BTreeSet<String> = super::state::count_majorities(&self.rows, &mut self.majorities);
        let since = |cidr: IpNet| self.expectations.since(cidr);
        for (source, mut judge) in depends {
            let (Some(node), Some(row)) = (scene.node(source), self.rows.get_mut(source)) else {
                continue;
            };
            let habit = row.expect(node, scene.hosts.get(source), &self.majorities, &scene.plane.around);
            let judged = if habit || source == name || differ.contains(source) {
                row.judge(&scene, node, 0..scene.book.slots.len(), Why::Else, &since)
            } else {
                let broken = row.broken.keys().filter_map(|cidr| scene.book.by_net.get(*cidr));
                judge.extend(broken.filter_map(|places| places.first()));
                row.judge(&scene, node, judge.into_iter(), Why::Else, &since)
            };
            if judged || habit || !row.broken.is_empty() {
                dirty.insert(source.clone());
            }
        }
        dirty
    }
}

/// What a Node had or has.
struct Change {
    cidrs: Vec<IpNet>,
    addresses: BTreeSet<IpAddr>,
}

impl Change {
    /// Entries of a host that show something else now, by prefix; the slots for which
    /// they may decide otherwise go to `judge`.
    fn meets(&self, host: &HostState, book: &Book, pool: &PoolConfig, judge: &mut BTreeSet<usize>) -> Vec<IpNet> {
        let touches = |net: IpNet| self.cidrs.iter().any(|cidr| overlap(cidr, &net));
        let mut read = Vec::new();
        for entry in host.forwarding.iter() {
            let route = entry.meant_for();
            let met = touches(entry.prefix) || touches(route);
            if met {
                read.push(entry.prefix);
            }
            // Whether a route is meant for one node alone depends on whom it covers.
            if met && !always_aggregate(route, pool) {
                judge.extend(book.positions(route));
                judge.extend(book.positions(entry.prefix));
            }
            if lands_on(&entry.landing, &self.addresses) {
                judge.extend(book.positions(entry.prefix));
            }
        }
        read
    }
}

/// Whether packets are handed to one of these addresses.
fn lands_on(landing: &Landing, addresses: &BTreeSet<IpAddr>) -> bool {
    match landing {
        Landing::Underlay { address, .. } => addresses.contains(address),
        Landing::Multipath { legs } => legs.iter().any(|leg| lands_on(&leg.landing, addresses)),
        _ => false,
    }
}
