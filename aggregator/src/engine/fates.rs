//! What became of a claim that is not made any more: the evidence that it is over,
//! or who cannot be asked.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim};
use cidrift_proto::verdict::Standing;
use ipnet::IpNet;

use super::churn::Churn;
use super::row::Row;
use crate::cluster::objects::{Resource, Watched};
use crate::cluster::{HostState, ReportState};
use crate::correlate::host::owned;
use crate::correlate::overlap::Subject;
use crate::correlate::pool::{self, Ground};
use crate::correlate::routes::told_by_host;
use crate::correlate::stale::{maybe_owned, of_host};
use crate::correlate::verdict::NEVER;
use crate::correlate::{Scene, churn, delegate, outside, sandbox, words};
use crate::ipam::Ipam;
use crate::ledger::Fate;

pub(super) struct Fates<'a> {
    scene: Scene<'a>,
    rows: &'a BTreeMap<String, Row>,
    churn: &'a Churn,
    /// What rules about the range share: it takes a look at all Nodes, so it is made for the first row that needs it.
    ground: OnceCell<Ground>,
}

/// A row about one address, which is a pod's: no node CIDR is that long.
fn of_pod(row: &Affected) -> bool {
    row.prefix
        .is_some_and(|prefix| prefix.prefix_len() == prefix.max_prefix_len())
}

impl<'a> Fates<'a> {
    pub(super) fn new(scene: Scene<'a>, rows: &'a BTreeMap<String, Row>, churn: &'a Churn) -> Self {
        let ground = OnceCell::new();
        Self {
            scene,
            rows,
            churn,
            ground,
        }
    }

    pub(super) fn of(&self, claim: &Claim, row: Option<&Affected>) -> Fate {
        match claim.code {
            Code::Path01 | Code::Path02 | Code::Path04 | Code::Path05 | Code::Path06 => self.pair(claim, row),
            Code::Path03 => match self.maybe_owned(row) {
                Some(why) => Fate::Unseen(why),
                None => self.of_routes(&claim.subject, row, |host, prefix| self.routed(host, prefix)),
            },
            Code::Path07 => self.one_way(claim, row),
            Code::Pool13 => self.around(Resource::ClusterCidrs, "ClusterCIDRs and Nodes agree"),
            Code::Pool14 => match delegate::unread(&self.scene) {
                Some(why) => Fate::Unseen(why),
                None => self.plane("the allocator's objects say so no more"),
            },
            Code::Pool15 => self.calmed(),
            Code::Sand01 => self.recovered(claim),
            Code::Pool12 if row.is_some_and(of_pod) => self.replaced(claim, row),
            Code::Pool12 if self.owns_again(claim, row) => {
                self.plane(&format!("{} has its old CIDR again", claim.subject))
            }
            Code::Pool12 => match row.and_then(|row| row.node.as_deref()) {
                Some(node) => self.of_routes(node, row, |host, prefix| self.routed(host, prefix)),
                None => self.plane("nobody routes the old CIDR"),
            },
            Code::Pool01 => self.given(claim),
            Code::Pool02 => self.inside(claim),
            // An overlap with an interface is the host's word; everything else the control plane's.
            Code::Pool03 => match Subject::of(&claim.subject) {
                Subject::Host(node) => self.host(&node, |_| "its interfaces have no such address any more".to_owned()),
                Subject::Range(_) => self.plane("the CIDRs do not overlap any more"),
            },
            Code::Pool11 => self.around(Resource::Events, "the event has expired"),
            Code::Seen01 => self.heard(&claim.subject),
            // The aggregator itself is the witness.
            Code::Seen03 => Fate::Gone(match self.scene.plane.nodes.contains_key(&claim.subject) {
                true => "aggregator: it was not tried again for 10 minutes".to_owned(),
                false => format!("Node {} is gone", claim.subject),
            }),
            Code::Seen04 => Fate::Gone(match self.scene.plane.nodes.contains_key(&claim.subject) {
                true => "aggregator: no agent has taken another's place for a minute".to_owned(),
                false => format!("Node {} is gone", claim.subject),
            }),
            Code::Pool04 | Code::Pool05 | Code::Pool06 | Code::Pool07 | Code::Pool09 | Code::Pool10 => {
                self.of_range(claim, row)
            }
            code if owned(code) => self.host(&claim.subject, |host| {
                format!("the agent of {} finds it no more", host.node)
            }),
            _ => self.plane("the Nodes say so no more"),
        }
    }

