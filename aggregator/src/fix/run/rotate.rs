//! The classic way to another CIDR: the Node is deleted, and its kubelet, restarted, registers it anew.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::ResourceExt;
use kube::api::{DeleteParams, Preconditions};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, MARK, Runner, made, node, record, shell, state};
use crate::correlate::words::list;

/// flanneld's annotations.
const FLANNEL: &str = "flannel.alpha.coreos.com/";

/// Those of them that people set.
const OVERWRITE: [&str; 2] = [
    "flannel.alpha.coreos.com/public-ip-overwrite",
    "flannel.alpha.coreos.com/public-ipv6-overwrite",
];

impl<E: Eyes> Runner<'_, E> {
    /// Over once there is another Node with CIDRs, cordoned, and with labels, annotations and taints of the one before.
    pub(super) async fn rotate(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, old) = (work.plan.node.clone(), work.plan.uid.clone());
        if !work.deleting {
            let node = self.there(&name).await?;
            let node = node.ok_or_else(|| Halt::Stop(format!("somebody deleted Node {name}")))?;
            node::deletable(&node)?;
            if let Some(work) = &mut self.record.work {
                (*work.saved, work.deleting) = (record::saved(&node), true);
            }
            self.save().await?;
            self.tell("its Node is saved on the Lease");
        }
        let began = Instant::now();
        while let Some(node) = self.there(&name).await?
            && node.metadata.uid.as_deref() == Some(&old)
        {
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!("Node {name} is deleted and does not go")));
            }
            self.delete_node(&node).await?;
            sleep(node::BRIEF).await;
        }
        if self.there(&name).await?.is_none() {
            match &self.settings.restart {
                Some(template) => shell::run(template, &name, &[], self.settings.patience).await?,
                None => self.tell(format!("waits for you: on {name}: systemctl restart kubelet")),
            }
        }
        let (uid, cidrs) = self.registered(&name, &old).await?;
        self.tell(format!("its kubelet has registered it, with {}", list(&cidrs)));
        if let Some(work) = &mut self.record.work {
            (work.made, work.plan.to) = (Some(uid), cidrs);
        }
        self.save().await
    }

    /// Waits for the new Node, which is cordoned as soon as it is seen, and for its CIDRs.
    async fn registered(&self, name: &str, old: &str) -> Result<(String, Vec<IpNet>), Halt> {
        let began = Instant::now();
        let mut given = false;
        loop {
            let node = self.there(name).await?;
            let node = node.filter(|node| node.metadata.uid.as_deref() != Some(old));
            let lacks = match node {
                Some(node) => {
                    if !given {
                        self.give_back(&node, true).await?;
                        given = true;
                    }
                    let cidrs = state::cidrs(&node);
                    if !cidrs.is_empty() {
                        return Ok((node.metadata.uid.unwrap_or_default(), cidrs));
                    }
                    "nobody has given it a CIDR"
                }
                None => "its kubelet has not registered it",
            };
            if began.elapsed() >= self.settings.patience {
                return Err(match &self.settings.restart {
                    None if !given => Halt::Hand(format!("on {name}: systemctl restart kubelet; then go on")),
                    _ => Halt::Stop(format!("{name} does not come back: {lacks}")),
                });
            }
            sleep(LOOK).await;
        }
    }

    /// Gives a Node that its kubelet has registered the labels, annotations and taints of the one before, and cordons it
    /// with the mark of this fix.
    pub(super) async fn give_back(&self, node: &Node, cordon: bool) -> Result<(), Halt> {
        let saved = self.work()?.saved.clone();
        // flanneld writes its own, and takes a Node that has them for a peer as long as it has not started anew.
        let kept = saved
            .annotations()
            .iter()
            .filter(|(key, _)| *key != MARK && (!key.starts_with(FLANNEL) || OVERWRITE.contains(&key.as_str())));
        let mut annotations: Map<String, Value> = kept.map(|(key, value)| (key.clone(), json!(value))).collect();
        // Those that it has are somebody's who waits for it: a cloud's controller, a CNI.
        let mut taints = node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default();
        let lacks = |taints: &[Taint], taint: &Taint| {
            !taints
                .iter()
                .any(|has| has.key == taint.key && has.effect == taint.effect)
        };
        for taint in made::taints(&saved) {
            if lacks(&taints, &taint) {
                taints.push(taint);
            }
        }
        let mut change = json!({"metadata": {"labels": saved.labels()}, "spec": {"taints": taints}});
        // A cloud's kubelet or controller sets it; what somebody else had set is given once.
        let provider = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.clone());
        if let (None, Some(before)) = (provider(node), provider(&saved)) {
            change["spec"]["providerID"] = json!(before);
        }
        // One that somebody else had set is kept.
        if !cordon && state::unschedulable(&saved) && !self.work()?.cordoned {
            change["spec"]["unschedulable"] = json!(true);
        }
        if cordon {
            annotations.insert(MARK.to_owned(), json!(self.record.id));
            change["spec"]["unschedulable"] = json!(true);
        }
        change["metadata"]["annotations"] = json!(annotations);
        let uid = node.metadata.uid.clone().unwrap_or_default();
        self.patch(&node.name_any(), &uid, change).await.map(drop)
    }

    /// Deletes this very Node, as it was just read: whoever has taken the fix over meanwhile has changed it.
    pub(super) async fn delete_node(&self, node: &Node) -> Result<(), Halt> {
        let name = node.name_any();
        node::deletable(node)?;
        if self.work()?.cordoned && !state::marked(node, &self.record.id) {
            return Err(Halt::Stop(format!(
                "somebody took the mark of this fix ({MARK}) from Node {name}"
            )));
        }
        self.held.renew().await?;
        let only = Preconditions {
            uid: node.metadata.uid.clone(),
            resource_version: node.metadata.resource_version.clone(),
        };
        let parameters = DeleteParams::default().preconditions(only);
        let api = self.nodes();
        match call(async || api.delete(&name, &parameters).await).await {
            Ok(_) => Ok(()),
            // It is gone, or another one, or its kubelet has told something: that shows at once.
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(Halt::api(&format!("delete Node {name}"), &error)),
        }
    }
}
