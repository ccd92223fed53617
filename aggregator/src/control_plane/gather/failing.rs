//! Events of the allocator by node, and sandboxes that could not be made: who still fails.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::mark;
use super::pods::Pods;
use crate::cluster::PlaneEvent;
use crate::cluster::around::{AllocationEvents, FAILING, FailingPod, SandboxFailures, Told};
use crate::control_plane::kind::Kind;
use crate::control_plane::record::Object;
use crate::control_plane::record::event::{About, Event, Said, joined, said};

/// Messages of failing pods are kept for this many events in all, some 20 MB: beyond it a node's
/// failures are still counted and dated, but without words.
const WORDS: usize = 20_000;

/// Of each node the words of at least this many are kept.
const WORDS_OF_NODE: usize = 2;

/// An event about a pod without a sandbox.
#[derive(Debug)]
struct Failure {
    pod: String,
    uid: String,
    told: Told,
}

/// An event about a Node.
#[derive(Debug)]
struct Word {
    uid: String,
    about: About,
    told: Told,
}

/// What events say.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Failures by node and event.
    failures: BTreeMap<String, BTreeMap<String, Failure>>,
    /// Words on allocation by node and event.
    words: BTreeMap<String, BTreeMap<String, Word>>,
    /// The node of each event.
    places: BTreeMap<String, (Kind, String)>,
    sandboxes_changed: BTreeSet<String>,
    allocation_changed: BTreeSet<String>,
    /// Failures kept with their words.
    worded: usize,
    /// All pods are known: one that is not there is gone.
    pods_seen: bool,
}

impl Failures {
    /// Whether all pods are known.
    pub(super) fn pods_seen(&mut self, seen: bool) {
        if self.pods_seen != seen {
            self.pods_seen = seen;
            self.sandboxes_changed.extend(self.failures.keys().cloned());
        }
    }

    /// The pods of this node changed.
    pub(super) fn touch(&mut self, node: &str) {
        if self.failures.contains_key(node) {
            self.sandboxes_changed.insert(node.to_owned());
        }
    }

    /// Takes an event; gives its name.
    pub(super) fn put(&mut self, _: Kind, object: &(impl Object + ?Sized)) -> Result<(String, String), String> {
        let event: Event = object.read()?;
        let key = event.metadata.key();
        self.forget(&key);
        match said(&event) {
            None => {}
            Some(Said::Node(node, uid, about, told)) => {
                self.places.insert(key.clone(), (Kind::NodeEvents, node.clone()));
                self.allocation_changed.insert(node.clone());
                let of_node = self.words.entry(node).or_default();
                of_node.insert(key.clone(), Word { uid, about, told });
            }
            Some(Said::Sandbox(node, pod, uid, mut told)) => {
                let node = node.ok_or("neither source.host nor reportingInstance says which node it is of")?;
                self.places.insert(key.clone(), (Kind::SandboxEvents, node.clone()));
                self.sandboxes_changed.insert(node.clone());
                let of_node = self.failures.entry(node).or_default();
                if self.worded >= WORDS && of_node.len() >= WORDS_OF_NODE {
                    told.message = String::new();
                }
                if !told.message.is_empty() {
                    self.worded += 1;
                }
                of_node.insert(key.clone(), Failure { pod, uid, told });
            }
        }
        Ok((String::new(), key))
    }

    /// An event is gone, or said otherwise now.
    pub(super) fn forget(&mut self, key: &str) {
        let Some((kind, node)) = self.places.remove(key) else {
            return;
        };
        if kind == Kind::NodeEvents {
            if let Some(words) = self.words.get_mut(&node) {
                words.remove(key);
                if words.is_empty() {
                    self.words.remove(&node);
                }
            }
            self.allocation_changed.insert(node);
        } else {
            if let Some(failures) = self.failures.get_mut(&node) {
                if failures
                    .remove(key)
                    .is_some_and(|failure| !failure.told.message.is_empty())
                {
                    self.worded = self.worded.saturating_sub(1);
                }
                if failures.is_empty() {
                    self.failures.remove(&node);
                }
            }
            self.sandboxes_changed.insert(node);
        }
    }

    /// After a list: only those that it had are left.
    pub(super) fn sweep(&mut self, kind: Kind, seen: &HashSet<u64>) {
        let places = self.places.iter();
        let gone: Vec<String> = places
            .filter(|(key, (of, _))| *of == kind && !seen.contains(&mark(("", key))))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.forget(&key);
        }
    }

    /// What changed.
    pub(super) fn changes(&mut self, pods: &Pods, events: &mut Vec<PlaneEvent>) {
        for node in std::mem::take(&mut self.allocation_changed) {
            let now = self.words.get(&node).map(|words| Box::new(allocation(words)));
            events.push(PlaneEvent::Allocation(node, now));
        }
        for node in std::mem::take(&mut self.sandboxes_changed) {
            let now = self.failing(&node, pods);
            events.push(PlaneEvent::Sandboxes(node, now));
        }
    }

    /// Those of a node's pods that still have no sandbox, as far as it can be told.
    fn failing(&self, node: &str, pods: &Pods) -> Option<SandboxFailures> {
        let mut by_pod: BTreeMap<(&str, &str), Vec<&Told>> = BTreeMap::new();
        for failure in self.failures.get(node)?.values() {
            let of_pod = by_pod.entry((&failure.pod, &failure.uid)).or_default();
            of_pod.push(&failure.told);
        }
        let mut failing: Vec<FailingPod> = by_pod
            .into_iter()
            .filter_map(|((pod, uid), told)| {
                let told = joined(told)?;
                let still = match pods.find(node, pod) {
                    Some(record) if *record.uid == *uid || uid.is_empty() => {
                        let last = told.last.map(|last| last.as_second()).unwrap_or_default();
                        // Both are whole seconds, and kubelet tries again within one: of the same second the
                        // sandbox is the later, since kubelet takes its condition back where it is lost.
                        record.sandbox_since == 0 || record.sandbox_since < last
                    }
                    // Gone, or another one of that name by now.
                    Some(_) => false,
                    None => !self.pods_seen,
                };
                still.then(|| FailingPod {
                    pod: pod.to_owned(),
                    uid: uid.to_owned(),
                    told,
                })
            })
            .collect();
        if failing.is_empty() {
            return None;
        }
        let total = u32::try_from(failing.len()).unwrap_or(u32::MAX);
        failing.sort_by(|a, b| b.told.last.cmp(&a.told.last).then_with(|| a.pod.cmp(&b.pod)));
        failing.truncate(FAILING);
        Some(SandboxFailures { failing, total })
    }
}

fn allocation(words: &BTreeMap<String, Word>) -> AllocationEvents {
    let of = |about: About| joined(words.values().filter(|word| word.about == about).map(|word| &word.told));
    let newest = words.values().max_by_key(|word| word.told.last);
    AllocationEvents {
        uid: newest.map(|word| word.uid.clone()).unwrap_or_default(),
        not_available: of(About::NotAvailable),
        assignment_failed: of(About::AssignmentFailed),
        route_failed: of(About::RouteFailed),
    }
}
