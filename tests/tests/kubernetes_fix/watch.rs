//! Somebody who looks at the cluster all the time, and remembers what must never be.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cidrift_lab::kubernetes::client::is_ready;
use cidrift_lab::kubernetes::{Api, Cluster};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;

use crate::ground::WEB;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A thread that looks until it is asked to end.
pub(crate) struct Watch {
    ended: Arc<AtomicBool>,
    phase: Arc<Mutex<&'static str>>,
    thread: JoinHandle<Seen>,
}

/// What it has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How often it looked.
    pub(crate) looks: usize,
    /// What must not be, each once for as long as it lasted.
    pub(crate) violations: Vec<String>,
    /// Looks that failed.
    pub(crate) blind: Vec<String>,
    /// The longest time between two looks.
    pub(crate) longest: Duration,
}

impl Watch {
    /// Begins. The Nodes that are there now are those that must stay.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let api = Api::new(&cluster.kubeconfig()).unwrap();
        let nodes: BTreeSet<String> = cluster.nodes().iter().map(|node| node.name.clone()).collect();
        let (ended, phase) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new("at rest")));
        let (theirs, told) = (Arc::clone(&ended), Arc::clone(&phase));
        let thread = std::thread::spawn(move || watch(&api, &nodes, &theirs, &told));
        Self { ended, phase, thread }
    }

    /// What is going on from now on, for messages.
    pub(crate) fn phase(&self, name: &'static str) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Ends; returns what was seen.
    pub(crate) fn end(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(api: &Api, nodes: &BTreeSet<String>, ended: &AtomicBool, phase: &Mutex<&'static str>) -> Seen {
    let start = Instant::now();
    let mut seen = Seen::default();
    // Violations that last, with when they began and during what.
    let mut lasting: Vec<(String, Instant, &'static str)> = Vec::new();
    let mut last = start;
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        seen.longest = seen.longest.max(now - last);
        last = now;
        let during = *phase.lock().unwrap_or_else(PoisonError::into_inner);
        match look(api, nodes) {
            Ok(wrong) => {
                seen.looks += 1;
                lasting.retain(|(what, since, begun)| {
                    let lasts = wrong.contains(what);
                    if !lasts {
                        seen.violations.push(told(what, *since, now, start, begun));
                    }
                    lasts
                });
                let fresh = wrong
                    .into_iter()
                    .filter(|what| !lasting.iter().any(|(known, ..)| known == what));
                let fresh: Vec<String> = fresh.collect();
                lasting.extend(fresh.into_iter().map(|what| (what, now, during)));
            }
            Err(error) => seen.blind.push(format!("{during}: {error}")),
        }
        std::thread::sleep(LOOK.saturating_sub(now.elapsed()));
    }
    let now = Instant::now();
    for (what, since, during) in lasting {
        seen.violations.push(told(&what, since, now, start, during));
    }
    seen
}

fn told(what: &str, since: Instant, until: Instant, start: Instant, during: &str) -> String {
    format!(
        "{during}, at {:.1?} for {:.1?}: {what}",
        since.duration_since(start),
        until.duration_since(since)
    )
}

/// What is wrong at this moment.
fn look(api: &Api, all: &BTreeSet<String>) -> kube::Result<Vec<String>> {
    let pods: kube::Api<Pod> = kube::Api::default_namespaced(api.client());
    let budgets: kube::Api<PodDisruptionBudget> = kube::Api::default_namespaced(api.client());
    let nodes: kube::Api<Node> = kube::Api::all(api.client());
    let (labelled, every) = (ListParams::default().labels("app=web"), ListParams::default());
    let (pods, budget, nodes) =
        api.block_on(async { tokio::try_join!(pods.list(&labelled), budgets.get_opt(WEB), nodes.list(&every)) })?;
    Ok(judge(&pods.items, budget.as_ref(), &nodes.items, all))
}

/// What must not be: fewer pods than the budget demands, or more than one node that takes no pods.
fn judge(pods: &[Pod], budget: Option<&PodDisruptionBudget>, nodes: &[Node], all: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = budget.and_then(|budget| budget.status.as_ref());
    if let Some(status) = status.filter(|status| status.expected_pods > 0) {
        let ready = pods.iter().filter(|pod| pod_ready(pod)).count();
        if i32::try_from(ready).unwrap_or(i32::MAX) < status.desired_healthy {
            wrong.push(format!(
                "{ready} pods of web are Ready, {} must be",
                status.desired_healthy
            ));
        }
    }
    let there = |name: &String| nodes.iter().find(|node| node.metadata.name.as_ref() == Some(name));
    let out = all.iter().filter(|name| !there(name).is_some_and(available));
    let out: Vec<&str> = out.map(String::as_str).collect();
    if out.len() > 1 {
        wrong.push(format!("{} are not available at the same time", out.join(", ")));
    }
    wrong
}

fn available(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    is_ready(node) && !cordoned
}

/// Whether a pod runs, says that it is ready, and is not being deleted.
pub(crate) fn pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(ready: usize) -> Vec<Pod> {
        let pod = |status: &str| {
            serde_json::from_value(json!({"status": {"conditions": [{"type": "Ready", "status": status}]}})).unwrap()
        };
        let mut pods: Vec<Pod> = (0..ready).map(|_| pod("True")).collect();
        pods.push(pod("False"));
        let mut ending = pod("True");
        ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        pods.push(ending);
        pods
    }

    fn node(name: &str, ready: &str, cordoned: bool) -> Node {
        let node = json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn too_few_pods_and_two_nodes_that_are_out_are_seen() {
        let status =
            json!({"status": {"currentHealthy": 4, "desiredHealthy": 4, "disruptionsAllowed": 0, "expectedPods": 6}});
        let budget: PodDisruptionBudget = serde_json::from_value(status).unwrap();
        let all = BTreeSet::from(["n1", "n2", "n3"].map(str::to_owned));
        let one_out = [
            node("n1", "True", false),
            node("n2", "True", true),
            node("n3", "True", false),
        ];
        assert_eq!(judge(&pods(4), Some(&budget), &one_out, &all), [""; 0]);
        let few = judge(&pods(3), Some(&budget), &one_out, &all);
        assert_eq!(few, ["3 pods of web are Ready, 4 must be"]);
        let not_ready = [
            node("n1", "Unknown", false),
            node("n2", "True", true),
            node("n3", "True", false),
        ];
        let gone = [node("n2", "True", true), node("n3", "True", false)];
        for two_out in [&not_ready[..], &gone[..]] {
            let seen = judge(&pods(4), Some(&budget), two_out, &all);
            assert_eq!(seen, ["n1, n2 are not available at the same time"]);
        }
    }
}
