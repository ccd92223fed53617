//! What the control plane told, applied to what is known of it.

use jiff::Timestamp;

use super::State;
use super::time::FEW;
use crate::cluster::objects::{Resource, Watched};
use crate::cluster::{ControlPlane, PlaneEvent};

impl State {
    pub(super) fn plane_event(&mut self, event: PlaneEvent, now: Timestamp) {
        match event {
            PlaneEvent::Whole(mut plane) => {
                std::sync::Arc::make_mut(&mut plane.around.delegates).sort();
                self.control_plane(*plane, now);
            }
            PlaneEvent::Source(source) => self.plane.source = source,
            PlaneEvent::Nodes(mut nodes, unread) => {
                for name in unread {
                    if let Some(known) = self.plane.nodes.get(&name) {
                        nodes.entry(name).or_insert_with(|| known.clone());
                    }
                }
                let mut around = std::mem::take(&mut self.plane.around);
                around.watches.insert(Resource::Nodes, Watched::Live(now));
                let plane = ControlPlane {
                    source: self.plane.source.clone(),
                    problem: None,
                    observed_at: Some(now),
                    nodes,
                    around,
                };
                self.control_plane(plane, now);
            }
            PlaneEvent::Node(node) => {
                let name = node.name.clone();
                self.node_changed(&name, Some(*node), now);
            }
            PlaneEvent::NodeGone(name) => {
                self.node_changed(&name, None, now);
            }
            PlaneEvent::StillSo => {
                if self.plane.problem.is_none() && self.plane.observed_at.is_some() {
                    self.plane.observed_at = Some(now);
                    self.plane.around.watches.insert(Resource::Nodes, Watched::Live(now));
                }
            }
            PlaneEvent::Watch(resource, watched) => {
                let problem = match (&watched, resource) {
                    (Watched::Broken(why) | Watched::Refused(why), Resource::Nodes) => Some(why.clone()),
                    _ => None,
                };
                let before = self.plane.around.watches.insert(resource, watched);
                // That it is alive is said every some seconds of each kind, and makes nothing known that was not.
                let alive = |watched: &Watched| matches!(watched, Watched::Live(_));
                let after = self.plane.around.watches.get(&resource);
                if !(before.as_ref().is_some_and(alive) && after.is_some_and(alive)) {
                    self.around_changed(now);
                }
                if let Some(problem) = problem
                    && self.plane.problem.replace(problem).is_none()
                    && self.plane.observed_at.is_some()
                {
                    self.claim_everything(now);
                }
            }
            PlaneEvent::Managers(managers) => {
                self.plane.around.managers = managers;
                self.plane.around.drop_dead_metrics();
                self.place_programs();
                self.around_changed(now);
            }
            PlaneEvent::Ranges(resource, witnesses) => {
                self.plane.around.ranges.insert(resource, witnesses);
                self.around_changed(now);
            }
            PlaneEvent::Daemons(daemons) => {
                self.plane.around.daemons.clear();
                for daemon in daemons {
                    let of_node = self.plane.around.daemons.entry(daemon.node.clone());
                    of_node.or_default().push(daemon);
                }
                self.reclassify(now);
                self.around_changed(now);
            }
            PlaneEvent::Delegates(mut delegates) => {
                delegates.sort();
                self.plane.around.delegates = std::sync::Arc::new(*delegates);
                self.reclassify(now);
                self.around_changed(now);
            }
            PlaneEvent::Allocation(node, events) => {
                replace(
                    &mut self.plane.around.allocation,
                    node.clone(),
                    events.map(|events| *events),
                );
                self.agenda.nodes.insert(node);
                self.agenda.cluster = true;
                self.claim_due(now);
            }
            PlaneEvent::Sandboxes(node, failures) => {
                replace(&mut self.plane.around.sandboxes, node.clone(), failures);
                self.agenda.nodes.insert(node);
                self.claim_due(now);
            }
            PlaneEvent::Pods(changed) => {
                let mut names = Vec::with_capacity(changed.len());
                for (node, pods) in changed {
                    replace(&mut self.plane.around.pods, node.clone(), pods);
                    names.push(node);
                }
                self.reclassify_nodes(&names, now);
                self.agenda.nodes.extend(names.iter().cloned());
                // Who gets a sandbox elsewhere is evidence where pods get none; while many nodes fail each waits for its turn.
                if self.plane.around.sandboxes.len() <= FEW {
                    self.agenda.nodes.extend(self.plane.around.sandboxes.keys().cloned());
                }
                self.claim_due(now);
                for name in &names {
                    self.claim_reborn_of(name, &[], now);
                }
            }
            PlaneEvent::AllPods(pods) => {
                self.plane.around.pods = pods;
                self.reclassify(now);
                self.around_changed(now);
            }
            PlaneEvent::Unreadable(resource, unreadable) => {
                match unreadable {
                    Some(unreadable) => _ = self.plane.around.unreadable.insert(resource, unreadable),
                    None => _ = self.plane.around.unreadable.remove(&resource),
                }
                self.around_changed(now);
            }
            PlaneEvent::PoolMetrics(metrics) => {
                self.plane.around.pool_metrics = metrics;
                self.plane.around.drop_dead_metrics();
                self.around_changed(now);
            }
        }
    }
}

fn replace<T>(map: &mut std::collections::BTreeMap<String, T>, node: String, new: Option<T>) {
    match new {
        Some(new) => _ = map.insert(node, new),
        None => _ = map.remove(&node),
    }
}
