//! The lab's breaks: what each does, takes back, and what must be found of it.

use cidrift_proto::catalogue::Code;
use ipnet::IpNet;

use crate::dataplane::{device, forget_steps, peer_route, peer_steps, uplink};
use crate::host_files::{self, LEFTOVER, SUBNET_ENV, bridge_conflist, subnet_env};
use crate::route::Route;
use crate::snapshot::Node;
use crate::step::{Step, Verb};
use crate::topology::{Dataplane, Identity, default_routes, pod_cidr, underlay_net};
use crate::world::World;

/// A way to break the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Break {
    /// A peer's route is deleted.
    PeerRouteDeleted,
    /// A peer's route leads to another host.
    RouteToWrongHost,
    /// A Node is removed; one host keeps its route.
    StaleRoute,
    /// A peer's route becomes a blackhole.
    Blackhole,
    /// The FDB sends a peer's frames to another host.
    FdbToWrongHost,
    /// The device to the peers goes down.
    LinkDown,
    /// A Node is created anew with another CIDR; its host does not notice.
    NodeRecreated,
    /// A CNI configuration with another range takes precedence.
    CniConfigOld,
    /// flannel's subnet.env names another range.
    SubnetEnvOld,
    /// A second Node has the CIDR of the first.
    DuplicateCidr,
}

/// What a break amounts to in a given world.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is done, in order; the last step is the one that breaks.
    pub steps: Vec<Step>,
    /// What takes it back.
    pub undo: Vec<Step>,
    /// What must be found.
    pub expected: Expected,
    /// Findings of error or above that may stand beside it.
    pub companions: Vec<Companion>,
    /// Pairs of hosts (from, to) whose pods' pings must fail, sorted. All others must work.
    pub silent: Vec<(String, String)>,
}

/// The finding that a break must bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its code.
    pub code: Code,
    /// Its subject: a node, or a prefix for an overlap.
    pub subject: String,
    /// The nodes that it must name.
    pub nodes: Vec<String>,
}

/// A finding that follows from the same break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Its code.
    pub code: Code,
    /// Why it is right that it stands too.
    pub why: &'static str,
}

impl Break {
    /// All, in the order of the demo.
    pub const ALL: [Self; 10] = [
        Self::PeerRouteDeleted,
        Self::RouteToWrongHost,
        Self::StaleRoute,
        Self::Blackhole,
        Self::FdbToWrongHost,
        Self::LinkDown,
        Self::NodeRecreated,
        Self::CniConfigOld,
        Self::SubnetEnvOld,
        Self::DuplicateCidr,
    ];

