//! Why there is no usable configuration, and what would mend it.

use cidrift_proto::facts::CniConfig;

use super::super::{Input, list};
use super::daemon::Daemon;
use super::loaded::UNNOTICED;
use super::without_cidr;
use crate::observe::cni::{CONTAINERD_TEMPLATE, is_empty};
use crate::view::host::Runtime;

/// Plugins that come with the operating system's package, not with a CNI's daemon.
const PACKAGED: [&str; 14] = [
    "bridge",
    "ptp",
    "host-local",
    "loopback",
    "portmap",
    "bandwidth",
    "firewall",
    "tuning",
    "macvlan",
    "ipvlan",
    "vlan",
    "host-device",
    "dhcp",
    "static",
];

/// Cause and remedy where nothing usable is loaded.
pub(super) fn of(input: &Input<'_>, daemon: Option<Daemon>) -> (String, String) {
    let cni = input.cni;
    let runtime = input.host.runtime.get();
    if cni.chosen.is_some() {
        return not_loaded(input, runtime, daemon);
    }
    if !is_empty(cni) {
        return (
            "The first file of the directory cannot be loaded, and containerd then loads none at all.".to_owned(),
            format!("Mend or remove that file. {}", restart(input, daemon)),
        );
    }
    if let Some(template) = runtime.and_then(|runtime| runtime.template.as_deref()) {
        return of_template(input, template);
    }
    match (daemon, without_cidr(input)) {
        (Some(daemon), Some(node)) if daemon.waits_for_cidr => (
            format!(
                "{} writes its configuration only with a podCIDR, and {} has none (POOL01).",
                daemon.name, node.source
            ),
            "Give the Node a podCIDR first (POOL01); the daemon goes on by itself.".to_owned(),
        ),
        (Some(daemon), _) => {
            let seen = daemon
                .device(input)
                .map(|device| format!(", whose device {device} is here,"));
            (
                format!(
                    "{}{} has not written its configuration, or has taken it away.",
                    daemon.name,
                    seen.unwrap_or_default()
                ),
                restart(input, Some(daemon)),
            )
        }
        (None, Some(node)) => (
            format!(
                "No CNI has written its configuration. {} has no podCIDR (POOL01), which flannel, kindnet, kube-router, \
                 Antrea and containerd's template wait for.",
                node.source
            ),
            format!("Look at POOL01 first. {}", restart(input, None)),
        ),
        (None, None) => (
            "No CNI has written its configuration: its daemon has not run on this node, or has taken it away."
                .to_owned(),
            restart(input, None),
        ),
    }
}

/// Restart the daemon, by its name where that is known.
pub(super) fn restart(input: &Input<'_>, daemon: Option<Daemon>) -> String {
    daemon.map_or_else(
        || {
            format!(
                "See whether the CNI's pod runs on {node} and what its log says: \
                 kubectl get pods -A -o wide --field-selector spec.nodeName={node}.",
                node = input.node
            )
        },
        |daemon| daemon.restart(input),
    )
}

fn of_template(input: &Input<'_>, template: &str) -> (String, String) {
    match without_cidr(input) {
        Some(node) => (
            format!(
                "containerd renders {template} once the kubelet hands it the Node's podCIDR, and {} has none (POOL01).",
                node.source
            ),
            "Give the Node a podCIDR first (POOL01); kubelet and containerd go on by themselves.".to_owned(),
        ),
        None => (
            format!(
                "containerd renders {template} when the kubelet hands it the Node's podCIDR, at the kubelet's start and \
                 when it changes; since then it has not come, or the template could not be rendered."
            ),
            format!("On {}: systemctl restart kubelet.", input.node),
        ),
    }
}

/// There is a file, and the runtime does not use it.
fn not_loaded(input: &Input<'_>, runtime: Option<&Runtime>, daemon: Option<Daemon>) -> (String, String) {
    let lost = input
        .host
        .plugins
        .get()
        .is_some_and(|plugins| !plugins.missing.is_empty());
    if lost && runtime.is_some_and(|runtime| runtime.name == "cri-o") {
        return (
            "CRI-O passes a configuration over whose plugins it does not find.".to_owned(),
            restart(input, daemon),
        );
    }
    let unit = runtime.map_or("containerd", |runtime| unit(&runtime.name));
    // It found an empty directory, and the file is there now.
    let unnoticed = runtime
        .and_then(|runtime| runtime.load_problem.as_ref())
        .is_some_and(|problem| problem.contains("no network config found"));
    if unnoticed {
        return (
            format!("{UNNOTICED}."),
            format!("On {}: systemctl restart {unit}; pods go on running.", input.node),
        );
    }
    (
        "There is a configuration, and the runtime has not loaded it, reads another directory, or its plugin says that \
         it is not ready."
            .to_owned(),
        format!(
            "{} If the runtime's message stays, on {}: systemctl restart {unit}.",
            restart(input, daemon),
            input.node
        ),
    )
}

/// The runtime's systemd unit.
pub(super) fn unit(runtime: &str) -> &str {
    if runtime == "cri-o" { "crio" } else { runtime }
}

/// Plugins that cannot be run.
pub(super) fn of_missing_plugins(input: &Input<'_>, names: &[&str], daemon: Option<Daemon>) -> (String, String) {
    let (packaged, own): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| PACKAGED.contains(*name));
    let mut remedy = Vec::new();
    if !own.is_empty() {
        remedy.push(match daemon {
            Some(daemon) => format!("{} Its pod copies {} into place.", daemon.restart(input), list(&own)),
            None => format!("Install {} on {}.", list(&own), input.node),
        });
    }
    if !packaged.is_empty() {
        remedy.push(format!(
            "Install the package kubernetes-cni or containernetworking-plugins anew on {}, for {}.",
            input.node,
            list(&packaged)
        ));
    }
    (
        "The installer has not run on this node, was cut short, or something removed or replaced the directory since. \
         Every sandbox fails with \"failed to find plugin\" until they are back; pods that run already are not touched."
            .to_owned(),
        remedy.join(" "),
    )
}

/// flannel without subnet.env.
pub(super) fn of_missing_subnet_env(input: &Input<'_>, daemon: Option<Daemon>) -> (String, String) {
    let gone = "flanneld writes it when it starts, into a directory that does not survive a reboot";
    match without_cidr(input) {
        Some(node) => (
            format!("{gone}, and only with a podCIDR: {} has none (POOL01).", node.source),
            "Give the Node a podCIDR first (POOL01), else flanneld ends again and again.".to_owned(),
        ),
        None => (format!("{gone}; it has not done so since."), restart(input, daemon)),
    }
}

/// host-local without a range.
pub(super) fn of_no_range(input: &Input<'_>, config: &CniConfig, daemon: Option<Daemon>) -> (String, String) {
    let node = without_cidr(input);
    let template = config
        .generated_by
        .as_deref()
        .is_some_and(|by| by.starts_with(CONTAINERD_TEMPLATE));
    let cause = match (daemon, node) {
        (Some(daemon), Some(node)) if daemon.waits_for_cidr => {
            format!(
                "{} adds the range once {} has a podCIDR (POOL01).",
                daemon.name, node.source
            )
        }
        (Some(daemon), None) if daemon.waits_for_cidr => {
            format!("{} adds the range when it runs, and has not done so.", daemon.name)
        }
        _ if template => "containerd's template names no range, or one that makes no sense.".to_owned(),
        _ => "Whoever wrote the file left the range out, or wrote one that makes no sense.".to_owned(),
    };
    (cause, restart(input, daemon))
}
