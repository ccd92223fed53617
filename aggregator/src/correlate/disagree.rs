//! POOL10: somebody names another pod range than the one in force. One finding for each kind of witness.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, Severity};
use ipnet::IpNet;

use super::pool::{self, Ground};
use super::words::{count, list};
use super::{Scene, cap_affected};
use crate::cluster::objects::Resource;
use crate::ipam::witness::{Stance, Witness};
use crate::ledger::Fate;

/// One claim for each kind of witness that contradicts.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    // The best witness may be yet to come.
    if scene.plane.around.unlisted(Resource::ManagerPods) {
        return Vec::new();
    }
    let mut kinds: BTreeMap<&str, Vec<&Witness>> = BTreeMap::new();
    for witness in ground
        .witnesses
        .iter()
        .filter(|witness| witness.stance == Stance::Disagrees)
    {
        kinds.entry(witness.kind).or_default().push(witness);
    }
    kinds
        .into_iter()
        .map(|(kind, witnesses)| claim(scene, ground, kind, &witnesses))
        .collect()
}

/// CIDRs of nodes that rely on them and that these ranges do not hold, in the families that they name.
fn outside<'a>(scene: &Scene<'a>, ground: &Ground, ranges: &[IpNet]) -> Vec<(&'a str, IpNet)> {
    let nodes = scene.plane.nodes.values();
    let cidrs = nodes.flat_map(|node| node.pod_cidrs.iter().map(move |cidr| (node, *cidr)));
    cidrs
        .filter(|(node, cidr)| {
            let mut family = ranges
                .iter()
                .filter(|range| range.addr().is_ipv4() == cidr.addr().is_ipv4())
                .peekable();
            let outside = family.peek().is_some() && !family.any(|range| range.contains(cidr));
            outside && ground.relies(&scene.ipam(node))
        })
        .map(|(node, cidr)| (node.name.as_str(), cidr))
        .collect()
}

/// What is held against: the witness that settles the pool, or the first that could be compared.
fn reference(ground: &Ground) -> Option<&Witness> {
    let settles = ground
        .witnesses
        .iter()
        .find(|witness| witness.stance == Stance::Settles);
    settles.or_else(|| ground.witnesses.iter().find(|witness| witness.stance == Stance::Agrees))
}

fn evidence(scene: &Scene<'_>, witness: &Witness) -> Evidence {
    let mut row = scene.plane_evidence(witness.who.clone(), list(&witness.ranges));
    if let Some(resource) = witness.resource {
        // A host's last word stands until it says otherwise.
        row.stale |= resource != Resource::HostPrograms && !scene.plane.around.complete(resource);
    }
    row
}

fn claim(scene: &Scene<'_>, ground: &Ground, kind: &str, witnesses: &[&Witness]) -> Claim {
    let mut claim = pool::claim(Code::Pool10, kind);
    let first = witnesses
        .first()
        .map(|witness| witness.ranges.clone())
        .unwrap_or_default();
    let truth = reference(ground);
    let against = truth.map(|witness| list(&witness.ranges)).unwrap_or_default();
    let who = witnesses
        .first()
        .map(|witness| witness.who.as_str())
        .unwrap_or_default();
    claim.summary = match truth {
        Some(truth) if truth.stance != Stance::Settles => {
            format!("{who} names {}, and {} names {against}", list(&first), truth.who)
        }
        _ => format!("{who} names {}, and the pool is {against}", list(&first)),
    };
    let short: Vec<(&str, IpNet)> = witnesses
        .iter()
        .flat_map(|witness| outside(scene, ground, &witness.ranges))
        .collect();
    claim.affected = short
        .iter()
        .map(|(node, cidr)| Affected {
            prefix: Some(*cidr),
            node: Some((*node).to_owned()),
            detail: format!("not inside what {kind} names"),
        })
        .collect();
    claim.affected_total = cap_affected(&mut claim.affected);
    let mut nodes: Vec<String> = claim.affected.iter().filter_map(|row| row.node.clone()).collect();
    nodes.dedup();
    claim.nodes = nodes;
    claim.evidence.extend(truth.map(|witness| evidence(scene, witness)));
    claim
        .evidence
        .extend(witnesses.iter().take(8).map(|witness| evidence(scene, witness)));
    let truly = truth.map(|witness| outside(scene, ground, &witness.ranges).len());
    let likely = match (short.len(), truly) {
        (0, Some(0)) => "Both hold every node's CIDR.".to_owned(),
        (_, Some(0)) => format!("Every node's CIDR is inside {against}: that range is in force."),
        (0, Some(_)) => format!(
            "Every node's CIDR is inside {}, and not inside {against}: it may be the right one.",
            list(&first)
        ),
        (some, Some(_)) => format!("Neither holds every node's CIDR: {} outside.", count(some, "is", "are")),
        (_, None) => String::new(),
    };
    claim
        .evidence
        .push(scene.plane_evidence("Nodes".to_owned(), likely.clone()));
    let (severity, breaks, remedy) = harm(kind, !short.is_empty(), &against);
    claim.severity = severity;
    claim.cause = format!("{likely} {breaks}");
    // Where only the witness that contradicts holds what the nodes have, it is the other one that must change.
    let right = short.is_empty() && truly.is_some_and(|outside| outside > 0);
    claim.remedy = if right {
        format!(
            "Leave it as it is: it holds every node's CIDR. Set what names {against} back to {} instead ({}); POOL02 says what \
             that range means for kube-controller-manager's next start.",
            list(&first),
            truth.map(|witness| witness.who.as_str()).unwrap_or_default()
        )
    } else {
        remedy
    };
    claim
}

