//! What a finding asks of which node.

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{CniConfig, LinkRole};
use cidrift_proto::finding::{Finding, FindingState, Severity};
use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::super::choose::Family;
use super::super::ground::{Ground, NodeGround};
use super::super::plan::{ByHand, Hop};
use super::routes;

/// Of a kubelet's log: the runtime did not take the CIDR.
const REFUSED: &str = "\"Error updating pod CIDR\"";

/// What has to be done to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Its Node needs other CIDRs, which no Node can be given while it lives.
    Swap,
    /// Its Node has no CIDR.
    Assign,
    /// The configuration that the runtime rendered is stale.
    Render { path: String },
    /// A bridge with a foreign address.
    Link { name: String },
    /// Pods with foreign addresses.
    Pods,
    /// The CNI's daemon must look again.
    Daemon,
    /// A route that is too much.
    Route { prefix: IpNet, by: Hop },
    /// Its own packets for this node must land there, once such a route is gone.
    Reach { node: String },
    /// Leases of sandboxes that are gone, of one of host-local's directories.
    Leases { directory: String },
    /// Its kubelet must look at its Node again.
    Kubelet,
}

/// Everything that is asked of one node.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) what: Vec<What>,
    /// Ids of the findings.
    pub(super) mends: Vec<String>,
    pub(super) severity: Severity,
    /// Nodes that have the same CIDRs and keep them.
    pub(super) twins: Vec<String>,
}

impl Default for Need {
    fn default() -> Self {
        Self {
            what: Vec::new(),
            mends: Vec::new(),
            severity: Severity::Info,
            twins: Vec::new(),
        }
    }
}

impl Need {
    pub(super) fn add(&mut self, finding: &Finding, what: What) {
        if !self.what.contains(&what) {
            self.what.push(what);
        }
        self.follow(finding);
        if finding.claim.code == Code::Pool03 {
            self.twins.extend(finding.claim.nodes.iter().cloned());
        }
    }

    /// It goes with what is done already.
    pub(super) fn follow(&mut self, finding: &Finding) {
        if !self.mends.contains(&finding.id) {
            self.mends.push(finding.id.clone());
        }
        self.severity = self.severity.max(finding.claim.severity);
    }

    pub(super) fn has(&self, what: &What) -> bool {
        self.what.contains(what)
    }

    /// Whether a Node that has no CIDR gets one, and nothing else is of its pods' addresses.
    pub(super) fn only_assigns(&self) -> bool {
        let beside = |what: &What| {
            matches!(
                what,
                What::Assign | What::Leases { .. } | What::Route { .. } | What::Reach { .. } | What::Kubelet
            )
        };
        self.has(&What::Assign) && self.what.iter().all(beside)
    }

    /// Its findings, as nothing that can be planned.
    pub(super) fn refuse(&self, ground: &Ground, why: &str) -> Vec<ByHand> {
        let named = |id: &String| ground.findings.iter().find(|finding| finding.id == *id);
        let found = self.mends.iter().filter_map(named);
        found.map(|finding| by_hand(finding, why.to_owned())).collect()
    }
}

pub(super) fn by_hand(finding: &Finding, why: String) -> ByHand {
    ByHand {
        finding: finding.id.clone(),
        nodes: finding.claim.nodes.clone(),
        why,
        remedy: finding.claim.remedy.clone(),
    }
}

