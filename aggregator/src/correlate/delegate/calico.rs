//! Calico's IPPools and BlockAffinities.

use std::collections::BTreeMap;

use cidrift_proto::finding::{Affected, Claim, Severity};
use ipnet::IpNet;

use super::{frame, long_gone, overlapping};
use crate::cluster::objects::{Block, IpPool, Resource};
use crate::correlate::{Scene, cap_affected, words};
use crate::engine::churn::Churn;

/// Owners of blocks that are no nodes: Calico's own allocator for load balancers.
const VIRTUAL: &str = "load-balancer";

pub(super) fn claims(scene: &Scene<'_>, churn: &Churn) -> Vec<Claim> {
    let delegates = &scene.plane.around.delegates;
    let live: Vec<&Block> = delegates
        .blocks
        .iter()
        .filter(|block| !block.deleted && block.state == "confirmed" && block.node != VIRTUAL)
        .collect();
    let owned: Vec<(&str, IpNet)> = live.iter().map(|block| (block.node.as_str(), block.cidr)).collect();
    let mut claims = overlapping(
        scene,
        Resource::BlockAffinities,
        "BlockAffinity",
        &owned,
        "Two nodes hold one block of Calico's: both announce it, and only one of them is reached.",
        |_| {
            "calicoctl ipam check names the addresses in use; then calicoctl ipam release --from-report. Do not delete blocks by hand.".to_owned()
        },
    );
    claims.extend(leaked(scene, churn, &live));
    for pool in &delegates.ip_pools {
        claims.extend(of_pool(scene, pool, &live));
    }
    claims.extend(without_pool(scene, &delegates.ip_pools, &live));
    claims
}

/// Blocks of nodes that do not exist. Calico may name nodes otherwise than Kubernetes does: then nothing can be said.
fn leaked(scene: &Scene<'_>, churn: &Churn, live: &[&Block]) -> Vec<Claim> {
    let named = scene
        .plane
        .nodes
        .keys()
        .filter(|name| live.iter().any(|block| block.node == **name));
    if scene.plane.problem.is_some() || named.count() * 2 < scene.plane.nodes.len() || scene.plane.nodes.is_empty() {
        return Vec::new();
    }
    let mut by_node: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
    for block in live.iter().filter(|block| long_gone(scene, churn, &block.node)) {
        by_node.entry(&block.node).or_default().push(block.cidr);
    }
    let claim = |(name, cidrs): (&str, Vec<IpNet>)| {
        let mut claim = frame(scene, name.to_owned(), Severity::Warning, Resource::BlockAffinities);
        claim.summary = format!(
            "{} of Calico's still {} to {name}, and there is no such Node",
            words::count(cidrs.len(), "block", "blocks"),
            if cidrs.len() == 1 { "belongs" } else { "belong" }
        );
        claim.affected = cidrs
            .iter()
            .map(|cidr| Affected {
                prefix: Some(*cidr),
                node: Some(name.to_owned()),
                detail: "its node is gone".to_owned(),
            })
            .collect();
        claim.affected_total = cap_affected(&mut claim.affected);
        let text = words::list(cidrs.iter().take(8));
        claim.evidence.push(scene.around_evidence(
            Resource::BlockAffinities,
            format!("BlockAffinities of {name}"),
            text,
        ));
        claim.cause =
            "Calico's controllers release the blocks of a Node that is deleted; they do not run, or failed at these."
                .to_owned();
        claim.remedy = "kubectl -n kube-system get pods -l k8s-app=calico-kube-controllers; then calicoctl ipam check --show-all-ips -o report.json, \
                        and calicoctl ipam release --from-report=report.json"
            .to_owned();
        claim
    };
    by_node.into_iter().map(claim).collect()
}

