//! CNINodes of the AWS VPC CNI: that they exist is what matters.

use serde_json::Value;

use super::text::at;

/// The object's name.
pub fn name(object: &Value) -> Result<String, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    Ok(name.to_owned())
}
