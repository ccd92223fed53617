//! Routes that are too much: for CIDRs that nobody owns any more (PATH03), and such that drop (PATH04).

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::{Claim, Finding, FindingState};
use cidrift_proto::landing::{ForwardingEntry, Landing, Via};
use ipnet::IpNet;

use super::super::ground::{Ground, NodeGround, handed};
use super::super::plan::Hop;
use super::need::{What, daemon, daemon_pod};
use crate::cluster::ReportState;
use crate::correlate::stale::leads_on;
use crate::netmap::overlap;
use crate::query::answer::NodeAnswer;

/// Table main (rtnetlink(7)).
const MAIN: u32 = 254;

/// What `ip route add` and most CNIs leave as a route's protocol, and "static" (rtnetlink(7)). Others are of the kernel or of
/// daemons that speak routing protocols: whoever made them makes them again.
const PLAIN: [u8; 2] = [3, 4];

/// Plugins that set routes that drop for blocks of their own, and look after them.
const OWN_BLOCKS: [&str; 4] = ["calico", "cilium-cni", "antrea", "ovn-k8s-cni-overlay"];

type Asked = Vec<(String, What)>;

/// PATH03: its routes for CIDRs of the pool that nobody has, and nobody's pods are reached by. Only those that are named.
pub(super) fn stale(ground: &Ground, finding: &Finding) -> Result<Asked, String> {
    let claim = &finding.claim;
    let node = &claim.subject;
    all_told(claim)?;
    let entries = entries(ground, node)?;
    let mut asked = Vec::new();
    for row in &claim.affected {
        let Some(named) = row.prefix else { continue };
        let mut there = entries.iter().filter(|entry| entry.prefix == named);
        let Some(entry) = there.find(|entry| unowned(ground, entry)) else {
            return Err(format!(
                "{named} is not seen to be a part of the pool that no Node has: whose route it is cannot be told"
            ));
        };
        let prefix = entry.meant_for();
        unused(ground, prefix)?;
        plain(entry)?;
        let by = hop(entry)?;
        if row.node.is_none() {
            known(ground, prefix, entry, by)?;
        }
        let what = (node.clone(), What::Route { prefix, by });
        if !asked.contains(&what) {
            asked.push(what);
        }
    }
    if asked.is_empty() {
        return Err("no such route is seen any more".to_owned());
    }
    Ok(asked)
}

/// That a finding names all that is wrong: its rows are capped.
fn all_told(claim: &Claim) -> Result<(), String> {
    let named = usize::try_from(claim.affected_total).unwrap_or(usize::MAX);
    if named > claim.affected.len() {
        return Err(format!(
            "it is {named} prefixes, more than can be told one by one: whoever made that must undo it"
        ));
    }
    Ok(())
}

/// It leads somewhere, by a route for a part of the pool of which no Node has anything.
fn unowned(ground: &Ground, entry: &ForwardingEntry) -> bool {
    let prefix = entry.meant_for();
    let mut pool = ground.pool.ranges.iter().map(|range| range.range);
    let in_pool = pool.any(|range| range.contains(&prefix) && range != prefix);
    let cidrs = ground.nodes.values().flat_map(|node| &node.cidrs);
    let mut taken = cidrs.chain(&ground.pool.service_ranges);
    leads_on(&entry.landing) && in_pool && !taken.any(|net| overlap(net, &prefix))
}

/// That somebody is known by whom a route leads that nobody is known to have had: a gateway of the operator's own may have
/// been set up for what is behind it.
fn known(ground: &Ground, prefix: IpNet, entry: &ForwardingEntry, by: Hop) -> Result<(), String> {
    let address = match (&entry.landing, by) {
        (Landing::Underlay { address, .. }, _) => *address,
        (_, Hop::Via(gateway)) => gateway,
        (_, Hop::Type(_)) => {
            return Err(format!(
                "no Node is known to have had {prefix}: somebody may want that dropped"
            ));
        }
    };
    let mut nodes = ground.nodes.values();
    if nodes.any(|node| node.addresses.contains(&address)) {
        return Ok(());
    }
    Err(format!(
        "{address} is no Node's, and no Node is known to have had {prefix}: who is behind it must be told by a person"
    ))
}

