//! Which programs a runtime starts for a configuration: every plugin of the chain, and those that a plugin starts
//! in its turn.

use std::collections::BTreeSet;
use std::path::Path;

use cidrift_proto::facts::CniFacts;
use serde_json::Value;

use super::super::root::HostRoot;
use super::ipam::text;
use super::{FILE_LIMIT, MULTUS_DELEGATE};

/// Plugins that start their ipam plugin as a program of the host. Others ask a daemon that does it (Antrea, Azure's
/// CNS), whatever their ipam block names.
const STARTS_IPAM: [&str; 9] = [
    "bridge",
    "ptp",
    "macvlan",
    "ipvlan",
    "vlan",
    "host-device",
    "sriov",
    "calico",
    "cilium-cni",
];

/// Configurations inside one another that are followed; real ones have two (Multus, its delegate).
const DEPTH: usize = 4;

/// The programs that the chosen configuration needs, by name. What its files do not tell (torn this very moment)
/// is taken of what was read of them before.
pub(in crate::observe) fn programs(root: &HostRoot, facts: &CniFacts) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some(config) = &facts.chosen else {
        return names;
    };
    let multus = config
        .generated_by
        .as_deref()
        .and_then(|by| by.strip_prefix(MULTUS_DELEGATE));
    let mut whole = true;
    for path in std::iter::once(config.path.as_str()).chain(multus) {
        let value = root
            .read(Path::new(path), FILE_LIMIT)
            .ok()
            .and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
        match value {
            Some(value) => network(&value, &mut names, DEPTH),
            None => whole = false,
        }
    }
    if !whole {
        names.extend(config.plugins.iter().cloned());
    }
    names
}

/// A configuration: one plugin, or a list of them.
fn network(value: &Value, names: &mut BTreeSet<String>, depth: usize) {
    if depth == 0 {
        return;
    }
    match value.get("plugins").and_then(Value::as_array) {
        Some(list) => list.iter().for_each(|one| plugin(one, names, depth)),
        None => plugin(value, names, depth),
    }
}

fn plugin(value: &Value, names: &mut BTreeSet<String>, depth: usize) {
    let Some(kind) = text(value, "type") else { return };
    let ipam = value.get("ipam").and_then(|ipam| text(ipam, "type"));
    match kind.as_str() {
        // flannel's plugin hands on to another one, which gets host-local if it is told none.
        "flannel" => {
            let delegate = value.get("delegate").unwrap_or(&Value::Null);
            names.insert(text(delegate, "type").unwrap_or_else(|| "bridge".to_owned()));
            let ipam = delegate.get("ipam").and_then(|ipam| text(ipam, "type"));
            names.insert(ipam.unwrap_or_else(|| "host-local".to_owned()));
        }
        "multus" | "multus-shim" => {
            let delegates = value.get("delegates").and_then(Value::as_array);
            for delegate in delegates.into_iter().flatten() {
                network(delegate, names, depth - 1);
            }
        }
        starts if STARTS_IPAM.contains(&starts) => names.extend(ipam),
        _ => {}
    }
    names.insert(kind);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cidrift_proto::facts::CniConfig;
    use proptest::prelude::*;

    fn of(text: &str) -> String {
        let mut names = BTreeSet::new();
        network(&serde_json::from_str(text).unwrap(), &mut names, DEPTH);
        Vec::from_iter(names).join(" ")
    }

    #[test]
    fn what_a_plugin_starts_in_its_turn_is_needed_too() {
        for (text, expected) in [
            (
                r#"{"name":"cbr0","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}},{"type":"portmap"}]}"#,
                "bridge flannel host-local portmap",
            ),
            (
                r#"{"type":"flannel","delegate":{"type":"ptp","ipam":{"type":"dhcp"}}}"#,
                "dhcp flannel ptp",
            ),
            (
                r#"{"type":"calico","ipam":{"type":"calico-ipam"}}"#,
                "calico calico-ipam",
            ),
            (r#"{"type":"azure-vnet","ipam":{"type":"azure-cns"}}"#, "azure-vnet"),
            (r#"{"type":"antrea","ipam":{"type":"host-local"}}"#, "antrea"),
            (
                r#"{"type":"multus","delegates":[{"plugins":[{"type":"bridge","ipam":{"type":"host-local"}},{"type":"tuning"}]}]}"#,
                "bridge host-local multus tuning",
            ),
            (r#"{"plugins":[7,{"kind":"x"}]}"#, ""),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn both_files_of_multus_count_and_a_torn_one_is_replaced_by_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00-multus.conf"), r#"{"type":"multus-shim"}"#).unwrap();
        std::fs::write(dir.path().join("10-x.conflist"), r#"{"plugins":[{"ty"#).unwrap();
        let facts = CniFacts {
            chosen: Some(CniConfig {
                path: "/10-x.conflist".into(),
                network: "x".into(),
                cni_version: String::new(),
                plugins: vec!["bridge".into(), "portmap".into()],
                ipam: None,
                ranges: vec![],
                subnets: vec![],
                bridge: None,
                generated_by: Some(format!("{MULTUS_DELEGATE}/00-multus.conf")),
                modified_at: None,
            }),
            ..CniFacts::default()
        };
        let names = programs(&HostRoot::new(dir.path()), &facts);
        assert_eq!(Vec::from_iter(names), ["bridge", "multus-shim", "portmap"]);
    }

    proptest! {
        #[test]
        fn arbitrary_json_never_panics(text in "[\\[\\]{}\":,a-z0-9]{0,80}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                network(&value, &mut BTreeSet::new(), DEPTH);
            }
        }
    }
}
