//! A step for the operator's own hands: whether the node's agent sees that it is done.

use tokio::time::{Instant, sleep};

use super::halt::Halt;
use super::{Eyes, LOOK, Runner};
use crate::cluster::ReportState;
use crate::correlate::words::list;
use crate::fix::plan::{Does, NodePlan, Step};
use crate::fix::planner::stale;
use crate::query::answer::NodeAnswer;

impl<E: Eyes> Runner<'_, E> {
    /// Over once the configuration that the runtime uses is for the CIDRs to come; what was said of it before does not count.
    pub(super) async fn by_hand(&self) -> Result<(), Halt> {
        let work = self.work()?;
        let text = work.plan.steps.get(work.at).map(|step| step.text.as_str());
        let text = text.unwrap_or_default();
        let began = Instant::now();
        let mut last = None;
        loop {
            self.untouched(&Does::ByHand).await?;
            let lacks = match self.eyes.node(&work.plan.node).await {
                Ok(view) => lacks(&view, &work.plan),
                Err(why) => Some(format!("what the aggregator sees of {}: {why}", work.plan.node)),
            };
            let Some(lacks) = lacks else { return Ok(()) };
            if last.is_none() {
                self.tell(format!("waits for you: {text}"));
            }
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Hand(format!("{text}; then go on ({lacks})")));
            }
            if last.as_ref() != Some(&lacks) {
                self.tell(format!("waits: {lacks}"));
                last = Some(lacks);
            }
            sleep(LOOK * 2).await;
        }
    }
}

/// What a step ends with that is interrupted.
pub(super) fn interrupted(step: &Step) -> Halt {
    match step.does {
        Does::ByHand => Halt::Hand(format!("{}; then go on (it was interrupted)", step.text)),
        _ => Halt::Interrupted,
    }
}

/// Why a node is not seen to hand out of the CIDRs that it is to have; `None`: it is.
pub(super) fn lacks(view: &NodeAnswer, plan: &NodePlan) -> Option<String> {
    let node = &plan.node;
    if view.summary.report != ReportState::Live {
        return Some(format!("the agent of {node} does not report"));
    }
    let Some(facts) = &view.facts else {
        return Some(format!("the agent of {node} tells nothing of its host"));
    };
    let Some(config) = &facts.cni.chosen else {
        let why = facts.cni.problem.as_deref().unwrap_or("there is none");
        return Some(format!("its runtime has no CNI configuration: {why}"));
    };
    if config.subnets.is_empty() {
        return Some(format!("{} names no range", config.path));
    }
    stale(config, &plan.to, &plan.from).then(|| format!("{} hands out of {}", config.path, list(&config.ranges)))
}
