//! The forwarding and overlap logic against slow, obvious models.

use cidrift_aggregator::cluster::Forwarding;
use cidrift_aggregator::correlate::{coverage, overlap};
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Prefixes of a space of 64 addresses, so that they often meet.
fn small(v6: bool) -> impl Strategy<Value = IpNet> {
    (0u8..64, 0u8..=6).prop_map(move |(address, bits)| {
        let net = if v6 {
            let address = Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(address));
            IpNet::V6(Ipv6Net::new(address, 122 + bits).expect("at most 128"))
        } else {
            let address = Ipv4Addr::new(10, 0, 0, address);
            IpNet::V4(Ipv4Net::new(address, 26 + bits).expect("at most 32"))
        };
        net.trunc()
    })
}

fn any_small() -> impl Strategy<Value = IpNet> {
    any::<bool>().prop_flat_map(small)
}

fn entry(prefix: IpNet) -> ForwardingEntry {
    ForwardingEntry {
        prefix,
        landing: Landing::Local {
            device: prefix.to_string(),
            carrier: true,
        },
        route: None,
        changed_at: Timestamp::UNIX_EPOCH,
    }
}

fn addresses(net: IpNet) -> Vec<IpAddr> {
    net.subnets(net.max_prefix_len())
        .expect("no longer than its addresses")
        .map(|host| host.addr())
        .collect()
}

/// The entries that decide, address by address: the longest that contains it.
fn slow(entries: &[IpNet], cidr: IpNet) -> (Vec<IpNet>, bool) {
    let mut deciding = Vec::new();
    let mut gap = false;
    for address in addresses(cidr) {
        let longest = entries
            .iter()
            .filter(|net| net.contains(&address))
            .max_by_key(|net| net.prefix_len());
        match longest {
            Some(net) if !deciding.contains(net) => deciding.push(*net),
            Some(_) => {}
            None => gap = true,
        }
    }
    deciding.sort_by_key(|net| (net.prefix_len(), *net));
    (deciding, gap)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_entries_that_decide_are_those_that_some_address_is_looked_up_by(
        entries in proptest::collection::vec(any_small(), 0..24),
        wide in proptest::option::of(0u8..26),
        cidr in any_small(),
    ) {
        let mut entries = entries;
        entries.extend(wide.and_then(|length| Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), length).ok()).map(|net| IpNet::V4(net.trunc())));
        let table = Forwarding::of(entries.iter().copied().map(entry));
        let (found, gap) = coverage::deciding(&table, cidr);
        let found: Vec<IpNet> = found.iter().map(|entry| entry.prefix).collect();
        prop_assert_eq!((found, gap), slow(&entries, cidr));
    }

    #[test]
    fn overlap_groups_are_the_connected_components(prefixes in proptest::collection::vec(any_small(), 0..24)) {
        // Every pair is compared, and groups that meet become one, until none do.
        let mut group: Vec<usize> = (0..prefixes.len()).collect();
        for a in 0..prefixes.len() {
            for b in 0..a {
                let meet = addresses(prefixes[a]).iter().any(|address| prefixes[b].contains(address));
                if meet {
                    let (from, to) = (group[a], group[b]);
                    group.iter_mut().filter(|of| **of == from).for_each(|of| *of = to);
                }
            }
        }
        let mut expected: Vec<Vec<usize>> = Vec::new();
        for name in 0..prefixes.len() {
            let members: Vec<usize> = (0..prefixes.len()).filter(|at| group[*at] == name).collect();
            if !members.is_empty() {
                expected.push(members);
            }
        }
        let mut found: Vec<Vec<usize>> = Vec::new();
        for (widest, members) in overlap::groups(&prefixes) {
            prop_assert!(members.iter().any(|at| prefixes[*at] == widest));
            prop_assert!(members.iter().all(|at| widest.contains(&prefixes[*at])));
            found.push(members);
        }
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
