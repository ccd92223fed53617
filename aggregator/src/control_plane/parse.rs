//! Snapshots as kubectl prints them: a List of objects of all kinds, single
//! objects, several YAML documents, or JSON.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::gather::Gathered;
use super::kind::Kind;
use super::record::node::{Node, record};
use crate::cluster::NodeRecord;
use crate::cluster::around::Around;
use crate::cluster::objects::Watched;

/// What a snapshot holds.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its Nodes by name.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// What the objects of other kinds say. Kinds that it has objects of count as seen whole;
    /// of the others nothing is known.
    pub around: Around,
    /// Objects of kinds that say nothing here, by kind, which are left out.
    pub others: BTreeMap<String, usize>,
}

/// A snapshot while it is read.
#[derive(Default)]
struct Reading {
    snapshot: Snapshot,
    gathered: Gathered,
    present: BTreeSet<Kind>,
    /// Nodes, and where they stand: read last, since which of their labels matter is said by other objects.
    nodes: Vec<(String, Value)>,
}

/// Kinds of other objects that are counted apart; the rest is counted together.
const KINDS: usize = 64;

/// Reads a snapshot; the error says where.
pub fn parse(bytes: &[u8], now: Timestamp) -> Result<Snapshot, String> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| format!("byte {}: it is not UTF-8 text", error.valid_up_to()))?;
    let documents = documents(text)?;
    let mut reading = Reading::default();
    let mut objects = 0usize;
    for (at, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        objects += 1;
        let place = format!("document {}", at + 1);
        let kind = text_of(&document, "/kind").to_owned();
        match (document, kind.strip_suffix("List")) {
            (Value::Object(mut list), Some(single)) if list.contains_key("items") || single.is_empty() => {
                let items = match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    None | Some(Value::Null) => Vec::new(),
                    Some(_) => return Err(format!("{place}: items is not a list")),
                };
                // The items of a NodeList, as `kubectl get --raw` prints it, do not repeat what they are.
                let version = list.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
                for (item, object) in items.into_iter().enumerate() {
                    let place = format!("{place}, item {}", item + 1);
                    reading.take(object, (version, single), &place)?;
                }
            }
            (other, _) => reading.take(other, ("", ""), &place)?,
        }
    }
    if objects == 0 {
        return Err("it holds no Kubernetes object".to_owned());
    }
    reading.end(now)
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with('{') {
        let stream = serde_json::Deserializer::from_str(text).into_iter();
        return stream.collect::<Result<_, _>>().map_err(|error| error.to_string());
    }
    // A byte makes two events at most, and a file has a few of its own: its size is the limit.
    // Aliases keep their own, so that a small file cannot become a big one.
    let size = text.len().saturating_mul(2).saturating_add(64);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: size, max_nodes: size, max_total_scalar_bytes: size, max_documents: size },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())
}

