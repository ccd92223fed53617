//! The owner of the view: takes what `observe` and the aggregator say, has it
//! resolved and checked, and makes updates of what changed. [`run`] drives it.

pub mod confirm;
pub mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use cidrift_proto::facts::{CniFacts, Gap, HostFacts};
use cidrift_proto::finding::Claim;
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::check::{self, Judged};
use crate::facts;
use crate::report::{Expectation, Update, Whole};
use crate::resolve::{Diff, Fib, Roles, Scope, roles};
use crate::view::growth::LeaseHistory;
use crate::view::setup::Setups;
use crate::view::{Changes, Host, Kernel};

/// Denied losses that are kept apart. More than a few mean that this program is
/// wrong about the host's routing; they are put before the kernel again with
/// every heartbeat.
const DENIED: usize = 1024;

/// Everything that this host has to say, and what of it has been said.
#[derive(Debug)]
pub struct Witness {
    node: String,
    release: String,
    fib: Fib,
    /// Entries whose loss the kernel's own lookup denies: told as opaque.
    denied: BTreeMap<IpNet, ForwardingEntry>,
    expected: Option<Expected>,
    cni: CniFacts,
    cni_at: Timestamp,
    cni_changed_at: Option<Timestamp>,
    links_changed_at: Option<Timestamp>,
    host: Arc<Host>,
    leases: LeaseHistory,
    /// What of the kernel's state cannot be had.
    kernel_gaps: Vec<Gap>,
    /// Landings cannot be relied on, because of `kernel_gaps`.
    blind: bool,
    roles: Roles,
    told: Told,
}

#[derive(Debug)]
struct Expected {
    expectation: Expectation,
    judged_by: check::Expectation,
}

/// What was put into updates so far.
#[derive(Debug)]
struct Told {
    facts: HostFacts,
    claims: Vec<Claim>,
    revision: u64,
}

/// What is to be known of the kernel's state besides the state.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The state.
    pub kernel: &'a Kernel,
    /// When it was last known to be right.
    pub at: Timestamp,
}

impl Witness {
    /// For a host of which nothing has been seen yet.
    pub fn new(node: &str, release: &str, now: Timestamp) -> Self {
        let cni = CniFacts::default();
        let nothing = facts::Parts {
            kernel: &Kernel::default(),
            roles: &Roles::new(),
            cni: &cni,
            host: &Host::default(),
            release,
        };
        let facts = facts::host_facts(nothing, facts::Told::default(), now);
        Self {
            node: node.to_owned(),
            release: release.to_owned(),
            fib: Fib::new(),
            denied: BTreeMap::new(),
            expected: None,
            cni,
            cni_at: now,
            cni_changed_at: None,
            links_changed_at: None,
            host: Arc::default(),
            leases: LeaseHistory::default(),
            kernel_gaps: Vec::new(),
            blind: true,
            roles: Roles::new(),
            told: Told {
                facts,
                claims: Vec::new(),
                revision: 0,
            },
        }
    }

    /// The aggregator expects this. Entries follow with the next [`Self::resolve`].
    pub fn expect(&mut self, expectation: Expectation, now: Timestamp) {
        let mut judged_by = check::Expectation {
            source: format!("Node {}", self.node),
            node_known: expectation.node_uid.is_some(),
            pod_cidrs: expectation.pod_cidrs.clone(),
            internal_ips: expectation.internal_ips.clone(),
            kube_subnet_manager: None,
            observed_at: Some(now),
            since: Some(now),
        };
        if let Some(before) = &self.expected {
            let same = before.expectation.node_uid == expectation.node_uid
                && before.expectation.pod_cidrs == expectation.pod_cidrs
                && before.expectation.internal_ips == expectation.internal_ips;
            if same {
                judged_by.since = before.judged_by.since;
            }
        }
        self.expected = Some(Expected { expectation, judged_by });
        self.set_scope();
    }

    /// The CNI configuration is this; `changed_at` where it is known when it changed.
    pub fn cni(&mut self, cni: &CniFacts, now: Timestamp, changed_at: Option<Timestamp>) {
        self.cni = cni.clone();
        self.cni_at = now;
        self.cni_changed_at = changed_at.or(self.cni_changed_at);
        self.set_scope();
    }

