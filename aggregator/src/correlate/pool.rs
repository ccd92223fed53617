//! What the rules about the range share: who relies on it, who names it, what is left of it;
//! and the same for people.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Trigger};
use ipnet::IpNet;
use jiff::Timestamp;

use super::words::list;
use super::{Scene, allocator, disagree, exhausted, family as families, low, mask};
use crate::cluster::NodeRecord;
use crate::cluster::objects::{PoolMetric, Resource};
use crate::ipam::Ipam;
use crate::ipam::arithmetic::{self, Count, Growth};
use crate::ipam::witness::{self, Stance, Users, Witness};
use crate::ledger::Fate;
use crate::summary::{PoolNode, PoolRange, PoolReport, PoolWitness};

/// One range of the pool, counted.
#[derive(Debug, Clone)]
pub struct Space {
    /// The range.
    pub range: IpNet,
    /// Who named it.
    pub witness: String,
    /// Prefix length of a block.
    pub mask: u8,
    /// Somebody stated that length.
    pub stated: bool,
    /// The figures.
    pub count: Count,
    /// It is a ClusterCIDR's, not kube-controller-manager's.
    pub cluster_cidr: bool,
}

impl Space {
    /// "ipv4" or "ipv6": what findings about it are told apart by.
    pub fn family(&self) -> &'static str {
        family(&self.range)
    }
}

/// The frame of a claim about the range.
pub fn claim(code: Code, subject: &str) -> Claim {
    Claim {
        code,
        subject: subject.to_owned(),
        severity: code.entry().severity,
        nodes: Vec::new(),
        summary: String::new(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: Vec::new(),
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: None,
        trigger: Trigger::ControlPlane,
    }
}

/// "ipv4" or "ipv6".
pub fn family(net: &IpNet) -> &'static str {
    if net.addr().is_ipv4() { "ipv4" } else { "ipv6" }
}

/// What the rules about the range share, made once for all of them.
#[derive(Debug)]
pub struct Ground {
    /// Who relies on spec.podCIDR.
    pub users: Users,
    /// Everybody who names a range.
    pub witnesses: Vec<Witness>,
    /// The ranges.
    pub spaces: Vec<Space>,
    /// Growth.
    pub growth: Growth,
    /// Pods of CNI daemons are yet to be listed.
    unlisted: bool,
}

impl Ground {
    /// From what is counted of the Nodes.
    pub fn new(scene: &Scene<'_>) -> Self {
        let users = scene.census.users();
        Self {
            users,
            witnesses: witness::witnesses(scene.pool, &scene.plane.around, users, &supernet(scene)),
            spaces: spaces(scene),
            growth: growth_of(scene),
            unlisted: scene.plane.around.unlisted(Resource::CniPods),
        }
    }

    /// Whether the Nodes take their CIDRs of the ranges that kube-controller-manager allocates from, as
    /// far as can be seen. Where nothing is seen of any CNI, Nodes that have CIDRs of the pool show it.
    pub fn built_in(&self) -> bool {
        let foreign = self.spaces.iter().any(|space| space.cluster_cidr);
        let nothing = self.users.delegated == 0 && !self.unlisted;
        let by_peers = nothing && self.spaces.iter().any(|space| space.count.used > 0);
        !foreign && !self.users.gke && (self.users.pod_cidr > self.users.delegated || by_peers)
    }

    /// Whether a node relies on its spec.podCIDR: it is seen to, or nothing is seen and its peers do.
    pub fn relies(&self, ipam: &Ipam) -> bool {
        match ipam {
            Ipam::PodCidr => true,
            Ipam::Unclear(_) => self.built_in(),
            Ipam::Delegated(_) | Ipam::NoDataPlane(_) => false,
        }
    }

    /// Nodes that rely on a CIDR and have none, by name.
    pub fn waiting<'a>(&self, scene: &Scene<'a>) -> impl Iterator<Item = &'a NodeRecord> {
        let waiting = scene.census.waiting().filter_map(|name| scene.node(name));
        waiting.filter(|node| self.relies(&scene.ipam(node)))
    }

    /// kube-controller-manager's own ranges of one family.
    pub fn of_family(&self, family: &str) -> impl Iterator<Item = &Space> {
        self.spaces
            .iter()
            .filter(move |space| !space.cluster_cidr && space.family() == family)
    }
}

/// All claims about the range: POOL04 to POOL07, POOL09 and POOL10.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    let mut claims = exhausted::claims(scene, ground);
    claims.extend(low::claims(scene, ground));
    claims.extend(families::claims(scene, ground));
    claims.extend(mask::claims(scene, ground));
    claims.extend(allocator::claim(scene, ground));
    claims.extend(disagree::claims(scene, ground));
    claims
}

/// What became of a claim about the range that is not made any more; `None`: it is not one of [`claims`].
pub fn fate(scene: &Scene<'_>, ground: &Ground, claim: &Claim, row: Option<&Affected>) -> Option<Fate> {
    Some(match claim.code {
        Code::Pool04 => exhausted::fate(scene, ground, claim, row),
        Code::Pool05 => low::fate(scene, ground, claim),
        Code::Pool06 => families::fate(scene, claim),
        Code::Pool07 => mask::fate(scene, ground, row),
        Code::Pool09 => allocator::fate(scene, ground, row),
        Code::Pool10 => disagree::fate(scene, ground, claim),
        _ => return None,
    })
}

