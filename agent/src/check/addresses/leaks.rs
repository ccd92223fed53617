//! The leases of sandboxes that are gone, for whoever removes them.

use std::collections::BTreeMap;

use cidrift_proto::facts::{LeakedLease, LeakedLeases, LeakedNetwork};

use super::account::SetUse;
use super::{Wrong, enough, worth_a_word};
use crate::view::host::Lease;

/// Leases told at most: four nodes' worth of a /24, some 100 KB.
const TOLD: usize = 1024;

/// All that is leaked, and whether that is all that is wrong.
pub(super) fn told(wrong: &Wrong<'_>, max_pods: Option<u128>) -> LeakedLeases {
    let account = wrong.account;
    let (named, nameless): (Vec<&Lease>, Vec<&Lease>) =
        account.leaked.iter().partition(|lease| !lease.container.is_empty());
    let mut networks: BTreeMap<&str, Vec<LeakedLease>> = BTreeMap::new();
    for lease in named.iter().take(TOLD) {
        networks.entry(&lease.directory).or_default().push(LeakedLease {
            address: lease.address,
            container: lease.container.clone(),
        });
    }
    // What is left once those are gone that name their sandbox.
    let stays = |set: &SetUse<'_>| {
        let gone = named.iter().filter(|lease| set.set.contains(lease.address)).count();
        let rest = SetUse {
            taken: set.taken.saturating_sub(gone as u128),
            ..*set
        };
        let low = rest.is_low() && !enough(&rest, max_pods, account.sandboxes);
        low || worth_a_word(&rest, nameless.len())
    };
    let count = |leases: usize| u32::try_from(leases).unwrap_or(u32::MAX);
    LeakedLeases {
        networks: networks
            .into_iter()
            .map(|(directory, leases)| LeakedNetwork {
                directory: directory.to_owned(),
                leases,
            })
            .collect(),
        omitted: count(named.len().saturating_sub(TOLD)),
        nameless: count(nameless.len()),
        others: wrong.small.is_some() || !account.bare.is_empty() || account.sets.iter().any(stays),
    }
}
