//! The `ipam` block of a CNI plugin, as far as it says which addresses it hands out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// What an `ipam` block says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::observe) struct Ipam {
    /// "host-local", "calico-ipam", …
    pub kind: Option<String>,
    /// host-local's ranges; where `rangeStart` and `rangeEnd` narrow a subnet,
    /// the smallest prefix that holds both.
    pub ranges: Vec<IpNet>,
    /// The subnet of each range.
    pub subnets: Vec<IpNet>,
    /// What in it makes no sense.
    pub doubts: Vec<String>,
}

/// Reads the `ipam` block. Ranges are read of host-local only: other
/// allocators' pools are not the node's.
pub(in crate::observe) fn parse(block: &Value) -> Ipam {
    let mut ipam = Ipam {
        kind: text(block, "type"),
        ..Ipam::default()
    };
    if ipam.kind.as_deref() != Some("host-local") {
        return ipam;
    }
    // The older form: one range at the top level. host-local puts it before `ranges`.
    if block.get("subnet").is_some() {
        ipam.add(block);
    }
    match block.get("ranges") {
        None | Some(Value::Null) => {}
        Some(Value::Array(sets)) => {
            for set in sets {
                match set {
                    Value::Array(ranges) => ranges.iter().for_each(|range| ipam.add(range)),
                    _ => ipam.doubts.push("a set in ipam.ranges is not a list".to_owned()),
                }
            }
        }
        Some(_) => ipam.doubts.push("ipam.ranges is not a list".to_owned()),
    }
    ipam
}

/// A plain list of prefixes, as kindnet's own plugin has it.
pub(super) fn prefixes(list: &Value) -> Ipam {
    let mut ipam = Ipam::default();
    for entry in list.as_array().into_iter().flatten() {
        match entry.as_str().and_then(|text| text.parse::<IpNet>().ok()) {
            Some(net) => {
                ipam.ranges.push(net.trunc());
                ipam.subnets.push(net.trunc());
            }
            None => ipam.doubts.push(format!("the range {entry} is not a prefix")),
        }
    }
    ipam
}

impl Ipam {
    fn add(&mut self, range: &Value) {
        match one_range(range) {
            Ok(None) => {}
            Ok(Some((range, subnet))) => {
                self.ranges.push(range);
                self.subnets.push(subnet);
            }
            Err(doubt) => self.doubts.push(doubt),
        }
    }
}

/// `None`: Calico's `usePodCidr`, which asks the Node anew for every pod.
fn one_range(range: &Value) -> Result<Option<(IpNet, IpNet)>, String> {
    let subnet = text(range, "subnet").ok_or("a range in the ipam block has no subnet")?;
    if matches!(subnet.as_str(), "usePodCidr" | "usePodCidrIPv6") {
        return Ok(None);
    }
    let net: IpNet = subnet
        .parse()
        .map_err(|_| format!("ipam subnet {subnet:?} is not a prefix"))?;
    if net != net.trunc() {
        return Err(format!(
            "ipam subnet {net} has host bits set: host-local refuses it, the network is {}",
            net.trunc()
        ));
    }
    let bound = |key, default| match text(range, key) {
        None => Ok(default),
        Some(text) => text
            .parse::<IpAddr>()
            .ok()
            .filter(|address| net.contains(address))
            .ok_or_else(|| format!("ipam {key} {text:?} is not an address of {net}")),
    };
    let start = bound("rangeStart", net.network())?;
    let end = bound("rangeEnd", net.broadcast())?;
    Ok(Some((smallest_prefix(start, end), net)))
}

/// The smallest prefix that holds both; a prefix holds the whole range if and
/// only if it holds this one. Both are of one family: the caller checked that.
fn smallest_prefix(a: IpAddr, b: IpAddr) -> IpNet {
    let common = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    IpNet::new(a, u8::try_from(common).unwrap_or(128)).map_or(IpNet::from(a), |net| net.trunc())
}

/// A string member, if there is one and it is not empty.
pub(super) fn text(of: &Value, key: &str) -> Option<String> {
    of.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn range_sets_and_the_older_form_are_both_read() {
        let ipam = parse(&json!({
            "type": "host-local",
            "subnet": "10.244.1.0/24",
            "ranges": [[{"subnet": "10.244.9.0/25"}, {"subnet": "10.244.9.128/25"}], [{"subnet": "fd00:1::/64"}]],
        }));
        assert_eq!(
            ipam.ranges,
            nets(&["10.244.1.0/24", "10.244.9.0/25", "10.244.9.128/25", "fd00:1::/64"])
        );
        assert_eq!(ipam.subnets, ipam.ranges);
        assert_eq!(ipam.doubts, Vec::<String>::new());
    }

    #[test]
    fn start_and_end_narrow_the_range_but_not_the_subnet() {
        let ipam = parse(&json!({
            "type": "host-local",
            "ranges": [[{"subnet": "10.244.0.0/16", "rangeStart": "10.244.1.2", "rangeEnd": "10.244.1.254"}]],
        }));
        assert_eq!(ipam.ranges, nets(&["10.244.1.0/24"]));
        assert_eq!(ipam.subnets, nets(&["10.244.0.0/16"]));
    }

    #[test]
    fn use_pod_cidr_names_no_range() {
        let ipam = parse(
            &json!({"type": "host-local", "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]]}),
        );
        assert_eq!((ipam.ranges, ipam.doubts), (vec![], vec![]));
    }

    #[test]
    fn another_allocators_pool_is_not_the_nodes_range() {
        let ipam = parse(&json!({"type": "whereabouts", "range": "10.0.0.0/8", "subnet": "10.0.0.0/8"}));
        assert_eq!(ipam.kind.as_deref(), Some("whereabouts"));
        assert_eq!(ipam.ranges, vec![]);
    }

    #[test]
    fn nonsense_is_named() {
        let ipam = parse(&json!({
            "type": "host-local",
            "subnet": "10.244.1.0/33",
            "ranges": [[{"subnet": "10.244.1.7/24"}, {}, {"subnet": "10.1.0.0/24", "rangeEnd": "10.9.0.1"}], 7],
        }));
        assert_eq!(ipam.ranges, vec![]);
        insta::assert_snapshot!(ipam.doubts.join("\n"), @r#"
        ipam subnet "10.244.1.0/33" is not a prefix
        ipam subnet 10.244.1.7/24 has host bits set: host-local refuses it, the network is 10.244.1.0/24
        a range in the ipam block has no subnet
        ipam rangeEnd "10.9.0.1" is not an address of 10.1.0.0/24
        a set in ipam.ranges is not a list
        "#);
    }

    proptest! {
        #[test]
        fn the_smallest_prefix_holds_both_and_its_halves_do_not(a: u32, b: u32) {
            let (a, b) = (IpAddr::from(a.to_be_bytes()), IpAddr::from(b.to_be_bytes()));
            let net = smallest_prefix(a, b);
            prop_assert!(net.contains(&a) && net.contains(&b));
            if net.prefix_len() < 32 {
                for half in net.subnets(net.prefix_len() + 1).unwrap() {
                    prop_assert!(!(half.contains(&a) && half.contains(&b)));
                }
            }
        }
    }
}
