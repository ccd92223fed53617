//! A map from prefixes of both families.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Values by prefix, IPv4 and IPv6 side by side. Keys are networks: host bits are cut off.
#[derive(Debug, Clone)]
pub struct NetMap<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

impl<T> Default for NetMap<T> {
    fn default() -> Self {
        Self {
            v4: PrefixMap::default(),
            v6: PrefixMap::default(),
        }
    }
}

impl<T> NetMap<T> {
    /// Puts a value in, in place of the one that was there.
    pub fn insert(&mut self, prefix: IpNet, value: T) -> Option<T> {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.insert(net, value),
            IpNet::V6(net) => self.v6.insert(net, value),
        }
    }

    /// Takes the value of exactly this prefix out.
    pub fn remove(&mut self, prefix: IpNet) -> Option<T> {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.remove(&net),
            IpNet::V6(net) => self.v6.remove(&net),
        }
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<&T> {
        match prefix {
            IpNet::V4(net) => self.v4.get(&net),
            IpNet::V6(net) => self.v6.get(&net),
        }
    }

    /// The value of exactly this prefix, to be changed.
    pub fn get_mut(&mut self, prefix: IpNet) -> Option<&mut T> {
        match prefix {
            IpNet::V4(net) => self.v4.get_mut(&net),
            IpNet::V6(net) => self.v6.get_mut(&net),
        }
    }

    /// The value of exactly this prefix, put there first if there is none.
    pub fn or_default(&mut self, prefix: IpNet) -> &mut T
    where
        T: Default,
    {
        match prefix.trunc() {
            IpNet::V4(net) => self.v4.entry(net).or_default(),
            IpNet::V6(net) => self.v6.entry(net).or_default(),
        }
    }

    /// The longest prefix that covers this one, itself included.
    pub fn longest(&self, prefix: IpNet) -> Option<(IpNet, &T)> {
        match prefix {
            IpNet::V4(net) => self.v4.get_lpm(&net).map(|(key, value)| (key.into(), value)),
            IpNet::V6(net) => self.v6.get_lpm(&net).map(|(key, value)| (key.into(), value)),
        }
    }

    /// Every prefix that covers this one, itself included, widest first.
    pub fn covering(&self, prefix: IpNet) -> Box<dyn Iterator<Item = (IpNet, &T)> + '_> {
        match prefix {
            IpNet::V4(net) => Box::new(self.v4.cover(&net).map(|(key, value)| (key.into(), value))),
            IpNet::V6(net) => Box::new(self.v6.cover(&net).map(|(key, value)| (key.into(), value))),
        }
    }

    /// Every prefix inside this one, itself included, in lexicographic order.
    pub fn inside(&self, prefix: IpNet) -> Box<dyn Iterator<Item = (IpNet, &T)> + '_> {
        match prefix {
            IpNet::V4(net) => Box::new(self.v4.children(&net).map(|(key, value)| (key.into(), value))),
            IpNet::V6(net) => Box::new(self.v6.children(&net).map(|(key, value)| (key.into(), value))),
        }
    }

    /// Everything, IPv4 first, in lexicographic order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        let v4 = self.v4.iter().map(|(key, value)| (IpNet::from(key), value));
        v4.chain(self.v6.iter().map(|(key, value)| (IpNet::from(key), value)))
    }
}

/// Whether two prefixes have an address in common.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
