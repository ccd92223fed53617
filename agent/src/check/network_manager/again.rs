//! Whose routes come back: daemons that look at their routes every so often and write again what is not there.
//!
//! It must be certain, since it makes a warning an information: the route is told to be of such a daemon by its shape,
//! and the daemon is seen to run. Every other CNI writes a route once, when a node comes or changes (reference F):
//! flannel's vxlan, with DirectRouting or without it, and kindnet's own newer daemon among them.

use cidrift_proto::finding::Evidence;

use super::super::Input;
use crate::view::host::{Missing, Program};
use crate::view::{Hop, Hops, Route};

/// `rtm_protocol` of routes as `ip route add` and most Go programs make them, of BIRD, kube-router and Felix.
const BOOT: u8 = 3;
const BIRD: u8 = 12;
const KUBE_ROUTER: u8 = 17;
const FELIX: u8 = 80;

/// A daemon that writes its routes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Writer {
    /// Calico's BIRD.
    Bird,
    /// flanneld with its backends host-gw and ipip.
    Flannel,
    /// kindnet as kind brings it.
    Kindnet,
    /// kube-router.
    KubeRouter,
    /// Calico's Felix.
    Felix,
}

impl Writer {
    /// As people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Bird => "Calico's BIRD",
            Self::Flannel => "flanneld",
            Self::Kindnet => "kindnetd",
            Self::KubeRouter => "kube-router",
            Self::Felix => "Calico's Felix",
        }
    }

    /// How often: flannel's `routeCheckRetries`, kindnetd's loop, kube-router's `--injected-routes-sync-period`, Felix'
    /// `RouteRefreshInterval`, and the `scan time` of Calico's BIRD.
    fn often(self) -> &'static str {
        match self {
            Self::Bird => "2 s",
            Self::Flannel | Self::Kindnet => "10 s",
            Self::KubeRouter => "60 s (unless --injected-routes-sync-period says otherwise)",
            Self::Felix => "90 s (unless RouteRefreshInterval says otherwise)",
        }
    }

    /// How the names of its pods begin, where its process is not told apart.
    fn pods(self) -> Option<&'static str> {
        match self {
            Self::Flannel => None,
            Self::Bird | Self::Felix => Some("calico-node-"),
            Self::Kindnet => Some("kindnet-"),
            Self::KubeRouter => Some("kube-router-"),
        }
    }
}

/// Whether routes come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Again {
    /// A daemon that runs here writes them again.
    Written {
        /// "kindnetd writes them again every 10 s".
        says: String,
        /// What shows that it runs.
        evidence: Evidence,
    },
    /// They would, by this daemon; that it runs could not be seen, for this reason.
    Unseen(String),
    /// Nobody is known to.
    Lost,
}

/// Whether all of these routes come back. None at all do not.
pub(super) fn again(input: &Input<'_>, routes: &[&Route]) -> Again {
    let writers: Option<Vec<Writer>> = routes.iter().map(|route| writer(input, route)).collect();
    // The slowest one's word counts.
    let Some(writer) = writers.and_then(|writers| writers.into_iter().max()) else {
        return Again::Lost;
    };
    match writer.pods() {
        None => by_process(input, writer),
        Some(pods) => by_pod(input, writer, pods),
    }
}

/// Whose route it is, by the CNI configuration and its shape.
fn writer(input: &Input<'_>, route: &Route) -> Option<Writer> {
    let config = input.cni.chosen.as_ref()?;
    let plugin = config.plugins.first().map_or("", String::as_str);
    let hop = match &route.hops {
        Hops::One(hop) if hop.gateway.is_some() => Some(hop),
        _ => None,
    };
    let kube_router = config.bridge.as_deref() == Some("kube-bridge");
    match (plugin, route.protocol) {
        ("calico", BIRD) => Some(Writer::Bird),
        ("calico", FELIX) => Some(Writer::Felix),
        ("bridge", KUBE_ROUTER) if kube_router => Some(Writer::KubeRouter),
        ("ptp", BOOT) if config.network == "kindnet" => hop.map(|_| Writer::Kindnet),
        ("flannel", BOOT) if flannel_checks(input, hop?) => Some(Writer::Flannel),
        _ => None,
    }
}

/// Whether flannel's backend is one that checks its routes, ipip or host-gw: one that has no device of its own, and
/// whose pods may send packets as long as the uplink takes (all others take some bytes for their header).
fn flannel_checks(input: &Input<'_>, hop: &Hop) -> bool {
    let links = &input.kernel.links;
    let Some(device) = hop.device.and_then(|index| links.get(&index)) else {
        return false;
    };
    if device.name == "flannel.ipip" {
        return true;
    }
    let tunnel = links.values().any(|link| link.name.starts_with("flannel"));
    let whole = (input.cni.flannel.as_ref()).is_some_and(|env| env.mtu == device.mtu);
    !tunnel && whole && told_backend(input).is_none_or(|backend| backend == "host-gw")
}

/// flannel's backend, where k3s was told it.
fn told_backend<'a>(input: &Input<'a>) -> Option<&'a str> {
    let processes = input.host.processes.get()?.iter();
    let mut told = processes.filter(|process| process.program == Program::Flanneld);
    told.find_map(|process| Some(process.settings.get("flannel-backend")?.value.as_str()))
}

fn by_process(input: &Input<'_>, writer: Writer) -> Again {
    let processes = &input.host.processes;
    let seen = match &processes.value {
        Ok(seen) => seen,
        Err(why) => return unseen(writer, &processes.source, why),
    };
    // A manifest is not in effect.
    let mut running = (seen.iter()).filter(|process| process.program == Program::Flanneld && process.pid != 0);
    match running.next() {
        None => Again::Lost,
        Some(process) => {
            let within = (process.embedded_in).map_or(String::new(), |program| format!(" in {program}"));
            let text = format!("{}{within} runs (pid {})", writer.name(), process.pid);
            written(writer, input.observed_evidence(processes, text))
        }
    }
}

fn by_pod(input: &Input<'_>, writer: Writer, pods: &str) -> Again {
    let sandboxes = &input.host.sandboxes;
    let seen = match &sandboxes.value {
        Ok(seen) => seen,
        Err(why) => return unseen(writer, &sandboxes.source, why),
    };
    let of_it = |pod: &str| pod.split_once('/').is_some_and(|(_, name)| name.starts_with(pods));
    let mut ready = (seen.iter()).filter(|sandbox| sandbox.ready && sandbox.host_network && of_it(&sandbox.pod));
    match ready.next() {
        None => Again::Lost,
        Some(sandbox) => {
            let text = format!("pod {} is ready, in the host's network", sandbox.pod);
            written(writer, input.observed_evidence(sandboxes, text))
        }
    }
}

fn written(writer: Writer, evidence: Evidence) -> Again {
    Again::Written {
        says: format!("{} writes them again every {}", writer.name(), writer.often()),
        evidence,
    }
}

fn unseen(writer: Writer, source: &str, why: &Missing) -> Again {
    let why = match why {
        Missing::NotYet => "the host was not looked at yet".to_owned(),
        Missing::Absent(why) => why.clone(),
        Missing::Unreadable(why) => format!("{source}: {why}"),
    };
    Again::Unseen(format!(
        "whether {} runs here, which would write the routes again: {why}",
        writer.name()
    ))
}