/// That no pod has an address of it, nor may get one, and no host has one itself: its way would be cut off.
fn unused(ground: &Ground, prefix: IpNet) -> Result<(), String> {
    let has = |address: &IpAddr| prefix.contains(address);
    let mut pods = ground.pods.iter().filter(|pod| !pod.host_network);
    if let Some(pod) = pods.find(|pod| pod.addresses.iter().any(has)) {
        return Err(format!(
            "pod {} has an address of {prefix}: its way would be cut off",
            pod.key
        ));
    }
    for (name, node) in &ground.nodes {
        if let Some(address) = node.addresses.iter().find(|address| has(address)) {
            return Err(format!("{address} of {prefix} is the address of Node {name}"));
        }
        let Some(view) = node.view.as_ref().filter(|view| live(view)) else {
            return Err(format!(
                "the agent of {name} does not report: whether it has pods of {prefix} is not known"
            ));
        };
        spares(name, view, prefix)?;
    }
    let mut strays = ground.strays.iter().filter(|(_, view)| live(view));
    strays.try_for_each(|(name, view)| spares(name, view, prefix))
}

fn live(view: &NodeAnswer) -> bool {
    view.summary.report == ReportState::Live && view.facts.is_some()
}

/// That a host has nothing of it.
fn spares(name: &str, view: &NodeAnswer, prefix: IpNet) -> Result<(), String> {
    let set_up = || Err(format!("{name} is set up for pods of {prefix}: mend that first"));
    let Some(facts) = &view.facts else { return Ok(()) };
    if handed(&facts.cni).iter().any(|net| overlap(net, &prefix)) {
        return set_up();
    }
    for link in &facts.links {
        for net in &link.addresses {
            if link.role.of_pods() && overlap(&net.trunc(), &prefix) {
                return set_up();
            }
            if prefix.contains(&net.addr()) {
                return Err(format!("{name} has {} of {prefix} on {} itself", net.addr(), link.name));
            }
        }
    }
    let own = |entry: &&ForwardingEntry| {
        matches!(
            entry.landing,
            Landing::Onlink { .. } | Landing::Local { .. } | Landing::Host { .. }
        )
    };
    let mut own = view.entries.iter().filter(own);
    match own.find(|entry| prefix.contains(&entry.meant_for())) {
        Some(entry) => Err(format!("{name} has {} of {prefix} itself", entry.meant_for())),
        None => Ok(()),
    }
}

/// PATH04: routes that drop packets for what other Nodes have. Beyond such a route its own daemon makes the right one.
pub(super) fn dropping(ground: &Ground, finding: &Finding) -> Result<Asked, String> {
    let claim = &finding.claim;
    let node = &claim.subject;
    let entries = entries(ground, node)?;
    all_told(claim)?;
    let mut asked = Vec::new();
    for row in &claim.affected {
        let (Some(cidr), Some(owner)) = (row.prefix, row.node.as_ref()) else {
            continue;
        };
        let inside = entries.iter().filter(|entry| overlap(&entry.prefix, &cidr));
        for entry in inside.filter(|entry| cidr.contains(&entry.meant_for())) {
            asked.extend(dropped(ground, node, entry, (cidr, owner))?);
        }
    }
    if asked.is_empty() {
        return Err("what drops them is meant for more than a node's CIDR: somebody wants that".to_owned());
    }
    asked.dedup();
    Ok(asked.into_iter().map(|what| (node.clone(), what)).collect())
}

/// HOST10, where all that takes packets away are routes that drop: what is lost by them is PATH04 then, which follows from it.
pub(super) fn inside(ground: &Ground, finding: &Finding) -> Result<Asked, String> {
    let claim = &finding.claim;
    all_told(claim)?;
    let mut open = ground.findings.iter().filter(|other| other.state == FindingState::Open);
    let lost = open.find(|other| other.claim.code == Code::Path04 && other.claim.subject == claim.subject);
    let asked = dropping(ground, lost.ok_or("no step of a node mends it")?)?;
    let goes = |net: IpNet| {
        let mut asked = asked.iter();
        asked.any(|(_, what)| matches!(what, What::Route { prefix, .. } if *prefix == net))
    };
    if claim.affected.iter().all(|row| row.prefix.is_some_and(goes)) {
        return Ok(asked);
    }
    Err("more than routes that drop takes packets away".to_owned())
}

