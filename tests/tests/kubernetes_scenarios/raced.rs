//! POOL11 and POOL01: the allocator could not write what it assigned.

use std::time::Duration;

use cidrift_lab::frozen::freeze;
use cidrift_lab::kubernetes::{Api, Scenario, kubeadm};
use cidrift_lab::require::{Need, have};
use cidrift_proto::finding::Severity;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::stage::{PATIENCE, Says, Stage};

/// The name of the policy and its binding.
const POLICY: &str = "no-pod-cidrs";

/// An admission policy refuses the allocator's patch: one cause of the real CIDRAssignmentFailed.
#[test]
fn what_the_allocator_could_not_write_is_told_and_once_it_could_the_event_is_no_alarm() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 0,
        ..Scenario::default()
    };
    let mut stage = Stage::start("assignment failed", scenario);
    let cluster = stage.cluster();
    let (api, scenario) = (cluster.api(), cluster.scenario());
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    api.create_fake_node("before", &[]).unwrap();
    api.wait_cidrs("before", PATIENCE).unwrap();
    refuse(api);
    api.create_fake_node("refused", &[]).unwrap();
    api.wait_event("Node", "refused", "CIDRAssignmentFailed", PATIENCE)
        .unwrap();
    stage
        .kcm()
        .wait_log("Failed to update node PodCIDR after multiple attempts", PATIENCE)
        .unwrap();

    let says = Says {
        evidence: &[("event CIDRAssignmentFailed of cidrAllocator", "refused")],
        cause: &["could not write it into the Node"],
        remedy: &["grep refused"],
        ..Says::default()
    };
    stage.open("POOL01/refused", &says);
    stage.mark("POOL01");
    let open = ["POOL01/refused", "SEEN01/before", "SEEN01/refused"];
    stage.only(&open);
    stage.crash(&open);

    // What refused it goes, and the allocator tries again by itself.
    allow(stage.api());
    stage.api().wait_cidrs("refused", Duration::from_secs(90)).unwrap();
    let says = Says {
        severity: Some(Severity::Info),
        evidence: &[("event CIDRAssignmentFailed of cidrAllocator", "refused")],
        cause: &["could not be written into the Node"],
        remedy: &["Nothing"],
        ..Says::default()
    };
    stage.open("POOL11/refused", &says);
    stage.mark("POOL11");
    stage.only(&["POOL11/refused", "SEEN01/before", "SEEN01/refused"]);
    stage.api().delete_node("refused").unwrap();
    stage.only(&["SEEN01/before"]);
    stage.mark("mended");
    stage.end(&["POOL01/refused", "POOL11/refused", "SEEN01/before", "SEEN01/refused"]);
}

/// Nobody may give a Node its CIDR.
fn refuse(api: &Api) {
    let policy = json!({
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes"],
            }]},
            "validations": [{
                "expression": "has(oldObject.spec.podCIDRs) || !has(object.spec.podCIDRs)",
                "message": "pod CIDRs are refused",
            }],
        },
    });
    let binding = json!({
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    });
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(binding).unwrap();
    let policies: kube::Api<ValidatingAdmissionPolicy> = kube::Api::all(api.client());
    let bindings: kube::Api<ValidatingAdmissionPolicyBinding> = kube::Api::all(api.client());
    api.block_on(policies.create(&PostParams::default(), &policy)).unwrap();
    api.block_on(bindings.create(&PostParams::default(), &binding)).unwrap();
    // The API server takes a policy up a moment after it was written: until then nodes do get CIDRs.
    for number in 0.. {
        let name = format!("probe-{number}");
        api.create_fake_node(&name, &[]).unwrap();
        let given = api.wait_cidrs(&name, Duration::from_secs(2));
        api.delete_node(&name).unwrap();
        if given.is_err() {
            return;
        }
        assert!(number < 30, "the policy is never taken up");
    }
}

/// They may again.
fn allow(api: &Api) {
    let bindings: kube::Api<ValidatingAdmissionPolicyBinding> = kube::Api::all(api.client());
    let _ = api.block_on(bindings.delete(POLICY, &DeleteParams::default())).unwrap();
}

/// The other cause: an allocator that was held up finds several changes of each new Node, and two of its workers take
/// up the same one. The node has its CIDR, and the real event says that it could not be assigned.
#[test]
fn two_workers_that_race_for_a_new_node_are_information_and_no_alarm() {
    if !have(Need::Kubernetes) {
        return;
    }
    let scenario = Scenario {
        nodes: 0,
        ..Scenario::default()
    };
    let mut stage = Stage::start("two workers raced", scenario);
    let cluster = stage.cluster();
    let (api, scenario) = (cluster.api(), cluster.scenario());
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[]).unwrap();
    let mut names: Vec<String> = Vec::new();
    let mut raced: Vec<String> = Vec::new();
    while raced.is_empty() {
        assert!(
            names.len() < 50,
            "the allocator does not race for any of {} nodes",
            names.len()
        );
        let fresh: Vec<String> = (0..10).map(|number| format!("r{}", names.len() + number)).collect();
        let kcm = Pid::from_raw(stage.kcm().pid().unwrap().cast_signed());
        freeze(kcm).unwrap();
        for name in &fresh {
            api.create_fake_node(name, &[]).unwrap();
            stage.touch(name);
        }
        kill(kcm, Signal::SIGCONT).unwrap();
        for name in &fresh {
            api.wait_cidrs(name, PATIENCE).unwrap();
        }
        // Events are written a moment after what they are about.
        std::thread::sleep(Duration::from_secs(2));
        let failed = |name: &&String| {
            let events = api.events("Node", name).unwrap();
            events
                .iter()
                .any(|event| event.reason.as_deref() == Some("CIDRAssignmentFailed"))
        };
        raced.extend(fresh.iter().filter(failed).cloned());
        names.extend(fresh);
    }
    stage.mark("raced");
    let says = Says {
        severity: Some(Severity::Info),
        evidence: &[("event CIDRAssignmentFailed of cidrAllocator", "status is now")],
        cause: &["two workers of kube-controller-manager took up the same new Node"],
        remedy: &["Nothing"],
        ..Says::default()
    };
    let races: Vec<String> = raced.iter().map(|name| format!("POOL11/{name}")).collect();
    for id in &races {
        stage.open(id, &says);
    }
    let silent: Vec<String> = names.iter().map(|name| format!("SEEN01/{name}")).collect();
    let open: Vec<&str> = silent.iter().chain(&races).map(String::as_str).collect();
    stage.only(&open);
    stage.mark("POOL11");
    stage.crash(&open);
    for name in &raced {
        api.delete_node(name).unwrap();
    }
    let gone = |id: &&&str| raced.iter().any(|name| id.ends_with(&format!("/{name}")));
    let left: Vec<&str> = open.iter().filter(|id| !gone(id)).copied().collect();
    stage.only(&left);
    stage.mark("gone");
    stage.end(&open);
}
