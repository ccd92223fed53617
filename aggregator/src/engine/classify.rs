//! What allocates each Node's pod addresses, kept up in the census as what shows it changes.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::State;
use crate::correlate::habit;
use crate::ipam;

impl State {
    /// Counts a Node as it is now; true where it was there before and its IPAM is taken for something else.
    pub(super) fn note_class(&mut self, name: &str) -> bool {
        let Self {
            plane, hosts, census, ..
        } = self;
        let around = &plane.around;
        let before = census.ipam(name).cloned();
        let facts = hosts.get(name).and_then(|host| host.facts.as_ref());
        let node = plane.nodes.get(name);
        let node = node.map(|node| (node, ipam::classify(node, facts, around)));
        if census.note(name, node, around) {
            self.agenda.cluster = true;
        }
        let differs = before.is_some_and(|before| self.census.ipam(name).is_some_and(|after| *after != before));
        if differs {
            // An interface inside a CIDR matters only where its owner uses it.
            let cidrs = self.plane.nodes.get(name).map(|node| node.pod_cidrs.clone());
            let concerned = self.with_addresses_in(&cidrs.unwrap_or_default());
            self.agenda.nodes.extend(concerned);
            self.agenda.nodes.insert(name.to_owned());
        }
        differs
    }

    /// The same of all Nodes; gives those that are taken for something else.
    pub(super) fn note_classes(&mut self) -> Vec<String> {
        let counted = self.census.names();
        let gone: Vec<String> = counted
            .filter(|name| !self.plane.nodes.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.note_class(&name);
        }
        let mut names: Vec<String> = self.plane.nodes.keys().cloned().collect();
        names.retain(|name| self.note_class(name));
        names
    }

    /// What shows which IPAM nodes have changed: where it says something else now, everything is judged anew.
    pub(super) fn reclassify(&mut self, now: Timestamp) {
        let differ = self.note_classes();
        let Self {
            plane,
            hosts,
            rows,
            majorities,
            ..
        } = self;
        let mut changed = false;
        for (name, row) in rows.iter_mut() {
            if let Some(node) = plane.nodes.get(name) {
                changed |= row.expect(node, hosts.get(name), majorities, &plane.around);
            }
        }
        if (changed || !differ.is_empty()) && self.plane.observed_at.is_some() {
            if !self.rows.is_empty() {
                self.judge_everything(now);
            }
            // Nodes whose hosts do not report count as owners.
            for name in differ {
                self.claim_silent(&name, now);
            }
        }
    }

    /// The same of these nodes only.
    pub(super) fn reclassify_nodes(&mut self, names: &[String], now: Timestamp) {
        let mut differ = BTreeSet::new();
        for name in names {
            let mut changed = self.note_class(name);
            let Some(node) = self.plane.nodes.get(name) else {
                continue;
            };
            if let Some(row) = self.rows.get(name) {
                let host = self.hosts.get(name);
                changed |= habit::of(node, host, &row.seen, &self.majorities, &self.plane.around) != row.habit;
            }
            if changed {
                differ.insert(name.clone());
            }
        }
        if !differ.is_empty() && self.plane.observed_at.is_some() {
            self.rejudge_nodes(&differ, now);
        }
    }
}
