//! The verdict for one (source node, pod CIDR) pair.

use cidrift_proto::catalogue::Code;
use cidrift_proto::landing::{ForwardingEntry, Landing, Via};
use cidrift_proto::verdict::{CidrVerdict, Standing, Verdict};

use super::Scene;
use super::book::Slot;
use super::coverage::deciding;
use super::habit::{self, Habit, Seen};
use super::tunnel;
use crate::cluster::{HostState, NodeRecord, ReportState};
use crate::ipam::Ipam;

/// Why nothing can be said of a whole source, or the host to look at.
pub type Visible<'a> = Result<&'a HostState, String>;

/// One part of a CIDR: the entry that decides for it, and what that means.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The entry; `None`: no entry covers it.
    pub entry: Option<&'a ForwardingEntry>,
    /// Where it lands.
    pub verdict: Verdict,
    /// The rule that this breaks.
    pub fault: Option<Code>,
}

/// What is so with one pair.
#[derive(Debug, Clone)]
pub struct Judged<'a> {
    /// The worst part's verdict.
    pub verdict: Verdict,
    /// The rule that the worst part breaks.
    pub fault: Option<Code>,
    /// All parts, widest first.
    pub parts: Vec<Part<'a>>,
}

impl Judged<'_> {
    fn unknown(reason: String) -> Self {
        Self {
            verdict: Verdict::Unknown { reason },
            fault: None,
            parts: Vec::new(),
        }
    }
}

/// Why nothing can be said of a node that no agent has reported for.
pub const NEVER: &str = "its agent has never reported";

/// The host whose view of the routes can be judged, or why there is none.
pub fn visible<'a>(scene: &Scene<'a>, source: &NodeRecord) -> Visible<'a> {
    let Some(host) = scene.hosts.get(&source.name) else {
        return Err(NEVER.to_owned());
    };
    match host.report(scene.now, scene.silence) {
        ReportState::Silent => Err(format!("its agent has not been heard of since {}", host.heard_at)),
        _ if host.rivalry(scene.now).is_some() => Err(host.rivalry(scene.now).unwrap_or_default().to_owned()),
        _ if host.whole => Ok(host),
        _ => Err(host
            .lost
            .clone()
            .unwrap_or_else(|| "its agent's view is not whole yet".to_owned())),
    }
}

/// A node that sends, with all that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its Node.
    pub node: &'a NodeRecord,
    /// Its view.
    pub host: &'a HostState,
    /// What may be expected of it.
    pub habit: &'a Habit,
    /// What its routes showed so far.
    pub seen: &'a Seen,
}

/// Judges where packets from `source` to `slot` land. `since` is the revision of the
/// expectation in which the slot first was of interest.
pub fn judge<'a>(scene: &Scene<'a>, source: Source<'a>, slot: &Slot, since: u64) -> Judged<'a> {
    let Source { node, host, habit, .. } = source;
    let Some(owner) = scene.node(&slot.owner) else {
        return Judged::unknown(format!("Node {} is not known", slot.owner));
    };
    if host.expectation < since {
        return Judged::unknown("its agent has not reported on this CIDR yet".to_owned());
    }
    if !slot.contested.is_empty() {
        return Judged::unknown(format!(
            "claimed by two nodes: {} and {}",
            slot.owner,
            slot.contested.join(", ")
        ));
    }
    match &habit.ipam {
        Ipam::Delegated(why) | Ipam::NoDataPlane(why) => {
            return Judged::unknown(format!("spec.podCIDR means nothing on {}: {why}", node.name));
        }
        Ipam::PodCidr | Ipam::Unclear(_) => {}
    }
    if owner.name != node.name
        && let Ipam::Delegated(why) | Ipam::NoDataPlane(why) = scene.ipam(owner)
    {
        return Judged::unknown(format!("spec.podCIDR means nothing on {}: {why}", owner.name));
    }
    let (entries, gap) = deciding(&host.forwarding, slot.cidr);
    let pair = Pair {
        scene,
        source,
        slot,
        owner,
    };
    let mut parts: Vec<Part<'a>> = entries
        .into_iter()
        .map(|entry| {
            let (verdict, fault) = pair.entry(entry, &entry.landing);
            Part {
                entry: Some(entry),
                verdict,
                fault,
            }
        })
        .collect();
    if gap {
        let (verdict, fault) = pair.none("no route at all".to_owned());
        let part = Part {
            entry: None,
            verdict,
            fault,
        };
        parts.insert(0, part);
    }
    if owner.name == node.name {
        return own(slot, host, &habit.ipam, parts);
    }
    let worst = parts.iter().max_by_key(|part| rank(&part.verdict));
    let (verdict, fault) = match worst {
        Some(part) => (part.verdict.clone(), part.fault),
        None => pair.none("no route at all".to_owned()),
    };
    let unclear = match &habit.ipam {
        Ipam::Unclear(why) => Some(why),
        _ => None,
    };
    match (verdict.standing(), unclear) {
        (Standing::Broken, Some(why)) => Judged {
            verdict: Verdict::Unknown {
                reason: format!("{verdict}; but {why}"),
            },
            fault: None,
            parts,
        },
        _ => Judged { verdict, fault, parts },
    }
}

