//! Which pods get no sandbox: what the lines of the last minutes come to. A pod that got its sandbox after all takes
//! its failures with it; what is left is what still fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cidrift_proto::signature::{Signature, detail, stable};
use jiff::{SignedDuration, Timestamp};

use super::event::Teller;
use crate::view::host::{FailureClass, Failures};

/// Failures older than this tell nothing of now. kubelet tries a pod again every 10 to 15 s, so this is 60 tries.
pub(super) const WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// A pod that failed last this long ago is tried no more (deleted, finished): one try takes 4 minutes at most, which
/// is what kubelet gives RunPodSandbox (twice its runtimeRequestTimeout).
const QUIET: SignedDuration = SignedDuration::from_mins(5);

/// Lines of one pod closer than this tell of one try: runtime and kubelet tell it in three lines within milliseconds,
/// and kubelet waits 10 s for the next.
const ONE_TRY: SignedDuration = SignedDuration::from_secs(2);

/// Pods that are followed: more than twice the 250 of the largest nodes.
const PODS: usize = 512;

/// Tries of one pod that are kept: more than fit into the window.
const TRIES: usize = 128;

/// Pods and addresses that a class names.
const NAMED: usize = 64;
const ADDRESSES: usize = 16;

/// What the lines come to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pods: BTreeMap<String, Pod>,
    last_success: Option<Timestamp>,
    since: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Pod {
    /// Oldest first.
    tries: VecDeque<Try>,
    /// When it last got its sandbox.
    succeeded: Option<Timestamp>,
    /// The newest text of each class.
    texts: BTreeMap<Signature, Told>,
}

#[derive(Debug, Clone, Copy)]
struct Try {
    at: Timestamp,
    signature: Signature,
    by: Teller,
}

#[derive(Debug)]
struct Told {
    at: Timestamp,
    text: String,
    by: Teller,
    addresses: Vec<String>,
    plugin: Option<String>,
}

impl Pod {
    fn last(&self) -> Option<Timestamp> {
        self.tries.back().map(|last| last.at)
    }

    /// What is wrong with it: the newest text that says something; timeouts are often only how the others end.
    fn class(&self) -> Option<Signature> {
        let telling = self.tries.iter().rev().find(|one| !one.signature.vague());
        telling.or(self.tries.back()).map(|one| one.signature)
    }
}

impl Tally {
    /// The logs are read from then on.
    pub(super) fn begins(&mut self, at: Timestamp) {
        self.since.get_or_insert(at);
    }

    /// A pod got no sandbox.
    pub(super) fn failed(&mut self, at: Timestamp, pod: String, text: &str, by: Teller) {
        if !self.pods.contains_key(&pod) {
            self.make_room();
        }
        let pod = self.pods.entry(pod).or_default();
        if pod.succeeded.is_some_and(|since| since >= at) {
            return;
        }
        let signature = Signature::of(text);
        let same = |one: &Try| at.duration_since(one.at).abs() < ONE_TRY;
        match pod.tries.iter_mut().find(|one| same(one)) {
            // The runtime's own word is worth more than what kubelet made of it.
            Some(known) if known.by == Teller::Kubelet && by != Teller::Kubelet => {
                *known = Try { at, signature, by };
            }
            Some(_) => return,
            None => {
                let place = pod.tries.partition_point(|one| one.at < at);
                pod.tries.insert(place, Try { at, signature, by });
                if pod.tries.len() > TRIES {
                    pod.tries.pop_front();
                }
            }
        }
        let better = |told: &Told| told.at > at && (told.by != Teller::Kubelet || by == Teller::Kubelet);
        if pod.texts.get(&signature).is_some_and(better) {
            return;
        }
        let found = detail(text);
        let told = Told {
            at,
            text: stable(text),
            by,
            addresses: found.addresses,
            plugin: found.plugin,
        };
        pod.texts.insert(signature, told);
    }

    /// A pod got its sandbox.
    pub(super) fn succeeded(&mut self, at: Timestamp, pod: &str) {
        self.last_success = self.last_success.max(Some(at));
        if !self.pods.contains_key(pod) {
            self.make_room();
        }
        let pod = self.pods.entry(pod.to_owned()).or_default();
        pod.succeeded = pod.succeeded.max(Some(at));
        pod.tries.retain(|one| one.at > at);
        pod.texts.retain(|_, told| told.at > at);
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let old = |at: Timestamp| now.duration_since(at) > WINDOW;
        self.pods.retain(|_, pod| {
            pod.tries.retain(|one| !old(one.at));
            let left: BTreeSet<Signature> = pod.tries.iter().map(|one| one.signature).collect();
            pod.texts.retain(|signature, _| left.contains(signature));
            !pod.tries.is_empty() || pod.succeeded.is_some_and(|at| !old(at))
        });
    }

