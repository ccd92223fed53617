//! Leases against sandboxes: how many addresses are taken, which of them by nobody, which are used without a lease.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::view::host::{Lease, RangeSet, Sandbox};

/// A lease without a sandbox that is older than this is of one that is gone. The runtime lists a sandbox only when its
/// network is up; kubelet gives it 4 minutes for that (twice its runtimeRequestTimeout), and the look is every 10 s.
const SETTLED: Duration = Duration::from_secs(300);

/// What is beyond the kubelet's patience until a look shows it.
const LATER: Duration = Duration::from_secs(60);

/// `runtimeRequestTimeout` of a kubelet, the longest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Patience {
    /// It was told none: 2 minutes.
    Usual,
    /// It was told this.
    Told(Duration),
    /// Not all that it was told can be read, or no kubelet is seen.
    Unknown,
}

/// How old a lease must be.
pub(super) fn settled(patience: Patience) -> Duration {
    match patience {
        Patience::Told(timeout) => timeout.saturating_mul(2).saturating_add(LATER).max(SETTLED),
        Patience::Usual | Patience::Unknown => SETTLED,
    }
}

/// A set is low when this part of it is left, or less. One in ten: of a /24 that is 25 addresses, and what a rollout
/// or a drained neighbour brings at once.
const LOW_PART: u128 = 10;

/// Letters of the ids that runtimes give sandboxes over CRI, all hexadecimal. What has other names was set up by
/// others (`ctr run --cni`, cnitool), of whom CRI knows nothing.
const ID_LENGTH: usize = 64;

/// The runtime's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sandboxes<'a> {
    pub all: &'a [Sandbox],
    /// When it was asked.
    pub at: Timestamp,
}

impl Sandboxes<'_> {
    /// How many run.
    pub(super) fn ready(&self) -> usize {
        self.all.iter().filter(|sandbox| sandbox.ready).count()
    }

    /// How many of those need no address.
    pub(super) fn host_network(&self) -> usize {
        let ready = self.all.iter().filter(|sandbox| sandbox.ready);
        ready.filter(|sandbox| sandbox.host_network).count()
    }
}

/// A set of ranges, and what of it is given out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetUse<'a> {
    pub set: &'a RangeSet,
    pub usable: u128,
    pub taken: u128,
    /// When the newest lease of it was given.
    pub last: Option<Timestamp>,
}

impl SetUse<'_> {
    pub(super) fn free(&self) -> u128 {
        self.usable.saturating_sub(self.taken)
    }

    pub(super) fn is_low(&self) -> bool {
        self.free().saturating_mul(LOW_PART) <= self.usable
    }
}

/// The addresses of a network.
#[derive(Debug)]
pub(super) struct Account<'a> {
    pub network: &'a str,
    pub sets: Vec<SetUse<'a>>,
    pub sandboxes: Option<Sandboxes<'a>>,
    /// A lease that is younger may be of a sandbox that is being set up.
    pub settled: Duration,
    /// Leases in the sets whose sandbox is gone, by address.
    pub leaked: Vec<&'a Lease>,
    /// Addresses in the sets that running pods have and no lease is of.
    pub bare: Vec<(&'a Sandbox, IpAddr)>,
    /// No lease belongs to a sandbox that is known: nothing shows that the two are about the same pods. Then `bare` is
    /// not to be relied on, nor is `leaked`.
    pub unmatched: bool,
}

impl<'a> Account<'a> {
    pub(super) fn new(
        network: &'a str,
        pool: &'a [RangeSet],
        leases: &'a [Lease],
        sandboxes: Option<Sandboxes<'a>>,
        (now, settled): (Timestamp, Duration),
    ) -> Self {
        let leases = || leases.iter().filter(|lease| lease.network == network);
        let mut account = Self {
            network,
            sets: pool.iter().map(|set| set_use(set, leases())).collect(),
            sandboxes,
            settled,
            leaked: Vec::new(),
            bare: Vec::new(),
            unmatched: false,
        };
        let Some(sandboxes) = sandboxes else { return account };
        let known: HashSet<&str> = sandboxes.all.iter().map(|sandbox| sandbox.id.as_str()).collect();
        let pooled = |address: IpAddr| pool.iter().any(|set| set.contains(address));
        let old = |lease: &Lease| {
            lease.given_at.is_some_and(|given| {
                given < sandboxes.at && now.duration_since(given).unsigned_abs() >= settled && given < now
            })
        };
        account.unmatched = !leases().any(|lease| known.contains(lease.container.as_str()));
        account.leaked = leases()
            .filter(|lease| pooled(lease.address) && old(lease))
            .filter(|lease| lease.container.is_empty() || is_sandbox_id(&lease.container))
            .filter(|lease| !known.contains(lease.container.as_str()))
            .collect();
        account.leaked.sort_by_key(|lease| lease.address);
        let leased: HashSet<IpAddr> = leases().map(|lease| lease.address).collect();
        let running = sandboxes
            .all
            .iter()
            .filter(|sandbox| sandbox.ready && !sandbox.host_network);
        account.bare = running
            .flat_map(|sandbox| sandbox.addresses.iter().map(move |address| (sandbox, *address)))
            .filter(|(_, address)| pooled(*address) && !leased.contains(address))
            .collect();
        account.bare.sort_by_key(|(_, address)| *address);
        account
    }
}

fn set_use<'a, 'b>(set: &'a RangeSet, leases: impl Iterator<Item = &'b Lease>) -> SetUse<'a> {
    let (mut taken, mut last) = (0, None);
    for lease in leases.filter(|lease| set.contains(lease.address)) {
        taken += 1;
        last = last.max(lease.given_at);
    }
    SetUse {
        set,
        usable: set.usable(),
        taken,
        last,
    }
}

fn is_sandbox_id(id: &str) -> bool {
    id.len() == ID_LENGTH && id.bytes().all(|letter| letter.is_ascii_hexdigit())
}