/// As the query answers it. `source` is `None` where its view cannot be judged, for `reason`.
pub fn report(
    scene: &Scene<'_>,
    node: &NodeRecord,
    source: Result<Source<'_>, String>,
    slot: &Slot,
    since: u64,
) -> CidrVerdict {
    let judged = match source {
        Ok(source) => {
            // The scene and the source must live equally long to be judged together.
            let judged = judge(scene, source, slot, since);
            let verdict = looped(scene, node, slot, &judged.verdict).unwrap_or_else(|| judged.verdict.clone());
            let landings = judged.parts.iter().filter_map(|part| part.entry.cloned()).collect();
            (verdict, landings)
        }
        Err(reason) => (Verdict::Unknown { reason }, Vec::new()),
    };
    CidrVerdict {
        source: node.name.clone(),
        owner: slot.owner.clone(),
        cidr: slot.cidr,
        verdict: judged.0,
        landings: judged.1,
        observed_at: scene.hosts.get(&node.name).and_then(HostState::seen_at),
    }
}

/// Nodes that a packet is followed through: more than any real chain of wrong routes.
const HOPS: usize = 8;

/// Follows a misdelivered packet from node to node; a loop, if it comes back to where it started.
pub fn looped(scene: &Scene<'_>, source: &NodeRecord, slot: &Slot, verdict: &Verdict) -> Option<Verdict> {
    let Verdict::Misdelivered { to } = verdict else {
        return None;
    };
    if *to == source.name {
        return None;
    }
    let mut path = vec![source.name.clone(), to.clone()];
    while path.len() <= HOPS {
        let host = scene.host(path.last()?)?;
        let (entries, _) = deciding(&host.forwarding, slot.cidr);
        let next = entries.iter().find_map(|entry| match &entry.landing {
            Landing::Underlay { address, .. } => scene.book.owners_of_address(*address).first(),
            _ => None,
        })?;
        if *next == slot.owner {
            return None;
        }
        let back = *next == source.name;
        if !back && path.contains(next) {
            return None;
        }
        path.push(next.clone());
        if back {
            return Some(Verdict::Loop {
                reason: path.join(" → "),
            });
        }
    }
    None
}

/// Which of two parts is worse.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Delivered | Verdict::Local | Verdict::Idle => 0,
        Verdict::Opaque { .. } => 1,
        Verdict::Unknown { .. } => 2,
        Verdict::LeavesCluster { .. } => 3,
        Verdict::NoRoute { .. } => 4,
        Verdict::Blackholed { .. } => 5,
        Verdict::Misdelivered { .. } => 6,
        Verdict::Loop { .. } => 7,
    }
}

