//! POOL03: addresses that two claim: nodes' CIDRs among each other (masks may
//! differ), against the service range, the nodes' own network, and host interfaces.

use std::collections::BTreeMap;
use std::fmt;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{LinkFact, LinkRole};
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Severity, Trigger};
use ipnet::IpNet;
use jiff::Timestamp;

use super::book::Slot;
use super::{Scene, cap_affected, twins, words};
use crate::cluster::{HostState, NodeRecord};
use crate::ipam::Ipam;

/// Groups prefixes that are connected by overlaps. Prefixes either nest or are
/// disjoint, so a group is its widest prefix with everything inside it. Gives each
/// group's widest prefix and its members' positions, sorted.
pub fn groups(prefixes: &[IpNet]) -> Vec<(IpNet, Vec<usize>)> {
    let mut order: Vec<usize> = (0..prefixes.len()).collect();
    order.sort_by_key(|at| (prefixes[*at].network(), prefixes[*at].prefix_len()));
    let mut groups: Vec<(IpNet, Vec<usize>)> = Vec::new();
    for at in order {
        let net = prefixes[at].trunc();
        match groups.last_mut() {
            Some((widest, members)) if widest.contains(&net) => members.push(at),
            _ => groups.push((net, vec![at])),
        }
    }
    for (_, members) in &mut groups {
        members.sort_unstable();
    }
    groups
}

/// One overlap, before those with the same subject are put together.
struct Clash {
    /// The widest prefix; or the host, where one of its interfaces is in the way: that one must be changed.
    subject: Subject,
    severity: Severity,
    summary: String,
    rows: Vec<Affected>,
    evidence: Vec<Evidence>,
    nodes: Vec<String>,
    unseen: Vec<String>,
    cause: String,
    remedy: String,
    changed_at: Option<Timestamp>,
    trigger: Trigger,
}

/// What a POOL03 finding is about. That also says whose word it is: the control plane's, or one host's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// CIDRs as the control plane has them, within this prefix.
    Range(IpNet),
    /// Interfaces of this host.
    Host(String),
}

