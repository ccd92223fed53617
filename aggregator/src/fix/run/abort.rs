//! Taking back what can be taken back.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::errand::{LABEL, NEVER_OVER};
use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, MARK, Over, Runner, Work, made, node, shell, state};
use crate::fix::plan::{CONTAINERD, Does};

impl<E: Eyes> Runner<'_, E> {
    /// The node that is worked on as it was before, as far as that goes; the rest of the queue is forgotten.
    pub(super) async fn back(&mut self, _: &CancellationToken) -> Result<(), Halt> {
        if let Some(work) = self.record.work.clone() {
            let name = work.plan.node.clone();
            self.errands().await?;
            let restored = self.restore(&name).await?;
            let rendered = self.rendered(&name).await?;
            self.kept();
            // CSINode and Lease were taken from the Node that was to go.
            if work.deleting
                && let Some(uid) = self.there(&name).await?.and_then(|node| node.metadata.uid)
            {
                self.own(&name, &uid).await?;
            }
            let rest = self.at_rest(&name).await?;
            self.tell(rest.to_string());
            let how = if restored || rendered { "taken back" } else { "given up" };
            self.record.work = None;
            self.record.over.push(Over {
                node: name,
                failed: Some(how.to_owned()),
            });
        }
        self.record.queue.clear();
        Ok(())
    }

    /// Says what stays as it is now, for it was of use to nobody before.
    fn kept(&self) {
        let Some(work) = &self.record.work else { return };
        for step in work.plan.steps.iter().take(work.at) {
            let what = match &step.does {
                Does::RemoveLeases { .. } => "the leases that were removed stay so: their sandboxes are gone",
                Does::RemoveRoute { .. } => {
                    "the route that was removed stays so: it led nobody's packets where they belong"
                }
                Does::RestartKubelet => "its kubelet was restarted: there is nothing to take back of that",
                _ => continue,
            };
            self.tell(what);
        }
    }

    /// Node and cordon; whether there was anything to take back of them.
    async fn restore(&self, name: &str) -> Result<bool, Halt> {
        let work = self.work()?;
        let id = &self.record.id;
        let api = self.nodes();
        match self.there(name).await? {
            None if work.deleting => {
                // Where it had been made anew its kubelet has the new CIDRs by now.
                let (node, what) = if work.swapped() {
                    (
                        made::anew(&work.saved, &work.plan.to, id),
                        "made again with its new CIDRs, cordoned",
                    )
                } else {
                    (made::back(&work.saved, work.cordoned), "made again from its saved copy")
                };
                match call(async || api.create(&PostParams::default(), &node).await).await {
                    Ok(made) => {
                        self.tell(format!("its Node was deleted: it is {what}"));
                        self.unmark(name, made.metadata.uid.as_deref()).await?;
                        return Ok(true);
                    }
                    Err(error) if code(&error) == Some(409) => {
                        self.tell("somebody made its Node again just now: it stays");
                    }
                    Err(error) => return Err(Halt::api(&format!("create Node {name}"), &error)),
                }
            }
            None => self.tell("somebody deleted its Node: that is not this fix's to bring back"),
            // Its kubelet has registered it, which knows nothing of what people had given the one before.
            Some(node) if registered(work, &node, id) => {
                self.give_back(&node, false).await?;
                self.tell("its Node was registered anew: it has the labels, annotations and taints from before again");
                return Ok(true);
            }
            Some(node) if !state::marked(&node, id) => {
                self.tell("its Node does not carry the mark of this fix: it stays")
            }
            // Its pods have addresses of the new CIDRs by now, or none: giving it the old ones is another swap.
            Some(node) if node.metadata.uid.as_deref() != Some(work.plan.uid.as_str()) => {
                self.tell(format!(
                    "its Node was made anew: it keeps its new CIDRs and the cordon; look at it (kubectl cidrift node {name}), \
                     then kubectl uncordon {name}"
                ));
                self.unmark(name, node.metadata.uid.as_deref()).await?;
            }
            Some(node) => {
                // The mark is set with this fix's cordon, and goes with it.
                let uid = node.metadata.uid.unwrap_or_default();
                let change = json!({"metadata": {"annotations": {MARK: null}}, "spec": {"unschedulable": null}});
                self.patch(name, &uid, change).await?;
                self.tell("uncordoned");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the Node has the CIDRs from before and the file that was rendered for them was removed, the runtime renders it
    /// again: a kubelet tells it only CIDRs that are others than before, or when it starts. Whether it does.
    async fn rendered(&self, name: &str) -> Result<bool, Halt> {
        let work = self.work()?;
        let Some(path) = work.removed() else { return Ok(false) };
        if !self.as_before(name, path).await? {
            return Ok(false);
        }
        self.tell(format!("has {path} rendered again"));
        if let Some(template) = &self.settings.restart {
            shell::run(template, name, &work.plan.from, self.settings.patience).await?;
            return Ok(true);
        }
        let socket = match work.socket() {
            Some(socket) => socket.to_owned(),
            None => self.socket(name).await,
        };
        match self.render_for(path, &socket, &work.plan.from).await {
            // It was about to be removed, and was not; or somebody has written it meanwhile.
            Err(Halt::Stop(why)) if why.contains(NEVER_OVER) => {
                self.tell(format!("{path} is there: nothing is to be taken back of it ({why})"));
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    /// Where the runtime of a node is asked, as its agent says; else where containerd is by default.
    async fn socket(&self, name: &str) -> String {
        let facts = self.eyes.node(name).await.ok().and_then(|view| view.facts);
        let runtime = facts.and_then(|facts| facts.runtime);
        runtime.map_or_else(|| CONTAINERD.to_owned(), |runtime| runtime.socket)
    }

    /// Whether the Node has the CIDRs from before; waits until its kubelet has taken it over.
    async fn as_before(&self, name: &str, path: &str) -> Result<bool, Halt> {
        let from = &self.plan()?.from;
        let began = Instant::now();
        loop {
            let Some(node) = self.there(name).await? else {
                return Ok(false);
            };
            if state::cidrs(&node) != *from || from.is_empty() {
                return Ok(false);
            }
            if node::room(&node) {
                return Ok(true);
            }
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!(
                    "{path} on {name} is to be rendered again, and its kubelet has not reported: start it anew"
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Pods of this fix that nobody waits for any more.
    async fn errands(&self) -> Result<(), Halt> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={LABEL}"));
        let listed = call(async || api.list(&ours).await).await;
        let listed = listed.map_err(|error| Halt::api("list pods of errands", &error))?;
        for pod in &listed.items {
            if pod.annotations().get(MARK) == Some(&self.record.id) {
                let name = pod.name_any();
                match call(async || api.delete(&name, &DeleteParams::default().grace_period(0)).await).await {
                    Ok(_) => {}
                    Err(error) if code(&error) == Some(404) => {}
                    Err(error) => return Err(Halt::api(&format!("delete pod {name}"), &error)),
                }
            }
        }
        Ok(())
    }
}

/// Whether a Node that this fix was about to replace has come again by its kubelet's own doing: what this fix makes carries
/// its mark, also where it did not come to write that down.
fn registered(work: &Work, node: &Node, id: &str) -> bool {
    let other = node.metadata.uid.as_deref() != Some(work.plan.uid.as_str());
    work.deleting && !work.swapped() && other && !state::marked(node, id)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{marked, node, work};
    use super::*;

    #[test]
    fn a_node_that_this_fix_made_is_not_taken_for_the_kubelets_though_nobody_wrote_that_down() {
        let deleting = Work {
            deleting: true,
            ..work()
        };
        let new = node("n2", "new", "10.244.255.0/24", &json!({}));
        assert!(registered(&deleting, &new, "f1"));
        assert!(!registered(&deleting, &marked(new.clone(), "f1"), "f1"));
        assert!(registered(&deleting, &marked(new.clone(), "f0"), "f1"), "another fix's");
        let old = node("n2", "old", "10.200.2.0/24", &json!({}));
        assert!(!registered(&deleting, &old, "f1"));
        assert!(!registered(&work(), &new, "f1"), "its deletion was not decided");
    }
}