/// The source's own CIDR. What is wrong with it is the agent's HOST04; here it is
/// only said whether pods' addresses are seen to stay on the node.
fn own<'a>(slot: &Slot, host: &HostState, ipam: &Ipam, parts: Vec<Part<'a>>) -> Judged<'a> {
    // The host's own addresses (a tunnel device's /32) say nothing about its pods.
    let local = |part: &Part<'_>| {
        part.entry
            .is_some_and(|entry| matches!(entry.landing, Landing::Local { .. }))
    };
    let ports = host.facts.as_ref().map_or(0, |facts| facts.links_omitted);
    let verdict = match parts
        .iter()
        .filter(|part| part.verdict.standing() == Standing::Broken)
        .max_by_key(|part| rank(&part.verdict))
    {
        Some(broken) => broken.verdict.clone(),
        None if parts.iter().any(local) => Verdict::Local,
        None => match parts.iter().max_by_key(|part| rank(&part.verdict)) {
            Some(part) if matches!(part.verdict, Verdict::Opaque { .. }) => part.verdict.clone(),
            _ if host.claims.iter().any(|claim| claim.code == Code::Host04) => Verdict::Unknown {
                reason: format!("HOST04/{} says why it is not delivered there", host.node),
            },
            _ if matches!(ipam, Ipam::PodCidr) && parts.iter().all(|part| nothing_meant(slot, part)) => match ports {
                0 => Verdict::Idle,
                ports => Verdict::Unknown {
                    reason: format!("{ports} ports of pods are there, but no route leads to any"),
                },
            },
            Some(part) => part.verdict.clone(),
            None => Verdict::Unknown {
                reason: "no route of its own".to_owned(),
            },
        },
    };
    Judged {
        verdict,
        fault: None,
        parts,
    }
}

/// No route to pods is meant for this part of the slot: only a wider one takes it,
/// none does, or it is an address of the host's own.
fn nothing_meant(slot: &Slot, part: &Part<'_>) -> bool {
    part.entry.is_none_or(|entry| {
        matches!(entry.landing, Landing::NoRoute | Landing::Host { .. })
            || entry.meant_for().prefix_len() < slot.cidr.prefix_len()
    })
}

struct Pair<'s, 'a> {
    scene: &'s Scene<'a>,
    source: Source<'a>,
    slot: &'s Slot,
    owner: &'s NodeRecord,
}

type Said = (Verdict, Option<Code>);

impl Pair<'_, '_> {
    fn own(&self) -> bool {
        self.owner.name == self.source.node.name
    }

    /// There is no route meant for this CIDR; `instead` says what takes it.
    fn none(&self, instead: String) -> Said {
        if self.own() {
            return unknown("no route of its own".to_owned());
        }
        match habit::expects(
            self.source.host,
            self.source.habit,
            self.source.seen,
            self.owner,
            self.slot.cidr,
        ) {
            Ok(_) => (Verdict::NoRoute { reason: instead }, Some(Code::Path01)),
            Err(why) => unknown(format!("no route of its own ({instead}); {why}")),
        }
    }

    fn entry(&self, entry: &ForwardingEntry, landing: &Landing) -> Said {
        if let Landing::Opaque { reason, .. } = landing {
            return (Verdict::Opaque { reason: reason.clone() }, None);
        }
        if let Landing::Multipath { legs } = landing {
            let said = legs.iter().map(|leg| self.entry(entry, &leg.landing));
            return said
                .max_by_key(|(verdict, _)| rank(verdict))
                .unwrap_or_else(|| unknown("a multipath route without legs".to_owned()));
        }
        if let Landing::Underlay { address, .. } = landing
            && !self.own()
            && self.is_owners(*address)
        {
            if let Some(reason) = self.not_taken(*address, landing) {
                return unknown(reason);
            }
            return tunnel::agrees(self.scene, self.source.host, self.owner, landing)
                .map_or((Verdict::Delivered, None), |reason| {
                    (Verdict::Blackholed { reason }, Some(Code::Path06))
                });
        }
        if matches!(landing, Landing::NoRoute) {
            return self.none("no route at all".to_owned());
        }
        if self.scene.book.aggregate(entry.meant_for(), self.slot, self.scene.pool) {
            return self.aggregate(entry, landing);
        }
        self.specific(entry, landing)
    }

    /// An underlay address of the owner: by its Node, or one more that its own agent
    /// sees on its host (a second interface or address) and that is no other Node's.
    fn is_owners(&self, address: std::net::IpAddr) -> bool {
        match self.scene.book.owners_of_address(address) {
            [] => tunnel::holds(self.scene, self.owner, address) == Some(true),
            owners => owners.contains(&self.owner.name),
        }
    }

