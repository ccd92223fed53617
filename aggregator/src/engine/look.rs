//! Read access to the state, for `query`, metrics and tests.

use std::net::IpAddr;
use std::sync::Arc;

use cidrift_proto::finding::{Finding, FindingState, Severity};
use cidrift_proto::verdict::{CidrVerdict, Standing};
use ipnet::IpNet;
use jiff::Timestamp;

use super::State;
use crate::cluster::{HostState, ReportState};
use crate::correlate::{pool, verdict};
use crate::summary::{Health, NodeDetail, NodeSummary, PoolReport, Status, Tally};

/// Lines on why health is unknown that are told; the rest is counted.
const UNKNOWNS: usize = 32;

impl State {
    /// The cluster in a few figures.
    pub fn status(&self, now: Timestamp) -> Status {
        let mut pairs = Tally::default();
        for row in self.rows.values() {
            let tally = row.tally();
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
        let counted = self
            .ledger
            .standing()
            .any(|finding| finding.state == FindingState::Open);
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

    /// Why it cannot be said that all is well, where nothing is known to be wrong.
    fn unknowns(&self, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(problem) = &self.plane.problem {
            lines.push(format!("control plane: {problem}"));
        } else if self.plane.observed_at.is_none() {
            lines.push("control plane: never read".to_owned());
        } else if self.plane.nodes.is_empty() {
            lines.push("control plane: it has no Nodes".to_owned());
        }
        for (name, node) in &self.plane.nodes {
            match self.report_of(name, now) {
                ReportState::Live => {}
                ReportState::Syncing => lines.push(format!("{name}: its agent's view is not whole")),
                ReportState::Silent => lines.push(format!("{name}: its agent has gone quiet")),
                ReportState::Never => lines.push(format!("{name}: no agent reports")),
            }
            if node.pod_cidrs_raw.len() > node.pod_cidrs.len() {
                let bad = node.pod_cidrs_raw.iter().filter(|raw| raw.parse::<IpNet>().is_err());
                for raw in bad {
                    lines.push(format!("{name}: spec.podCIDRs has {raw:?}, which is no prefix"));
                }
            }
            let gaps = self.hosts.get(name).and_then(|host| host.facts.as_ref());
            for gap in gaps.iter().flat_map(|facts| &facts.gaps) {
                lines.push(format!("{name}: {} cannot be read: {}", gap.what, gap.why));
            }
        }
        for finding in self.ledger.standing() {
            if finding.state == FindingState::Pending {
                lines.push(format!("{}: seen, but not for long enough to count", finding.id));
            }
        }
        for finding in self.ledger.standing().filter(|finding| finding.stale) {
            lines.push(format!("{}: its witness has gone quiet", finding.id));
        }
        for (source, row) in &self.rows {
            let tally = row.tally();
            if row.blind.is_none() && tally.unknown > 0 {
                let example = self.first_unknown(source);
                let more = tally.unknown.saturating_sub(1);
                let more = if more > 0 {
                    format!(" (and {more} more)")
                } else {
                    String::new()
                };
                lines.push(format!(
                    "{source}: {}{more}",
                    example.unwrap_or_else(|| "unknown verdicts".to_owned())
                ));
            }
        }
        if lines.len() > UNKNOWNS {
            let more = lines.len() - (UNKNOWNS - 1);
            lines.truncate(UNKNOWNS - 1);
            lines.push(format!("and {more} more"));
        }
        lines
    }

    fn first_unknown(&self, source: &str) -> Option<String> {
        let row = self.rows.get(source)?;
        let at = row.marks.iter().position(|mark| *mark == Standing::Unknown)?;
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
        names.into_iter().filter_map(|name| self.summary(name, now)).collect()
    }

    fn summary(&self, name: &str, now: Timestamp) -> Option<NodeSummary> {
        let node = self.plane.nodes.get(name);
        let host = self.hosts.get(name);
        if node.is_none() && host.is_none() {
            return None;
        }
        let pairs = self.rows.get(name).map(super::row::Row::tally).unwrap_or_default();
        let report = self.report_of(name, now);
        let findings: Vec<String> = self
            .ledger
            .standing()
            .filter(|finding| finding.state == FindingState::Open && names(finding, name))
            .map(|finding| finding.id.clone())
            .collect();
        let pending = self
            .ledger
            .standing()
            .any(|finding| finding.state == FindingState::Pending && names(finding, name));
        let seen = report == ReportState::Live && !pending && pairs.unknown == 0 && pairs.broken == 0 && node.is_some();
        let config = host.and_then(|host| host.facts.as_ref()?.cni.chosen.as_ref());
        Some(NodeSummary {
            name: name.to_owned(),
            uid: node.map(|node| node.uid.clone()).unwrap_or_default(),
            in_control_plane: node.is_some(),
            ready: node.is_some_and(|node| node.ready == Some(true)),
            pod_cidrs: node.map(|node| node.pod_cidrs.clone()).unwrap_or_default(),
            internal_ips: node.map(|node| node.internal_ips.clone()).unwrap_or_default(),
            report,
            agent_version: host.map(|host| host.agent_version.clone()).unwrap_or_default(),
            last_report: host.map(|host| host.heard_at),
            pairs,
            health: if !findings.is_empty() {
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
        })
    }

    /// One node; `None`: neither the control plane nor an agent knows it.
    pub fn node(&self, name: &str, now: Timestamp) -> Option<NodeDetail> {
        let host = self.hosts.get(name);
        Some(NodeDetail {
            summary: self.summary(name, now)?,
            facts: host.and_then(|host| host.facts.clone()),
            verdicts: self.verdicts_from(name),
            findings: self
                .ledger
                .standing()
                .filter(|finding| names(finding, name))
                .map(Arc::clone)
                .collect(),
            entries: host
                .map(|host: &HostState| host.forwarding.iter().cloned().collect())
                .unwrap_or_default(),
        })
    }

    fn verdict(&self, source: &str, at: usize) -> Option<CidrVerdict> {
        let scene = self.scene(self.clock);
        let node = self.plane.nodes.get(source)?;
        let row = self.rows.get(source)?;
        let slot = self.book.slots.get(at)?;
        let since = self.expectations.since(slot.cidr);
        Some(verdict::report(&scene, node, row.source(&scene, node), slot, since))
    }

    /// Where packets from this node to every pod CIDR land, by owner and CIDR.
    pub fn verdicts_from(&self, source: &str) -> Vec<CidrVerdict> {
        (0..self.book.slots.len())
            .filter_map(|at| self.verdict(source, at))
            .collect()
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
        let sources = self.rows.keys();
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
        // The pool's arithmetic does not look at the clock.
        pool::report(&self.scene(Timestamp::UNIX_EPOCH))
    }
}

fn names(finding: &Finding, node: &str) -> bool {
    finding.claim.nodes.iter().any(|name| name == node)
}
