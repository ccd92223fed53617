//! What a drain would do: which pods go, which stay, which make it impossible, and whether others have room for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ground::{Ground, PodGround, Room};
use crate::correlate::words::count;

/// What a drain of one node means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drain {
    /// Pods that are evicted.
    pub evicted: Vec<String>,
    /// Pods of DaemonSets in the pods' network: no drain removes them, and their addresses do not outlive the CIDR.
    pub replaced: Vec<String>,
    /// Budgets that select evicted pods, with what they allow now.
    pub budgets: Vec<String>,
    /// What makes it impossible.
    pub blocked: Vec<String>,
    /// What is lost or may take long.
    pub risks: Vec<String>,
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowed {
    /// `--force`: pods without a controller, which nobody makes anew.
    pub unmanaged: bool,
    /// `--delete-emptydir-data`.
    pub scratch: bool,
}

/// What becomes of a pod when its node is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It is evicted.
    Evicted,
    /// A DaemonSet's: it would come back at once.
    Daemon,
    /// A static pod's mirror: only the kubelet removes it.
    Mirror,
}

/// As `kubectl drain --ignore-daemonsets` treats it.
pub fn departure(pod: &PodGround) -> Departure {
    match pod.owner.as_ref().map(|owner| owner.kind.as_str()) {
        Some("DaemonSet") => Departure::Daemon,
        Some("Node") => Departure::Mirror,
        _ => Departure::Evicted,
    }
}

/// Looks at what it means that pods are deleted one by one, without a drain: budgets do not guard that, and nobody looks
/// after pods that nobody makes anew. Those of DaemonSets come back by themselves.
pub fn replace(ground: &Ground, node: &str, pods: &[String], allowed: Allowed) -> Drain {
    let mut drain = Drain::default();
    let named = ground.pods.on(node).iter().filter(|pod| pods.contains(&pod.key));
    let lost: Vec<&PodGround> = named.filter(|pod| departure(pod) == Departure::Evicted).collect();
    for pod in &lost {
        one(pod, allowed, &mut drain);
    }
    for (name, number) in counted(&lost) {
        let Some(budget) = ground.budgets.get(name) else {
            continue;
        };
        if !budget.current || i64::from(budget.allowed) < number {
            drain.blocked.push(format!(
                "{} of PodDisruptionBudget {name} would be deleted, which does not ask it, and {} may go now",
                how_many(number),
                budget.allowed
            ));
        }
        drain
            .budgets
            .push(format!("{name}: {number} of its pods go, {} may", budget.allowed));
    }
    drain
}

fn counted<'a>(pods: &[&'a PodGround]) -> BTreeMap<&'a str, i64> {
    let mut by_budget: BTreeMap<&str, i64> = BTreeMap::new();
    for budget in pods.iter().flat_map(|pod| &pod.budgets) {
        *by_budget.entry(budget).or_default() += 1;
    }
    by_budget
}

fn how_many(number: impl TryInto<usize>) -> String {
    count(number.try_into().unwrap_or(usize::MAX), "pod", "pods")
}

/// What each node has left: made once for a whole plan.
#[derive(Debug)]
pub struct Drains<'a> {
    ground: &'a Ground,
    /// Of nodes that take pods.
    free: BTreeMap<&'a str, Room>,
}

impl<'a> Drains<'a> {
    /// Of what is there now.
    pub fn new(ground: &'a Ground) -> Self {
        let takes = ground.nodes.iter().filter(|(_, node)| node.available());
        let mut free: BTreeMap<&str, Room> = takes.map(|(name, node)| (name.as_str(), node.allocatable)).collect();
        for pod in ground.pods.iter() {
            let Some(name) = pod.node.as_deref() else { continue };
            if let Some(room) = free.get_mut(name) {
                *room = room.less(pod.requests);
            }
        }
        Self { ground, free }
    }

    /// Everything that a drain of `node` would meet.
    pub fn look(&self, node: &str, allowed: Allowed) -> Drain {
        let mut drain = Drain::default();
        let mut leaving = Vec::new();
        for pod in self.ground.pods.on(node) {
            match departure(pod) {
                Departure::Mirror => {}
                Departure::Daemon if pod.host_network => {}
                Departure::Daemon => drain.replaced.push(pod.key.clone()),
                Departure::Evicted => {
                    drain.evicted.push(pod.key.clone());
                    leaving.push(pod);
                }
            }
        }
        for pod in &leaving {
            one(pod, allowed, &mut drain);
            // Nobody makes one in place of a pod without a controller.
            if pod.returns && pod.owner.is_some() {
                drain.risks.push(format!(
                    "pod {} tolerates a cordon: the one that is made in its place may be put here again before the drain is over; \
                     look for addresses of the old range afterwards",
                    pod.key
                ));
            }
        }
        budgets(self.ground, &leaving, &mut drain);
        let leaving = self.moving(node, leaving, &mut drain);
        self.room(node, &leaving, &mut drain);
        drain
    }

