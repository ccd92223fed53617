//! HOST07 forwarding-off: routes are right, and the host does not pass pods' packets on, or not those of full size.
//!
//! Only where this host's CNI leaves forwarding to the kernel, and only once pods are there: the CNI's plugins
//! switch `ip_forward` on themselves when they set the first pod up.

mod lost;
mod mtu;
mod strict;

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::{Affected, Evidence, Severity};
use ipnet::IpNet;

use super::{Input, Judged, Says};
use crate::resolve::{MAIN, Roles, devices, roles};
use crate::view::host::Settings;
use crate::view::{Kernel, Link, Route, RouteKind};

const CODE: Code = Code::Host07;

/// Plugins that make routes and leave the rest to the kernel. Not Antrea (Open vSwitch), not Cilium (eBPF).
const KERNEL_PLUGINS: [&str; 5] = ["flannel", "bridge", "ptp", "calico", "cni-kindnet"];

/// Devices that Calico has only in its eBPF mode.
const CALICO_EBPF: [&str; 2] = ["bpfin.cali", "bpfout.cali"];

/// What keeps packets from passing.
struct Fault {
    severity: Severity,
    /// What is wrong, in a few words: the first half of a sentence.
    what: String,
    /// Prefix that it is about, where it is not about all pods.
    prefix: Option<IpNet>,
    evidence: Evidence,
    /// Counters that it shows in.
    lost: &'static [&'static str],
    cause: &'static str,
    remedy: String,
}

/// How this host's pods are connected.
struct Pods<'a> {
    input: &'a Input<'a>,
    plugin: &'a str,
    ipv4: bool,
    ipv6: bool,
    /// Devices that pods' packets come in by: the bridge that is their gateway, or their own ports.
    entrances: BTreeSet<u32>,
    roles: Roles,
}

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    let Some(plugin) = kernel_plugin(input) else {
        return;
    };
    if !input.kernel_gaps.is_empty() {
        for gap in input.kernel_gaps {
            judged.unjudged(CODE, format!("{} could not be read: {}", gap.what, gap.why));
        }
        return;
    }
    let Some(pods) = Pods::new(input, plugin) else {
        return;
    };
    let mut faults = Vec::new();
    if let Some(settings) = judged.need(CODE, &input.host.settings) {
        pods.settings(settings, &mut faults);
        strict::judge(&pods, settings, &mut faults);
    }
    mtu::judge(&pods, &mut faults);
    let Some(severity) = faults.iter().map(|fault| fault.severity).max() else {
        return;
    };
    // Worst first: it decides what is read of them.
    faults.sort_by_key(|fault| std::cmp::Reverse(fault.severity));
    // When a setting or an MTU was changed is not known: no time of it is claimed.
    let mut says = says(&faults);
    let mut names: Vec<&str> = faults.iter().flat_map(|fault| fault.lost).copied().collect();
    names.sort_unstable();
    names.dedup();
    says.evidence.extend(lost::evidence(&pods, &names));
    let mut claim = input.claim(CODE, says, None);
    claim.severity = severity;
    judged.claims.push(claim);
}

/// The primary plugin, where it leaves forwarding to the kernel.
fn kernel_plugin<'a>(input: &Input<'a>) -> Option<&'a str> {
    let plugin = input.cni.chosen.as_ref()?.plugins.first()?.as_str();
    let ebpf = || {
        let mut links = input.kernel.links.values();
        plugin == "calico" && links.any(|link| CALICO_EBPF.contains(&link.name.as_str()))
    };
    (KERNEL_PLUGINS.contains(&plugin) && !ebpf()).then_some(plugin)
}

impl<'a> Pods<'a> {
    /// `None` where there is no pod whose packets the host would have to forward.
    fn new(input: &'a Input<'a>, plugin: &'a str) -> Option<Self> {
        let internal_ips = input.expectation.map_or(&[][..], |told| &told.internal_ips);
        let mut pods = Self {
            input,
            plugin,
            ipv4: false,
            ipv6: false,
            entrances: BTreeSet::new(),
            roles: roles(input.kernel, internal_ips),
        };
        let bridge = input.cni.chosen.as_ref().and_then(|config| config.bridge.as_deref());
        match bridge {
            Some(name) => pods.behind_a_bridge(name),
            None => pods.with_routes_of_their_own(),
        }
        (pods.ipv4 || pods.ipv6).then_some(pods)
    }

    /// A bridge with an address is its pods' gateway; one without is a segment that somebody else routes for.
    fn behind_a_bridge(&mut self, name: &str) {
        let links = &self.input.kernel.links;
        let Some(bridge) = links.values().find(|link| link.name == name && link.up) else {
            return;
        };
        if !links.values().any(|link| link.master == Some(bridge.index)) {
            return;
        }
        for address in bridge.addresses.iter().filter(|address| !address.unusable) {
            self.family(address.net, bridge.index);
        }
    }

    /// A route for each pod, to a device whose other end is in another namespace.
    fn with_routes_of_their_own(&mut self) {
        for route in main_routes(self.input.kernel) {
            if route.prefix.prefix_len() != route.prefix.max_prefix_len() {
                continue;
            }
            for device in devices(self.input.kernel, &route.hops) {
                let link = self.input.kernel.links.get(&device);
                if link.is_some_and(|link| link.kind == "veth" && link.peer_elsewhere && link.master.is_none()) {
                    self.family(route.prefix, device);
                }
            }
        }
    }

