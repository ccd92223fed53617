//! The classic way to another CIDR: the Node is deleted, and its kubelet, restarted, registers it anew.

use kube::ResourceExt;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, MARK, Runner, record, shell, state};
use crate::correlate::words::list;

/// flanneld's annotations.
const FLANNEL: &str = "flannel.alpha.coreos.com/";

/// The one of them that people set.
const OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";

impl<E: Eyes> Runner<'_, E> {
    /// Over once there is another Node with CIDRs, cordoned, and with labels, annotations and taints of the one before.
    pub(super) async fn rotate(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, old) = (work.plan.node.clone(), work.plan.uid.clone());
        if !work.deleting {
            let node = self.there(&name).await?;
            let node = node.ok_or_else(|| Halt::Stop(format!("somebody deleted Node {name}")))?;
            if let Some(work) = &mut self.record.work {
                (*work.saved, work.deleting) = (record::saved(&node), true);
            }
            self.save().await?;
            self.tell("its Node is saved on the Lease");
        }
        if self
            .there(&name)
            .await?
            .is_some_and(|node| node.metadata.uid.as_deref() == Some(&old))
        {
            self.delete_node(&name, &old).await?;
            self.tell("its Node is deleted");
        }
        if self.there(&name).await?.is_none() {
            self.restart_kubelet(&name).await?;
        }
        let node = self.registered(&name, &old).await?;
        let (uid, cidrs) = (node.metadata.uid.clone().unwrap_or_default(), state::cidrs(&node));
        let saved = self.work()?.saved.clone();
        // flanneld writes its own, and takes a Node that has them for a peer as long as it has not started anew.
        let kept = saved
            .annotations()
            .iter()
            .filter(|(key, _)| !key.starts_with(FLANNEL) || *key == OVERWRITE);
        let mut annotations: Map<String, Value> = kept.map(|(key, value)| (key.clone(), json!(value))).collect();
        annotations.insert(MARK.to_owned(), json!(self.record.id));
        let taints = super::made::taints(&saved);
        let change = json!({
            "metadata": {"labels": saved.labels(), "annotations": annotations},
            "spec": {"unschedulable": true, "taints": taints},
        });
        self.patch(&name, &uid, change).await?;
        self.tell(format!("its kubelet has registered it, with {}", list(&cidrs)));
        if let Some(work) = &mut self.record.work {
            (work.made, work.plan.to) = (Some(uid), cidrs);
        }
        self.save().await
    }

    /// By the operator's command, or by his hands.
    async fn restart_kubelet(&mut self, name: &str) -> Result<(), Halt> {
        if let Some(template) = &self.settings.restart {
            return shell::run(template, name, &[], self.settings.patience).await;
        }
        if self.work()?.told {
            return Ok(());
        }
        if let Some(work) = &mut self.record.work {
            work.told = true;
        }
        self.save().await?;
        Err(Halt::Hand(format!("on {name}: systemctl restart kubelet")))
    }

    async fn registered(&mut self, name: &str, old: &str) -> Result<k8s_openapi::api::core::v1::Node, Halt> {
        let began = Instant::now();
        loop {
            let node = self
                .there(name)
                .await?
                .filter(|node| node.metadata.uid.as_deref() != Some(old));
            let lacks = match node {
                Some(node) if !state::cidrs(&node).is_empty() => {
                    if let Some(work) = &mut self.record.work {
                        work.told = false;
                    }
                    return Ok(node);
                }
                Some(_) => "nobody has given it a CIDR",
                None => "its kubelet has not registered it",
            };
            if began.elapsed() >= self.settings.patience {
                // Whoever goes on is asked for the kubelet once more.
                if let Some(work) = &mut self.record.work {
                    work.told = false;
                }
                return Err(Halt::Stop(format!("{name} does not come back: {lacks}")));
            }
            sleep(LOOK).await;
        }
    }

    /// Deletes the Node that has this UID, and no other.
    pub(super) async fn delete_node(&self, name: &str, uid: &str) -> Result<(), Halt> {
        let only = kube::api::Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let parameters = kube::api::DeleteParams::default().preconditions(only);
        let api = self.nodes();
        match call(async || api.delete(name, &parameters).await).await {
            Ok(_) => Ok(()),
            // It is gone, or another one: that shows at once.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(Halt::api(&format!("delete Node {name}"), &error)),
        }
    }
}
