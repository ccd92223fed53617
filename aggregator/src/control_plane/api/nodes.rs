//! Nodes: told one by one, as soon as they change, and whole whenever they were listed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::runtime::watcher::DefaultBackoff;

use super::Shared;
use super::discover::fixed;
use super::follow::{Change, Target, Trouble};
use super::keep::{pass, pause, watched, words};
use crate::cluster::objects::{Resource, Watched};
use crate::cluster::{NodeRecord, PlaneEvent};
use crate::control_plane::kind::Kind;
use crate::control_plane::record::node::{self, Node};
use crate::control_plane::record::{Named, Object};

/// Nodes as the watch tells them.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    /// A list that is not complete yet: what could be read, and names of what could not.
    listing: Option<(BTreeMap<String, NodeRecord>, BTreeSet<String>)>,
}

impl Nodes {
    /// Takes one change; gives what it means. An object that cannot be read leaves its
    /// Node as it was last known, and is said.
    pub(super) fn take(
        &mut self,
        change: Change,
        wanted: &BTreeSet<String>,
        unreadable: &mut dyn FnMut(String, String),
    ) -> Option<PlaneEvent> {
        match change {
            Change::Begin => {
                self.listing = Some(Default::default());
                None
            }
            Change::Put(object) => {
                let named: Named = object.0.read().unwrap_or_default();
                let name = named.metadata.key();
                let read = object.0.read::<Node>();
                let read = read.map(|node| node::record(node, wanted, Timestamp::now()));
                match (read, &mut self.listing) {
                    (Ok(Some(record)), Some((listed, _))) => {
                        listed.insert(record.name.clone(), record);
                        None
                    }
                    (Ok(Some(record)), None) => Some(PlaneEvent::Node(Box::new(record))),
                    (Ok(None), _) => {
                        unreadable(name, "it has no metadata.name".to_owned());
                        None
                    }
                    (Err(why), listing) => {
                        if let Some((_, unread)) = listing {
                            unread.insert(name.clone());
                        }
                        unreadable(name, why);
                        None
                    }
                }
            }
            Change::Listed => self
                .listing
                .take()
                .map(|(nodes, unread)| PlaneEvent::Nodes(nodes, unread)),
            Change::Gone(object) => {
                let named: Named = object.0.read().unwrap_or_default();
                Some(PlaneEvent::NodeGone(named.metadata.key()))
            }
            Change::Open | Change::Closed => None,
        }
    }
}

/// Follows Nodes. After an error they are listed anew: a problem is over only when all have been seen again.
pub(super) async fn keep(shared: &Shared) {
    let Some(target): Option<Target> = fixed(Kind::Nodes) else {
        return;
    };
    let mut nodes = Nodes::default();
    let mut backoff = DefaultBackoff::default();
    let mut labels = shared.labels.subscribe();
    loop {
        let wanted = labels.borrow_and_update().clone();
        let tell = |change| {
            let mut unreadable = |name: String, why: String| shared.gathered().not_understood(Kind::Nodes, name, &why);
            if let Some(event) = nodes.take(change, &wanted, &mut unreadable) {
                note(shared, &event);
                (shared.push)(event);
            }
        };
        let alive = || {
            (shared.push)(PlaneEvent::StillSo);
            shared.gathered().fares(Kind::Nodes, Watched::Live(Timestamp::now()));
        };
        let mut version = None;
        let trouble = tokio::select! {
            trouble = pass(shared, &target, &mut version, &mut backoff, tell, alive) => trouble,
            // Other labels are to be kept: all Nodes are read again.
            changed = labels.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        };
        // An API server that has no Nodes at this moment is no other one: it is starting.
        let trouble = match trouble {
            Trouble::Absent => Trouble::Broken(words(&trouble)),
            other => other,
        };
        tracing::warn!(why = words(&trouble), "the watch of Nodes broke; the last state stands");
        if let Some(watched) = watched(&trouble) {
            (shared.push)(PlaneEvent::Watch(Resource::Nodes, watched.clone()));
            shared.gathered().fares(Kind::Nodes, watched);
        }
        pause(&trouble, &mut backoff).await;
    }
}

/// What others want to know of Nodes.
fn note(shared: &Shared, event: &PlaneEvent) {
    match event {
        PlaneEvent::Nodes(all, unread) => {
            let mut gathered = shared.gathered();
            gathered.nodes_are(all, unread);
            for (name, node) in all {
                gathered.node(name, &node.annotations);
            }
        }
        PlaneEvent::Node(node) => {
            shared.gathered().node(&node.name, &node.annotations);
        }
        PlaneEvent::NodeGone(name) => {
            shared.gathered().node_gone(name);
        }
        _ => {}
    }
}
