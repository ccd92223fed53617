//! What holds of any host.

use super::*;
use proptest::prelude::*;

fn any_net() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 8..=32u8).prop_map(|(host, len)| IpNet::new([10, 244, 1, host].into(), len).unwrap());
    let v6 = (any::<u16>(), 48..=128u8)
        .prop_map(|(host, len)| IpNet::new([0xfd00, 1, 0, 0, 0, 0, 0, host].into(), len).unwrap());
    prop_oneof![v4, v6]
}

proptest! {
    /// A file is held against the Node exactly when some address of it, of a
    /// family that the Node has, is in none of the Node's CIDRs.
    #[test]
    fn stale_means_an_address_that_is_not_the_nodes(
        cidrs in prop::collection::vec(any_net().prop_map(|net| net.trunc()), 1..3),
        ranges in prop::collection::vec(any_net().prop_map(|net| net.trunc()), 1..4),
    ) {
        let mut host = Host::ptp();
        host.cni.chosen.as_mut().unwrap().ranges.clone_from(&ranges);
        host.expectation.pod_cidrs.clone_from(&cidrs);
        let same = |a: &IpNet, b: &IpNet| a.addr().is_ipv4() == b.addr().is_ipv4();
        let stale = ranges.iter().any(|range| {
            cidrs.iter().any(|cidr| same(cidr, range))
                && !cidrs.iter().any(|cidr| cidr.contains(&range.network()) && cidr.contains(&range.broadcast()))
        });
        prop_assert_eq!(host.codes().contains(&Code::Host01), stale);
    }

    /// Whatever addresses there are: no panic, and a bridge with the Node's own
    /// gateway address first is never foreign.
    #[test]
    fn the_nodes_own_address_first_is_never_foreign(more in prop::collection::vec(any_net(), 0..5)) {
        let mut addresses = vec!["10.244.1.1/24".to_owned()];
        addresses.extend(more.iter().map(ToString::to_string));
        let texts: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let host = Host::flannel().link("cni0", "bridge", &texts);
        prop_assert!(!host.codes().contains(&Code::Host02));
    }
}
