//! SAND01 as the control plane sees it: who gets no sandbox, and who does.

use std::time::Duration;

use cidrift_aggregator::cluster::around::{AllocationEvents, FailingPod, SandboxFailures, Told};
use cidrift_aggregator::cluster::objects::{Daemon, Resource, Watched};
use cidrift_aggregator::summary::Health;
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Claim, Evidence, FindingState, Severity, Trigger};

use crate::outlived::{pod, pods};
use crate::world::*;

const THREE: &[&str] = &["node-a", "node-b", "node-c"];
const FULL: &str = "failed to allocate for range 0: no IP addresses available in range set: 10.244.2.1-10.244.2.254";

/// What kubelet tells, each time with another sandbox's id.
fn message(tail: &str, attempt: u32) -> String {
    format!(
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \
         \"{attempt:064x}\": plugin type=\"bridge\" failed (add): {tail}"
    )
}

fn failing(world: &World, name: &str, tail: &str, count: u32) -> FailingPod {
    FailingPod {
        pod: format!("shop/{name}"),
        uid: format!("uid-{name}"),
        told: Told {
            component: "kubelet".to_owned(),
            message: message(tail, count),
            count,
            first: Some(world.now),
            last: Some(world.now + Duration::from_secs(15 * u64::from(count.saturating_sub(1)))),
        },
    }
}

/// These pods of node-b fail, and wait.
fn fail(world: &mut World, failures: Vec<FailingPod>) {
    let waiting = failures.iter().map(|failure| {
        let mut waiting = pod(failure.pod.trim_start_matches("shop/"), "", world.now);
        waiting.sandbox_since = 0;
        waiting
    });
    let waiting = waiting.collect();
    pods(world, "node-b", waiting);
    world.around.watches.insert(Resource::Events, Watched::Live(world.now));
    let failures = SandboxFailures {
        total: u32::try_from(failures.len()).expect("few"),
        failing: failures,
    };
    world.around.sandboxes.insert("node-b".to_owned(), failures);
    world.publish();
}

fn sand(world: &World) -> Vec<String> {
    world
        .standing()
        .into_iter()
        .filter(|id| id.starts_with("SAND01"))
        .collect()
}

#[test]
fn pods_that_fail_on_one_node_while_others_start_elsewhere_are_one_classified_finding() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let failures = vec![failing(&world, "web", FULL, 1), failing(&world, "db", FULL, 1)];
    fail(&mut world, failures);
    let later = world.now + Duration::from_secs(5);
    pods(&mut world, "node-c", vec![pod("fine", "10.244.3.9", later)]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
    let finding = world.finding("SAND01/node-b");
    assert_eq!(finding.claim.severity, Severity::Error);
    insta::assert_yaml_snapshot!("exhausted", finding.claim);
    // Trying again with another sandbox's id is no news.
    world.drain();
    let again = vec![failing(&world, "web", FULL, 2), failing(&world, "db", FULL, 3)];
    let before = world.finding("SAND01/node-b").updated_at;
    let mut again = SandboxFailures {
        total: 2,
        failing: again,
    };
    for (new, old) in again.failing.iter_mut().zip(&world.around.sandboxes["node-b"].failing) {
        new.told.first = old.told.first;
    }
    world.around.sandboxes.insert("node-b".to_owned(), again);
    world.publish();
    assert_eq!(world.finding("SAND01/node-b").updated_at, before);
    // They get theirs.
    let later = world.now + Duration::from_secs(60);
    pods(
        &mut world,
        "node-b",
        vec![pod("web", "10.244.2.7", later), pod("db", "10.244.2.8", later)],
    );
    world.publish();
    assert_eq!(sand(&world), Vec::<String>::new());
    assert_eq!(world.resolved(), ["SAND01/node-b"]);
}

