//! HOST08.

use super::*;
use crate::view::host::KubeletCidr;

/// Node node-a has 10.244.1.0/24 since 0; it is 100.
fn host(cidrs: &[&str], before: &[&str]) -> (Host, KubeletCidr) {
    let host = Host::bridge(&["10.244.1.0/24"]).with(|host| host.expectation.since = Some(at(0)));
    let kubelet = KubeletCidr {
        cidrs: nets(cidrs),
        before: nets(before),
        said_at: at(5),
        error: None,
    };
    (host, kubelet)
}

fn judge_at(host: &Host, kubelet: Observed<KubeletCidr>, now: Timestamp) -> Judged {
    let other = crate::view::Host {
        kubelet,
        ..crate::view::Host::bare(at(0))
    };
    host.judge_with(&other, now)
}

fn judge(host: &Host, kubelet: KubeletCidr) -> Judged {
    judge_at(host, Observed::seen(at(90), "/var/log/kubelet.log", kubelet), at(100))
}

fn differs(judged: &Judged) -> bool {
    judged.claims.iter().any(|claim| claim.code == Code::Host08)
}

#[test]
fn a_kubelet_with_another_cidr_differs_and_says_when_it_was_told() {
    let (host, kubelet) = host(&["10.244.9.0/24"], &["10.244.7.0/24"]);
    insta::assert_snapshot!(text(&judge(&host, kubelet)));
}

#[test]
fn the_same_cidrs_in_another_order_do_not_differ() {
    let (host, kubelet) = host(&["fd00::/64", "10.244.1.0/24"], &[]);
    let host = host.with(|host| host.expectation.pod_cidrs = nets(&["10.244.1.0/24", "fd00::/64"]));
    assert!(!differs(&judge(&host, kubelet)));
}

#[test]
fn a_kubelet_is_given_a_minute_to_follow() {
    let (host, kubelet) = host(&["10.244.9.0/24"], &[]);
    let seen = || Observed::seen(at(90), "x", kubelet.clone());
    assert!(!differs(&judge_at(&host, seen(), at(59))));
    assert!(differs(&judge_at(&host, seen(), at(60))));
    let once = host.with(|host| host.expectation.since = None);
    assert!(!differs(&judge_at(&once, seen(), at(64))), "since when is not known");
    assert!(differs(&judge_at(&once, seen(), at(65))));
}

#[test]
fn an_update_that_the_runtime_refused_differs_and_one_that_no_longer_matters_does_not() {
    let (host, kubelet) = host(&[], &[]);
    let refused = KubeletCidr {
        error: Some("failed to update pod CIDR: rpc error: code = Unknown desc = x".into()),
        ..kubelet
    };
    insta::assert_snapshot!(text(&judge(&host, refused.clone())));
    let later = KubeletCidr {
        cidrs: nets(&["10.244.1.0/24"]),
        ..refused
    };
    assert!(!differs(&judge(&host, later)));
}

#[test]
fn a_node_that_came_back_without_a_cidr_leaves_the_old_one_with_the_kubelet() {
    let (host, kubelet) = host(&["10.244.1.0/24"], &[]);
    let host = host.with(|host| host.expectation.pod_cidrs.clear());
    let judged = judge(&host, kubelet);
    assert!(judged.claims[0].summary.ends_with("Node node-a has none"), "{judged:?}");
    assert!(judged.claims[0].remedy.contains("POOL01"));
}

#[test]
fn without_a_word_of_the_kubelet_or_of_the_node_nothing_is_said_to_differ() {
    let (host, kubelet) = host(&["10.244.9.0/24"], &[]);
    let silent = Observed::missing(at(90), "x", Missing::Absent("it has named none".into()));
    assert_eq!(judge_at(&host, silent, at(100)), Judged::default());
    let hidden = Observed::missing(
        at(90),
        "the kubelet's log",
        Missing::Unreadable("permission denied".into()),
    );
    let judged = judge_at(&host, hidden, at(100));
    assert_eq!(judged.unjudged[0].reason, "the kubelet's log: permission denied");
    let unknown = host.clone().with(|host| host.expectation.node_known = false);
    let judged = judge(&unknown, kubelet.clone());
    assert!(!differs(&judged) && judged.unjudged.iter().any(|row| row.code == Code::Host08));
    let router = host.clone().with(|host| {
        host.cni = config(
            "10-kuberouter.conflist",
            "bridge",
            Some("host-local"),
            &["10.244.1.0/24"],
            Some("kube-bridge"),
        );
    });
    assert!(
        !differs(&judge(&router, kubelet.clone())),
        "its annotation stands before the Node's field"
    );
    let own = host.with(|host| host.cni = config("10-calico.conflist", "calico", Some("calico-ipam"), &[], None));
    assert!(!differs(&judge(&own, kubelet)), "its CNI does not care");
}
