//! Read access to the state, for `query`, metrics and tests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, FindingState, Severity};
use cidrift_proto::verdict::{CidrVerdict, Standing};
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use super::fates::Fates;
use super::row::{Row, blind};
use crate::cluster::objects::Resource;
use crate::cluster::{ControlPlane, HostState, NodeRecord, ReportState};
use crate::correlate::verdict::NEVER;
use crate::correlate::{pool, verdict};
use crate::ipam;
use crate::summary::{Health, NodeDetail, NodeSummary, PoolReport, Status, Tally};

/// Lines on why health is unknown that are told; the rest is counted.
const UNKNOWNS: usize = 32;

/// Why the node's network is not ready, where its kubelet says so (reference C: "container runtime network not ready:
/// NetworkReady=false reason:NetworkPluginNotReady message:…"), or a route controller: then the node may be Ready and
/// reached by nobody. What else keeps a node from being Ready is not ours.
fn no_network(node: &NodeRecord) -> Option<String> {
    let unavailable = node.network_unavailable.as_ref();
    let unavailable = unavailable.map(|reason| format!("NetworkUnavailable is True: {reason}"));
    let why = node.not_ready.clone().filter(|why| why.contains("network not ready"));
    why.or(unavailable)
}

/// Whether something is wrong by it: it is open, and asks for more than to be known.
fn counts(finding: &Finding) -> bool {
    finding.state == FindingState::Open && finding.claim.severity > Severity::Info
}

impl State {
    /// What the control plane says.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The cluster in a few figures.
    pub fn status(&self, now: Timestamp) -> Status {
        let slots = self.book.slots.len();
        // Nodes without a row: nothing is known of any of their pairs.
        let rowless = self.plane.nodes.len() - self.rows.len();
        let mut pairs = blind(rowless * slots);
        for row in self.rows.values() {
            let tally = row.tally(slots);
            pairs.delivered += tally.delivered;
            pairs.broken += tally.broken;
            pairs.unknown += tally.unknown;
        }
        let open = |severity| {
            let findings = self.ledger.standing();
            let open = findings.filter(|f| f.state == FindingState::Open && f.claim.severity == severity);
            u32::try_from(open.count()).unwrap_or(u32::MAX)
        };
        let pending = self.ledger.standing().filter(|f| f.state == FindingState::Pending);
        let reporting = self
            .plane
            .nodes
            .keys()
            .filter(|name| self.report_of(name, now) == ReportState::Live);
        let unknowns = self.unknowns(now);
        let counted = self.ledger.standing().any(|finding| counts(finding));
        Status {
            health: if counted {
                Health::Findings
            } else if unknowns.is_empty() && pairs.unknown == 0 && pairs.broken == 0 && !self.plane.nodes.is_empty() {
                Health::Healthy
            } else {
                Health::Unknown
            },
            control_plane_source: self.plane.source.clone(),
            control_plane_problem: self.plane.problem.clone(),
            control_plane_at: self.plane.observed_at,
            nodes: u32::try_from(self.plane.nodes.len()).unwrap_or(u32::MAX),
            nodes_reporting: u32::try_from(reporting.count()).unwrap_or(u32::MAX),
            critical: open(Severity::Critical),
            errors: open(Severity::Error),
            warnings: open(Severity::Warning),
            infos: open(Severity::Info),
            pending: u32::try_from(pending.count()).unwrap_or(u32::MAX),
            pairs,
            unknowns,
            at: now,
        }
    }

