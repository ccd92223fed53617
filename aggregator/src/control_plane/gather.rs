//! All objects besides Nodes, gathered to what is known of the cluster. Pure: watches
//! and the snapshot file put objects in, and take out what has changed since.

mod failing;
mod objects;
mod pods;

#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

use super::kind::Kind;
use super::record::text::clip;
use super::record::{Named, Object};
use crate::cluster::PlaneEvent;
use crate::cluster::around::{Around, Unreadable};
use crate::cluster::objects::{Resource, Watched};

use failing::Failures;
use objects::Objects;
use pods::Pods;

/// Objects that could not be read are remembered by name up to this many of a kind; the rest is counted
/// when it is seen only.
const ODD: usize = 1_000;

/// What is gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    pods: Pods,
    failures: Failures,
    objects: Objects,
    /// Objects that could not be read, with why, by kind and name.
    odd: BTreeMap<Kind, BTreeMap<String, String>>,
    odd_changed: BTreeSet<Kind>,
    /// Names that a list in progress has had so far, hashed: what is not among them when it is through is gone.
    listing: BTreeMap<Kind, HashSet<u64>>,
    /// Kinds that have been listed whole: the others are not told of yet.
    known: BTreeSet<Kind>,
    /// How the watch of each kind fares.
    fares: BTreeMap<Kind, Watched>,
    fares_changed: BTreeSet<Resource>,
    /// K3s' words, by Node.
    k3s_changed: bool,
    k3s: BTreeMap<String, crate::cluster::objects::RangeWitness>,
}

/// A name as it is remembered while a list is in progress.
fn mark(parts: (&str, &str)) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

impl Gathered {
    /// A list of this kind begins.
    pub fn list_begins(&mut self, kind: Kind) {
        self.listing.insert(kind, HashSet::new());
    }

    /// A list of this kind is through: what it did not have is gone.
    pub fn listed(&mut self, kind: Kind) {
        let Some(seen) = self.listing.remove(&kind) else { return };
        self.known.insert(kind);
        match kind {
            Kind::Nodes => {}
            Kind::Pods => self.pods.sweep(&seen, &mut self.failures),
            Kind::SandboxEvents | Kind::NodeEvents => self.failures.sweep(kind, &seen),
            _ => self.objects.sweep(kind, &seen),
        }
        if let Some(odd) = self.odd.get_mut(&kind) {
            let before = odd.len();
            odd.retain(|name, _| seen.contains(&mark(("", name))));
            if odd.len() != before {
                self.odd_changed.insert(kind);
            }
        }
    }

    /// An object came or changed, or was listed.
    pub fn put(&mut self, kind: Kind, object: &(impl Object + ?Sized)) {
        let mut places = Vec::new();
        let result = match kind {
            // Nodes go their own way.
            Kind::Nodes => return,
            Kind::Pods => self.pods.put(object, &mut self.failures),
            Kind::SandboxEvents | Kind::NodeEvents => self.failures.put(kind, object),
            _ => self.objects.put(kind, object),
        };
        let key = match result {
            Ok((place, key)) => {
                places.push(mark((&place, &key)));
                self.understood(kind, &key);
                key
            }
            Err(why) => {
                // What it said before may no longer be so: it is not kept.
                let named: Named = object.read().unwrap_or_default();
                let key = named.metadata.key();
                self.forget(kind, &key);
                self.not_understood(kind, key.clone(), &why);
                key
            }
        };
        places.push(mark(("", &key)));
        if let Some(seen) = self.listing.get_mut(&kind) {
            seen.extend(places);
        }
    }

    /// An object is gone.
    pub fn gone(&mut self, kind: Kind, object: &(impl Object + ?Sized)) {
        let named: Named = object.read().unwrap_or_default();
        let key = named.metadata.key();
        match kind {
            Kind::Pods => self.pods.gone(object, &mut self.failures),
            _ => self.forget(kind, &key),
        }
        self.understood(kind, &key);
    }

    fn forget(&mut self, kind: Kind, key: &str) {
        match kind {
            Kind::Nodes => {}
            Kind::Pods => self.pods.forget(key, &mut self.failures),
            Kind::SandboxEvents | Kind::NodeEvents => self.failures.forget(key),
            _ => self.objects.forget(kind, key),
        }
    }

    fn understood(&mut self, kind: Kind, key: &str) {
        if self.odd.get_mut(&kind).is_some_and(|odd| odd.remove(key).is_some()) {
            self.odd_changed.insert(kind);
        }
    }

    /// An object of this kind could not be read.
    pub fn not_understood(&mut self, kind: Kind, key: String, why: &str) {
        tracing::warn!(resource = %kind.resource(), object = key, why, "an object cannot be read");
        let odd = self.odd.entry(kind).or_default();
        if odd.len() < ODD || odd.contains_key(&key) {
            odd.insert(key, clip(why, 256));
            self.odd_changed.insert(kind);
        }
    }

    /// A Node came or changed: what its annotations say of k3s.
    pub fn node(&mut self, name: &str, annotations: &BTreeMap<String, String>) {
        let new = super::record::k3s::record(name, annotations);
        self.understood(Kind::Nodes, name);
        if self.k3s.get(name) == new.as_ref() {
            return;
        }
        self.k3s_changed = true;
        match new {
            Some(witness) => _ = self.k3s.insert(name.to_owned(), witness),
            None => _ = self.k3s.remove(name),
        }
    }

    /// A Node is gone.
    pub fn node_gone(&mut self, name: &str) {
        self.understood(Kind::Nodes, name);
        self.k3s_changed |= self.k3s.remove(name).is_some();
    }

