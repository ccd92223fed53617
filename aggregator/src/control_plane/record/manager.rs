//! Pods of kube-controller-manager.

use super::flags::{self, CommandLine};
use super::pod::{Container, Pod, Terminated};
use super::text::{clip, time};
use crate::cluster::objects::Manager;

/// The program.
const PROGRAM: &str = "kube-controller-manager";

/// Where this cluster's own instances run: kubeadm, kops, Talos and rke2 keep them in the first, OpenShift in the second.
/// k3s and k0s run it in a process of their own, without a pod. Elsewhere it is a hosted control plane's, of another cluster.
const NAMESPACES: [&str; 2] = ["kube-system", "openshift-kube-controller-manager"];

/// Bytes kept of the last words: kubelet itself keeps at most 4096 of them.
const WORDS: usize = 4096;

/// The instance of this cluster that this pod is; `None`: it is something else, another cluster's, or has ended for good
/// (evicted): another pod has come in its place, or will.
pub fn record(pod: &Pod) -> Option<Manager> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if !NAMESPACES.contains(&namespace) || pod.ended() {
        return None;
    }
    let labelled = ["component", "k8s-app", "app", "app.kubernetes.io/name"]
        .iter()
        .any(|key| pod.label(key) == Some(PROGRAM));
    let named = pod
        .metadata
        .name
        .as_deref()
        .is_some_and(|name| name.starts_with(PROGRAM));
    let in_its_place = named && namespace == "kube-system";
    if !(labelled || in_its_place) {
        return None;
    }
    let container = pod.containers().find(|container| is(container))?;
    let line = CommandLine::of(&container.words(), PROGRAM, &|name| container.variable(name));
    let mut statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let status = statuses.find(|status| status.name == container.name);
    let state = status.and_then(|status| status.state.as_ref());
    let last = status.and_then(|status| status.last_state.as_ref());
    // A container that has just ended stands in `state` until it is started again.
    let ended = state
        .and_then(|state| state.terminated.as_ref())
        .or_else(|| last.and_then(|state| state.terminated.as_ref()));
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let running = state.and_then(|state| state.running.as_ref());
    Some(Manager {
        name: pod.key(),
        node: pod.node().map(ToOwned::to_owned),
        flags: flags::manager(&line),
        ready: status.is_some_and(|status| status.ready == Some(true)),
        restarts: status
            .and_then(|status| status.restart_count)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
        waiting: waiting.and_then(|waiting| waiting.reason.clone()),
        last_exit: ended.map(|ended| (ended.exit_code.unwrap_or_default(), clip(words(ended), WORDS))),
        last_exit_at: ended.and_then(|ended| time(ended.finished_at.as_deref())),
        started_at: running.and_then(|running| time(running.started_at.as_deref())),
    })
}

/// Its last words. Static pods of kubeadm leave none (`terminationMessagePolicy: File`): then kubelet's reason stands in
/// for them where that says more than the exit code does ("OOMKilled").
fn words(ended: &Terminated) -> &str {
    let message = ended.message.as_deref().unwrap_or_default().trim();
    let reason = ended
        .reason
        .as_deref()
        .filter(|reason| !matches!(*reason, "Error" | "Completed"));
    if message.is_empty() {
        reason.unwrap_or_default()
    } else {
        message
    }
}

/// The container that runs it: by its name, else by what it runs.
fn is(container: &Container) -> bool {
    container.name.as_deref() == Some(PROGRAM) || container.words().iter().any(|word| word.contains(PROGRAM))
}
