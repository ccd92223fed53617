//! What a runtime says of itself: the answers to `Version` and `Status`.
//!
//! The verbose part has no schema: containerd puts its configuration and the CNI networks that it has loaded there
//! (`config`, `cniconfig`, `lastCNILoadStatus`), CRI-O a few words. What is not there or reads differently is left out.

use ipnet::IpNet;
use serde_json::Value;

use super::connection::cut;
use super::v1;
use crate::observe::cni::ipam;
use crate::view::host::{Condition, LoadedNetwork, Runtime};

/// As many networks, plugins or directories as are told; containerd loads one network unless told otherwise.
const LIMIT: usize = 64;

/// Puts it together.
pub(super) fn runtime(version: &v1::VersionResponse, status: &v1::StatusResponse) -> Runtime {
    let json = |key: &str| -> Value {
        let text = status.info.get(key);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    };
    let (config, loaded) = (json("config"), json("cniconfig"));
    Runtime {
        name: cut(&version.runtime_name),
        version: cut(&version.runtime_version),
        runtime_ready: condition(status, "RuntimeReady"),
        network_ready: condition(status, "NetworkReady"),
        networks: networks(&loaded),
        load_problem: load_problem(status),
        template: config
            .pointer("/cni/confTemplate")
            .and_then(Value::as_str)
            .filter(|path| !path.is_empty())
            .map(cut),
        plugin_dirs: plugin_dirs(&loaded, &config),
    }
}

fn condition(status: &v1::StatusResponse, kind: &str) -> Option<Condition> {
    let conditions = &status.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.r#type == kind)?;
    Some(Condition {
        ok: found.status,
        reason: cut(&found.reason),
        message: cut(&found.message),
    })
}

/// `lastCNILoadStatus` is of the runtime's default configuration; runtime handlers with one of their own follow it
/// under `lastCNILoadStatus.HANDLER`.
fn load_problem(status: &v1::StatusResponse) -> Option<String> {
    let mut told: Vec<(&String, &String)> = status
        .info
        .iter()
        .filter(|(key, text)| key.starts_with("lastCNILoadStatus") && !matches!(text.trim(), "" | "OK"))
        .collect();
    told.sort();
    told.first().map(|(_, text)| cut(text))
}

fn networks(loaded: &Value) -> Vec<LoadedNetwork> {
    let all = loaded.get("Networks").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|network| network.get("Config"))
        .map(network)
        // Every pod has a loopback; containerd brings that network itself.
        .filter(|network| network.plugins != ["loopback"])
        .take(LIMIT)
        .collect()
}

fn network(config: &Value) -> LoadedNetwork {
    let name = config.get("Name").and_then(Value::as_str).unwrap_or_default();
    let plugins: Vec<&Value> = config
        .get("Plugins")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(LIMIT)
        .collect();
    let kind = |plugin: &&Value| plugin.pointer("/Network/type").and_then(Value::as_str).map(cut);
    LoadedNetwork {
        name: cut(name),
        ranges: plugins.first().map(|primary| ranges(primary)).unwrap_or_default(),
        plugins: plugins.iter().filter_map(kind).collect(),
    }
}

/// The ranges are in none of containerd's own fields, only in the plugin's configuration as it was loaded.
fn ranges(plugin: &Value) -> Vec<IpNet> {
    let source = plugin.get("Source").and_then(Value::as_str).unwrap_or_default();
    let source: Value = serde_json::from_str(source).unwrap_or_default();
    let mut ranges = source
        .get("ipam")
        .map(|block| ipam::parse(block).ranges)
        .unwrap_or_default();
    ranges.truncate(LIMIT);
    ranges
}