    /// Everything else that the host tells is this.
    pub fn host(&mut self, host: Arc<Host>) {
        self.host = host;
    }

    /// These parts of the kernel's state cannot be had. `blind`: no landing can
    /// be relied on, so none is told.
    pub fn gaps(&mut self, gaps: Vec<Gap>, blind: bool) {
        self.kernel_gaps = gaps;
        if self.blind != blind {
            self.blind = blind;
            self.set_scope();
        }
    }

    /// Revision that entries are told for; 0: there are none to rely on.
    fn revision(&self) -> u64 {
        match &self.expected {
            Some(expected) if !self.blind => expected.expectation.revision,
            _ => 0,
        }
    }

    fn set_scope(&mut self) {
        let scope = match &self.expected {
            Some(Expected { expectation, .. }) if self.revision() > 0 => {
                let mut interest = expectation.interest.clone();
                // The node's own CIDRs are judged here, whatever the aggregator asks for.
                interest.extend(&expectation.pod_cidrs);
                let model = check::model(&self.cni).ok();
                Scope {
                    interest,
                    internal_ips: expectation.internal_ips.clone(),
                    pod_cidrs: expectation.pod_cidrs.clone(),
                    pod_device: model.and_then(|model| model.delivery.device().map(str::to_owned)),
                }
            }
            _ => Scope::default(),
        };
        self.fib.set_scope(scope);
    }

    /// Follows the kernel's state. What it returns is to be confirmed and told.
    pub fn resolve(&mut self, kernel: &Kernel, changes: &Changes, now: Timestamp) -> Diff {
        if changes.links || changes.wide || self.roles.is_empty() {
            let ips = self
                .expected
                .as_ref()
                .map_or(&[][..], |expected| &expected.expectation.internal_ips);
            self.roles = roles(kernel, ips);
        }
        if changes.links {
            self.links_changed_at = Some(changes.observed_at);
        }
        let mut diff = self.fib.update(kernel, changes, now);
        for entry in &diff.upserts {
            self.denied.remove(&entry.prefix);
        }
        for prefix in &diff.removed {
            self.denied.remove(prefix);
        }
        if changes.wide {
            self.reconsider(&mut diff);
        }
        diff
    }

    /// What the kernel denied is put before it again.
    fn reconsider(&mut self, diff: &mut Diff) {
        for prefix in std::mem::take(&mut self.denied).into_keys() {
            match self.fib.entries().find(|entry| entry.prefix == prefix) {
                Some(entry) => diff.upserts.push(Arc::new(entry.clone())),
                None => diff.removed.push(prefix),
            }
        }
    }

    /// Whether the kernel's denial of some loss stands.
    pub fn disputed(&self) -> bool {
        !self.denied.is_empty()
    }

    /// The kernel would forward packets to `prefix` by something else than this
    /// view says, even after it was read anew: not healthy, and no alarm either.
    /// Returns what is to be told.
    pub fn deny(&mut self, prefix: IpNet, reason: String, now: Timestamp) -> ForwardingEntry {
        let entry = ForwardingEntry {
            prefix,
            landing: Landing::Opaque { device: None, reason },
            route: None,
            changed_at: now,
        };
        if self.denied.len() < DENIED {
            self.denied.insert(prefix, entry.clone());
        }
        entry
    }

    /// What is to be told: these entries, and what else has changed. `None`: nothing.
    pub fn tell(&mut self, seen: Seen<'_>, diff: Diff, observed_at: Timestamp, now: Timestamp) -> Option<Update> {
        self.count_leases(seen, now);
        let input = self.input(seen, now);
        let judged = check::check(&input);
        let facts = self.facts(&input, &judged, now);
        let revision = self.revision();
        let new_facts = facts::differ(&self.told.facts, &facts);
        let new_claims = claims_differ(&self.told.claims, &judged.claims);
        if diff.is_empty() && !new_facts && !new_claims && revision == self.told.revision {
            return None;
        }
        let update = Update {
            upserts: diff.upserts.into_iter().map(Arc::unwrap_or_clone).collect(),
            removed: diff.removed,
            facts: new_facts.then(|| facts.clone()),
            claims: new_claims.then(|| judged.claims.clone()),
            expectation: revision,
            observed_at: Some(observed_at),
        };
        if new_facts {
            self.told.facts = facts;
        }
        if new_claims {
            self.told.claims = judged.claims;
        }
        self.told.revision = revision;
        Some(update)
    }