/// Which nodes it asks for what; `Err`: why no node can do anything about it.
pub(super) fn of(ground: &Ground, finding: &Finding) -> Result<Vec<(String, What)>, String> {
    let claim = &finding.claim;
    // What is claimed of one node has it as its subject; others may be named as witnesses.
    let node = &claim.subject;
    let itself = |what: What| Ok(vec![(node.clone(), what)]);
    match claim.code {
        Code::Pool01 => itself(What::Assign),
        Code::Pool02 | Code::Pool06 | Code::Pool08 => itself(What::Swap),
        Code::Pool03 => overlap(ground, finding),
        Code::Host01 => itself(configuration(ground, node)?),
        Code::Host02 => itself(bridge(ground, node)?),
        Code::Host03 => itself(What::Pods),
        Code::Pool12 => reborn(ground, finding),
        Code::Host04 => led_away(ground, node),
        Code::Path01 | Code::Path02 | Code::Path06 => Ok(vec![daemon(ground, claim.subject.clone())?]),
        Code::Path03 => routes::stale(ground, finding),
        Code::Path04 => routes::dropping(ground, finding),
        Code::Host10 => routes::inside(ground, finding),
        Code::Host05 => leases(ground, node),
        Code::Host08 => itself(kubelet(ground, finding)?),
        Code::Pool04 | Code::Pool05 => {
            Err("the pool must grow, or nodes must give their CIDRs back (below, where any could)".to_owned())
        }
        _ => Err("no step of a node mends it".to_owned()),
    }
}

/// POOL12: who still routes what the Node had before; and all that its own host has of that.
fn reborn(ground: &Ground, finding: &Finding) -> Result<Vec<(String, What)>, String> {
    let claim = &finding.claim;
    let subject = &claim.subject;
    // All of them: rows may be more than are told.
    let routers = claim.nodes.iter().filter(|node| *node != subject);
    let (mut asked, mut left) = (Vec::new(), None);
    for router in routers {
        match stays(ground, finding, router) {
            None => asked.push(daemon(ground, router.clone())?),
            why => left = why,
        }
    }
    let mut named = claim.affected.iter().filter_map(|row| row.node.as_ref());
    let own = named.any(|node| node == subject);
    if own && let Some(why) = stays(ground, finding, subject) {
        left = Some(why);
    } else if own {
        // Its daemon has read its CIDR when it started, and holds on to what it made of that.
        let own = [
            configuration(ground, subject).ok(),
            bridge(ground, subject).ok(),
            daemon(ground, subject.clone()).ok().map(|(_, what)| what),
        ];
        asked.extend(own.into_iter().flatten().map(|what| (subject.clone(), what)));
        asked.extend(led_away(ground, subject).unwrap_or_default());
        asked.push((subject.clone(), What::Pods));
    }
    match left {
        _ if !asked.is_empty() => Ok(asked),
        Some(why) => Err(why),
        None => Err("nobody is seen to route what the Node had before".to_owned()),
    }
}

/// Why a route that follows from `cause` stays on a node for now: its daemon, started anew, makes what is missing and leaves
/// what is too much.
fn stays(ground: &Ground, cause: &Finding, node: &str) -> Option<String> {
    let mut stale = ground.findings.iter().filter(|other| other.stands());
    let stale = stale.find(|other| {
        other.claim.code == Code::Path03 && other.claim.subject == node && other.explained_by.contains(&cause.id)
    })?;
    if stale.state == FindingState::Pending || stale.stale {
        return Some(format!("{} is not open yet, or its witness is quiet", stale.id));
    }
    routes::stale(ground, stale).err()
}

/// HOST04, where a route by the node's own address is what leads its pods' packets away: flanneld makes one when its Node is
/// made anew, which it takes for a peer, and makes it again until it is started anew.
fn led_away(ground: &Ground, node: &str) -> Result<Vec<(String, What)>, String> {
    let ours = ground.nodes.get(node).ok_or("there is no such Node any more")?;
    let entries = ours.view.iter().flat_map(|view| &view.entries);
    let flannel = flannel(ground, node);
    let routes = entries.filter_map(|entry| {
        let prefix = entry.route.map_or(entry.prefix, |route| route.prefix);
        let via = match &entry.landing {
            Landing::Underlay { address, .. } if ours.addresses.contains(address) => *address,
            // By a gateway that is its own the kernel sends as if there were none. Elsewhere it may be without one.
            Landing::Onlink { .. } if flannel => back_by(ours, &prefix)?,
            _ => return None,
        };
        let ours = ours
            .cidrs
            .iter()
            .any(|cidr| crate::netmap::overlap(cidr, &entry.prefix));
        let by = Hop::Via(via);
        ours.then_some(What::Route { prefix, by })
    });
    // One a CIDR: a node may have two.
    let routes: Vec<(String, What)> = routes.map(|route| (node.to_owned(), route)).collect();
    if routes.is_empty() {
        return Err("no step of a node mends it".to_owned());
    }
    let daemon = daemon(ground, node.to_owned()).ok();
    Ok(daemon.into_iter().chain(routes).collect())
}

