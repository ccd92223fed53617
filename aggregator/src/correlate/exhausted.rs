//! POOL04: no node CIDR is left. The Nodes' arithmetic, kube-controller-manager's events and
//! its metrics are three witnesses, and a finding says which of them agree.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, Severity};
use ipnet::IpNet;

use super::pool::{self, Ground, Space};
use super::words::{count, list};
use super::{Scene, cap_affected};
use crate::cluster::NodeRecord;
use crate::cluster::around::Told;
use crate::cluster::objects::Resource;
use crate::ledger::Fate;

/// The subject where no range is known and only events speak.
const UNKNOWN: &str = "pool";

/// One claim for each family that is exhausted.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    let waiting: Vec<&NodeRecord> = ground.waiting(scene).collect();
    let told: Vec<(&NodeRecord, &Told)> = waiting
        .iter()
        .filter_map(|node| Some((*node, not_available(scene, ground, node)?)))
        .collect();
    if ground.spaces.is_empty() {
        return unknown_range(scene, &told).into_iter().collect();
    }
    if !ground.built_in() {
        return Vec::new();
    }
    let families = ["ipv4", "ipv6"].into_iter().filter_map(|family| {
        let spaces: Vec<&Space> = ground.of_family(family).collect();
        (!spaces.is_empty()).then_some((family, spaces))
    });
    let families: Vec<_> = families.collect();
    let mut claims: Vec<Claim> = families
        .iter()
        .filter_map(|(family, spaces)| of_family(scene, family, spaces, &waiting, &told))
        .collect();
    // The events do not say which family is short; the fuller one is the likelier.
    if claims.is_empty() && !told.is_empty() {
        let fullest = families.iter().min_by_key(|(_, spaces)| {
            spaces
                .iter()
                .fold(0u64, |sum, space| sum.saturating_add(space.count.free))
        });
        claims.extend(fullest.map(|(family, spaces)| make(scene, family, spaces, &waiting, &told)));
    }
    claims
}

/// The event that says so of a node that waits: of the last hour, of this Node and not of one
/// that had its name before, and with no Node that got a CIDR since.
fn not_available<'a>(scene: &Scene<'a>, ground: &Ground, node: &NodeRecord) -> Option<&'a Told> {
    let told = scene.plane.around.allocation.get(&node.name)?.not_available.as_ref()?;
    let last = told.last.filter(|last| pool::recent(Some(*last), scene.now))?;
    // Creation times have whole seconds, and the two clocks may be a few apart.
    let slack = jiff::SignedDuration::from_secs(5);
    if node
        .created_at
        .is_some_and(|created| created > last.checked_add(slack).unwrap_or(last))
    {
        return None;
    }
    let since = scene.plane.nodes.values().any(|other| {
        let later = other.created_at.is_some_and(|created| created > last);
        later && !other.pod_cidrs.is_empty() && ground.relies(&scene.ipam(other))
    });
    (!since).then_some(told)
}

/// What kube-controller-manager's own books say of a range: full or not; `None`: they cannot be read now. What they said
/// once shows neither that there is room nor that there is none.
fn by_metrics(scene: &Scene<'_>, space: &Space) -> Option<bool> {
    if !scene.plane.around.complete(Resource::ManagerMetrics) {
        return None;
    }
    let counted = pool::counted(pool::metric(scene, space.range)?, space.count.capacity)?;
    Some(counted >= space.count.capacity)
}

fn of_family(
    scene: &Scene<'_>,
    family: &str,
    spaces: &[&Space],
    waiting: &[&NodeRecord],
    told: &[(&NodeRecord, &Told)],
) -> Option<Claim> {
    let full = spaces.iter().all(|space| space.count.free == 0);
    let metrics: Vec<bool> = spaces.iter().filter_map(|space| by_metrics(scene, space)).collect();
    let asked = metrics.len() == spaces.len();
    let full_by_metrics = asked && metrics.iter().all(|full| *full);
    let capacity = spaces
        .iter()
        .fold(0u64, |sum, space| sum.saturating_add(space.count.capacity));
    // Its own books show room, nobody waits, and it has not complained: it can allocate.
    let room = asked && !full_by_metrics && waiting.is_empty();
    // A pool of one block is a cluster of one node, and meant to be.
    let single = capacity == 1 && waiting.is_empty();
    // Metrics are read now and then, and a Node that went since looks like a leak: only one that waits shows it.
    let leaked = full_by_metrics && !waiting.is_empty();
    ((full && !room && !single) || (!full && leaked)).then(|| make(scene, family, spaces, waiting, told))
}

