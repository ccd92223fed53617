//! PATH07: one node reaches another, which does not reach it.

use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Trigger};
use ipnet::IpNet;

use super::routes::{Broken, told_by_host};
use super::verdict::Source;
use super::{Scene, cap_affected};

/// The claim of one source, from its broken pairs. `reached_from` says whether packets
/// of another node for every pod CIDR of this source, of that family (IPv4: true), are delivered.
pub fn claim(
    scene: &Scene<'_>,
    source: Source<'_>,
    broken: &BTreeMap<IpNet, Broken>,
    reached_from: &dyn Fn(&str, bool) -> bool,
) -> Option<Claim> {
    let pairs: Vec<(&IpNet, &Broken)> = broken
        .iter()
        .filter(|(cidr, pair)| reached_from(&pair.owner, cidr.addr().is_ipv4()))
        .filter(|(cidr, pair)| !told_by_host(source.host, **cidr, pair))
        .collect();
    let (_, first) = pairs.first()?;
    let name = &source.node.name;
    let mut affected: Vec<Affected> = pairs
        .iter()
        .map(|(cidr, pair)| Affected {
            prefix: Some(**cidr),
            node: Some(pair.owner.clone()),
            detail: format!("{} reaches {name}; back: {}", pair.owner, pair.verdict),
        })
        .collect();
    let affected_total = cap_affected(&mut affected);
    let mut peers: Vec<String> = affected.iter().filter_map(|row| row.node.clone()).collect();
    peers.sort();
    peers.dedup();
    let who = match peers.len() {
        1 => format!("{} reaches", first.owner),
        many => format!("{many} nodes reach"),
    };
    let evidence = affected
        .iter()
        .filter_map(|row| {
            let text = format!("{}: {}", row.prefix?, row.detail);
            Some(scene.kernel_evidence(source.host, text))
        })
        .collect();
    let host = pairs.iter().any(|(_, pair)| pair.trigger == Trigger::Host);
    let mut nodes = vec![name.clone()];
    nodes.extend(peers);
    Some(Claim {
        code: Code::Path07,
        subject: name.clone(),
        severity: Code::Path07.entry().severity,
        nodes,
        summary: format!("{who} {name}, but {name} does not reach back"),
        affected,
        affected_total,
        evidence,
        unseen: Vec::new(),
        cause: format!("The routes of {name} are wrong; see its other findings."),
        remedy: "Mend what explains it: connections look half-open until then.".to_owned(),
        changed_at: pairs.iter().filter_map(|(_, pair)| pair.changed_at).max(),
        trigger: if host { Trigger::Host } else { Trigger::ControlPlane },
    })
}
