//! What is too long for the Lease: the nodes of a fix of thousands, in ConfigMaps beside it. They are named on the
//! Lease, then written, and only then its record tells of them; they never change, and go with the fix.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde::{Deserialize, Serialize};

use super::MARK;
use super::agreed::Planned;
use super::halt::{Halt, call, code, passing};
use super::lease::LeaseError;
use super::record::{Over, Record};

/// Bytes of one: a ConfigMap takes 1 MiB (reference: its validation), and etcd a request of 1.5 MiB.
const PART: usize = 512 << 10;

/// Most of them: 16 MiB are some 25,000 nodes, far more than the largest cluster has.
const PARTS: usize = 32;

/// The key of the text.
const KEY: &str = "nodes";

/// Stands on the Lease in place of the nodes. A program that does not know it can read no such record, and says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Shelf {
    /// ConfigMaps.
    parts: usize,
    /// Nodes in all.
    nodes: usize,
    /// Of these the first ones are over, or no more to be done.
    #[serde(default)]
    done: usize,
}

/// What is in the ConfigMaps together.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Nodes {
    queue: Vec<Planned>,
    /// Those that were wished for by name.
    wished: BTreeSet<String>,
}

/// What all of their names begin with.
const NAMES: &str = "cidrift-fix-";

fn name(id: &str, part: usize) -> String {
    format!("{NAMES}{id}-{part}")
}

/// Whether it can be the name of one.
pub(super) fn named(name: &str) -> bool {
    let rest = name.strip_prefix(NAMES).and_then(|rest| rest.rsplit_once('-'));
    rest.is_some_and(|(id, part)| {
        let plain = |text: &str, of: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|byte| of(&byte));
        plain(id, u8::is_ascii_alphanumeric) && plain(part, u8::is_ascii_digit)
    })
}

/// Deletes these, which nobody asks for any more; returns those that may be there still.
pub(super) async fn clear(api: &Api<ConfigMap>, names: Vec<String>) -> Vec<String> {
    let mut left = Vec::new();
    let mut names = names.into_iter();
    for name in names.by_ref() {
        match call(async || api.delete(&name, &DeleteParams::default()).await).await {
            Ok(_) => {}
            Err(error) if code(&error) == Some(404) => {}
            Err(error) => {
                left.push(name);
                // Nobody answers: the next ones would take as long.
                if passing(&error) {
                    break;
                }
            }
        }
    }
    left.extend(names);
    left
}

/// Writes down what is to be in one.
pub(super) async fn fill(api: &Api<ConfigMap>, id: &str, text: &str) -> Result<(), LeaseError> {
    for (part, text) in cut(text).into_iter().enumerate() {
        let name = name(id, part);
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                annotations: Some(BTreeMap::from([(MARK.to_owned(), id.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), text.to_owned())])),
            immutable: Some(true),
            ..ConfigMap::default()
        };
        match call(async || api.create(&PostParams::default(), &map).await).await {
            Ok(_) => {}
            // Asked twice, where the first answer was lost: nobody else has that id.
            Err(error) if code(&error) == Some(409) => {}
            Err(error) => {
                let what = format!("create ConfigMap {name}, as the Lease has no room");
                return Err(LeaseError::Api(Halt::api(&what, &error)));
            }
        }
    }
    Ok(())
}

impl Shelf {
    /// One for the nodes of a new record, and what is to be in it.
    pub(super) fn of(record: &Record) -> Result<(Self, String), LeaseError> {
        let nodes = Nodes {
            queue: record.queue.clone(),
            wished: record.wish.nodes.clone(),
        };
        let text = serde_json::to_string(&nodes).map_err(|error| LeaseError::Odd(error.to_string()))?;
        let parts = cut(&text).len();
        if parts > PARTS {
            return Err(LeaseError::TooMany(record.queue.len()));
        }
        let nodes = record.queue.len();
        Ok((Self { parts, nodes, done: 0 }, text))
    }

    /// Puts the nodes back into a record that was read without them.
    pub(super) async fn fetch(&self, api: &Api<ConfigMap>, record: &mut Record) -> Result<(), LeaseError> {
        if self.done >= self.nodes {
            return Ok(());
        }
        let mut text = String::new();
        for part in 0..self.parts.min(PARTS) {
            let name = name(&record.id, part);
            let map = call(async || api.get_opt(&name).await).await;
            let map = map.map_err(|error| LeaseError::Api(Halt::api(&format!("get ConfigMap {name}"), &error)))?;
            let found = map.and_then(|map| map.data?.remove(KEY));
            text += &found.ok_or(LeaseError::Gone(name))?;
        }
        let nodes: Nodes = serde_json::from_str(&text).map_err(|error| LeaseError::Odd(error.to_string()))?;
        if nodes.queue.len() != self.nodes {
            return Err(LeaseError::Odd(format!(
                "it is of {} nodes, and its ConfigMaps hold {}",
                self.nodes,
                nodes.queue.len()
            )));
        }
        let mut whole = record.clone();
        self.put_back(nodes, &mut whole);
        // What lies beside the Lease is to be trusted no more than what is on it.
        whole.sound().map_err(LeaseError::Odd)?;
        *record = whole;
        Ok(())
    }

