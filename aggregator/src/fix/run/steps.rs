//! The steps of the node that is worked on, one after the other.

use tokio_util::sync::CancellationToken;

use super::halt::Halt;
use super::{Eyes, Runner, hand};
use crate::fix::plan::Does;

impl<E: Eyes> Runner<'_, E> {
    pub(super) async fn steps(&mut self, cancel: &CancellationToken) -> Result<(), Halt> {
        loop {
            let work = self.work()?;
            let Some(step) = work.plan.steps.get(work.at).cloned() else {
                return Ok(());
            };
            // Between its deletion and its making a Node is nobody's: that is not left half done.
            let whole = step.does == Does::Recreate;
            if cancel.is_cancelled() {
                return Err(hand::interrupted(&step));
            }
            self.held.sure().await?;
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(hand::interrupted(&step)),
                unmoved = self.unmoved(&step.does) => unmoved?,
            }
            self.tell(step.does.title());
            if whole {
                self.step(&step.does).await?;
            } else {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(hand::interrupted(&step)),
                    done = self.step(&step.does) => done?,
                }
            }
            if let Some(work) = &mut self.record.work {
                work.at += 1;
            }
            self.save().await?;
        }
    }

    async fn step(&mut self, does: &Does) -> Result<(), Halt> {
        match does {
            Does::Cordon => self.cordon().await,
            Does::Drain => self.drain().await,
            Does::RemoveFile { path, containing } => self.remove_file(path, containing).await,
            Does::RemoveLink { name, addresses } => self.remove_link(name, addresses).await,
            Does::Render { path, socket } => self.render(path, socket).await,
            Does::Recreate => self.recreate().await,
            Does::Rotate => self.rotate().await,
            Does::Assign => self.assign().await,
            Does::Controllers => self.controllers().await,
            Does::Adopt => self.adopt().await,
            Does::RestartDaemon { pod } => self.restart_daemon(pod).await,
            Does::RemoveRoute { prefix, by } => self.remove_route(*prefix, *by).await,
            Does::RemoveLeases { directory, leases } => self.remove_leases(directory, leases).await,
            Does::RestartKubelet => self.restart_kubelet().await,
            Does::Reach { nodes } => self.reach(nodes).await,
            Does::Announce { nodes } => self.announce(nodes).await,
            Does::ReplacePods { .. } => self.replace_pods().await,
            Does::ByHand => self.by_hand().await,
            Does::Verify => self.verify().await,
            Does::Uncordon => self.uncordon().await,
        }
    }
}