fn text_of<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Reading {
    fn take(&mut self, object: Value, (version, single): (&str, &str), place: &str) -> Result<(), String> {
        if !object.is_object() {
            return Err(format!("{place}: it is not a Kubernetes object"));
        }
        let or = |said: &str, default: &str| if said.is_empty() { default } else { said }.to_owned();
        let kind = or(text_of(&object, "/kind"), single);
        if kind.is_empty() {
            return Err(format!("{place}: it has no kind"));
        }
        let version = or(text_of(&object, "/apiVersion"), version);
        let name = text_of(&object, "/metadata/name");
        match Kind::of(&version, &kind, text_of(&object, "/metadata/namespace"), name) {
            Some(Kind::Nodes) => {
                let place = format!("{place} (Node {name:?})");
                self.nodes.push((place, object));
            }
            Some(known) => {
                self.present.insert(known);
                self.gathered.put(known, &object);
            }
            None => {
                let others = &mut self.snapshot.others;
                let known = others.contains_key(&kind) || others.len() < KINDS;
                let kind = if known { kind } else { "other kinds".to_owned() };
                *others.entry(kind).or_default() += 1;
            }
        }
        Ok(())
    }

    fn end(mut self, now: Timestamp) -> Result<Snapshot, String> {
        let wanted = self.gathered.label_keys();
        for (place, object) in std::mem::take(&mut self.nodes) {
            let node: Node = serde_json::from_value(object).map_err(|error| format!("{place}: {error}"))?;
            let record = record(node, &wanted, now).ok_or_else(|| format!("{place}: it has no metadata.name"))?;
            self.present.insert(Kind::Nodes);
            self.gathered.node(&record.name, &record.annotations);
            if self.snapshot.nodes.insert(record.name.clone(), record).is_some() {
                return Err(format!("{place}: a second Node of that name"));
            }
        }
        // A resource that several sets make up is there when one of them is.
        let there: BTreeSet<_> = self.present.iter().flat_map(|kind| kind.resources()).collect();
        for kind in Kind::ALL {
            if kind.resources().iter().any(|resource| there.contains(resource)) {
                self.gathered.fares(kind, Watched::Live(now));
            }
        }
        let mut snapshot = self.snapshot;
        snapshot.around = self.gathered.around();
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::objects::Resource;

    fn read(text: &str) -> Result<Snapshot, String> {
        parse(text.as_bytes(), Timestamp::UNIX_EPOCH)
    }

    fn names(text: &str) -> Vec<String> {
        read(text).unwrap().nodes.into_keys().collect()
    }

    const LIST: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: node-a, uid: u1}
  spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}
- apiVersion: v1
  kind: Secret
  metadata: {name: p}
- apiVersion: v1
  kind: Node
  metadata: {name: node-b}
";

    #[test]
    fn nodes_are_taken_from_a_list_and_other_kinds_are_counted() {
        let snapshot = read(LIST).unwrap();
        assert_eq!(names(LIST), ["node-a", "node-b"]);
        assert_eq!(snapshot.others, BTreeMap::from([("Secret".to_owned(), 1)]));
        assert_eq!(snapshot.nodes["node-a"].pod_cidr.as_deref(), Some("10.244.1.0/24"));
    }

    #[test]
    fn objects_of_all_kinds_are_taken_as_the_api_says_them() {
        let snapshot = read(
            r#"
kind: List
apiVersion: v1
items:
- {apiVersion: v1, kind: Node, metadata: {name: a, labels: {rack: r1, shelf: s}}}
- {apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, uid: u1}, spec: {nodeName: a}, status: {podIP: 10.1.0.7}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: kube-system, name: kube-controller-manager-a, labels: {component: kube-controller-manager}}
  spec: {nodeName: a, hostNetwork: true, containers: [{name: kube-controller-manager, command: [kube-controller-manager, --cluster-cidr=10.1.0.0/16]}]}
- apiVersion: v1
  kind: Event
  metadata: {namespace: default, name: a.1}
  involvedObject: {kind: Node, name: a, uid: a}
  reason: CIDRNotAvailable
- {apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-system, name: kube-proxy}, data: {config.conf: "clusterCIDR: 10.2.0.0/16"}}
- {apiVersion: v1, kind: ConfigMap, metadata: {namespace: shop, name: kube-proxy}, data: {config.conf: "clusterCIDR: 10.3.0.0/16"}}
- apiVersion: networking.x-k8s.io/v1
  kind: ClusterCIDR
  metadata: {name: edge}
  spec: {perNodeHostBits: 8, ipv4: 10.1.0.0/16, nodeSelector: {nodeSelectorTerms: [{matchExpressions: [{key: rack, operator: Exists}]}]}}