    /// A node that had no CIDR.
    fn given(&self, claim: &Claim) -> Fate {
        let name = &claim.subject;
        match self.scene.node(name) {
            None => self.plane(&format!("Node {name} is gone")),
            Some(node) if !node.pod_cidrs.is_empty() => {
                self.plane(&format!("{name} has {}", words::list(&node.pod_cidrs)))
            }
            Some(node) => match self.scene.ipam(node) {
                Ipam::Delegated(why) | Ipam::NoDataPlane(why) => self.plane(&format!("{name} needs none: {why}")),
                Ipam::PodCidr | Ipam::Unclear(_) => self.plane(&format!("nothing shows that {name} should have one")),
            },
        }
    }

    /// A node whose CIDR was outside of the pool.
    fn inside(&self, claim: &Claim) -> Fate {
        let name = &claim.subject;
        let Some(node) = self.scene.node(name) else {
            return self.plane(&format!("Node {name} is gone"));
        };
        match outside::unjudged(&self.scene) {
            Some(why) => Fate::Unseen(format!("what the pool is: {why}")),
            None => self.plane(&format!(
                "{} of {name} is inside the pool",
                words::list(&node.pod_cidrs)
            )),
        }
    }

    /// What objects of this kind say, if they can be read.
    fn around(&self, resource: Resource, reason: &str) -> Fate {
        match self.scene.plane.around.watches.get(&resource) {
            Some(Watched::Refused(why) | Watched::Broken(why)) => Fate::Unseen(format!("{resource}: {why}")),
            Some(Watched::Unlisted(_)) => Fate::Unseen(format!("{resource}: not listed yet")),
            Some(Watched::Live(_) | Watched::Absent) | None => self.plane(reason),
        }
    }

    /// It counts as calm only at half of what was unusual, so that it does not come and go itself.
    fn calmed(&self) -> Fate {
        let (weight, limit) = churn::weigh(self.churn, &self.scene);
        if weight > limit / 2 {
            return Fate::Still;
        }
        self.plane("Nodes stay now")
    }

    fn recovered(&self, claim: &Claim) -> Fate {
        let name = &claim.subject;
        if !self.scene.plane.nodes.contains_key(name) {
            return self.plane(&format!("Node {name} is gone"));
        }
        let around = &self.scene.plane.around;
        if let Some(Watched::Refused(why) | Watched::Broken(why)) = around.watches.get(&Resource::Events) {
            if sandbox::host_recovered(&self.scene, claim) {
                return self.host(name, |_| {
                    format!("the logs of {name} tell of no pod that fails any more")
                });
            }
            return Fate::Unseen(format!("{}: {why}", Resource::Events));
        }
        if sandbox::still_fails(&self.scene, name) {
            return Fate::Still;
        }
        self.around(
            Resource::Pods,
            &format!("pods of {name} get their sandboxes, or wait for none"),
        )
    }