    /// Only these Nodes are left, and those of which only the names can be read.
    pub fn nodes_are(&mut self, nodes: &BTreeMap<String, crate::cluster::NodeRecord>, unread: &BTreeSet<String>) {
        let before = self.k3s.len();
        self.k3s
            .retain(|name, _| nodes.contains_key(name) || unread.contains(name));
        self.k3s_changed |= self.k3s.len() != before;
        if let Some(odd) = self.odd.get_mut(&Kind::Nodes) {
            let before = odd.len();
            odd.retain(|name, _| unread.contains(name));
            if odd.len() != before {
                self.odd_changed.insert(Kind::Nodes);
            }
        }
    }

    /// Label keys that ClusterCIDRs select Nodes by.
    pub fn label_keys(&self) -> BTreeSet<String> {
        self.objects.label_keys()
    }

    /// Instances of kube-controller-manager that run: namespace, pod, and "namespace/pod".
    pub fn managers(&self) -> Vec<String> {
        self.pods.managers.keys().cloned().collect()
    }

    /// How the watch of a kind fares.
    pub fn fares(&mut self, kind: Kind, watched: Watched) {
        if kind == Kind::Pods {
            self.failures.pods_seen(matches!(watched, Watched::Live(_)));
        }
        let watched = match watched {
            // Nodes go their own way.
            Watched::Broken(why) if kind != Kind::Nodes && !self.known.contains(&kind) => Watched::Unlisted(Some(why)),
            other => other,
        };
        self.fares.insert(kind, watched);
        self.fares_changed.extend(kind.resources());
    }

    /// How a resource is seen: of several watches the worst one counts.
    fn watched(&self, resource: Resource) -> Option<Watched> {
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| kind.resources().contains(&resource));
        let mut worst: Option<Watched> = None;
        for kind in kinds {
            // One that has not been heard of yet says nothing of the whole.
            let now = self.fares.get(&kind)?.clone();
            worst = Some(match worst {
                None => now,
                Some(before) => worse(before, now),
            });
        }
        worst
    }

    /// What has changed since it was last asked; what is told whole though little of it
    /// changed (daemons, delegates) only where `all` is asked for.
    pub fn changes(&mut self, all: bool) -> Vec<PlaneEvent> {
        let mut events = Vec::new();
        self.objects.changes(&self.known, all, &mut events);
        if std::mem::take(&mut self.k3s_changed) {
            let words = self.k3s.values().cloned().collect();
            events.push(PlaneEvent::Ranges(Resource::K3sNodes, words));
        }
        if self.known.contains(&Kind::Pods) {
            self.pods.changes(all, &mut events);
        }
        self.failures.changes(&self.pods, &mut events);
        for resource in self.unreadable_changed() {
            events.push(PlaneEvent::Unreadable(resource, self.unreadable(resource)));
        }
        // Last: who reads that a watch is live finds what it saw.
        for resource in std::mem::take(&mut self.fares_changed) {
            if let Some(watched) = self.watched(resource).filter(|_| resource != Resource::Nodes) {
                events.push(PlaneEvent::Watch(resource, watched));
            }
        }
        events
    }

    fn unreadable_changed(&mut self) -> BTreeSet<Resource> {
        let kinds = std::mem::take(&mut self.odd_changed);
        kinds.into_iter().map(Kind::resource).collect()
    }

    fn unreadable(&self, resource: Resource) -> Option<Unreadable> {
        let of = self.odd.iter().filter(|(kind, _)| kind.resource() == resource);
        let all: Vec<(&String, &String)> = of.flat_map(|(_, odd)| odd).collect();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        (count > 0).then(|| Unreadable {
            count,
            examples: all
                .iter()
                .take(Unreadable::EXAMPLES)
                .map(|(name, why)| format!("{name}: {why}"))
                .collect(),
        })
    }

    /// All of it, for a snapshot.
    pub fn around(&mut self) -> Around {
        let mut around = Around::default();
        self.pods.whole = true;
        self.known.extend(Kind::ALL);
        for event in self.changes(true) {
            match event {
                PlaneEvent::Watch(resource, watched) => _ = around.watches.insert(resource, watched),
                PlaneEvent::Managers(managers) => around.managers = managers,
                PlaneEvent::Ranges(resource, words) => _ = around.ranges.insert(resource, words),
                PlaneEvent::Daemons(daemons) => {
                    for daemon in daemons {
                        around.daemons.entry(daemon.node.clone()).or_default().push(daemon);
                    }
                }
                PlaneEvent::Delegates(delegates) => around.delegates = std::sync::Arc::new(*delegates),
                PlaneEvent::Allocation(node, Some(events)) => _ = around.allocation.insert(node, *events),
                PlaneEvent::Sandboxes(node, Some(failures)) => _ = around.sandboxes.insert(node, failures),
                PlaneEvent::AllPods(pods) => around.pods = pods,
                PlaneEvent::Unreadable(resource, Some(what)) => _ = around.unreadable.insert(resource, what),
                _ => {}
            }
        }
        around
    }
}

fn worse(a: Watched, b: Watched) -> Watched {
    let rank = |watched: &Watched| match watched {
        Watched::Refused(_) => 0,
        Watched::Unlisted(_) => 1,
        Watched::Broken(_) => 2,
        Watched::Live(_) => 3,
        Watched::Absent => 4,
    };
    match (&a, &b) {
        (Watched::Live(first), Watched::Live(second)) => Watched::Live(*first.min(second)),
        _ if rank(&a) <= rank(&b) => a,
        _ => b,
    }
}
