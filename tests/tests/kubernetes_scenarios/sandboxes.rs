//! SAND01: pods get no sandbox, because the range that their node hands out of has fewer addresses than pods.

use std::time::Duration;

use cidrift_lab::kubernetes::Scenario;
use cidrift_lab::kubernetes::cni::{CONFLIST, bridge, write_conflist};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::node::{RANGES, delete_bridge, net};
use crate::stage::{PATIENCE, Says, Stage};

/// Two more than the five addresses that a /29 has for pods.
const PODS: [&str; 7] = ["p1", "p2", "p3", "p4", "p5", "p6", "p7"];

/// Lets n1 hand out of `range`, and runs more pods there than it has addresses.
fn exhaust(stage: &Stage, range: &str) {
    let api = stage.api();
    let directory = stage.cluster().node("n1").unwrap().cni_directory();
    write_conflist(&directory, CONFLIST, &bridge(&[net(range)])).unwrap();
    let (first, rest) = PODS.split_first().unwrap();
    // containerd hears of the file a moment later: a pod that was faster is made anew.
    let from_it = api.wait("a pod has an address of the new range", PATIENCE, || {
        api.create_pod(first, Some("n1"))?;
        let address = api.wait_running(first, PATIENCE)?[0];
        if net(range).contains(&address) {
            return Ok(Some(()));
        }
        api.delete_pod(first)?;
        Ok(None)
    });
    from_it.unwrap();
    for name in rest {
        api.create_pod(name, Some("n1")).unwrap();
    }
    let failing = api.wait("two pods fail for want of an address", PATIENCE, || {
        let mut told = Vec::new();
        for name in PODS {
            let events = api.events("Pod", name)?.into_iter();
            let mut failed = events.filter(|event| event.reason.as_deref() == Some("FailedCreatePodSandBox"));
            told.extend(failed.find_map(|event| event.message));
        }
        Ok(Some(told).filter(|told| told.len() >= 2))
    });
    for message in failing.unwrap() {
        assert!(
            message.contains("no IP addresses available in range set: "),
            "{message}"
        );
    }
}

/// Deletes two pods that run; the addresses go to those that wait.
fn make_room(stage: &Stage) {
    let api = stage.api();
    let runs = |name: &&str| api.wait_running(name, Duration::ZERO).is_ok();
    let (run, wait): (Vec<&str>, Vec<&str>) = PODS.iter().copied().partition(runs);
    assert_eq!((run.len(), wait.len()), (5, 2), "{run:?} run, {wait:?} wait");
    for name in run.iter().take(2) {
        api.delete_pod(name).unwrap();
    }
    for name in wait {
        api.wait_running(name, PATIENCE).unwrap();
    }
}

fn delete_all(stage: &Stage) {
    let api = stage.api();
    for name in PODS {
        if api.pod(name).unwrap().is_some() {
            api.delete_pod(name).unwrap();
        }
    }
}

#[test]
fn a_range_with_fewer_addresses_than_pods() {
    if !have(Need::Kubernetes) {
        return;
    }
    let mut stage = Stage::start_with("exhausted", Scenario::default(), &RANGES);
    let own = stage.api().wait_cidrs("n1", PATIENCE).unwrap()[0];
    stage.only(&[]);

    // A part of its own CIDR: nothing is wrong but the want of addresses.
    exhaust(&stage, &format!("{}/29", own.network()));
    stage.open(
        "SAND01/n1",
        &Says {
            summary: &["2 pods of n1 get no sandbox: the node's address range is used up"],
            evidence: &[(
                "event FailedCreatePodSandBox of kubelet on Pod default/p",
                "no IP addresses available in range set",
            )],
            cause: &["All addresses of n1's range are given out"],
            remedy: &["/var/lib/cni/networks/"],
            explained_by: Some(&["HOST05/n1"]),
            ..Says::default()
        },
    );
    stage.open(
        "HOST05/n1",
        &Says {
            severity: Some(Severity::Error),
            explained_by: Some(&[]),
            ..Says::default()
        },
    );
    let own_range = ["HOST05/n1", "SAND01/n1"];
    stage.only(&own_range);
    stage.mark("SAND01 in its own range");
    stage.crash(&own_range);
    make_room(&stage);
    // The range is as small as before, and full again.
    stage.only(&["HOST05/n1"]);

    // One that is not its own: the same, and why.
    delete_all(&stage);
    delete_bridge(stage.cluster().node("n1").unwrap());
    exhaust(&stage, "10.244.77.0/29");
    let all = ["HOST01/n1", "HOST02/n1", "HOST03/n1", "HOST05/n1", "SAND01/n1"];
    stage.only(&all);
    stage.open(
        "HOST01/n1",
        &Says {
            evidence: &[(CONFLIST, "10.244.77.0/29"), ("Node n1", &own.to_string())],
            cause: &["written for another podCIDR"],
            remedy: &[&format!("Put {own} into the ipam block of /etc/cni/net.d/{CONFLIST}")],
            ..Says::default()
        },
    );
    stage.open(
        "SAND01/n1",
        &Says {
            explained_by: Some(&["HOST01/n1", "HOST05/n1"]),
            ..Says::default()
        },
    );
    stage.mark("SAND01 in a foreign range");
    stage.crash(&all);

    delete_all(&stage);
    stage.cluster().sync_bridge().unwrap();
    delete_bridge(stage.cluster().node("n1").unwrap());
    stage.api().create_pod("last", Some("n1")).unwrap();
    let last = stage.api().wait_running("last", PATIENCE).unwrap();
    assert!(own.contains(&last[0]), "{last:?}");
    stage.only(&[]);
    stage.end(&all);
}
