//! Snapshots as kubectl prints them: a List with Nodes among other kinds, single
//! Nodes, several YAML documents, or JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::node::record;
use crate::cluster::NodeRecord;

/// What a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Its Nodes by name.
    pub nodes: BTreeMap<String, NodeRecord>,
    /// Objects of other kinds, by kind, which are left out.
    pub others: BTreeMap<String, usize>,
}

/// Kinds of other objects that are counted apart; the rest is counted together.
const KINDS: usize = 64;

/// Reads a snapshot; the error says where.
pub fn parse(bytes: &[u8], now: Timestamp) -> Result<Snapshot, String> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| format!("byte {}: it is not UTF-8 text", error.valid_up_to()))?;
    let documents = documents(text)?;
    let mut snapshot = Snapshot::default();
    let mut objects = 0usize;
    for (at, document) in documents.into_iter().enumerate() {
        if document.is_null() {
            continue;
        }
        objects += 1;
        let place = format!("document {}", at + 1);
        let kind = kind(&document).unwrap_or_default().to_owned();
        match document {
            Value::Object(mut list) if kind == "List" || kind == "NodeList" => {
                let items = match list.remove("items") {
                    Some(Value::Array(items)) => items,
                    None | Some(Value::Null) => Vec::new(),
                    Some(_) => return Err(format!("{place}: items is not a list")),
                };
                for (item, object) in items.into_iter().enumerate() {
                    let place = format!("{place}, item {}", item + 1);
                    // The items of a NodeList, as `kubectl get --raw` prints it, do not repeat their kind.
                    let default = if kind == "NodeList" { "Node" } else { "" };
                    take(&mut snapshot, object, default, &place, now)?;
                }
            }
            other => take(&mut snapshot, other, "", &place, now)?,
        }
    }
    if objects == 0 {
        return Err("it holds no Kubernetes object".to_owned());
    }
    Ok(snapshot)
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

fn kind(object: &Value) -> Option<&str> {
    object.get("kind").and_then(Value::as_str)
}

fn take(snapshot: &mut Snapshot, object: Value, default: &str, place: &str, now: Timestamp) -> Result<(), String> {
    if !object.is_object() {
        return Err(format!("{place}: it is not a Kubernetes object"));
    }
    let kind = kind(&object).unwrap_or(default).to_owned();
    if kind.is_empty() {
        return Err(format!("{place}: it has no kind"));
    }
    if kind != "Node" {
        let known = snapshot.others.contains_key(&kind) || snapshot.others.len() < KINDS;
        let kind = if known { kind } else { "other kinds".to_owned() };
        *snapshot.others.entry(kind).or_default() += 1;
        return Ok(());
    }
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let place = format!("{place} (Node {name:?})");
    let node: Node = serde_json::from_value(object).map_err(|error| format!("{place}: {error}"))?;
    let record = record(&node, now).ok_or_else(|| format!("{place}: it has no metadata.name"))?;
    match snapshot.nodes.insert(record.name.clone(), record) {
        None => Ok(()),
        Some(_) => Err(format!("{place}: a second Node of that name")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
  kind: Pod
  metadata: {name: p}
- apiVersion: v1
  kind: Node
  metadata: {name: node-b}
";

    #[test]
    fn nodes_are_taken_from_a_list_and_other_kinds_are_counted() {
        let snapshot = read(LIST).unwrap();
        assert_eq!(names(LIST), ["node-a", "node-b"]);
        assert_eq!(snapshot.others, BTreeMap::from([("Pod".to_owned(), 1)]));
        assert_eq!(snapshot.nodes["node-a"].pod_cidr.as_deref(), Some("10.244.1.0/24"));
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
