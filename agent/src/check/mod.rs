//! Judges one host by what its Node should have. Pure rules over plain data:
//! one file each, no I/O, no clock.
//!
//! Every rule ends in claims, in nothing (the host is as it should be), or in
//! [`Unjudged`]: what could not be judged is said, and is not healthy.

mod addresses;
mod bridge;
pub mod compare;
mod config;
mod divert;
mod forwarding;
mod kubelet;
mod model;
mod network_manager;
mod pods;
mod proxy;
mod ready;
mod restricted;
mod route;
mod sandbox;

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{CniFacts, Gap, LeakedLeases};
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Trigger};
use cidrift_proto::landing::ForwardingEntry;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::resolve::Fib;
use crate::view::growth::LeaseGrowth;
use crate::view::host::RangeSet;
use crate::view::{Host, Kernel, Link, Missing, Observed};

pub use self::model::{Delivery, Model, Ranges, model};

/// The rules that rest on the Node's pod CIDR and on a CNI that takes its addresses from it.
pub const BY_POD_CIDR: [Code; 6] = [
    Code::Host01,
    Code::Host02,
    Code::Host03,
    Code::Host04,
    Code::Host05,
    Code::Host10,
];

/// What the host's Node should have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expectation {
    /// Who says so, for evidence: "Node node-a".
    pub source: String,
    /// False when the control plane knows no such Node.
    pub node_known: bool,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// flannel's annotation `kube-subnet-manager`; `None` where it is not known.
    pub kube_subnet_manager: Option<bool>,
    /// When it was read.
    pub observed_at: Option<Timestamp>,
    /// Since when it is so, as far as this agent knows: when it was first told.
    pub since: Option<Timestamp>,
}

impl Expectation {
    /// The Node's word.
    fn evidence(&self) -> Evidence {
        let cidrs = match self.pod_cidrs.as_slice() {
            [] => "none".to_owned(),
            cidrs => list(cidrs),
        };
        Evidence {
            source: self.source.clone(),
            text: format!("podCIDRs {cidrs}"),
            observed_at: self.observed_at,
            stale: false,
        }
    }
}

/// What the forwarding table says of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// The entry that covers it: its own or the nearest wider one. `None` when
    /// `specifics` leave nothing of the prefix to it.
    pub base: Option<ForwardingEntry>,
    /// The entries inside it that are more specific.
    pub specifics: Vec<ForwardingEntry>,
}

/// Looks prefixes up in the effective forwarding table.
pub trait Lookup {
    /// `None` when the table is not known for this prefix.
    fn coverage(&self, prefix: IpNet) -> Option<Coverage>;
}

impl Lookup for Fib {
    fn coverage(&self, prefix: IpNet) -> Option<Coverage> {
        let covering = self.covering(prefix);
        let base = covering.base?;
        Some(Coverage {
            base: (!covering.shadowed).then(|| base.clone()),
            specifics: covering.inside.into_iter().cloned().collect(),
        })
    }
}

/// All that the rules look at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Node name.
    pub node: &'a str,
    /// `None`: not known (yet).
    pub expectation: Option<&'a Expectation>,
    /// The kernel's state.
    pub kernel: &'a Kernel,
    /// When that was last known to be right.
    pub kernel_at: Timestamp,
    /// Links, addresses, routes or rules that could not be read: what rests on them is not judged.
    pub kernel_gaps: &'a [Gap],
    /// When a link or an address last changed, where that is known.
    pub links_changed_at: Option<Timestamp>,
    /// CNI configuration.
    pub cni: &'a CniFacts,
    /// When that was read.
    pub cni_at: Timestamp,
    /// When it last changed, where that is known.
    pub cni_changed_at: Option<Timestamp>,
    /// The effective forwarding table.
    pub lookup: &'a dyn Lookup,
    /// Processes, runtime, leases, logs, settings.
    pub host: &'a Host,
    /// How leases grew, where that was watched for long enough.
    pub lease_growth: &'a [LeaseGrowth],
    /// The clock: when this is judged.
    pub now: Timestamp,
}

/// A rule that could not be judged, at least in part.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unjudged {
    /// The rule.
    pub code: Code,
    /// Why, for people.
    pub reason: String,
}

/// What the rules found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// What is wrong.
    pub claims: Vec<Claim>,
    /// What could not be judged.
    pub unjudged: Vec<Unjudged>,
    /// Leases of sandboxes that are gone, where that is worth a claim.
    pub leaks: Option<LeakedLeases>,
}

