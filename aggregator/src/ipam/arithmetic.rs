//! What is left of a range of the pool. Pure: ranges and CIDRs in, figures out.
//!
//! kube-controller-manager keeps one bit for each block of `--node-cidr-mask-size`, and a
//! CIDR of whatever length occupies every block that it touches (reference A).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

/// A range in blocks of one size. All figures saturate at [`u64::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All blocks.
    pub capacity: u64,
    /// Blocks that a node's CIDR touches.
    pub used: u64,
    /// Blocks that only the service range touches.
    pub service: u64,
    /// Blocks among `used` that are held in part only, by CIDRs longer than a block.
    pub partial: u64,
    /// The rest.
    pub free: u64,
}

impl Count {
    /// How many times the present number of blocks fits, in percent: 200 is twice. `None`: none is used.
    pub fn headroom(&self) -> Option<u64> {
        (self.used > 0).then(|| self.used.saturating_add(self.free).saturating_mul(100) / self.used)
    }
}

/// The prefix length of a block: what is asked for, but never wider than the range itself.
/// Where nothing is asked for, kube-controller-manager's defaults: /24 and /64.
pub fn block_mask(range: &IpNet, v4: Option<u8>, v6: Option<u8>) -> u8 {
    let asked = match range {
        IpNet::V4(_) => v4.unwrap_or(24),
        IpNet::V6(_) => v6.unwrap_or(64),
    };
    asked.clamp(range.prefix_len(), range.max_prefix_len())
}

/// Counts a range in blocks of `mask`.
pub fn count(range: IpNet, mask: u8, nodes: impl Iterator<Item = IpNet>, services: &[IpNet]) -> Count {
    let grid = Grid::new(range, mask);
    let mut whole = Vec::new();
    let mut all = Vec::new();
    for net in nodes {
        if let Some(span) = grid.span(&net) {
            all.push(span);
            if net.prefix_len() <= mask {
                whole.push(span);
            }
        }
    }
    let used = length(&merge(&mut all));
    let partial = used - length(&merge(&mut whole));
    all.extend(services.iter().filter_map(|net| grid.span(net)));
    let taken = length(&merge(&mut all));
    let capacity = grid.last.saturating_add(1);
    Count {
        capacity: clip(capacity),
        used: clip(used),
        service: clip(taken - used),
        partial: clip(partial),
        free: clip(capacity.saturating_sub(taken)),
    }
}

/// Blocks that nobody holds by `nodes` and `services`, and in which one of these addresses lies.
pub fn left_over(
    range: IpNet,
    mask: u8,
    nodes: impl Iterator<Item = IpNet>,
    services: &[IpNet],
    addresses: impl Iterator<Item = IpAddr>,
) -> u64 {
    let grid = Grid::new(range, mask);
    let nets = nodes.chain(services.iter().copied());
    let mut taken: Vec<Span> = nets.filter_map(|net| grid.span(&net)).collect();
    let taken = merge(&mut taken);
    let mut blocks: Vec<u128> = addresses
        .filter_map(|address| grid.span(&address.into()))
        .map(|(block, _)| block)
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    let held = |block: u128| {
        let next = taken.partition_point(|(_, last)| *last < block);
        taken.get(next).is_some_and(|(first, _)| *first <= block)
    };
    let free = blocks.into_iter().filter(|block| !held(*block)).count();
    u64::try_from(free).unwrap_or(u64::MAX)
}

/// First and last block.
type Span = (u128, u128);

struct Grid {
    range: IpNet,
    base: u128,
    /// Bits of an address inside a block.
    shift: u32,
    /// Number of the last block.
    last: u128,
}

impl Grid {
    fn new(range: IpNet, mask: u8) -> Self {
        let range = range.trunc();
        let mask = mask.clamp(range.prefix_len(), range.max_prefix_len());
        let bits = u32::from(mask - range.prefix_len());
        Self {
            range,
            base: number(range.network()),
            shift: u32::from(range.max_prefix_len() - mask),
            last: 1u128.checked_shl(bits).map_or(u128::MAX, |blocks| blocks - 1),
        }
    }

