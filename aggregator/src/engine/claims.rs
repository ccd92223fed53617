//! Has the rules make their claims, group by group, and hands them to the ledger.

use std::collections::BTreeSet;

use cidrift_proto::finding::Claim;
use cidrift_proto::verdict::Standing;
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use super::fates::Fates;
use crate::correlate::{Scene, host, oneway, overlap, pool, reborn, routes, silent, stale};
use crate::ledger::Group;

impl State {
    pub(super) fn claim_everything(&mut self, now: Timestamp) {
        let mut names: BTreeSet<String> = self.rows.keys().cloned().collect();
        let mut hosts: BTreeSet<String> = self.hosts.keys().cloned().collect();
        for group in self.ledger.groups() {
            match group {
                Group::Row(name) => _ = names.insert(name.clone()),
                Group::Host(name) => _ = hosts.insert(name.clone()),
                Group::Pool | Group::Reborn | Group::Silent => {}
            }
        }
        for name in names {
            self.claim_row(&name, now);
        }
        for name in hosts {
            self.claim_host(&name, now);
        }
        self.claim_pool(now);
        self.claim_reborn(now);
        self.claim_silent(now);
    }

    fn replace(&mut self, group: Group, claims: Vec<Claim>, now: Timestamp) {
        if claims.is_empty() && !self.ledger.has(&group) {
            return;
        }
        let fates = Fates {
            scene: Scene {
                plane: &self.plane,
                book: &self.book,
                pool: &self.config.pool,
                hosts: &self.hosts,
                now,
                silence: self.config.silence,
            },
            rows: &self.rows,
        };
        self.ledger
            .replace(group, claims, &|claim, row| fates.of(claim, row), now);
    }

    pub(super) fn claim_row(&mut self, name: &str, now: Timestamp) {
        let mut claims = Vec::new();
        let mut wake = None;
        let scene = self.scene(now);
        let row = self.rows.get(name);
        if let (Some(node), Some(row)) = (self.plane.nodes.get(name), row)
            && let Ok(source) = row.source(&scene, node)
        {
            let settle = self.config.settle;
            let since = |cidr: IpNet| self.expectations.since(cidr);
            claims = routes::claims(&scene, source, &row.broken, settle, &since);
            let reached = |peer: &str, v4: bool| self.reaches(peer, name, v4);
            claims.extend(oneway::claim(&scene, source, &row.broken, &reached));
            let (stale, next) = stale::claim(&scene, source, &row.strays, &self.memory, settle);
            claims.extend(stale);
            let ripens = row
                .broken
                .values()
                .filter_map(|pair| pair.since.checked_add(settle).ok());
            wake = ripens.chain(next).filter(|at| *at > now).min();
        }
        if let Some(row) = self.rows.get_mut(name) {
            row.wake = wake;
        }
        self.replace(Group::Row(name.to_owned()), claims, now);
    }

    /// Whether packets of `source` for every pod CIDR of `owner` of one family are delivered.
    fn reaches(&self, source: &str, owner: &str, v4: bool) -> bool {
        let Some(row) = self.rows.get(source) else { return false };
        let slots = self.book.by_owner.get(owner).into_iter().flatten();
        let mut of_family = slots
            .filter(|at| self.book.slots[**at].cidr.addr().is_ipv4() == v4)
            .peekable();
        of_family.peek().is_some() && of_family.all(|at| row.marks.get(*at) == Some(&Standing::Delivered))
    }

    pub(super) fn claim_host(&mut self, name: &str, now: Timestamp) {
        let claims = match self.scene(now).host(name) {
            Some(host) => host::claims(host),
            None => Vec::new(),
        };
        self.replace(Group::Host(name.to_owned()), claims, now);
    }

    pub(super) fn claim_pool(&mut self, now: Timestamp) {
        let scene = self.scene(now);
        let mut claims = pool::claims(&scene);
        claims.extend(overlap::claims(&scene));
        self.replace(Group::Pool, claims, now);
    }

    pub(super) fn claim_reborn(&mut self, now: Timestamp) {
        let claims = reborn::claims(&self.scene(now), &self.memory);
        self.replace(Group::Reborn, claims, now);
    }

    pub(super) fn claim_silent(&mut self, now: Timestamp) {
        let scene = self.scene(now);
        let nodes = self.plane.nodes.values();
        let claims = nodes.filter_map(|node| silent::claim(&scene, node)).collect();
        self.replace(Group::Silent, claims, now);
    }
}
