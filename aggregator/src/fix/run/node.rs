//! Steps that act on the Node itself.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, MARK, Runner, made, record, state};
use crate::correlate::words::list;
use crate::fix::gather;

/// A Node without finalizers is gone when its deletion is answered.
pub(super) const BRIEF: Duration = Duration::from_millis(50);

/// Where kubelets renew their Leases.
pub(super) const NODE_LEASES: &str = "kube-node-lease";

impl<E: Eyes> Runner<'_, E> {
    /// Patches the Node if it is still the one with this UID.
    pub(super) async fn patch(&self, name: &str, uid: &str, mut change: Value) -> Result<Node, Halt> {
        change["metadata"]["uid"] = json!(uid);
        let (api, patch) = (self.nodes(), Patch::Merge(change));
        let parameters = PatchParams::default();
        let patched = call(async || api.patch(name, &parameters, &patch).await).await;
        patched.map_err(|error| match code(&error) {
            Some(404 | 409) => Halt::Stop(format!("Node {name} is another one now, or gone: {error}")),
            _ => Halt::api(&format!("patch Node {name}"), &error),
        })
    }

    /// Takes the mark of this fix away.
    pub(super) async fn unmark(&self, name: &str, uid: Option<&str>) -> Result<(), Halt> {
        let change = json!({"metadata": {"annotations": {MARK: null}}});
        self.patch(name, uid.unwrap_or_default(), change).await.map(drop)
    }

    /// The mark goes on with the cordon: whose it is can be told at any time.
    pub(super) async fn cordon(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, uid, id) = (work.plan.node.clone(), work.uid().to_owned(), self.record.id.clone());
        if let Some(node) = self.there(&name).await?
            && state::unschedulable(&node)
            && !state::marked(&node, &id)
        {
            return Err(Halt::Stop(format!(
                "somebody else cordoned {name} since it was planned: plan again, and that cordon is kept"
            )));
        }
        let change = json!({"metadata": {"annotations": {MARK: id}}, "spec": {"unschedulable": true}});
        self.patch(&name, &uid, change).await?;
        if let Some(work) = &mut self.record.work {
            work.cordoned = true;
        }
        Ok(())
    }

    /// As it was before the cordon; a cordon that is not this fix's any more stays.
    pub(super) async fn uncordon(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, uid) = (work.plan.node.clone(), work.uid().to_owned());
        // Done before, and whatever it is since then is somebody else's.
        let there = self.there(&name).await?;
        if there.is_some_and(|node| state::marked(&node, &self.record.id)) {
            let change = json!({"metadata": {"annotations": {MARK: null}}, "spec": {"unschedulable": null}});
            self.patch(&name, &uid, change).await?;
        }
        if let Some(work) = &mut self.record.work {
            work.cordoned = false;
        }
        Ok(())
    }

    /// A Node without CIDRs gets them; the API server takes them only once.
    pub(super) async fn assign(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, uid, to) = (work.plan.node.clone(), work.uid().to_owned(), work.plan.to.clone());
        let node = self.there(&name).await?;
        let has = node.as_ref().map(state::cidrs).unwrap_or_default();
        if has == to {
            return Ok(());
        }
        if !has.is_empty() {
            return Err(Halt::Stop(format!("{name} has got {} meanwhile", list(&has))));
        }
        let all: Vec<String> = to.iter().map(ToString::to_string).collect();
        let change = json!({"spec": {"podCIDR": all.first(), "podCIDRs": all}});
        self.patch(&name, &uid, change).await?;
        Ok(())
    }

    /// The Node goes, and comes again at once. That it is about to go is on the Lease before, with all that it had.
    pub(super) async fn recreate(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, old, id) = (work.plan.node.clone(), work.plan.uid.clone(), self.record.id.clone());
        if !work.deleting {
            let node = self.there(&name).await?;
            let node = node.ok_or_else(|| Halt::Stop(format!("somebody deleted Node {name}")))?;
            deletable(&node)?;
            if let Some(work) = &mut self.record.work {
                (*work.saved, work.deleting) = (record::saved(&node), true);
            }
            self.save().await?;
            self.tell("its Node is saved on the Lease");
        }
        self.disown(&name).await?;
        let work = self.work()?;
        let new = made::anew(&work.saved, &work.plan.to, &id);
        let api = self.nodes();
        // Without a Lease, too: nobody else may know how to make it again.
        let held = self.held.clone();
        let whole = held.whole().await;
        let (mut gone, began) = (false, Instant::now());
        let made = loop {
            match self.there(&name).await? {
                Some(node) if node.metadata.uid.as_deref() == Some(old.as_str()) => {
                    self.delete_node(&node).await?;
                    gone = true;
                }
                Some(node) if state::marked(&node, &id) => break node,
                Some(_) => {
                    return Err(Halt::Stop(format!(
                        "while Node {name} was deleted somebody else made it again: what it had is saved on Lease cidrift-fix"
                    )));
                }
                None => {
                    if gone {
                        self.tell("its Node is deleted");
                        gone = false;
                    }
                    match call(async || api.create(&PostParams::default(), &new).await).await {
                        Ok(node) => break node,
                        Err(error) if code(&error) == Some(409) => {}
                        Err(error) => return Err(Halt::api(&format!("create Node {name}"), &error)),
                    }
                }
            }
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!("Node {name} is deleted and does not go")));
            }
            sleep(BRIEF).await;
        };
        drop(whole);
        self.tell("its Node is made again");
        let uid = made.metadata.uid.clone().unwrap_or_default();
        if let Some(work) = &mut self.record.work {
            work.made = Some(uid.clone());
            // The new one is made cordoned, whoever did that to the old one.
            work.cordoned = work.cordoned && state::unschedulable(&made);
        }
        self.save().await?;
        self.own(&name, &uid).await
    }

    /// What the garbage collector would take along with the Node: drivers of a CSINode come back only with the kubelet.
    async fn disown(&self, name: &str) -> Result<(), Halt> {
        self.owners(name, &json!([])).await
    }

    /// The same for the new Node: they go with that one.
    pub(super) async fn own(&self, name: &str, uid: &str) -> Result<(), Halt> {
        let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
        self.owners(name, &owner).await
    }

    async fn owners(&self, name: &str, owners: &Value) -> Result<(), Halt> {
        let drivers: Api<CSINode> = Api::all(self.client.clone());
        set_owners(&drivers, name, owners).await?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NODE_LEASES);
        set_owners(&leases, name, owners).await
    }

    /// Somebody starts it: a supervisor that has seen it end often waits for minutes before the next time.
    pub(super) async fn controllers(&self) -> Result<(), Halt> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let quiet = call(async || gather::controllers(&self.client).await).await;
            let quiet = quiet.map_err(|error| Halt::api("see whether a kube-controller-manager runs", &error))?;
            let Some(why) = quiet else { return Ok(()) };
            if began.elapsed() >= self.settings.drain {
                return Err(Halt::Stop(format!("{why}: start it, and go on")));
            }
            if !told {
                self.tell(format!("{why}: start it, unless its supervisor does"));
                told = true;
            }
            sleep(LOOK * 2).await;
        }
    }

    /// Ready, with room, without a condition's taint: a kubelet that is restarted before a Node has room rejects its pods.
    pub(super) async fn adopt(&self) -> Result<(), Halt> {
        let work = self.work()?;
        let (name, uid, to) = (&work.plan.node, work.uid(), &work.plan.to);
        let began = Instant::now();
        let mut last = String::new();
        loop {
            let node = self.there(name).await?;
            let node = node.filter(|node| node.metadata.uid.as_deref() == Some(uid));
            let node = node.ok_or_else(|| Halt::Stop(format!("somebody deleted Node {name}")))?;
            let has = state::cidrs(&node);
            if has != *to {
                return Err(Halt::Stop(format!("Node {name} has {}", list(&has))));
            }
            let Some(lacks) = lacks(&node) else { return Ok(()) };
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!("{name} does not come back: {lacks}")));
            }
            if lacks != last {
                self.tell(format!("waits: {lacks}"));
                last = lacks;
            }
            sleep(LOOK).await;
        }
    }
}