    /// Those of which somebody makes another that may run elsewhere. The others are away until the node is back, and without an
    /// aggregator nothing shows whether it worked.
    fn moving(&self, node: &str, leaving: Vec<&'a PodGround>, drain: &mut Drain) -> Vec<&'a PodGround> {
        let elsewhere = |pod: &&PodGround| {
            let mut others = self.ground.nodes.iter().filter(|(name, _)| *name != node);
            others.any(|(name, other)| pod.may_run_on(name, other))
        };
        let again = leaving.into_iter().filter(|pod| pod.owner.is_some());
        let (moving, bound): (Vec<&PodGround>, Vec<&PodGround>) = again.partition(elsewhere);
        for pod in bound {
            let text = format!(
                "pod {} may run on no other node (node selector, affinity, taints)",
                pod.key
            );
            let away = |name: &String| name != node;
            let mut seers = self
                .ground
                .pods
                .iter()
                .filter(|other| other.aggregator && !other.deleting);
            if pod.aggregator && !seers.any(|other| other.node.as_ref().is_some_and(away)) {
                drain.blocked.push(format!(
                    "{text}, and is the aggregator: nothing could show whether it worked"
                ));
            } else {
                drain
                    .risks
                    .push(format!("{text}: it stays Pending until {node} is back"));
            }
        }
        moving
    }

    /// Whether the pods find room on others: in all, and the largest of them on one. It does not pack them, and says nothing of
    /// how pods are to be spread, which only the scheduler knows.
    fn room(&self, node: &str, leaving: &[&PodGround], drain: &mut Drain) {
        let takes = |pod: &PodGround, name: &str| {
            let other = self.ground.nodes.get(name);
            other.is_some_and(|other| pod.may_run_on(name, other))
        };
        let others = || self.free.iter().filter(|(name, _)| **name != node);
        let taking = others().filter(|(name, _)| leaving.iter().any(|pod| takes(pod, name)));
        let all = taking.fold(Room::default(), |all, (_, room)| all.and(*room));
        let wanted = leaving.iter().fold(Room::default(), |all, pod| all.and(pod.requests));
        if !all.holds(wanted) {
            drain.blocked.push(format!(
                "the other nodes have no room for its pods: {} wanted, {} free",
                described(wanted),
                described(all)
            ));
            return;
        }
        for pod in leaving {
            if !others().any(|(name, room)| room.holds(pod.requests) && takes(pod, name)) {
                drain.blocked.push(format!(
                    "no other node has room for pod {} ({})",
                    pod.key,
                    described(pod.requests)
                ));
            }
        }
    }
}

/// What is lost with a pod.
fn one(pod: &PodGround, allowed: Allowed, drain: &mut Drain) {
    if pod.owner.is_none() {
        let text = format!("pod {} has no controller: nobody makes it anew", pod.key);
        if allowed.unmanaged {
            drain.risks.push(text);
        } else {
            drain.blocked.push(format!("{text}; --force lets it go"));
        }
    }
    if pod.scratch {
        let text = format!("pod {} has an emptyDir, and what is in it is lost", pod.key);
        if allowed.scratch {
            drain.risks.push(text);
        } else {
            drain
                .blocked
                .push(format!("{text}; --delete-emptydir-data accepts that"));
        }
    }
}

fn budgets(ground: &Ground, leaving: &[&PodGround], drain: &mut Drain) {
    for pod in leaving {
        // The eviction API answers such pods with an error, always.
        if let [first, second, ..] = pod.budgets.as_slice() {
            drain.blocked.push(format!(
                "pod {} is selected by several PodDisruptionBudgets ({first}, {second}): the API server evicts no such pod",
                pod.key
            ));
        }
    }
    for (name, pods) in counted(leaving) {
        let Some(budget) = ground.budgets.get(name) else {
            continue;
        };
        let state = format!(
            "{} of {} pods are healthy, {} must be",
            budget.healthy, budget.expected, budget.desired
        );
        if budget.never() {
            drain.blocked.push(format!(
                "PodDisruptionBudget {name} can never allow an eviction ({state}): change it, or scale its pods up"
            ));
        } else if !budget.current {
            drain.blocked.push(format!(
                "PodDisruptionBudget {name} was not yet looked at by its controller: its status cannot be relied on"
            ));
        } else if budget.allowed < 1 {
            drain.risks.push(format!(
                "PodDisruptionBudget {name} allows no eviction now ({state}): the drain waits for that"
            ));
        }
        drain.budgets.push(format!(
            "{name}: {pods} of its pods are here, {} may go now",
            budget.allowed
        ));
    }
}

fn described(room: Room) -> String {
    format!(
        "{}, {}m CPU, {} MiB",
        how_many(room.pods),
        room.cpu,
        room.memory.div_ceil(1 << 20)
    )
}
