//! HOST11 routes-at-risk: a network manager may remove what the CNI makes.
//!
//! Nothing is lost yet, so it must be certain that something would be: a manager that is set to remove what it did not
//! make, and a route, a rule or a device of the CNI's that it has its hands on. Where nothing but routes is at risk and
//! the CNI is seen to write them again by itself, it is an information.

mod again;

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Evidence, Severity};
use ipnet::IpNet;

use self::again::{Again, again};
use super::{Input, Judged, Says, list};
use crate::resolve::devices;
use crate::view::host::NetworkManager;
use crate::view::{Hops, Route, RouteKind, Rule};

const CODE: Code = Code::Host11;

/// `rtm_protocol` of routes that no CNI makes or that systemd-networkd keeps: redirect, kernel, ra, dhcp. Static ones
/// it keeps where KeepConfiguration= says so, which does not show here.
const NOT_AT_RISK: [u8; 5] = [1, 2, 4, 9, 16];

/// Rules that CNIs make for each pod, by their priority: AWS' VPC CNI, and Cilium with ENIs or Azure.
const AWS_RULES: [u32; 2] = [512, 1536];
const CILIUM_RULES: [u32; 2] = [20, 111];

/// How devices that a CNI makes are called; a name is that of a device type whose number or hash follows.
const CNI_DEVICES: [&str; 8] = [
    "cni",
    "flannel",
    "cali",
    "vxlan.calico",
    "tunl0",
    "kube-bridge",
    "cilium_",
    "lxc",
];

/// Something that a manager may take away.
struct Risk<'a> {
    manager: &'a NetworkManager,
    what: String,
    affected: Vec<Affected>,
    evidence: Vec<Evidence>,
    again: Again,
}

pub(super) fn judge(input: &Input<'_>, judged: &mut Judged) {
    // Without a CNI nothing of one can be lost.
    if input.cni.chosen.is_none() {
        return;
    }
    let Some(managers) = judged.need(CODE, &input.host.managers) else {
        return;
    };
    if managers.is_empty() {
        return;
    }
    if !input.kernel_gaps.is_empty() {
        for gap in input.kernel_gaps {
            judged.unjudged(CODE, format!("{} could not be read: {}", gap.what, gap.why));
        }
        return;
    }
    let risks: Vec<Risk<'_>> = managers.iter().filter_map(|manager| risk(input, manager)).collect();
    if risks.is_empty() {
        return;
    }
    let lasting = (risks.iter()).any(|risk| !matches!(risk.again, Again::Written { .. }));
    let mut claim = input.claim(CODE, says(input, risks), None);
    if !lasting {
        claim.severity = Severity::Info;
    }
    judged.claims.push(claim);
}

fn risk<'a>(input: &Input<'_>, manager: &'a NetworkManager) -> Option<Risk<'a>> {
    if manager.name == "NetworkManager" {
        return devices_at_risk(input, manager);
    }
    if manager.setting.starts_with("ManageForeignRoutes=") {
        return routes_at_risk(input, manager);
    }
    rules_at_risk(input, manager)
}

/// Routes to pods by devices that the manager configures, or by several at once.
fn routes_at_risk<'a>(input: &Input<'_>, manager: &'a NetworkManager) -> Option<Risk<'a>> {
    let kernel = input.kernel;
    let managed: BTreeSet<u32> = (kernel.links.values())
        .filter(|link| manager.devices.contains(&link.name))
        .map(|link| link.index)
        .collect();
    if managed.is_empty() {
        return None;
    }
    let at_risk = |route: &&Route| {
        let by = || devices(kernel, &route.hops);
        let several = matches!(route.hops, Hops::Many(_)) && route.prefix.addr().is_ipv4();
        route.kind == RouteKind::Unicast
            && route.prefix.prefix_len() > 0
            && !NOT_AT_RISK.contains(&route.protocol)
            && (several || by().iter().any(|device| managed.contains(device)))
            && in_pod_ranges(input, route.prefix)
    };
    let mut routes: Vec<&Route> = kernel.routes.iter().filter(at_risk).collect();
    routes.sort_by_key(|route| (route.prefix, route.table));
    let first = routes.first()?;
    let names = |route: &Route| {
        let names = devices(kernel, &route.hops).into_iter();
        let names = names.filter_map(|index| Some(kernel.links.get(&index)?.name.clone()));
        names.collect::<Vec<_>>().join(", ")
    };
    Some(Risk {
        manager,
        what: format!(
            "{} routes to pods, as {} dev {}",
            routes.len(),
            first.prefix,
            names(first)
        ),
        affected: routes
            .iter()
            .map(|route| Affected {
                prefix: Some(route.prefix),
                node: None,
                detail: format!("dev {} proto {}", names(route), route.protocol),
            })
            .collect(),
        evidence: vec![input.kernel_evidence(format!(
            "{} dev {} proto {} (table {})",
            first.prefix,
            names(first),
            first.protocol,
            first.table
        ))],
        again: again(input, &routes),
    })
}