    /// What of the control plane is there, or may be, and cannot be seen, though rules need it: pods and events, objects
    /// of allocators that discovery found, and objects that could not be read. A source that never tried a kind does not count.
    fn unseen(&self) -> Vec<String> {
        let around = &self.plane.around;
        let needed = |resource: &Resource| {
            matches!(
                resource,
                Resource::Pods
                    | Resource::Events
                    | Resource::CiliumNodes
                    | Resource::IpPools
                    | Resource::BlockAffinities
                    | Resource::ClusterCidrs
                    | Resource::NodeNetworkConfigs
                    | Resource::CniNodes
                    | Resource::OpenShiftNetworks
            )
        };
        let kinds = around.watches.keys().filter(|resource| needed(resource));
        let unseen = kinds.filter_map(|resource| around.unseen(*resource));
        let unreadable = around.unreadable.iter().map(|(resource, unreadable)| {
            let count = unreadable.count;
            let examples = unreadable.examples.join("; ");
            format!("{resource}: {count} cannot be read: {examples}")
        });
        let unseen = unseen.map(|why| format!("control plane: {why}"));
        unseen
            .chain(unreadable.map(|what| format!("control plane: {what}")))
            .collect()
    }

    /// Why it cannot be said that all is well, where nothing is known to be wrong.
    fn unknowns(&self, now: Timestamp) -> Vec<String> {
        let mut lines = Lines::default();
        if let Some(problem) = &self.plane.problem {
            lines.push(|| format!("control plane: {problem}"));
        } else if self.plane.observed_at.is_none() {
            lines.push(|| "control plane: never read".to_owned());
        } else if self.plane.nodes.is_empty() {
            lines.push(|| "control plane: it has no Nodes".to_owned());
        }
        for line in self.unseen() {
            lines.push(|| line);
        }
        for (name, node) in &self.plane.nodes {
            match self.report_of(name, now) {
                ReportState::Live => {}
                ReportState::Syncing => {
                    let why = self.hosts.get(name).and_then(|host| host.rivalry(now));
                    let why = why.unwrap_or("its agent's view is not whole");
                    lines.push(|| format!("{name}: {why}"));
                }
                ReportState::Silent => lines.push(|| format!("{name}: its agent has gone quiet")),
                ReportState::Never => lines.push(|| format!("{name}: no agent reports")),
            }
            for odd in node.oddities() {
                lines.push(|| format!("{name}: {odd}"));
            }
            if let Some(why) = no_network(node) {
                lines.push(|| format!("{name}: its network is not ready: {why}"));
            }
            let gaps = self.hosts.get(name).and_then(|host| host.facts.as_ref());
            for gap in gaps.iter().flat_map(|facts| &facts.gaps) {
                lines.push(|| {
                    // A gap is a part of the host, or a rule that could not be applied.
                    let what = match gap.what.parse::<Code>() {
                        Ok(code) => format!("{code} is not judged"),
                        Err(_) => format!("{} cannot be read", gap.what),
                    };
                    format!("{name}: {what}: {}", gap.why)
                });
            }
        }
        if self.plane.observed_at.is_some() && self.plane.problem.is_none() {
            for (name, host) in &self.hosts {
                let ghost = host.connected && !self.plane.nodes.contains_key(name);
                if ghost && self.report_of(name, now) != ReportState::Silent {
                    lines.push(|| {
                        format!("{name}: an agent reports under this name, but the control plane has no such Node")
                    });
                }
            }
        }
        for finding in self.ledger.standing() {
            if finding.state == FindingState::Pending && !finding.stale {
                lines.push(|| format!("{}: seen, but not for long enough to count", finding.id));
            }
        }
        let fates = Fates::new(self.scene(now), &self.rows, &self.memory.churn);
        for finding in self.ledger.standing().filter(|finding| finding.stale) {
            lines.push(|| {
                let why = fates.unseen(&finding.claim);
                let why = why.unwrap_or_else(|| "its witnesses cannot be asked".to_owned());
                format!("{}: it cannot be said whether it is still so: {why}", finding.id)
            });
        }
        for (source, row) in &self.rows {
            let unknown = row.tally(self.book.slots.len()).unknown;
            if row.blind.is_none() && unknown > 0 {
                lines.push(|| {
                    let example = self.first_unknown(source, row);
                    let more = match unknown - 1 {
                        0 => String::new(),
                        more => format!(" (and {more} more)"),
                    };
                    let example = example.unwrap_or_else(|| "unknown verdicts".to_owned());
                    format!("{source}: {example}{more}")
                });
            }
        }
        lines.finish()
    }