#[test]
fn a_failure_that_was_tried_again_and_went_well_is_nothing() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let one = vec![failing(&world, "web", FULL, 1)];
    fail(&mut world, one);
    assert_eq!(sand(&world), Vec::<String>::new(), "once is nothing");
    let later = world.now + Duration::from_secs(90);
    let many = vec![failing(&world, "web", FULL, 5)];
    fail(&mut world, many);
    pods(&mut world, "node-b", vec![pod("web", "10.244.2.7", later)]);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(sand(&world), Vec::<String>::new(), "it has its sandbox");
}

#[test]
fn pods_that_are_deleted_want_no_sandbox_any_more() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let failures = vec![failing(&world, "web", FULL, 6), failing(&world, "db", FULL, 6)];
    fail(&mut world, failures);
    world.pass(SETTLE);
    pods(&mut world, "node-b", Vec::new());
    world.publish();
    assert_eq!(sand(&world), Vec::<String>::new());
}

#[test]
fn one_bad_pod_among_good_ones_is_a_warning_once_it_has_tried_often() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let strange = "failed to create containerd task: failed to create shim task: OCI runtime create failed";
    let failures = vec![failing(&world, "web", strange, 2), failing(&world, "db", strange, 2)];
    fail(&mut world, failures);
    let later = world.now + Duration::from_secs(5);
    let mut here = world.around.pods["node-b"].pods.clone();
    here.push(pod("fine", "10.244.2.9", later));
    pods(&mut world, "node-b", here.clone());
    world.publish();
    assert_eq!(sand(&world), Vec::<String>::new(), "others start there");
    let often = vec![failing(&world, "web", strange, 9), failing(&world, "db", strange, 2)];
    fail(&mut world, often);
    pods(&mut world, "node-b", here);
    world.publish();
    let claim = &world.finding("SAND01/node-b").claim;
    assert_eq!(claim.severity, Severity::Warning);
    assert!(
        claim.summary.ends_with("the container runtime fails, not the network"),
        "{}",
        claim.summary
    );
}

#[test]
fn a_node_without_a_cidr_explains_its_sandboxes() {
    let mut world = World::healthy(Plane::Vxlan, THREE);
    let old = world.now - Duration::from_secs(3_600);
    let node = world.assign("node-b", &[]);
    (node.uid, node.created_at) = ("uid-node-b-2".to_owned(), Some(old));
    let flannel = "failed to load flannel 'subnet.env' file: open /run/flannel/subnet.env: no such file or directory. \
                   Check the flannel pod log for this node.";
    let failures = vec![failing(&world, "web", flannel, 4), failing(&world, "db", flannel, 4)];
    world.around.daemons.insert(
        "node-b".to_owned(),
        vec![Daemon {
            node: "node-b".to_owned(),
            kind: "flannel".to_owned(),
            pod: "kube-flannel/kube-flannel-ds-x7k2p".to_owned(),
            ready: false,
            trouble: Some("CrashLoopBackOff".to_owned()),
        }],
    );
    fail(&mut world, failures);
    world.pass(SETTLE);
    let finding = world.finding("SAND01/node-b");
    assert_eq!(finding.state, FindingState::Open);
    assert_eq!(finding.explained_by, ["POOL01/node-b"]);
    assert!(
        finding.claim.cause.contains("has no pod CIDR"),
        "{}",
        finding.claim.cause
    );
    let daemon = |row: &cidrift_proto::finding::Evidence| row.text == "flannel is not ready: CrashLoopBackOff";
    assert!(
        finding.claim.evidence.iter().any(daemon),
        "{:?}",
        finding.claim.evidence
    );
}

#[test]
fn messages_of_combined_events_are_classified_too() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let mut combined = failing(&world, "web", FULL, 35_156);
    combined.told.message = format!("(combined from similar events): {}", combined.told.message);
    combined.told.last = Some(world.now);
    fail(&mut world, vec![combined]);
    let claim = &world.finding("SAND01/node-b").claim;
    assert_eq!(
        claim.summary,
        "1 pod of node-b gets no sandbox: the node's address range is used up"
    );
    assert!(claim.evidence.iter().all(|row| !row.text.contains("combined")));
}

