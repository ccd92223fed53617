//! HOST04 local-route-wrong: packets for the Node's own CIDR leave the host, or die.
//!
//! A node without pods has no bridge and no route for its CIDR, and a CNI with a
//! route for every pod never has one: both are normal. So is a discard route
//! over the whole CIDR where no bridge delivers it (Calico's own blocks,
//! flannel's --ip-blackhole-route).

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::{Affected, Severity};
use cidrift_proto::landing::{ForwardingEntry, Landing, RouteMatch, Via};
use ipnet::IpNet;

use super::{Case, Coverage, Delivery, Judged, Says, list};
use crate::resolve::{MAIN, Roles, roles};
use crate::view::{Hops, Link, Route, RouteKind};

const CODE: Code = Code::Host04;

/// A part of the Node's CIDR that is not delivered on the host.
struct Fault {
    /// The part.
    prefix: IpNet,
    /// Where it goes instead; `None`: the device itself is at fault.
    entry: Option<ForwardingEntry>,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// Out of the host and back to it: its own CNI daemon takes it for a peer.
    Itself,
    /// To another host, or to whoever answers on the underlay.
    Leaves,
    /// Dropped.
    Dropped,
    /// Nothing leads to the bridge.
    NotToDevice,
    /// The device is down though pods hang on it.
    Down,
    /// The device has no address though pods hang on it.
    NoAddress,
}

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let mut faults = Vec::new();
    let roles = roles(case.input.kernel, &case.expectation.internal_ips);
    for cidr in &case.expectation.pod_cidrs {
        for part in with_pods(case, *cidr) {
            let Some(coverage) = case.input.lookup.coverage(part) else {
                judged.unjudged(CODE, format!("the forwarding table for {part} is not known"));
                continue;
            };
            let here = Here::new(case, &roles, part);
            match here.device_fault(part) {
                Some(fault) => faults.push(fault),
                None => here.look(part, *cidr, coverage, &mut faults, judged),
            }
        }
    }
    if faults.is_empty() {
        return;
    }
    let changed = faults
        .iter()
        .filter_map(|fault| fault.entry.as_ref())
        .map(|entry| entry.changed_at)
        .max();
    let says = says(case, &faults);
    let mut claim = case.input.claim(CODE, says, changed.or(case.input.links_changed_at));
    // Pods have routes of their own there, which win: only what has no pod goes astray.
    if case.model.delivery == Delivery::PerPod {
        claim.severity = Severity::Warning;
    }
    judged.claims.push(claim);
}

/// The parts of one of the Node's CIDRs that pods get addresses of: its CNI's files may name smaller subnets, and a
/// bridge delivers no more than those. What is left of the CIDR has no pod.
fn with_pods(case: &Case<'_>, cidr: IpNet) -> Vec<IpNet> {
    let named = case.named_subnets().iter().filter(|subnet| cidr.contains(*subnet));
    let mut parts: Vec<IpNet> = named.copied().collect();
    if parts.is_empty() {
        parts.push(cidr);
    }
    parts
}

/// How this host should deliver one of its CIDRs.
struct Here<'a> {
    case: &'a Case<'a>,
    device: Option<&'a Link>,
    ports: usize,
    /// The device is up and has an address in the CIDR: lookups must land on it.
    ready: bool,
    roles: &'a Roles,
}

impl<'a> Here<'a> {
    fn new(case: &'a Case<'a>, roles: &'a Roles, cidr: IpNet) -> Self {
        let device = case.gateway_device();
        Self {
            case,
            device,
            ports: device.map_or(0, |link| case.ports(link)),
            ready: device.is_some_and(|link| link.up && holds(link, cidr)),
            roles,
        }
    }

    /// What is wrong with the device itself; without pods on it, nothing is.
    fn device_fault(&self, cidr: IpNet) -> Option<Fault> {
        let link = self.device.filter(|_| self.ports > 0)?;
        let v4 = |net: IpNet| net.addr().is_ipv4();
        let why = if !link.up && holds(link, cidr) {
            Why::Down
        } else if self.case.model.is_flannel() && v4(cidr) && link.up && !link.addresses.iter().any(|a| v4(a.net)) {
            // flannel always makes its bridge the pods' gateway. Other bridges may be pure
            // layer 2, and a foreign address is HOST02's.
            Why::NoAddress
        } else {
            return None;
        };
        Some(Fault {
            prefix: cidr,
            entry: None,
            why,
        })
    }