    fn first_unknown(&self, source: &str, row: &Row) -> Option<String> {
        let unknown = |at: &usize| row.marks.get(*at) == Some(Standing::Unknown);
        let at = self.book.by_owner.values().flatten().copied().find(unknown)?;
        let verdict = self.verdict(source, at)?;
        Some(format!("{} of {}: {}", verdict.cidr, verdict.owner, verdict.verdict))
    }

    fn report_of(&self, name: &str, now: Timestamp) -> ReportState {
        let host = self.hosts.get(name);
        host.map_or(ReportState::Never, |host| host.report(now, self.config.silence))
    }

    /// Every node that the control plane has or an agent reports for, by name.
    pub fn node_summaries(&self, now: Timestamp) -> Vec<NodeSummary> {
        let mut names: Vec<&String> = self.plane.nodes.keys().chain(self.hosts.keys()).collect();
        names.sort();
        names.dedup();
        let mut standing: HashMap<&str, Vec<&Finding>> = HashMap::new();
        for finding in self.ledger.standing() {
            let mut named: Vec<&str> = finding.claim.nodes.iter().map(String::as_str).collect();
            named.sort_unstable();
            named.dedup();
            for name in named {
                standing.entry(name).or_default().push(finding);
            }
        }
        let of = |name: &str| standing.get(name).map(Vec::as_slice).unwrap_or_default();
        names
            .into_iter()
            .filter_map(|name| self.summary(name, of(name), now))
            .collect()
    }

    /// `standing`: the findings that name it.
    fn summary(&self, name: &str, standing: &[&Finding], now: Timestamp) -> Option<NodeSummary> {
        let node = self.plane.nodes.get(name);
        let host = self.hosts.get(name);
        if node.is_none() && host.is_none() {
            return None;
        }
        let slots = self.book.slots.len();
        let pairs = match (self.rows.get(name), node) {
            (Some(row), _) => row.tally(slots),
            (None, Some(_)) => blind(slots),
            (None, None) => Tally::default(),
        };
        let report = self.report_of(name, now);
        let open = standing.iter().filter(|finding| finding.state == FindingState::Open);
        let findings: Vec<String> = open.map(|finding| finding.id.clone()).collect();
        let counted = standing.iter().any(|finding| counts(finding));
        let pending = standing.iter().any(|finding| finding.state == FindingState::Pending);
        let seen = report == ReportState::Live
            && !pending
            && pairs.unknown == 0
            && pairs.broken == 0
            && node.is_some_and(|node| node.oddities().is_empty() && no_network(node).is_none());
        let config = host.and_then(|host| host.facts.as_ref()?.cni.chosen.as_ref());
        Some(NodeSummary {
            name: name.to_owned(),
            uid: node.map(|node| node.uid.clone()).unwrap_or_default(),
            in_control_plane: node.is_some(),
            ready: node.is_some_and(|node| node.ready == Some(true)),
            not_ready: node
                .and_then(|node| node.not_ready.clone().or_else(|| no_network(node)))
                .unwrap_or_default(),
            pod_cidrs: node.map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            internal_ips: node.map(|node| node.internal_ips.clone()).unwrap_or_default(),
            report,
            report_problem: host.and_then(|host| host.problem(now)).unwrap_or_default().to_owned(),
            agent_version: host.map(|host| host.agent_version.clone()).unwrap_or_default(),
            last_report: host.map(|host| host.heard_at),
            pairs,
            health: if counted {
                Health::Findings
            } else if seen && self.plane.problem.is_none() {
                Health::Healthy
            } else {
                Health::Unknown
            },
            findings,
            plugin: config
                .and_then(|config| config.plugins.first().cloned())
                .unwrap_or_default(),
            ipam: config.and_then(|config| config.ipam.clone()).unwrap_or_default(),
            model: node
                .map(|node| self.scene(now).ipam(node).word().to_owned())
                .unwrap_or_default(),
        })
    }