fn plugin_dirs(loaded: &Value, config: &Value) -> Vec<String> {
    let lists = [
        loaded.get("PluginDirs"),
        config.pointer("/cni/binDirs"),
        config.pointer("/cni/binDir"),
    ];
    let directories = |value: &Value| -> Vec<String> {
        let one = value.as_str().into_iter();
        let many = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        one.chain(many)
            .filter(|directory| !directory.is_empty())
            .take(LIMIT)
            .map(cut)
            .collect()
    };
    let mut found = lists.into_iter().flatten().map(directories);
    found.find(|directories| !directories.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn status(info: &[(&str, &str)]) -> v1::StatusResponse {
        v1::StatusResponse {
            status: None,
            info: info
                .iter()
                .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    fn read(info: &[(&str, &str)]) -> Runtime {
        runtime(&v1::VersionResponse::default(), &status(info))
    }

    #[test]
    fn a_loaded_network_is_told_with_the_ranges_of_the_file_as_it_was_loaded() {
        let plugin = r#"{\"type\":\"bridge\",\"ipam\":{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"10.244.7.0/24\"}],[{\"subnet\":\"fd00:7::/64\"}]]}}"#;
        let loaded = format!(
            r#"{{"PluginDirs":["/opt/cni/bin"],"PluginConfDir":"/etc/cni/net.d","PluginMaxConfNum":1,"Prefix":"eth","Networks":[
            {{"Config":{{"Name":"cni-loopback","CNIVersion":"0.3.1","Plugins":[{{"Network":{{"type":"loopback","ipam":{{}}}},"Source":"{{\"type\":\"loopback\"}}"}}]}},"IFName":"lo"}},
            {{"Config":{{"Name":"k8s-pod-network","CNIVersion":"0.4.0","Plugins":[
                {{"Network":{{"type":"bridge","ipam":{{"type":"host-local"}}}},"Source":"{plugin}"}},
                {{"Network":{{"type":"portmap","ipam":{{}}}},"Source":"{{}}"}}],"Source":"{{}}"}},"IFName":"eth0"}}]}}"#
        );
        let runtime = read(&[("cniconfig", &loaded), ("lastCNILoadStatus", "OK")]);
        insta::assert_debug_snapshot!((&runtime.networks, &runtime.plugin_dirs, &runtime.load_problem), @r#"
        (
            [
                LoadedNetwork {
                    name: "k8s-pod-network",
                    plugins: [
                        "bridge",
                        "portmap",
                    ],
                    ranges: [
                        10.244.7.0/24,
                        fd00:7::/64,
                    ],
                },
            ],
            [
                "/opt/cni/bin",
            ],
            None,
        )
        "#);
    }

    #[test]
    fn the_default_configurations_problem_goes_before_a_handlers() {
        let runtime = read(&[
            ("lastCNILoadStatus.gvisor", "other"),
            (
                "lastCNILoadStatus",
                "cni config load failed: no network config found in /etc/cni/net.d",
            ),
            ("lastCNILoadStatus.default", "cni config load failed"),
        ]);
        let problem = runtime.load_problem.unwrap();
        assert!(
            problem.ends_with("no network config found in /etc/cni/net.d"),
            "{problem}"
        );
    }

    #[test]
    fn plugin_directories_come_from_the_configuration_where_no_network_was_loaded() {
        let template =
            r#"{"cni":{"binDir":"","binDirs":["/usr/lib/cni"],"confTemplate":"/etc/containerd/cni.template"}}"#;
        let runtime = read(&[("config", template), ("cniconfig", "null")]);
        assert_eq!(runtime.plugin_dirs, ["/usr/lib/cni"]);
        assert_eq!(runtime.template.as_deref(), Some("/etc/containerd/cni.template"));
        let older = read(&[("config", r#"{"cni":{"binDir":"/opt/cni/bin","confTemplate":""}}"#)]);
        assert_eq!(
            (older.plugin_dirs, older.template),
            (vec!["/opt/cni/bin".to_owned()], None)
        );
    }

    #[test]
    fn crio_says_no_more_than_it_says() {
        let config = r#"{"sandboxImage":"registry.k8s.io/pause:3.10","crio":{"cni_default_network":""}}"#;
        let runtime = read(&[("config", config)]);
        assert_eq!(
            (runtime.networks, runtime.template, runtime.plugin_dirs),
            (vec![], None, vec![])
        );
    }

    /// JSON of the keys that are looked for, with anything where something else belongs.
    fn json() -> impl Strategy<Value = Value> {
        let keys =
            "(Networks|Config|Name|Plugins|Network|type|Source|PluginDirs|cni|confTemplate|binDir|binDirs|ipam|x)";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "(host-local|loopback|\\{\"ipam\":\\{\"type\":\"host-local\",\"subnet\":\"[0-9./]{0,14}\"\\}\\}|[\\PC]{0,9})"
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((keys, inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(info in any::<HashMap<String, String>>(), config: String, loaded: String) {
            let mut status = status(&[("config", &config), ("cniconfig", &loaded)]);
            status.info.extend(info);
            let _ = runtime(&v1::VersionResponse::default(), &status);
        }

        #[test]
        fn arbitrary_json_never_panics_and_is_bounded(config in json(), loaded in json()) {
            let read = read(&[("config", &config.to_string()), ("cniconfig", &loaded.to_string())]);
            prop_assert!(read.networks.len() <= LIMIT && read.plugin_dirs.len() <= LIMIT);
        }

        #[test]
        fn what_is_loaded_is_told_as_it_is(name in "[a-z]{1,9}", plugins in proptest::collection::vec("[a-k]{1,9}", 1..5), third: u8) {
            let subnet = format!("10.244.{third}.0/24");
            let source = serde_json::json!({"ipam": {"type": "host-local", "subnet": subnet}}).to_string();
            let all: Vec<Value> = plugins
                .iter()
                .map(|kind| serde_json::json!({"Network": {"type": kind}, "Source": source}))
                .collect();
            let loaded = serde_json::json!({"Networks": [{"Config": {"Name": name, "Plugins": all}}]});
            let expected = LoadedNetwork { name, plugins, ranges: vec![subnet.parse().unwrap()] };
            prop_assert_eq!(read(&[("cniconfig", &loaded.to_string())]).networks, vec![expected]);
        }
    }
}
