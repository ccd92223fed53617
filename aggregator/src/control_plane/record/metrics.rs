//! What kube-controller-manager says of itself, through the API server's proxy.

use jiff::Timestamp;

use super::prometheus::samples;
use crate::cluster::objects::PoolMetric;

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