/// Judges the host by every rule.
pub fn check(input: &Input<'_>) -> Judged {
    let mut judged = Judged::default();
    by_pod_cidr(input, &mut judged);
    ready::judge(input, &mut judged);
    forwarding::judge(input, &mut judged);
    kubelet::judge(input, &mut judged);
    proxy::judge(input, &mut judged);
    network_manager::judge(input, &mut judged);
    sandbox::judge(input, &mut judged);
    restricted::judge(input, &mut judged);
    judged.claims.sort_by_key(|claim| claim.code);
    judged.unjudged.sort_by_key(|row| row.code);
    judged
}

/// The network that pods are given addresses of and the sets that host-local hands out of for it, as HOST05 judges them.
/// `None` where it does not judge.
pub fn pool(input: &Input<'_>) -> Option<(String, Vec<RangeSet>)> {
    let (expectation, model) = preconditions(input).ok()?;
    let case = Case {
        input,
        expectation,
        model: &model,
    };
    addresses::pool(&case, &mut Judged::default())
}

fn by_pod_cidr(input: &Input<'_>, judged: &mut Judged) {
    let (expectation, model) = match preconditions(input) {
        Ok(both) => both,
        Err(reason) => {
            let all = BY_POD_CIDR.map(|code| Unjudged {
                code,
                reason: reason.clone(),
            });
            judged.unjudged.extend(all);
            return;
        }
    };
    let case = Case {
        input,
        expectation,
        model: &model,
    };
    config::judge(&case, judged);
    pods::judge(&case, judged);
    addresses::judge(&case, judged);
    if input.kernel_gaps.is_empty() {
        bridge::judge(&case, judged);
        route::judge(&case, judged);
        divert::judge(&case, judged);
    }
    for gap in input.kernel_gaps {
        for code in [Code::Host02, Code::Host04, Code::Host10] {
            judged.unjudged(code, format!("{} could not be read: {}", gap.what, gap.why));
        }
    }
}

fn preconditions<'a>(input: &Input<'a>) -> Result<(&'a Expectation, Model), String> {
    let expectation = input
        .expectation
        .ok_or("what the Node should have is not known: the control plane has not told yet")?;
    if !expectation.node_known {
        return Err(format!("the control plane knows no Node {:?}", input.node));
    }
    // How the host's CNI allocates comes first: with an allocator of its own, an empty podCIDR is normal.
    let model = model(input.cni)?;
    if model.is_flannel() && expectation.kube_subnet_manager == Some(false) {
        return Err(
            "flanneld takes its subnet from etcd (its annotation kube-subnet-manager is not true), not from the Node"
                .to_owned(),
        );
    }
    if expectation.pod_cidrs.is_empty() {
        return Err(format!("{} has no podCIDR", expectation.source));
    }
    Ok((expectation, model))
}

/// One host to judge, with what is known of its Node and its CNI.
struct Case<'a> {
    input: &'a Input<'a>,
    expectation: &'a Expectation,
    model: &'a Model,
}

impl<'a> Case<'a> {
    fn link(&self, name: &str) -> Option<&'a Link> {
        self.input.kernel.links.values().find(|link| link.name == name)
    }

    /// The device that holds the host's own address in the pod CIDR, by its name.
    fn gateway_device(&self) -> Option<&'a Link> {
        self.model.delivery.device().and_then(|name| self.link(name))
    }

    /// How many devices are ports of this bridge.
    fn ports(&self, bridge: &Link) -> usize {
        let links = self.input.kernel.links.values();
        links.filter(|link| link.master == Some(bridge.index)).count()
    }

    /// The Node's CIDRs of the address family of `net`.
    fn cidrs_of_family(&self, net: &IpNet) -> impl Iterator<Item = IpNet> + 'a {
        let v4 = net.addr().is_ipv4();
        let cidrs = self.expectation.pod_cidrs.iter().copied();
        cidrs.filter(move |cidr| cidr.addr().is_ipv4() == v4)
    }

    /// The subnets that the CNI's files name, of whichever range and family; none where no file says it.
    fn named_subnets(&self) -> &'a [IpNet] {
        let cni = self.input.cni;
        match self.model.ranges {
            Ranges::Config => cni.chosen.as_ref().map_or(&[], |config| config.subnets.as_slice()),
            Ranges::SubnetEnv => cni.flannel.as_ref().map_or(&[], |env| env.subnets.as_slice()),
            Ranges::Node | Ranges::Agent => &[],
        }
    }

    fn cidrs(&self) -> String {
        list(&self.expectation.pod_cidrs)
    }
}

