//! What shows that it worked: a pod's address, the findings, and where every other node's packets land.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, Severity};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{Instant, sleep};

use super::errand::{LABEL, said};
use super::halt::{Halt, call};
use super::{Eyes, LOOK, Runner, probes, shell, state};
use crate::cluster::ReportState;
use crate::correlate::words::list;
use crate::fix::plan::Does;
use crate::query::answer::PathRow;
use crate::summary::Health;

/// Named at most, of what is missing.
const NAMED: usize = 4;

impl<E: Eyes> Runner<'_, E> {
    /// Over once all of it is seen.
    pub(super) async fn verify(&self) -> Result<(), Halt> {
        let plan = self.plan()?;
        if let Some(template) = &self.settings.after {
            shell::run(template, &plan.node, &plan.to, self.settings.patience).await?;
        }
        if !probes(plan.method) {
            return self.seen(None).await;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let name = format!("{LABEL}-probe-{}", self.record.id);
        // One from before may have another node's address.
        self.remove(&api, &name).await?;
        let seen = self.probed(&api, &name).await;
        self.remove(&api, &name).await?;
        seen
    }

    async fn probed(&self, api: &Api<Pod>, name: &str) -> Result<(), Halt> {
        let plan = self.plan()?;
        let pod = self.pod(name, &plan.node, &["hold".to_owned()], None).await?;
        let began = Instant::now();
        let mut last = None;
        let address = loop {
            self.untouched(&Does::Verify).await?;
            // It may be on its way out from an earlier try.
            self.create(api, &pod).await?;
            let there = call(async || api.get_opt(name).await).await;
            let there = there.map_err(|error| Halt::api(&format!("get pod {name}"), &error))?;
            let there = there.filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let address = there.as_ref().and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
            if let Some(address) = address {
                break address;
            }
            if let Some(there) = &there {
                self.told_why(there, &mut last);
            }
            if began.elapsed() >= self.settings.patience {
                let why = there.as_ref().map_or_else(|| "it is not there".to_owned(), said);
                return Err(Halt::Stop(format!("a new pod on {} gets no address: {why}", plan.node)));
            }
            sleep(LOOK).await;
        };
        let own = address.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        if !own.is_some_and(|own| plan.to.iter().any(|to| to.contains(&own))) {
            return Err(Halt::Stop(format!(
                "a new pod on {} gets {address}, which is not of {}",
                plan.node,
                list(&plan.to)
            )));
        }
        self.tell(format!("a new pod gets {address}"));
        self.seen(Some(&address)).await
    }

    /// Waits until nothing is missing of what shows that it worked.
    async fn seen(&self, address: Option<&str>) -> Result<(), Halt> {
        let node = &self.plan()?.node;
        let began = Instant::now();
        let mut last = String::new();
        // Whose ways are asked for: all at first and in the end, and meanwhile those that were not right.
        let mut left = None;
        loop {
            self.untouched(&Does::Verify).await?;
            let all = left.is_none();
            let others = match (left, address) {
                (Some(left), _) => left,
                (None, Some(_)) => self.others(node).await?,
                (None, None) => Vec::new(),
            };
            let (missing, wrong) = self.missing(address, &others).await?;
            if missing.is_empty() && all {
                return Ok(());
            }
            if missing.is_empty() {
                left = None;
                continue;
            }
            left = Some(wrong);
            let mut text = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            if missing.len() > NAMED {
                text += &format!("; and {} more", missing.len() - NAMED);
            }
            if began.elapsed() >= self.settings.verify {
                return Err(Halt::Stop(format!(
                    "{node} is not seen to be mended within {:?}: {text}",
                    self.settings.verify
                )));
            }
            if text != last {
                self.tell(format!("not seen yet: {text}"));
                last = text;
            }
            sleep(LOOK * 2).await;
        }
    }

    async fn others(&self, node: &str) -> Result<Vec<String>, Halt> {
        let mut all = self.names().await?;
        all.retain(|name| name != node);
        Ok(all)
    }

    /// What is not seen yet, and whose ways those are.
    async fn missing(&self, address: Option<&str>, others: &[String]) -> Result<(Vec<String>, Vec<String>), Halt> {
        let work = self.work()?;
        let node = &work.plan.node;
        let mut missing = Vec::new();
        // An aggregator that was drained away comes back on another node.
        match self.eyes.node(node).await {
            Ok(view) if view.summary.report == ReportState::Live => {}
            Ok(_) => missing.push(format!("the agent of {node} does not report yet")),
            Err(why) => missing.push(format!("what the aggregator sees of {node}: {why}")),
        }
        match self.eyes.findings().await {
            Ok(mut findings) => {
                // On the way to other ranges every new CIDR lies outside of those of now.
                if self.record.wish.migrate.is_some() {
                    findings.retain(|finding| finding.claim.code != Code::Pool02);
                }
                missing.extend(stands(&findings, node, &work.plan.mends, &work.stood));
            }
            Err(why) => missing.push(format!("what stands: {why}")),
        }
        let mut wrong = Vec::new();
        if let Some(address) = address {
            for (other, why) in self.ways(others, address).await {
                missing.push(format!("{other} and {address}: {why}"));
                wrong.push(other);
            }
        }
        Ok((missing, wrong))
    }

    /// Those whose packets to the new pod, or back, are not known to arrive, and why.
    async fn ways(&self, others: &[String], address: &str) -> Vec<(String, String)> {
        let wrong = |row: Result<PathRow, String>| match row.map(|row| row.health()) {
            Ok(Health::Healthy) => None,
            Ok(Health::Findings) => Some("packets do not arrive".to_owned()),
            Ok(Health::Unknown) => Some("whether packets arrive is not known".to_owned()),
            Err(why) => Some(why),
        };
        let told = self.eyes.paths(others, address).await;
        told.into_iter()
            .filter_map(|(other, row)| Some((other, wrong(row)?)))
            .collect()
    }

    /// Whether the Node is back as others left it, once it is not this fix's any more.
    pub(super) async fn at_rest(&self, name: &str) -> Result<String, Halt> {
        Ok(match self.there(name).await? {
            None => format!("there is no Node {name}"),
            Some(node) => {
                let cordon = if state::unschedulable(&node) { ", cordoned" } else { "" };
                let cidrs = state::cidrs(&node);
                let ready = if state::ready(&node) { "Ready" } else { "not Ready" };
                format!("Node {name} has {}, is {ready}{cordon}", list(&cidrs))
            }
        })
    }
}

