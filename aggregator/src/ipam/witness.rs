//! What the pool is: everybody who names a range, ranked by trust (reference H), and who of them contradicts.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::cluster::PoolConfig;
use crate::cluster::around::Around;
use crate::cluster::objects::{Manager, RangeWitness, Resource};
use crate::correlate::manager::{allocates, idle};
use crate::correlate::words::list;

/// Objects that say what kube-controller-manager was given, where its own flags cannot be seen; the most trusted first.
const SECOND_HAND: &[Resource] = &[Resource::K3sNodes, Resource::KubeadmConfig];

/// Everybody else who names a range, in the order of reference H.
const OTHERS: &[Resource] = &[
    Resource::KubeadmConfig,
    Resource::KubeProxyConfig,
    Resource::ProxyPods,
    Resource::FlannelConfig,
    Resource::IpPools,
    Resource::CiliumConfig,
    Resource::K3sNodes,
    Resource::CniPods,
    Resource::OpenShiftNetworks,
    Resource::AntreaConfig,
    Resource::HostPrograms,
];

/// What a witness's word is to the pool as it is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stance {
    /// The pool is what it says.
    Settles,
    /// It says the same, or a range that holds all of it where that is enough.
    Agrees,
    /// It contradicts.
    Disagrees,
    /// Its range is not the same thing.
    Apart,
    /// It names no range.
    Silent,
}

impl Stance {
    /// For people and for the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Settles => "settles it",
            Self::Agrees => "agrees",
            Self::Disagrees => "disagrees",
            Self::Apart => "not comparable",
            Self::Silent => "names none",
        }
    }
}

/// One witness's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// A stable short name of its kind: "kube-controller-manager", "flannel".
    pub kind: &'static str,
    /// The objects that it was read from; `None`: flags of this program, or an inference.
    pub resource: Option<Resource>,
    /// Who, for people.
    pub who: String,
    /// The ranges that it names.
    pub ranges: Vec<IpNet>,
    /// IPv4 prefix length of a node's share, where it says so.
    pub mask_v4: Option<u8>,
    /// The same for IPv6.
    pub mask_v6: Option<u8>,
    /// What that is to the pool.
    pub stance: Stance,
    /// Why it contradicts, or why it is not comparable; empty otherwise.
    pub why: String,
}

/// What of the Nodes decides whose ranges can be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Users {
    /// Nodes whose pods get addresses of spec.podCIDR.
    pub pod_cidr: usize,
    /// Nodes on which another allocator decides.
    pub delegated: usize,
    /// Nodes of which neither is known.
    pub unclear: usize,
    /// Some are GKE's, which gives node pools ranges of their own.
    pub gke: bool,
    /// Some use flannel.
    pub flannel: bool,
}

impl Users {
    /// No node makes use of spec.podCIDR, as far as can be seen.
    pub fn none_by_pod_cidr(&self) -> bool {
        self.pod_cidr == 0 && self.delegated > 0
    }
}

/// What an instance's flags say of the pool.
fn of_manager(manager: &Manager) -> PoolConfig {
    let flags = &manager.flags;
    // --node-cidr-mask-size is for the only family that there is: it is refused with two.
    let family = |v4: bool| flags.cluster_cidr.iter().any(|range| range.addr().is_ipv4() == v4);
    // 0 is kube-controller-manager's own word for "not stated".
    let stated = |mask: Option<u8>| mask.filter(|mask| *mask > 0);
    let single = stated(flags.mask).filter(|_| family(true) != family(false));
    PoolConfig {
        ranges: flags.cluster_cidr.clone(),
        // What it takes where nothing is stated is as good as stated.
        mask_v4: family(true).then(|| stated(flags.mask_v4).or(single).unwrap_or(24)),
        mask_v6: family(false).then(|| stated(flags.mask_v6).or(single).unwrap_or(64)),
        service_ranges: flags.service_cidr.clone(),
        witness: format!("flags of {}", manager.name),
    }
}

