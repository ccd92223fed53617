//! No record panics, whatever an object looks like.

use proptest::prelude::*;
use serde_json::Value;

use crate::control_plane::gather::Gathered;
use crate::control_plane::kind::Kind;
use crate::control_plane::record::node::{Node, record};
use crate::control_plane::record::{Object, k3s, metrics};

/// Keys that records look at, so that random objects get anywhere.
const KEYS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "ownerReferences",
    "kind",
    "spec",
    "status",
    "data",
    "nodeName",
    "hostNetwork",
    "containers",
    "command",
    "args",
    "env",
    "value",
    "podIPs",
    "ip",
    "conditions",
    "type",
    "lastTransitionTime",
    "containerStatuses",
    "state",
    "waiting",
    "terminated",
    "exitCode",
    "reason",
    "message",
    "involvedObject",
    "uid",
    "count",
    "series",
    "lastTimestamp",
    "source",
    "host",
    "cidr",
    "blockSize",
    "node",
    "ipam",
    "podCIDRs",
    "pools",
    "allocated",
    "cidrs",
    "perNodeHostBits",
    "ipv4",
    "ipv6",
    "nodeSelector",
    "nodeSelectorTerms",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "ClusterConfiguration",
    "config.conf",
    "net-conf.json",
    "antrea-controller.conf",
    "networkContainers",
    "primaryIP",
    "clusterNetwork",
    "hostPrefix",
    "app",
    "component",
    "k3s.io/node-args",
    "managedFields",
    "fieldsV1",
    "f:spec",
    "f:podCIDR",
];

const TEXTS: &[&str] = &[
    "10.244.0.0/16",
    "fd00::/56",
    "10.0.0.0/33",
    "",
    "kube-controller-manager",
    "--cluster-cidr",
    "--controllers=,,",
    "sh",
    "-c",
    "kube-controller-manager '--cluster-cidr=",
    "$(",
    "$(A)",
    "FailedCreatePodSandBox",
    "Pod",
    "Node",
    "CIDRNotAvailable",
    "DaemonSet",
    "flannel",
    "[\"server\",\"--",
    "a: [",
    "{\"Network\": 7}",
    "networking: {podSubnet: x}",
    "2026-11-23T10:00:00Z",
    "9999-99-99",
    "true",
    "é漢字🦀",
    "node-a",
    "kube-system",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(TEXTS).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 64, 6, |inner| {
        let key = prop_oneof![9 => prop::sample::select(KEYS).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..7).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object with a name, and anything else.
fn any_object() -> impl Strategy<Value = Value> {
    (any_json(), any_json(), any_json(), any_json()).prop_map(|(spec, status, data, other)| {
        let mut object = match other {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        let metadata = object.entry("metadata").or_insert_with(|| serde_json::json!({}));
        if let Value::Object(metadata) = metadata {
            metadata.entry("name").or_insert_with(|| "x".into());
        }
        for (key, value) in [("spec", spec), ("status", status), ("data", data)] {
            object.insert(key.to_owned(), value);
        }
        Value::Object(object)
    })
}

proptest! {
    #[test]
    fn no_object_makes_a_record_panic(object in prop_oneof![any_object(), any_json()]) {
        let mut gathered = Gathered::default();
        for kind in Kind::ALL {
            gathered.list_begins(kind);
            gathered.put(kind, &object);
            gathered.listed(kind);
            let told = gathered.changes(true);
            gathered.gone(kind, &object);
            // What it said was taken back, or it was unreadable and is no longer.
            drop((told, gathered.changes(true)));
        }
        if let Ok(node) = object.read::<Node>() {
            let _ = record(node, &Default::default(), jiff::Timestamp::UNIX_EPOCH);
        }
    }

    #[test]
    fn every_object_is_taken_in_or_said_to_be_unreadable(object in any_object()) {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Nodes) {
            let mut gathered = Gathered::default();
            gathered.list_begins(kind);
            gathered.put(kind, &object);
            gathered.listed(kind);
            let around = gathered.around();
            let odd = around.unreadable.get(&kind.resource()).map_or(0, |odd| odd.count);
            let plain = matches!(kind, Kind::Pods | Kind::SandboxEvents | Kind::NodeEvents);
            let taken = !around.ranges.is_empty() || *around.delegates != Default::default();
            prop_assert!(plain || odd == 1 || taken, "{kind:?}: {around:?}");
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in prop_oneof![".{0,80}", prop::sample::select(TEXTS).prop_map(str::to_owned)]) {
        let _ = metrics::pools(&format!("node_ipam_controller_cidrset_usage_cidrs{text}"), "m", jiff::Timestamp::UNIX_EPOCH);
        let _ = k3s::record("n", &[("k3s.io/node-args".to_owned(), text)].into());
    }
}