    /// A pod that ran on with an address of the old CIDR.
    fn replaced(&self, claim: &Claim, row: Option<&Affected>) -> Fate {
        let name = &claim.subject;
        let Some(address) = row.and_then(|row| row.prefix).map(|prefix| prefix.addr()) else {
            return self.plane("it is gone");
        };
        let node = self.scene.node(name);
        if node.is_some_and(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(&address))) {
            return self.plane(&format!("{name} has its old CIDR again"));
        }
        self.around(Resource::Pods, &format!("no pod of {name} has {address} any more"))
    }

    /// Why it cannot be said that nobody owns the prefix.
    fn maybe_owned(&self, row: Option<&Affected>) -> Option<String> {
        let prefix = row?.prefix?;
        if self.scene.book.overlapping(prefix).next().is_some() {
            return None;
        }
        let (node, raw) = maybe_owned(&self.scene, prefix)?;
        Some(format!(
            "{node} may own {prefix}: its spec.podCIDRs has {raw:?}, which is no prefix"
        ))
    }

    fn owns_again(&self, claim: &Claim, row: Option<&Affected>) -> bool {
        let node = self.scene.node(&claim.subject);
        let old = row.and_then(|row| row.prefix);
        node.zip(old).is_some_and(|(node, old)| node.pod_cidrs.contains(&old))
    }

    /// What is so now with a prefix that had no owner and yet a route on this host.
    fn routed(&self, host: &HostState, prefix: IpNet) -> String {
        if let Some(slot) = self.scene.book.overlapping(prefix).next() {
            return format!("{} has {} now", slot.owner, slot.cidr);
        }
        match host.forwarding.longest(prefix) {
            Some(entry) if prefix.contains(&entry.meant_for()) => match of_host(&self.scene, prefix) {
                Some((node, address)) => format!("Node {node} has {address} of it itself"),
                None => format!("kernel of {}: {entry}", host.node),
            },
            _ => format!("{} has no route for {prefix} any more", host.node),
        }
    }

    /// A claim about the range: what is so with it now, if the control plane can be asked.
    fn of_range(&self, claim: &Claim, row: Option<&Affected>) -> Fate {
        match &self.scene.plane.problem {
            Some(_) => self.plane(""),
            None => {
                let ground = self.ground.get_or_init(|| Ground::new(&self.scene));
                let fate = pool::fate(&self.scene, ground, claim, row);
                fate.unwrap_or_else(|| self.plane("the Nodes say so no more"))
            }
        }
    }

    /// The control plane's word, if it can be had.
    fn plane(&self, reason: &str) -> Fate {
        match &self.scene.plane.problem {
            None => Fate::Gone(format!("{}: {reason}", self.scene.plane.source)),
            Some(problem) => Fate::Unseen(format!("{}: {problem}", self.scene.plane.source)),
        }
    }

    /// A live host's word; or the Node is gone.
    fn host(&self, name: &str, reason: impl FnOnce(&HostState) -> String) -> Fate {
        let host = self.scene.hosts.get(name);
        match host {
            Some(host) if host.report(self.scene.now, self.scene.silence) == ReportState::Live => {
                Fate::Gone(reason(host))
            }
            _ if !self.scene.plane.nodes.contains_key(name) && self.scene.plane.problem.is_none() => {
                Fate::Gone(format!("Node {name} is gone"))
            }
            _ => Fate::Unseen(self.unheard(name)),
        }
    }

    /// Why a host cannot be asked.
    fn unheard(&self, name: &str) -> String {
        let host = self.scene.hosts.get(name);
        match host.map(|host| (host, host.report(self.scene.now, self.scene.silence))) {
            None => format!("no agent reports for {name}"),
            Some((_, ReportState::Silent)) => format!("the agent of {name} has gone quiet"),
            Some((host, _)) => match host.problem(self.scene.now) {
                Some(problem) => format!("{name}: {problem}"),
                None => format!("{name}: its agent's view is not whole"),
            },
        }
    }

    /// Why it cannot be said now whether what a claim says is still so.
    pub(super) fn unseen(&self, claim: &Claim) -> Option<String> {
        let why = |fate| match fate {
            Fate::Unseen(why) => Some(why),
            Fate::Gone(_) | Fate::Still => None,
        };
        if claim.affected.is_empty() {
            return why(self.of(claim, None));
        }
        claim.affected.iter().find_map(|row| why(self.of(claim, Some(row))))
    }

    fn of_routes(&self, name: &str, row: Option<&Affected>, reason: impl FnOnce(&HostState, IpNet) -> String) -> Fate {
        if self.scene.plane.problem.is_some() {
            return self.plane("");
        }
        self.host(name, |host| match row.and_then(|row| row.prefix) {
            Some(prefix) => reason(host, prefix),
            None => format!("{} routes it no more", host.node),
        })
    }

    /// A broken (source, CIDR) pair.
    fn pair(&self, claim: &Claim, affected: Option<&Affected>) -> Fate {
        let source = &claim.subject;
        let Some(cidr) = affected.and_then(|row| row.prefix) else {
            return self.host(source, |host| format!("the routes of {} are right", host.node));
        };
        if !self.scene.plane.nodes.contains_key(source) {
            return self.host(source, |host| format!("Node {} is gone", host.node));
        }
        let owner = affected.and_then(|row| row.node.as_deref()).unwrap_or_default();
        let at = self.scene.book.by_net.get(cidr).and_then(|places| {
            let of_owner = |at: &&usize| self.scene.book.slots[**at].owner == owner;
            places.iter().find(of_owner).copied()
        });
        let Some(at) = at else {
            return self.plane(&format!("{owner} does not have {cidr} any more"));
        };
        let Some(row) = self.rows.get(source) else {
            return Fate::Unseen(format!("{source}: {NEVER}"));
        };
        if let Some(pair) = row.broken.get(&cidr) {
            let host = self.scene.host(source);
            if host.is_some_and(|host| told_by_host(host, cidr, pair)) {
                return Fate::Gone(format!("HOST02/{source} says why {cidr} stays there"));
            }
            return if pair.code == claim.code {
                Fate::Still
            } else {
                Fate::Gone(format!("{cidr} is {} now ({})", pair.code, pair.verdict))
            };
        }
        match row.marks.get(at) {
            Some(Standing::Delivered) => self.host(source, |host| {
                let entry = host.forwarding.longest(cidr);
                let landing = entry.map_or_else(|| "delivered".to_owned(), |entry| entry.landing.to_string());
                format!("kernel of {source}: {cidr} {landing}")
            }),
            _ => Fate::Unseen(match &row.blind {
                Some(why) => format!("{source}: {why}"),
                None => format!("{source} to {cidr} of {owner}: it cannot be said now whether it is delivered"),
            }),
        }
    }

    /// A pair that was broken one way only.
    fn one_way(&self, claim: &Claim, affected: Option<&Affected>) -> Fate {
        let forward = self.pair(claim, affected);
        let Some(peer) = affected.and_then(|row| row.node.as_deref()) else {
            return forward;
        };
        match forward {
            // Still broken in some way: then it is over only if the peer does not reach it either.
            Fate::Still | Fate::Gone(_) if self.broken(claim, affected) => {
                let slots = self.scene.book.by_owner.get(&claim.subject).into_iter().flatten();
                let row = self.rows.get(peer);
                let marks: Vec<Standing> = slots.filter_map(|at| row.and_then(|row| row.marks.get(*at))).collect();
                if marks.contains(&Standing::Broken) {
                    self.host(peer, |_| format!("{peer} does not reach {} either", claim.subject))
                } else if marks.contains(&Standing::Unknown) || marks.is_empty() {
                    Fate::Unseen(format!("whether {peer} reaches {} cannot be said now", claim.subject))
                } else {
                    Fate::Still
                }
            }
            other => other,
        }
    }

    fn broken(&self, claim: &Claim, affected: Option<&Affected>) -> bool {
        let row = self.rows.get(&claim.subject);
        let cidr = affected.and_then(|row| row.prefix);
        let pair = row
            .zip(cidr)
            .and_then(|(row, cidr)| Some((cidr, row.broken.get(&cidr)?)));
        let host = self.scene.host(&claim.subject);
        pair.is_some_and(|(cidr, pair)| !host.is_some_and(|host| told_by_host(host, cidr, pair)))
    }

    fn heard(&self, name: &str) -> Fate {
        let host = self.scene.hosts.get(name);
        let state = host.map_or(ReportState::Never, |host| {
            host.report(self.scene.now, self.scene.silence)
        });
        match state {
            ReportState::Live | ReportState::Syncing => Fate::Gone(format!("the agent of {name} reports")),
            ReportState::Silent | ReportState::Never => {
                if self.scene.plane.nodes.contains_key(name) {
                    Fate::Still
                } else {
                    self.plane(&format!("Node {name} is gone"))
                }
            }
        }
    }
}