/// Whether a finding is about a node, or about the ways to it. What names it among others of the cluster is another matter:
/// that Nodes come and go (POOL15) is what mending several within the hour looks like.
pub(super) fn of(finding: &Finding, node: &str) -> bool {
    let claim = &finding.claim;
    let ways = claim.code.as_str().starts_with("PATH") || claim.code == Code::Pool03;
    let about = claim.subject == node || (ways && claim.nodes.iter().any(|name| name == node));
    finding.stands() && claim.severity > Severity::Info && about
}

/// What was to go and stands, and what has come of the node that did not stand before.
fn stands(findings: &[Finding], node: &str, mends: &[String], stood: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for finding in findings {
        let id = &finding.id;
        if mends.contains(id) && finding.stands() {
            missing.push(format!("{id} stands still"));
        } else if of(finding, node) && !stood.contains(id) {
            missing.push(format!("{id} has come: {}", finding.claim.summary));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::fixture::World;

    #[test]
    fn what_was_to_go_and_stands_is_missing_and_so_is_what_came() {
        let mut world = World::of(3);
        world.find(Code::Pool02, "n2", &["n2"]);
        world.find(Code::Path01, "n3", &["n3", "n2"]);
        world.find(Code::Path01, "n1", &["n1", "n3"]);
        world.find(Code::Pool15, "cluster", &["n1", "n2"]);
        let findings = world.ground.findings;
        let mends = ["POOL02/n2".to_owned()];
        let missing = stands(&findings, "n2", &mends, &[]);
        assert_eq!(missing, ["POOL02/n2 stands still", "PATH01/n3 has come: it is wrong"]);
        // One that stood before is not this fix's work.
        assert_eq!(stands(&findings, "n2", &mends, &["PATH01/n3".to_owned()]).len(), 1);
        assert_eq!(stands(&findings, "n1", &[], &[]).len(), 1);
    }
}
