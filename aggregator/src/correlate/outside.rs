//! POOL02: a CIDR that kube-controller-manager does not find inside its range when it starts. It exits
//! then; while it runs it says nothing, so what is told here is told before that restart where possible.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, Severity};
use ipnet::IpNet;

use super::manager::{self, Misfit};
use super::{Scene, pool, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::{Manager, Resource};
use crate::netmap::overlap;

/// Somebody's ranges that a node's CIDRs have to be inside of.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The instance, where it is one.
    manager: Option<&'a Manager>,
    /// It is a plan that no instance follows yet: kubeadm-config.
    planned: bool,
    ranges: Vec<IpNet>,
    /// The places count, as kube-controller-manager counts them; else any range of the family will do.
    by_place: bool,
    evidence: Evidence,
}

/// Whether the order of the pool's ranges counts where nobody but the Nodes shows it: their number decides, so that it may
/// change for all with one of them.
pub fn by_place(scene: &Scene<'_>) -> bool {
    judges(scene)
        .iter()
        .any(|judge| judge.manager.is_none() && judge.by_place)
}

/// Why nobody's range can be held against the nodes now; `None`: somebody's can.
pub fn unjudged(scene: &Scene<'_>) -> Option<String> {
    let unseen = scene.plane.around.unseen(Resource::ManagerPods);
    judges(scene)
        .is_empty()
        .then(|| unseen.unwrap_or_else(|| "no --cluster-cidr is known".to_owned()))
}

/// Marks the CIDRs of all nodes at its start.
fn marks(manager: &Manager) -> bool {
    let flags = &manager.flags;
    manager::allocates(flags) && manager::by_range(flags) && !flags.cluster_cidr.is_empty()
}

/// Everybody whose ranges count; the same for all nodes.
pub fn judges<'a>(scene: &Scene<'a>) -> Vec<Judge<'a>> {
    let around = &scene.plane.around;
    // What its own flags are, only its pods say: until they are listed nobody else's word stands in.
    if around.unlisted(Resource::ManagerPods) {
        return Vec::new();
    }
    let managers = || around.managers.values();
    let mut judges: Vec<Judge<'a>> = managers()
        .filter(|manager| marks(manager))
        .map(|manager| Judge {
            manager: Some(manager),
            planned: false,
            ranges: manager.flags.cluster_cidr.clone(),
            by_place: true,
            evidence: manager::flags_evidence(scene, manager),
        })
        .collect();
    // Instances that do not allocate mark nothing at their start; node-ipam-controller does not exit (reference B).
    if judges.is_empty() && (managers().next().is_some() || !around.delegates.cluster_cidrs.is_empty()) {
        return judges;
    }
    if judges.is_empty() {
        if !scene.pool.ranges.is_empty() {
            judges.push(of_pool(scene));
        }
        return judges;
    }
    for witness in around.ranges.get(&Resource::KubeadmConfig).into_iter().flatten() {
        if !witness.ranges.is_empty() {
            let text = format!("the pod range is {}", words::list(&witness.ranges));
            judges.push(Judge {
                manager: None,
                planned: true,
                ranges: witness.ranges.clone(),
                by_place: true,
                evidence: scene.around_evidence(Resource::KubeadmConfig, witness.what.clone(), text),
            });
        }
    }
    judges
}

/// The pool as somebody told it, where no instance can be seen. Its order counts only where the nodes bear it out.
fn of_pool<'a>(scene: &Scene<'a>) -> Judge<'a> {
    let ranges = scene.pool.ranges.clone();
    // By the index: most Nodes have one and are not looked at.
    let owners = match scene.census.several() {
        0 => None,
        _ => Some(scene.book.by_owner.iter().filter(|(_, slots)| slots.len() > 1)),
    };
    let both = owners.into_iter().flatten().filter_map(|(name, _)| scene.node(name));
    let (mut fit, mut not) = (0u32, 0u32);
    for node in both {
        match manager::misfits(&ranges, node).is_empty() {
            true => fit += 1,
            false => not += 1,
        }
    }
    let text = format!("the pool is {}", words::list(&ranges));
    Judge {
        manager: None,
        planned: false,
        by_place: fit > not,
        evidence: scene.plane_evidence(scene.pool.witness.clone(), text),
        ranges,
    }
}