    fn make_room(&mut self) {
        if self.pods.len() < PODS {
            return;
        }
        let newest = |pod: &Pod| pod.last().max(pod.succeeded);
        let oldest = self.pods.iter().min_by_key(|(_, pod)| newest(pod));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.pods.remove(&name);
        }
    }

    /// What still fails.
    pub(super) fn failures(&self, now: Timestamp) -> Failures {
        let mut by_class: BTreeMap<Signature, Vec<(&str, &Pod)>> = BTreeMap::new();
        for (name, pod) in &self.pods {
            let tried = pod.last().is_some_and(|last| now.duration_since(last) <= QUIET);
            if let Some(class) = pod.class().filter(|_| tried) {
                by_class.entry(class).or_default().push((name, pod));
            }
        }
        let classes = by_class.into_iter();
        let mut classes: Vec<FailureClass> = classes
            .filter_map(|(signature, pods)| class(signature, &pods))
            .collect();
        classes.sort_by_key(|class| std::cmp::Reverse(class.last));
        Failures {
            since: self.since,
            classes,
            last_success: self.last_success,
        }
    }
}

fn class(signature: Signature, pods: &[(&str, &Pod)]) -> Option<FailureClass> {
    let tries = || pods.iter().flat_map(|(_, pod)| &pod.tries).map(|one| one.at);
    let told = || pods.iter().filter_map(|(_, pod)| pod.texts.get(&signature));
    let newest = told().max_by_key(|told| told.at)?;
    let addresses: BTreeSet<&String> = told().flat_map(|told| &told.addresses).collect();
    Some(FailureClass {
        signature,
        count: u32::try_from(tries().count()).unwrap_or(u32::MAX),
        first: tries().min()?,
        last: tries().max()?,
        pods: pods.iter().take(NAMED).map(|(name, _)| (*name).to_owned()).collect(),
        text: newest.text.clone(),
        component: newest.by.name().to_owned(),
        addresses: addresses.into_iter().take(ADDRESSES).cloned().collect(),
        plugin: newest.plugin.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str =
        "plugin type=\"bridge\" failed (add): no IP addresses available in range set: 10.244.7.1-10.244.7.6";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn tally(events: &[(i64, &str, &str, Teller)]) -> Tally {
        let mut tally = Tally::default();
        for (second, pod, text, by) in events {
            tally.failed(at(*second), (*pod).to_owned(), text, *by);
        }
        tally
    }

    #[test]
    fn one_try_that_runtime_and_kubelet_tell_counts_once_in_the_runtimes_words() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let tellings = [
                (10, "ns/a", FULL, Teller::Containerd),
                (
                    10,
                    "ns/a",
                    "rpc error: desc = no IP addresses available in range set: x",
                    Teller::Kubelet,
                ),
                (
                    11,
                    "ns/a",
                    "rpc error: desc = no IP addresses available in range set: y",
                    Teller::Kubelet,
                ),
            ];
            let failures = tally(&order.map(|index| tellings[index])).failures(at(20));
            let [class] = failures.classes.as_slice() else {
                panic!("{failures:?}");
            };
            assert_eq!((class.count, class.component.as_str()), (1, "containerd"));
            assert_eq!(class.plugin.as_deref(), Some("bridge"));
            assert_eq!(class.addresses, ["10.244.7.1-10.244.7.6"]);
            assert_eq!(class.signature, Signature::AddressesExhausted);
        }
    }

    #[test]
    fn a_pod_that_got_its_sandbox_takes_its_failures_with_it_whatever_is_read_first() {
        let mut tally = tally(&[(10, "ns/a", FULL, Teller::Kubelet), (12, "ns/b", FULL, Teller::Kubelet)]);
        tally.succeeded(at(30), "ns/a");
        tally.failed(at(25), "ns/a".into(), FULL, Teller::Kubelet);
        let failures = tally.failures(at(40));
        assert_eq!(failures.classes[0].pods, ["ns/b"]);
        assert_eq!((failures.classes[0].count, failures.last_success), (1, Some(at(30))));
        tally.failed(at(45), "ns/a".into(), FULL, Teller::Kubelet);
        assert_eq!(tally.failures(at(50)).classes[0].pods, ["ns/a", "ns/b"]);
    }

    #[test]
    fn what_is_old_or_tried_no_more_is_over() {
        let mut tally = tally(&[(0, "ns/a", FULL, Teller::Kubelet)]);
        assert_eq!(tally.failures(at(300)).classes.len(), 1);
        assert_eq!(tally.failures(at(301)).classes.len(), 0);
        tally.expire(at(900));
        assert_eq!(tally.pods.len(), 1);
        tally.expire(at(901));
        assert_eq!(tally.pods.len(), 0);
    }

    #[test]
    fn a_timeout_does_not_hide_what_was_said_before() {
        let tally = tally(&[
            (0, "ns/a", FULL, Teller::Kubelet),
            (20, "ns/a", "context deadline exceeded", Teller::Kubelet),
        ]);
        let failures = tally.failures(at(30));
        let class = &failures.classes[0];
        assert_eq!(
            (class.signature, class.count, class.last),
            (Signature::AddressesExhausted, 2, at(20))
        );
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut tally = Tally::default();
        for number in 0..3000_i64 {
            tally.failed(at(number), format!("ns/p{number}"), FULL, Teller::Kubelet);
            tally.failed(at(number * 3), "ns/one".into(), FULL, Teller::Kubelet);
        }
        assert!(tally.pods.len() <= PODS);
        assert!(tally.pods.values().all(|pod| pod.tries.len() <= TRIES));
        let failures = tally.failures(at(3000));
        assert_eq!(failures.classes[0].pods.len(), NAMED);
        assert!(failures.classes[0].addresses.len() <= ADDRESSES);
    }
}