    /// The name that people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeerRouteDeleted => "peer-route-deleted",
            Self::RouteToWrongHost => "route-to-wrong-host",
            Self::StaleRoute => "stale-route",
            Self::Blackhole => "blackhole",
            Self::FdbToWrongHost => "fdb-to-wrong-host",
            Self::LinkDown => "link-down",
            Self::NodeRecreated => "node-recreated",
            Self::CniConfigOld => "cni-config-old",
            Self::SubnetEnvOld => "subnet-env-old",
            Self::DuplicateCidr => "duplicate-cidr",
        }
    }

    /// One line.
    pub fn description(self) -> &'static str {
        match self {
            Self::PeerRouteDeleted => "h1 loses its route to h2's pods",
            Self::RouteToWrongHost => "h1 sends packets for h2's pods to h3",
            Self::StaleRoute => "the last Node is removed; h1 keeps the route to it",
            Self::Blackhole => "h1's route to h2's pods becomes a blackhole",
            Self::FdbToWrongHost => "h1's forwarding database sends h2's frames to h3 (vxlan only)",
            Self::LinkDown => "h1's device to its peers goes down: the kernel deletes IPv4 routes without a message",
            Self::NodeRecreated => "Node h2 is deleted and created again with another CIDR; no host notices",
            Self::CniConfigOld => "h1 has a second CNI configuration, with an old range, that takes precedence",
            Self::SubnetEnvOld => "h1's subnet.env still has an old range",
            Self::DuplicateCidr => "a new Node is given h2's CIDR",
        }
    }

    /// The break of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether that dataplane can be broken so.
    pub fn applies_to(self, dataplane: Dataplane) -> bool {
        self != Self::FdbToWrongHost || dataplane == Dataplane::Vxlan
    }

    /// What it amounts to in `world`, as it is before the break. `None` with
    /// fewer than three hosts, or where it does not apply.
    pub fn plan(self, world: &World) -> Option<Plan> {
        let dataplane = world.topology.plan.dataplane;
        let hosts: Vec<&Identity> = world.topology.hosts.iter().map(|host| &host.identity).collect();
        let (&[h1, h2, h3, ..], &[.., last]) = (hosts.as_slice(), hosts.as_slice()) else {
            return None;
        };
        let cidr = *h2.cidrs.first()?;
        let peer = peer_route(dataplane, cidr, h2)?;
        let on_h1 = |verb| Step::on(&h1.name, verb);
        let put_back = vec![on_h1(Verb::ReplaceRoute(peer.clone()))];
        let old = pod_cidr(200);
        let plan = match self {
            Self::PeerRouteDeleted => Plan {
                steps: vec![on_h1(Verb::DelRoute(peer))],
                undo: put_back,
                expected: Expected::of(Code::Path01, h1),
                companions: Vec::new(),
                silent: both_ways(h1, &[h2]),
            },
            Self::RouteToWrongHost => {
                let wrong = match dataplane {
                    Dataplane::Vxlan => Route::onlink(cidr, h3.cidrs.first()?.network(), device(cidr)),
                    Dataplane::HostGw => Route::via(cidr, h3.underlay_for(cidr)?, "eth0"),
                };
                Plan {
                    steps: vec![on_h1(Verb::ReplaceRoute(wrong))],
                    undo: put_back,
                    expected: Expected::of(Code::Path02, h1),
                    companions: Vec::new(),
                    // h3 passes it on, one hop more than the direct way has; answers may take their time.
                    silent: vec![(h1.name.clone(), h2.name.clone())],
                }
            }
            Self::StaleRoute => {
                let others = hosts.iter().filter(|host| **host != h1 && **host != last);
                let mut steps = vec![Step::DeleteNode(last.name.clone())];
                let mut undo = vec![Step::PutNode(Node::of(last, dataplane, 2))];
                for other in others.clone() {
                    steps.extend(forget_steps(dataplane, &other.name, last));
                    undo.extend(peer_steps(dataplane, &other.name, last));
                }
                let others: Vec<&Identity> = others.copied().collect();
                Plan {
                    steps,
                    undo,
                    expected: Expected::of(Code::Path03, h1),
                    companions: Vec::new(),
                    silent: both_ways(last, &others),
                }
            }
            Self::Blackhole => Plan {
                steps: vec![on_h1(Verb::ReplaceRoute(Route::blackhole(cidr)))],
                undo: put_back,
                expected: Expected::of(Code::Path04, h1),
                companions: Vec::new(),
                silent: both_ways(h1, &[h2]),
            },
            Self::FdbToWrongHost => {
                if dataplane != Dataplane::Vxlan {
                    return None;
                }
                let fdb = |destination| {
                    on_h1(Verb::ReplaceFdb {
                        device: device(cidr).to_owned(),
                        lladdr: h2.vtep(cidr),
                        destination,
                    })
                };
                Plan {
                    steps: vec![fdb(h3.underlay_for(cidr)?)],
                    undo: vec![fdb(h2.underlay_for(cidr)?)],
                    expected: Expected::of(Code::Path06, h1),
                    companions: Vec::new(),
                    silent: both_ways(h1, &[h2]),
                }
            }
            Self::LinkDown => {
                let peers: Vec<&Identity> = hosts.iter().copied().filter(|host| *host != h1).collect();
                let (steps, undo) = link_down(dataplane, h1, &peers);
                Plan {
                    steps,
                    undo,
                    expected: Expected::of(Code::Path01, h1),
                    companions: Vec::new(),
                    silent: both_ways(h1, &peers),
                }
            }
            Self::NodeRecreated => {
                let reborn = Node {
                    pod_cidrs: replaced(&h2.cidrs, old),
                    ..Node::of(h2, dataplane, 2)
                };
                Plan {
                    steps: vec![Step::PutNode(reborn)],
                    undo: vec![Step::PutNode(world.snapshot.nodes.get(&h2.name)?.clone())],
                    expected: Expected::of(Code::Pool12, h2),
                    companions: vec![
                        Companion::new(Code::Path01, "nobody has a route to the new CIDR"),
                        Companion::new(Code::Path03, "the peers still route the old CIDR"),
                        Companion::new(Code::Host01, "h2's subnet.env still has the old CIDR"),
                        Companion::new(Code::Host02, "h2's bridge still has the old address"),
                        Companion::new(Code::Host04, "h2 does not deliver the new CIDR"),
                    ],
                    silent: Vec::new(),
                }
            }
            Self::CniConfigOld => Plan {
                steps: vec![host_files::write(h1, LEFTOVER, bridge_conflist(old))],
                undo: vec![Step::RemoveFile {
                    host: h1.name.clone(),
                    path: LEFTOVER.to_owned(),
                }],
                expected: Expected::of(Code::Host01, h1),
                companions: Vec::new(),
                silent: Vec::new(),
            },
            Self::SubnetEnvOld => {
                let env = |cidrs: &[IpNet]| host_files::write(h1, SUBNET_ENV, subnet_env(cidrs, dataplane));
                Plan {
                    steps: vec![env(&replaced(&h1.cidrs, old))],
                    undo: vec![env(&h1.cidrs)],
                    expected: Expected::of(Code::Host01, h1),
                    companions: Vec::new(),
                    silent: Vec::new(),
                }
            }
            Self::DuplicateCidr => {
                let next = Identity::new(last.number + 1, world.topology.plan.dual_stack);
                let second = Node {
                    pod_cidrs: vec![cidr],
                    ..Node::of(&next, dataplane, 1)
                };
                Plan {
                    steps: vec![Step::PutNode(second)],
                    undo: vec![Step::DeleteNode(next.name.clone())],
                    expected: Expected {
                        code: Code::Pool03,
                        subject: cidr.to_string(),
                        nodes: vec![h2.name.clone(), next.name],
                    },
                    companions: Vec::new(),
                    silent: Vec::new(),
                }
            }
        };
        Some(plan)
    }
}

