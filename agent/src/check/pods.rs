//! HOST03 pods-outside-cidr: running pods have addresses outside the Node's pod CIDR.
//!
//! The runtime's list is what proves that a pod runs. A cached result or a lease may be left over from one that does
//! not: they show where an address came from, and say nothing alone.

mod origin;

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::LinkRole;
use cidrift_proto::finding::{Affected, Evidence};
use ipnet::IpNet;

use self::origin::{Origin, Records};
use super::{Case, Judged, Says};
use crate::resolve::roles;
use crate::view::Missing;
use crate::view::host::Sandbox;

const CODE: Code = Code::Host03;

/// Pods that a summary names; the rest is counted.
const NAMED: usize = 3;

/// Pods of which the evidence is shown.
const SHOWN: usize = 8;

/// Above that many pods to be replaced, draining the node is less work than deleting them one by one.
const ONE_BY_ONE: usize = 3;

/// An address of a running pod that is not the Node's.
struct Stray<'a> {
    sandbox: &'a Sandbox,
    address: IpAddr,
    origin: Origin,
}

pub(super) fn judge(case: &Case<'_>, judged: &mut Judged) {
    let observed = &case.input.host.sandboxes;
    let records = Records::new(case.input.host);
    let Some(sandboxes) = judged.need(CODE, observed) else {
        if !matches!(observed.value, Err(Missing::NotYet)) {
            unproven(case, &records, judged);
        }
        return;
    };
    let running = || {
        sandboxes
            .iter()
            .filter(|sandbox| sandbox.ready && !sandbox.host_network)
    };
    let unknown = running().filter(|sandbox| sandbox.addresses.is_empty()).count();
    if unknown > 0 {
        judged.unjudged(
            CODE,
            format!(
                "{}: {unknown} running sandboxes without their addresses",
                observed.source
            ),
        );
    }
    let outside: Vec<(&Sandbox, IpAddr)> = running()
        .flat_map(|sandbox| sandbox.addresses.iter().map(move |address| (sandbox, *address)))
        .filter(|(_, address)| outside(case, *address))
        .collect();
    if outside.is_empty() {
        return;
    }
    let strays = sort_out(case, &records, outside, judged);
    let Some(newest) = strays.iter().map(|stray| stray.sandbox.created_at).max() else {
        return;
    };
    let says = says(case, &records, &strays);
    judged.claims.push(case.input.claim(CODE, says, newest));
}

/// Of a family that the Node has a CIDR of, and in none of them.
fn outside(case: &Case<'_>, address: IpAddr) -> bool {
    let mut cidrs = case.cidrs_of_family(&IpNet::from(address)).peekable();
    cidrs.peek().is_some() && !cidrs.any(|cidr| cidr.contains(&address))
}

/// Leaves out what may be meant: addresses of the host itself, of a network that the host is in, and of the networks
/// that a pod may ask Multus for. The latter two are said.
fn sort_out<'a>(
    case: &Case<'_>,
    records: &Records<'_>,
    outside: Vec<(&'a Sandbox, IpAddr)>,
    judged: &mut Judged,
) -> Vec<Stray<'a>> {
    let roles = roles(case.input.kernel, &case.expectation.internal_ips);
    let pods_device = case.gateway_device().map(|link| link.index);
    let mut strays = Vec::new();
    let mut meant: Vec<String> = Vec::new();
    for (sandbox, address) in outside {
        let links = || case.input.kernel.links.values();
        if links().any(|link| link.addresses.iter().any(|own| own.net.addr() == address)) {
            continue;
        }
        let underlay = links().find(|link| {
            matches!(roles.get(&link.index), Some(LinkRole::Uplink | LinkRole::Other))
                && Some(link.index) != pods_device
                && link.addresses.iter().any(|own| own.net.contains(&address))
        });
        if let Some(link) = underlay {
            meant.push(format!(
                "{} has {address}, of the network of {}",
                sandbox.pod, link.name
            ));
            continue;
        }
        let origin = origin::of(case, records, sandbox, address);
        if origin::behind_multus(case) && !records.given_by(case, sandbox, address) {
            meant.push(format!(
                "{} has {address}, perhaps of a network that it asked Multus for",
                sandbox.pod
            ));
            continue;
        }
        strays.push(Stray {
            sandbox,
            address,
            origin,
        });
    }
    if let Some(first) = meant.first() {
        let more = match meant.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        judged.unjudged(CODE, format!("{first}{more}: whether that is meant is not known"));
    }
    strays
}

