use crate::cluster::objects::KubeletWord;
use crate::control_plane::record::{kubelet, prometheus};

const TEXT: &str = r#"# HELP kubelet_run_podsandbox_errors_total [ALPHA] Cumulative number
# TYPE kubelet_run_podsandbox_errors_total counter
kubelet_run_podsandbox_errors_total{runtime_handler=""} 4
kubelet_run_podsandbox_errors_total{runtime_handler="gvisor"} 3
kubelet_run_podsandbox_errors_total_other{runtime_handler=""} 9
kubelet_run_podsandbox_duration_seconds_bucket{runtime_handler="",le="0.005"} 1
kubelet_run_podsandbox_duration_seconds_count{runtime_handler=""} 21 1732350000000
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="10.244.0.0/16"} 0.5
node_ipam_controller_cirdset_max_cidrs{clusterCIDR="10.244.0.0/16"} 256
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="fd00::/56"} NaN
node_ipam_controller_cidrset_usage_cidrs{clusterCIDR="nonsense"} 1
"#;

#[test]
fn a_kubelets_metrics_are_summed_over_runtime_handlers() {
    let mut word = KubeletWord::default();
    kubelet::metrics(TEXT, &mut word);
    assert_eq!((word.sandbox_errors, word.sandbox_runs), (Some(7), Some(21)));
    kubelet::metrics("", &mut word);
    assert_eq!(
        (word.sandbox_errors, word.sandbox_runs),
        (None, None),
        "what is not there is not nought"
    );
}

#[test]
fn pools_are_read_by_their_range() {
    let pools = kubelet::pools(TEXT, "kube-system/kcm", jiff::Timestamp::UNIX_EPOCH);
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

#[test]
fn configz_says_little_but_that() {
    let mut word = KubeletWord::default();
    let text = r#"{"kubeletconfig":{"maxPods":110,"podCIDR":"","containerRuntimeEndpoint":"unix:///run/containerd/containerd.sock"}}"#;
    kubelet::config(text, &mut word).unwrap();
    assert_eq!((word.max_pods, word.standalone_pod_cidr.as_deref()), (Some(110), None));
    assert!(kubelet::config("{}", &mut word).is_err());
    assert!(kubelet::config("<html>", &mut word).is_err());
}