/// Its node pools have ranges and masks of their own.
pub fn on_gke(node: &NodeRecord) -> bool {
    node.labels.keys().any(|key| key.starts_with("cloud.google.com/gke-"))
        || node
            .kubelet_version
            .as_deref()
            .is_some_and(|version| version.contains("-gke."))
}

/// What kube-controller-manager's metrics say of a range, the newest and fullest word.
pub fn metric<'a>(scene: &Scene<'a>, range: IpNet) -> Option<&'a PoolMetric> {
    let of_range = scene
        .plane
        .around
        .pool_metrics
        .iter()
        .filter(|metric| metric.range.trunc() == range.trunc());
    // Instances that do not lead have no figures.
    let counted = of_range.filter(|metric| metric.usage.is_some_and(f64::is_finite));
    counted.max_by(|a, b| a.usage.partial_cmp(&b.usage).unwrap_or(std::cmp::Ordering::Equal))
}

/// Blocks that it counts as used; `None`: it has blocks of another size, or does not say.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
pub fn counted(metric: &PoolMetric, capacity: u64) -> Option<u64> {
    let max = metric.max.unwrap_or(capacity);
    let ratio = metric.usage?.clamp(0.0, 1.0);
    // A ratio of at most 2^16 blocks (reference A) is exact in an f64.
    (max == capacity).then(|| (ratio * max as f64).round() as u64)
}

fn growth_of(scene: &Scene<'_>) -> Growth {
    let (created, undated) = scene.census.created();
    arithmetic::growth(created, undated, scene.now)
}

/// Smallest range of each family that holds every node's CIDR.
fn supernet(scene: &Scene<'_>) -> Vec<IpNet> {
    [true, false]
        .into_iter()
        .filter_map(|v4| scene.census.supernet(v4))
        .collect()
}

/// Service ranges of which no node gets a block.
fn services<'a>(scene: &Scene<'a>, cluster_cidr: bool) -> &'a [IpNet] {
    match cluster_cidr {
        true => &scene.pool.service_ranges,
        false => witness::left_out(scene.pool, &scene.plane.around),
    }
}

fn spaces(scene: &Scene<'_>) -> Vec<Space> {
    let counted = |range: IpNet, mask, stated, witness, cluster_cidr| {
        let services = services(scene, cluster_cidr);
        Space {
            range,
            witness,
            mask,
            stated,
            count: count_of(scene, range, mask, services),
            cluster_cidr,
        }
    };
    if !scene.pool.ranges.is_empty() {
        let pool = scene.pool;
        let space = |range: &IpNet| {
            let stated = if range.addr().is_ipv4() {
                pool.mask_v4
            } else {
                pool.mask_v6
            };
            let asked = stated.or_else(|| usual_mask(scene, range));
            let mask = arithmetic::block_mask(range, asked, asked);
            counted(*range, mask, stated.is_some(), pool.witness.clone(), false)
        };
        return pool.ranges.iter().map(space).collect();
    }
    let mut spaces = Vec::new();
    for object in &scene.plane.around.delegates.cluster_cidrs {
        for range in [object.v4, object.v6].into_iter().flatten() {
            let mask = range.max_prefix_len().saturating_sub(object.per_node_host_bits);
            let mask = arithmetic::block_mask(&range, Some(mask), Some(mask));
            spaces.push(counted(range, mask, true, format!("ClusterCIDR {}", object.name), true));
        }
    }
    spaces
}

/// Counts a range in blocks of `mask`.
fn count_of(scene: &Scene<'_>, range: IpNet, mask: u8, services: &[IpNet]) -> Count {
    let v4 = range.addr().is_ipv4();
    let lengths = scene.census.lengths(v4);
    let inside = scene.census.supernet(v4).is_none_or(|net| range.contains(&net));
    let apart = || {
        services
            .iter()
            .all(|service| scene.book.overlapping(*service).next().is_none())
    };
    // As in nearly every cluster, each node's CIDR is one block of its own: how many there are is known.
    if inside && lengths.keys().all(|length| *length == mask) && apart() {
        let used = lengths.values().map(|count| *count as u64).sum();
        let others = arithmetic::count(range, mask, std::iter::empty(), services);
        return Count {
            used,
            free: others.free.saturating_sub(used),
            ..others
        };
    }
    arithmetic::count(range, mask, scene.census.cidrs(), services)
}

/// The mask that more than half of the nodes' CIDRs of this range have.
fn usual_mask(scene: &Scene<'_>, range: &IpNet) -> Option<u8> {
    let v4 = range.addr().is_ipv4();
    let mut lengths = scene.census.lengths(v4).keys();
    if let (Some(only), None) = (lengths.next(), lengths.next())
        && scene.census.supernet(v4).is_some_and(|net| range.contains(&net))
    {
        return Some(*only);
    }
    let mut masks: BTreeMap<u8, usize> = BTreeMap::new();
    for slot in scene.book.slots.iter().filter(|slot| range.contains(&slot.cidr)) {
        *masks.entry(slot.cidr.prefix_len()).or_default() += 1;
    }
    let all: usize = masks.values().sum();
    masks
        .into_iter()
        .find(|(_, count)| count * 2 > all)
        .map(|(mask, _)| mask)
}

