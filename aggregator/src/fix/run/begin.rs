//! A node before its first step: what was agreed to is planned anew, and whether it may be begun is asked.

use tokio_util::sync::CancellationToken;

use super::agreed::Planned;
use super::halt::Halt;
use super::record::{self, Over, Record, Work};
use super::{AFTERMATH, Eyes, LOOK, Runner, verify};
use crate::cluster::ReportState;
use crate::correlate::words::count;
use crate::fix::plan::{Does, NodePlan};
use crate::fix::planner;

impl<E: Eyes> Runner<'_, E> {
    /// Plans the next node anew and holds that against what was agreed to. False: there is no next one.
    pub(super) async fn begin(&mut self, cancel: &CancellationToken) -> Result<bool, Halt> {
        let Some(next) = self.record.queue.first().cloned() else {
            return Ok(false);
        };
        self.timely(&next.node, "begun")?;
        let planned = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Halt::Interrupted),
            planned = self.agreed(&next) => planned?,
        };
        let Some((plan, stood)) = planned else {
            self.tell(format!("{}: nothing to do any more", next.node));
            self.record.queue.retain(|other| other.node != next.node);
            self.record.over.push(Over {
                node: next.node,
                failed: None,
            });
            self.save().await?;
            return Ok(true);
        };
        let node = self.there(&plan.node).await?;
        let node = node.filter(|node| node.metadata.uid.as_deref() == Some(&plan.uid));
        let node = node.ok_or_else(|| Halt::Stop(format!("Node {} is another one now: plan again", plan.node)))?;
        self.entitled(&plan).await?;
        self.admitted(&plan).await?;
        let work = Work {
            plan,
            at: 0,
            cordoned: false,
            saved: Box::new(record::saved(&node)),
            made: None,
            deleting: false,
            told: false,
            stood,
        };
        // Nobody could go on with it, or take it back.
        let name = &next.node;
        let odd = |why: String| Halt::Stop(format!("{name} must not be begun: {why}"));
        work.sound().map_err(odd)?;
        let begun = Record {
            work: Some(work),
            ..self.record.clone()
        };
        self.held.fits(&begun).map_err(|why| odd(why.to_string()))?;
        self.record = begun;
        self.save().await?;
        Ok(true)
    }

    /// The plan of a node as of now, and what stands of it; `None`: it needs none.
    async fn agreed(&self, next: &Planned) -> Result<Option<(NodePlan, Vec<String>)>, Halt> {
        let began = tokio::time::Instant::now();
        // Pods of other nodes are not listed for each node. That it is as agreed may rest on what was listed before; that it is
        // not is only said of what is there now.
        let mut whole = true;
        loop {
            whole = !whole;
            let node = (!whole).then_some(next.node.as_str());
            let ground = self.eyes.ground(node).await.map_err(Halt::Stop)?;
            let mut plan = planner::plan(&ground, &self.record.wish);
            let found = plan.nodes.iter().find(|plan| plan.node == next.node);
            let as_agreed =
                found.is_some_and(|plan| plan.blocked.is_empty() && next.moved(plan).is_none() && !rests_on_pods(plan));
            if !whole && !as_agreed {
                continue;
            }
            let Some(at) = plan.nodes.iter().position(|plan| plan.node == next.node) else {
                let hand = plan.by_hand.iter().find(|hand| hand.nodes.contains(&next.node));
                if let Some(hand) = hand {
                    return Err(Halt::Stop(format!(
                        "{} cannot be planned any more: {}: {}",
                        next.node, hand.finding, hand.why
                    )));
                }
                // A node whose agent is quiet shows no findings either.
                let view = ground.nodes.get(&next.node).and_then(|node| node.view.as_ref());
                if view.is_some_and(|view| view.summary.report == ReportState::Live) {
                    return Ok(None);
                }
                if began.elapsed() >= AFTERMATH {
                    let text = format!("the agent of {} does not report: what it needs is not known", next.node);
                    return Err(Halt::Stop(text));
                }
                tokio::time::sleep(LOOK * 6).await;
                continue;
            };
            let mut plan = plan.nodes.swap_remove(at);
            if let Some(text) = passes(next, &plan).filter(|_| began.elapsed() < AFTERMATH) {
                self.tell(format!("{} waits: {text}", next.node));
                tokio::time::sleep(LOOK * 6).await;
                continue;
            }
            if let Some(moved) = next.moved(&plan) {
                return Err(Halt::Stop(format!("the ground has moved: {moved}: plan again")));
            }
            let Some(why) = plan.blocked.first() else {
                let stood = ground.findings.iter().filter(|finding| verify::of(finding, &next.node));
                let stood = stood.map(|finding| finding.id.clone()).collect();
                let cut = next.cut(&mut plan);
                if cut > 0 {
                    let came = count(cut, "lease has come since", "leases have come since");
                    self.tell(format!("{}: {came}, and left for the next fix", next.node));
                }
                let left = cut == 0 || plan.steps.iter().any(|step| step.does != Does::Verify);
                return Ok(left.then_some((plan, stood)));
            };
            if began.elapsed() >= AFTERMATH {
                return Err(Halt::Stop(format!("{} must not be begun: {why}", next.node)));
            }
            self.tell(format!("{} waits: {why}", next.node));
            tokio::time::sleep(LOOK * 6).await;
        }
    }
}

/// What has moved and may be as before in a moment.
fn passes(next: &Planned, plan: &NodePlan) -> Option<&'static str> {
    if next.came_up(plan) {
        return Some("a kube-controller-manager runs now, which may end at its start once more");
    }
    let quiet = "no kube-controller-manager is seen to run now, and one did when it was planned";
    next.went_down(plan).then_some(quiet)
}

/// Whether it is planned only because no pod anywhere has an address of something: a route that would be missed. Whatever the
/// method is; routes for the node's own CIDRs are nobody else's.
fn rests_on_pods(plan: &NodePlan) -> bool {
    let others = |does: &Does| matches!(does, Does::RemoveRoute { .. }) && !does.sets_up_pods(&plan.to);
    plan.steps.iter().any(|step| others(&step.does))
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::fix::plan::{Hop, Method, Step};

    #[test]
    fn a_route_of_others_rests_on_all_pods_whatever_the_method_is_and_one_of_its_own_does_not() {
        let of = |method: Method, prefix: &str| {
            let mut plan = NodePlan { method, ..plan() };
            let does = Does::RemoveRoute {
                prefix: prefix.parse().unwrap(),
                by: Hop::Via("172.30.0.12".parse().unwrap()),
            };
            let text = String::new();
            plan.steps.insert(3, Step { does, text });
            rests_on_pods(&plan)
        };
        for method in [Method::Restart, Method::Host, Method::Swap, Method::Rotate] {
            assert!(of(method, "10.244.9.0/24"), "{method}");
            assert!(!of(method, "10.244.255.0/24"), "{method}");
        }
        assert!(!rests_on_pods(&plan()));
    }
}