impl Input<'_> {
    fn kernel_evidence(&self, text: String) -> Evidence {
        Evidence {
            source: format!("kernel of {}", self.node),
            text,
            observed_at: Some(self.kernel_at),
            stale: false,
        }
    }

    fn file_evidence(&self, path: &str, text: String) -> Evidence {
        Evidence {
            source: format!("{path} on {}", self.node),
            text,
            observed_at: Some(self.cni_at),
            stale: false,
        }
    }

    /// What was observed besides: its source names where.
    fn observed_evidence<T>(&self, observed: &Observed<T>, text: String) -> Evidence {
        Evidence {
            source: format!("{} on {}", observed.source, self.node),
            text,
            observed_at: Some(observed.at),
            stale: false,
        }
    }

    /// Where the newest fact came from: the host, whose fact changed at `host`,
    /// or the control plane. Where neither is known the patient answer is taken.
    fn trigger(&self, host: Option<Timestamp>) -> (Option<Timestamp>, Trigger) {
        match (host, self.expectation.and_then(|expectation| expectation.since)) {
            (Some(host), Some(since)) if since > host => (Some(since), Trigger::ControlPlane),
            (Some(host), _) => (Some(host), Trigger::Host),
            (None, since) => (since, Trigger::ControlPlane),
        }
    }

    /// A claim about this node.
    fn claim(&self, code: Code, says: Says, host_changed: Option<Timestamp>) -> Claim {
        let (changed_at, trigger) = self.trigger(host_changed);
        let Says {
            summary,
            mut affected,
            mut evidence,
            unseen,
            cause,
            remedy,
        } = says;
        affected.sort();
        let affected_total = u32::try_from(affected.len()).unwrap_or(u32::MAX);
        affected.truncate(ROWS);
        evidence.truncate(ROWS);
        Claim {
            code,
            subject: self.node.to_owned(),
            severity: code.entry().severity,
            nodes: vec![self.node.to_owned()],
            summary,
            affected,
            affected_total,
            evidence,
            unseen,
            cause,
            remedy,
            changed_at,
            trigger,
        }
    }
}

/// What a rule has to say.
#[derive(Default)]
struct Says {
    summary: String,
    affected: Vec<Affected>,
    evidence: Vec<Evidence>,
    unseen: Vec<String>,
    cause: String,
    remedy: String,
}

impl Judged {
    fn unjudged(&mut self, code: Code, reason: impl Into<String>) {
        self.unjudged.push(Unjudged {
            code,
            reason: reason.into(),
        });
    }

    /// What a rule rests on, or `None`: then it is said why it cannot be judged. What is not on this host at all
    /// (no runtime, no kubelet) leaves nothing to be judged, and nothing is said.
    fn need<'a, T>(&mut self, code: Code, observed: &'a Observed<T>) -> Option<&'a T> {
        match &observed.value {
            Ok(value) => return Some(value),
            Err(Missing::Absent(_)) => {}
            Err(Missing::NotYet) => self.unjudged(code, "the host was not looked at yet"),
            Err(Missing::Unreadable(why)) => self.unjudged(code, format!("{}: {why}", observed.source)),
        }
        None
    }
}

/// What could not be judged, a line for each reason: "HOST01, HOST02" and why.
pub fn by_reason(unjudged: &[Unjudged]) -> Vec<(String, &str)> {
    let mut rows: Vec<(Vec<Code>, &str)> = Vec::new();
    for row in unjudged {
        match rows.iter_mut().find(|(_, reason)| *reason == row.reason) {
            Some((codes, _)) => codes.push(row.code),
            None => rows.push((vec![row.code], &row.reason)),
        }
    }
    rows.into_iter().map(|(codes, reason)| (list(&codes), reason)).collect()
}

/// The file that may be meant for pods behind the one in use. "99-loopback.conf", which guides have people write for
/// older runtimes, is meant for `lo`.
fn behind(cni: &CniFacts) -> Option<&String> {
    cni.others.iter().find(|other| !other.contains("loopback"))
}

/// "10.244.1.0/24, fd00::/64".
fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
