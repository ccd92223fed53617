//! The `ipam` block of a network's primary plugin, as host-local reads it: where it keeps its leases, and exactly what
//! it hands out of.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::Value;

use crate::view::host::{AddressRange, RangeSet};

/// What the block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ipam {
    /// `dataDir`, where it names one.
    pub data_dir: Option<PathBuf>,
    /// What it hands out of; empty where others say it (flannel's subnet.env, Calico's `usePodCidr`). The error is why
    /// host-local would refuse it.
    pub sets: Result<Vec<RangeSet>, String>,
}

/// Reads the block out of a configuration, a list or a single plugin, Multus' delegate where it has one. `None` where
/// another program allocates.
pub(super) fn of_config(config: &Value) -> Option<Ipam> {
    let plugin = primary(config);
    let block = plugin.get("ipam").unwrap_or(&Value::Null);
    let kind = text(block, "type").or_else(|| text(plugin, "type").filter(|kind| *kind == "flannel"));
    // flannel's plugin hands on to host-local where nothing else is said.
    if !matches!(kind, Some("host-local" | "flannel")) {
        return None;
    }
    Some(Ipam {
        data_dir: text(block, "dataDir").map(PathBuf::from),
        sets: sets(block),
    })
}

/// The plugin that gives pods their first interface.
fn primary(config: &Value) -> &Value {
    let first = |of: &'_ Value, list: &str| {
        of.get(list)
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
    };
    let plugin = |config: &'_ Value| first(config, "plugins");
    let outer = if plugin(config) { &config["plugins"][0] } else { config };
    if !matches!(text(outer, "type"), Some("multus" | "multus-shim")) || !first(outer, "delegates") {
        return outer;
    }
    let delegate = &outer["delegates"][0];
    if plugin(delegate) {
        &delegate["plugins"][0]
    } else {
        delegate
    }
}

fn sets(block: &Value) -> Result<Vec<RangeSet>, String> {
    let mut sets = Vec::new();
    // The older form, one range at the top, comes before the others.
    if block.get("subnet").is_some_and(|subnet| !subnet.is_null()) {
        sets.extend(set(std::slice::from_ref(block))?);
    }
    match block.get("ranges") {
        None | Some(Value::Null) => {}
        Some(Value::Array(each)) => {
            for ranges in each {
                let ranges = ranges.as_array().ok_or("a set in ipam.ranges is not a list")?;
                sets.extend(set(ranges)?);
            }
        }
        Some(_) => return Err("ipam.ranges is not a list".to_owned()),
    }
    Ok(sets)
}

/// `None`: a set that Calico fills in by the Node, or an empty one.
fn set(ranges: &[Value]) -> Result<Option<RangeSet>, String> {
    let ranges: Vec<AddressRange> = ranges
        .iter()
        .filter_map(|range| one(range).transpose())
        .collect::<Result<_, _>>()?;
    Ok((!ranges.is_empty()).then_some(RangeSet { ranges }))
}

fn one(range: &Value) -> Result<Option<AddressRange>, String> {
    let subnet = text(range, "subnet").ok_or("a range in the ipam block has no subnet")?;
    if matches!(subnet, "usePodCidr" | "usePodCidrIPv6") {
        return Ok(None);
    }
    let net: IpNet = subnet
        .parse()
        .map_err(|_| format!("ipam subnet {subnet:?} is not a prefix"))?;
    if net != net.trunc() {
        return Err(format!("ipam subnet {net} has host bits set: host-local refuses it"));
    }
    let whole = AddressRange::whole(net).ok_or_else(|| format!("ipam subnet {net} is too small to allocate from"))?;
    let address = |key: &str, default: IpAddr| match text(range, key) {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| format!("ipam {key} {text:?} is not an address")),
    };
    let bound = |key: &str, default| {
        let bound = address(key, default)?;
        net.contains(&bound)
            .then_some(bound)
            .ok_or_else(|| format!("ipam {key} {bound} is not an address of {net}"))
    };
    let range = AddressRange {
        first: bound("rangeStart", whole.first)?,
        last: bound("rangeEnd", whole.last)?,
        gateway: address("gateway", whole.gateway)?,
    };
    if range.first > range.last {
        return Err(format!("ipam range {range} ends before it starts"));
    }
    Ok(Some(range))
}

fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fixture(name: &str) -> Option<Ipam> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/observe/cni/fixtures")
            .join(name);
        of_config(&serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn line(ipam: Option<Ipam>) -> String {
        let Some(ipam) = ipam else {
            return "not host-local".into();
        };
        let sets = ipam.sets.map_or_else(
            |why| format!("refused: {why}"),
            |sets| sets.iter().map(|set| format!("[{set}]")).collect::<String>(),
        );
        format!("{:?} {sets}", ipam.data_dir.unwrap_or_default())
    }

    #[test]
    fn of_every_cni_it_is_known_where_its_leases_are_and_what_it_hands_out_of() {
        let lines: Vec<String> = [
            "10-flannel.conflist",
            "10-kindnet.conflist",
            "10-containerd-net.conflist",
            "10-canal.conflist",
            "10-gke-ptp.conflist",
            "10-kuberouter.conf",
            "10-antrea.conflist",
            "00-multus.conf",
            "10-calico.conflist",
            "10-aws.conflist",
        ]
        .iter()
        .map(|name| format!("{name}: {}", line(fixture(name))))
        .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    fn ranges(block: Value) -> String {
        line(of_config(&json!({"type": "bridge", "ipam": block})))
    }

    #[test]
    fn bounds_and_gateway_are_kept_exactly() {
        let block = json!({"type": "host-local", "dataDir": "/run/leases", "ranges": [
            [{"subnet": "10.244.0.0/16", "rangeStart": "10.244.1.100", "rangeEnd": "10.244.1.200"},
             {"subnet": "10.244.2.0/24", "gateway": "10.244.2.254"}],
            [{"subnet": "fd00:1::/64"}],
        ]});
        assert_eq!(
            ranges(block.clone()),
            "\"/run/leases\" [10.244.1.100-10.244.1.200,10.244.2.1-10.244.2.254][fd00:1::1-fd00:1::ffff:ffff:ffff:ffff]"
        );
        let sets = of_config(&json!({"type": "ptp", "ipam": block})).unwrap().sets.unwrap();
        assert_eq!(sets[0].usable(), 101 + 253);
    }

    #[test]
    fn what_host_local_would_refuse_is_an_error_and_not_an_empty_range() {
        for (block, expected) in [
            (
                json!({"subnet": "10.1.0.0/33"}),
                "ipam subnet \"10.1.0.0/33\" is not a prefix",
            ),
            (
                json!({"subnet": "10.1.0.9/24"}),
                "ipam subnet 10.1.0.9/24 has host bits set: host-local refuses it",
            ),
            (
                json!({"subnet": "10.1.0.0/31"}),
                "ipam subnet 10.1.0.0/31 is too small to allocate from",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.9.0.1"}),
                "ipam rangeEnd 10.9.0.1 is not an address of 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.2"}),
                "ipam range 10.1.0.9-10.1.0.2 ends before it starts",
            ),
            (json!({"ranges": 7}), "ipam.ranges is not a list"),
            (json!({"ranges": [7]}), "a set in ipam.ranges is not a list"),
            (json!({"ranges": [[{}]]}), "a range in the ipam block has no subnet"),
        ] {
            let mut block = block;
            block["type"] = "host-local".into();
            assert_eq!(ranges(block), format!("\"\" refused: {expected}"));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_json_never_panics(
            kind in "(multus|bridge|flannel|ptp|)",
            ipam in "(\\{\\}|\\[\\]|7|null|\\{\"type\":\"host-local\",\"dataDir\":(7|\"x\"),\"ranges\":(7|\\[7\\]|\\[\\[7,\\{\"subnet\":\"[0-9./:]{0,12}\"\\}\\]\\])\\})",
        ) {
            let text = format!(r#"{{"type":"{kind}","ipam":{ipam},"plugins":{ipam},"delegates":[{ipam}]}}"#);
            let _ = of_config(&serde_json::from_str(&text).unwrap());
        }
    }
}
