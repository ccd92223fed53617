//! HOST09.

use std::collections::BTreeMap;

use super::*;
use crate::view::host::{KubeletCidr, Process, Program, Setting};

/// kube-proxy as kubeadm runs it, started at second 0.
fn proxy(settings: &[(&str, &str)]) -> Process {
    let setting = |value: &str| Setting {
        value: value.into(),
        source: "/var/lib/kube-proxy/config.conf in its container".into(),
    };
    Process {
        program: Program::Proxy,
        embedded_in: None,
        pid: 812,
        started_at: Some(at(0)),
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), setting(value)))
            .collect::<BTreeMap<_, _>>(),
        problem: None,
    }
}

fn running(processes: Vec<Process>) -> crate::view::Host {
    crate::view::Host {
        processes: Observed::seen(at(8), "/proc", processes),
        ..crate::view::Host::bare(at(8))
    }
}

/// `host` with `told` of its processes and kubelet, an hour after everything.
fn judge_all(host: &Host, told: &crate::view::Host) -> Judged {
    judge_at(host, told, at(3600))
}

/// What of it is HOST09's.
fn judge_at(host: &Host, told: &crate::view::Host, now: Timestamp) -> Judged {
    let mut judged = check(&Input {
        node: "node-a",
        expectation: Some(&host.expectation),
        kernel: &host.kernel,
        kernel_at: at(10),
        kernel_gaps: &[],
        links_changed_at: None,
        cni: &host.cni,
        cni_at: at(9),
        cni_changed_at: None,
        lookup: &host.rows,
        host: told,
        lease_growth: &[],
        now,
    });
    judged.claims.retain(|claim| claim.code == Code::Host09);
    judged.unjudged.retain(|row| row.code == Code::Host09);
    judged
}

fn judge(host: &Host, process: Process) -> Judged {
    judge_all(host, &running(vec![process]))
}

fn of(judged: &Judged) -> Vec<Code> {
    judged.claims.iter().map(|claim| claim.code).collect()
}

#[test]
fn a_range_without_the_nodes_cidr_is_told_with_both_words() {
    let judged = judge(
        &Host::flannel(),
        proxy(&[("cluster-cidr", "10.100.0.0/16"), ("proxy-mode", "ipvs")]),
    );
    assert_eq!(of(&judged), [Code::Host09]);
    assert_eq!(judged.claims[0].affected[0].prefix, Some(net("10.244.1.0/24")));
    assert_eq!(judged.claims[0].changed_at, Some(at(0)));
    insta::assert_snapshot!(text(&judged));
}

#[test]
fn ranges_that_contain_the_nodes_cidrs_or_no_range_are_healthy() {
    for range in [
        "10.244.0.0/16",
        "10.244.1.0/24",
        "10.244.0.0/16,fd00::/48",
        "",
        "fd00::/48",
    ] {
        assert_eq!(
            judge(&Host::flannel(), proxy(&[("cluster-cidr", range)])),
            Judged::default(),
            "{range:?}"
        );
    }
    assert_eq!(judge(&Host::flannel(), proxy(&[])), Judged::default());
}

#[test]
fn families_are_held_apart_and_only_the_first_range_of_one_counts() {
    let dual = Host::flannel().with(|host| host.expectation.pod_cidrs = nets(&["10.244.1.0/24", "fd00:1::/64"]));
    let claim = |range: &str| {
        let judged = judge(&dual, proxy(&[("cluster-cidr", range)]));
        judged
            .claims
            .iter()
            .flat_map(|claim| claim.affected.iter().filter_map(|row| row.prefix))
            .collect::<Vec<_>>()
    };
    assert_eq!(claim("10.244.0.0/16"), []);
    assert_eq!(claim("10.244.0.0/16,fd00:2::/56"), nets(&["fd00:1::/64"]));
    assert_eq!(claim("10.9.0.0/16, 10.244.0.0/16"), nets(&["10.244.1.0/24"]));
}

#[test]
fn a_range_inside_the_nodes_cidr_leaves_pods_out() {
    assert_eq!(
        of(&judge(&Host::flannel(), proxy(&[("cluster-cidr", "10.244.1.0/25")]))),
        [Code::Host09]
    );
}

#[test]
fn modes_that_know_no_ranges_are_not_judged_by_one() {
    for mode in ["BridgeInterface", "InterfaceNamePrefix"] {
        let process = proxy(&[("cluster-cidr", "10.9.0.0/16"), ("detect-local-mode", mode)]);
        assert_eq!(judge(&Host::flannel(), process), Judged::default(), "{mode}");
    }
}

#[test]
fn a_manifest_alone_or_no_kube_proxy_leaves_nothing_to_be_judged() {
    let manifest = Process {
        pid: 0,
        ..proxy(&[("cluster-cidr", "10.9.0.0/16")])
    };
    assert_eq!(judge(&Host::flannel(), manifest), Judged::default());
    assert_eq!(judge_all(&Host::flannel(), &running(vec![])), Judged::default());
}

