//! POOL09: nodes rely on kube-controller-manager's CIDRs, and it gives none out.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Severity};

use super::manager::{self, allocates, is_allocator};
use super::pool::{self, Ground};
use super::words::{count, list};
use super::{Scene, cap_affected};
use crate::cluster::NodeRecord;
use crate::cluster::objects::{Manager, Resource};
use crate::ledger::Fate;

/// The subject: there is one allocator.
pub const SUBJECT: &str = "kube-controller-manager";

/// The manager of the field in `metadata.managedFields` where it wrote it.
const WRITER: &str = "kube-controller-manager";

/// Whether somebody else is known to write spec.podCIDR: node-ipam-controller, Antrea's own node IPAM, or
/// the controller that gave the youngest node its CIDR. Nodes made by hand or by a swap show no allocator.
fn another(scene: &Scene<'_>) -> bool {
    let around = &scene.plane.around;
    let antrea = around.ranges.get(&Resource::AntreaConfig).into_iter().flatten();
    if !around.delegates.cluster_cidrs.is_empty() || antrea.into_iter().any(|witness| !witness.ranges.is_empty()) {
        return true;
    }
    let with = scene.plane.nodes.values();
    let by_controller = |node: &&NodeRecord| node.cidr_writers.iter().any(|writer| is_allocator(writer));
    let with = with.filter(|node| !node.pod_cidrs.is_empty()).filter(by_controller);
    let youngest = with.max_by_key(|node| node.created_at);
    youngest.is_some_and(|node| !node.cidr_writers.iter().any(|writer| writer == WRITER))
}

/// The one claim.
pub fn claim(scene: &Scene<'_>, ground: &Ground) -> Option<Claim> {
    let around = &scene.plane.around;
    let off: Vec<&Manager> = around
        .managers
        .values()
        .filter(|manager| !allocates(&manager.flags))
        .collect();
    // Where no instance can be seen, as on managed control planes and k3s, nothing is known of it.
    if off.is_empty() || ground.users.pod_cidr == 0 || ground.users.gke || another(scene) {
        return None;
    }
    let waiting: Vec<&NodeRecord> = ground.waiting(scene).collect();
    let by_it = scene.census.allocators().any(|writer| writer == WRITER);
    // A cloud-controller-manager may allocate in its place, and nodes may get their CIDRs by hand:
    // then only a node that waits shows that nobody does.
    let external = off
        .iter()
        .any(|manager| manager.flags.cloud_provider.as_deref() == Some("external"));
    if waiting.is_empty() && (external || !by_it) {
        return None;
    }
    let some = off.len() < around.managers.len();
    let mut claim = pool::claim(Code::Pool09, SUBJECT);
    claim.severity = match (waiting.is_empty(), some) {
        (false, false) => Severity::Error,
        _ => Severity::Warning,
    };
    claim.summary = if some {
        format!(
            "{} of {} of kube-controller-manager do not allocate node CIDRs",
            off.len(),
            count(around.managers.len(), "instance", "instances")
        )
    } else {
        "kube-controller-manager does not allocate node CIDRs, and nodes rely on them".to_owned()
    };
    if !waiting.is_empty() {
        let names = waiting.iter().take(8).map(|node| &node.name);
        claim.summary.push_str(&format!(
            "; {} {} without one",
            list(names),
            if waiting.len() == 1 { "is" } else { "are" }
        ));
    }
    claim.nodes = waiting.iter().take(ROWS).map(|node| node.name.clone()).collect();
    claim.affected = waiting
        .iter()
        .map(|node| Affected {
            prefix: None,
            node: Some(node.name.clone()),
            detail: "has no pod CIDR".to_owned(),
        })
        .collect();
    claim.affected_total = cap_affected(&mut claim.affected);
    claim.evidence = off.iter().map(|manager| evidence(scene, manager)).collect();
    let users = count(ground.users.pod_cidr, "node takes", "nodes take");
    let text = format!("{users} their pods' addresses of spec.podCIDR");
    claim.evidence.push(scene.plane_evidence("Nodes".to_owned(), text));
    claim.unseen.extend(around.unseen(Resource::ClusterCidrs));
    claim.cause = if some {
        "The manifests of the control-plane hosts differ. Nodes get CIDRs as long as an instance that allocates leads, and none \
         after the next change of leader."
            .to_owned()
    } else {
        let lost = match off.first().map(|manager| &manager.flags) {
            Some(flags) if flags.ipam_disabled => "A list of --controllers leaves the one out that gives node CIDRs.",
            Some(flags) if flags.allocate_node_cidrs == Some(true) && !manager::by_range(flags) => {
                "The allocator is a cloud's, whose code kube-controller-manager lost with 1.31: later ones take RangeAllocator only."
            }
            _ => {
                "The flag was lost when a manifest was edited or made anew; kubeadm sets it only where networking.podSubnet is given."
            }
        };
        format!("{lost} Nodes that have a CIDR work on, new ones get none.")
    };
    let mend = off
        .first()
        .map(|manager| manager::mend(&manager.flags))
        .unwrap_or_default();
    claim.remedy = format!(
        "{mend} that holds every CIDR that nodes have (one that does not makes it exit: POOL02), on kubeadm in \
         /etc/kubernetes/manifests/kube-controller-manager.yaml of each control-plane host. Make sure first that no other allocator \
         runs: two hand out the same CIDR twice."
    );
    claim.changed_at = waiting.iter().map(|node| node.changed_at).max();
    Some(claim)
}

fn evidence(scene: &Scene<'_>, manager: &Manager) -> Evidence {
    let why = manager::idle(&manager.flags).unwrap_or_default();
    let mut row = scene.plane_evidence(format!("flags of {}", manager.name), why);
    row.stale |= !scene.plane.around.complete(Resource::ManagerPods);
    row
}

/// What became of it.
pub fn fate(scene: &Scene<'_>, ground: &Ground, row: Option<&Affected>) -> Fate {
    let over = |what: String| Fate::Gone(format!("{}: {what}", scene.plane.source));
    let around = &scene.plane.around;
    if let Some(name) = row.and_then(|row| row.node.as_deref()) {
        match scene.node(name) {
            None => return over(format!("Node {name} is gone")),
            Some(node) if !node.pod_cidrs_raw.is_empty() => {
                return over(format!("{name} has {}", list(&node.pod_cidrs_raw)));
            }
            Some(_) => {}
        }
    }
    if ground.users.pod_cidr == 0 && ground.users.delegated > 0 {
        return over("no node relies on spec.podCIDR any more".to_owned());
    }
    if around.managers.is_empty() {
        return Fate::Unseen("kube-controller-manager cannot be seen".to_owned());
    }
    if around.managers.values().all(|manager| allocates(&manager.flags)) {
        return over("every instance allocates".to_owned());
    }
    if another(scene) {
        return over("another allocator gives nodes their CIDRs".to_owned());
    }
    if row.is_none() && ground.waiting(scene).next().is_none() {
        return Fate::Unseen("whether anybody allocates cannot be told while no node waits".to_owned());
    }
    Fate::Unseen("whether nodes rely on spec.podCIDR cannot be told now".to_owned())
}
