//! POOL14: the objects of a CNI that allocates by itself contradict each other, overlap, or have run out.

mod azure;
mod calico;
mod cilium;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Severity, Trigger};
use ipnet::IpNet;

use super::{Scene, cap_affected, overlap, words};
use crate::cluster::objects::Resource;
use crate::engine::churn::Churn;

/// All of them. What nodes leave behind is told once `churn` shows that they are long gone.
pub fn claims(scene: &Scene<'_>, churn: &Churn) -> Vec<Claim> {
    let mut claims = cilium::claims(scene, churn);
    claims.extend(calico::claims(scene, churn));
    claims.extend(azure::claims(scene));
    // One finding for one subject: the worst that was said of it.
    claims.sort_by(|a, b| (&a.subject, b.severity).cmp(&(&b.subject, a.severity)));
    claims.dedup_by(|later, first| later.subject == first.subject);
    claims
}

/// When claims may change by time alone: when the next node that left something behind is long gone.
pub fn ripens(scene: &Scene<'_>, churn: &Churn) -> Option<jiff::Timestamp> {
    let delegates = &scene.plane.around.delegates;
    let blocks = delegates.blocks.iter().map(|block| &block.node);
    let owners = delegates.cilium_nodes.iter().map(|node| &node.node).chain(blocks);
    let gone = owners.filter(|name| scene.node(name).is_none());
    gone.map(|name| churn.grace_ends(name, scene.now))
        .filter(|at| *at > scene.now)
        .min()
}

/// A node that left something behind has been gone for long enough for its CNI to clear up.
fn long_gone(scene: &Scene<'_>, churn: &Churn, name: &str) -> bool {
    scene.node(name).is_none() && churn.grace_ends(name, scene.now) <= scene.now
}

/// Kinds of objects that something is known of, and that cannot be read now.
pub fn unread(scene: &Scene<'_>) -> Option<String> {
    let delegates = &scene.plane.around.delegates;
    let kinds = [
        (Resource::CiliumNodes, !delegates.cilium_nodes.is_empty()),
        (Resource::IpPools, !delegates.ip_pools.is_empty()),
        (Resource::BlockAffinities, !delegates.blocks.is_empty()),
        (Resource::NodeNetworkConfigs, !delegates.node_network_configs.is_empty()),
    ];
    let broken = |resource: Resource| {
        use crate::cluster::objects::Watched;
        matches!(
            scene.plane.around.watches.get(&resource),
            Some(Watched::Refused(_) | Watched::Broken(_))
        )
    };
    let (resource, _) = kinds
        .into_iter()
        .find(|(resource, known)| *known && broken(*resource))?;
    scene.plane.around.unseen(resource)
}

/// The frame of a claim that rests on an object of this kind.
fn frame(scene: &Scene<'_>, subject: String, severity: Severity, resource: Resource) -> Claim {
    Claim {
        code: Code::Pool14,
        nodes: scene.node(&subject).map(|node| node.name.clone()).into_iter().collect(),
        subject,
        severity,
        summary: String::new(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: Vec::new(),
        unseen: scene.plane.around.unseen(resource).into_iter().collect(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger: Trigger::ControlPlane,
    }
}

/// Prefixes of nodes that overlap those of other nodes: one claim for each group.
fn overlapping(
    scene: &Scene<'_>,
    resource: Resource,
    kind: &str,
    owned: &[(&str, IpNet)],
    cause: &str,
    remedy: impl Fn(&[&str]) -> String,
) -> Vec<Claim> {
    let prefixes: Vec<IpNet> = owned.iter().map(|(_, cidr)| *cidr).collect();
    let mut claims = Vec::new();
    for (widest, members) in overlap::groups(&prefixes) {
        let members: Vec<&(&str, IpNet)> = members.into_iter().map(|at| &owned[at]).collect();
        let mut names: Vec<&str> = members.iter().map(|(node, _)| *node).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < 2 {
            continue;
        }
        let mut claim = frame(scene, widest.to_string(), Severity::Error, resource);
        claim.nodes = names.iter().take(ROWS).map(|name| (*name).to_owned()).collect();
        claim.summary = format!(
            "{kind}s of {} overlap within {widest}",
            words::list(names.iter().take(8))
        );
        claim.affected = members
            .iter()
            .map(|(node, cidr)| Affected {
                prefix: Some(*cidr),
                node: Some((*node).to_owned()),
                detail: format!("{kind} of {node}"),
            })
            .collect();
        claim.affected_total = cap_affected(&mut claim.affected);
        let evidence = |(node, cidr): &&(&str, IpNet)| -> Evidence {
            scene.around_evidence(resource, format!("{kind} of {node}"), cidr.to_string())
        };
        claim.evidence = members.iter().take(ROWS).map(evidence).collect();
        claim.cause = cause.to_owned();
        claim.remedy = remedy(&names);
        claims.push(claim);
    }
    claims
}
