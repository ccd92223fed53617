//! ConfigMap kube-system/kubeadm-config: what was meant when the cluster was made (reference H). It
//! is not updated when a manifest is edited by hand.

use serde_json::Value;

use super::flags::manager_of;
use super::text::{at, clip, list, prefixes};
use super::witness::{document, silent};
use crate::cluster::objects::{RangeWitness, Resource};

/// Its word: `networking` of ClusterConfiguration, and `controllerManager.extraArgs`, which win over it.
pub fn record(object: &Value) -> Result<RangeWitness, String> {
    let what = "ConfigMap kube-system/kubeadm-config";
    let Some(text) = at(object, "/data/ClusterConfiguration") else {
        return Ok(silent(
            Resource::KubeadmConfig,
            format!("{what}, without ClusterConfiguration"),
        ));
    };
    let config = document(text).map_err(|error| format!("ClusterConfiguration: {error}"))?;
    let mut witness = silent(Resource::KubeadmConfig, format!("{what}, networking.podSubnet"));
    let pod_subnet = at(&config, "/networking/podSubnet").unwrap_or_default();
    witness.ranges = prefixes(pod_subnet, &mut witness.odd);
    let services = at(&config, "/networking/serviceSubnet").unwrap_or_default();
    witness.service_ranges = prefixes(services, &mut witness.odd);
    let pairs = extra_args(&config);
    let flags = manager_of(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    if !flags.cluster_cidr.is_empty() {
        witness.what = format!("{what}, controllerManager.extraArgs cluster-cidr");
        witness.ranges = flags.cluster_cidr;
    }
    if !flags.service_cidr.is_empty() {
        witness.service_ranges = flags.service_cidr;
    }
    let single = |most: u8| flags.mask.filter(|mask| *mask <= most);
    let (v4, v6) = (
        witness.ranges.iter().any(|range| range.addr().is_ipv4()),
        witness.ranges.iter().any(|range| range.addr().is_ipv6()),
    );
    witness.mask_v4 = flags.mask_v4.or_else(|| single(32).filter(|_| v4));
    witness.mask_v6 = flags.mask_v6.or_else(|| single(128).filter(|_| v6 && !v4));
    witness.odd.extend(flags.odd);
    Ok(witness)
}

/// `extraArgs`: a map until v1beta3, a list of name and value since v1beta4, where the last of two wins.
fn extra_args(config: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => clip(&other.to_string(), 256),
    };
    let pointer = "/controllerManager/extraArgs";
    if let Some(map) = config.pointer(pointer).and_then(Value::as_object) {
        return map.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    }
    let named = list(config, pointer).iter();
    named
        .filter_map(|entry| Some((at(entry, "/name")?.to_owned(), text(entry.get("value")?))))
        .collect()
}