    /// Why the owner's host does not take what is sent to this address of it.
    fn not_taken(&self, address: std::net::IpAddr, landing: &Landing) -> Option<String> {
        let owner = &self.owner.name;
        // What flannel announces may be translated on the way.
        let announced = self.owner.flannel.as_ref().and_then(|flannel| flannel.public_ip);
        let internal = self.owner.internal_ips.contains(&address);
        let translated = announced.is_some_and(|public| !self.owner.internal_ips.contains(&public));
        if internal && !translated && tunnel::holds(self.scene, self.owner, address) == Some(false) {
            return Some(format!(
                "{address} is {owner}'s InternalIP, but its agent sees it on no link of {owner}"
            ));
        }
        tunnel::closed(self.scene, self.owner, landing)
    }

    /// A route that is not meant for this CIDR alone.
    fn aggregate(&self, entry: &ForwardingEntry, landing: &Landing) -> Said {
        let prefix = entry.meant_for();
        let route = if prefix.prefix_len() == 0 {
            format!("falls to the default route, {landing}")
        } else {
            format!("falls to {prefix} {landing}")
        };
        if self.own() {
            return unknown(route);
        }
        match (self.none(route), landing) {
            // Dropped is dropped, whatever the data plane is used to do, if somebody meant the pod range.
            ((Verdict::Unknown { .. }, _), Landing::Discard { how }) if prefix.prefix_len() > 0 => (
                Verdict::Blackholed {
                    reason: format!("{how} {prefix}"),
                },
                Some(Code::Path04),
            ),
            (said, _) => said,
        }
    }

    /// A route that is meant for this CIDR, or for a part of it.
    fn specific(&self, entry: &ForwardingEntry, landing: &Landing) -> Said {
        let prefix = entry.meant_for();
        match landing {
            Landing::Host { .. } | Landing::Local { .. } if self.own() => (Verdict::Local, None),
            Landing::Host { .. } | Landing::Local { .. } => {
                if prefix.prefix_len() < self.slot.cidr.prefix_len() {
                    return unknown(format!(
                        "{prefix} is {landing}: its segment may reach further than this host"
                    ));
                }
                (
                    Verdict::Misdelivered {
                        to: self.source.node.name.clone(),
                    },
                    Some(Code::Path02),
                )
            }
            Landing::Onlink { device } => unknown(format!(
                "{prefix} is on-link on the underlay ({device}): each address is asked for there"
            )),
            Landing::Underlay { address, via } => self.underlay(*address, via, landing),
            // The base of a node that routes each pod by its own /32 (flannel's --ip-blackhole-route, Calico's blocks).
            Landing::Discard { how } if self.own() => unknown(format!("{how} {prefix}")),
            Landing::Discard { how } => (
                Verdict::Blackholed {
                    reason: format!("{how} {prefix}"),
                },
                Some(Code::Path04),
            ),
            Landing::DeadDevice { .. } => (
                Verdict::Blackholed {
                    reason: landing.to_string(),
                },
                Some(Code::Path04),
            ),
            Landing::UnresolvedNeighbour { .. } => {
                if self.owner.ready == Some(false) || self.owner.deleting {
                    return unknown(format!(
                        "{landing}; Node {} is {}",
                        self.owner.name,
                        if self.owner.deleting {
                            "being deleted"
                        } else {
                            "not Ready"
                        }
                    ));
                }
                (
                    Verdict::Blackholed {
                        reason: landing.to_string(),
                    },
                    Some(Code::Path04),
                )
            }
            Landing::NoRoute | Landing::Opaque { .. } | Landing::Multipath { .. } => {
                unknown("judged elsewhere".to_owned())
            }
        }
    }

    /// Handed to an underlay address that is not the owner's.
    fn underlay(&self, address: std::net::IpAddr, via: &Via, landing: &Landing) -> Said {
        let disagree = tunnel::disagrees(self.scene, self.owner, landing).map(|_| Code::Path06);
        let code = Some(disagree.unwrap_or(Code::Path02)).filter(|_| !self.own());
        if let [to, ..] = self.scene.book.owners_of_address(address) {
            return (Verdict::Misdelivered { to: to.clone() }, code);
        }
        let router = matches!(via, Via::Gateway { .. });
        if router && (self.own() || !habit::on_link(self.source.host, self.owner, self.slot.cidr)) {
            return unknown(format!(
                "handed to {address}, which no node owns; a router may know the way"
            ));
        }
        (Verdict::LeavesCluster { to: address }, code)
    }
}

fn unknown(reason: String) -> Said {
    (Verdict::Unknown { reason }, None)
}