/// A pool that is switched off and still used; or one without a free block.
fn of_pool(scene: &Scene<'_>, pool: &IpPool, live: &[&Block]) -> Option<Claim> {
    let inside: Vec<&&Block> = live.iter().filter(|block| pool.cidr.contains(&block.cidr)).collect();
    let evidence = |text: String| {
        let shown = format!(
            "{}, blocks of /{}{}",
            pool.cidr,
            pool.block_size,
            if pool.disabled { ", disabled" } else { "" }
        );
        vec![
            scene.around_evidence(Resource::IpPools, format!("IPPool {}", pool.name), shown),
            scene.around_evidence(Resource::BlockAffinities, "BlockAffinities".to_owned(), text),
        ]
    };
    if pool.disabled && !inside.is_empty() {
        let mut nodes: Vec<&str> = inside.iter().map(|block| block.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut claim = frame(scene, pool.cidr.to_string(), Severity::Info, Resource::IpPools);
        claim.nodes = nodes
            .iter()
            .take(cidrift_proto::finding::ROWS)
            .map(|name| (*name).to_owned())
            .collect();
        claim.summary = format!(
            "IPPool {} is disabled, and {} still {} blocks of it",
            pool.name,
            words::count(nodes.len(), "node", "nodes"),
            if nodes.len() == 1 { "has" } else { "have" }
        );
        claim.evidence = evidence(format!("blocks of {}", words::list(nodes.iter().take(8))));
        claim.cause =
            "The pool is being left: pods that have an address of it keep it until they are made anew.".to_owned();
        claim.remedy = format!(
            "Replace pods with addresses of {} (rollout restart, one workload at a time). Delete the IPPool only when none is left: its \
             routes and masquerading go with it.",
            pool.cidr
        );
        return Some(claim);
    }
    let blocks = 1u64.checked_shl(u32::from(pool.block_size.saturating_sub(pool.cidr.prefix_len())))?;
    if pool.disabled || u64::try_from(inside.len()).unwrap_or(u64::MAX) < blocks {
        return None;
    }
    let mut claim = frame(scene, pool.cidr.to_string(), Severity::Warning, Resource::IpPools);
    claim.summary = format!("IPPool {} has no free block left", pool.name);
    claim.evidence = evidence(format!("{blocks} blocks, all of them some node's"));
    claim.cause = "Every block belongs to a node. A new node borrows single addresses of others' blocks, each with a route of its own, \
                   or gets none where strictAffinity is set."
        .to_owned();
    claim.remedy = "Add an IPPool, or release blocks of nodes that are gone: calicoctl ipam show --show-blocks; calicoctl ipam check.".to_owned();
    Some(claim)
}

/// Blocks outside of every IPPool: their pool was deleted under them.
fn without_pool(scene: &Scene<'_>, pools: &[IpPool], live: &[&Block]) -> Vec<Claim> {
    if pools.is_empty() || scene.plane.around.unseen(Resource::IpPools).is_some() {
        return Vec::new();
    }
    let mut by_node: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
    for block in live
        .iter()
        .filter(|block| !pools.iter().any(|pool| pool.cidr.contains(&block.cidr)))
    {
        by_node.entry(&block.node).or_default().push(block.cidr);
    }
    let claim = |(name, cidrs): (&str, Vec<IpNet>)| {
        let mut claim = frame(scene, name.to_owned(), Severity::Warning, Resource::BlockAffinities);
        claim.summary = format!(
            "{name} has {} of Calico's, of no IPPool",
            words::list(cidrs.iter().take(8))
        );
        claim.affected = cidrs
            .iter()
            .map(|cidr| Affected {
                prefix: Some(*cidr),
                node: Some(name.to_owned()),
                detail: "in no IPPool".to_owned(),
            })
            .collect();
        claim.affected_total = cap_affected(&mut claim.affected);
        let names = words::list(pools.iter().take(8).map(|pool| format!("{} {}", pool.name, pool.cidr)));
        claim
            .evidence
            .push(scene.around_evidence(Resource::IpPools, "IPPools".to_owned(), names));
        claim.cause = "Its IPPool was deleted while addresses of it were in use: they are not masqueraded and not announced any more.".to_owned();
        claim.remedy = "Create the IPPool again with the same cidr and blockSize, disabled: true; then replace the pods that use it.".to_owned();
        claim
    };
    by_node.into_iter().map(claim).collect()
}
