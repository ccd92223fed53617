use crate::control_plane::record::{metrics, prometheus};

const TEXT: &str = r#"# HELP node_ipam_controller_cidrset_usage_cidrs [ALPHA] Gauge measuring percentage of allocated CIDRs.
# TYPE node_ipam_controller_cidrset_usage_cidrs gauge
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="10.244.0.0/16"} 0.5
node_ipam_controller_cirdset_max_cidrs{clusterCIDR="10.244.0.0/16"} 256
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="fd00::/56"} NaN
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="nonsense"} 1
"#;

#[test]
fn pools_are_read_by_their_range() {
    let pools = metrics::pools(TEXT, "kube-system/kcm", jiff::Timestamp::UNIX_EPOCH);
    let [v4, v6] = pools.as_slice() else {
        panic!("{pools:?}")
    };
    assert_eq!((v4.usage, v4.max), (Some(0.5), Some(256)));
    assert_eq!((v6.usage, v6.max), (None, None));
}

#[test]
fn labels_may_hold_every_character() {
    let text = r#"m{a="x,y}",b="q\"\\\n",} 1e3"#;
    let [sample] = prometheus::samples(text, &["m"]).try_into().unwrap();
    assert_eq!(
        (sample.labels["a"].as_str(), sample.labels["b"].as_str()),
        ("x,y}", "q\"\\\n")
    );
    assert_eq!(sample.value, 1000.0);
    for torn in ["m{a=\"x", "m{a=x} 1", "m{} ", "m", "m{a=\"x\"}"] {
        assert_eq!(prometheus::samples(torn, &["m"]), [], "{torn}");
    }
}