/// By which next hop flanneld leads a node's own pods back to it. No kernel takes one of IPv6 that is the host's own.
pub(super) fn back_by(node: &NodeGround, prefix: &IpNet) -> Option<IpAddr> {
    let mut own = node.addresses.iter().filter(|address| address.is_ipv4());
    own.find(|_| prefix.addr().is_ipv4()).copied()
}

/// HOST01: what writes the file decides what makes it anew.
fn configuration(ground: &Ground, node: &str) -> Result<What, String> {
    let cni = facts(ground, node)?.cni.clone();
    let cidrs = ground
        .nodes
        .get(node)
        .map(|node| node.cidrs.as_slice())
        .unwrap_or_default();
    let flannel = cni.flannel.as_ref();
    let flannel = flannel.is_some_and(|env| env.subnets.iter().any(|net| foreign(net, cidrs)));
    match &cni.chosen {
        Some(config)
            if config
                .generated_by
                .as_deref()
                .is_some_and(|by| by.starts_with("containerd template"))
                && config.subnets.iter().any(|net| foreign(net, cidrs)) =>
        {
            Ok(What::Render {
                path: config.path.clone(),
            })
        }
        _ if flannel => Ok(daemon(ground, node.to_owned())?.1),
        Some(config) if rewrites(ground, node, config) => Ok(What::Daemon),
        Some(config) => Err(format!(
            "nobody is known to write {} anew: whoever wrote it must",
            config.path
        )),
        None => Err("the CNI configuration is not known now".to_owned()),
    }
}

/// HOST02: a bridge is made anew by the next pod's CNI, a tunnel by its daemon.
fn bridge(ground: &Ground, node: &str) -> Result<What, String> {
    let facts = facts(ground, node)?;
    let cidrs = ground
        .nodes
        .get(node)
        .map(|node| node.cidrs.as_slice())
        .unwrap_or_default();
    let wrong = |role: LinkRole| {
        facts
            .links
            .iter()
            .find(|link| link.role == role && link.addresses.iter().any(|net| foreign(net, cidrs)))
    };
    if let Some(link) = wrong(LinkRole::Bridge) {
        return Ok(What::Link {
            name: link.name.clone(),
        });
    }
    match wrong(LinkRole::Tunnel) {
        Some(_) => Ok(daemon(ground, node.to_owned())?.1),
        None => Err("the device with the foreign address is not seen any more".to_owned()),
    }
}

/// HOST05, where removing what is leaked is all that it takes. The agent counts no lease as leaked that is young: one is there
/// before its sandbox is listed (agent/src/check/addresses/account.rs).
fn leases(ground: &Ground, node: &str) -> Result<Vec<(String, What)>, String> {
    let Some(leaks) = &facts(ground, node)?.leaks else {
        return Err(
            "no leases are told for removal: none is leaked, or how long the kubelet waits for its runtime \
             (runtimeRequestTimeout) is not known"
                .to_owned(),
        );
    };
    if leaks.others {
        return Err("leases are leaked, and that is not all that is wrong with its addresses".to_owned());
    }
    if leaks.omitted > 0 {
        return Err(format!("{} more leases are leaked than are told", leaks.omitted));
    }
    if leaks.networks.is_empty() {
        return Err("the leaked leases name no sandbox: whose they were must be told by a person".to_owned());
    }
    let directories = leaks.networks.iter().map(|network| What::Leases {
        directory: network.directory.clone(),
    });
    Ok(directories.map(|what| (node.to_owned(), what)).collect())
}

