//! Whether the ground has moved since the step before: others may act on the same node at any time.

use std::fmt;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call};
use super::record::Work;
use super::{Eyes, LOOK, MARK, Runner};
use crate::correlate::words::list;
use crate::fix::gather;
use crate::fix::plan::{Does, Step};

impl<E: Eyes> Runner<'_, E> {
    /// A Node as it is; `None`: there is none.
    pub(super) async fn there(&self, name: &str) -> Result<Option<Node>, Halt> {
        let api = self.nodes();
        let found = call(async || api.get_opt(name).await).await;
        found.map_err(|error| Halt::api(&format!("get Node {name}"), &error))
    }

    /// Whether a Node whose deletion was decided is gone: until it is asked for, and where that was refused, it is there still.
    pub(super) async fn taken_away(&self, work: &Work) -> Result<bool, Halt> {
        if !work.missing() {
            return Ok(false);
        }
        let node = self.there(&work.plan.node).await?;
        let stays = |node: Node| {
            let meta = node.metadata;
            meta.uid.as_deref() == Some(&work.plan.uid) && meta.deletion_timestamp.is_none()
        };
        Ok(!node.is_some_and(stays))
    }

    /// How a Node is where a fix leaves it.
    pub(super) async fn at_rest(&self, name: &str) -> Result<Rest, Halt> {
        let (node, name) = (self.there(name).await?, name.to_owned());
        Ok(Rest { name, node })
    }

    /// That nobody else acted on the node that is worked on.
    pub(super) async fn untouched(&self, next: &Does) -> Result<(), Halt> {
        let work = self.work()?;
        let node = self.there(&work.plan.node).await?;
        own(work, node.as_ref(), next, &self.record.id).map_err(Halt::Stop)
    }

    /// What has to be true before any step, and before those that take something away or give CIDRs. A node that is out for
    /// a moment is waited for.
    pub(super) async fn unmoved(&self, next: &Does) -> Result<(), Halt> {
        let began = Instant::now();
        let mut last = String::new();
        loop {
            self.untouched(next).await?;
            let asked = Instant::now();
            let Some(why) = self.crowded(next).await? else {
                return Ok(());
            };
            let took = asked.elapsed();
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(why));
            }
            if why != last {
                self.tell(format!("waits: {why}"));
                last = why;
            }
            // All Nodes are listed for that: of 5,000 not one time after the other.
            sleep((LOOK * 2).max(took * 4)).await;
        }
    }

    /// Which other node is unavailable, where a step would make two of it; `Err`: what does not pass by itself.
    pub(super) async fn crowded(&self, next: &Does) -> Result<Option<String>, Halt> {
        let work = self.work()?;
        if !takes(next) && !gives(next) {
            return Ok(None);
        }
        let api = self.nodes();
        let mut all = Vec::new();
        let list = async |page: &ListParams| call(async || api.list(page).await).await;
        let listed = gather::pages(&ListParams::default(), list, |node| all.push(gather::trim(node))).await;
        listed.map_err(|error| Halt::api("list Nodes", &error))?;
        free(work, &all, next).map_err(Halt::Stop)?;
        let waits: Vec<&str> = self.record.queue.iter().map(|next| next.node.as_str()).collect();
        Ok(out(work, &all, next, &waits))
    }
}

/// A Node, or that there is none, in words.
pub(super) struct Rest {
    name: String,
    node: Option<Node>,
}

impl Rest {
    pub(super) fn cordoned(&self) -> bool {
        self.node.as_ref().is_some_and(unschedulable)
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        let Some(node) = &self.node else {
            return write!(f, "there is no Node {name}");
        };
        let cordon = if unschedulable(node) { ", cordoned" } else { "" };
        let ready = if ready(node) { "Ready" } else { "not Ready" };
        write!(f, "Node {name} has {}, is {ready}{cordon}", list(cidrs(node)))
    }
}

/// Steps that take a node away, or what its pods need.
fn takes(does: &Does) -> bool {
    matches!(
        does,
        Does::Cordon
            | Does::Drain
            | Does::RemoveFile { .. }
            | Does::RemoveLink { .. }
            | Does::Recreate
            | Does::Rotate
            | Does::RestartKubelet
    )
}