/// What has to be done about one entry for a CIDR and its owner; nothing, where it is right.
fn dropped(
    ground: &Ground,
    node: &str,
    entry: &ForwardingEntry,
    (cidr, owner): (IpNet, &String),
) -> Result<Vec<What>, String> {
    match &entry.landing {
        Landing::Discard { .. } => {}
        // A tunnel's entries are made anew with its daemon, and with nobody else.
        Landing::DeadDevice { device, .. } | Landing::UnresolvedNeighbour { device, .. }
            if tunnel(ground, node, device) =>
        {
            return Ok(vec![daemon(ground, node.to_owned())?.1]);
        }
        Landing::DeadDevice { device, reason } => {
            return Err(format!(
                "{device} is not up ({reason}): whoever set it so must set it up"
            ));
        }
        Landing::UnresolvedNeighbour { gateway, .. } => {
            return Err(format!(
                "{gateway} does not answer: its machine or the way to it must be mended"
            ));
        }
        _ => return Ok(Vec::new()),
    }
    let view = ground.nodes.get(node).and_then(|node| node.view.as_ref());
    let plugin = view.map(|view| view.summary.plugin.as_str()).unwrap_or_default();
    if OWN_BLOCKS.contains(&plugin) {
        return Err(format!(
            "{plugin} sets routes that drop for blocks of its own: look at its objects"
        ));
    }
    if entry.route.is_none() {
        return Err("a policy rule drops them, and no route".to_owned());
    }
    plain(entry)?;
    let prefix = entry.meant_for();
    let remove = What::Route {
        prefix,
        by: hop(entry)?,
    };
    let wider = |other: &&ForwardingEntry| other.meant_for() != prefix && other.meant_for().contains(&prefix);
    let mut behind = entries(ground, node)?
        .iter()
        .filter(wider)
        .filter(|other| cidr.contains(&other.meant_for()));
    let owner_node = ground.nodes.get(owner);
    if behind.any(|other| owner_node.is_some_and(|owner| leads_to(other, owner))) {
        return Ok(vec![remove]);
    }
    // What lies behind a route for all of the CIDR is not seen.
    if daemon_pod(ground, node).is_none() {
        return Err(format!(
            "no route for {cidr} is seen behind it, and no pod on {node} is known to make one"
        ));
    }
    Ok(vec![remove, What::Reach { node: owner.clone() }])
}

fn leads_to(entry: &ForwardingEntry, owner: &NodeGround) -> bool {
    matches!(&entry.landing, Landing::Underlay { address, .. } if owner.addresses.contains(address))
}

fn tunnel(ground: &Ground, node: &str, device: &str) -> bool {
    let view = ground.nodes.get(node).and_then(|node| node.view.as_ref());
    let links = view.and_then(|view| view.facts.as_ref()).into_iter();
    let mut links = links.flat_map(|facts| &facts.links);
    links.any(|link| link.name == device && link.role == LinkRole::Tunnel)
}

fn entries<'a>(ground: &'a Ground, node: &str) -> Result<&'a [ForwardingEntry], String> {
    let view = ground.nodes.get(node).and_then(|node| node.view.as_ref());
    let view = view.ok_or_else(|| format!("the routes of {node} are not known now"))?;
    Ok(&view.entries)
}

/// A route of table main that no routing daemon has made.
fn plain(entry: &ForwardingEntry) -> Result<(), String> {
    let prefix = entry.meant_for();
    let Some(route) = entry.route else {
        return Err(format!("{prefix}: a policy rule decides, and no route"));
    };
    if route.table != MAIN {
        return Err(format!(
            "the route {prefix} is of table {}: whoever fills that must remove it",
            route.table
        ));
    }
    if !PLAIN.contains(&route.protocol) {
        return Err(format!(
            "the route {prefix} was made by a daemon (protocol {}), which would make it again: look there",
            route.protocol
        ));
    }
    Ok(())
}

/// What tells the route from others of its prefix. By an IPv6 next hop a host tells the global address of whom it leads to, and
/// the route itself may name a link-local one; nor does one by a next hop of the other family go by what is told.
fn hop(entry: &ForwardingEntry) -> Result<Hop, String> {
    let prefix = entry.meant_for();
    let by = one(entry)?;
    match by {
        Hop::Via(gateway) if gateway.is_ipv6() || prefix.addr().is_ipv6() => Err(format!(
            "the route {prefix} is of IPv6, or by an IPv6 next hop: which next hop it names is not told"
        )),
        by => Ok(by),
    }
}

fn one(entry: &ForwardingEntry) -> Result<Hop, String> {
    match &entry.landing {
        Landing::Underlay {
            address,
            via: Via::Gateway { .. },
        } => Ok(Hop::Via(*address)),
        Landing::Underlay {
            via: Via::Vxlan { gateway, .. },
            ..
        }
        | Landing::UnresolvedNeighbour { gateway, .. } => Ok(Hop::Via(*gateway)),
        Landing::Discard { how } => Ok(Hop::Type(*how)),
        Landing::Multipath { .. } => Err(format!("the route {} has several next hops", entry.meant_for())),
        _ => Err(format!(
            "the route {} has no next hop that is seen ({})",
            entry.meant_for(),
            entry.landing
        )),
    }
}
