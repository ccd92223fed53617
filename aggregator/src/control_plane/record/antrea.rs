//! ConfigMap kube-system/antrea-config.

use serde_json::Value;

use super::text::{at, length_of, list, prefixes};
use super::witness::{document, silent};
use crate::cluster::objects::{RangeWitness, Resource};

/// Its word: `nodeIPAM` of antrea-controller.conf, where antrea allocates node CIDRs itself. Switched off,
/// which is the default, it names nothing.
pub fn record(object: &Value) -> Result<RangeWitness, String> {
    let what = "ConfigMap kube-system/antrea-config";
    let mut witness = silent(Resource::AntreaConfig, format!("{what}, nodeIPAM off"));
    let Some(text) = at(object, "/data/antrea-controller.conf") else {
        return Ok(witness);
    };
    let config = document(text).map_err(|error| format!("antrea-controller.conf: {error}"))?;
    if config.pointer("/nodeIPAM/enableNodeIPAM").and_then(Value::as_bool) != Some(true) {
        return Ok(witness);
    }
    witness.what = format!("{what}, nodeIPAM.clusterCIDRs");
    for range in list(&config, "/nodeIPAM/clusterCIDRs").iter().filter_map(Value::as_str) {
        let found = prefixes(range, &mut witness.odd);
        witness.ranges.extend(found);
    }
    for pointer in ["/nodeIPAM/serviceCIDR", "/nodeIPAM/serviceCIDRv6"] {
        let found = prefixes(at(&config, pointer).unwrap_or_default(), &mut witness.odd);
        witness.service_ranges.extend(found);
    }
    let mask = |pointer: &str, most, odd: &mut Vec<String>| length_of(config.pointer(pointer)?, most, odd);
    witness.mask_v4 = mask("/nodeIPAM/nodeCIDRMaskSizeIPv4", 32, &mut witness.odd);
    witness.mask_v6 = mask("/nodeIPAM/nodeCIDRMaskSizeIPv6", 128, &mut witness.odd);
    Ok(witness)
}