/// The pool as it is judged by: what the operator says, else kube-controller-manager's own
/// flags, its metrics, or what it was given according to k3s or kubeadm. With ClusterCIDR
/// objects its flags mean nothing, and the pool is theirs: see [`crate::cluster::objects::ClusterCidr`].
pub fn settle(flags: &PoolConfig, around: &Around) -> PoolConfig {
    let found = find(flags, around).unwrap_or_default();
    let services = [&flags.service_ranges, &found.service_ranges];
    let service_ranges = services.into_iter().find(|ranges| !ranges.is_empty());
    let service_ranges = service_ranges.cloned().unwrap_or_else(|| service_ranges_of(around));
    PoolConfig {
        mask_v4: flags.mask_v4.or(found.mask_v4),
        mask_v6: flags.mask_v6.or(found.mask_v6),
        service_ranges,
        witness: if found.ranges.is_empty() {
            flags.witness.clone()
        } else {
            found.witness
        },
        ranges: found.ranges,
    }
}

fn find(flags: &PoolConfig, around: &Around) -> Option<PoolConfig> {
    let managers: Vec<PoolConfig> = around
        .managers
        .values()
        .filter(|manager| allocates(&manager.flags) && !manager.flags.cluster_cidr.is_empty())
        .map(of_manager)
        .collect();
    if !flags.ranges.is_empty() {
        // What the operator left open, an instance with the same ranges may say.
        let same = managers.into_iter().find(|said| said.ranges == flags.ranges);
        let said = same.unwrap_or_default();
        return Some(PoolConfig {
            ranges: flags.ranges.clone(),
            witness: flags.witness.clone(),
            ..said
        });
    }
    if !around.delegates.cluster_cidrs.is_empty() {
        return None;
    }
    // Of instances that disagree the most common word stands; of equally common ones the first by name.
    let votes = |said: &PoolConfig| managers.iter().filter(|other| other.ranges == said.ranges).count();
    if let Some(said) = managers.iter().rev().max_by_key(|said| votes(said)) {
        return Some(said.clone());
    }
    if !around.managers.is_empty() {
        // It is visible. If one of its instances allocates though its flags cannot be read, its metrics show from what.
        let some = around.managers.values().any(|manager| allocates(&manager.flags));
        return if some { of_metrics(around) } else { None };
    }
    if around.unlisted(Resource::ManagerPods) {
        // What was meant at init, or by whoever reads it otherwise, counts only where its own word is not to be had.
        return None;
    }
    let kinds = SECOND_HAND.iter().filter_map(|kind| around.ranges.get(kind));
    let witness = kinds.flatten().find(|witness| !witness.ranges.is_empty())?;
    Some(PoolConfig {
        ranges: witness.ranges.clone(),
        mask_v4: witness.mask_v4,
        mask_v6: witness.mask_v6,
        service_ranges: witness.service_ranges.clone(),
        witness: witness.what.clone(),
    })
}

/// Labels of the metrics are the configured ranges, and the number of blocks tells the mask.
fn of_metrics(around: &Around) -> Option<PoolConfig> {
    let first = around.pool_metrics.first()?;
    let of_first = || {
        around
            .pool_metrics
            .iter()
            .filter(|metric| metric.manager == first.manager)
    };
    let mask = |v4: bool| {
        let metric = of_first().find(|metric| metric.range.addr().is_ipv4() == v4)?;
        let blocks = metric.max.filter(|max| max.is_power_of_two())?;
        u8::try_from(u32::from(metric.range.prefix_len()) + blocks.ilog2()).ok()
    };
    let mut ranges: Vec<IpNet> = of_first().map(|metric| metric.range).collect();
    // Metrics are in no order; IPv4 comes first nearly everywhere.
    ranges.sort_by_key(|range| range.addr().is_ipv6());
    Some(PoolConfig {
        ranges,
        mask_v4: mask(true),
        mask_v6: mask(false),
        service_ranges: Vec::new(),
        witness: format!("metrics of {}", first.manager),
    })
}

/// Service ranges that kube-controller-manager takes out of the pool: those of its own flag, whatever others know of them.
/// Where no instance can be seen, what is known has to stand in.
pub fn left_out<'a>(pool: &'a PoolConfig, around: &'a Around) -> &'a [IpNet] {
    let said = |manager: &&Manager| (allocates(&manager.flags), manager.flags.cluster_cidr == pool.ranges);
    let instance = around.managers.values().rev().max_by_key(said);
    instance.map_or(&pool.service_ranges, |manager| &manager.flags.service_cidr)
}

