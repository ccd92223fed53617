//! Pods by node, and what some of them are: instances of kube-controller-manager, daemons.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::failing::Failures;
use super::mark;
use crate::cluster::PlaneEvent;
use crate::cluster::around::{NodePods, PodRecord};
use crate::cluster::objects::{Daemon, Manager, RangeWitness, Resource};
use crate::control_plane::record::pod::{self, Pod};
use crate::control_plane::record::{Object, daemon, manager};

/// Pods, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// By node; each node's by name.
    nodes: BTreeMap<String, Arc<NodePods>>,
    changed: BTreeSet<String>,
    /// All of them are to be told next, not only those that changed.
    pub(super) whole: bool,
    /// kube-controller-manager, by "namespace/pod".
    pub(super) managers: BTreeMap<String, Manager>,
    managers_changed: bool,
    /// Daemons, by "namespace/pod".
    daemons: BTreeMap<String, Daemon>,
    daemons_changed: bool,
    /// What daemons say of ranges, by "namespace/pod".
    words: BTreeMap<String, RangeWitness>,
    words_changed: BTreeSet<Resource>,
}

impl Pods {
    /// The pod of this name on this node.
    pub(super) fn find(&self, node: &str, name: &str) -> Option<&PodRecord> {
        let pods = &self.nodes.get(node)?.pods;
        let at = pods.binary_search_by(|pod| (*pod.name).cmp(name)).ok()?;
        pods.get(at)
    }

    /// Takes a pod; gives its node and name.
    pub(super) fn put(
        &mut self,
        object: &(impl Object + ?Sized),
        failures: &mut Failures,
    ) -> Result<(String, String), String> {
        let pod: Pod = object.read()?;
        let key = pod.key();
        if key.is_empty() {
            return Err("it has no metadata.name".to_owned());
        }
        let node = pod.node().unwrap_or_default().to_owned();
        match pod::record(&pod) {
            Some(record) => self.insert(&node, record, failures),
            None => self.remove(&node, &key, failures),
        }
        let instance = manager::record(&pod);
        if self.managers.get(&key) != instance.as_ref() {
            self.managers_changed = true;
            match instance {
                Some(instance) => _ = self.managers.insert(key.clone(), instance),
                None => _ = self.managers.remove(&key),
            }
        }
        let found = daemon::record(&pod).filter(|_| !pod.ended());
        let word = found.as_ref().and_then(|found| daemon::ranges(&pod, &found.kind));
        self.daemon(&key, found, word);
        Ok((node, key))
    }

    fn daemon(&mut self, key: &str, found: Option<Daemon>, word: Option<RangeWitness>) {
        if self.daemons.get(key) != found.as_ref() {
            self.daemons_changed = true;
            match found {
                Some(found) => _ = self.daemons.insert(key.to_owned(), found),
                None => _ = self.daemons.remove(key),
            }
        }
        if self.words.get(key) == word.as_ref() {
            return;
        }
        let before = match &word {
            Some(new) => {
                self.words_changed.insert(new.resource);
                self.words.insert(key.to_owned(), new.clone())
            }
            None => self.words.remove(key),
        };
        self.words_changed.extend(before.map(|word| word.resource));
    }

    fn insert(&mut self, node: &str, record: PodRecord, failures: &mut Failures) {
        let pods = match self.nodes.get_mut(node) {
            Some(pods) => pods,
            None => self.nodes.entry(node.to_owned()).or_default(),
        };
        match pods.pods.binary_search_by(|pod| pod.name.cmp(&record.name)) {
            Ok(at) if pods.pods.get(at) == Some(&record) => return,
            Ok(at) => {
                if let Some(slot) = Arc::make_mut(pods).pods.get_mut(at) {
                    *slot = record;
                }
            }
            Err(at) => Arc::make_mut(pods).pods.insert(at, record),
        }
        self.touch(node, failures);
    }

    fn remove(&mut self, node: &str, key: &str, failures: &mut Failures) {
        let Some(pods) = self.nodes.get_mut(node) else { return };
        let Ok(at) = pods.pods.binary_search_by(|pod| (*pod.name).cmp(key)) else {
            return;
        };
        Arc::make_mut(pods).pods.remove(at);
        if pods.pods.is_empty() {
            self.nodes.remove(node);
        }
        self.touch(node, failures);
    }