impl Expected {
    fn of(code: Code, node: &Identity) -> Self {
        Self {
            code,
            subject: node.name.clone(),
            nodes: vec![node.name.clone()],
        }
    }
}

impl Companion {
    fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }
}

/// vxlan: flannel.1 goes down and stays so. host-gw: eth0 goes down and comes
/// back at once, since the agent reports through it; what the kernel deleted
/// meanwhile stays away.
fn link_down(dataplane: Dataplane, host: &Identity, peers: &[&Identity]) -> (Vec<Step>, Vec<Step>) {
    let on = |verb| Step::on(&host.name, verb);
    let mut steps = Vec::new();
    let mut undo = Vec::new();
    for &cidr in &host.cidrs {
        let device = uplink(dataplane, cidr).to_owned();
        if steps.contains(&on(Verb::Down(device.clone()))) {
            continue;
        }
        steps.push(on(Verb::Down(device.clone())));
        match dataplane {
            Dataplane::Vxlan => {
                undo.push(on(Verb::Up(device.clone())));
                // Down, an IPv6 device loses its addresses.
                undo.push(on(Verb::AddAddr {
                    device,
                    address: IpNet::from(cidr.network()),
                }));
            }
            Dataplane::HostGw => steps.push(on(Verb::Up(device))),
        }
    }
    if dataplane == Dataplane::HostGw {
        for &address in &host.underlay {
            undo.push(on(Verb::AddAddr {
                device: "eth0".to_owned(),
                address: underlay_net(address),
            }));
        }
        undo.extend(
            default_routes(host)
                .into_iter()
                .map(|route| on(Verb::ReplaceRoute(route))),
        );
    }
    for peer in peers {
        undo.extend(peer_steps(dataplane, &host.name, peer));
    }
    (steps, undo)
}

/// `cidrs` with another IPv4 prefix in place of theirs.
fn replaced(cidrs: &[IpNet], v4: IpNet) -> Vec<IpNet> {
    let other = |cidr: &IpNet| if cidr.addr().is_ipv4() { v4 } else { *cidr };
    cidrs.iter().map(other).collect()
}

/// Echo and answer take both ways, so one broken way silences both.
fn both_ways(host: &Identity, peers: &[&Identity]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for peer in peers {
        pairs.push((host.name.clone(), peer.name.clone()));
        pairs.push((peer.name.clone(), host.name.clone()));
    }
    pairs.sort();
    pairs
}