/// Steps that give CIDRs, as the plan says.
fn gives(does: &Does) -> bool {
    matches!(does, Does::Recreate | Does::Assign)
}

/// Whether the node that is worked on is as this fix left it; else what is not.
pub(super) fn own(work: &Work, node: Option<&Node>, next: &Does, id: &str) -> Result<(), String> {
    let name = &work.plan.node;
    // A Node that its kubelet has registered is not marked yet.
    let rotates = *next == Does::Rotate && work.deleting && work.made.is_none();
    let recreates = *next == Does::Recreate;
    let Some(node) = node else {
        return if (recreates || rotates) && work.deleting {
            Ok(())
        } else {
            Err(format!("somebody deleted Node {name}"))
        };
    };
    let ours = marked(node, id);
    let uid = node.metadata.uid.as_deref().unwrap_or_default();
    if rotates && uid != work.uid() {
        return Ok(());
    }
    // Made by this fix, which did not come to write that down.
    let made = recreates && work.deleting && ours;
    if uid != work.uid() && !made {
        return Err(format!(
            "Node {name} is another one now: somebody deleted it and made it again"
        ));
    }
    // Whoever uncordoned it for this fix died before he wrote that down.
    if *next == Does::Uncordon && !unschedulable(node) && !ours {
        return Ok(());
    }
    if (work.cordoned || unschedulable(&work.saved)) && !unschedulable(node) {
        return Err(format!(
            "somebody uncordoned {name}: kubectl cordon {name} first, then --resume; or --abort"
        ));
    }
    if work.cordoned && !ours {
        return Err(format!("somebody took the mark of this fix ({MARK}) from Node {name}"));
    }
    Ok(())
}

/// Another node that is unavailable for any reason, where `next` would make two of it. Those that wait to be mended, and are
/// not Ready for that very reason, are not made worse.
pub(super) fn out(work: &Work, all: &[Node], next: &Does, waits: &[&str]) -> Option<String> {
    let plan = &work.plan;
    let old = |node: &Node| node.metadata.uid.as_deref() == Some(plan.uid.as_str());
    // A Node that is gone already has to come back, whatever others do.
    let back = matches!(next, Does::Recreate | Does::Rotate) && work.deleting && !all.iter().any(old);
    let away = |step: &Step| matches!(step.does, Does::Drain | Does::RestartKubelet);
    if !takes(next) || !plan.steps.iter().any(away) || back {
        return None;
    }
    let others = all.iter().filter(|node| node.name_any() != plan.node);
    let mut why = others.filter_map(|other| {
        let name = other.name_any();
        let why = if other.metadata.deletion_timestamp.is_some() {
            "is being deleted"
        } else if unschedulable(other) {
            "is cordoned"
        } else if !ready(other) && !waits.contains(&name.as_str()) {
            "is not Ready"
        } else {
            return None;
        };
        Some(format!(
            "{name} {why}: a second node must not be unavailable at the same time"
        ))
    });
    why.next()
}

/// Whether no other node has got a part of the CIDRs that are to be given.
pub(super) fn free(work: &Work, all: &[Node], next: &Does) -> Result<(), String> {
    let plan = &work.plan;
    if !gives(next) {
        return Ok(());
    }
    for other in all.iter().filter(|node| node.name_any() != plan.node) {
        let taken = cidrs(other)
            .iter()
            .any(|net| plan.to.iter().any(|to| crate::netmap::overlap(net, to)));
        if taken {
            return Err(format!(
                "Node {} has got a part of what {} was to have",
                other.name_any(),
                plan.node
            ));
        }
    }
    Ok(())
}

pub(super) fn unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

pub(super) fn ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

/// It carries the mark of this fix.
pub(super) fn marked(node: &Node, id: &str) -> bool {
    node.annotations().get(MARK).is_some_and(|mark| mark == id)
}

/// `spec.podCIDRs`; what is none is left out.
pub(super) fn cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let list = spec.and_then(|spec| spec.pod_cidrs.clone());
    let list = list.or_else(|| spec.and_then(|spec| spec.pod_cidr.clone()).map(|cidr| vec![cidr]));
    list.unwrap_or_default()
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}
