//! The drain: evictions, which budgets may hold up, and patience.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, ListParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code, passing};
use super::{Eyes, LOOK, Runner, state};
use crate::fix::drain::{Departure, departure};
use crate::fix::gather;

/// A budget that allowed nothing is asked again after this: its controller counts when a pod has become ready elsewhere.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// What holds up an eviction.
pub(super) enum Evicted {
    /// It goes, or has gone.
    Yes,
    /// A budget, in the API server's words.
    Held(String),
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
        let (node, cordoned) = (self.plan()?.node.clone(), self.work()?.cordoned);
        let began = Instant::now();
        // Those that come later tolerate a cordon: evicting them would have no end.
        let mut wanted: Option<BTreeSet<String>> = None;
        let mut asked: BTreeMap<String, Instant> = BTreeMap::new();
        let mut held: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        loop {
            let pods = self.pods_on(&node).await?;
            let leaving: Vec<&Pod> = pods
                .iter()
                .filter(|pod| departure(&gather::pod(pod)) == Departure::Evicted)
                .collect();
            let uids = || leaving.iter().filter_map(|pod| pod.uid()).collect::<BTreeSet<_>>();
            let wanted = wanted.get_or_insert_with(uids);
            let mut left = Vec::new();
            for pod in leaving {
                let uid = pod.uid().unwrap_or_default();
                if !wanted.contains(&uid) {
                    continue;
                }
                let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                let again = asked.get(&uid).is_none_or(|at| at.elapsed() >= AGAIN);
                if pod.metadata.deletion_timestamp.is_none() && again {
                    asked.insert(uid.clone(), Instant::now());
                    match self.evict(pod).await? {
                        Evicted::Yes => held.remove(&uid),
                        Evicted::Held(why) => held.insert(uid.clone(), why),
                    };
                }
                left.push(match held.get(&uid) {
                    Some(why) => format!("{key} ({why})"),
                    None => key,
                });
            }
            if left.is_empty() {
                return Ok(());
            }
            let text = format!("waits for {} to end", left.join(", "));
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
                    "somebody uncordoned {node}, or deleted its Node, during the drain"
                )));
            }
        }
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
                // That it is "several budgets" is said with 500, and so does an API server that starts; both are told.
                (kube::Error::Api(status), _) if passing(&error) => Ok(Evicted::Held(status.message.clone())),
                (kube::Error::Api(_), _) => Err(Halt::api(&format!("evict {namespace}/{name}"), &error)),
                _ => Ok(Evicted::Held("the API server does not answer".to_owned())),
            },
        }
    }
}
