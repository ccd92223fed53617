//! What every word on pod ranges has in common.

use ipnet::IpNet;

use crate::cluster::objects::{RangeWitness, Resource};

/// A witness that names nothing yet.
pub fn silent(resource: Resource, what: impl Into<String>) -> RangeWitness {
    RangeWitness {
        resource,
        what: what.into(),
        ranges: Vec::new(),
        service_ranges: Vec::new(),
        mask_v4: None,
        mask_v6: None,
        odd: Vec::new(),
    }
}

/// Sets the mask of the family that this range is of.
pub fn mask(witness: &mut RangeWitness, range: IpNet, length: u8) {
    match range {
        IpNet::V4(_) => witness.mask_v4 = Some(length),
        IpNet::V6(_) => witness.mask_v6 = Some(length),
    }
}

/// Reads a YAML or JSON document inside an object, within bounds that its size gives.
pub fn document(text: &str) -> Result<serde_json::Value, String> {
    let size = text.len().saturating_mul(2).saturating_add(64);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: size, max_nodes: size, max_total_scalar_bytes: size },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}
