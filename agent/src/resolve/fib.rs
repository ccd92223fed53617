//! The effective forwarding table for pod traffic.
//!
//! Policy rules and tables are flattened: the prefixes of all tables that pod
//! traffic may be looked up in, and the `to` of its rules, nest or are disjoint,
//! so one evaluation per prefix is exact for every address that no longer
//! prefix covers. An entry that lands as the entry around it does is kept: a
//! route for exactly a pod CIDR stays visible as such.

use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::landing::ForwardingEntry;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use prefix_trie::map::Entry;
use prefix_trie::{Prefix, PrefixMap};

use crate::view::{Changes, Kernel};

use super::coverage::Coverage;
use super::flow::contains;
use super::outer;
use super::pods::Pods;

/// Whose traffic to where is of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only entries inside these are kept; each of the widest has an entry of
    /// its own in any case, with "no route" where that is so. Empty: nothing is
    /// of interest. `0.0.0.0/0` and `::/0` mean everything.
    pub interest: Vec<IpNet>,
    /// The Node's InternalIPs; empty: not known.
    pub internal_ips: Vec<IpAddr>,
    /// The Node's pod CIDRs: where pod traffic comes from. Empty: not known,
    /// and rules that select by source cannot be decided.
    pub pod_cidrs: Vec<IpNet>,
    /// The device that pod traffic comes in through, where the CNI
    /// configuration names it; otherwise the bridge with an address of a pod CIDR.
    pub pod_device: Option<String>,
}

impl Scope {
    /// Everything is of interest.
    pub fn everything() -> Self {
        Self {
            interest: vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
            ..Self::default()
        }
    }
}

/// What changed in a [`Fib`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Entries that are new or differ in landing or route.
    pub upserts: Vec<Arc<ForwardingEntry>>,
    /// Entries that are gone.
    pub removed: Vec<IpNet>,
}

impl Diff {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removed.is_empty()
    }
}

/// The effective forwarding table for pod traffic.
#[derive(Debug, Clone, Default)]
pub struct Fib {
    scope: Scope,
    /// The scope is newer than the entries.
    stale: bool,
    /// The widest prefixes of the scope's interest.
    widest_v4: PrefixMap<Ipv4Net, IpNet>,
    widest_v6: PrefixMap<Ipv6Net, IpNet>,
    v4: PrefixMap<Ipv4Net, Row>,
    v6: PrefixMap<Ipv6Net, Row>,
    /// Counts passes, to tell the rows that a pass has not met.
    pass: u64,
}

#[derive(Debug, Clone)]
struct Row {
    /// Shared with whoever is told of it: a table of 50,000 is not copied, and the
    /// tries' nodes stay small.
    entry: Arc<ForwardingEntry>,
    pass: u64,
}

/// More changed prefixes than this, or than an eighth of the entries, and all are evaluated anew.
const MANY_CHANGES: usize = 64;

impl Fib {
    /// Empty, with nothing of interest.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the scope. The entries follow with the next rebuild or update.
    pub fn set_scope(&mut self, scope: Scope) {
        if self.scope == scope {
            return;
        }
        self.widest_v4 = PrefixMap::new();
        self.widest_v6 = PrefixMap::new();
        let mut interest: Vec<IpNet> = scope.interest.iter().map(IpNet::trunc).collect();
        interest.sort_by_key(IpNet::prefix_len);
        for prefix in interest {
            match prefix {
                IpNet::V4(net) if self.widest_v4.get_lpm(&net).is_none() => {
                    self.widest_v4.insert(net, prefix);
                }
                IpNet::V6(net) if self.widest_v6.get_lpm(&net).is_none() => {
                    self.widest_v6.insert(net, prefix);
                }
                _ => {}
            }
        }
        self.scope = scope;
        self.stale = true;
    }

    /// The scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Evaluates everything. Entries whose landing and route stay keep their `changed_at`.
    pub fn rebuild(&mut self, kernel: &Kernel, now: Timestamp) -> Diff {
        self.stale = false;
        let pods = Pods::new(kernel, &self.scope);
        let mut diff = Diff::default();
        for everything in Scope::everything().interest {
            self.refresh(&pods, everything, now, &mut diff);
        }
        diff
    }

    /// Follows the changes that led to `kernel`: evaluates what lies in a
    /// changed prefix, or everything when more than routes changed.
    pub fn update(&mut self, kernel: &Kernel, changes: &Changes, now: Timestamp) -> Diff {
        let many = changes.prefixes.len() > MANY_CHANGES.max(self.len() / 8);
        // A default route may decide which device is the uplink, and with it the landing of any other.
        let default = changes.prefixes.iter().any(|prefix| prefix.prefix_len() == 0);
        // Inside the interest are pods, outside of it the far ends of tunnels.
        let outer = || {
            let mut prefixes = changes.prefixes.iter().map(IpNet::trunc);
            prefixes.any(|prefix| !self.is_of_interest(prefix) && outer::may_hold_an_end(kernel, prefix))
        };
        if self.stale || changes.wide || changes.links || many || default || outer() {
            return self.rebuild(kernel, now);
        }
        let mut diff = Diff::default();
        if changes.prefixes.is_empty() {
            return diff;
        }
        let pods = Pods::new(kernel, &self.scope);
        let mut done: Option<IpNet> = None;
        // In order, a prefix comes before those inside it.
        for prefix in changes.prefixes.iter().map(IpNet::trunc) {
            if done.is_some_and(|done| contains(done, prefix)) {
                continue;
            }
            self.refresh(&pods, prefix, now, &mut diff);
            done = Some(prefix);
        }
        diff
    }