#[test]
fn where_pods_cannot_be_seen_failures_end_with_kubelets_silence_and_that_is_said() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let failures = vec![failing(&world, "web", FULL, 5)];
    fail(&mut world, failures);
    world.around.pods.clear();
    world
        .around
        .watches
        .insert(Resource::Pods, Watched::Refused("pods is forbidden".to_owned()));
    world.publish();
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
    let unseen = &world.finding("SAND01/node-b").claim.unseen;
    assert!(
        unseen.iter().any(|line| line.contains("pods is forbidden")),
        "{unseen:?}"
    );
    // Nobody can say that it is over; only that nothing more is heard of it.
    world.pass(Duration::from_secs(17 * 60));
    assert_eq!(sand(&world), ["SAND01/node-b open stale"]);
}

#[test]
fn a_route_that_a_cloud_could_not_make_is_evidence_and_its_node_is_not_called_healthy() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let health = |world: &World| {
        let detail = world.engine.read(|state| state.node("node-b", world.now));
        let summary = detail.expect("it is there").summary;
        (summary.health, summary.not_ready)
    };
    assert_eq!(health(&world), (Health::Healthy, String::new()));
    let node = world.nodes.get_mut("node-b").expect("it is there");
    node.network_unavailable = Some("NoRouteCreated".to_owned());
    let told = Told {
        component: "route_controller".to_owned(),
        message: "Could not create route x 10.244.2.0/24 for node node-b after 29.9s: AmbiguousPolicyEvaluationPaths"
            .to_owned(),
        count: 12,
        first: Some(world.now),
        last: Some(world.now),
    };
    let events = AllocationEvents {
        route_failed: Some(told),
        ..AllocationEvents::default()
    };
    world.around.allocation.insert("node-b".to_owned(), events);
    let failures = vec![failing(&world, "web", FULL, 5)];
    fail(&mut world, failures);
    let unavailable = "NetworkUnavailable is True: NoRouteCreated";
    let evidence = world.finding("SAND01/node-b").claim.evidence.clone();
    let says = |text: &str| evidence.iter().any(|row| row.text.contains(text));
    assert!(
        says(unavailable) && says("AmbiguousPolicyEvaluationPaths"),
        "{evidence:?}"
    );
    // It is Ready, and nothing else is wrong with it.
    world.around.sandboxes.clear();
    pods(&mut world, "node-b", Vec::new());
    world.publish();
    world.pass(SETTLE);
    assert_eq!(health(&world), (Health::Unknown, unavailable.to_owned()));
}

#[test]
fn failures_of_pods_that_are_not_listed_yet_may_be_long_over() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    world.around.watches.insert(Resource::Events, Watched::Live(world.now));
    world.around.watches.insert(Resource::Pods, Watched::Unlisted(None));
    let failures = SandboxFailures {
        failing: vec![failing(&world, "web", FULL, 5), failing(&world, "db", FULL, 5)],
        total: 2,
    };
    world.around.sandboxes.insert("node-b".to_owned(), failures);
    world.publish();
    world.pass(SETTLE * 2);
    assert_eq!(sand(&world), Vec::<String>::new());
    world.around.watches.insert(Resource::Pods, Watched::Live(world.now));
    let got = [pod("web", "10.244.2.7", world.now), pod("db", "10.244.2.8", world.now)];
    pods(&mut world, "node-b", got.to_vec());
    world.publish();
    world.pass(SETTLE);
    assert_eq!(sand(&world), Vec::<String>::new());
}