    /// One node; `None`: neither the control plane nor an agent knows it.
    pub fn node(&self, name: &str, now: Timestamp) -> Option<NodeDetail> {
        let host = self.hosts.get(name);
        let standing = || self.ledger.standing().filter(|finding| names(finding, name));
        let of_it: Vec<&Finding> = standing().map(Arc::as_ref).collect();
        Some(NodeDetail {
            summary: self.summary(name, &of_it, now)?,
            facts: host.and_then(|host| host.facts.clone()),
            verdicts: self.verdicts_from(name),
            findings: standing().map(Arc::clone).collect(),
            entries: host
                .map(|host: &HostState| host.forwarding.iter().cloned().collect())
                .unwrap_or_default(),
            classification: self.plane.nodes.get(name).map(|node| {
                let facts = host.and_then(|host| host.facts.as_ref());
                ipam::report::report(node, facts, &self.plane.around)
            }),
        })
    }

    fn verdict(&self, source: &str, at: usize) -> Option<CidrVerdict> {
        let scene = self.scene(self.clock);
        let node = self.plane.nodes.get(source)?;
        let slot = self.book.slots.get(at)?;
        let since = self.expectations.since(slot.cidr);
        let source = match self.rows.get(source) {
            Some(row) => row.source(&scene, node),
            None => Err(NEVER.to_owned()),
        };
        Some(verdict::report(&scene, node, source, slot, since))
    }

    /// Where packets from this node to every pod CIDR land, by owner and CIDR.
    pub fn verdicts_from(&self, source: &str) -> Vec<CidrVerdict> {
        let slots = self.book.by_owner.values().flatten();
        slots.filter_map(|at| self.verdict(source, *at)).collect()
    }

    /// Whether the control plane or an agent knows a node of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.plane.nodes.contains_key(name) || self.hosts.contains_key(name)
    }

    /// Where packets from one node to another's pod CIDRs land, by CIDR.
    pub fn verdicts_between(&self, source: &str, owner: &str) -> Vec<CidrVerdict> {
        let slots = self.book.by_owner.get(owner).map(Vec::as_slice).unwrap_or_default();
        slots.iter().filter_map(|at| self.verdict(source, *at)).collect()
    }

    /// Where packets from every node to this node's pod CIDRs land, by source and CIDR.
    pub fn verdicts_to(&self, owner: &str) -> Vec<CidrVerdict> {
        let slots = self.book.by_owner.get(owner).map(Vec::as_slice).unwrap_or_default();
        let sources = self.plane.nodes.keys();
        sources
            .flat_map(|source| slots.iter().filter_map(|at| self.verdict(source, *at)))
            .collect()
    }

    /// The nodes whose pod CIDR contains this address, each with that CIDR: usually one,
    /// none for an address that is no pod's, several where CIDRs overlap.
    pub fn owners_of(&self, address: IpAddr) -> Vec<(String, IpNet)> {
        let slots = self.book.overlapping(address.into());
        slots.map(|slot| (slot.owner.clone(), slot.cidr)).collect()
    }

    /// The findings that stand (pending and open), by id.
    pub fn findings(&self) -> Vec<Arc<Finding>> {
        self.ledger.standing().cloned().collect()
    }

    /// The findings that were resolved, newest first, as far as the ledger's history goes.
    pub fn history(&self) -> Vec<Arc<Finding>> {
        self.ledger.history().cloned().collect()
    }

    /// The pool and who has what of it.
    pub fn pool_report(&self) -> PoolReport {
        pool::report(&self.scene(self.clock))
    }
}

/// The first lines, and how many there are.
#[derive(Debug, Default)]
struct Lines {
    first: Vec<String>,
    count: usize,
}

impl Lines {
    fn push(&mut self, line: impl FnOnce() -> String) {
        if self.first.len() < UNKNOWNS {
            self.first.push(line());
        }
        self.count += 1;
    }

    fn finish(mut self) -> Vec<String> {
        if self.count > UNKNOWNS {
            let more = self.count - (UNKNOWNS - 1);
            self.first.truncate(UNKNOWNS - 1);
            self.first.push(format!("and {more} more"));
        }
        self.first
    }
}

fn names(finding: &Finding, node: &str) -> bool {
    finding.claim.nodes.iter().any(|name| name == node)
}
