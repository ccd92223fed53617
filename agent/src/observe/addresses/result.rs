//! libcni's cache: `/var/lib/cni/results/NETWORK-ID-INTERFACE`, the result of each ADD together with the configuration
//! that was in force then.
//!
//! A file is no proof that its pod runs: libcni removes it at the end of a DEL that went well, and a pod that was lost
//! in a crash leaves it behind.

use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::ipam;
use crate::view::host::{AddressRange, CachedResult};

/// Addresses of a result that are kept; a pod has one of each family, seldom a few more.
const ADDRESSES: usize = 16;

/// Ranges that are kept; a configuration has one for each of those.
const RANGES: usize = 16;

/// Why a file could not be made sense of.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResultError {
    /// Not JSON, or cut short.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Written by libcni before 0.7.1, or by something else.
    #[error("its kind is {0:?}, not \"cniCacheV1\"")]
    Kind(String),
    /// An address that is none.
    #[error("{0:?} is not an address with its mask")]
    Address(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    container_id: String,
    #[serde(default)]
    network_name: String,
    /// base64 of the configuration, as Go writes bytes.
    #[serde(default)]
    config: Option<String>,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    result: Value,
}

/// Reads a cached result.
pub(super) fn parse(bytes: &[u8], made_at: Option<Timestamp>) -> Result<CachedResult, ResultError> {
    let cached: Cached = serde_json::from_slice(bytes)?;
    if cached.kind != "cniCacheV1" {
        return Err(ResultError::Kind(cached.kind));
    }
    let config = cached.config.and_then(|text| BASE64_STANDARD.decode(text).ok());
    let mut addresses = addresses(&cached.result)?;
    // containerd keeps a result of every sandbox's `lo` too: nobody's but the pod's own.
    addresses.retain(|address| !address.addr().is_loopback());
    Ok(CachedResult {
        pod: pod(cached.cni_args.as_deref().unwrap_or_default()),
        addresses,
        ranges: config.as_deref().map(ranges).unwrap_or_default(),
        network: cached.network_name,
        container: cached.container_id,
        made_at,
    })
}

fn pod(args: &[(String, String)]) -> Option<String> {
    let arg = |name: &str| args.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    Some(format!("{}/{}", arg("K8S_POD_NAMESPACE")?, arg("K8S_POD_NAME")?))
}

/// `ips` since CNI 0.3.0, `ip4` and `ip6` before.
fn addresses(result: &Value) -> Result<Vec<IpNet>, ResultError> {
    let list = result.get("ips").and_then(Value::as_array);
    let new = list.into_iter().flatten().map(|ip| ip.get("address"));
    let old = ["ip4", "ip6"]
        .into_iter()
        .filter_map(|family| Some(result.get(family)?.get("ip")));
    new.chain(old)
        .take(ADDRESSES)
        .map(|address| {
            let text = address.and_then(Value::as_str).unwrap_or_default();
            interface(text).ok_or_else(|| ResultError::Address(text.to_owned()))
        })
        .collect()
}