/// Rules for pods' addresses. They belong to no device: any start of the manager removes them.
fn rules_at_risk<'a>(input: &Input<'_>, manager: &'a NetworkManager) -> Option<Risk<'a>> {
    let plugin = input.cni.chosen.as_ref().and_then(|config| config.plugins.first());
    let of_cni: &[u32] = match plugin.map_or("", String::as_str) {
        "aws-cni" => &AWS_RULES,
        "cilium-cni" => &CILIUM_RULES,
        _ => &[],
    };
    let at_risk = |rule: &&Rule| {
        let ends = [rule.source, rule.destination];
        let mut ends = ends.iter().flatten().filter(|net| net.prefix_len() > 0);
        ends.any(|net| of_cni.contains(&rule.priority) || in_pod_ranges(input, *net))
    };
    let rules: Vec<&Rule> = input.kernel.rules.iter().filter(at_risk).collect();
    let first = rules.first()?;
    let line = |rule: &Rule| {
        let source = rule.source.map_or("all".to_owned(), |net| net.to_string());
        let to = rule.destination.map(|net| format!(" to {net}")).unwrap_or_default();
        format!("{}: from {source}{to}", rule.priority)
    };
    Some(Risk {
        manager,
        what: format!("{} policy rules for pods, as {}", rules.len(), line(first)),
        affected: rules
            .iter()
            .map(|rule| Affected {
                prefix: rule.destination.or(rule.source),
                node: None,
                detail: format!("rule {}", line(rule)),
            })
            .collect(),
        evidence: vec![input.kernel_evidence(format!("rule: {}", line(first)))],
        again: Again::Lost,
    })
}

/// Devices of the CNI's that the manager takes for its own.
fn devices_at_risk<'a>(input: &Input<'_>, manager: &'a NetworkManager) -> Option<Risk<'a>> {
    let bridge = input.cni.chosen.as_ref().and_then(|config| config.bridge.as_deref());
    let pods_port = |name: &str| {
        let mut links = input.kernel.links.values();
        links.any(|link| link.name == name && link.kind == "veth" && link.peer_elsewhere)
    };
    let mut devices: Vec<String> = (manager.devices.iter())
        .filter(|name| {
            Some(name.as_str()) == bridge
                || CNI_DEVICES.iter().any(|prefix| name.starts_with(prefix))
                || (name.starts_with("veth") && pods_port(name))
        })
        .filter(|name| input.kernel.links.values().any(|link| link.name == **name))
        .cloned()
        .collect();
    devices.sort();
    let first = devices.first()?;
    Some(Risk {
        manager,
        what: format!("{} devices of the CNI's, as {first}", devices.len()),
        affected: devices
            .iter()
            .map(|name| Affected {
                prefix: None,
                node: None,
                detail: format!("device {name}"),
            })
            .collect(),
        evidence: Vec::new(),
        again: Again::Lost,
    })
}

/// Whether pods' addresses are in it, as far as this host knows the cluster's ranges: by what it was told, its Node's
/// CIDRs and flannel's network.
fn in_pod_ranges(input: &Input<'_>, prefix: IpNet) -> bool {
    let own = input.expectation.map_or(&[][..], |told| &told.pod_cidrs);
    let flannels = input.cni.flannel.as_ref().map_or(&[][..], |env| &env.networks);
    own.iter().chain(flannels).any(|net| net.contains(&prefix)) || input.lookup.coverage(prefix).is_some()
}

fn says(input: &Input<'_>, risks: Vec<Risk<'_>>) -> Says {
    let mut evidence = Vec::new();
    for Risk { manager, .. } in &risks {
        let devices = match manager.devices.as_slice() {
            [] => String::new(),
            devices => format!("; it manages {}", list(&devices[..devices.len().min(8)])),
        };
        evidence.push(Evidence {
            source: match &manager.file {
                Some(file) => format!("{file} on {}", input.node),
                None => format!("{} on {}", manager.name, input.node),
            },
            text: format!("{}{devices}", manager.setting),
            observed_at: Some(input.host.managers.at),
            stale: false,
        });
    }
    let mut names: Vec<&str> = risks.iter().map(|risk| risk.manager.name.as_str()).collect();
    names.dedup();
    let networkd = names.contains(&"systemd-networkd");
    let mut steps = Vec::new();
    if networkd {
        steps.push(
            "printf '[Network]\\nManageForeignRoutes=no\\nManageForeignRoutingPolicyRules=no\\n' > \
             /etc/systemd/networkd.conf.d/90-cni.conf, and restart systemd-networkd while you can watch the routes",
        );
    }
    if names.contains(&"NetworkManager") {
        steps.push(
            "name the CNI's devices in unmanaged-devices= under [keyfile] in /etc/NetworkManager/conf.d/90-cni.conf, then nmcli \
             general reload",
        );
    }
    let what: Vec<String> = (risks.iter())
        .map(|risk| match &risk.again {
            Again::Written { says, .. } => format!("{}; {says}", risk.what),
            Again::Unseen(_) | Again::Lost => risk.what.clone(),
        })
        .collect();
    let summary = format!(
        "{} may remove what the CNI made: {}",
        names.join(" and "),
        what.join("; ")
    );
    let cause = match networkd {
        true => {
            "systemd-networkd removes routes and rules that it did not make when it starts or configures a device anew; a bond's \
             port that changes its state is enough."
        }
        false => {
            "NetworkManager takes the CNI's devices for its own: it removes addresses and routes from a device that it \
             deactivates, and asks for DHCP on one that it activates."
        }
    };
    evidence.extend(risks.iter().flat_map(|risk| risk.evidence.iter().cloned()));
    let mut unseen = Vec::new();
    for risk in &risks {
        match &risk.again {
            Again::Written { evidence: runs, .. } => evidence.push(runs.clone()),
            Again::Unseen(why) => unseen.push(why.clone()),
            Again::Lost => {}
        }
    }
    Says {
        summary,
        affected: risks.into_iter().flat_map(|risk| risk.affected).collect(),
        evidence,
        unseen,
        cause: cause.to_owned(),
        remedy: format!("On the node: {}.", steps.join("; ")),
    }
}