    fn family(&mut self, net: IpNet, device: u32) {
        match net {
            IpNet::V4(_) => self.ipv4 = true,
            IpNet::V6(net) if net.addr().is_unicast_link_local() => return,
            IpNet::V6(_) => self.ipv6 = true,
        }
        self.entrances.insert(device);
    }

    /// Tunnel devices that this host's CNI makes, by their names.
    fn tunnels(&self) -> impl Iterator<Item = &'a Link> {
        let flannel = self.plugin == "flannel" || self.input.cni.flannel.is_some();
        let calico = self.plugin == "calico";
        let kube_router = self
            .input
            .cni
            .chosen
            .as_ref()
            .and_then(|config| config.bridge.as_deref())
            == Some("kube-bridge");
        let mine = move |name: &str| {
            (flannel && name.starts_with("flannel"))
                || (calico
                    && matches!(
                        name,
                        "vxlan.calico" | "vxlan-v6.calico" | "tunl0" | "wireguard.cali" | "wg-v6.cali"
                    ))
                || (kube_router && name.starts_with("tun-"))
        };
        let roles = &self.roles;
        let tunnels: Vec<&'a Link> = (self.input.kernel.links.values())
            .filter(|link| roles.get(&link.index) == Some(&LinkRole::Tunnel) && mine(&link.name))
            .collect();
        tunnels.into_iter()
    }

    /// Unicast routes of table main that leave by this device.
    fn routes_by(&self, device: u32) -> impl Iterator<Item = &'a Route> {
        let kernel = self.input.kernel;
        main_routes(kernel).filter(move |route| devices(kernel, &route.hops).contains(&device))
    }

    /// IPv4 asks the device that a packet comes in by (`IN_DEV_FORWARD`), IPv6 only the setting for all: there a
    /// device's own setting says whether it listens to routers.
    fn settings(&self, settings: &Settings, faults: &mut Vec<Fault>) {
        let fault = |what: String, key: String, lost, cause| Fault {
            severity: Severity::Error,
            what,
            prefix: None,
            evidence: self
                .input
                .observed_evidence(&self.input.host.settings, format!("{key} = 0")),
            lost,
            cause,
            remedy: format!(
                "sysctl -w {key}=1, and find out who sets it: grep -rs forward /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d \
                 /usr/lib/sysctl.d"
            ),
        };
        const REPLACED: &str =
            "Settings were replaced, at boot or by a hardening profile, after the CNI or kubeadm had set them.";
        if self.ipv6 && settings.ipv6_forward == Some(false) {
            let key = "net.ipv6.conf.all.forwarding".to_owned();
            let what = "IPv6 is not forwarded at all".to_owned();
            faults.push(fault(what, key, lost::NOT_FORWARDED_V6, REPLACED));
        }
        if !self.ipv4 {
            return;
        }
        if settings.ipv4_forward == Some(false) {
            let key = "net.ipv4.ip_forward".to_owned();
            let what = "IPv4 is not forwarded at all".to_owned();
            faults.push(fault(what, key, lost::NOT_FORWARDED_V4, REPLACED));
            return;
        }
        let tunnels: BTreeSet<u32> = self.tunnels().map(|link| link.index).collect();
        for link in self.input.kernel.links.values() {
            if !settings.ipv4_forward_off.contains(&link.name) {
                continue;
            }
            let whose = if self.entrances.contains(&link.index) {
                "pods send by it"
            } else if tunnels.contains(&link.index) && link.up {
                "other nodes' pods send by it"
            } else if self.roles.get(&link.index) == Some(&LinkRole::Uplink) {
                "everything from outside, answers to pods too, comes in by it"
            } else {
                continue;
            };
            faults.push(fault(
                format!("IPv4 that comes in by {} is not forwarded: {whose}", link.name),
                // sysctl(8) takes the name's dots for slashes, and the other way round.
                format!("net/ipv4/conf/{}/forwarding", link.name),
                lost::NOT_FORWARDED_V4,
                "The device's own setting is off, though ip_forward is on: somebody set it for this device, or as the default \
                 for new ones.",
            ));
        }
    }
}

/// Routes of table main that lead somewhere.
fn main_routes(kernel: &Kernel) -> impl Iterator<Item = &Route> {
    let v4 = kernel.routes.v4.get(&MAIN).into_iter().flat_map(|table| table.values());
    let v6 = kernel.routes.v6.get(&MAIN).into_iter().flat_map(|table| table.values());
    v4.chain(v6).flatten().filter(|route| route.kind == RouteKind::Unicast)
}

fn says(faults: &[Fault]) -> Says {
    let lines: Vec<&str> = faults.iter().take(3).map(|fault| fault.what.as_str()).collect();
    let more = match faults.len() - lines.len() {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    let whole = faults.iter().any(|fault| fault.severity >= Severity::Error);
    let headline = match whole {
        true => "the host does not pass pods' packets on",
        false => "the host does not pass all of pods' packets on",
    };
    let mut causes: Vec<&str> = faults.iter().map(|fault| fault.cause).collect();
    causes.dedup();
    causes.truncate(2);
    let mut steps: Vec<&str> = faults.iter().take(3).map(|fault| fault.remedy.as_str()).collect();
    steps.dedup();
    Says {
        summary: format!("{headline}: {}{more}", lines.join("; ")),
        affected: faults
            .iter()
            .map(|fault| Affected {
                prefix: fault.prefix,
                node: None,
                detail: fault.what.clone(),
            })
            .collect(),
        evidence: faults.iter().map(|fault| fault.evidence.clone()).collect(),
        cause: causes.join(" "),
        remedy: format!("On the node: {}.", steps.join("; ")),
        ..Says::default()
    }
}
