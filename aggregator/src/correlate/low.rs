//! POOL05: the pool has little room left. What counts is whether anybody will need the room:
//! a cluster that does not grow may live with a nearly full pool for years.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, Severity};
use ipnet::IpNet;

use super::Scene;
use super::pool::{self, Ground, Space};
use super::words::list;
use crate::ipam::arithmetic::Growth;
use crate::ledger::Fate;

/// Fewer nodes than this are a small cluster: what it lacks is counted by hand.
const SMALL: u64 = 8;

/// Days in which a wider range can be planned and rolled out.
const SOON: u64 = 90;

/// Figures of one family.
struct Room {
    used: u64,
    free: u64,
    /// What a rolling upgrade needs: a tenth of the nodes at a time, at least one.
    reserve: u64,
    days: Option<u64>,
}

fn room(ground: &Ground, spaces: &[&Space]) -> Room {
    let sum = |of: fn(&Space) -> u64| spaces.iter().fold(0u64, |sum, space| sum.saturating_add(of(space)));
    let used = sum(|space| space.count.used);
    // Leaks are not taken off: metrics are read now and then, and Nodes that went since would look like one.
    let free = sum(|space| space.count.free);
    Room {
        used,
        free,
        reserve: used.div_ceil(10).max(1),
        days: ground.growth.days(free),
    }
}

/// How bad it is; `None`: nothing to tell.
fn judge(room: &Room, growth: &Growth) -> Option<Severity> {
    let soon = room.days.is_some_and(|days| days <= SOON);
    // None left is POOL04's. Creation times show a growth of half the nodes a month at most, by which room for as many
    // again lasts for 60 days or more: enough where it is not seen to be full soon.
    if room.free == 0 || room.used == 0 || (room.free >= room.used && !soon) {
        return None;
    }
    let tight = room.free < room.reserve;
    match growth {
        Growth::Nodes(_) if soon => Some(Severity::Warning),
        _ if room.used < SMALL => None,
        // It has not grown for a month: only that an upgrade cannot add nodes first is worth a word.
        Growth::Fixed => tight.then_some(Severity::Info),
        Growth::Nodes(_) | Growth::Few(_) | Growth::Unknown(_) => Some(Severity::Warning),
    }
}

/// One claim for each family that is short.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    if !ground.built_in() {
        return Vec::new();
    }
    let families = ["ipv4", "ipv6"].into_iter();
    families.filter_map(|family| of_family(scene, ground, family)).collect()
}

fn of_family(scene: &Scene<'_>, ground: &Ground, family: &str) -> Option<Claim> {
    let spaces: Vec<&Space> = ground.of_family(family).collect();
    let room = room(ground, &spaces);
    let severity = judge(&room, &ground.growth)?;
    let ranges: Vec<IpNet> = spaces.iter().map(|space| space.range).collect();
    let mut claim = pool::claim(Code::Pool05, family);
    claim.severity = severity;
    let until = match room.days {
        Some(days) => format!(", and it is full in {days} days at the growth of the last month"),
        None => String::new(),
    };
    claim.summary = format!(
        "{} nodes have a CIDR of {}, and {} more fit{until}",
        room.used,
        list(&ranges),
        room.free
    );
    for space in &spaces {
        let text = format!(
            "{} of {} blocks /{} of {} are free",
            space.count.free, space.count.capacity, space.mask, space.range
        );
        claim.evidence.push(scene.plane_evidence(space.witness.clone(), text));
        if !space.stated {
            claim
                .unseen
                .push(format!("--node-cidr-mask-size: /{} is what the nodes have", space.mask));
        }
    }
    claim
        .evidence
        .push(scene.plane_evidence("creation times of the Nodes".to_owned(), pool::growth(ground)));
    let tight = room.free < room.reserve;
    claim.cause = if tight {
        format!(
            "The range was sized for fewer nodes. An upgrade that adds a tenth of them ({}) before it removes old ones does \
             not fit.",
            room.reserve
        )
    } else if room.free < room.used {
        "The range was sized for fewer nodes: less than twice the present number fits.".to_owned()
    } else {
        "The range was sized for slower growth: twice the present number fits, and at this pace that is not for long."
            .to_owned()
    };
    claim.remedy =
        "Nothing fails today. Delete Node objects of machines that are gone, and plan a wider --cluster-cidr that \
                    contains the present one while there is time. Do not make the node mask longer on a living cluster \
                    (POOL07)."
            .to_owned();
    Some(claim)
}

/// What became of it, by figures.
pub fn fate(scene: &Scene<'_>, ground: &Ground, claim: &Claim) -> Fate {
    if ground.spaces.is_empty() {
        return Fate::Unseen("how much room is left cannot be told: the pool is not known".to_owned());
    }
    let spaces: Vec<&Space> = ground.of_family(&claim.subject).collect();
    let room = room(ground, &spaces);
    let figures = format!("{} node CIDRs are used and {} free", room.used, room.free);
    Fate::Gone(format!("{}: {figures}", scene.plane.source))
}