    fn touch(&mut self, node: &str, failures: &mut Failures) {
        if !self.changed.contains(node) {
            self.changed.insert(node.to_owned());
        }
        failures.touch(node);
    }

    /// A pod is gone.
    pub(super) fn gone(&mut self, object: &(impl Object + ?Sized), failures: &mut Failures) {
        let pod: Pod = object.read().unwrap_or_default();
        if let Some(node) = pod.node() {
            self.remove(node, &pod.key(), failures);
        }
        self.forget_roles(&pod.key());
    }

    /// What was known of the pod of this name, whatever its node, is no longer so.
    pub(super) fn forget(&mut self, key: &str, failures: &mut Failures) {
        let has = |pods: &Arc<NodePods>| pods.pods.binary_search_by(|pod| (*pod.name).cmp(key)).is_ok();
        let node = self
            .nodes
            .iter()
            .find(|(_, pods)| has(pods))
            .map(|(node, _)| node.clone());
        if let Some(node) = node {
            self.remove(&node, key, failures);
        }
        self.forget_roles(key);
    }

    fn forget_roles(&mut self, key: &str) {
        self.managers_changed |= self.managers.remove(key).is_some();
        self.daemon(key, None, None);
    }

    /// After a list: only those that it had are left.
    pub(super) fn sweep(&mut self, seen: &HashSet<u64>, failures: &mut Failures) {
        let mut touched = Vec::new();
        self.nodes.retain(|node, pods| {
            let left = |pod: &PodRecord| seen.contains(&mark((node, &pod.name)));
            if !pods.pods.iter().all(left) {
                Arc::make_mut(pods).pods.retain(left);
                touched.push(node.clone());
            }
            !pods.pods.is_empty()
        });
        for pods in self.nodes.values_mut() {
            if let Some(pods) = Arc::get_mut(pods) {
                pods.pods.shrink_to_fit();
            }
        }
        for node in touched {
            self.touch(&node, failures);
        }
        let left = |key: &String| seen.contains(&mark(("", key)));
        let roles: BTreeSet<&String> = self.managers.keys().chain(self.daemons.keys()).collect();
        let gone: Vec<String> = roles.into_iter().filter(|key| !left(key)).cloned().collect();
        for key in gone {
            self.forget_roles(&key);
        }
        self.whole = true;
        self.managers_changed = true;
    }

    /// What changed.
    pub(super) fn changes(&mut self, all: bool, events: &mut Vec<PlaneEvent>) {
        if std::mem::take(&mut self.managers_changed) {
            events.push(PlaneEvent::Managers(self.managers.clone()));
        }
        for resource in std::mem::take(&mut self.words_changed) {
            events.push(PlaneEvent::Ranges(resource, self.said(resource)));
        }
        if all && std::mem::take(&mut self.daemons_changed) {
            events.push(PlaneEvent::Daemons(self.daemons.values().cloned().collect()));
        }
        let changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.whole) {
            events.push(PlaneEvent::AllPods(self.nodes.clone()));
        } else if !changed.is_empty() {
            let pods = changed.into_iter().map(|node| {
                let now = self.nodes.get(&node).cloned();
                (node, now)
            });
            events.push(PlaneEvent::Pods(pods.collect()));
        }
    }

    /// The words of one kind of daemon: those that say the same are one word, which says how many they are.
    fn said(&self, resource: Resource) -> Vec<RangeWitness> {
        let mut groups: Vec<(RangeWitness, usize)> = Vec::new();
        for word in self.words.values().filter(|word| word.resource == resource) {
            let same = groups
                .iter_mut()
                .find(|(known, _)| known.ranges == word.ranges && known.odd == word.odd);
            match same {
                Some((_, count)) => *count += 1,
                None => groups.push((word.clone(), 1)),
            }
        }
        for (word, count) in &mut groups {
            if *count > 1 {
                word.what = format!("{} (and {} more)", word.what, *count - 1);
            }
        }
        groups.into_iter().map(|(word, _)| word).collect()
    }
}