impl Judge<'_> {
    /// CIDRs of the node that make kube-controller-manager exit.
    fn exits(&self, node: &NodeRecord) -> Vec<Misfit> {
        if self.by_place {
            return manager::misfits(&self.ranges, node);
        }
        let entries = node.pod_cidrs.iter().enumerate();
        let outside = entries.filter(|(_, cidr)| !self.ranges.iter().any(|range| overlap(range, cidr)));
        let misfit = |(at, cidr): (usize, &IpNet)| Misfit {
            at,
            cidr: *cidr,
            range: None,
        };
        outside.map(misfit).collect()
    }

    /// CIDRs of the node that are wider than a range: they pass, and are not inside.
    fn wider(&self, node: &NodeRecord) -> Vec<IpNet> {
        let inside = |cidr: &IpNet| self.ranges.iter().any(|range| range.contains(cidr));
        let wider = |cidr: &&IpNet| !inside(cidr) && self.ranges.iter().any(|range| cidr.contains(range));
        node.pod_cidrs.iter().filter(wider).copied().collect()
    }
}

/// The claim of one node.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord, judges: &[Judge<'_>]) -> Option<Claim> {
    // GKE's allocator hands out several ranges that no flag names.
    if pool::on_gke(node) || node.pod_cidrs.is_empty() {
        return None;
    }
    let against: Vec<(&Judge<'_>, Vec<Misfit>)> = judges
        .iter()
        .map(|judge| (judge, judge.exits(node)))
        .filter(|(_, misfits)| !misfits.is_empty())
        .collect();
    // Nearly all nodes end here.
    if against.is_empty() && judges.iter().all(|judge| judge.planned || judge.wider(node).is_empty()) {
        return None;
    }
    let mut acting: Vec<_> = against.iter().filter(|(judge, _)| !judge.planned).collect();
    // What has happened before what will.
    acting.sort_by_key(|(judge, _)| judge.manager.is_none_or(|manager| !has_exited(manager)));
    let mut claim = scene.claim_of(Code::Pool02, node);
    if let Some((judge, misfits)) = acting.first() {
        exits(node, judges, judge, misfits, &mut claim);
        claim
            .evidence
            .extend(acting.iter().map(|(judge, _)| judge.evidence.clone()));
        for manager in acting.iter().filter_map(|(judge, _)| judge.manager) {
            claim.evidence.extend(manager::state_evidence(scene, manager));
            claim.evidence.extend(still_runs(scene, node, manager));
        }
    } else if let Some((judge, misfits)) = against.first() {
        planned(node, judge, misfits, &mut claim);
        claim.evidence.push(judge.evidence.clone());
    } else {
        let (judge, wider) = judges
            .iter()
            .filter(|judge| !judge.planned)
            .map(|judge| (judge, judge.wider(node)))
            .find(|(_, wider)| !wider.is_empty())?;
        let name = &node.name;
        rows(&mut claim, node, wider.iter().map(|cidr| (*cidr, &judge.ranges)));
        claim.severity = Severity::Error;
        claim.summary = format!(
            "{name} has {}, outside the pool {}",
            words::list(&wider),
            words::list(&judge.ranges)
        );
        claim.cause = "The node's CIDR is wider than the pool: kube-controller-manager takes that without a word, and \
                       counts all of the pool that lies inside it as used."
            .to_owned();
        claim.remedy =
            format!("Give {name} a CIDR of the pool: drain it, delete the Node and create it again with one.");
        claim.evidence.push(judge.evidence.clone());
    }
    claim.unseen.extend(
        scene
            .plane
            .around
            .unseen(Resource::ManagerPods)
            .map(|why| format!("whether kube-controller-manager has met it: {why}")),
    );
    Some(claim)
}

