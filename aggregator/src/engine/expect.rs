//! What the agents are told: their Node's own data, and the prefixes that matter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::sync::watch;

use super::memory::Memory;
use crate::cluster::{ControlPlane, Expectation, PoolConfig};
use crate::netmap::NetMap;

/// Nodes unknown to the control plane that are kept track of at most: more is not a race of a new node with the watch.
pub(super) const STRANGERS: usize = 256;

/// Expectations of all nodes.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    revision: u64,
    interest: Vec<IpNet>,
    /// The revision in which each prefix of `interest` first was of interest.
    since: NetMap<u64>,
    senders: HashMap<String, watch::Sender<Arc<Expectation>>>,
}

impl Expectations {
    /// Makes them anew. A node is told only if something changed for it.
    pub(super) fn refresh(&mut self, plane: &ControlPlane, pool: &PoolConfig, memory: &Memory, now: Timestamp) {
        // Revisions go on after a restart of the aggregator, so that a view made for
        // an earlier life's expectation is not taken for one of this life.
        let clock = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let next = clock.max(self.revision + 1);
        let interest = interest(plane, pool, memory);
        if interest != self.interest || self.revision == 0 {
            let mut since = NetMap::default();
            for prefix in &interest {
                let known = self.since.longest(*prefix).map(|(_, revision)| *revision);
                since.insert(*prefix, known.unwrap_or(next));
            }
            self.since = since;
            self.interest = interest;
        }
        for name in self.senders.keys() {
            self.tell(plane, name, next);
        }
        // Whoever asks from now on is told with this revision, so it is used up either way.
        self.revision = next;
    }

    /// Follows one Node that came, changed or went; `cidrs` are those that are, or are
    /// remembered, since then or no more.
    pub(super) fn follow(
        &mut self,
        plane: &ControlPlane,
        pool: &PoolConfig,
        memory: &Memory,
        (name, cidrs): (&str, &[IpNet]),
        now: Timestamp,
    ) {
        // What lies inside the pool is of interest with it, whoever has it.
        let in_pool = |cidr: &IpNet| pool.ranges.iter().any(|range| range.contains(cidr));
        if !cidrs.iter().all(in_pool) {
            self.refresh(plane, pool, memory, now);
            return;
        }
        let clock = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let next = clock.max(self.revision + 1);
        self.tell(plane, name, next);
        self.revision = next;
    }

    /// Tells one node, if something changed for it.
    fn tell(&self, plane: &ControlPlane, name: &str, revision: u64) {
        let Some(sender) = self.senders.get(name) else { return };
        let new = self.of(plane, name, revision);
        sender.send_if_modified(|told| {
            let same = told.node_uid == new.node_uid
                && told.pod_cidrs == new.pod_cidrs
                && told.internal_ips == new.internal_ips
                && told.interest == new.interest;
            if !same {
                *told = Arc::new(new);
            }
            !same
        });
    }

    /// A control plane's state has been seen.
    pub(super) fn started(&self) -> bool {
        self.revision > 0
    }

    /// The revision in which this prefix first was of interest; [`u64::MAX`]: it never was.
    pub(super) fn since(&self, prefix: IpNet) -> u64 {
        self.since.longest(prefix).map_or(u64::MAX, |(_, revision)| *revision)
    }

    /// What this node is told, now and later.
    pub(super) fn watch(&mut self, plane: &ControlPlane, name: &str) -> watch::Receiver<Arc<Expectation>> {
        if let Some(sender) = self.senders.get(name) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Arc::new(self.of(plane, name, self.revision)));
        let strangers = || {
            self.senders
                .keys()
                .filter(|name| !plane.nodes.contains_key(*name))
                .count()
        };
        if plane.nodes.contains_key(name) || strangers() < STRANGERS {
            self.senders.insert(name.to_owned(), sender);
        }
        receiver
    }

    /// Drops channels of nodes that are gone and that nobody listens to.
    pub(super) fn sweep(&mut self, plane: &ControlPlane) {
        self.senders
            .retain(|name, sender| plane.nodes.contains_key(name) || sender.receiver_count() > 0);
    }

    /// Drops the channel of a node that is gone, if nobody listens to it.
    pub(super) fn sweep_one(&mut self, name: &str) {
        if self
            .senders
            .get(name)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            self.senders.remove(name);
        }
    }

    fn of(&self, plane: &ControlPlane, name: &str, revision: u64) -> Expectation {
        let node = plane.nodes.get(name);
        Expectation {
            revision,
            node_uid: node.map(|node| node.uid.clone()),
            pod_cidrs: node.map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            internal_ips: node.map(|node| node.internal_ips.clone()).unwrap_or_default(),
            interest: self.interest.clone(),
        }
    }
}

/// Pool ranges, every pod CIDR and former CIDRs, without those inside another.
fn interest(plane: &ControlPlane, pool: &PoolConfig, memory: &Memory) -> Vec<IpNet> {
    let cidrs = plane.nodes.values().flat_map(|node| &node.pod_cidrs);
    let former = memory.former().map(|former| former.cidr);
    let all: BTreeMap<IpNet, ()> = pool
        .ranges
        .iter()
        .chain(cidrs)
        .map(IpNet::trunc)
        .chain(former)
        .map(|net| (net, ()))
        .collect();
    let mut kept: Vec<IpNet> = Vec::new();
    // In this order a prefix stands before those inside it.
    let mut sorted: Vec<IpNet> = all.into_keys().collect();
    sorted.sort_by_key(|net| (net.network(), net.prefix_len()));
    for net in sorted {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept
}