    /// All entries: IPv4, then IPv6, each in order of prefix.
    pub fn entries(&self) -> impl Iterator<Item = &ForwardingEntry> {
        let v4 = self.v4.values();
        v4.chain(self.v6.values()).map(|row| row.entry.as_ref())
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What decides for the addresses of `prefix`. There is no base for what lies outside the interest.
    pub fn covering(&self, prefix: IpNet) -> Coverage<'_> {
        match prefix.trunc() {
            IpNet::V4(net) => Coverage::new(
                prefix,
                self.v4.get_lpm(&net).map(|(_, row)| row.entry.as_ref()),
                self.v4
                    .children(&net)
                    .filter(|(at, _)| *at != net)
                    .map(|(_, row)| row.entry.as_ref()),
            ),
            IpNet::V6(net) => Coverage::new(
                prefix,
                self.v6.get_lpm(&net).map(|(_, row)| row.entry.as_ref()),
                self.v6
                    .children(&net)
                    .filter(|(at, _)| *at != net)
                    .map(|(_, row)| row.entry.as_ref()),
            ),
        }
    }

    /// Evaluates everything of interest inside `within`.
    fn refresh(&mut self, pods: &Pods<'_>, within: IpNet, now: Timestamp, diff: &mut Diff) {
        self.pass += 1;
        for region in self.regions(within) {
            for prefix in pods.prefixes(region, self.is_widest(region)) {
                self.evaluate(pods, prefix, now, diff);
            }
        }
        self.sweep(within, diff);
    }

    /// The parts of the interest inside `within`.
    fn regions(&self, within: IpNet) -> Vec<IpNet> {
        match within {
            IpNet::V4(net) => match self.widest_v4.get_lpm(&net) {
                Some(_) => vec![within],
                None => self.widest_v4.children(&net).map(|(_, prefix)| *prefix).collect(),
            },
            IpNet::V6(net) => match self.widest_v6.get_lpm(&net) {
                Some(_) => vec![within],
                None => self.widest_v6.children(&net).map(|(_, prefix)| *prefix).collect(),
            },
        }
    }

    fn is_of_interest(&self, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.widest_v4.get_lpm(&net).is_some(),
            IpNet::V6(net) => self.widest_v6.get_lpm(&net).is_some(),
        }
    }

    fn is_widest(&self, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.widest_v4.contains_key(&net),
            IpNet::V6(net) => self.widest_v6.contains_key(&net),
        }
    }

    fn evaluate(&mut self, pods: &Pods<'_>, prefix: IpNet, now: Timestamp, diff: &mut Diff) {
        let (landing, route) = pods.landing(prefix);
        let found = ForwardingEntry {
            prefix,
            landing,
            route,
            changed_at: now,
        };
        match prefix {
            IpNet::V4(net) => put(self.v4.entry(net), found, self.pass, diff),
            IpNet::V6(net) => put(self.v6.entry(net), found, self.pass, diff),
        }
    }

    /// Removes what the pass has not met inside `within`.
    fn sweep(&mut self, within: IpNet, diff: &mut Diff) {
        let pass = self.pass;
        match within {
            IpNet::V4(net) => {
                let rows = self.v4.children(&net).filter(|(_, row)| row.pass != pass);
                for at in rows.map(|(at, _)| at).collect::<Vec<_>>() {
                    self.v4.remove(&at);
                    diff.removed.push(IpNet::V4(at));
                }
            }
            IpNet::V6(net) => {
                let rows = self.v6.children(&net).filter(|(_, row)| row.pass != pass);
                for at in rows.map(|(at, _)| at).collect::<Vec<_>>() {
                    self.v6.remove(&at);
                    diff.removed.push(IpNet::V6(at));
                }
            }
        }
    }
}

/// Puts in what a pass found, unless it is as before.
fn put<P: Prefix>(place: Entry<'_, P, Row>, found: ForwardingEntry, pass: u64, diff: &mut Diff) {
    match place {
        Entry::Occupied(mut row) => {
            let known = &row.get().entry;
            if known.landing == found.landing && known.route == found.route {
                row.get_mut().pass = pass;
            } else {
                row.insert(told(found, pass, diff));
            }
        }
        Entry::Vacant(place) => {
            place.insert(told(found, pass, diff));
        }
    }
}

fn told(found: ForwardingEntry, pass: u64, diff: &mut Diff) -> Row {
    let entry = Arc::new(found);
    diff.upserts.push(Arc::clone(&entry));
    Row { entry, pass }
}