    fn count_leases(&mut self, seen: Seen<'_>, now: Timestamp) {
        let host = Arc::clone(&self.host);
        let Some(leases) = host.leases.get().filter(|_| self.leases.is_due(host.leases.at)) else {
            return;
        };
        if let Some((network, sets)) = check::pool(&self.input(seen, now)) {
            self.leases.note(&network, &sets, leases, host.leases.at);
        }
    }

    /// Everything that was told.
    pub fn whole(&self) -> Whole {
        let mut entries: Vec<ForwardingEntry> = self
            .fib
            .entries()
            .filter(|entry| !self.denied.contains_key(&entry.prefix))
            .cloned()
            .collect();
        entries.extend(self.denied.values().cloned());
        Whole {
            entries,
            facts: self.told.facts.clone(),
            claims: self.told.claims.clone(),
            expectation: self.told.revision,
        }
    }

    /// When the counters were last read, and by how much they grew since the reading before, by what devices are to
    /// pod traffic; `None` before there are two.
    pub fn traffic(&self, kernel: &Kernel) -> Option<(Timestamp, Vec<facts::Growth>)> {
        Some((self.host.traffic.at, facts::grown(kernel, &self.roles, &self.host)?))
    }

    /// How sandboxes are set up, where the runtime's log tells it.
    pub fn setups(&self) -> Option<&Setups> {
        self.host.setups.get()
    }

    /// Entries of the forwarding table, claims, and gaps that stand.
    pub fn figures(&self) -> (usize, usize, usize) {
        (self.fib.len(), self.told.claims.len(), self.told.facts.gaps.len())
    }

    fn input<'a>(&'a self, seen: Seen<'a>, now: Timestamp) -> check::Input<'a> {
        check::Input {
            node: &self.node,
            expectation: self
                .expected
                .as_ref()
                .filter(|expected| expected.expectation.revision > 0)
                .map(|expected| &expected.judged_by),
            kernel: seen.kernel,
            kernel_at: seen.at,
            kernel_gaps: &self.kernel_gaps,
            links_changed_at: self.links_changed_at,
            cni: &self.cni,
            cni_at: self.cni_at,
            cni_changed_at: self.cni_changed_at,
            lookup: self,
            host: &self.host,
            lease_growth: self.leases.growth(),
            now,
        }
    }

    fn facts(&self, input: &check::Input<'_>, judged: &Judged, now: Timestamp) -> HostFacts {
        let mut gaps = self.kernel_gaps.clone();
        let unjudged = check::by_reason(&judged.unjudged).into_iter();
        gaps.extend(unjudged.map(|(what, reason)| Gap {
            what,
            why: reason.to_owned(),
        }));
        let parts = facts::Parts {
            kernel: input.kernel,
            roles: &self.roles,
            cni: &self.cni,
            host: &self.host,
            release: &self.release,
        };
        let told = facts::Told {
            gaps: &gaps,
            compared: check::compare::rows(input, judged),
            leaks: judged.leaks.clone(),
        };
        facts::host_facts(parts, told, now)
    }
}

impl check::Lookup for Witness {
    fn coverage(&self, prefix: IpNet) -> Option<check::Coverage> {
        let known = self.revision() > 0 && self.fib.scope().interest.iter().any(|wide| wide.contains(&prefix));
        if !known {
            return None;
        }
        let coverage = self.fib.covering(prefix);
        let seen = |entry: &ForwardingEntry| self.denied.get(&entry.prefix).unwrap_or(entry).clone();
        Some(check::Coverage {
            base: coverage.base.filter(|_| !coverage.shadowed).map(seen),
            specifics: coverage.inside.into_iter().map(seen).collect(),
        })
    }
}

/// Whether claims say something else. That the same was seen once more is no news.
fn claims_differ(told: &[Claim], now: &[Claim]) -> bool {
    let timeless = |claim: &Claim| {
        let mut claim = claim.clone();
        for evidence in &mut claim.evidence {
            evidence.observed_at = None;
        }
        claim
    };
    told.len() != now.len() || told.iter().zip(now).any(|(a, b)| timeless(a) != timeless(b))
}

#[cfg(test)]
mod tests;