fn service_ranges_of(around: &Around) -> Vec<IpNet> {
    let managers = around.managers.values().map(|manager| &manager.flags.service_cidr);
    let others = SECOND_HAND.iter().filter_map(|kind| around.ranges.get(kind));
    let others = others.flatten().map(|witness| &witness.service_ranges);
    let mut all = managers.chain(others);
    all.find(|ranges| !ranges.is_empty()).cloned().unwrap_or_default()
}

/// How a witness's ranges are held against the pool's.
enum Measure {
    /// The same list: kube-controller-manager goes by index.
    Exact,
    /// The same ranges.
    Same,
    /// They hold all of the pool, in the families that both name.
    Covers,
    /// Not at all; why.
    Not(String),
}

/// Everybody's word, the most trusted first, held against the pool as [`settle`] found it.
/// `supernet` is the smallest range that holds every node's CIDR, by family: a hint, no more.
pub fn witnesses(pool: &PoolConfig, around: &Around, users: Users, supernet: &[IpNet]) -> Vec<Witness> {
    let mut all = Vec::new();
    let foreign = !around.delegates.cluster_cidrs.is_empty();
    for manager in around.managers.values() {
        let said = of_manager(manager);
        let measure = if foreign {
            Measure::Not("ClusterCIDR objects decide: its flag has no effect".to_owned())
        } else if let Some(why) = idle(&manager.flags) {
            Measure::Not(format!(
                "it does not allocate ({why}): its --cluster-cidr has no effect"
            ))
        } else {
            Measure::Exact
        };
        let said = (&said.ranges, said.mask_v4, said.mask_v6);
        let who = format!("flags of {}", manager.name);
        all.push(make(
            "kube-controller-manager",
            Some(Resource::ManagerPods),
            who,
            said,
            measure,
        ));
    }
    let mut metrics: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
    for metric in &around.pool_metrics {
        metrics.entry(&metric.manager).or_default().push(metric.range);
    }
    for (manager, ranges) in metrics {
        let who = format!("metrics of {manager}");
        let said = (&ranges, None, None);
        all.push(make(
            "kcm-metrics",
            Some(Resource::ManagerMetrics),
            who,
            said,
            Measure::Same,
        ));
    }
    for (resource, witness) in OTHERS.iter().flat_map(|resource| {
        let of_kind = around.ranges.get(resource).into_iter().flatten();
        of_kind.map(move |witness| (*resource, witness))
    }) {
        let said = (&witness.ranges, witness.mask_v4, witness.mask_v6);
        let measure = measure(witness, users, around);
        all.push(make(
            kind(resource),
            Some(resource),
            witness.what.clone(),
            said,
            measure,
        ));
    }
    for object in &around.delegates.cluster_cidrs {
        let ranges: Vec<IpNet> = [object.v4, object.v6].into_iter().flatten().collect();
        let bits = object.per_node_host_bits;
        let said = (&ranges, 32u8.checked_sub(bits), 128u8.checked_sub(bits));
        let who = format!("ClusterCIDR {}", object.name);
        let measure = match pool.ranges.is_empty() {
            true => Measure::Exact,
            false => Measure::Not("what the operator says stands".to_owned()),
        };
        all.push(make("clustercidr", Some(Resource::ClusterCidrs), who, said, measure));
    }
    // What no object says and yet settles it is the operator's own word.
    if !pool.ranges.is_empty() && all.iter().all(|(witness, _)| witness.who != pool.witness) {
        let said = (&pool.ranges, pool.mask_v4, pool.mask_v6);
        all.insert(0, make("operator", None, pool.witness.clone(), said, Measure::Exact));
    }
    // Without a settled pool the first that can be compared is what the others are held against.
    let settled = &pool.ranges;
    let reference = if settled.is_empty() && !foreign {
        let comparable = all
            .iter()
            .find(|(witness, measure)| !witness.ranges.is_empty() && !matches!(measure, Measure::Not(_)));
        comparable
            .map(|(witness, _)| witness.ranges.clone())
            .unwrap_or_default()
    } else {
        settled.clone()
    };
    let mut told: Vec<Witness> = all
        .into_iter()
        .map(|(witness, measure)| judge(witness, measure, pool, &reference))
        .collect();
    if !supernet.is_empty() {
        told.push(Witness {
            kind: "nodes",
            resource: None,
            who: "smallest range that holds every node's CIDR".to_owned(),
            ranges: supernet.to_vec(),
            mask_v4: None,
            mask_v6: None,
            stance: Stance::Apart,
            why: "a hint, no more".to_owned(),
        });
    }
    told
}

