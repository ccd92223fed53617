//! A new pod on the node that is worked on: which addresses it gets.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use super::errand::said;
use super::halt::{Halt, call};
use super::{Eyes, LOOK, Runner};
use crate::correlate::words::list;
use crate::fix::choose::Family;
use crate::fix::gather;
use crate::fix::ground::handed;
use crate::fix::plan::{Does, NodePlan};

/// From one look at a pod's events to the next: a kubelet tries again every 10 s or so.
const EVENTS: Duration = Duration::from_secs(5);

impl<E: Eyes> Runner<'_, E> {
    /// Starts it, and has the ways to all of its addresses seen.
    pub(super) async fn probed(&self, api: &Api<Pod>, name: &str, began: Instant) -> Result<(), Halt> {
        let plan = self.plan()?;
        let pod = self.pod(name, &plan.node, &["hold".to_owned()], None).await?;
        let (mut last, mut event) = (None, None);
        let mut asked: Option<Instant> = None;
        let addresses = loop {
            self.untouched(&Does::Verify).await?;
            // It may be on its way out from an earlier try.
            self.create(api, &pod).await?;
            let there = call(async || api.get_opt(name).await).await;
            let there = there.map_err(|error| Halt::api(&format!("get pod {name}"), &error))?;
            let there = there.filter(|pod| pod.metadata.deletion_timestamp.is_none());
            let addresses = there.as_ref().map(|pod| gather::pod(pod).addresses).unwrap_or_default();
            // It gets all of them at once.
            if !addresses.is_empty() {
                break addresses;
            }
            if let Some(there) = &there {
                self.told_why(there, &mut last);
                if asked.is_none_or(|at| at.elapsed() >= EVENTS) {
                    asked = Some(Instant::now());
                    let now = self.event(there).await;
                    // The next one of its kind differs in a number.
                    let kind = |event: &Option<(String, String)>| event.as_ref().map(|(reason, _)| reason.clone());
                    if kind(&now) != kind(&event)
                        && let Some((reason, text)) = &now
                    {
                        self.tell(format!("waits for pod {name}: {reason}: {text}"));
                    }
                    event = now;
                }
            }
            if began.elapsed() >= self.settings.verify {
                let why = event.map(|(reason, text)| format!("{reason}: {text}"));
                let why = why.or_else(|| there.as_ref().map(said));
                let why = why.unwrap_or_else(|| "it is not there".to_owned());
                return Err(Halt::Stop(format!("a new pod on {} gets no address: {why}", plan.node)));
            }
            sleep(LOOK).await;
        };
        let view = self.eyes.node(&plan.node).await.ok();
        let served = view.and_then(|view| view.facts).map(|facts| handed(&facts.cni));
        if let Some(why) = amiss(&addresses, plan, &served.unwrap_or_default()) {
            return Err(Halt::Stop(format!("a new pod on {} {why}", plan.node)));
        }
        self.tell(format!("a new pod gets {}", list(&addresses)));
        self.seen(&addresses, began).await
    }

    /// Reason and text of the last warning of a pod; `None`: there is none, or it may not be asked for.
    async fn event(&self, pod: &Pod) -> Option<(String, String)> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let fields = format!("involvedObject.name={},type=Warning", pod.name_any());
        let listed = timeout(EVENTS, api.list(&ListParams::default().fields(&fields))).await;
        let events = listed.ok()?.ok()?;
        let of_it = events
            .items
            .into_iter()
            .filter(|event| event.involved_object.uid == pod.uid());
        let last = of_it.max_by_key(|event| {
            let series = event
                .series
                .as_ref()
                .and_then(|series| series.last_observed_time.as_ref());
            let at = series.or(event.event_time.as_ref()).map(|at| at.0);
            at.max(event.last_timestamp.as_ref().map(|at| at.0))
        })?;
        let text = last.message.unwrap_or_default().trim().to_owned();
        Some((last.reason.unwrap_or_default(), text))
    }
}

/// What is wrong with a new pod's addresses: each is of a CIDR of the Node, and each of those has one. A Node may have had a
/// family that its CNI does not serve (`served` is what it hands out of, where that is known); a family that it did not have
/// before is there for its pods.
fn amiss(addresses: &[IpAddr], plan: &NodePlan, served: &[IpNet]) -> Option<String> {
    let of = |nets: &[IpNet], family: Family| nets.iter().any(|net| Family::of(net) == family);
    let mut outside = addresses.iter().copied();
    if let Some(outside) = outside.find(|address| !plan.to.iter().any(|to| to.contains(address))) {
        return Some(format!("gets {outside}, which is not of {}", list(&plan.to)));
    }
    let without = plan.to.iter().find(|to| {
        let family = Family::of(to);
        let due = served.is_empty() || of(served, family) || !of(&plan.from, family);
        due && !addresses.iter().any(|address| to.contains(address))
    });
    without.map(|without| format!("gets {}, and none of {without}", list(addresses)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;
    use crate::fix::fixture::nets;

    fn of(addresses: &[&str], from: &[&str], served: &[&str]) -> Option<String> {
        let plan = NodePlan {
            from: nets(from),
            to: nets(&["10.244.255.0/24", "fd00:244:0:ffff::/64"]),
            ..plan()
        };
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        amiss(&addresses, &plan, &nets(served))
    }

    const BOTH: [&str; 2] = ["10.244.9.0/24", "fd00:244:0:9::/64"];

    #[test]
    fn a_new_pod_has_an_address_of_each_of_its_nodes_cidrs_and_no_other() {
        assert_eq!(of(&["10.244.255.7", "fd00:244:0:ffff::7"], &BOTH, &BOTH), None);
        let why = "gets 10.244.255.7, and none of fd00:244:0:ffff::/64";
        assert_eq!(of(&["10.244.255.7"], &BOTH, &BOTH).as_deref(), Some(why));
        assert_eq!(
            of(&["10.244.255.7"], &BOTH, &[]).as_deref(),
            Some(why),
            "it is not known"
        );
        // The first is right.
        let why = "gets fd00:244:0:9::7, which is not of 10.244.255.0/24 and fd00:244:0:ffff::/64";
        let addresses = ["10.244.255.7", "fd00:244:0:9::7"];
        assert_eq!(of(&addresses, &BOTH, &BOTH).as_deref(), Some(why));
    }

    #[test]
    fn a_family_that_the_cni_never_served_is_not_missing_unless_it_is_what_was_added() {
        let served = ["10.244.255.0/24"];
        assert_eq!(of(&["10.244.255.7"], &BOTH, &served), None);
        assert!(of(&["10.244.255.7"], &["10.244.255.0/24"], &served).is_some());
    }
}
