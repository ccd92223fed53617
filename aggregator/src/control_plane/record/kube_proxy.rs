//! ConfigMap kube-system/kube-proxy.

use serde_json::Value;

use super::text::{at, prefixes};
use super::witness::{document, silent};
use crate::cluster::objects::{RangeWitness, Resource};

/// Its word: `clusterCIDR` of config.conf. An empty one is legal: then kube-proxy tells pods' traffic
/// by other means, which stands in `what` too.
pub fn record(object: &Value) -> Result<RangeWitness, String> {
    let what = "ConfigMap kube-system/kube-proxy";
    let Some(text) = at(object, "/data/config.conf") else {
        return Ok(silent(
            Resource::KubeProxyConfig,
            format!("{what}, without config.conf"),
        ));
    };
    let config = document(text).map_err(|error| format!("config.conf: {error}"))?;
    let mode = match at(&config, "/detectLocalMode") {
        Some(mode) => format!(" (detectLocalMode {mode})"),
        None => String::new(),
    };
    let mut witness = silent(Resource::KubeProxyConfig, format!("{what}, clusterCIDR{mode}"));
    witness.ranges = prefixes(at(&config, "/clusterCIDR").unwrap_or_default(), &mut witness.odd);
    Ok(witness)
}