/// "10.244.1.7/24"; some plugins leave the mask out.
fn interface(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The ranges of the configuration that was in force; none where no file names them, or it is damaged.
fn ranges(config: &[u8]) -> Vec<IpNet> {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    let sets = ipam::of_config(&config)
        .and_then(|ipam| ipam.sets.ok())
        .unwrap_or_default();
    let ranges = sets.iter().flat_map(|set| &set.ranges);
    ranges.map(AddressRange::prefix).take(RANGES).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// As containerd has libcni write it.
    pub(in crate::observe::addresses) fn file(network: &str, container: &str, pod: &str, result: &Value) -> Vec<u8> {
        let config = json!({"cniVersion": "1.0.0", "name": network, "plugins": [
            {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.7.0/24"}]]}},
            {"type": "portmap"},
        ]});
        serde_json::to_vec(&json!({
            "kind": "cniCacheV1",
            "containerId": container,
            "config": BASE64_STANDARD.encode(config.to_string()),
            "ifName": "eth0",
            "networkName": network,
            "netns": "/var/run/netns/cni-1d6a4f3c",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", pod],
                ["K8S_POD_INFRA_CONTAINER_ID", container], ["K8S_POD_UID", "8f4e"]],
            "capabilityArgs": {"dns": {}, "portMappings": null},
            "result": result,
        }))
        .unwrap()
    }

    fn new() -> Value {
        json!({"cniVersion": "1.0.0", "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/var/run/netns/cni-1d6a4f3c"}],
            "ips": [{"address": "10.244.7.5/24", "gateway": "10.244.7.1", "interface": 1},
                {"address": "fd00:7::5/64", "gateway": "fd00:7::1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {}})
    }

    #[test]
    fn pod_addresses_and_the_range_in_force_are_read() {
        let result = parse(&file("cbr0", "3f2a", "web", &new()), None).unwrap();
        assert_eq!(
            result,
            CachedResult {
                network: "cbr0".into(),
                container: "3f2a".into(),
                pod: Some("default/web".into()),
                addresses: vec!["10.244.7.5/24".parse().unwrap(), "fd00:7::5/64".parse().unwrap()],
                ranges: vec!["10.244.7.0/24".parse().unwrap()],
                made_at: None,
            }
        );
    }

    /// Written by libcni v1.3.0 with the host-local plugin 1.1.1, as it came.
    #[test]
    fn what_libcni_writes_is_read_in_every_version_of_cni() {
        const CONFIG: &str = "eyJjbmlWZXJzaW9uIjoiMS4wLjAiLCJuYW1lIjoibmV0MS4wLjAiLCJwbHVnaW5zIjpbeyJ0eXBlIjoiaG9zdC1sb2Nh\
            bCIsImlwYW0iOnsidHlwZSI6Imhvc3QtbG9jYWwiLCJkYXRhRGlyIjoiL3RtcC93dC1hZGRyLWxpYmNuaS9sZWFzZXMiLCJzdWJuZXQiOiIxMC4yNDQu\
            Ny4wLzI0In19XX0=";
        for result in [
            r#"{"cniVersion":"0.2.0","dns":{},"ip4":{"gateway":"10.244.7.1","ip":"10.244.7.2/24"}}"#,
            r#"{"cniVersion":"0.3.1","dns":{},"ips":[{"address":"10.244.7.2/24","gateway":"10.244.7.1","version":"4"}]}"#,
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.244.7.2/24","gateway":"10.244.7.1"}]}"#,
        ] {
            let file = format!(
                r#"{{"kind":"cniCacheV1","containerId":"3f2a1.0.0","config":"{CONFIG}","ifName":"eth0","networkName":"net1.0.0","netns":"/none","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","default"],["K8S_POD_NAME","web"]],"result":{result}}}"#
            );
            let read = parse(file.as_bytes(), None).unwrap();
            assert_eq!(read.addresses, ["10.244.7.2/24".parse().unwrap()]);
            assert_eq!(read.ranges, ["10.244.7.0/24".parse().unwrap()]);
            assert_eq!(
                (read.pod.as_deref(), read.container.as_str()),
                (Some("default/web"), "3f2a1.0.0")
            );
        }
    }

    #[test]
    fn results_of_cni_before_0_3_0_are_read() {
        let old =
            json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.244.7.5/24"}, "ip6": {"ip": "fd00:7::5/64"}, "dns": {}});
        let result = parse(&file("cbr0", "3f2a", "web", &old), None).unwrap();
        assert_eq!(result.addresses.len(), 2);
    }

    #[test]
    fn a_result_without_arguments_addresses_or_configuration_is_one_all_the_same() {
        let text = r#"{"kind":"cniCacheV1","containerId":"a","config":"!","networkName":"n","cniArgs":null}"#;
        let result = parse(text.as_bytes(), None).unwrap();
        assert_eq!((result.pod, result.addresses, result.ranges), (None, vec![], vec![]));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let whole = file("cbr0", "3f2a", "web", &new());
        for (bytes, expected) in [
            (&whole[..40], "EOF while parsing a string at line 1 column 40"),
            (&b""[..], "EOF while parsing a value at line 1 column 0"),
            (
                &b"{\"cniVersion\":\"0.4.0\",\"ips\":[]}"[..],
                "its kind is \"\", not \"cniCacheV1\"",
            ),
            (
                &b"{\"kind\":\"cniCacheV1\",\"result\":{\"ips\":[{\"address\":\"10.1\"}]}}"[..],
                "\"10.1\" is not an address with its mask",
            ),
        ] {
            assert_eq!(parse(bytes, None).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_addresses_of_a_pods_lo_are_left_out() {
        let text = r#"{"kind":"cniCacheV1","containerId":"3f2a","ifName":"lo","networkName":"cni-loopback","result":{"ips":[{"address":"127.0.0.1/8"},{"address":"::1/128"}]}}"#;
        assert_eq!(parse(text.as_bytes(), None).unwrap().addresses, []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, None);
        }

        #[test]
        fn a_file_cut_anywhere_is_never_taken_for_whole(at in 0..600usize) {
            let whole = file("cbr0", "3f2a", "web", &new());
            let at = at.min(whole.len() - 1);
            prop_assert!(parse(&whole[..at], None).is_err());
        }

        #[test]
        fn addresses_are_read_back(v4: [u8; 4], v6: u128, length in 0..=32u8) {
            let nets = [
                IpNet::new(v4.into(), length).unwrap(),
                IpNet::new(IpAddr::V6(v6.into()), length).unwrap(),
            ];
            let result = json!({"ips": nets.map(|net| json!({"address": net.to_string()}))});
            let kept: Vec<IpNet> = nets.into_iter().filter(|net| !net.addr().is_loopback()).collect();
            prop_assert_eq!(parse(&file("n", "c", "p", &result), None).unwrap().addresses, kept);
        }
    }
}