#[test]
fn a_node_that_is_still_getting_its_cni_is_given_five_minutes_unless_something_started_there() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let late = "open /run/flannel/subnet.env: no such file or directory";
    let failures = vec![failing(&world, "web", late, 20), failing(&world, "db", late, 20)];
    fail(&mut world, failures);
    world.pass(Duration::from_secs(200));
    assert_eq!(sand(&world), Vec::<String>::new());
    world.pass(Duration::from_secs(120));
    assert_eq!(sand(&world), ["SAND01/node-b open"]);

    // Here it worked before, so it broke.
    let mut world = World::healthy(Plane::HostGw, THREE);
    let before = world.now;
    let failures = vec![failing(&world, "web", late, 20), failing(&world, "db", late, 20)];
    fail(&mut world, failures);
    let mut here = world.around.pods["node-b"].pods.clone();
    here.push(pod("earlier", "10.244.2.9", before - Duration::from_secs(10)));
    pods(&mut world, "node-b", here);
    world.publish();
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
}

/// What the agent of node-b makes of its runtime's log.
fn logs(world: &World) -> Claim {
    Claim {
        code: Code::Sand01,
        subject: "node-b".to_owned(),
        severity: Severity::Error,
        nodes: vec!["node-b".to_owned()],
        summary: "2 pods of node-b get no sandbox: the node's address range is used up".to_owned(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: vec![Evidence {
            source: "/var/log/containerd.log on node-b".to_owned(),
            text: format!("containerd: {FULL}"),
            observed_at: Some(world.now),
            stale: false,
        }],
        unseen: Vec::new(),
        cause: "All addresses are given out.".to_owned(),
        remedy: "Look at HOST05.".to_owned(),
        changed_at: Some(world.now),
        trigger: Trigger::Host,
    }
}

fn tell(world: &mut World, claims: Vec<Claim>) {
    world.delta_with("node-b", vec![], vec![], None, Some(claims));
}

#[test]
fn the_hosts_own_log_is_evidence_beside_kubelets_events() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let failures = vec![failing(&world, "web", FULL, 1), failing(&world, "db", FULL, 1)];
    fail(&mut world, failures);
    let told = logs(&world);
    tell(&mut world, vec![told]);
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
    let sources: Vec<String> = world
        .finding("SAND01/node-b")
        .claim
        .evidence
        .iter()
        .map(|row| row.source.clone())
        .collect();
    assert!(
        sources.contains(&"/var/log/containerd.log on node-b".to_owned()),
        "{sources:?}"
    );
    assert!(
        sources
            .iter()
            .any(|source| source.starts_with("event FailedCreatePodSandBox")),
        "{sources:?}"
    );
}

#[test]
fn where_events_and_pods_are_seen_a_log_alone_is_nothing() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    fail(&mut world, Vec::new());
    world.around.watches.insert(Resource::Pods, Watched::Live(world.now));
    world.publish();
    let told = logs(&world);
    tell(&mut world, vec![told]);
    world.pass(SETTLE);
    assert_eq!(sand(&world), Vec::<String>::new());
}

#[test]
fn where_events_may_not_be_read_the_hosts_log_stands_for_itself() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let refused = Watched::Refused("events is forbidden".to_owned());
    world.around.watches.insert(Resource::Events, refused);
    world.publish();
    let told = logs(&world);
    tell(&mut world, vec![told]);
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
    let unseen = world.finding("SAND01/node-b").claim.unseen.join("; ");
    assert!(unseen.contains("events is forbidden"), "{unseen}");
    tell(&mut world, Vec::new());
    assert_eq!(sand(&world), Vec::<String>::new());
    assert_eq!(world.resolved(), ["SAND01/node-b"]);
}

#[test]
fn a_host_speaks_of_its_own_sandboxes_only() {
    let mut world = World::healthy(Plane::HostGw, THREE);
    let refused = Watched::Refused("events is forbidden".to_owned());
    world.around.watches.insert(Resource::Events, refused);
    world.publish();
    let mut told = logs(&world);
    told.subject = "node-c".to_owned();
    told.nodes = vec!["node-c".to_owned()];
    tell(&mut world, vec![told]);
    world.pass(SETTLE);
    assert_eq!(sand(&world), ["SAND01/node-b open"]);
}