/// Whether it would be gone at once.
pub(super) fn deletable(node: &Node) -> Result<(), Halt> {
    if node.finalizers().is_empty() {
        return Ok(());
    }
    Err(Halt::Stop(format!(
        "Node {} has finalizers ({}): it would not be gone at once, and nothing could be made in its place",
        node.name_any(),
        node.finalizers().join(", ")
    )))
}

async fn set_owners<K>(api: &Api<K>, name: &str, owners: &Value) -> Result<(), Halt>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
    match call(async || api.patch_metadata(name, &PatchParams::default(), &patch).await).await {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(Halt::api(&format!("patch {} {name}", K::kind(&())), &error)),
    }
}

/// Whether its kubelet has told how many pods it can run: before that it rejects all of them.
pub(super) fn room(node: &Node) -> bool {
    let told = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    told.is_some_and(|all| all.contains_key("pods"))
}

/// What a Node lacks for pods to run on it; `None`: nothing.
pub(super) fn lacks(node: &Node) -> Option<String> {
    if !state::ready(node) {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let said = conditions.into_iter().flatten().find(|one| one.type_ == "Ready");
        let said = said.and_then(|one| one.message.clone());
        return Some(match said {
            Some(said) => format!("it is not Ready: {said}"),
            None => "its kubelet has not reported yet".to_owned(),
        });
    }
    if !room(node) {
        return Some("its kubelet has not told how many pods it can run".to_owned());
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let condition = |key: &str| key.starts_with("node.kubernetes.io/") && key != "node.kubernetes.io/unschedulable";
    let taint = taints.into_iter().flatten().find(|taint| condition(&taint.key));
    taint.map(|taint| format!("it is tainted {}", taint.key))
}