/// It does not run, and nothing shows that a node is not why.
fn has_exited(manager: &Manager) -> bool {
    manager.down().is_some() && manager::exits_at_a_node(manager)
}

fn rows<'a>(claim: &mut Claim, node: &NodeRecord, outside: impl Iterator<Item = (IpNet, &'a Vec<IpNet>)>) {
    claim.affected = outside
        .map(|(cidr, ranges)| Affected {
            prefix: Some(cidr),
            node: Some(node.name.clone()),
            detail: format!("not inside {}", words::list(ranges)),
        })
        .collect();
    claim.affected_total = u32::try_from(claim.affected.len()).unwrap_or(u32::MAX);
}

/// An instance exits because of it, or will.
fn exits(node: &NodeRecord, judges: &[Judge<'_>], judge: &Judge<'_>, misfits: &[Misfit], claim: &mut Claim) {
    let name = &node.name;
    let outside: Vec<IpNet> = misfits.iter().map(|misfit| misfit.cidr).collect();
    let first = outside.first().map(IpNet::to_string).unwrap_or_default();
    rows(claim, node, outside.iter().map(|cidr| (*cidr, &judge.ranges)));
    let pool = words::list(&judge.ranges);
    let others: Vec<&Judge<'_>> = judges.iter().filter(|other| other.manager.is_some()).collect();
    let fine = others.iter().find(|other| other.exits(node).is_empty());
    let swapped = misfits
        .iter()
        .all(|misfit| judge.ranges.iter().any(|range| overlap(range, &misfit.cidr)));
    let down = judge.manager.and_then(|manager| Some((manager, manager.down()?)));
    claim.summary = match (&down, judge.manager.filter(|_| fine.is_some())) {
        (Some((manager, _)), _) => format!(
            "{name} has {}, outside the pool {pool}: {} exits because of it",
            words::list(&outside),
            manager.name
        ),
        (None, Some(manager)) => format!(
            "{name} has {}, outside the pool {pool} that {} alone has",
            words::list(&outside),
            manager.name
        ),
        (None, None) if swapped => format!(
            "{name} has {} in another order than the pool {pool}",
            words::list(&node.pod_cidrs)
        ),
        (None, None) => format!("{name} has {}, outside the pool {pool}", words::list(&outside)),
    };
    claim.cause = cause(node, judge, fine.is_some(), swapped, down.as_ref());
    let back = match (judge.manager, fine) {
        (Some(manager), Some(fine)) => format!(
            "Set --cluster-cidr of {} back to {}, as {} has it ({}). ",
            manager.name,
            words::list(&fine.ranges),
            fine.manager.map_or("the other", |other| other.name.as_str()),
            manager::manifest(manager)
        ),
        (Some(manager), None) if swapped => format!(
            "Put the ranges of --cluster-cidr into the order that the nodes have ({}). ",
            manager::manifest(manager)
        ),
        _ => format!("Either set --cluster-cidr back to a range that contains {first}, or swap the Node: "),
    };
    let swap = format!(
        "drain {name}, delete the Node and create it again at once with a free CIDR of the pool and its old labels, taints and \
         annotations; its kubelet takes it without a restart"
    );
    claim.remedy = if down.is_some() {
        if back.ends_with("Node: ") {
            format!("{back}{swap}, also while kube-controller-manager is down. It starts once no such node is left.")
        } else {
            format!("{back}It starts by itself then.")
        }
    } else {
        let hold = "Do not restart kube-controller-manager before this is mended. ";
        if back.ends_with("Node: ") {
            format!("{hold}{back}{swap}.")
        } else {
            format!("{hold}{}", back.trim_end())
        }
    };
    if let Some((manager, _)) = down
        && manager::last_words(manager).is_none()
    {
        claim
            .unseen
            .push(format!("last words of {}: {}", manager.name, manager::logs(manager)));
    }
}

fn cause(node: &NodeRecord, judge: &Judge<'_>, fine: bool, swapped: bool, down: Option<&(&Manager, String)>) -> String {
    if let Some((manager, how)) = down {
        let named = manager
            .last_exit
            .as_ref()
            .and_then(|(_, words)| manager::culprit(words));
        return match named {
            Some(named) if named == node.name => {
                format!(
                    "{} marks every node's CIDR at its start and exits at this one ({how}). While that lasts no new node gets a CIDR, and none of its controllers runs.",
                    manager.name
                )
            }
            Some(named) => format!(
                "{} exits at {named} ({how}); it would exit at {} next: it marks every node's CIDR at its start.",
                manager.name, node.name
            ),
            None => format!(
                "{} does not run ({how}). It marks every node's CIDR at its start and exits where one is out of its range, \
                 as this one is; its last words are not visible here.",
                manager.name
            ),
        };
    }
    if swapped {
        return "kube-controller-manager compares entry by entry, not by family: the first CIDR with the first range of \
                --cluster-cidr. It says nothing while it runs, and exits at its next start or change of leader."
            .to_owned();
    }
    if fine && judge.manager.is_some() {
        return "This instance has another --cluster-cidr than the others. As a standby it marks nothing; it exits as soon as it \
                becomes leader: \"failed to mark cidr … out the range of cluster cidr\"."
            .to_owned();
    }
    "--cluster-cidr was changed after the node got its CIDR, or the node came from elsewhere. \
     kube-controller-manager says nothing while it runs, and exits at its next start or change of leader: \
     \"failed to mark cidr … out the range of cluster cidr\"."
        .to_owned()
}

/// kubeadm's plan only: the next `kubeadm upgrade` writes it into the manifest.
fn planned(node: &NodeRecord, judge: &Judge<'_>, misfits: &[Misfit], claim: &mut Claim) {
    let outside: Vec<IpNet> = misfits.iter().map(|misfit| misfit.cidr).collect();
    rows(claim, node, outside.iter().map(|cidr| (*cidr, &judge.ranges)));
    claim.severity = Severity::Warning;
    claim.summary = format!(
        "{} has {}, outside the pod range {} that kubeadm-config plans",
        node.name,
        words::list(&outside),
        words::list(&judge.ranges)
    );
    claim.cause =
        "kube-controller-manager's own flags take it today. kubeadm writes them anew from kubeadm-config at its next \
                   upgrade, and kube-controller-manager exits then."
            .to_owned();
    claim.remedy = "Before the next kubeadm upgrade, put into networking.podSubnet what --cluster-cidr says: \
                    kubectl -n kube-system edit configmap kubeadm-config"
        .to_owned();
}

/// The instance runs with another range than its flags say: it has not been restarted since they were changed.
fn still_runs(scene: &Scene<'_>, node: &NodeRecord, manager: &Manager) -> Option<Evidence> {
    if manager.down().is_some() {
        return None;
    }
    let metrics = &scene.plane.around.pool_metrics;
    let own: Vec<_> = metrics.iter().filter(|metric| metric.manager == manager.name).collect();
    let other: Vec<IpNet> = own
        .iter()
        .map(|metric| metric.range)
        .filter(|range| !manager.flags.cluster_cidr.contains(range))
        .filter(|range| node.pod_cidrs.iter().any(|cidr| overlap(range, cidr)))
        .collect();
    let text = format!("it runs with {} until it is restarted", words::list(&other));
    let mut evidence = scene.around_evidence(Resource::ManagerMetrics, format!("metrics of {}", manager.name), text);
    evidence.observed_at = own.iter().map(|metric| metric.read_at).max();
    (!other.is_empty()).then_some(evidence)
}
