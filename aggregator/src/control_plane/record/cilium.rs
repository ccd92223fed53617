//! Cilium: ConfigMap cilium-config, and CiliumNodes.

use ipnet::IpNet;
use serde_json::Value;

use super::text::{at, clip, length, list, prefixes};
use super::witness::silent;
use crate::cluster::objects::{CiliumNode, RangeWitness, Resource};

/// Its word on ranges, and its `ipam`. The ranges count in mode cluster-pool only, which is
/// the default; in others the keys may linger, and name nothing.
pub fn config(object: &Value) -> (RangeWitness, Option<String>) {
    let said = |key: &str| {
        let value = object.get("data")?.get(key)?.as_str()?.trim();
        (!value.is_empty()).then_some(value)
    };
    let ipam = said("ipam").map(|mode| clip(mode, 64));
    let what = "ConfigMap kube-system/cilium-config";
    let mut witness = silent(
        Resource::CiliumConfig,
        format!("{what}, ipam {}", ipam.as_deref().unwrap_or("not stated")),
    );
    if ipam.as_deref().is_none_or(|mode| mode == "cluster-pool") {
        witness.what = format!("{what}, cluster-pool-ipv4-cidr and cluster-pool-ipv6-cidr");
        for key in ["cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr"] {
            let found = prefixes(said(key).unwrap_or_default(), &mut witness.odd);
            witness.ranges.extend(found);
        }
        let mask = |key: &str, most, odd: &mut Vec<String>| length(said(key)?, most, odd);
        witness.mask_v4 = mask("cluster-pool-ipv4-mask-size", 32, &mut witness.odd);
        witness.mask_v6 = mask("cluster-pool-ipv6-mask-size", 128, &mut witness.odd);
    }
    (witness, ipam)
}

/// A CiliumNode; what of it is no prefix stands in `odd`.
pub fn node(object: &Value) -> Result<CiliumNode, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    let mut record = CiliumNode {
        node: name.to_owned(),
        error: at(object, "/status/ipam/operator-status/error").map(|text| clip(text, 1024)),
        ..CiliumNode::default()
    };
    let single = list(object, "/spec/ipam/podCIDRs").iter();
    let pools = list(object, "/spec/ipam/pools/allocated").iter();
    // An entry of a pool's `cidrs` is a text, or an object with `cidr`, by version.
    let pooled = pools.flat_map(|pool| list(pool, "/cidrs").iter());
    for value in single.chain(pooled) {
        let text = value.as_str().or_else(|| value.get("cidr").and_then(Value::as_str));
        match text.map(str::parse::<IpNet>) {
            Some(Ok(net)) => record.pod_cidrs.push(net.trunc()),
            _ => record.odd.push(clip(text.unwrap_or(&value.to_string()), 64)),
        }
    }
    Ok(record)
}