/// Blocks that it counts as used and no Node accounts for.
fn lost(scene: &Scene<'_>, spaces: &[&Space]) -> u64 {
    spaces.iter().filter_map(|space| pool::leaked(scene, space)).sum()
}

fn make(
    scene: &Scene<'_>,
    family: &str,
    spaces: &[&Space],
    waiting: &[&NodeRecord],
    told: &[(&NodeRecord, &Told)],
) -> Claim {
    let full = spaces.iter().all(|space| space.count.free == 0);
    let ranges: Vec<IpNet> = spaces.iter().map(|space| space.range).collect();
    let mut claim = pool::claim(Code::Pool04, family);
    claim.severity = if waiting.is_empty() {
        Severity::Warning
    } else {
        Severity::Error
    };
    claim.nodes = waiting.iter().map(|node| node.name.clone()).collect();
    let waits = match waiting.len() {
        0 => String::new(),
        some => format!(", and {} without one", count(some, "node is", "nodes are")),
    };
    claim.summary = format!("no node CIDR is left in {}{waits}", list(&ranges));
    claim.affected = waiting
        .iter()
        .map(|node| Affected {
            prefix: None,
            node: Some(node.name.clone()),
            detail: "has no pod CIDR".to_owned(),
        })
        .collect();
    let mut services = 0;
    for space in spaces {
        let figures = space.count;
        services += figures.service;
        claim.evidence.push(scene.plane_evidence(
            "Nodes".to_owned(),
            format!(
                "{} of {} blocks /{} of {} are in use, the service range takes {}, {} are free",
                figures.used, figures.capacity, space.mask, space.range, figures.service, figures.free
            ),
        ));
        if !space.stated {
            claim
                .unseen
                .push(format!("--node-cidr-mask-size: /{} is what the nodes have", space.mask));
        }
        claim.evidence.extend(metric_evidence(scene, space));
    }
    events(scene, waiting, told, &mut claim);
    let lost = lost(scene, spaces);
    (claim.cause, claim.remedy) = if full && services == 0 {
        (
            "There are as many Nodes with a CIDR as there are blocks. A block stays taken as long as its Node object exists, \
             whether its machine lives or not."
                .to_owned(),
            release(),
        )
    } else if full {
        (
            format!("The blocks are taken, {services} of them by the service range, which lies inside the pool."),
            release(),
        )
    } else if lost > 0 {
        (
            format!(
                "kube-controller-manager counts {lost} blocks as used that no Node has: they leaked when a patch timed out or \
                 the other family of a node had none left."
            ),
            "Restart kube-controller-manager (or move its leadership): it counts anew at its start, and leaked blocks return. \
             Look at POOL02 first: with a node outside the pool it does not come back."
                .to_owned(),
        )
    } else {
        (
            "By the Nodes there are free blocks, and kube-controller-manager says that there are none: it has leaked them, or \
             runs with another --cluster-cidr or --node-cidr-mask-size than is known here."
                .to_owned(),
            "Compare its flags with what `kubectl cidrift pool` shows. If they are the same, restart it: leaked blocks return. \
             Look at POOL02 first: with a node outside the pool it does not come back."
                .to_owned(),
        )
    };
    claim.changed_at = waiting.iter().map(|node| node.changed_at).max();
    claim.affected_total = cap_affected(&mut claim.affected);
    claim.nodes.truncate(cidrift_proto::finding::ROWS);
    claim.evidence.truncate(cidrift_proto::finding::ROWS);
    claim
}

fn release() -> String {
    "Delete Node objects of machines that no longer exist (kubectl get nodes shows those NotReady for long): their blocks \
     return at once, and a node that waits gets one by itself. Be sure that no kubelet runs there: it would go on with a \
     block that another node gets. Lasting: a wider --cluster-cidr that contains the present one."
        .to_owned()
}

fn metric_evidence(scene: &Scene<'_>, space: &Space) -> Option<Evidence> {
    let metric = pool::metric(scene, space.range)?;
    let text = match pool::counted(metric, space.count.capacity) {
        Some(counted) => format!(
            "it counts {counted} of {} blocks of {} as used",
            space.count.capacity, space.range
        ),
        None => format!(
            "it has {} blocks in {}, not {}: its mask is another",
            metric.max.unwrap_or_default(),
            space.range,
            space.count.capacity
        ),
    };
    Some(Evidence {
        source: format!("metrics of {}", metric.manager),
        text,
        observed_at: Some(metric.read_at),
        stale: !scene.plane.around.complete(Resource::ManagerMetrics),
    })
}