    /// The blocks that a prefix touches; `None`: it lies outside.
    fn span(&self, net: &IpNet) -> Option<Span> {
        let net = net.trunc();
        if net.contains(&self.range) {
            return Some((0, self.last));
        }
        if !self.range.contains(&net) {
            return None;
        }
        let block = |address: IpAddr| (number(address) - self.base).checked_shr(self.shift).unwrap_or(0);
        // The last address of the prefix, also for IPv6.
        let end = match net {
            IpNet::V4(v4) => IpAddr::V4(v4.broadcast()),
            IpNet::V6(v6) => IpAddr::V6(v6.broadcast()),
        };
        Some((block(net.network()), block(end)))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Sorts spans and puts those that touch or overlap together.
fn merge(spans: &mut [Span]) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for &(first, last) in spans.iter() {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn length(spans: &[Span]) -> u128 {
    spans.iter().fold(0u128, |sum, (first, last)| {
        sum.saturating_add((last - first).saturating_add(1))
    })
}

fn clip(blocks: u128) -> u64 {
    u64::try_from(blocks).unwrap_or(u64::MAX)
}

/// Days that growth is measured over.
pub const WINDOW_DAYS: i64 = 30;

/// Days in which something must have come, or growth has stopped.
const RECENT_DAYS: i64 = 7;

/// Fewer new Nodes than this in a window are chance.
const LEAST_NEW: usize = 5;

/// On fewer days than this they were one deployment, not growth.
const LEAST_DAYS: usize = 3;

/// What the Nodes' creation times say of growth. Nodes that were deleted are not seen, so it is the most that it can have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Growth {
    /// They say nothing; why.
    Unknown(String),
    /// No Node came in the window.
    Fixed,
    /// Nodes came, too few or in one go: no trend.
    Few(u64),
    /// So many came in the last [`WINDOW_DAYS`] days and still stand.
    Nodes(u64),
}

impl Growth {
    /// Days until `free` blocks are used up.
    pub fn days(&self, free: u64) -> Option<u64> {
        match self {
            Self::Nodes(new) if *new > 0 => Some(free.saturating_mul(WINDOW_DAYS.unsigned_abs()) / new),
            _ => None,
        }
    }
}

/// Growth from how many Nodes were made when; `undated`: those of which it is not known.
pub fn growth(created: &BTreeMap<Timestamp, usize>, undated: usize, now: Timestamp) -> Growth {
    if undated > 0 {
        return Growth::Unknown("not every Node's creation time is known".to_owned());
    }
    let days = |days: i64| now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(now);
    let (window, recent) = (days(WINDOW_DAYS), days(RECENT_DAYS));
    let newest = created.keys().next_back().copied();
    let later = created.range(window..);
    let new: Vec<Timestamp> = later.flat_map(|(at, count)| std::iter::repeat_n(*at, *count)).collect();
    let old = created.range(..window).map(|(_, count)| *count).sum::<usize>();
    if new.is_empty() {
        return match old {
            0 => Growth::Unknown("there are no Nodes".to_owned()),
            _ => Growth::Fixed,
        };
    }
    if old == 0 {
        return Growth::Unknown(format!("no Node is older than {WINDOW_DAYS} days"));
    }
    if new.len() > old {
        return Growth::Unknown(format!(
            "more than half of the Nodes are younger than {WINDOW_DAYS} days: they may replace others"
        ));
    }
    let mut on: Vec<i64> = new.iter().map(|at| at.as_second().div_euclid(86_400)).collect();
    on.sort_unstable();
    on.dedup();
    let count = u64::try_from(new.len()).unwrap_or(u64::MAX);
    if new.len() < LEAST_NEW || on.len() < LEAST_DAYS || newest < Some(recent) {
        return Growth::Few(count);
    }
    Growth::Nodes(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn counted(range: &str, mask: u8, nodes: &[&str], services: &[&str]) -> Count {
        let services: Vec<IpNet> = services.iter().map(|text| net(text)).collect();
        count(net(range), mask, nodes.iter().map(|text| net(text)), &services)
    }

    #[test]
    fn a_sixteen_of_twenty_fours_is_two_hundred_and_fifty_six_nodes() {
        let count = counted(
            "10.244.0.0/16",
            24,
            &["10.244.1.0/24", "10.244.2.0/24", "10.9.0.0/24"],
            &[],
        );
        assert_eq!((count.capacity, count.used, count.free), (256, 2, 254));
        assert_eq!(count.headroom(), Some(12_800));
    }

    #[test]
    fn services_inside_the_pool_take_blocks_away() {
        let count = counted("10.0.0.0/8", 24, &["10.96.1.0/24", "10.1.0.0/24"], &["10.96.0.0/12"]);
        assert_eq!((count.capacity, count.used, count.service), (65_536, 2, 4_095));
        assert_eq!(count.free, 65_536 - 2 - 4_095);
    }

    #[test]
    fn a_longer_cidr_blocks_a_whole_block_and_a_wider_one_several() {
        let count = counted(
            "10.244.0.0/16",
            24,
            &["10.244.1.64/26", "10.244.1.128/26", "10.244.8.0/21"],
            &[],
        );
        assert_eq!((count.used, count.partial, count.free), (9, 1, 247));
        let covered = counted("10.244.0.0/16", 24, &["10.244.1.64/26", "10.244.1.0/24"], &[]);
        assert_eq!((covered.used, covered.partial), (1, 0));
    }

    #[test]
    fn a_cidr_that_contains_the_range_takes_all_of_it() {
        let count = counted("10.244.0.0/16", 24, &["10.0.0.0/8"], &[]);
        assert_eq!((count.used, count.free), (256, 0));
    }

    #[test]
    fn both_families_count_and_the_widest_saturates() {
        let count = counted("fd00:10:244::/56", 64, &["fd00:10:244:7::/64", "10.244.1.0/24"], &[]);
        assert_eq!((count.capacity, count.used, count.free), (256, 1, 255));
        let all = counted("::/0", 128, &["fd00::1/128"], &["fd00::/8"]);
        assert_eq!((all.capacity, all.used), (u64::MAX, 1));
        assert_eq!(counted("0.0.0.0/0", 32, &["0.0.0.0/0"], &[]).used, 1 << 32);
    }

    #[test]
    fn a_mask_wider_than_its_range_is_the_range() {
        assert_eq!(block_mask(&net("10.244.0.0/26"), None, None), 26);
        assert_eq!(block_mask(&net("10.244.0.0/16"), Some(40), None), 32);
        assert_eq!(block_mask(&net("fd00::/48"), Some(26), None), 64);
    }

    #[test]
    fn addresses_in_blocks_that_nobody_holds_are_left_over() {
        let addresses = ["10.244.1.7", "10.244.9.7", "10.244.9.8", "10.96.0.1", "192.0.2.1"];
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        let nodes = [net("10.244.1.0/24")].into_iter();
        assert_eq!(
            left_over(net("10.0.0.0/8"), 24, nodes, &[net("10.96.0.0/12")], addresses),
            1
        );
    }

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn days_ago(days: &[i64]) -> Growth {
        let mut made = BTreeMap::new();
        for days in days {
            *made.entry(now() - SignedDuration::from_hours(24 * days)).or_default() += 1;
        }
        growth(&made, 0, now())
    }

    #[test]
    fn growth_needs_nodes_that_came_on_several_days_and_lately() {
        let old = [400, 300, 200, 100, 90, 80];
        let with = |new: &[i64]| days_ago(&[&old, new].concat());
        assert_eq!(with(&[]), Growth::Fixed);
        assert_eq!(with(&[20, 10, 5, 3, 1]), Growth::Nodes(5));
        assert_eq!(with(&[20, 10, 5, 3, 1]).days(10), Some(60));
        assert_eq!(with(&[3, 1]), Growth::Few(2), "two are chance");
        assert_eq!(with(&[2, 2, 2, 2, 2]), Growth::Few(5), "one deployment");
        assert_eq!(with(&[25, 20, 15, 14, 13]), Growth::Few(5), "it has stopped");
        assert!(
            matches!(with(&[9, 8, 7, 6, 5, 4, 3]), Growth::Unknown(_)),
            "they replace others"
        );
        assert!(matches!(days_ago(&[9, 5, 1]), Growth::Unknown(_)), "a young cluster");
        assert!(matches!(
            growth(&BTreeMap::from([(now(), 1)]), 1, now()),
            Growth::Unknown(_)
        ));
    }

    #[test]
    fn fifteen_thousand_nodes_are_counted_in_milliseconds() {
        let nodes: Vec<IpNet> = (0..15_000u32)
            .map(|n| net(&format!("10.{}.{}.0/24", n / 256, n % 256)))
            .collect();
        let began = std::time::Instant::now();
        let count = count(net("10.0.0.0/8"), 24, nodes.iter().copied(), &[net("10.96.0.0/12")]);
        assert_eq!(count.used, 15_000);
        // Some 3 ms without optimisation on an idle core; a hundredfold is an algorithm gone wrong.
        assert!(began.elapsed().as_millis() < 300, "{:?}", began.elapsed());
    }

    /// One flag for each address of the range, then each block looked at as a whole.
    fn slow(range: IpNet, mask: u8, nodes: &[IpNet], services: &[IpNet]) -> [u64; 3] {
        let blocks: Vec<IpNet> = range.subnets(mask).unwrap().collect();
        let touches = |block: &IpNet, nets: &[IpNet]| {
            nets.iter().any(|net| match (block, net) {
                (IpNet::V4(block), IpNet::V4(net)) => block.hosts_all().any(|host| net.contains(&host)),
                (IpNet::V6(block), IpNet::V6(net)) => block.contains(net) || net.contains(block),
                _ => false,
            })
        };
        let mut figures = [0; 3];
        for block in &blocks {
            let node = touches(block, nodes);
            let service = touches(block, services);
            figures[0] += u64::from(node);
            figures[1] += u64::from(service && !node);
            figures[2] += u64::from(!node && !service);
        }
        figures
    }

    trait AllHosts {
        fn hosts_all(&self) -> Box<dyn Iterator<Item = std::net::Ipv4Addr>>;
    }

    impl AllHosts for ipnet::Ipv4Net {
        fn hosts_all(&self) -> Box<dyn Iterator<Item = std::net::Ipv4Addr>> {
            let (first, last) = (u32::from(self.network()), u32::from(self.broadcast()));
            Box::new((first..=last).map(std::net::Ipv4Addr::from))
        }
    }

    fn v4(near: u32) -> impl Strategy<Value = IpNet> {
        (0..1024u32, 20..=32u8).prop_map(move |(offset, length)| {
            let address = std::net::Ipv4Addr::from(near.wrapping_add(offset));
            IpNet::new(address.into(), length).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn blocks_are_counted_as_a_bitmap_counts_them(
            (length, mask) in (23u8..=26).prop_flat_map(|length| (Just(length), length..=30)),
            nodes in prop::collection::vec(v4(0x0af4_0000), 0..12),
            services in prop::collection::vec(v4(0x0af4_0000), 0..3),
        ) {
            let range = IpNet::new("10.244.1.0".parse().unwrap(), length).unwrap().trunc();
            let fast = count(range, mask, nodes.iter().copied(), &services);
            prop_assert_eq!([fast.used, fast.service, fast.free], slow(range, mask, &nodes, &services));
            prop_assert_eq!(fast.used + fast.service + fast.free, fast.capacity);
            prop_assert!(fast.partial <= fast.used);
        }

        #[test]
        fn ipv6_blocks_are_counted_the_same(
            nodes in prop::collection::vec((0..600u128, 52..=70u8), 0..12),
            services in prop::collection::vec((0..600u128, 52..=70u8), 0..3),
        ) {
            let nets = |all: &[(u128, u8)]| -> Vec<IpNet> {
                let net = |(block, length): &(u128, u8)| {
                    let address = std::net::Ipv6Addr::from((0xfd00_0000_0000_0000u128 << 64) + (block << 64));
                    IpNet::new(address.into(), *length).unwrap().trunc()
                };
                all.iter().map(net).collect()
            };
            let (nodes, services) = (nets(&nodes), nets(&services));
            let range = net("fd00::/56");
            let fast = count(range, 64, nodes.iter().copied(), &services);
            prop_assert_eq!([fast.used, fast.service, fast.free], slow(range, 64, &nodes, &services));
        }
    }
}
