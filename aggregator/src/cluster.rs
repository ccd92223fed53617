//! The cluster as plain data: what the control plane says and what the hosts
//! see. `control_plane` and `ingest` fill it, `correlate` judges it, `query` shows it.

pub mod around;
pub mod objects;
pub mod plane;

use std::net::IpAddr;
use std::time::Duration;

use cidrift_proto::facts::HostFacts;
use cidrift_proto::finding::Claim;
use cidrift_proto::landing::ForwardingEntry;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use prefix_trie::PrefixMap;
use serde::Serialize;

pub use plane::{ControlPlane, FlannelAnnotations, NodeRecord, PlaneEvent, PoolConfig};

/// Whether a host's view can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportState {
    /// Connected, view whole.
    Live,
    /// Connected, view not (yet) whole.
    Syncing,
    /// Not heard of for too long.
    Silent,
    /// Never heard of.
    Never,
}

/// An effective forwarding table, both families.
#[derive(Debug, Clone, Default)]
pub struct Forwarding {
    /// IPv4 entries.
    pub v4: PrefixMap<Ipv4Net, ForwardingEntry>,
    /// IPv6 entries.
    pub v6: PrefixMap<Ipv6Net, ForwardingEntry>,
}

impl Forwarding {
    /// A table of these entries; of two for one prefix the later one stands.
    pub fn of(entries: impl IntoIterator<Item = ForwardingEntry>) -> Self {
        let mut table = Self::default();
        for entry in entries {
            table.upsert(entry);
        }
        table
    }

    /// Puts an entry in, in place of the one that was there.
    pub fn upsert(&mut self, entry: ForwardingEntry) {
        match entry.prefix {
            IpNet::V4(net) => self.v4.insert(net, entry),
            IpNet::V6(net) => self.v6.insert(net, entry),
        };
    }

    /// Takes the entry of exactly this prefix out.
    pub fn remove(&mut self, prefix: IpNet) {
        match prefix {
            IpNet::V4(net) => self.v4.remove(&net),
            IpNet::V6(net) => self.v6.remove(&net),
        };
    }

    /// The longest entry that covers this prefix.
    pub fn longest(&self, prefix: IpNet) -> Option<&ForwardingEntry> {
        match prefix {
            IpNet::V4(net) => self.v4.get_lpm(&net).map(|(_, entry)| entry),
            IpNet::V6(net) => self.v6.get_lpm(&net).map(|(_, entry)| entry),
        }
    }

    /// Every entry inside this prefix, itself included, in lexicographic order: an entry stands before those inside it.
    pub fn inside(&self, prefix: IpNet) -> Box<dyn Iterator<Item = &ForwardingEntry> + '_> {
        match prefix {
            IpNet::V4(net) => Box::new(self.v4.children(&net).map(|(_, entry)| entry)),
            IpNet::V6(net) => Box::new(self.v6.children(&net).map(|(_, entry)| entry)),
        }
    }

    /// Every entry, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &ForwardingEntry> {
        self.v4.values().chain(self.v6.values())
    }
}

/// What one agent has reported.
#[derive(Debug, Clone)]
pub struct HostState {
    /// Node name that it reports for.
    pub node: String,
    /// Agent instance that the sequence numbers belong to.
    pub instance: String,
    /// Its version.
    pub agent_version: String,
    /// A stream is up.
    pub connected: bool,
    /// A whole view has been applied for this instance.
    pub whole: bool,
    /// Last sequence number applied.
    pub applied: u64,
    /// Revision of the expectation that the view was made for.
    pub expectation: u64,
    /// Its effective forwarding table for pod traffic, as far as it is of interest.
    pub forwarding: Forwarding,
    /// Its facts.
    pub facts: Option<HostFacts>,
    /// Its own claims (HOST…).
    pub claims: Vec<Claim>,
    /// When anything was last heard, aggregator's clock.
    pub heard_at: Timestamp,
    /// When its view was last proven whole by a dump, host's clock.
    pub verified_at: Option<Timestamp>,
    /// When its agent saw the newest change, host's clock.
    pub changed_at: Option<Timestamp>,
    /// Why its view cannot be relied on, where the agent or `ingest` said so.
    pub lost: Option<String>,
    /// Several agents speak for it.
    pub rivals: Option<Rivalry>,
}

impl HostState {
    /// An agent that has said nothing yet.
    pub fn new(node: &str, now: Timestamp) -> Self {
        Self {
            node: node.to_owned(),
            instance: String::new(),
            agent_version: String::new(),
            connected: false,
            whole: false,
            applied: 0,
            expectation: 0,
            forwarding: Forwarding::default(),
            facts: None,
            claims: Vec::new(),
            heard_at: now,
            verified_at: None,
            changed_at: None,
            lost: None,
            rivals: None,
        }
    }

