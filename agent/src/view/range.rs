//! What host-local makes of a range. Its rules: the network address is never given out, of IPv4 the broadcast address
//! neither, and the gateway not wherever it is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::host::{AddressRange, RangeSet};

impl AddressRange {
    /// A whole subnet, its gateway the first address, as host-local has it where nothing else is said. `None` for a
    /// network too small to give anything out (host-local refuses fewer than four addresses).
    pub fn whole(subnet: IpNet) -> Option<Self> {
        if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
            return None;
        }
        let first = next(subnet.network())?;
        let last = match subnet {
            IpNet::V4(net) => IpAddr::V4((net.broadcast().to_bits() - 1).into()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        Some(Self {
            first,
            last,
            gateway: first,
        })
    }

    /// Whether the address lies between the first and the last.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// How many addresses it can give out.
    pub fn usable(&self) -> u128 {
        let all = (bits(self.last) - bits(self.first).min(bits(self.last))).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }

    /// The smallest prefix that holds it.
    pub fn prefix(&self) -> IpNet {
        let common = match (self.first, self.last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => 0,
        };
        let length = u8::try_from(common).unwrap_or(0);
        IpNet::new(self.first, length).map_or(IpNet::from(self.first), |net| net.trunc())
    }
}

impl RangeSet {
    /// A set of one whole subnet; `None` where that is too small.
    pub fn whole(subnet: IpNet) -> Option<Self> {
        let ranges = vec![AddressRange::whole(subnet)?];
        Some(Self { ranges })
    }

    /// Whether some range of it holds the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// How many addresses it can give out.
    pub fn usable(&self) -> u128 {
        let each = self.ranges.iter().map(AddressRange::usable);
        each.fold(0, u128::saturating_add)
    }
}

/// "10.244.1.1-10.244.1.254", as host-local writes it.
impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl std::fmt::Display for RangeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => IpAddr::V4(v4.to_bits().checked_add(1)?.into()),
        IpAddr::V6(v6) => IpAddr::V6(v6.to_bits().checked_add(1)?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(subnet: &str) -> AddressRange {
        AddressRange::whole(subnet.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_slash_24_gives_out_253_addresses() {
        let range = whole("10.244.1.0/24");
        assert_eq!(range.to_string(), "10.244.1.1-10.244.1.254");
        assert_eq!(range.usable(), 253);
        assert_eq!(range.prefix().to_string(), "10.244.1.0/24");
        assert_eq!(whole("10.244.1.8/30").usable(), 1);
        assert_eq!(AddressRange::whole("10.244.1.0/31".parse().unwrap()), None);
    }

    #[test]
    fn ipv6_has_no_broadcast_address_and_any_size_can_be_counted() {
        assert_eq!(whole("fd00:1::/64").usable(), (1 << 64) - 2);
        assert_eq!(whole("::/0").usable(), u128::MAX - 1);
        assert_eq!(whole("fd00:1::/64").prefix().to_string(), "fd00:1::/64");
    }

    #[test]
    fn a_gateway_outside_the_range_takes_nothing_from_it() {
        let mut range = whole("10.244.1.0/24");
        range.gateway = "10.244.1.254".parse().unwrap();
        assert_eq!(range.usable(), 253);
        range.last = "10.244.1.100".parse().unwrap();
        assert_eq!(range.usable(), 100);
    }

    proptest! {
        #[test]
        fn what_a_whole_ipv4_subnet_gives_out_is_as_counted_one_by_one(base: u32, length in 20..=32u8) {
            let subnet = IpNet::new(IpAddr::V4(base.into()), length).unwrap().trunc();
            let counted = (0..1u32 << (32 - length))
                .filter_map(|at| AddressRange::whole(subnet).map(|range| (range, at)))
                .filter(|(range, at)| {
                    let IpAddr::V4(network) = subnet.network() else { return false };
                    let address = IpAddr::V4((network.to_bits() + at).into());
                    range.contains(address) && address != range.gateway
                })
                .count();
            let usable = AddressRange::whole(subnet).map_or(0, |range| range.usable());
            prop_assert_eq!(usable, counted as u128);
            if let Some(range) = AddressRange::whole(subnet) {
                prop_assert_eq!(range.prefix(), subnet);
            }
        }

        #[test]
        fn no_range_overflows(a: u128, b: u128, gateway: u128) {
            let range = AddressRange {
                first: IpAddr::V6(a.into()),
                last: IpAddr::V6(b.into()),
                gateway: IpAddr::V6(gateway.into()),
            };
            range.usable();
            range.prefix();
        }
    }
}