/// HOST08, where it would follow if it looked.
fn kubelet(ground: &Ground, finding: &Finding) -> Result<What, String> {
    let claim = &finding.claim;
    let node = ground
        .nodes
        .get(&claim.subject)
        .ok_or("there is no such Node any more")?;
    if node.cidrs.is_empty() {
        return Err("its Node has no CIDR: the kubelet follows by itself once it has one".to_owned());
    }
    let refused = claim.evidence.iter().any(|row| row.text.starts_with(REFUSED));
    if refused {
        return Err(
            "the runtime refuses it, and the kubelet tries again by itself: the runtime must be mended".to_owned(),
        );
    }
    Ok(What::Kubelet)
}

/// An address or range of a family that the Node has, outside of what it has.
pub(in crate::fix) fn foreign(net: &IpNet, cidrs: &[IpNet]) -> bool {
    let link_local = match net.addr() {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let mut own = cidrs
        .iter()
        .filter(|cidr| cidr.addr().is_ipv4() == net.addr().is_ipv4())
        .peekable();
    !link_local && own.peek().is_some() && !own.any(|cidr| cidr.contains(&net.addr()))
}

/// Whether what is handed out of lacks a family of these CIDRs that was not `had` before. Where no range is named it is
/// somebody else's to say.
fn lacks(subnets: &[IpNet], cidrs: &[IpNet], had: &[IpNet]) -> bool {
    let has = |nets: &[IpNet], cidr: &IpNet| nets.iter().any(|net| Family::of(net) == Family::of(cidr));
    let mut new = cidrs.iter().filter(|cidr| !has(had, cidr));
    !subnets.is_empty() && new.any(|cidr| !has(subnets, cidr))
}

/// Whether a configuration is not for these CIDRs. One that serves one family only is stale where the Node gets the other that
/// it `had` not; whoever wrote it for one of two may mean it so, and what is rendered is for all that there are.
pub(in crate::fix) fn stale(config: &CniConfig, to: &[IpNet], had: &[IpNet]) -> bool {
    let by = config.generated_by.as_deref();
    let rendered = by.is_some_and(|by| by.starts_with("containerd template"));
    let outside = config.subnets.iter().any(|net| foreign(net, to));
    outside || lacks(&config.subnets, to, if rendered { &[] } else { had })
}

fn facts<'a>(ground: &'a Ground, node: &str) -> Result<&'a cidrift_proto::facts::HostFacts, String> {
    let view = ground.nodes.get(node).and_then(|node| node.view.as_ref());
    view.and_then(|view| view.facts.as_ref())
        .ok_or_else(|| format!("what the host of {node} tells is not known now"))
}

/// The daemon's pod on a node, if there is one to be made anew.
pub(super) fn daemon_pod<'a>(ground: &'a Ground, node: &str) -> Option<&'a str> {
    let mut daemons = ground.pods.on(node).iter().filter(|pod| pod.networks());
    daemons.next().map(|pod| pod.key.as_str())
}

/// Whether a daemon that runs on it as a pod writes this very configuration for other CIDRs. kindnetd does, and only its own:
/// what Multus hands on to is a copy that nobody refreshes, kube-router adds the new range and leaves the old one in (reference F,
/// kube-router#496), and others name no ranges in theirs.
pub(super) fn rewrites(ground: &Ground, node: &str, config: &CniConfig) -> bool {
    let mut pods = ground.pods.on(node).iter();
    let runs = pods.any(|pod| pod.daemon.as_deref() == Some("kindnet"));
    runs && config.network == "kindnet" && config.generated_by.is_none()
}