    /// Judges a part of the Node's CIDR, or all of it.
    fn look(&self, part: IpNet, cidr: IpNet, coverage: Coverage, faults: &mut Vec<Fault>, judged: &mut Judged) {
        if let Some(base) = coverage.base {
            let own = base.route.is_some_and(|route| cidr.contains(&route.prefix));
            match self.base(&base.landing, own) {
                Verdict::Fine => {}
                Verdict::Wrong(why) => faults.push(Fault {
                    prefix: part,
                    entry: Some(base),
                    why,
                }),
                Verdict::Unknown(reason) => judged.unjudged(CODE, format!("{part}: {reason}")),
            }
        }
        for entry in coverage.specifics {
            // A default entry for what is not the part's is nothing of it.
            if !part.contains(&entry.prefix) {
                continue;
            }
            if let Some(why) = self.part(&entry.landing) {
                faults.push(Fault {
                    prefix: entry.prefix,
                    entry: Some(entry),
                    why,
                });
            }
        }
    }

    /// Judges where the CIDR as a whole lands; `own`: by a route for it or a
    /// part of it, not by a wider one such as the default route.
    fn base(&self, landing: &Landing, own: bool) -> Verdict {
        let wrong = |why| Verdict::Wrong(why);
        let not_delivered = if self.ready {
            wrong(Why::NotToDevice)
        } else {
            Verdict::Fine
        };
        match landing {
            Landing::Host { device } | Landing::Local { device, .. } | Landing::Onlink { device }
                if self.is_device(device) =>
            {
                Verdict::Fine
            }
            landing if own && self.leads_back(landing) => wrong(Why::Itself),
            Landing::Local { device, .. } if own && self.leads_away(device) => wrong(Why::Leaves),
            Landing::Host { .. } | Landing::Local { .. } | Landing::NoRoute => not_delivered,
            Landing::Underlay { .. } | Landing::Onlink { .. } | Landing::UnresolvedNeighbour { .. } if own => {
                wrong(Why::Leaves)
            }
            Landing::Underlay { .. } | Landing::Onlink { .. } | Landing::UnresolvedNeighbour { .. } => not_delivered,
            Landing::Discard { .. } if self.ready => wrong(Why::Dropped),
            Landing::Discard { .. } => Verdict::Fine,
            // A bridge without ports, where routes of links without carrier are ignored.
            Landing::DeadDevice { device, .. } if self.is_device(device) => Verdict::Fine,
            Landing::DeadDevice { .. } if own => wrong(Why::Dropped),
            Landing::DeadDevice { .. } => not_delivered,
            Landing::Opaque { .. } if own || self.ready => Verdict::Unknown(landing.to_string()),
            Landing::Opaque { .. } => Verdict::Fine,
            Landing::Multipath { legs } => legs
                .iter()
                .map(|leg| self.base(&leg.landing, own))
                .find(|verdict| !matches!(verdict, Verdict::Fine))
                .unwrap_or(Verdict::Fine),
        }
    }

    /// Judges where a part of the CIDR lands.
    fn part(&self, landing: &Landing) -> Option<Why> {
        match landing {
            Landing::Local { device, .. } if self.is_device(device) => None,
            Landing::Local { device, .. } if self.leads_away(device) => Some(Why::Leaves),
            // Another bridge's network inside the pods': docker0 and its like.
            Landing::Local { device, .. } if self.ready && self.kind(device) == "bridge" => Some(Why::NotToDevice),
            // The host's own addresses, a pod's own route.
            Landing::Host { .. } | Landing::Local { .. } => None,
            Landing::Onlink { device } if self.is_device(device) => None,
            Landing::Underlay { .. } | Landing::Onlink { .. } | Landing::UnresolvedNeighbour { .. } => {
                Some(Why::Leaves)
            }
            Landing::Discard { .. } | Landing::NoRoute => {
                (self.ready && !self.case.model.is_calico()).then_some(Why::Dropped)
            }
            // One pod's dead port says nothing about the CIDR; what is decided outside the FIB neither.
            Landing::DeadDevice { .. } | Landing::Opaque { .. } => None,
            Landing::Multipath { legs } => legs.iter().find_map(|leg| self.part(&leg.landing)),
        }
    }