/// The pool and who has what of it.
pub fn report(scene: &Scene<'_>) -> PoolReport {
    let ground = Ground::new(scene);
    PoolReport {
        unknown: ground.spaces.is_empty().then(|| unknown(scene, &ground)),
        ranges: ground.spaces.iter().map(|space| range(scene, &ground, space)).collect(),
        nodes: nodes(scene, &ground.spaces),
        service_ranges: scene.pool.service_ranges.clone(),
        witnesses: ground
            .witnesses
            .iter()
            .map(|witness| PoolWitness {
                who: witness.who.clone(),
                ranges: witness.ranges.clone(),
                stance: witness.stance.word().to_owned(),
                why: witness.why.clone(),
            })
            .collect(),
        growth: growth(&ground),
    }
}

fn unknown(scene: &Scene<'_>, ground: &Ground) -> String {
    let around = &scene.plane.around;
    let mut text = if !around.managers.is_empty() {
        "no instance of kube-controller-manager allocates node CIDRs".to_owned()
    } else {
        let why = around.unseen(Resource::ManagerPods);
        let why = why.unwrap_or_else(|| "kube-controller-manager is not a pod of this cluster".to_owned());
        format!("--cluster-cidr was not given and cannot be seen: {why}")
    };
    let named = ground
        .witnesses
        .iter()
        .filter(|witness| !witness.ranges.is_empty() && matches!(witness.stance, Stance::Agrees | Stance::Disagrees));
    for witness in named {
        text.push_str(&format!("; {} says {}", witness.who, list(&witness.ranges)));
    }
    text
}

/// Blocks that kube-controller-manager counts as used and no Node accounts for; `None`: it was not asked.
pub fn leaked(scene: &Scene<'_>, space: &Space) -> Option<u64> {
    let held = space.count.used.saturating_add(space.count.service);
    let by_metric = counted(metric(scene, space.range)?, space.count.capacity)?;
    Some(by_metric.saturating_sub(held))
}

/// Blocks that it can still give out.
pub fn left(scene: &Scene<'_>, space: &Space) -> u64 {
    space.count.free.saturating_sub(leaked(scene, space).unwrap_or(0))
}

fn range(scene: &Scene<'_>, ground: &Ground, space: &Space) -> PoolRange {
    let count = space.count;
    let leaked = leaked(scene, space);
    let free = left(scene, space);
    let cidrs = scene.book.slots.iter().map(|slot| slot.cidr);
    let pods = scene.plane.around.pods.values().flat_map(|pods| &pods.pods);
    let addresses = pods.flat_map(|pod| pod.addresses.iter());
    PoolRange {
        range: space.range,
        witness: space.witness.clone(),
        node_mask: space.mask,
        mask_stated: space.stated,
        capacity: count.capacity,
        used: count.used,
        service: count.service,
        partial: count.partial,
        leaked,
        // Where others allocate, pods of the same range are nothing left over.
        left_over: if ground.users.delegated == 0 {
            let services = services(scene, space.cluster_cidr);
            arithmetic::left_over(space.range, space.mask, cidrs, services, addresses)
        } else {
            0
        },
        free,
        headroom: Count { free, ..count }.headroom(),
        full_in_days: ground.growth.days(free),
    }
}

/// Growth in words.
pub fn growth(ground: &Ground) -> String {
    let days = arithmetic::WINDOW_DAYS;
    match &ground.growth {
        Growth::Unknown(why) => format!("unknown: {why}"),
        Growth::Fixed => format!("no Node came in the last {days} days"),
        Growth::Few(new) => format!("{new} Nodes came in the last {days} days, which is no trend"),
        Growth::Nodes(new) => {
            format!("{new} Nodes came in the last {days} days and still stand; those that went are not seen")
        }
    }
}

fn nodes(scene: &Scene<'_>, spaces: &[Space]) -> Vec<PoolNode> {
    let slots = scene.book.in_order();
    slots
        .map(|slot| {
            let overlaps: BTreeSet<String> = scene
                .book
                .overlapping(slot.cidr)
                .filter(|other| other.owner != slot.owner)
                .map(|other| format!("{} {}", other.owner, other.cidr))
                .collect();
            let in_pool = spaces.iter().any(|space| space.range.contains(&slot.cidr));
            PoolNode {
                node: slot.owner.clone(),
                cidr: slot.cidr,
                in_pool: (!spaces.is_empty()).then_some(in_pool),
                overlaps: overlaps.into_iter().collect(),
            }
        })
        .collect()
}

/// When an event was told so long ago that the API server has forgotten others of its time: its default --event-ttl.
pub const EVENT_TTL: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Whether an event is of the last hour. One without a time says nothing.
pub fn recent(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_some_and(|last| now.duration_since(last) <= EVENT_TTL)
}
