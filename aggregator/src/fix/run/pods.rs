//! Steps that make pods anew where they are.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};

use super::drain::{AGAIN, Evicted, allowed};
use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, Runner};
use crate::fix::drain::{Departure, departure};
use crate::fix::gather;
use crate::fix::planner::foreign;

impl<E: Eyes> Runner<'_, E> {
    /// Deletes one pod, unless it is another one by now.
    async fn delete(&self, pod: &Pod) -> Result<(), Halt> {
        let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let only = Preconditions {
            uid: pod.uid(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(only);
        match call(async || api.delete(&name, &parameters).await).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(Halt::api(&format!("delete pod {namespace}/{name}"), &error)),
        }
    }

    /// The CNI's pod that was there goes, or whichever came in its place before the Node was made anew; over once another one of
    /// that node is ready.
    pub(super) async fn restart_daemon(&self, old: &str) -> Result<(), Halt> {
        let work = self.work()?;
        let node = &work.plan.node;
        let made = match &work.made {
            Some(_) => self.there(node).await?.and_then(|node| created(&node)),
            None => None,
        };
        self.restarted(node, old, made).await
    }

    /// The same on any node.
    pub(super) async fn restart_daemon_of(&self, node: &str, old: &str) -> Result<(), Halt> {
        self.restarted(node, old, None).await
    }

    /// `made`: where the old one is gone, those that were there by then have not seen the Node that is there now.
    async fn restarted(&self, node: &str, old: &str, made: Option<Timestamp>) -> Result<(), Halt> {
        let began = Instant::now();
        let mut told = false;
        let mut stale: Option<BTreeSet<String>> = None;
        loop {
            let mut pods = self.pods_on(node).await?;
            pods.retain(|pod| gather::pod(pod).daemon.is_some_and(|kind| kind != "kube-proxy"));
            // Whatever comes from now on has been made after the Node, whosever clock its time is by.
            let stale = stale.get_or_insert_with(|| earlier(&pods, old, made));
            let goes = |pod: &&Pod| key(pod) == old || pod.uid().is_some_and(|uid| stale.contains(&uid));
            let (before, after): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(goes);
            for pod in &before {
                if pod.metadata.deletion_timestamp.is_none() {
                    self.delete(pod).await?;
                }
            }
            if before.is_empty() && after.iter().any(|pod| ready(pod)) {
                return Ok(());
            }
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(match before.first() {
                    Some(pod) => format!("pod {} does not end", key(pod)),
                    None => format!("no pod in place of {old} becomes ready"),
                }));
            }
            if !told {
                self.tell(format!("waits for a ready pod in place of {old}"));
                told = true;
            }
            sleep(LOOK).await;
        }
    }

    /// Whoever is there with an address that is not the Node's, pods that came back during a drain too; and whoever was there
    /// before the Node had all of its families. Those that somebody makes anew; others were agreed to.
    pub(super) async fn replace_pods(&self) -> Result<(), Halt> {
        let plan = self.plan()?;
        let (node, to) = (&plan.node, &plan.to);
        let began = Instant::now();
        let mut asked = BTreeMap::new();
        // Those in place of them are as the CNI makes them: they are not asked to go again.
        let mut before: Option<BTreeSet<String>> = None;
        let mut last = String::new();
        loop {
            let pods = self.pods_on(node).await?;
            let before = before.get_or_insert_with(|| {
                let short = pods.iter().filter(|pod| short(pod, &plan.from, to));
                short.filter_map(ResourceExt::uid).collect()
            });
            let goes = |pod: &&Pod| outside(pod, to) || pod.uid().is_some_and(|uid| before.contains(&uid));
            let there: Vec<&Pod> = pods.iter().filter(goes).collect();
            if there.is_empty() {
                return Ok(());
            }
            let mut names = Vec::new();
            for pod in &there {
                let uid = pod.uid().unwrap_or_default();
                let again = asked.get(&uid).is_none_or(|at: &Instant| at.elapsed() >= AGAIN);
                let mut held = None;
                if pod.metadata.deletion_timestamp.is_none() && again {
                    asked.insert(uid, Instant::now());
                    held = self.replace(pod).await?;
                }
                names.push(match held {
                    Some(why) => format!("{} ({why})", key(pod)),
                    None => key(pod),
                });
            }
            let text = format!("waits for {} to end", names.join(", "));
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!(
                    "pods with addresses of another range are left: it {text}"
                )));
            }
            if text != last {
                self.tell(text.clone());
                last = text;
            }
            sleep(LOOK).await;
        }
    }

    /// A DaemonSet's pod is deleted, others are evicted, as budgets let them; what holds that up.
    async fn replace(&self, pod: &Pod) -> Result<Option<String>, Halt> {
        let ground = gather::pod(pod);
        if departure(&ground) == Departure::Daemon {
            self.delete(pod).await?;
            return Ok(None);
        }
        allowed(&ground, self.record.wish.allowed).map_err(Halt::Stop)?;
        match self.evict(pod).await? {
            Evicted::Yes => Ok(None),
            Evicted::Held(why) => Ok(Some(why)),
        }
    }
}

