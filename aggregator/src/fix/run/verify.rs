//! What shows that it worked: a pod's addresses, the findings, and where every other node's packets land.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, Severity};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::{Instant, sleep};

use super::errand::LABEL;
use super::halt::Halt;
use super::{Eyes, LOOK, Runner, shell};
use crate::cluster::ReportState;
use crate::fix::plan::Does;
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
        let began = Instant::now();
        if !plan.probes() {
            return self.seen(&[], began).await;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let name = format!("{LABEL}-probe-{}", self.record.id);
        // One from before may have another node's address.
        self.remove(&api, &name).await?;
        let seen = self.probed(&api, &name, began).await;
        self.remove(&api, &name).await?;
        seen
    }

    /// Waits until nothing is missing of what shows that it worked; `addresses` are those of a new pod.
    pub(super) async fn seen(&self, addresses: &[IpAddr], began: Instant) -> Result<(), Halt> {
        let node = &self.plan()?.node;
        let mut last = String::new();
        // Whose ways are asked for: all at first and in the end, and meanwhile those that were not right.
        let mut left = None;
        loop {
            self.untouched(&Does::Verify).await?;
            let all = left.is_none();
            let others = match left {
                Some(left) => left,
                None if addresses.is_empty() => Vec::new(),
                None => self.others(node).await?,
            };
            let (missing, again) = self.missing(addresses, &others).await?;
            if missing.is_empty() && all {
                return Ok(());
            }
            if missing.is_empty() {
                left = None;
                continue;
            }
            left = again;
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
        let all = self.names().await?;
        Ok(all.into_iter().filter(|name| name != node).collect())
    }

    /// What is not seen yet, and whose ways are to be asked for again; `None`: all, for one of them may be gone.
    async fn missing(
        &self,
        addresses: &[IpAddr],
        others: &[String],
    ) -> Result<(Vec<String>, Option<Vec<String>>), Halt> {
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
        let mut again = Some(BTreeSet::new());
        for address in addresses {
            for (other, row) in self.eyes.paths(others, &address.to_string()).await {
                let why = match row.map(|row| row.health()) {
                    Ok(Health::Healthy) => continue,
                    Ok(Health::Findings) => "packets do not arrive".to_owned(),
                    Ok(Health::Unknown) => "whether packets arrive is not known".to_owned(),
                    Err(why) => {
                        again = None;
                        why
                    }
                };
                missing.push(format!("{other} and {address}: {why}"));
                if let Some(again) = &mut again {
                    again.insert(other);
                }
            }
        }
        Ok((missing, again.map(Vec::from_iter)))
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

/// What was to go and stands, and what has come of the node that did not stand before. What follows from others that stood
/// before, and are not mended yet, comes with them: once a node leads to another one the way back alone is broken (PATH07).
fn stands(findings: &[Finding], node: &str, mends: &[String], stood: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    let others = |id: &String| stood.contains(id) && !mends.contains(id);
    for finding in findings {
        let id = &finding.id;
        if mends.contains(id) {
            if finding.stands() && owes(findings, finding, node, mends) {
                missing.push(format!("{id} stands still"));
            }
        } else if of(finding, node) && !stood.contains(id) && !finding.explained_by.iter().any(others) {
            missing.push(format!("{id} has come: {}", finding.claim.summary));
        }
    }
    missing
}

/// Whether what was to go is still this node's to mend. What shows its own host is, whatever explains it. Anything else that
/// follows is as long as one of its causes is: what stands for another one goes with that.
fn owes(findings: &[Finding], finding: &Finding, node: &str, mends: &[String]) -> bool {
    let claim = &finding.claim;
    let host = claim.code.as_str().starts_with("HOST") || claim.code == Code::Path03;
    if host && claim.subject == node {
        return true;
    }
    let causes = findings.iter().filter(|cause| cause.stands());
    let mut causes = causes
        .filter(|cause| finding.explained_by.contains(&cause.id))
        .peekable();
    match causes.peek() {
        None => shows(finding, node),
        Some(_) => causes.any(|cause| mends.contains(&cause.id) && shows(cause, node)),
    }
}

/// Whether it shows this node. Several share some findings, and each mends its own part: twins, and those that route what a Node
/// had before.
fn shows(finding: &Finding, node: &str) -> bool {
    let claim = &finding.claim;
    let named = |name: &String| name == node;
    match claim.code {
        // Its nodes are itself and all that route it; rows, of which not all may be told, are of its own pods and routes too.
        Code::Pool12 if claim.subject == node => claim.affected.iter().any(|row| row.node.iter().any(named)),
        Code::Pool03 | Code::Pool12 => claim.nodes.iter().any(named),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use cidrift_proto::finding::Affected;

    use super::*;
    use crate::fix::fixture::World;

    #[test]
    fn of_what_several_nodes_share_each_mends_its_own_part() {
        let mut world = World::of(4);
        world.find(Code::Pool03, "10.244.1.0/24", &["n1", "n3"]);
        world.find(Code::Path02, "n4", &["n4", "n1"]).explained_by = vec!["POOL03/10.244.1.0/24".to_owned()];
        world.find(Code::Pool12, "n2", &["n2", "n3", "n4"]).claim.affected = vec![Affected {
            prefix: None,
            node: Some("n3".to_owned()),
            detail: String::new(),
        }];
        let mends = ["POOL03/10.244.1.0/24", "PATH02/n4", "POOL12/n2"].map(str::to_owned);
        let of = |world: &World, node: &str| stands(&world.ground.findings, node, &mends, &mends).len();
        // n2 has left both, n3 neither; of what follows the cause is asked.
        assert_eq!((of(&world, "n2"), of(&world, "n3"), of(&world, "n1")), (0, 3, 2));
        // Of many rows not all are told: who routes it is.
        assert_eq!(of(&world, "n4"), 1);
        world.ground.findings.remove(0);
        assert_eq!(of(&world, "n2"), 1, "nothing explains it any more");
    }

    #[test]
    fn what_shows_its_own_host_is_the_nodes_whatever_explains_it() {
        let mut world = World::of(3);
        world.find(Code::Pool12, "n2", &["n2", "n3"]);
        for code in [Code::Host08, Code::Path03] {
            world.find(code, "n2", &["n2"]).explained_by = vec!["POOL12/n2".to_owned()];
        }
        let mends = ["HOST08/n2", "PATH03/n2"].map(str::to_owned);
        let missing = stands(&world.ground.findings, "n2", &mends, &["POOL12/n2".to_owned()]);
        assert_eq!(missing, ["HOST08/n2 stands still", "PATH03/n2 stands still"]);
    }

    #[test]
    fn what_another_cause_keeps_up_is_no_more_than_that_ones() {
        let mut world = World::of(3);
        world.find(Code::Pool02, "n2", &["n2"]);
        world.find(Code::Pool02, "n3", &["n3"]);
        world.find(Code::Pool01, "n1", &["n1"]).explained_by = vec!["POOL02/n2".to_owned(), "POOL02/n3".to_owned()];
        let mends = ["POOL02/n2", "POOL01/n1"].map(str::to_owned);
        let of = |world: &World| stands(&world.ground.findings, "n2", &mends, &[]).len();
        assert_eq!(of(&world), 2);
        world.ground.findings.remove(0);
        assert_eq!(of(&world), 0, "n3 keeps it up");
        world.ground.findings.remove(0);
        assert_eq!(of(&world), 1, "nothing explains it");
    }

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

    #[test]
    fn what_follows_from_another_nodes_finding_that_stood_before_is_no_surprise() {
        let mut world = World::of(3);
        world.find(Code::Path04, "n3", &["n3", "n1"]);
        world.find(Code::Path07, "n3", &["n3", "n1"]).explained_by = vec!["PATH04/n3".to_owned()];
        let findings = world.ground.findings;
        let (stood, mends) = (vec!["PATH04/n3".to_owned()], ["PATH04/n1".to_owned()]);
        assert_eq!(stands(&findings, "n1", &mends, &stood), [""; 0]);
        // Not what was to go with its cause, nor what came with one that is new.
        assert_eq!(stands(&findings, "n3", &stood, &stood).len(), 2);
        assert_eq!(stands(&findings, "n1", &mends, &[]).len(), 2);
    }
}
