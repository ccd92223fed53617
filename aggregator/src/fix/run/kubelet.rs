//! A kubelet that is started anew, so that it looks at its Node again.

use cidrift_proto::facts::Agrees;
use tokio::time::{Instant, sleep};

use super::halt::Halt;
use super::{Eyes, LOOK, Runner, hand, node, shell};
use crate::cluster::ReportState;
use crate::correlate::words::list;
use crate::fix::plan::Does;
use crate::query::answer::NodeAnswer;

impl<E: Eyes> Runner<'_, E> {
    /// Over once the kubelet has taken over what its Node has, and what it renders as it starts is there. Its pods run on: it
    /// is only restarted where its Node tells how many it can run, for it would reject them.
    pub(super) async fn restart_kubelet(&self) -> Result<(), Halt> {
        let plan = self.plan()?;
        let name = &plan.node;
        if self.behind(name).await?.is_some() {
            self.roomy(name).await?;
            match &self.settings.restart {
                Some(template) => shell::run(template, name, &plan.from, self.settings.patience).await?,
                None => self.tell(format!("waits for you: on {name}: systemctl restart kubelet")),
            }
        }
        let began = Instant::now();
        let mut last = String::new();
        loop {
            self.untouched(&Does::RestartKubelet).await?;
            let lacks = match self.behind(name).await? {
                Some(behind) => Some(behind),
                None => self.there(name).await?.and_then(|node| node::lacks(&node)),
            };
            let Some(lacks) = lacks else { return Ok(()) };
            if began.elapsed() >= self.settings.patience {
                return Err(match &self.settings.restart {
                    None => Halt::Hand(format!("on {name}: systemctl restart kubelet; then go on ({lacks})")),
                    Some(_) => Halt::Stop(format!("{name} after the restart of its kubelet: {lacks}")),
                });
            }
            if lacks != last {
                self.tell(format!("waits: {lacks}"));
                last = lacks;
            }
            sleep(LOOK * 2).await;
        }
    }

    /// Waits until the Node tells how many pods it can run.
    async fn roomy(&self, name: &str) -> Result<(), Halt> {
        let began = Instant::now();
        while !self.there(name).await?.is_some_and(|node| node::room(&node)) {
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!(
                    "Node {name} does not tell how many pods it can run: a kubelet that is restarted now rejects those that run"
                )));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// What is not seen of a kubelet that was started anew; `None`: it follows its Node. One that followed before a file was
    /// removed does not render that.
    async fn behind(&self, name: &str) -> Result<Option<String>, Halt> {
        let work = self.work()?;
        let unseen = format!("its kubelet is not seen to have taken {} over", list(&work.plan.from));
        let Ok(view) = self.eyes.node(name).await else {
            return Ok(Some(unseen));
        };
        if !follows(&view) {
            return Ok(Some(unseen));
        }
        let mut before = work.plan.steps.iter().take(work.at);
        let removed = before.any(|step| matches!(step.does, Does::RemoveFile { .. }));
        Ok(hand::lacks(&view, &work.plan).filter(|_| removed))
    }
}

/// Whether the kubelet, as it runs now, has said that it took over what its Node has.
fn follows(view: &NodeAnswer) -> bool {
    let rows = view.facts.iter().flat_map(|facts| &facts.compared);
    let mut rows = rows.filter(|row| row.what == "kubelet");
    view.summary.report == ReportState::Live && rows.any(|row| row.agrees == Agrees::Yes)
}