fn created<K: ResourceExt>(object: &K) -> Option<Timestamp> {
    object.creation_timestamp().map(|time| time.0)
}

/// UIDs of the CNI's pods that came in place of the old one before the Node was made anew, as by a rollout during the drain.
/// Times are of whole seconds: one of the same second may be from before.
fn earlier(pods: &[Pod], old: &str, made: Option<Timestamp>) -> BTreeSet<String> {
    let Some(made) = made.filter(|_| !pods.iter().any(|pod| key(pod) == old)) else {
        return BTreeSet::new();
    };
    let earlier = pods.iter().filter(|pod| created(*pod).is_some_and(|at| at <= made));
    earlier.filter_map(ResourceExt::uid).collect()
}

/// It has an address of the pods' network that is not of these CIDRs.
fn outside(pod: &Pod, to: &[IpNet]) -> bool {
    let ground = gather::pod(pod);
    !ground.host_network
        && ground
            .addresses
            .iter()
            .any(|&address| foreign(&IpNet::from(address), to))
}

/// It has addresses, and none of a family that its Node did not have before.
fn short(pod: &Pod, from: &[IpNet], to: &[IpNet]) -> bool {
    let ground = gather::pod(pod);
    let v4 = |net: &IpNet| net.addr().is_ipv4();
    let new = to.iter().filter(|to| !from.iter().any(|from| v4(from) == v4(to)));
    let has = |net: &IpNet| ground.addresses.iter().any(|address| address.is_ipv4() == v4(net));
    let mut lacking = new.filter(|net| !has(net));
    !ground.host_network && !ground.addresses.is_empty() && lacking.next().is_some()
}

pub(super) fn key(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

pub(super) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is = conditions
        .into_iter()
        .flatten()
        .any(|one| one.type_ == "Ready" && one.status == "True");
    is && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fix::fixture::nets;

    fn pod(addresses: &[&str], host: bool) -> Pod {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let object = json!({"metadata": {"name": "a"}, "spec": {"hostNetwork": host, "containers": []},
            "status": {"podIPs": addresses}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_pod_goes_for_an_address_of_another_range_whichever_of_its_addresses_that_is() {
        let to = nets(&["10.244.2.0/24", "fd00:244:0:2::/64"]);
        assert!(!outside(&pod(&["10.244.2.5", "fd00:244:0:2::5"], false), &to));
        assert!(outside(&pod(&["10.244.2.5", "fd00:244:0:9::5"], false), &to));
        assert!(!outside(&pod(&["172.30.0.12", "fd00:30::c"], true), &to));
    }

    #[test]
    fn a_pod_that_came_in_place_of_the_old_one_before_its_node_was_made_has_not_seen_that() {
        let daemon = |name: &str, time: &str| -> Pod {
            let object = json!({"metadata": {"name": name, "namespace": "kube-system", "uid": name,
                "creationTimestamp": format!("2026-11-30T{time}Z")}});
            serde_json::from_value(object).unwrap()
        };
        let made = Some("2026-11-30T10:00:00Z".parse().unwrap());
        let of = |pods: &[Pod]| earlier(pods, "kube-system/old", made).into_iter().collect::<Vec<_>>();
        let [rolled, same, new] =
            [("a", "09:59:00"), ("b", "10:00:00"), ("c", "10:00:01")].map(|(a, at)| daemon(a, at));
        assert_eq!(of(&[rolled.clone(), same, new]), ["a", "b"]);
        let old = daemon("old", "08:00:00");
        assert_eq!(of(&[rolled.clone(), old]), [""; 0], "it is the one that goes");
        assert!(
            earlier(&[rolled], "kube-system/old", None).is_empty(),
            "its Node is as before"
        );
    }

    #[test]
    fn a_pod_from_before_its_node_had_both_families_goes_too() {
        let (one, both) = (nets(&["10.244.2.0/24"]), nets(&["10.244.2.0/24", "fd00:244:0:2::/64"]));
        assert!(short(&pod(&["10.244.2.5"], false), &one, &both));
        assert!(!short(&pod(&["10.244.2.5", "fd00:244:0:2::5"], false), &one, &both));
        assert!(!short(&pod(&["172.30.0.12"], true), &one, &both));
        // It has none yet.
        assert!(!short(&pod(&[], false), &one, &both));
        // Whoever served one family of both before may mean it so.
        assert!(!short(&pod(&["10.244.2.5"], false), &both, &both));
    }
}