    /// Names of its ConfigMaps.
    pub(super) fn names(&self, id: &str) -> Vec<String> {
        let parts = 0..self.parts.min(PARTS);
        parts.map(|part| name(id, part)).collect()
    }

    fn put_back(&self, mut nodes: Nodes, record: &mut Record) {
        let left = nodes.queue.split_off(self.done.min(nodes.queue.len()));
        let mut failed: BTreeMap<String, Over> = BTreeMap::new();
        for over in record.over.drain(..) {
            failed.insert(over.node.clone(), over);
        }
        record.over.extend(nodes.queue.into_iter().map(|done| {
            let mended = Over {
                node: done.node,
                failed: None,
            };
            failed.remove(&mended.node).unwrap_or(mended)
        }));
        record.over.extend(failed.into_values());
        (record.queue, record.wish.nodes) = (left, nodes.wished);
    }

    /// What of a record is to stand on the Lease: all but the nodes that are told elsewhere. `None`: as it is.
    pub(super) fn short(&self, record: &Record) -> Option<(Record, Self)> {
        // Once nothing is to come the Lease tells it all, and says so to older programs, too.
        if record.queue.is_empty() {
            return None;
        }
        let shelf = Self {
            done: self.nodes.saturating_sub(record.queue.len()),
            ..self.clone()
        };
        Some((without_nodes(record), shelf))
    }
}

/// A record without what grows with its nodes; of those that are over the ones that failed.
pub(super) fn without_nodes(record: &Record) -> Record {
    let mut wish = record.wish.clone();
    wish.nodes.clear();
    Record {
        id: record.id.clone(),
        begun: record.begun,
        by: record.by.clone(),
        wish,
        queue: Vec::new(),
        work: record.work.clone(),
        over: record
            .over
            .iter()
            .filter(|over| over.failed.is_some())
            .cloned()
            .collect(),
        stopped: record.stopped.clone(),
    }
}

/// Pieces of a text, cut between characters.
fn cut(mut text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        parts.push(part);
        text = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::tests::agreed;
    use super::*;
    use crate::fix::planner::Wish;
    use jiff::Timestamp;

    fn planned(n: usize) -> Planned {
        agreed(&format!("n{n}"))
    }

    fn record(queue: std::ops::Range<usize>, over: Vec<Over>) -> Record {
        Record {
            id: "f1".to_owned(),
            begun: Timestamp::UNIX_EPOCH,
            by: "me@here".to_owned(),
            wish: Wish {
                nodes: BTreeSet::from(["n1".to_owned()]),
                ..Wish::default()
            },
            queue: queue.map(planned).collect(),
            work: None,
            over,
            stopped: None,
        }
    }

    fn over(node: &str, failed: Option<&str>) -> Over {
        Over {
            node: node.to_owned(),
            failed: failed.map(str::to_owned),
        }
    }

    #[test]
    fn a_text_is_cut_into_pieces_that_make_it_again() {
        let text = "ü".repeat(PART);
        let parts = cut(&text);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|part| part.len() <= PART));
        assert_eq!(parts.concat(), text);
        assert!(cut("").is_empty());
    }

    #[test]
    fn what_is_short_on_the_lease_is_whole_again_with_what_the_shelf_holds() {
        let shelf = Shelf {
            parts: 1,
            nodes: 4,
            done: 0,
        };
        let whole = record(2..4, vec![over("n0", None), over("n1", Some("it does not come back"))]);
        let (mut short, shelf) = shelf.short(&whole).unwrap();
        assert_eq!((short.queue.len(), short.over.len(), shelf.done), (0, 1, 2));
        assert!(short.wish.nodes.is_empty());
        let nodes = Nodes {
            queue: (0..4).map(planned).collect(),
            wished: whole.wish.nodes.clone(),
        };
        shelf.put_back(nodes, &mut short);
        assert_eq!(short, whole);
        assert_eq!(shelf.short(&record(0..0, Vec::new())), None, "nothing is to come");
    }
}
