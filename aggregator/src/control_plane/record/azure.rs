//! NodeNetworkConfigs of Azure CNI (reference G; its schema is partly seen only).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::text::{at, list};
use crate::cluster::objects::NodeNetworkConfig;

/// A NodeNetworkConfig: one a node, of the node's name. Overlay writes the node's prefix as
/// `primaryIP`; others write an address there, and the subnet apart.
pub fn record(object: &Value) -> Result<NodeNetworkConfig, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    let mut record = NodeNetworkConfig {
        node: name.to_owned(),
        cidrs: Vec::new(),
        addresses: Vec::new(),
    };
    for container in list(object, "/status/networkContainers") {
        let primary = at(container, "/primaryIP").and_then(|text| text.parse::<IpNet>().ok());
        let subnet = at(container, "/subnetAddressSpace").and_then(|text| text.parse::<IpNet>().ok());
        // A prefix of one address is that address.
        let primary = primary.filter(|net| net.prefix_len() < net.max_prefix_len());
        record.cidrs.extend(primary.or(subnet).map(|net| net.trunc()));
        let assigned = list(container, "/ipAssignments").iter();
        let addresses = assigned.filter_map(|entry| at(entry, "/ip")?.parse::<IpAddr>().ok());
        record.addresses.extend(addresses);
    }
    Ok(record)
}
