//! The drain: evictions, which budgets may hold up, and patience.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, ListParams, Preconditions};
use kube::core::Status;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code, passing};
use super::{Eyes, LOOK, Runner, pods, state};
use crate::fix::drain::{Allowed, Departure, departure};
use crate::fix::gather;
use crate::fix::ground::PodGround;
use crate::fix::plan::Does;

/// A budget that allowed nothing is asked again after this: its controller counts when a pod has become ready elsewhere.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// While evictions are still to be asked for, other nodes are looked at that often: all of them are listed for that.
pub(super) const CROWD: Duration = Duration::from_secs(10);

/// What a namespace that is being deleted says of itself (`v1.NamespaceTerminatingCause`).
const TERMINATING: &str = "NamespaceTerminating";

/// Whether the operator lets a pod go; else what would be lost with it.
pub(super) fn allowed(pod: &PodGround, allowed: Allowed) -> Result<(), String> {
    if pod.owner.is_none() && !allowed.unmanaged {
        return Err(format!(
            "pod {} has no controller: nobody makes it anew; delete it yourself, or begin with --force",
            pod.key
        ));
    }
    if pod.scratch && !allowed.scratch {
        return Err(format!(
            "pod {} has an emptyDir, and what is in it is lost; begin with --delete-emptydir-data where that is meant",
            pod.key
        ));
    }
    Ok(())
}

/// What holds up an eviction.
pub(super) enum Evicted {
    /// It goes, or has gone.
    Yes,
    /// A budget, in the API server's words.
    Held(String),
}

/// Another node that is away while pods are to be evicted.
struct Crowd {
    /// Since when, and why that is waited for.
    away: Option<(Instant, String)>,
    /// The last look.
    looked: Instant,
    /// What it took.
    took: Duration,
}

impl Crowd {
    /// None was away at that time.
    fn at(looked: Instant) -> Self {
        Self {
            away: None,
            looked,
            took: Duration::ZERO,
        }
    }
}

/// Evictions that were asked for, by the pod's UID.
#[derive(Default)]
struct Asked {
    /// The last time.
    at: BTreeMap<String, Instant>,
    /// What holds them up.
    held: BTreeMap<String, String>,
}

impl Asked {
    /// A pod that is there still, in words.
    fn told(&self, pod: &Pod) -> String {
        let key = pods::key(pod);
        match pod.uid().and_then(|uid| self.held.get(&uid)) {
            Some(why) => format!("{key} ({why})"),
            None => key,
        }
    }
}

