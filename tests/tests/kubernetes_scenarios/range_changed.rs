//! POOL02: `--cluster-cidr` is changed under living nodes. It is told before the restart that would show
//! it, and the real exit is explained.

use cidrift_lab::kubernetes::kubeadm::{self, StaticManager};
use cidrift_lab::kubernetes::{Cluster, Scenario};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;

use crate::stage::{PATIENCE, Says, Stage};

/// What kube-controller-manager is given besides kubeadm's own flags.
fn flags(cluster_cidr: &str) -> [String; 2] {
    [
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={cluster_cidr}"),
    ]
}

/// Two instances as kubeadm runs them, the one on n1 leading.
fn two_instances(cluster: &Cluster) -> [StaticManager<'_>; 2] {
    let managers = ["n1", "n2"].map(|node| StaticManager::install(cluster, node).unwrap());
    cluster.kcm().stop().unwrap();
    for manager in &managers {
        manager.run(&flags("10.244.0.0/16")).unwrap();
        manager.wait_ready(cluster.api(), PATIENCE).unwrap();
    }
    managers
}

#[test]
fn a_changed_cluster_cidr_is_told_before_kcm_restarts_and_its_real_exit_is_explained() {
    if !have(Need::Kubernetes) {
        return;
    }
    let mut stage = Stage::start("cluster-cidr changed", Scenario::default());
    stage.only(&[]);
    let cluster = stage.cluster();
    let managers = two_instances(&cluster);
    let (api, services) = (cluster.api(), &cluster.scenario().service_cidr);
    let nets = |text: &str| vec![text.parse().unwrap()];
    stage.only(&[]);
    stage.mark("two instances");

    // kubeadm's record says another range: its next upgrade would write that into the manifests.
    kubeadm::record(api, &nets("10.200.0.0/16"), services, &[]).unwrap();
    let both = ["POOL02/n1", "POOL02/n2"];
    let says = Says {
        severity: Some(Severity::Warning),
        evidence: &[("kubeadm-config", "10.200.0.0/16")],
        cause: &["next upgrade"],
        remedy: &["networking.podSubnet"],
        ..Says::default()
    };
    for id in both {
        stage.open(id, &says);
    }
    stage.only(&["POOL02/n1", "POOL02/n2", "POOL10/kubeadm-config"]);
    stage.mark("POOL02 of the record");
    kubeadm::record(api, &nets("10.244.0.0/16"), services, &[]).unwrap();
    stage.only(&[]);

    // Somebody edits the manifest of the standby. It runs, is ready, and says nothing: it does not lead.
    managers[1].run(&flags("10.200.0.0/16")).unwrap();
    managers[1].wait_ready(api, PATIENCE).unwrap();
    let says = Says {
        severity: Some(Severity::Critical),
        evidence: &[("kube-controller-manager-n2", "--cluster-cidr=10.200.0.0/16")],
        cause: &["standby", "exits as soon as it becomes leader"],
        remedy: &["Do not restart", "kube-controller-manager-n2 back to 10.244.0.0/16"],
        ..Says::default()
    };
    for id in both {
        stage.open(id, &says);
    }
    let split = ["POOL02/n1", "POOL02/n2", "POOL10/kube-controller-manager"];
    stage.only(&split);
    assert!(
        !managers[1].log().unwrap().contains("failed to mark cidr"),
        "told before it happens"
    );
    stage.mark("POOL02 before any restart");
    stage.crash(&split);

    // Now the other's too: it restarts, one of them leads with the new range, and exits.
    managers[0].run(&flags("10.200.0.0/16")).unwrap();
    let real = "is out the range of cluster cidr 10.200.0.0/16";
    let line = api.wait("one of them exits", PATIENCE, || {
        let logs = managers.iter().map(StaticManager::log).collect::<Result<String, _>>()?;
        Ok(logs.lines().find(|line| line.contains(real)).map(str::to_owned))
    });
    let line = line.unwrap();
    assert!(line.contains("failed to mark cidr[10.244."), "{line}");
    api.wait("an instance is in CrashLoopBackOff", PATIENCE, || {
        let states = managers
            .iter()
            .map(|manager| manager.waiting(api))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(states
            .iter()
            .flatten()
            .any(|why| why == "CrashLoopBackOff")
            .then_some(()))
    })
    .unwrap();
    let says = Says {
        severity: Some(Severity::Critical),
        summary: &["exits because of it"],
        evidence: &[("kube-controller-manager-n", "CrashLoopBackOff")],
        cause: &["marks every node's CIDR at its start"],
        remedy: &["set --cluster-cidr back", "delete the Node"],
        ..Says::default()
    };
    let found = stage.open("POOL02/n1", &says);
    stage.mark("POOL02 with the exit");
    // kubeadm's manifests leave the last words to the log: it is said where they are, and they are there.
    let previous = "kubectl -n kube-system logs kube-controller-manager-n";
    assert!(
        found.claim.unseen.iter().any(|unseen| unseen.contains(previous)),
        "{:?}",
        found.claim.unseen
    );

    // A node that comes now waits, and that is why.
    api.create_fake_node("late", &[]).unwrap();
    let says = Says {
        cause: &["does not run", "it exits at its start because of the CIDR of n"],
        remedy: &["Mend POOL02 of n"],
        ..Says::default()
    };
    let late = stage.open("POOL01/late", &says);
    let known = |id: &String| both.contains(&id.as_str());
    assert!(
        late.explained_by.iter().any(known) && late.explained_by.iter().all(known),
        "{:?}",
        late.explained_by
    );
    let open = [
        "POOL01/late",
        "POOL02/n1",
        "POOL02/n2",
        "POOL10/kubeadm-config",
        "SEEN01/late",
    ];
    stage.only(&open);
    stage.mark("POOL01 joined");

    // The flag is set back: the real instances start, and the node gets its CIDR.
    for manager in &managers {
        manager.run(&flags("10.244.0.0/16")).unwrap();
    }
    let cidrs = api.wait_cidrs("late", PATIENCE).unwrap();
    assert!("10.244.0.0/16".parse::<ipnet::IpNet>().unwrap().contains(&cidrs[0]));
    stage.only(&["SEEN01/late"]);
    stage.mark("mended");
    drop(managers);
    let expected = [
        "POOL01/late",
        "POOL02/n1",
        "POOL02/n2",
        // Agents look every 10 s, which is longer than this stage lets a contradiction settle: for some seconds the host
        // still names what the pod no longer does.
        "POOL10/kcm-process",
        "POOL10/kube-controller-manager",
        "POOL10/kubeadm-config",
        "SEEN01/late",
    ];
    stage.end(&expected);
}
