//! ClusterCIDRs of node-ipam-controller (reference B).

use ipnet::IpNet;
use serde_json::Value;

use super::text::{at, clip, list};
use crate::cluster::objects::{ClusterCidr, Requirement};

/// A ClusterCIDR.
pub fn record(object: &Value) -> Result<ClusterCidr, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    let bits = object.pointer("/spec/perNodeHostBits").unwrap_or(&Value::Null);
    let per_node_host_bits = bits
        .as_u64()
        .and_then(|bits| u8::try_from(bits).ok())
        .filter(|bits| *bits <= 128)
        .ok_or_else(|| format!("spec.perNodeHostBits is {bits}"))?;
    let v4 = family(object, "/spec/ipv4")?;
    let v6 = family(object, "/spec/ipv6")?;
    if v4.is_none() && v6.is_none() {
        return Err("it has neither spec.ipv4 nor spec.ipv6".to_owned());
    }
    let terms = list(object, "/spec/nodeSelector/nodeSelectorTerms").iter();
    let selector = terms.map(term).collect::<Result<_, _>>()?;
    Ok(ClusterCidr {
        name: name.to_owned(),
        per_node_host_bits,
        v4,
        v6,
        selector,
        deleting: at(object, "/metadata/deletionTimestamp").is_some(),
    })
}

fn family(object: &Value, pointer: &str) -> Result<Option<IpNet>, String> {
    let Some(text) = at(object, pointer) else {
        return Ok(None);
    };
    match text.parse::<IpNet>() {
        Ok(net) if net.addr().is_ipv4() == pointer.ends_with("ipv4") => Ok(Some(net.trunc())),
        _ => Err(format!(
            "{} is {:?}",
            pointer.trim_start_matches('/').replace('/', "."),
            clip(text, 64)
        )),
    }
}

/// A term: all its requirements. One that cannot be read makes the whole object unreadable, since
/// leaving it out would let the range apply to more nodes.
fn term(term: &Value) -> Result<Vec<Requirement>, String> {
    let labels = list(term, "/matchExpressions").iter().map(|value| (value, false));
    let fields = list(term, "/matchFields").iter().map(|value| (value, true));
    labels
        .chain(fields)
        .map(|(value, field)| {
            let part = |key: &str| {
                let text = value.get(key).and_then(Value::as_str);
                text.map(ToOwned::to_owned)
                    .ok_or_else(|| format!("a requirement of spec.nodeSelector has no {key}"))
            };
            Ok(Requirement {
                key: part("key")?,
                operator: part("operator")?,
                values: list(value, "/values")
                    .iter()
                    .filter_map(|value| value.as_str().map(ToOwned::to_owned))
                    .collect(),
                field,
            })
        })
        .collect()
}