/// How bad it is, what breaks, and what to do.
fn harm(kind: &str, outside: bool, pool: &str) -> (Severity, String, String) {
    let text = |severity, breaks: &str, remedy: String| (severity, breaks.to_owned(), remedy);
    match kind {
        "kube-controller-manager" => text(
            if outside { Severity::Critical } else { Severity::Error },
            if outside {
                "The instance exits as soon as it leads: it cannot mark those CIDRs (POOL02)."
            } else {
                "Whichever instance leads allocates from its own range."
            },
            format!(
                "Make --cluster-cidr and --node-cidr-mask-size the same on every control-plane host, one that holds every node's \
                 CIDR ({pool}), before the leader changes: do not restart the others first."
            ),
        ),
        "flannel" => text(
            if outside { Severity::Error } else { Severity::Warning },
            if outside {
                "flanneld does not start on those nodes again: \"subnet … specified in the flannel net config doesn't contain … \
                 PodCIDR of the … node\". It runs on until its pod restarts."
            } else {
                "flanneld does not start on a node that gets a CIDR outside its Network."
            },
            format!(
                "Set Network in net-conf.json of ConfigMap kube-flannel-cfg to {pool}, then restart flannel's pods one at a time."
            ),
        ),
        "kube-proxy" => text(
            Severity::Warning,
            "Where kube-proxy tells pods by this range (detectLocalMode ClusterCIDR), it masquerades traffic of pods outside it, \
             and NetworkPolicies see the node's address.",
            format!("Set clusterCIDR of ConfigMap kube-system/kube-proxy to {pool}, then restart kube-proxy's pods."),
        ),
        "kubeadm-config" => text(
            Severity::Warning,
            "Nothing today: it records what was meant at init. The next kubeadm upgrade writes the manifest of \
             kube-controller-manager from it, which then has that range (POOL02).",
            format!("Correct networking.podSubnet in ConfigMap kube-system/kubeadm-config to {pool}."),
        ),
        "kcm-metrics" => text(
            Severity::Warning,
            "The running instance was started with other flags than are known here: its manifest was changed and it has not \
             restarted, or this program was told another range.",
            format!(
                "Compare its --cluster-cidr with {pool}. Do not restart it before a range that holds every node's CIDR stands there (POOL02)."
            ),
        ),
        "kcm-process" => text(
            Severity::Warning,
            "A kube-controller-manager on that host was started with another range than the rest knows: its manifest was changed \
             and it has not restarted, or it is not this cluster's.",
            format!(
                "Compare its --cluster-cidr with {pool} before it restarts, or before the leader changes: a range that does not hold \
                 every node's CIDR makes it exit (POOL02)."
            ),
        ),
        "k3s" => text(
            Severity::Error,
            "Servers with different --cluster-cidr allocate from different ranges, whichever leads.",
            format!("Give every server the same cluster-cidr ({pool}) in /etc/rancher/k3s/config.yaml."),
        ),
        _ => text(
            Severity::Warning,
            "The CNI treats pods outside its range as foreign: it masquerades them or has no route for them.",
            format!("Give it a range that holds {pool}."),
        ),
    }
}

/// What became of it: the same witness agrees, or does not exist.
pub fn fate(scene: &Scene<'_>, ground: &Ground, claim: &Claim) -> Fate {
    let over = |what: String| Fate::Gone(format!("{}: {what}", scene.plane.source));
    let of_kind: Vec<&Witness> = ground
        .witnesses
        .iter()
        .filter(|witness| witness.kind == claim.subject)
        .collect();
    if of_kind.iter().any(|witness| witness.stance == Stance::Disagrees) {
        // A node's CIDR is inside now, or the node is gone; the contradiction itself is claimed anew.
        return over("it does not concern that CIDR any more".to_owned());
    }
    if let Some(witness) = of_kind.first() {
        return over(match witness.stance {
            Stance::Silent => format!("{} names no range any more", witness.who),
            Stance::Apart => format!("{}: {}", witness.who, witness.why),
            _ => format!("{} names {}", witness.who, list(&witness.ranges)),
        });
    }
    let kinds: &[Resource] = match claim.subject.as_str() {
        "kube-controller-manager" => &[Resource::ManagerPods],
        "kcm-metrics" => &[Resource::ManagerMetrics],
        "flannel" => &[Resource::FlannelConfig],
        "kube-proxy" => &[Resource::KubeProxyConfig, Resource::ProxyPods],
        "kubeadm-config" => &[Resource::KubeadmConfig],
        "k3s" => &[Resource::K3sNodes],
        // What no host's agent tells any more is gone.
        "kcm-process" => &[],
        _ => &[Resource::CniPods],
    };
    match kinds.iter().find_map(|kind| scene.plane.around.unseen(*kind)) {
        Some(why) => Fate::Unseen(why),
        None => over(format!("{} names no range any more", claim.subject)),
    }
}