impl Subject {
    /// Of a claim's subject. No Node's name is a prefix: names have no slash.
    pub fn of(subject: &str) -> Self {
        subject
            .parse()
            .map_or_else(|_| Self::Host(subject.to_owned()), Self::Range)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

/// Overlaps within what the control plane says.
pub fn claims(scene: &Scene<'_>) -> Vec<Claim> {
    let mut clashes = Vec::new();
    between_nodes(scene, &mut clashes);
    with_services(scene, &mut clashes);
    with_node_network(scene, &mut clashes);
    told(clashes)
}

/// Overlaps with the interfaces of one host.
pub fn of_host(scene: &Scene<'_>, name: &str) -> Vec<Claim> {
    let mut clashes = Vec::new();
    if let Some(host) = scene.host(name) {
        with_interfaces(scene, host, &mut clashes);
    }
    told(clashes)
}

/// One claim for each subject.
fn told(clashes: Vec<Clash>) -> Vec<Claim> {
    let mut by_subject: BTreeMap<Subject, Claim> = BTreeMap::new();
    for clash in clashes {
        merge(&mut by_subject, clash);
    }
    let mut claims: Vec<Claim> = by_subject.into_values().collect();
    for claim in &mut claims {
        claim.affected_total = cap_affected(&mut claim.affected);
        claim.evidence.dedup();
        claim.evidence.truncate(ROWS);
        claim.nodes.sort();
        claim.nodes.dedup();
        claim.nodes.truncate(ROWS);
    }
    claims
}

fn merge(by_subject: &mut BTreeMap<Subject, Claim>, clash: Clash) {
    let Clash {
        subject,
        severity,
        summary,
        rows,
        evidence,
        nodes,
        unseen,
        cause,
        remedy,
        changed_at,
        trigger,
    } = clash;
    match by_subject.get_mut(&subject) {
        Some(claim) => {
            if severity > claim.severity {
                (claim.severity, claim.summary) = (severity, summary);
                (claim.cause, claim.remedy) = (cause, remedy);
            }
            claim.affected.extend(rows);
            claim.evidence.extend(evidence);
            claim.nodes.extend(nodes);
            claim.unseen.extend(unseen);
            claim.changed_at = claim.changed_at.max(changed_at);
            if trigger == Trigger::ControlPlane {
                claim.trigger = trigger;
            }
        }
        None => {
            let claim = Claim {
                code: Code::Pool03,
                subject: subject.to_string(),
                severity,
                nodes,
                summary,
                affected: rows,
                affected_total: 0,
                evidence,
                unseen,
                cause,
                remedy,
                changed_at,
                trigger,
            };
            by_subject.insert(subject, claim);
        }
    }
}

/// A node's CIDR means nothing to its own pods: an overlap there does no harm.
fn unused(scene: &Scene<'_>, node: &str) -> bool {
    scene
        .node(node)
        .is_some_and(|node| matches!(scene.ipam(node), Ipam::Delegated(_)))
}

fn row(slot: &Slot, detail: String) -> Affected {
    Affected {
        prefix: Some(slot.cidr),
        node: Some(slot.owner.clone()),
        detail,
    }
}

fn between_nodes(scene: &Scene<'_>, clashes: &mut Vec<Clash>) {
    if !scene.book.contested() {
        return;
    }
    let slots: Vec<&Slot> = scene
        .book
        .in_order()
        .filter(|slot| !slot.contested.is_empty())
        .collect();
    let prefixes: Vec<IpNet> = slots.iter().map(|slot| slot.cidr).collect();
    for (widest, members) in groups(&prefixes) {
        let members: Vec<&Slot> = members.into_iter().map(|at| slots[at]).collect();
        if members.iter().all(|slot| unused(scene, &slot.owner)) {
            continue;
        }
        let nodes: Vec<&NodeRecord> = members.iter().filter_map(|slot| scene.node(&slot.owner)).collect();
        let twins = twins::of(scene, widest, &nodes);
        let mut evidence: Vec<Evidence> = nodes.iter().map(|node| scene.node_evidence(node)).collect();
        evidence.extend(twins.evidence);
        let equal = members.iter().all(|slot| slot.cidr == widest);
        let names = words::list(members.iter().map(|slot| &slot.owner).take(8));
        clashes.push(Clash {
            subject: Subject::Range(widest),
            severity: Severity::Critical,
            summary: if equal {
                format!("{names} have the same pod CIDR {widest}")
            } else {
                format!("pod CIDRs of {names} overlap within {widest}")
            },
            rows: members
                .iter()
                .map(|slot| row(slot, format!("overlaps {}", slot.contested.join(", "))))
                .collect(),
            evidence,
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            unseen: twins.unseen,
            cause: twins.cause,
            remedy: twins.remedy,
            changed_at: nodes.iter().map(|node| node.changed_at).max(),
            trigger: Trigger::ControlPlane,
        });
    }
}

fn with_services(scene: &Scene<'_>, clashes: &mut Vec<Clash>) {
    for range in &scene.pool.service_ranges {
        for slot in scene.book.overlapping(*range) {
            let Some(node) = scene.node(&slot.owner).filter(|_| !unused(scene, &slot.owner)) else {
                continue;
            };
            let text = format!("services are in {range}");
            clashes.push(Clash {
                subject: Subject::Range(if range.contains(&slot.cidr) { *range } else { slot.cidr }),
                severity: Severity::Critical,
                summary: format!("pod CIDR {} of {} overlaps the service range {range}", slot.cidr, slot.owner),
                rows: vec![row(slot, format!("overlaps the service range {range}"))],
                evidence: vec![
                    scene.node_evidence(node),
                    scene.plane_evidence(scene.pool.witness.clone(), text),
                ],
                nodes: vec![slot.owner.clone()],
                unseen: Vec::new(),
                cause: "--service-cluster-ip-range lies in the pod range: kube-proxy takes packets for pods as packets for services."
                    .to_owned(),
                remedy: "Move the node to a CIDR outside of the service range (node swap), and give kube-controller-manager \
                         --service-cluster-ip-range, so that it leaves it out."
                    .to_owned(),
                changed_at: Some(node.changed_at),
                trigger: Trigger::ControlPlane,
            });
        }
    }
}

fn with_node_network(scene: &Scene<'_>, clashes: &mut Vec<Clash>) {
    if !scene.census.address_inside() {
        return;
    }
    for node in scene.plane.nodes.values() {
        for address in &node.internal_ips {
            for slot in scene.book.overlapping((*address).into()) {
                let Some(owner) = scene.node(&slot.owner).filter(|_| !unused(scene, &slot.owner)) else {
                    continue;
                };
                clashes.push(Clash {
                    subject: Subject::Range(slot.cidr),
                    severity: Severity::Critical,
                    summary: format!(
                        "InternalIP {address} of {} is inside the pod CIDR {} of {}",
                        node.name, slot.cidr, slot.owner
                    ),
                    rows: vec![row(slot, format!("contains {address} of {}", node.name))],
                    evidence: vec![scene.node_evidence(owner), scene.node_evidence(node)],
                    nodes: vec![slot.owner.clone(), node.name.clone()],
                    unseen: Vec::new(),
                    cause: "The pod range and the nodes' network overlap.".to_owned(),
                    remedy:
                        "Choose a --cluster-cidr apart from the nodes' network and move the nodes to it, one at a time."
                            .to_owned(),
                    changed_at: node.changed_at.max(owner.changed_at).into(),
                    trigger: Trigger::ControlPlane,
                });
            }
        }
    }
}

/// By the interfaces' addresses. A prefix around a pod CIDR takes nothing that has a route of its own, for the longest
/// wins; what has none is PATH01's, which names the device.
fn with_interfaces(scene: &Scene<'_>, host: &HostState, clashes: &mut Vec<Clash>) {
    let Some(node) = scene.node(&host.node) else { return };
    let Some(facts) = &host.facts else { return };
    if matches!(scene.ipam(node), Ipam::Delegated(_)) {
        return;
    }
    let told = host.claims.iter().any(|claim| claim.code == Code::Host02);
    let bridge = facts.cni.chosen.as_ref().and_then(|config| config.bridge.as_deref());
    let mut left = ROWS;
    for link in facts.links.iter().filter(|link| concerns(link, bridge, told)) {
        for net in &link.addresses {
            let address = net.addr();
            // The nodes' own addresses are `with_node_network`'s; those in its own CIDR are where they belong.
            let known = node.internal_ips.contains(&address);
            if known || node.pod_cidrs.iter().any(|cidr| cidr.contains(&address)) {
                continue;
            }
            for slot in scene
                .book
                .overlapping(address.into())
                .filter(|slot| slot.owner != node.name)
            {
                if left == 0 || unused(scene, &slot.owner) {
                    continue;
                }
                left -= 1;
                clashes.push(Clash {
                    subject: Subject::Host(node.name.clone()),
                    severity: Severity::Error,
                    summary: format!(
                        "{} on {} has {net}, inside the pod CIDR {} of {}",
                        link.name, node.name, slot.cidr, slot.owner
                    ),
                    rows: vec![Affected {
                        prefix: Some(slot.cidr),
                        node: Some(node.name.clone()),
                        detail: format!("{} has {net}", link.name),
                    }],
                    evidence: vec![
                        scene.kernel_evidence(host, format!("{net} dev {}", link.name)),
                        Evidence {
                            source: format!("Node {}", slot.owner),
                            text: format!("spec.podCIDRs {}", slot.cidr),
                            observed_at: scene.plane.observed_at,
                            stale: scene.plane.problem.is_some(),
                        },
                    ],
                    nodes: vec![node.name.clone(), slot.owner.clone()],
                    unseen: Vec::new(),
                    cause: "A network of this host (Docker, a VPN, a leftover bridge) uses addresses of the pod range."
                        .to_owned(),
                    remedy: format!(
                        "Give {} on {} other addresses, or remove it: ip link show dev {}",
                        link.name, node.name, link.name
                    ),
                    changed_at: Some(facts.observed_at),
                    trigger: Trigger::Host,
                });
            }
        }
    }
}

/// The CNI's bridge and tunnel are the agent's HOST02; so are others, once it says so.
fn concerns(link: &LinkFact, bridge: Option<&str>, told: bool) -> bool {
    match link.role {
        LinkRole::Loopback | LinkRole::PodPort => false,
        LinkRole::Bridge | LinkRole::Tunnel => !told && bridge != Some(link.name.as_str()) && link.vxlan.is_none(),
        LinkRole::Uplink | LinkRole::Other => true,
    }
}