/// Whether a CNI's daemon runs as a pod on any other node.
pub(super) fn daemons_elsewhere(ground: &Ground, node: &str) -> bool {
    let mut others = ground.nodes.keys().filter(|name| *name != node);
    others.any(|name| daemon_pod(ground, name).is_some())
}

/// Whether flanneld runs on it as a pod.
pub(super) fn flannel(ground: &Ground, node: &str) -> bool {
    let mut pods = ground.pods.on(node).iter();
    pods.any(|pod| pod.daemon.as_deref() == Some("flannel"))
}

pub(super) fn daemon(ground: &Ground, node: String) -> Result<(String, What), String> {
    match daemon_pod(ground, &node) {
        Some(_) => Ok((node, What::Daemon)),
        None => Err(format!(
            "no pod on {node} is known to program its routes: whoever does must do it again"
        )),
    }
}

/// POOL03: of nodes that have the same addresses some need others. Those stay that most nodes reach by them, for their pods
/// are the ones that work; then those of the control plane; then those with most pods.
fn overlap(ground: &Ground, finding: &Finding) -> Result<Vec<(String, What)>, String> {
    let claim = &finding.claim;
    let Ok(range) = claim.subject.parse::<IpNet>() else {
        return Err("an interface or route of the host is in the way, not the Node's CIDR".to_owned());
    };
    let within = |name: &String| -> Vec<IpNet> {
        let cidrs = ground
            .nodes
            .get(name)
            .map(|node| node.cidrs.as_slice())
            .unwrap_or_default();
        let there = cidrs.iter().filter(|cidr| crate::netmap::overlap(cidr, &range));
        there.copied().collect()
    };
    let mut holders: Vec<(&String, Vec<IpNet>)> = claim.nodes.iter().map(|name| (name, within(name))).collect();
    holders.retain(|(_, cidrs)| !cidrs.is_empty());
    if holders.is_empty() {
        return Err("no Node has a CIDR there any more".to_owned());
    }
    let rank = |name: &String| {
        let pods = ground.pods.on(name).iter().filter(|pod| !pod.host_network);
        let plane = ground.nodes.get(name).is_some_and(NodeGround::control_plane);
        (reached(ground, name, &range), plane, pods.count())
    };
    // The last of equals by name goes; so a plan made twice is the same.
    holders.sort_by_cached_key(|(name, _)| (std::cmp::Reverse(rank(name)), (*name).clone()));
    // A service range or a host's own network is nobody's to give up.
    let mut kept: Vec<IpNet> = ground.pool.service_ranges.clone();
    kept.extend(
        ground
            .nodes
            .values()
            .flat_map(|node| &node.addresses)
            .map(|&address| IpNet::from(address)),
    );
    let mut leave = Vec::new();
    for (name, cidrs) in holders {
        let clash = |cidr: &IpNet| kept.iter().any(|net| crate::netmap::overlap(net, cidr));
        if cidrs.iter().any(clash) {
            leave.push((name.clone(), What::Swap));
        } else {
            kept.extend(cidrs);
        }
    }
    if leave.is_empty() {
        return Err("the Nodes' CIDRs are not seen to overlap any more".to_owned());
    }
    Ok(leave)
}

/// How many nodes' packets for that range land on `owner`.
fn reached(ground: &Ground, owner: &str, range: &IpNet) -> usize {
    use cidrift_proto::landing::Landing;
    let Some(node) = ground.nodes.get(owner) else { return 0 };
    let leads = |entry: &cidrift_proto::landing::ForwardingEntry| {
        crate::netmap::overlap(&entry.prefix, range)
            && matches!(&entry.landing, Landing::Underlay { address, .. } if node.addresses.contains(address))
    };
    let others = ground.nodes.iter().filter(|(name, _)| *name != owner);
    let views = others.filter_map(|(_, other)| other.view.as_ref());
    views.filter(|view| view.entries.iter().any(leads)).count()
}
