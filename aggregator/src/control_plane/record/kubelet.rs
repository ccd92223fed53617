//! What kubelets and kube-controller-manager say of themselves, through the API server's proxy.

use jiff::Timestamp;
use serde_json::Value;

use super::prometheus::samples;
use super::text::{at, clip};
use crate::cluster::objects::{KubeletWord, PoolMetric};

/// `/configz` of a kubelet.
pub fn config(text: &str, word: &mut KubeletWord) -> Result<(), String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let config = value.get("kubeletconfig").ok_or("it has no kubeletconfig")?;
    word.standalone_pod_cidr = at(config, "/podCIDR").map(|text| clip(text, 128));
    let pods = config.get("maxPods").and_then(Value::as_u64);
    word.max_pods = pods.and_then(|pods| u32::try_from(pods).ok());
    word.runtime_endpoint = at(config, "/containerRuntimeEndpoint").map(|text| clip(text, 256));
    Ok(())
}

/// `/metrics` of a kubelet: how many sandboxes were tried and how many failed, over all runtime handlers.
pub fn metrics(text: &str, word: &mut KubeletWord) {
    const ERRORS: &str = "kubelet_run_podsandbox_errors_total";
    const RUNS: &str = "kubelet_run_podsandbox_duration_seconds_count";
    let found = samples(text, &[ERRORS, RUNS]);
    let sum = |name: &str| {
        let values: Vec<f64> = found
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| sample.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
    };
    (word.sandbox_errors, word.sandbox_runs) = (sum(ERRORS), sum(RUNS));
}

/// `/metrics` of kube-controller-manager: its pools.
pub fn pools(text: &str, manager: &str, now: Timestamp) -> Vec<PoolMetric> {
    const USAGE: &str = "node_ipam_controller_cidrset_usage_cidrs";
    // The typo is Kubernetes' own.
    const MOST: &str = "node_ipam_controller_cirdset_max_cidrs";
    let mut pools: Vec<PoolMetric> = Vec::new();
    for sample in samples(text, &[USAGE, MOST]) {
        let range = sample
            .labels
            .get("clusterCIDR")
            .and_then(|text| text.parse::<ipnet::IpNet>().ok());
        let Some(range) = range.map(|range| range.trunc()) else {
            continue;
        };
        let at = match pools.iter().position(|pool| pool.range == range) {
            Some(at) => at,
            None => {
                pools.push(PoolMetric {
                    manager: manager.to_owned(),
                    range,
                    usage: None,
                    max: None,
                    read_at: now,
                });
                pools.len() - 1
            }
        };
        let Some(pool) = pools.get_mut(at) else { continue };
        if sample.name == USAGE {
            pool.usage = Some(sample.value).filter(|usage| usage.is_finite());
        } else {
            pool.max = (sample.value >= 0.0).then_some(sample.value as u64);
        }
    }
    pools
}