    /// Why its view may be that of another host: several agents speak for it.
    pub fn rivalry(&self, now: Timestamp) -> Option<&str> {
        let rivalry = self.rivals.as_ref()?;
        (now < rivalry.until).then_some(rivalry.who.as_str())
    }

    /// Why its view cannot be relied on, where that is known.
    pub fn problem(&self, now: Timestamp) -> Option<&str> {
        let lost = self.lost.as_deref().filter(|_| !self.whole);
        self.rivalry(now).or(lost)
    }

    /// Whether its view can be relied on.
    pub fn report(&self, now: Timestamp, silence: Duration) -> ReportState {
        let quiet = Duration::try_from(now.duration_since(self.heard_at)).unwrap_or_default();
        match (
            quiet > silence,
            self.connected && self.whole && self.rivalry(now).is_none(),
        ) {
            (true, _) => ReportState::Silent,
            (false, true) => ReportState::Live,
            (false, false) => ReportState::Syncing,
        }
    }

    /// The view may be judged: it is whole and not too old. A stream that broke a
    /// moment ago does not make it wrong; it only cannot show that anything got better.
    pub fn judgeable(&self, now: Timestamp, silence: Duration) -> bool {
        self.whole && self.rivalry(now).is_none() && self.report(now, silence) != ReportState::Silent
    }

    /// When its view was last known to be so, host's clock.
    pub fn seen_at(&self) -> Option<Timestamp> {
        self.verified_at.max(self.changed_at)
    }
}

/// Several agents that speak for one node in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rivalry {
    /// Who they are, for people.
    pub who: String,
    /// When it began, aggregator's clock.
    pub since: Timestamp,
    /// When one last took another's place.
    pub at: Timestamp,
    /// When it is over if that does not happen again.
    pub until: Timestamp,
}

/// Something that an agent told, in plain data, checked and in order.
#[derive(Debug, Clone)]
pub enum HostEvent {
    /// A stream came up. The view of an earlier instance stays, marked as not whole, until the snapshot is in.
    Connected {
        /// Agent instance.
        instance: String,
        /// Agent version.
        version: String,
    },
    /// A whole view.
    Snapshot {
        /// It contains every delta up to this number.
        sequence: u64,
        /// Expectation revision.
        expectation: u64,
        /// All entries.
        entries: Vec<ForwardingEntry>,
        /// Facts.
        facts: HostFacts,
        /// The host's own claims.
        claims: Vec<Claim>,
    },
    /// The next change.
    Delta {
        /// Its number: always `applied + 1` here, `ingest` sees to it.
        sequence: u64,
        /// Expectation revision.
        expectation: u64,
        /// Entries that are new or changed.
        upserts: Vec<ForwardingEntry>,
        /// Entries that are gone.
        removed: Vec<IpNet>,
        /// New facts, if they changed.
        facts: Option<HostFacts>,
        /// New claims, if they changed.
        claims: Option<Vec<Claim>>,
        /// When the agent saw the change.
        observed_at: Option<Timestamp>,
    },
    /// A sign of life.
    Heartbeat {
        /// When the view was last proven whole.
        verified_at: Option<Timestamp>,
    },
    /// The view cannot be relied on until the next snapshot.
    Lost {
        /// Why.
        reason: String,
    },
    /// Several agents speak for the node in turn: what is heard may be of either host.
    Rivals {
        /// Who they are.
        reason: String,
        /// When it is forgotten if it does not happen again.
        until: Timestamp,
    },
    /// The stream is gone.
    Disconnected,
}

/// An agent that showed one node's token and named another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedReport {
    /// The node that it named.
    pub named: String,
    /// Where it came from; `None`: unknown.
    pub from: Option<IpAddr>,
}

/// The newest of them of one node, and since when they come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals {
    /// What was tried.
    pub last: RefusedReport,
    /// When that was first tried, aggregator's clock.
    pub since: Timestamp,
    /// When anything like it was last tried.
    pub at: Timestamp,
}

/// What an agent is told of its node; the same on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Grows with every change.
    pub revision: u64,
    /// The Node's UID; `None`: the control plane has no such Node.
    pub node_uid: Option<String>,
    /// The Node's pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Its InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// Prefixes whose landings are to be reported: pool, every pod CIDR, CIDRs of former nodes.
    pub interest: Vec<IpNet>,
}