- {apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: good}, spec: {cidr: 192.168.0.0/16}}
- {apiVersion: crd.projectcalico.org/v1, kind: IPPool, metadata: {name: bad}, spec: 7}
- {apiVersion: example.org/v1, kind: IPPool, metadata: {name: foreign}, spec: {cidr: 172.16.0.0/12}}
"#,
        )
        .unwrap();
        let around = &snapshot.around;
        assert_eq!(
            snapshot.nodes["a"].labels,
            BTreeMap::from([("rack".to_owned(), "r1".to_owned())])
        );
        assert_eq!(around.pods["a"].pods.len(), 1);
        assert_eq!(
            around.managers["kube-system/kube-controller-manager-a"]
                .flags
                .cluster_cidr
                .len(),
            1
        );
        assert!(around.allocation["a"].not_available.is_some());
        let words = &around.ranges[&Resource::KubeProxyConfig];
        assert_eq!(
            (words.len(), words[0].ranges[0].to_string().as_str()),
            (1, "10.2.0.0/16")
        );
        assert_eq!(around.delegates.cluster_cidrs.len(), 1);
        assert_eq!(around.delegates.ip_pools.len(), 1);
        assert_eq!(
            around.unreadable[&Resource::IpPools].count,
            1,
            "one bad object does not refuse the file"
        );
        assert_eq!(
            snapshot.others,
            BTreeMap::from([("ConfigMap".to_owned(), 1), ("IPPool".to_owned(), 1)])
        );
        for there in [
            Resource::Pods,
            Resource::CniPods,
            Resource::Events,
            Resource::KubeProxyConfig,
            Resource::IpPools,
        ] {
            assert!(around.complete(there), "{there}");
        }
        for not in [
            Resource::KubeadmConfig,
            Resource::CiliumNodes,
            Resource::BlockAffinities,
        ] {
            assert!(!around.watches.contains_key(&not), "{not}");
        }
    }

    #[test]
    fn every_form_that_kubectl_prints_is_read() {
        assert_eq!(names("kind: Node\nmetadata: {name: only}\n"), ["only"]);
        assert_eq!(
            names("---\nkind: Node\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: b}\n---\n"),
            ["a", "b"]
        );
        assert_eq!(
            names(r#"{"kind":"NodeList","items":[{"metadata":{"name":"raw"}}]}"#),
            ["raw"]
        );
        assert_eq!(
            names(r#"{"kind":"List","items":[{"kind":"Node","metadata":{"name":"json"}}]}"#),
            ["json"]
        );
        assert_eq!(names("kind: List\nitems: []\n"), Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(error(""), "it holds no Kubernetes object");
        assert_eq!(error("---\n# nothing\n"), "it holds no Kubernetes object");
        assert!(
            error("kind: List\nitems:\n- kind: Node\n   metadata: {}\n").contains("line 4"),
            "{}",
            error("kind: List\nitems:\n- kind: Node\n   metadata: {}\n")
        );
        assert!(error(r#"{"kind":"List","items":["#).contains("line 1"));
        assert_eq!(error("just text"), "document 1: it is not a Kubernetes object");
        assert_eq!(error("kind: List\nitems: 7\n"), "document 1: items is not a list");
        assert_eq!(error("a: b\n"), "document 1: it has no kind");
        assert!(
            error("kind: List\nitems:\n- {kind: Pod}\n- {kind: Node, metadata: {name: x}, spec: {podCIDRs: 7}}\n")
                .starts_with("document 1, item 2 (Node \"x\")")
        );
        assert_eq!(
            error("kind: Node\nmetadata: {}\n"),
            "document 1 (Node \"\"): it has no metadata.name"
        );
        let twice = "kind: Node\nmetadata: {name: a}\n---\nkind: Node\nmetadata: {name: a}\n";
        assert_eq!(error(twice), "document 2 (Node \"a\"): a second Node of that name");
        assert!(
            parse(&[b'a', 0xff], Timestamp::UNIX_EPOCH)
                .unwrap_err()
                .contains("byte 1")
        );
    }

    #[test]
    fn aliases_cannot_blow_a_file_up() {
        let mut text = "kind: List\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", ")));
        }
        assert!(read(&text).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, Timestamp::UNIX_EPOCH);
        }

        #[test]
        fn a_torn_list_is_refused_or_has_fewer_nodes(cut in 0..LIST.len()) {
            if let Ok(snapshot) = read(&LIST[..cut]) {
                prop_assert!(snapshot.nodes.len() <= 2);
            }
        }
    }
}
