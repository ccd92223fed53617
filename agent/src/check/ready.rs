//! HOST06 cni-not-ready: no usable CNI configuration, a missing plugin, a runtime that says so.
//!
//! The runtime's own word comes first; files are judged for what it does not say. `NetworkReady=true` means only that
//! a configuration could be loaded (and, with CNI 1.1, that its plugin's STATUS does not object), so plugins and
//! what they need are looked at all the same. Where neither a kubelet nor a runtime is seen, nobody starts pods here
//! and nothing is said. It needs no podCIDR; a Node without one only tells why a CNI may be waiting.

mod cause;
mod daemon;
mod hidden;
mod loaded;
mod young;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::CniConfig;
use cidrift_proto::finding::{Evidence, Severity, Trigger};
use jiff::Timestamp;

use self::daemon::Daemon;
use super::model::is_chained;
use super::{Expectation, Input, Judged, Says, behind, list};
use crate::observe::cni::is_certainly_unusable;
use crate::view::host::{Plugins, Process, Program, Runtime};

const CODE: Code = Code::Host06;

/// One thing that is wrong.
struct Trouble {
    severity: Severity,
    summary: String,
    evidence: Vec<Evidence>,
    unseen: Vec<String>,
    cause: String,
    remedy: String,
    changed_at: Option<Timestamp>,
}

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let host = input.host;
    let runtime = judged.need(CODE, &host.runtime);
    if runtime.is_none() && kubelet(input).is_none() {
        // Whether a kubelet runs here is what it would rest on.
        if let Some(why) = host.processes.unreadable() {
            judged.unjudged(CODE, format!("{}: {why}", host.processes.source));
        }
        return;
    }
    let daemon = daemon::find(input);
    let mut troubles = Vec::new();
    match runtime.and_then(|runtime| Some((runtime, runtime.network_ready.as_ref()?))) {
        Some((runtime, ready)) if !ready.ok => troubles.push(not_ready(input, runtime, daemon)),
        Some(_) => {}
        None => troubles.extend(no_configuration(input, daemon)),
    }
    if let Some(plugins) = judged.need(CODE, &host.plugins) {
        troubles.extend(missing_plugins(input, plugins, daemon));
    }
    if let Some(config) = &input.cni.chosen {
        troubles.extend(gives_nothing(input, config, daemon));
        troubles.extend(runtime.and_then(|runtime| loaded::judge(input, runtime, config)));
        troubles.extend(hidden::judge(input, config));
    }
    let Some(first) = troubles.first() else { return };
    if let Some((program, since)) = young::since(input) {
        let reason = format!(
            "{program} started at {since:.0} and no pod has run since; a CNI that is still being set up is no fault: {}",
            first.summary
        );
        return judged.unjudged(CODE, reason);
    }
    claim(input, troubles, judged);
}

/// One claim of everything, the gravest first.
fn claim(input: &Input<'_>, mut troubles: Vec<Trouble>, judged: &mut Judged) {
    troubles.sort_by_key(|trouble| std::cmp::Reverse(trouble.severity));
    let changed_at = troubles.iter().filter_map(|trouble| trouble.changed_at).max();
    let severity = troubles.iter().map(|trouble| trouble.severity).max();
    let mut says = Says::default();
    let mut remedies: Vec<String> = Vec::new();
    let mut texts = (Vec::new(), Vec::new());
    for trouble in troubles {
        texts.0.push(trouble.summary);
        texts.1.push(trouble.cause);
        if !remedies.contains(&trouble.remedy) {
            remedies.push(trouble.remedy);
        }
        for row in trouble.evidence {
            if !says.evidence.contains(&row) {
                says.evidence.push(row);
            }
        }
        says.unseen.extend(trouble.unseen);
    }
    says.summary = texts.0.join("; ");
    says.cause = texts.1.join(" ");
    says.remedy = remedies.join(" ");
    let mut claim = input.claim(CODE, says, changed_at);
    claim.severity = severity.unwrap_or(claim.severity);
    // Seen at one look, every 10 s: a CNI that is being upgraded takes its files away and writes them anew. It is
    // given as long as hosts are given to follow the control plane.
    claim.trigger = Trigger::ControlPlane;
    judged.claims.push(claim);
}

/// The kubelet that runs here, by itself or inside of k3s and its like.
fn kubelet<'a>(input: &Input<'a>) -> Option<&'a Process> {
    let processes = input.host.processes.get()?;
    let mut kubelets = processes.iter().filter(|process| process.program == Program::Kubelet);
    // Without a process id it is only a manifest.
    kubelets.find(|process| process.pid != 0)
}

/// The runtime says so itself.
fn not_ready(input: &Input<'_>, runtime: &Runtime, daemon: Option<Daemon>) -> Trouble {
    let observed = &input.host.runtime;
    let mut evidence = Vec::new();
    if let Some(ready) = &runtime.network_ready {
        let text = format!("NetworkReady=false, reason {}: {}", ready.reason, ready.message);
        evidence.push(input.observed_evidence(observed, text));
    }
    if let Some(problem) = &runtime.load_problem {
        evidence.push(input.observed_evidence(observed, format!("lastCNILoadStatus: {problem}")));
    }
    evidence.extend(files(input));
    let (cause, remedy) = cause::of(input, daemon);
    Trouble {
        severity: Severity::Error,
        summary: format!("{} has no usable CNI configuration", runtime.name),
        evidence,
        unseen: Vec::new(),
        cause,
        remedy,
        changed_at: Some(observed.at),
    }
}