type Said<'a> = (&'a Vec<IpNet>, Option<u8>, Option<u8>);

fn make(
    kind: &'static str,
    resource: Option<Resource>,
    who: String,
    (ranges, mask_v4, mask_v6): Said<'_>,
    measure: Measure,
) -> (Witness, Measure) {
    let witness = Witness {
        kind,
        resource,
        who,
        ranges: ranges.clone(),
        mask_v4,
        mask_v6,
        stance: Stance::Silent,
        why: String::new(),
    };
    (witness, measure)
}

fn kind(resource: Resource) -> &'static str {
    match resource {
        Resource::KubeadmConfig => "kubeadm-config",
        Resource::KubeProxyConfig | Resource::ProxyPods => "kube-proxy",
        Resource::FlannelConfig => "flannel",
        Resource::IpPools => "calico",
        Resource::CiliumConfig => "cilium",
        Resource::K3sNodes => "k3s",
        Resource::OpenShiftNetworks => "openshift",
        Resource::AntreaConfig => "antrea",
        Resource::HostPrograms => "kcm-process",
        _ => "cni",
    }
}

fn measure(witness: &RangeWitness, users: Users, around: &Around) -> Measure {
    let not = |why: &str| Measure::Not(why.to_owned());
    match witness.resource {
        Resource::IpPools => return not("Calico's pools are its own allocator's"),
        Resource::CiliumConfig if around.delegates.cilium_ipam.as_deref() == Some("kubernetes") => {
            return not("Cilium takes the Nodes' CIDRs and does not use it");
        }
        Resource::CiliumConfig => return not("Cilium's pool is its own allocator's"),
        Resource::OpenShiftNetworks => return not("OpenShift's network is its own allocator's"),
        Resource::AntreaConfig => return not("it counts only where Antrea's own node IPAM is on"),
        _ => {}
    }
    if !around.delegates.cluster_cidrs.is_empty() {
        return not("ClusterCIDR objects decide, which may be many ranges");
    }
    if users.gke {
        return not("GKE gives node pools ranges of their own");
    }
    if users.none_by_pod_cidr() {
        return not("no node's CNI uses spec.podCIDR");
    }
    match witness.resource {
        Resource::KubeadmConfig | Resource::K3sNodes | Resource::HostPrograms => Measure::Same,
        Resource::FlannelConfig if !users.flannel => not("no node uses flannel"),
        _ => Measure::Covers,
    }
}

fn judge(mut witness: Witness, measure: Measure, pool: &PoolConfig, reference: &[IpNet]) -> Witness {
    if witness.ranges.is_empty() {
        return witness;
    }
    let verdict = match measure {
        Measure::Not(why) => {
            witness.stance = Stance::Apart;
            witness.why = why;
            return witness;
        }
        _ if witness.kind == "clustercidr" => Ok(()),
        Measure::Exact => exact(&witness.ranges, reference),
        Measure::Same => same(&witness.ranges, reference),
        Measure::Covers => covers(&witness.ranges, reference),
    };
    let settles = witness.kind == "clustercidr" || (pool.witness == witness.who && !pool.ranges.is_empty());
    match verdict {
        Ok(()) if settles => witness.stance = Stance::Settles,
        Ok(()) => witness.stance = Stance::Agrees,
        Err(why) => {
            witness.stance = Stance::Disagrees;
            witness.why = why;
        }
    }
    witness
}

fn exact(said: &[IpNet], pool: &[IpNet]) -> Result<(), String> {
    if said == pool {
        return Ok(());
    }
    same(said, pool)?;
    Err(format!("the same ranges in another order than {}", list(pool)))
}

fn same(said: &[IpNet], pool: &[IpNet]) -> Result<(), String> {
    let sorted = |ranges: &[IpNet]| {
        let mut ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
        ranges.sort();
        ranges
    };
    if sorted(said) == sorted(pool) {
        return Ok(());
    }
    Err(format!("not {}", list(pool)))
}

fn covers(said: &[IpNet], pool: &[IpNet]) -> Result<(), String> {
    for range in pool {
        let mut family = said
            .iter()
            .filter(|net| net.addr().is_ipv4() == range.addr().is_ipv4())
            .peekable();
        if family.peek().is_some() && !family.any(|net| net.contains(range)) {
            return Err(format!("it does not hold {range}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
