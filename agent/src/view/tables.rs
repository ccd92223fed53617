//! Keeping the tables: what a dump and what a message do to them.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use prefix_trie::map::Entry;
use prefix_trie::{Prefix, PrefixMap};

use super::routes::{Route, Tables};

impl Tables {
    /// Adds a route behind those that its prefix already has, as a dump names them.
    pub fn push(&mut self, route: Route) {
        match route.prefix {
            IpNet::V4(prefix) => append(self.v4.entry(route.table).or_default(), prefix, route),
            IpNet::V6(prefix) => append(self.v6.entry(route.table).or_default(), prefix, route),
        }
    }

    /// The routes of exactly this prefix, in the order that the kernel tries them.
    pub fn at(&self, table: u32, prefix: &IpNet) -> &[Route] {
        let found = match prefix {
            IpNet::V4(prefix) => self.v4.get(&table).and_then(|table| table.get(prefix)),
            IpNet::V6(prefix) => self.v6.get(&table).and_then(|table| table.get(prefix)),
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// Sets the routes of exactly this prefix. None: the prefix is gone, and its table with its last one.
    pub fn set(&mut self, table: u32, prefix: IpNet, routes: Vec<Route>) {
        match prefix {
            IpNet::V4(prefix) => set(&mut self.v4, table, prefix, routes),
            IpNet::V6(prefix) => set(&mut self.v6, table, prefix, routes),
        }
    }

    /// Every route.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        let v4 = self.v4.values().flat_map(PrefixMap::values);
        let v6 = self.v6.values().flat_map(PrefixMap::values);
        v4.chain(v6).flatten()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The prefixes whose routes are not the same in both, with their table.
    pub fn differences(&self, other: &Self) -> BTreeSet<(u32, IpNet)> {
        let mut found = BTreeSet::new();
        compare(&self.v4, &other.v4, &mut found);
        compare(&self.v6, &other.v6, &mut found);
        found
    }
}

fn append<P: Prefix>(table: &mut PrefixMap<P, Vec<Route>>, prefix: P, route: Route) {
    match table.entry(prefix) {
        Entry::Occupied(mut routes) => routes.get_mut().push(route),
        // Nearly every prefix has one route: a list of exactly one, not of four, saves 300 bytes each.
        Entry::Vacant(place) => {
            place.insert(vec![route]);
        }
    }
}

fn set<P: Prefix>(tables: &mut HashMap<u32, PrefixMap<P, Vec<Route>>>, table: u32, prefix: P, routes: Vec<Route>) {
    if !routes.is_empty() {
        tables.entry(table).or_default().insert(prefix, routes);
    } else if let Some(prefixes) = tables.get_mut(&table) {
        prefixes.remove(&prefix);
        if prefixes.is_empty() {
            tables.remove(&table);
        }
    }
}

/// Walks both in order, once.
fn compare<P>(
    ours: &HashMap<u32, PrefixMap<P, Vec<Route>>>,
    theirs: &HashMap<u32, PrefixMap<P, Vec<Route>>>,
    found: &mut BTreeSet<(u32, IpNet)>,
) where
    P: Prefix + Ord + Into<IpNet>,
{
    let none = PrefixMap::new();
    let ids: BTreeSet<u32> = ours.keys().chain(theirs.keys()).copied().collect();
    for id in ids {
        let mut left = ours.get(&id).unwrap_or(&none).iter().peekable();
        let mut right = theirs.get(&id).unwrap_or(&none).iter().peekable();
        loop {
            let order = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let (prefix, same) = match order {
                Ordering::Less => (left.next().map(|(prefix, _)| prefix), false),
                Ordering::Greater => (right.next().map(|(prefix, _)| prefix), false),
                Ordering::Equal => match (left.next(), right.next()) {
                    (Some((prefix, a)), Some((_, b))) => (Some(prefix), a == b),
                    _ => (None, true),
                },
            };
            if let Some(prefix) = prefix.filter(|_| !same) {
                found.insert((id, prefix.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Hops, RouteKind};

    fn route(prefix: &str, table: u32, metric: u32) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            table,
            metric,
            tos: 0,
            protocol: 3,
            scope: 0,
            kind: RouteKind::Throw,
            hops: Hops::None,
        }
    }

    fn tables(routes: &[Route]) -> Tables {
        let mut tables = Tables::default();
        for route in routes {
            tables.push(route.clone());
        }
        tables
    }

    #[test]
    fn differences_name_what_was_added_lost_and_changed() {
        let before = tables(&[
            route("10.0.0.0/8", 254, 0),
            route("10.1.0.0/16", 254, 0),
            route("10.2.0.0/16", 254, 0),
            route("fd00::/64", 254, 1024),
        ]);
        let after = tables(&[
            route("10.0.0.0/8", 254, 0),
            route("10.1.0.0/16", 254, 5),
            route("10.3.0.0/16", 254, 0),
            route("10.2.0.0/16", 100, 0),
        ]);
        let named: Vec<String> = before
            .differences(&after)
            .into_iter()
            .map(|(table, prefix)| format!("{table} {prefix}"))
            .collect();
        assert_eq!(
            named,
            [
                "100 10.2.0.0/16",
                "254 10.1.0.0/16",
                "254 10.2.0.0/16",
                "254 10.3.0.0/16",
                "254 fd00::/64"
            ]
        );
        assert_eq!(after.differences(&before).len(), 5);
        assert!(after.differences(&after).is_empty());
    }

    #[test]
    fn a_table_goes_with_its_last_prefix() {
        let mut tables = tables(&[route("10.0.0.0/8", 77, 0)]);
        tables.set(77, "10.0.0.0/8".parse().unwrap(), Vec::new());
        assert!(tables.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn differences_agree_with_comparing_prefix_by_prefix(
            before in proptest::collection::vec((0u8..4, 0u8..33, 0u32..2, 0u32..3), 0..40),
            after in proptest::collection::vec((0u8..4, 0u8..33, 0u32..2, 0u32..3), 0..40),
        ) {
            let make = |spec: &[(u8, u8, u32, u32)]| {
                let mut routes = Tables::default();
                for (octet, length, table, metric) in spec {
                    let net = ipnet::Ipv4Net::new([10, *octet, 0, 0].into(), *length).unwrap().trunc();
                    routes.push(Route { prefix: net.into(), ..route("0.0.0.0/0", *table, *metric) });
                }
                routes
            };
            let (before, after) = (make(&before), make(&after));
            let mut slow = BTreeSet::new();
            for route in before.iter().chain(after.iter()) {
                if before.at(route.table, &route.prefix) != after.at(route.table, &route.prefix) {
                    slow.insert((route.table, route.prefix));
                }
            }
            proptest::prop_assert_eq!(before.differences(&after), slow);
        }
    }
}