/// The runtime does not say; the files do.
fn no_configuration(input: &Input<'_>, daemon: Option<Daemon>) -> Option<Trouble> {
    if !is_certainly_unusable(input.cni) {
        return None;
    }
    let (cause, remedy) = cause::of(input, daemon);
    Some(Trouble {
        severity: Severity::Error,
        summary: format!("{} holds no usable CNI configuration", input.cni.directory),
        evidence: files(input).into_iter().collect(),
        unseen: vec!["the runtime's own word: it did not answer over CRI".to_owned()],
        cause,
        remedy,
        changed_at: input.cni_changed_at,
    })
}

/// What the files say: the one that is used, or why there is none. And the Node's word, where a CNI may wait for it.
fn files(input: &Input<'_>) -> Vec<Evidence> {
    let cni = input.cni;
    let file = match (&cni.chosen, &cni.problem) {
        (Some(config), _) => Some(input.file_evidence(&config.path, chain(config))),
        (None, Some(problem)) => Some(input.file_evidence(&cni.directory, problem.clone())),
        (None, None) => None,
    };
    let node = input
        .expectation
        .filter(|told| told.node_known && told.pod_cidrs.is_empty());
    file.into_iter().chain(node.map(|told| told.evidence())).collect()
}

/// The Node, where it is known and has no podCIDR.
fn without_cidr<'a>(input: &Input<'a>) -> Option<&'a Expectation> {
    input
        .expectation
        .filter(|told| told.node_known && told.pod_cidrs.is_empty())
}

fn chain(config: &CniConfig) -> String {
    format!("network {}, plugins {}", config.network, list(&config.plugins))
}

/// Programs that the configuration names and nobody can run.
fn missing_plugins(input: &Input<'_>, plugins: &Plugins, daemon: Option<Daemon>) -> Option<Trouble> {
    if plugins.missing.is_empty() {
        return None;
    }
    let names: Vec<&str> = plugins.missing.iter().map(|(name, _)| name.as_str()).collect();
    let mut evidence: Vec<Evidence> = plugins
        .missing
        .iter()
        .map(|(name, why)| input.observed_evidence(&input.host.plugins, format!("plugin {name}: {why}")))
        .collect();
    if let Some(config) = &input.cni.chosen {
        evidence.push(input.file_evidence(&config.path, chain(config)));
    }
    let (cause, remedy) = cause::of_missing_plugins(input, &names, daemon);
    let plural = if names.len() == 1 { "plugin" } else { "plugins" };
    Some(Trouble {
        severity: Severity::Error,
        summary: format!(
            "CNI {plural} {} missing in {}",
            list(&names),
            list(&plugins.directories)
        ),
        evidence,
        unseen: Vec::new(),
        cause,
        remedy,
        changed_at: Some(input.host.plugins.at),
    })
}

/// A configuration that loads, and with which no pod can get an address.
fn gives_nothing(input: &Input<'_>, config: &CniConfig, daemon: Option<Daemon>) -> Option<Trouble> {
    let plugin = config.plugins.first().map_or("", String::as_str);
    let cni = input.cni;
    let trouble = |summary, evidence, cause: String, remedy| {
        Some(Trouble {
            severity: Severity::Error,
            summary,
            evidence: std::iter::once(evidence)
                .chain(without_cidr(input).map(Expectation::evidence))
                .collect(),
            unseen: Vec::new(),
            cause,
            remedy,
            changed_at: config.modified_at.max(input.cni_changed_at),
        })
    };
    if is_chained(plugin) {
        return trouble(
            format!("{} begins with {plugin}, which gives a pod no interface", config.path),
            input.file_evidence(&config.path, chain(config)),
            format!(
                "{plugin} only changes what another plugin of its chain has set up; this file hides the CNI's own."
            ),
            match behind(cni) {
                Some(other) => format!(
                    "If {other} is the one meant for pods, move {} out of the directory.",
                    config.path
                ),
                None => cause::restart(input, daemon),
            },
        );
    }
    // flannel's plugin reads subnet.env for every pod; a problem with the file would be told by HOST01.
    if plugin == "flannel" && cni.flannel.is_none() && cni.problem.is_none() {
        let file = crate::observe::cni::SUBNET_FILE;
        let (cause, remedy) = cause::of_missing_subnet_env(input, daemon);
        return trouble(
            "flannel's subnet.env does not exist, and its plugin fails without it".to_owned(),
            input.file_evidence(file, "there is no such file".to_owned()),
            cause,
            remedy,
        );
    }
    // cri-dockerd hands ranges over with every call; containerd and CRI-O do not.
    let by_file = input
        .host
        .runtime
        .get()
        .is_some_and(|runtime| matches!(runtime.name.as_str(), "containerd" | "cri-o"));
    if matches!(plugin, "bridge" | "ptp")
        && config.ipam.as_deref() == Some("host-local")
        && config.ranges.is_empty()
        && by_file
    {
        let mut text = format!("{}, host-local without a range", chain(config));
        if let Some(problem) = &cni.problem {
            text += &format!(" ({problem})");
        }
        let (cause, remedy) = cause::of_no_range(input, config, daemon);
        return trouble(
            format!("{} names no range that host-local could give addresses of", config.path),
            input.file_evidence(&config.path, text),
            cause,
            remedy,
        );
    }
    None
}
