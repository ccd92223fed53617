//! ConfigMap kube-flannel-cfg, in kube-flannel or kube-system.

use serde_json::Value;

use super::text::{at, length_of, prefixes};
use super::witness::silent;
use crate::cluster::objects::{RangeWitness, Resource};

/// Its word: `Network` and `IPv6Network` of net-conf.json. One that is switched off
/// (`EnableIPv4`, on unless said otherwise; `EnableIPv6`, off unless said) is left out.
pub fn record(object: &Value) -> Result<RangeWitness, String> {
    let namespace = at(object, "/metadata/namespace").unwrap_or("kube-flannel");
    let what = format!("ConfigMap {namespace}/kube-flannel-cfg, net-conf.json");
    let mut witness = silent(Resource::FlannelConfig, what);
    let text = at(object, "/data/net-conf.json").ok_or("it has no net-conf.json")?;
    let config: Value = serde_json::from_str(text).map_err(|error| format!("net-conf.json: {error}"))?;
    let switch = |key: &str| config.get(key).and_then(Value::as_bool);
    if switch("EnableIPv4") != Some(false) {
        let network = at(&config, "/Network").unwrap_or_default();
        witness.ranges.extend(prefixes(network, &mut witness.odd));
    }
    if switch("EnableIPv6") == Some(true) {
        let network = at(&config, "/IPv6Network").unwrap_or_default();
        witness.ranges.extend(prefixes(network, &mut witness.odd));
    }
    // With Kubernetes as its store flannel takes a node's share from spec.podCIDR; the length
    // is stated where it is etcd's.
    let length =
        |key: &str, most, odd: &mut Vec<String>| length_of(config.get(key)?, most, odd).filter(|size| *size > 0);
    witness.mask_v4 = length("SubnetLen", 32, &mut witness.odd);
    witness.mask_v6 = length("IPv6SubnetLen", 128, &mut witness.odd);
    Ok(witness)
}