/// Without the runtime nobody knows which pods run.
fn unproven(case: &Case<'_>, records: &Records<'_>, judged: &mut Judged) {
    let mut found = records.all().filter(|(address, _)| outside(case, *address));
    let Some((address, of)) = found.next() else { return };
    let more = match found.count() {
        0 => String::new(),
        more => format!(", {more} more"),
    };
    judged.unjudged(
        CODE,
        format!(
            "{of} has {address}{more}, outside {}: whether those pods still run only the runtime could tell",
            case.cidrs()
        ),
    );
}

fn says(case: &Case<'_>, records: &Records<'_>, strays: &[Stray<'_>]) -> Says {
    let pods: Vec<&str> = {
        let mut pods: Vec<&str> = strays.iter().map(|stray| stray.sandbox.pod.as_str()).collect();
        pods.sort_unstable();
        pods.dedup();
        pods
    };
    let named: Vec<String> = strays
        .iter()
        .take(NAMED)
        .map(|stray| format!("{} {}", stray.sandbox.pod, stray.address))
        .collect();
    let more = match strays.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let have = if pods.len() == 1 {
        "pod has an address"
    } else {
        "pods have addresses"
    };
    Says {
        summary: format!(
            "{} running {have} outside {}: {}{more}",
            pods.len(),
            case.cidrs(),
            named.join(", ")
        ),
        affected: strays.iter().map(affected).collect(),
        evidence: evidence(case, records, strays),
        unseen: unseen(case, records),
        cause: origin::causes(case, strays.iter().map(|stray| &stray.origin)),
        remedy: remedy(case, strays, &pods),
    }
}

/// What could make these addresses right after all, and could not be looked at.
fn unseen(case: &Case<'_>, records: &Records<'_>) -> Vec<String> {
    let mut unseen = records.unseen();
    if case.model.is_flannel() && case.expectation.kube_subnet_manager.is_none() {
        unseen.push("whether flanneld runs with --kube-subnet-mgr (the Node's annotations)".to_owned());
    }
    let kube_router = case.model.delivery.device() == Some("kube-bridge");
    if kube_router && !case.expectation.source.contains("annotation") {
        unseen.push("the annotation kube-router.io/pod-cidrs, which kube-router takes before spec.podCIDRs".to_owned());
    }
    unseen
}

fn affected(stray: &Stray<'_>) -> Affected {
    let sandbox = stray.sandbox;
    let since = sandbox
        .created_at
        .map(|at| format!(", since {at:.0}"))
        .unwrap_or_default();
    let id: String = sandbox.id.chars().take(SHORT_ID).collect();
    Affected {
        prefix: Some(stray.address.into()),
        node: None,
        detail: format!("{} has {} (sandbox {id}{since})", sandbox.pod, stray.address),
    }
}

/// Letters of a container id that tools show, as crictl does.
const SHORT_ID: usize = 13;

fn evidence(case: &Case<'_>, records: &Records<'_>, strays: &[Stray<'_>]) -> Vec<Evidence> {
    let mut rows = vec![case.expectation.evidence()];
    for stray in strays.iter().take(SHOWN) {
        let text = format!("{}: SANDBOX_READY, {}", stray.sandbox.pod, stray.address);
        rows.push(case.input.observed_evidence(&case.input.host.sandboxes, text));
        rows.extend(records.evidence(case, stray.sandbox, stray.address));
    }
    if strays.iter().any(|stray| stray.origin == Origin::HandedOut) {
        rows.extend(origin::file_evidence(case));
    }
    rows
}

fn remedy(case: &Case<'_>, strays: &[Stray<'_>], pods: &[&str]) -> String {
    let first = if strays.iter().any(|stray| stray.origin == Origin::HandedOut) {
        "Mend HOST01 first, else their replacements are wrong too. Then replace them"
    } else {
        "Replace them"
    };
    if pods.len() > ONE_BY_ONE {
        let node = case.input.node;
        return format!(
            "{first}: kubectl drain {node} --ignore-daemonsets --delete-emptydir-data, then delete those of DaemonSets \
             one by one and kubectl uncordon {node}."
        );
    }
    let each: Vec<String> = pods
        .iter()
        .map(|pod| match pod.split_once('/') {
            Some((namespace, name)) => format!("kubectl -n {namespace} delete pod {name}"),
            None => format!("kubectl delete pod {pod}"),
        })
        .collect();
    format!("{first}: {}.", each.join("; "))
}