    fn is_device(&self, name: &str) -> bool {
        self.device.is_some_and(|link| link.name == name)
    }

    /// To one of the Node's own addresses, or to its uplink, where only other hosts could answer for its pods.
    fn leads_back(&self, landing: &Landing) -> bool {
        match landing {
            Landing::Underlay { address, .. } => self.case.expectation.internal_ips.contains(address),
            Landing::Onlink { device } => {
                let role = self.case.link(device).and_then(|link| self.roles.get(&link.index));
                role == Some(&LinkRole::Uplink)
            }
            _ => false,
        }
    }

    fn kind(&self, name: &str) -> &str {
        self.case.link(name).map_or("", |link| link.kind.as_str())
    }

    /// A tunnel: on-link there is another host.
    fn leads_away(&self, name: &str) -> bool {
        let role = self.case.link(name).and_then(|link| self.roles.get(&link.index));
        role == Some(&LinkRole::Tunnel)
    }
}

enum Verdict {
    Fine,
    Wrong(Why),
    Unknown(String),
}

fn holds(link: &Link, cidr: IpNet) -> bool {
    link.addresses
        .iter()
        .any(|address| !address.unusable && cidr.contains(&address.net.addr()))
}

fn says(case: &Case<'_>, faults: &[Fault]) -> Says {
    let device = case.gateway_device();
    let mut evidence = vec![case.expectation.evidence()];
    if let Some(link) = device {
        evidence.push(case.input.kernel_evidence(link_line(case, link)));
    }
    for entry in faults.iter().filter_map(|fault| fault.entry.as_ref()) {
        evidence.push(case.input.kernel_evidence(entry_line(entry)));
    }
    let line = |fault: &Fault| match (&fault.entry, fault.why, device) {
        (Some(entry), _, _) => format!("{} lands {}", fault.prefix, entry.landing),
        (None, Why::Down, Some(link)) => format!("{}: {} is down", fault.prefix, link.name),
        (None, _, Some(link)) => format!("{}: {} has no IPv4 address", fault.prefix, link.name),
        (None, _, None) => fault.prefix.to_string(),
    };
    let lines: Vec<String> = faults.iter().take(3).map(line).collect();
    let more = match faults.len() - lines.len() {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    let (cause, remedy) = why(case, faults, device);
    Says {
        summary: format!("the Node's own CIDR is not delivered here: {}{more}", lines.join("; ")),
        affected: faults
            .iter()
            .map(|fault| Affected {
                prefix: Some(fault.prefix),
                node: None,
                detail: line(fault),
            })
            .collect(),
        evidence,
        cause,
        remedy,
        ..Says::default()
    }
}

/// As `ip address` would have it, in one line.
fn link_line(case: &Case<'_>, link: &Link) -> String {
    let state = if link.up { "UP" } else { "DOWN" };
    let nets: Vec<IpNet> = link.addresses.iter().map(|address| address.net).collect();
    let addresses = if nets.is_empty() {
        "no address".to_owned()
    } else {
        list(&nets)
    };
    format!("{}: {state}, {addresses}, {} ports", link.name, case.ports(link))
}

/// As `ip route` would have it.
fn entry_line(entry: &ForwardingEntry) -> String {
    match entry.route {
        None => format!("{}: {}", entry.prefix, entry.landing),
        Some(RouteMatch {
            prefix,
            table,
            metric,
            protocol,
        }) => format!(
            "{prefix} {} (table {table}, metric {metric}, proto {protocol})",
            entry.landing
        ),
    }
}

fn why(case: &Case<'_>, faults: &[Fault], device: Option<&Link>) -> (String, String) {
    let node = case.input.node;
    // The sorted first decides the words: a diversion explains more than its effects.
    let Some(worst) = faults.iter().min_by_key(|fault| fault.why) else {
        return (String::new(), String::new());
    };
    let name = device.map_or("the bridge", |link| link.name.as_str());
    let cause = match worst.why {
        Why::Itself => {
            "A route for the Node's own CIDR leads back to this very host. flanneld makes it when the Node is deleted and made again \
             with another CIDR under it: it knows its own CIDR only from its start, and takes the new one for a peer's."
        }
        Why::Leaves => {
            "A route for the Node's own CIDR leads off the host: left from the time when another node had this CIDR, \
             or another node has it too (POOL03)."
        }
        Why::Dropped => "A discard route, or one over a dead device, takes precedence over the bridge's own.",
        Why::NotToDevice => {
            "The bridge is up and has its address, but its connected route is gone or another one takes precedence."
        }
        Why::Down => "The bridge was set down; the kernel removes its routes then, without a message for IPv4.",
        Why::NoAddress => {
            "The bridge lost its address, or flannel's CNI plugin never gave it one: pods on it have no gateway."
        }
    };
    let mut steps = Vec::new();
    for fault in faults.iter().take(3) {
        match (&fault.entry, fault.why) {
            (None, Why::Down) => steps.push(format!("ip link set {name} up")),
            (None, _) => steps.push(format!(
                "replace one pod of this node: the CNI gives {name} its address again (kubectl get pods -A --field-selector spec.nodeName={node})"
            )),
            (Some(entry), Why::Itself) => steps.push(format!(
                "restart the CNI's daemon (kubectl -n kube-flannel delete pod -l app=flannel --field-selector spec.nodeName={node}); \
                 if the route is still there then: {}",
                delete(entry, fault.prefix)
            )),
            (Some(entry), _) => steps.push(mend(case, device, entry, fault.prefix)),
        }
    }
    steps.dedup();
    (cause.to_owned(), format!("On the node: {}.", steps.join("; ")))
}

/// Names the route's device: the bridge's own route for the same prefix stays.
fn delete(entry: &ForwardingEntry, part: IpNet) -> String {
    let device = match &entry.landing {
        Landing::Underlay {
            via: Via::Gateway { device } | Via::Vxlan { device, .. } | Via::Ipip { device },
            ..
        }
        | Landing::Onlink { device } => Some(device),
        _ => None,
    };
    let device = device.map(|device| format!(" dev {device}")).unwrap_or_default();
    let family = if part.addr().is_ipv4() { "" } else { "-6 " };
    let prefix = entry.route.map_or(part, |route| route.prefix);
    format!("ip {family}route del {prefix}{device}")
}

/// The command that brings one part back, without touching a running pod.
fn mend(case: &Case<'_>, device: Option<&Link>, entry: &ForwardingEntry, part: IpNet) -> String {
    let own = device.and_then(|link| {
        let address = link
            .addresses
            .iter()
            .find(|address| part.contains(&address.net.addr()))?;
        (address.net.trunc() == part).then(|| (link, address.net.addr()))
    });
    // What table main has, whether or not it decides.
    let main = case.input.kernel.routes.at(MAIN, &part).first();
    let back = |link: &Link, verb: &str, source: IpAddr| {
        format!(
            "ip route {verb} {part} dev {} proto kernel scope link src {source}",
            link.name
        )
    };
    match (own, entry.route) {
        // Replacing puts the connected route back in the same step; a route with another metric must go first.
        (Some((link, source)), Some(route)) if route.prefix == part && route.metric == 0 && part.addr().is_ipv4() => {
            back(link, "replace", source)
        }
        (Some((link, source)), route) if route.is_none_or(|route| !part.contains(&route.prefix)) => match main {
            None => back(link, "add", source),
            Some(main) if leads_to(main, link) && !link.carrier => format!(
                "table main has the route to {0}, which has no carrier and is passed over \
                 (sysctl ignore_routes_with_linkdown of {0} or of all): a pod on it brings the carrier",
                link.name
            ),
            // It is there, and would be added in vain ("File exists").
            Some(main) if leads_to(main, link) => format!(
                "table main has the route to {} already, but something decides before it: ip rule shows what leads elsewhere; \
                 mend that (HOST10)",
                link.name
            ),
            Some(_) => back(link, "replace", source),
        },
        (_, Some(route)) => format!(
            "ip {}route del {} table {} metric {}, once you know who set it",
            if route.prefix.addr().is_ipv4() { "" } else { "-6 " },
            route.prefix,
            route.table,
            route.metric
        ),
        (_, None) => format!("find out what drops {part}: ip rule, ip route get {}", part.addr()),
    }
}

/// The route sends packets out of this device.
fn leads_to(route: &Route, link: &Link) -> bool {
    route.kind == RouteKind::Unicast && matches!(&route.hops, Hops::One(hop) if hop.device == Some(link.index))
}