fn events(scene: &Scene<'_>, waiting: &[&NodeRecord], told: &[(&NodeRecord, &Told)], claim: &mut Claim) {
    for (node, told) in told.iter().take(8) {
        claim.evidence.push(Evidence {
            source: format!("event of {} on Node {}", told.component, node.name),
            text: format!(
                "CIDRNotAvailable: {} ({})",
                told.message,
                count(told.count as usize, "time", "times")
            ),
            observed_at: told.last,
            stale: !scene.plane.around.complete(Resource::Events),
        });
    }
    if told.is_empty() && !waiting.is_empty() {
        match scene.plane.around.unseen(Resource::Events) {
            Some(why) => claim.unseen.push(why),
            None => claim.evidence.push(scene.plane_evidence(
                "events".to_owned(),
                "no CIDRNotAvailable of the last hour: kube-controller-manager has not tried, or the event has expired".to_owned(),
            )),
        }
    }
}

/// Events of nodes that rely on the field are evidence also where nobody names the range.
fn unknown_range(scene: &Scene<'_>, told: &[(&NodeRecord, &Told)]) -> Option<Claim> {
    if told.is_empty() {
        return None;
    }
    let names: Vec<&String> = told.iter().map(|(node, _)| &node.name).collect();
    let mut claim = pool::claim(Code::Pool04, UNKNOWN);
    claim.nodes = names.iter().map(|name| (*name).clone()).collect();
    claim.nodes.truncate(cidrift_proto::finding::ROWS);
    claim.summary = format!(
        "kube-controller-manager has no CIDR left for {}",
        list(names.iter().take(8))
    );
    claim.affected = told
        .iter()
        .map(|(node, _)| Affected {
            prefix: None,
            node: Some(node.name.clone()),
            detail: "has no pod CIDR".to_owned(),
        })
        .collect();
    claim.affected_total = cap_affected(&mut claim.affected);
    claim
        .unseen
        .push("--cluster-cidr: how many blocks there are".to_owned());
    events(scene, &[], told, &mut claim);
    claim.cause = "The pool is full by the allocator's own word; its range is not known here.".to_owned();
    claim.remedy = release();
    claim.changed_at = told.iter().map(|(node, _)| node.changed_at).max();
    Some(claim)
}

/// What became of it: events expire, which shows nothing.
pub fn fate(scene: &Scene<'_>, ground: &Ground, claim: &Claim, row: Option<&Affected>) -> Fate {
    let node = row.and_then(|row| row.node.as_deref());
    let waits = node.is_some_and(|name| ground.waiting(scene).any(|node| node.name == name));
    let over = |what: String| Fate::Gone(format!("{}: {what}", scene.plane.source));
    if let (Some(name), false) = (node, waits) {
        return over(match scene.node(name) {
            None => format!("Node {name} is gone"),
            Some(node) => format!("{name} has {}", list(&node.pod_cidrs_raw)),
        });
    }
    if claim.subject == UNKNOWN || (ground.spaces.is_empty() && scene.plane.around.delegates.cluster_cidrs.is_empty()) {
        return Fate::Unseen(
            "whether a CIDR is left cannot be told: the pool is not known, and events expire".to_owned(),
        );
    }
    if !ground.built_in() {
        return over("no node takes its CIDR of the pool any more".to_owned());
    }
    let spaces: Vec<&Space> = ground.of_family(&claim.subject).collect();
    let free: u64 = spaces.iter().fold(0, |sum, space| sum.saturating_add(space.count.free));
    if waits && free > 0 {
        let name = node.unwrap_or_default();
        return Fate::Unseen(format!(
            "{name} still waits, and whether a CIDR is left for it cannot be told"
        ));
    }
    if waits {
        return Fate::Still;
    }
    over(match spaces.first() {
        None => format!("the pool has no {} range any more", claim.subject),
        Some(_) if free > 0 => {
            let free = usize::try_from(free).unwrap_or(usize::MAX);
            format!("{} free", count(free, "block is", "blocks are"))
        }
        Some(_) => "kube-controller-manager's books show room, and no node waits".to_owned(),
    })
}