#[test]
fn what_is_not_known_is_said_and_never_claimed() {
    let wrong = || proxy(&[("cluster-cidr", "10.9.0.0/16")]);
    let why = |judged: Judged| {
        assert_eq!(judged.claims, vec![]);
        let rows = judged.unjudged.into_iter().filter(|row| row.code == Code::Host09);
        rows.map(|row| row.reason).collect::<Vec<_>>().join("\n")
    };
    let unread = Process {
        problem: Some("/c: Permission denied".into()),
        ..wrong()
    };
    assert_eq!(
        why(judge(&Host::flannel(), unread)),
        "kube-proxy (pid 812): /c: Permission denied"
    );
    let rubbish = proxy(&[("cluster-cidr", "10.9.0.0/99")]);
    assert!(why(judge(&Host::flannel(), rubbish)).ends_with("clusterCIDR \"10.9.0.0/99\" is no range"));
    let stranger = Host::flannel().with(|host| host.expectation.node_known = false);
    assert!(why(judge(&stranger, wrong())).contains("knows no Node"));
    let calico =
        Host::flannel().with(|host| host.cni = config("10-calico.conflist", "calico", Some("calico-ipam"), &[], None));
    assert!(why(judge(&calico, wrong())).contains("calico-ipam"));
    let unreadable = crate::view::Host {
        processes: Observed::missing(at(8), "/proc", Missing::Unreadable("mount it".into())),
        ..crate::view::Host::bare(at(8))
    };
    assert_eq!(why(judge_all(&Host::flannel(), &unreadable)), "/proc: mount it");
}

#[test]
fn a_cni_with_its_own_addresses_does_not_matter_where_nothing_differs() {
    let calico =
        Host::flannel().with(|host| host.cni = config("10-calico.conflist", "calico", Some("calico-ipam"), &[], None));
    let judged = judge(&calico, proxy(&[("cluster-cidr", "10.244.0.0/16")]));
    assert!(judged.unjudged.iter().all(|row| row.code != Code::Host09));
}

#[test]
fn inside_k3s_it_is_k3s_that_is_to_be_corrected() {
    let mut process = proxy(&[("cluster-cidr", "10.42.0.0/16")]);
    process.embedded_in = Some(Program::K3s);
    process.settings.get_mut("cluster-cidr").unwrap().source = "default of k3s".into();
    let judged = judge(&Host::flannel(), process);
    assert!(judged.claims[0].remedy.contains("restart it"));
    assert!(
        judged.claims[0].evidence[1]
            .text
            .contains("kube-proxy in k3s (pid 812): clusterCIDR 10.42.0.0/16 (default of k3s)")
    );
}

/// kubelet's log says that the Node's CIDR changed under it at second 100.
fn changed(before: &[&str], now: &[&str]) -> crate::view::Host {
    crate::view::Host {
        kubelet: Observed::seen(
            at(101),
            "journal of kubelet",
            KubeletCidr {
                cidrs: nets(now),
                before: nets(before),
                said_at: at(100),
                error: None,
            },
        ),
        ..running(vec![proxy(&[("detect-local-mode", "NodeCIDR")])])
    }
}

#[test]
fn a_kube_proxy_that_outlives_its_nodes_cidr_is_told() {
    let judged = judge_all(&Host::flannel(), &changed(&["10.244.7.0/24"], &["10.244.1.0/24"]));
    assert_eq!(of(&judged), [Code::Host09]);
    insta::assert_snapshot!(text(&judged));
}

#[test]
fn in_node_cidr_mode_nothing_is_claimed_on_doubt() {
    let host = Host::flannel();
    let stale = changed(&["10.244.7.0/24"], &["10.244.1.0/24"]);
    // Five minutes are kube-proxy's own.
    assert_eq!(of(&judge_at(&host, &stale, at(100 + 300))), []);
    assert_eq!(of(&judge_at(&host, &stale, at(100 + 301))), [Code::Host09]);
    // kubelet's first word, the same word again, and a word that is not the Node's.
    assert_eq!(of(&judge_all(&host, &changed(&[], &["10.244.1.0/24"]))), []);
    assert_eq!(
        of(&judge_all(&host, &changed(&["10.244.1.0/24"], &["10.244.1.0/24"]))),
        []
    );
    assert_eq!(
        of(&judge_all(&host, &changed(&["10.244.7.0/24"], &["10.244.8.0/24"]))),
        []
    );
    // Started afterwards, or nobody knows when.
    for started in [Some(at(100)), Some(at(200)), None] {
        let mut told = stale.clone();
        if let Ok(processes) = &mut told.processes.value {
            processes[0].started_at = started;
        }
        assert_eq!(of(&judge_all(&host, &told)), []);
    }
}
