//! POOL07: nodes whose CIDR is longer or shorter than `--node-cidr-mask-size` asks for.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, ROWS, Severity};
use ipnet::IpNet;

use super::pool::{self, Ground, Space};
use super::words::{count, list};
use super::{Scene, cap_affected};
use crate::cluster::NodeRecord;
use crate::ledger::Fate;

/// One claim for each family.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    if !ground.built_in() {
        return Vec::new();
    }
    let families = ["ipv4", "ipv6"].into_iter();
    families.filter_map(|family| of_family(scene, ground, family)).collect()
}

fn of_family(scene: &Scene<'_>, ground: &Ground, family: &str) -> Option<Claim> {
    let spaces: Vec<&Space> = ground.of_family(family).filter(|space| space.stated).collect();
    let mut rows = Vec::new();
    let mut odd: Vec<&NodeRecord> = Vec::new();
    let mut right: Vec<&NodeRecord> = Vec::new();
    let mut longer = 0usize;
    // The Nodes themselves are looked at only where some CIDR may differ.
    let lengths = scene.census.lengths(family == "ipv4");
    if spaces
        .iter()
        .all(|space| lengths.keys().all(|length| *length == space.mask))
    {
        return None;
    }
    for node in scene.plane.nodes.values() {
        if !ground.relies(&scene.ipam(node)) || pool::on_gke(node) || node.deleting {
            continue;
        }
        for cidr in &node.pod_cidrs {
            let Some(space) = spaces.iter().find(|space| space.range.contains(cidr)) else {
                continue;
            };
            let (has, asked) = (cidr.prefix_len(), space.mask);
            if has == asked {
                right.push(node);
                continue;
            }
            odd.push(node);
            let detail = if has > asked {
                longer += 1;
                format!("/{has} where /{asked} is asked for: it keeps a whole /{asked} from others")
            } else {
                let blocks = 1u64.checked_shl((asked - has).into()).unwrap_or(u64::MAX);
                format!("/{has} where /{asked} is asked for: it holds {blocks} blocks")
            };
            rows.push(Affected {
                prefix: Some(*cidr),
                node: Some(node.name.clone()),
                detail,
            });
        }
    }
    let first = spaces.first().filter(|_| !odd.is_empty())?;
    let partial: u64 = spaces.iter().map(|space| space.count.partial).sum();
    let free = spaces
        .iter()
        .fold(0u64, |sum, space| sum.saturating_add(space.count.free));
    let used = spaces
        .iter()
        .fold(0u64, |sum, space| sum.saturating_add(space.count.used));
    let shared = shared_blocks(&spaces, &rows);
    let mut claim = pool::claim(Code::Pool07, family);
    // It marks whatever blocks a CIDR touches, so nothing breaks at once; it costs room where room is short,
    // and a block that two share is free in its books as soon as one of them goes.
    claim.severity = if free < used || shared > 0 {
        Severity::Warning
    } else {
        Severity::Info
    };
    let sizes: std::collections::BTreeSet<String> = rows
        .iter()
        .filter_map(|row| Some(format!("/{}", row.prefix?.prefix_len())))
        .collect();
    let (nodes, have) = (
        count(odd.len(), "node", "nodes"),
        if odd.len() == 1 { "has" } else { "have" },
    );
    claim.summary = format!(
        "{nodes} {have} {}, not the /{} that is asked for",
        list(sizes),
        first.mask
    );
    claim.nodes = odd.iter().take(ROWS).map(|node| node.name.clone()).collect();
    let text = format!("the mask of {} is /{}", first.range, first.mask);
    claim.evidence.push(scene.plane_evidence(first.witness.clone(), text));
    claim
        .evidence
        .extend(odd.iter().take(8).map(|node| scene.node_evidence(node)));
    let youngest_odd = odd.iter().filter_map(|node| node.created_at).max();
    let oldest_right = right.iter().filter_map(|node| node.created_at).min();
    let told = match (youngest_odd, oldest_right) {
        (Some(odd), Some(right)) if odd < right => {
            "The mask was changed on a living cluster: all nodes with the old one are older than those with the new one, and keep \
             what they have."
        }
        (_, None) => {
            "The mask was changed on a living cluster, and no node has come since; or it is not what is known here."
        }
        _ => {
            "Two allocators with masks of their own, or CIDRs written by hand: old and new masks came in no order of time."
        }
    };
    let blocks = count(usize::try_from(partial).unwrap_or(usize::MAX), "block is", "blocks are");
    let mut cost = if longer > 0 {
        format!(" {blocks} held in part only, and the rest is lost to others.")
    } else {
        " Those that are shorter hold several blocks each; nothing else is lost.".to_owned()
    };
    if shared > 0 {
        cost.push_str(&format!(
            " {} several nodes: when one of them is deleted, kube-controller-manager takes the block for free though the others \
             use it, and may give it to a new node (POOL03).",
            count(shared, "block is shared by", "blocks are shared by")
        ));
    }
    claim.cause = format!("{told}{cost}");
    claim.remedy = if shared > 0 {
        "Put the old mask back if the change was not meant: it costs nothing and ends the danger. Else swap the nodes that share \
         a block one at a time onto blocks of the new mask (see POOL02), and restart kube-controller-manager after each Node that \
         goes, before nodes are added: it counts anew at its start."
    } else {
        "Nothing has to be done: kube-controller-manager counts every block that such a CIDR touches as used. If the change was \
         not meant, put the old mask back. If room is short, swap the nodes one at a time onto blocks of the new mask (see POOL02)."
    }
    .to_owned();
    claim.changed_at = odd.iter().map(|node| node.changed_at).max();
    claim.affected = rows;
    claim.affected_total = cap_affected(&mut claim.affected);
    Some(claim)
}

/// Blocks in which several CIDRs lie that are longer than a block.
fn shared_blocks(spaces: &[&Space], rows: &[Affected]) -> usize {
    let mut blocks: BTreeMap<IpNet, usize> = BTreeMap::new();
    for cidr in rows.iter().filter_map(|row| row.prefix) {
        let space = spaces
            .iter()
            .find(|space| space.range.contains(&cidr) && cidr.prefix_len() > space.mask);
        let block = space.and_then(|space| IpNet::new(cidr.addr(), space.mask).ok());
        if let Some(block) = block {
            *blocks.entry(block.trunc()).or_default() += 1;
        }
    }
    blocks.into_values().filter(|cidrs| *cidrs > 1).count()
}

/// What became of one node's CIDR.
pub fn fate(scene: &Scene<'_>, ground: &Ground, row: Option<&Affected>) -> Fate {
    let over = |what: String| Fate::Gone(format!("{}: {what}", scene.plane.source));
    let Some((name, cidr)) = row.and_then(|row| Some((row.node.as_deref()?, row.prefix?))) else {
        return over("every node has the mask that is asked for".to_owned());
    };
    let Some(node) = scene.node(name) else {
        return over(format!("Node {name} is gone"));
    };
    if !node.pod_cidrs.contains(&cidr) {
        return over(format!("{name} has {}", list(&node.pod_cidrs_raw)));
    }
    let space = ground.spaces.iter().find(|space| space.range.contains(&cidr));
    match space {
        Some(space) if !space.stated => Fate::Unseen("nobody states the node mask any more".to_owned()),
        Some(space) if space.mask == cidr.prefix_len() => over(format!("/{} is asked for now", space.mask)),
        Some(_) => over(format!("{name} does not rely on one mask any more")),
        None if ground.spaces.is_empty() => Fate::Unseen("the pool is not known any more".to_owned()),
        None => over(format!("{cidr} is not of the pool any more")),
    }
}
