//! Has the rules make their claims, group by group, and hands them to the ledger.

use std::collections::BTreeSet;

use cidrift_proto::finding::Claim;
use cidrift_proto::verdict::Standing;
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use super::fates::Fates;
use crate::correlate::dossier::Dossiers;
use crate::correlate::{
    Scene, churn, cluster_cidr, delegate, host, oneway, overlap, pool, reborn, rivals, routes, sandbox, silent, stale,
    without,
};
use crate::ledger::Group;
use crate::netmap::overlap as meet;

impl State {
    pub(super) fn claim_everything(&mut self, now: Timestamp) {
        let mut names: BTreeSet<String> = self.rows.keys().cloned().collect();
        let mut hosts: BTreeSet<String> = self.hosts.keys().cloned().collect();
        let mut nodes: BTreeSet<String> = self.plane.nodes.keys().cloned().collect();
        for group in self.ledger.groups() {
            match group {
                Group::Row(name) => _ = names.insert(name.clone()),
                Group::Host(name) => _ = hosts.insert(name.clone()),
                Group::Reborn(name) | Group::Silent(name) | Group::Refused(name) | Group::Rivals(name) => {
                    _ = nodes.insert(name.clone())
                }
                Group::Node(_) | Group::Pool | Group::Delegates | Group::Churn => {}
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
        for name in nodes {
            self.claim_silent(&name, now);
            self.claim_refused(&name, now);
            self.claim_rivals(&name, now);
        }
    }

    pub(super) fn replace(&mut self, group: Group, claims: Vec<Claim>, now: Timestamp) {
        if claims.is_empty() && !self.ledger.has(&group) {
            return;
        }
        let scene = Scene {
            plane: &self.plane,
            book: &self.book,
            census: &self.census,
            pool: &self.pool,
            hosts: &self.hosts,
            now,
            silence: self.config.silence,
        };
        let fates = Fates::new(scene, &self.rows, &self.memory.churn);
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
        if let Some(row) = self.rows.get_mut(name)
            && row.wake != wake
        {
            let before = std::mem::replace(&mut row.wake, wake);
            if let Some(before) = before {
                self.agenda.wakes.remove(&(before, name.to_owned()));
            }
            self.agenda.wakes.extend(wake.map(|wake| (wake, name.to_owned())));
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
        of_family.peek().is_some() && of_family.all(|at| row.marks.get(*at) == Some(Standing::Delivered))
    }

    pub(super) fn claim_host(&mut self, name: &str, now: Timestamp) {
        let claims = match self.scene(now).host(name) {
            Some(host) => host::claims(host),
            None => Vec::new(),
        };
        self.replace(Group::Host(name.to_owned()), claims, now);
    }

    /// What is claimed of the pool, of the Nodes together and of each by itself: all of it, looking at every Node once.
    /// Single changes have [`Self::claim_nodes`] and [`Self::claim_cluster`] look at what they can have changed.
    pub(super) fn claim_pool(&mut self, now: Timestamp) {
        (self.agenda.pool, self.agenda.pool_at) = (false, now);
        self.ripens.pool = sandbox::ripens(&self.scene(now));
        self.claim_delegates(now);
        self.claim_cluster(now);
        self.agenda.nodes.clear();
        let names: Vec<String> = self.plane.nodes.keys().cloned().collect();
        self.claim_nodes(&names, now);
        let gone = self.ledger.nodes().filter(|name| !self.plane.nodes.contains_key(*name));
        let gone: Vec<String> = gone.cloned().collect();
        self.claim_nodes(&gone, now);
    }

    /// What is claimed of the pool and of the Nodes together. It rests on what is counted of them ([`crate::correlate::census`])
    /// and looks at those only that the figures point to.
    pub(super) fn claim_cluster(&mut self, now: Timestamp) {
        self.agenda.cluster = false;
        let scene = self.scene(now);
        let ground = pool::Ground::new(&scene);
        let mut claims = overlap::claims(&scene);
        claims.extend(pool::claims(&scene, &ground));
        claims.extend(cluster_cidr::claims(&scene));
        let footing = without::footing(&scene, &ground);
        if footing != self.footing {
            self.footing = footing;
            self.agenda.nodes.extend(self.census.waiting().cloned());
        }
        self.replace(Group::Pool, claims, now);
    }

    /// What objects of CNI allocators show.
    pub(super) fn claim_delegates(&mut self, now: Timestamp) {
        self.agenda.delegates = false;
        let scene = self.scene(now);
        let claims = delegate::claims(&scene, &self.memory.churn);
        let ripens = delegate::ripens(&scene, &self.memory.churn);
        self.ripens.pool = [self.ripens.pool, ripens].into_iter().flatten().min();
        self.replace(Group::Delegates, claims, now);
    }

    /// What is claimed of each of these Nodes by itself.
    pub(super) fn claim_nodes<'n>(&mut self, names: impl IntoIterator<Item = &'n String>, now: Timestamp) {
        let names: Vec<&String> = names.into_iter().collect();
        let scene = self.scene(now);
        let mut claims = Dossiers::new(&scene, &self.footing).of_each(names.iter().copied());
        let ripens = names.iter().filter_map(|name| sandbox::ripens_of(&scene, name)).min();
        for name in names {
            if !claims.contains_key(name) && self.ledger.has(&Group::Node(name.clone())) {
                claims.insert(name.clone(), Vec::new());
            }
        }
        self.ripens.pool = [self.ripens.pool, ripens].into_iter().flatten().min();
        for (name, claims) in claims {
            self.replace(Group::Node(name), claims, now);
        }
    }

    /// What single changes have put on the agenda, once they are applied.
    pub(super) fn claim_due(&mut self, now: Timestamp) {
        if self.plane.observed_at.is_none() {
            return;
        }
        if self.agenda.cluster {
            self.claim_cluster(now);
        }
        if !self.agenda.nodes.is_empty() {
            let names = std::mem::take(&mut self.agenda.nodes);
            self.claim_nodes(&names, now);
        }
    }

    /// Nodes that come and go.
    pub(super) fn claim_churn(&mut self, now: Timestamp) {
        let churn = churn::claim(&self.scene(now), &self.memory.churn);
        self.ripens.reborn = self.memory.churn.ripens(now);
        self.replace(Group::Churn, churn.into_iter().collect(), now);
    }

    /// What rests on what is remembered: of every node that had another CIDR before, and churn.
    pub(super) fn claim_reborn(&mut self, now: Timestamp) {
        (self.agenda.reborn, self.agenda.reborn_at) = (false, now);
        self.claim_churn(now);
        let mut names: BTreeSet<String> = self.ledger.reborn().cloned().collect();
        // Pods may show an earlier life that nobody remembers.
        names.extend(self.plane.nodes.keys().cloned());
        for name in names {
            self.claim_reborn_one(&name, now);
        }
    }

    /// Of this node, of those that had one of these CIDRs, and of those of which it is claimed now.
    pub(super) fn claim_reborn_of(&mut self, name: &str, cidrs: &[IpNet], now: Timestamp) {
        let mut names: BTreeSet<String> = self.ledger.reborn().cloned().collect();
        names.insert(name.to_owned());
        if !cidrs.is_empty() {
            let former = self.memory.former();
            let met = former.filter(|former| cidrs.iter().any(|cidr| meet(cidr, &former.cidr)));
            names.extend(met.map(|former| former.node.clone()));
        }
        for name in names {
            self.claim_reborn_one(&name, now);
        }
    }

    fn claim_reborn_one(&mut self, name: &str, now: Timestamp) {
        let scene = self.scene(now);
        let node = scene.node(name);
        let claim = node.and_then(|node| reborn::of(&scene, &self.memory, node));
        self.replace(Group::Reborn(name.to_owned()), claim.into_iter().collect(), now);
    }

    /// That nothing is heard of a node, unless its agent may only be on its way.
    pub(super) fn claim_silent(&mut self, name: &str, now: Timestamp) {
        let scene = self.scene(now);
        let claim = scene.node(name).and_then(|node| silent::claim(&scene, node));
        let group = Group::Silent(name.to_owned());
        let heard = self.hosts.get(name).map(|host| host.heard_at);
        // What stands goes on standing.
        if claim.is_some() && !self.ledger.has(&group) && self.hearing.early(heard, now) {
            self.hearing.hold(name);
            return;
        }
        self.replace(group, claim.into_iter().collect(), now);
    }
    /// That several agents speak for a node, once it has lasted.
    pub(super) fn claim_rivals(&mut self, name: &str, now: Timestamp) {
        let host = self.hosts.get(name).filter(|_| self.plane.nodes.contains_key(name));
        let claim = host.and_then(|host| rivals::claim(host, now));
        let until = host.and_then(|host| Some(host.rivals.as_ref()?.until));
        if let (Some(_), Some(until)) = (&claim, until) {
            // They may say nothing any more by then.
            self.agenda.rivals.insert((until, name.to_owned()));
        }
        self.replace(Group::Rivals(name.to_owned()), claim.into_iter().collect(), now);
    }
}
