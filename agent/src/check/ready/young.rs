//! A node that has only just come up.

use jiff::{SignedDuration, Timestamp};

use super::super::Input;
use super::kubelet;
use crate::view::host::Program;

/// Until a new node's CNI is in place: its pod is scheduled, its image pulled, its podCIDR given. Seconds on a quick
/// registry, minutes on a slow one; kubeadm itself waits four minutes for a control plane to come up.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// The kubelet, or else the runtime, and when it started, where that was only just now and no pod of its own network
/// has run since. What an earlier life of the host left behind (leases, results) is older than that and does not
/// count; a kubelet that is restarted beside running pods is no new node.
pub(super) fn since(input: &Input<'_>) -> Option<(Program, Timestamp)> {
    let host = input.host;
    let runtime = || {
        let mut processes = host.processes.get()?.iter().filter(|process| process.pid != 0);
        processes.find(|process| matches!(process.program, Program::Containerd | Program::Crio))
    };
    let process = kubelet(input).or_else(runtime)?;
    let started = process.started_at?;
    let after = |at: Option<Timestamp>| at.is_some_and(|at| at >= started);
    let sandboxes = host.sandboxes.get().into_iter().flatten();
    let leases = host.leases.get().into_iter().flatten();
    let results = host.results.get().into_iter().flatten();
    let ran = sandboxes
        .into_iter()
        .any(|sandbox| sandbox.ready && !sandbox.host_network && !sandbox.addresses.is_empty())
        || leases.into_iter().any(|lease| after(lease.given_at))
        || results.into_iter().any(|result| after(result.made_at));
    (!ran && input.now.duration_since(started) < GRACE).then_some((process.program, started))
}
