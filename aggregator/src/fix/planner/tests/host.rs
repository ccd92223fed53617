//! What is stale on a host, while its Node is right.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Evidence;

use super::super::super::plan::{Does, Method};
use super::{blocked_by, kinds, only, planned};
use crate::fix::fixture::World;
use crate::fix::ground::Budget;

#[test]
fn what_was_rendered_is_rendered_anew_without_touching_node_or_pods_that_are_right() {
    let mut world = World::of(2);
    world.configured("n2", "10.244.7.0/24", Some("containerd template"));
    world.pod("n2", "right", &["10.244.2.5"]);
    world.pod("n2", "foreign", &["10.244.7.5"]);
    world.find(Code::Host01, "n2", &["n2"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!((plan.method, &plan.to), (Method::Host, &plan.from));
    assert_eq!(kinds(plan), ["remove-file", "render", "replace-pods", "verify"]);
    assert_eq!(plan.interrupts.pods, ["default/foreign"]);
}

#[test]
fn pods_that_are_deleted_and_not_evicted_are_guarded_all_the_same() {
    let mut world = World::of(2);
    world.pod("n2", "foreign", &["10.244.7.5"]).budgets = vec!["default/web".to_owned()];
    world.find(Code::Host03, "n2", &["n2"]);
    let mut budget = Budget {
        allowed: 1,
        desired: 2,
        healthy: 3,
        expected: 3,
        current: true,
    };
    world.ground.budgets.insert("default/web".to_owned(), budget.clone());
    let plan = planned(&world);
    assert_eq!(kinds(only(&plan)), ["replace-pods", "verify"]);
    assert_eq!(
        (only(&plan).blocked.len(), only(&plan).interrupts.budgets.len()),
        (0, 1)
    );
    budget.allowed = 0;
    world.ground.budgets.insert("default/web".to_owned(), budget);
    blocked_by(only(&planned(&world)), "would be deleted, which does not ask it");
    let pod = world.ground.pods.last_on("n2");
    (pod.owner, pod.budgets) = (None, Vec::new());
    blocked_by(only(&planned(&world)), "default/foreign has no controller");
}

#[test]
fn a_file_that_nobody_is_known_to_write_is_for_whoever_did() {
    let mut world = World::of(2);
    world.configured("n2", "10.244.7.0/24", None);
    world.find(Code::Host01, "n2", &["n2"]);
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    assert!(plan.by_hand[0].why.contains("nobody is known to write"), "{plan:#?}");
}

#[test]
fn a_bridge_goes_only_once_its_pods_are_gone() {
    let mut world = World::of(2);
    world.bridge("n2", "10.244.7.1/24");
    world.pod("n2", "web", &["10.244.2.5"]);
    world.find(Code::Host02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(
        kinds(only(&plan)),
        ["cordon", "drain", "remove-link", "replace-pods", "verify", "uncordon"]
    );
}

#[test]
fn somebody_elses_cordon_is_kept() {
    let mut world = World::of(2);
    world.node("n2").unschedulable = true;
    world.bridge("n2", "10.244.7.1/24");
    world.find(Code::Host02, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(kinds(only(&plan)), ["drain", "remove-link", "replace-pods", "verify"]);
}

#[test]
fn a_missing_route_is_the_daemons_matter_where_there_is_one() {
    let mut world = World::of(2);
    world.find(Code::Path01, "n1", &["n1", "n2"]);
    assert!(planned(&world).nodes.is_empty());
    world.daemon("n1", "flannel");
    let plan = planned(&world);
    assert_eq!(
        (only(&plan).method, kinds(only(&plan))),
        (Method::Restart, vec!["restart-daemon", "verify"])
    );
    assert_eq!(only(&plan).node, "n1");
}

#[test]
fn leases_of_sandboxes_that_are_gone_are_removed_by_directory_and_nothing_else_is_done() {
    let mut world = World::of(2);
    world.pod("n2", "web", &["10.244.2.5"]);
    world.leaks(
        "n2",
        "/var/lib/cni/networks/net",
        &[("10.244.2.9", "bb"), ("10.244.2.7", "aa")],
    );
    world
        .leaks("n2", "/var/lib/cni/networks/old", &[("10.244.2.8", "cc")])
        .nameless = 2;
    world.find(Code::Host05, "n2", &["n2"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Host, vec!["remove-leases", "remove-leases", "verify"])
    );
    assert!(
        plan.steps[0]
            .text
            .contains("cd /var/lib/cni/networks/net && flock lock rm 10.244.2.7 10.244.2.9 "),
        "{}",
        plan.steps[0].text
    );
    let Does::RemoveLeases { directory, leases } = &plan.steps[1].does else {
        panic!("{:?}", plan.steps[1])
    };
    assert_eq!(directory, "/var/lib/cni/networks/old");
    assert_eq!(leases[&"10.244.2.8".parse().unwrap()], "cc");
    assert!(
        plan.blocked.is_empty() && plan.interrupts.pods.is_empty() && !plan.probes(),
        "{plan:#?}"
    );
    assert!(plan.risks[0].starts_with("2 leases name no sandbox"), "{plan:#?}");
}

#[test]
fn leases_stay_where_that_would_not_be_all_or_is_not_known() {
    let why = |change: fn(&mut World)| {
        let mut world = World::of(2);
        change(&mut world);
        world.find(Code::Host05, "n2", &["n2"]);
        let plan = planned(&world);
        assert!(plan.nodes.is_empty(), "{plan:#?}");
        plan.by_hand[0].why.clone()
    };
    assert!(why(|_| {}).contains("no leases are told for removal"));
    assert!(why(|world| world.view("n2").facts = None).contains("is not known now"));
    assert!(
        why(|world| world.leaks("n2", "/d", &[("10.244.2.7", "aa")]).others = true).contains("not all that is wrong")
    );
    assert!(why(|world| world.leaks("n2", "/d", &[("10.244.2.7", "aa")]).omitted = 9).starts_with("9 more"));
    let nameless = |world: &mut World| {
        let leaks = world.leaks("n2", "/d", &[]);
        (leaks.nameless, leaks.networks) = (7, Vec::new());
    };
    assert!(why(nameless).contains("name no sandbox"));
}

#[test]
fn a_kubelet_that_does_not_look_is_restarted_before_what_is_stale_goes_and_is_rendered_anew() {
    let mut world = World::of(3);
    world.find(Code::Host08, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(
        (only(&plan).method, kinds(only(&plan))),
        (Method::Restart, vec!["restart-kubelet", "verify"])
    );
    assert!(only(&plan).blocked.is_empty() && only(&plan).verify[0].contains("taken 10.244.2.0/24 over"));
    // Not while another node is away, nor while its own pods would be rejected.
    world.node("n3").unschedulable = true;
    world.node("n2").allocatable.pods = 0;
    let blocked = planned(&world);
    blocked_by(only(&blocked), "n3 is unschedulable");
    blocked_by(only(&blocked), "does not tell how many pods it can run");

    let mut world = World::of(3);
    world.configured("n2", "10.244.7.0/24", Some("containerd template"));
    world.find(Code::Host01, "n2", &["n2"]);
    world.find(Code::Host08, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(
        kinds(only(&plan)),
        ["restart-kubelet", "remove-file", "render", "verify"]
    );
}

#[test]
fn a_kubelet_follows_by_itself_where_something_else_is_mended() {
    let mut world = World::of(2);
    world.find(Code::Host08, "n2", &["n2"]).claim.evidence.push(Evidence {
        source: "journal".to_owned(),
        text: "\"Error updating pod CIDR\" err=\"unavailable\"".to_owned(),
        observed_at: None,
        stale: false,
    });
    assert!(planned(&world).by_hand[0].why.contains("the runtime must be mended"));
    world.ground.findings[0].claim.evidence.clear();
    world.node("n2").cidrs.clear();
    assert!(planned(&world).by_hand[0].why.contains("its Node has no CIDR"));
}

/// What follows from a cause goes with it; a kubelet that does not look goes with nothing.
#[test]
fn a_kubelet_that_does_not_look_is_restarted_though_a_cause_is_known() {
    let mut world = World::of(2);
    world.bridge("n2", "10.244.7.1/24");
    world.find(Code::Host02, "n2", &["n2"]);
    world.find(Code::Host08, "n2", &["n2"]).explained_by = vec!["HOST02/n2".to_owned()];
    assert!(kinds(only(&planned(&world))).contains(&"restart-kubelet"));
}
