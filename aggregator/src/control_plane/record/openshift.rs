//! `networks.config.openshift.io`: the one named "cluster".

use ipnet::IpNet;
use serde_json::Value;

use super::text::{at, length_of, list, prefixes};
use super::witness::{mask, silent};
use crate::cluster::objects::{RangeWitness, Resource};

/// Its word: `status.clusterNetwork` and `status.serviceNetwork`, or those of `spec` until it has a status.
pub fn record(object: &Value) -> Result<RangeWitness, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    let part = if list(object, "/status/clusterNetwork").is_empty() {
        "spec"
    } else {
        "status"
    };
    let what = format!("Network {name}, {part}.clusterNetwork");
    let mut witness = silent(Resource::OpenShiftNetworks, what);
    for network in list(object, &format!("/{part}/clusterNetwork")) {
        let found = prefixes(at(network, "/cidr").unwrap_or_default(), &mut witness.odd);
        for range in found {
            let most = match range {
                IpNet::V4(_) => 32,
                IpNet::V6(_) => 128,
            };
            let length = network
                .get("hostPrefix")
                .and_then(|value| length_of(value, most, &mut witness.odd));
            // 0 is written where the network's plugin does not use it.
            if let Some(length) = length.filter(|length| *length > 0) {
                mask(&mut witness, range, length);
            }
            witness.ranges.push(range);
        }
    }
    for range in list(object, &format!("/{part}/serviceNetwork"))
        .iter()
        .filter_map(Value::as_str)
    {
        let found = prefixes(range, &mut witness.odd);
        witness.service_ranges.extend(found);
    }
    Ok(witness)
}