impl<E: Eyes> Runner<'_, E> {
    /// The pods of the node that is worked on, without those that have ended.
    pub(super) async fn pods_on(&self, node: &str) -> Result<Vec<Pod>, Halt> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let there = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let listed = call(async || api.list(&there).await).await;
        let listed = listed.map_err(|error| Halt::api(&format!("list pods of {node}"), &error))?;
        let running = listed.items.into_iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        });
        Ok(running.collect())
    }

    /// Evicts whoever is there when it begins, and waits until all of them have ended.
    pub(super) async fn drain(&mut self) -> Result<(), Halt> {
        let work = self.work()?;
        let node = work.plan.node.clone();
        let cordoned = work.cordoned || state::unschedulable(&work.saved);
        let began = Instant::now();
        // Those that come later tolerate a cordon: evicting them would have no end.
        let mut leaving = self.leaving(&node).await?;
        for pod in &leaving {
            allowed(&gather::pod(pod), self.record.wish.allowed).map_err(Halt::Stop)?;
        }
        self.held.renew().await?;
        let wanted: BTreeSet<String> = leaving.iter().filter_map(Pod::uid).collect();
        let mut asked = Asked::default();
        // It was looked at just before.
        let mut crowd = Crowd::at(began);
        let mut last = String::new();
        loop {
            let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
            self.look_around(&mut crowd, leaving.iter().any(stays)).await?;
            let mut left = Vec::new();
            for pod in &leaving {
                if stays(pod) && crowd.away.is_none() {
                    self.ask(&mut asked, pod).await?;
                }
                left.push(asked.told(pod));
            }
            if left.is_empty() {
                return Ok(());
            }
            let mut text = format!("waits for {} to end", left.join(", "));
            if let Some((_, why)) = &crowd.away {
                text += &format!(", and evicts none meanwhile: {why}");
            }
            if began.elapsed() >= self.settings.drain {
                return Err(Halt::Stop(format!(
                    "the drain of {node} has not ended within {:?}: it {text}",
                    self.settings.drain
                )));
            }
            if text != last {
                self.tell(text.clone());
                last = text;
            }
            sleep(LOOK).await;
            // Others may want something else of it meanwhile.
            if cordoned && !self.there(&node).await?.is_some_and(|node| state::unschedulable(&node)) {
                return Err(Halt::Stop(format!(
                    "somebody uncordoned {node}, or deleted its Node, during the drain: where it is there, kubectl cordon {node} \
                     first, then --resume; or --abort"
                )));
            }
            leaving = self.leaving(&node).await?;
            leaving.retain(|pod| pod.uid().is_some_and(|uid| wanted.contains(&uid)));
        }
    }

    /// The pods of a node that a drain evicts.
    async fn leaving(&self, node: &str) -> Result<Vec<Pod>, Halt> {
        let mut pods = self.pods_on(node).await?;
        pods.retain(|pod| departure(&gather::pod(pod)) == Departure::Evicted);
        Ok(pods)
    }

    /// Looks at the other nodes as long as evictions are to be asked for. One that is away for longer than a node may be is not
    /// waited for any more.
    async fn look_around(&self, crowd: &mut Crowd, asks: bool) -> Result<(), Halt> {
        if !asks {
            crowd.away = None;
            return Ok(());
        }
        // All Nodes are listed for that: of 5,000 not one time after the other.
        let every = if crowd.away.is_some() { AGAIN } else { self.crowd };
        let every = every.max(crowd.took * 4);
        if crowd.looked.elapsed() >= every {
            let since = crowd.away.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            let asked = Instant::now();
            let away = self.crowded(&Does::Drain).await?;
            *crowd = Crowd {
                away: away.map(|why| (since, why)),
                looked: Instant::now(),
                took: asked.elapsed(),
            };
        }
        match &crowd.away {
            Some((since, why)) if since.elapsed() >= self.settings.patience => Err(Halt::Stop(why.clone())),
            _ => Ok(()),
        }
    }

    /// Asks for an eviction, unless that was done a moment ago.
    async fn ask(&self, asked: &mut Asked, pod: &Pod) -> Result<(), Halt> {
        let uid = pod.uid().unwrap_or_default();
        if asked.at.get(&uid).is_some_and(|at| at.elapsed() < AGAIN) {
            return Ok(());
        }
        asked.at.insert(uid.clone(), Instant::now());
        match self.evict(pod).await? {
            Evicted::Yes => asked.held.remove(&uid),
            Evicted::Held(why) => asked.held.insert(uid, why),
        };
        Ok(())
    }

    /// Asks for an eviction, which a budget may refuse for now.
    pub(super) async fn evict(&self, pod: &Pod) -> Result<Evicted, Halt> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        // Another pod of that name is not meant.
        let only = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let parameters = EvictParams {
            delete_options: Some(DeleteParams::default().preconditions(only)),
            ..EvictParams::default()
        };
        match api.evict(&name, &parameters).await {
            Ok(_) => Ok(Evicted::Yes),
            Err(error) => match (&error, code(&error)) {
                (_, Some(404 | 409)) => Ok(Evicted::Yes),
                // Nothing may be made in it, and an eviction is; its pods are deleted with it.
                (kube::Error::Api(status), Some(403)) if terminating(status) => {
                    Ok(Evicted::Held("its namespace is being deleted".to_owned()))
                }
                // That it is "several budgets" is said with 500, and so does an API server that starts; both are told.
                (kube::Error::Api(status), _) if passing(&error) => Ok(Evicted::Held(status.message.clone())),
                (kube::Error::Api(_), _) => Err(Halt::api(&format!("evict {namespace}/{name}"), &error)),
                _ => Ok(Evicted::Held("the API server does not answer".to_owned())),
            },
        }
    }
}

/// Whether something is refused because its namespace goes.
fn terminating(status: &Status) -> bool {
    let details = status.details.as_ref();
    let mut causes = details.into_iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == TERMINATING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_goes_only_where_that_was_said() {
        let owner = crate::fix::ground::Owner {
            kind: "ReplicaSet".to_owned(),
            name: "web".to_owned(),
        };
        let plain = PodGround {
            key: "default/web".to_owned(),
            owner: Some(owner),
            ..PodGround::default()
        };
        let none = Allowed::default();
        assert_eq!(allowed(&plain, none), Ok(()));
        let bare = PodGround {
            owner: None,
            ..plain.clone()
        };
        assert!(allowed(&bare, none).unwrap_err().contains("--force"));
        let scratch = PodGround { scratch: true, ..plain };
        assert!(allowed(&scratch, none).unwrap_err().contains("--delete-emptydir-data"));
        let all = Allowed {
            unmanaged: true,
            scratch: true,
        };
        assert_eq!((allowed(&bare, all), allowed(&scratch, all)), (Ok(()), Ok(())));
    }
}
