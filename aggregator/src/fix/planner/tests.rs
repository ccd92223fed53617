//! Plans of grounds that are built by hand.

mod along;
mod chosen;
mod controllers;
mod families;
mod guards;
mod host;
mod migrations;
mod reborn;
mod routes;
mod twins;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::FindingState;

use self::guards::drained;
use super::super::plan::{Method, NodePlan, Plan};
use super::{Wish, plan};
use crate::fix::drain::Allowed;
use crate::fix::fixture::{World, nets};
use crate::fix::run::possible;

fn planned(world: &World) -> Plan {
    let plan = plan(&world.ground, &Wish::default());
    // Whatever is planned is carried out.
    for node in &plan.nodes {
        for step in &node.steps {
            assert!(possible(&step.does, node), "{step:?}");
        }
    }
    plan
}

fn only(plan: &Plan) -> &NodePlan {
    assert_eq!(plan.nodes.len(), 1, "{plan:#?}");
    &plan.nodes[0]
}

fn kinds(plan: &NodePlan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.does.kind()).collect()
}

/// Its Node and its configuration have a range that the pool does not have.
fn outside(world: &mut World, name: &str, cidr: &str) {
    world.node(name).cidrs = nets(&[cidr]);
    world.configured(name, cidr, None);
    world.find(Code::Pool02, name, &[name]);
}

fn blocked_by(plan: &NodePlan, words: &str) {
    assert!(
        plan.blocked.iter().any(|why| why.contains(words)),
        "{words:?} is not in {:?}",
        plan.blocked
    );
}

#[test]
fn nothing_that_stands_is_nothing_to_do() {
    let plan = planned(&World::of(3));
    assert!(plan.is_empty(), "{plan:#?}");
}

#[test]
fn a_node_outside_of_the_pool_is_swapped_to_the_last_free_block() {
    let mut world = World::of(3);
    outside(&mut world, "n2", "10.99.2.0/24");
    world.bridge("n2", "10.99.2.1/24");
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(plan.method, Method::Swap);
    assert_eq!(plan.to, nets(&["10.244.255.0/24"]));
    assert_eq!(
        kinds(plan),
        [
            "cordon",
            "drain",
            "by-hand",
            "remove-link",
            "recreate",
            "adopt",
            "replace-pods",
            "verify",
            "uncordon"
        ]
    );
    assert!(plan.blocked.is_empty(), "{:?}", plan.blocked);
    assert!(plan.steps[4].text.contains("10.244.255.0/24"), "{:?}", plan.steps[4]);
    assert!(
        plan.verify
            .iter()
            .any(|line| line.contains("nothing leads to 10.99.2.0/24"))
    );
}

#[test]
fn a_configuration_that_its_daemon_does_not_write_for_other_cidrs_is_for_the_operators_hands() {
    let by_hand = |kind: &str, network: &str, by: Option<&str>| {
        let mut world = World::of(3);
        outside(&mut world, "n2", "10.99.2.0/24");
        world.configured("n2", "10.99.2.0/24", by);
        let facts = world.view("n2").facts.as_mut().unwrap();
        facts.cni.chosen.as_mut().unwrap().network = network.to_owned();
        world.daemon("n2", kind);
        kinds(only(&planned(&world))).contains(&"by-hand")
    };
    assert!(!by_hand("kindnet", "kindnet", None));
    // So does one that missed the change.
    let mut missed = World::of(2);
    missed.configured("n2", "10.244.77.0/24", None);
    let facts = missed.view("n2").facts.as_mut().unwrap();
    facts.cni.chosen.as_mut().unwrap().network = "kindnet".to_owned();
    missed.find(Code::Host01, "n2", &["n2"]);
    assert!(planned(&missed).nodes.is_empty());
    missed.daemon("n2", "kindnet");
    assert_eq!(kinds(only(&planned(&missed)))[0], "restart-daemon");
    // Somebody's own file beside it, and a copy that Multus made of its.
    assert!(by_hand("kindnet", "net", None));
    let multus = Some("delegate of Multus in /etc/cni/net.d/00-multus.conf");
    assert!(by_hand("kindnet", "kindnet", multus));
    for kind in ["flannel", "kube-router", "calico", "cilium"] {
        assert!(by_hand(kind, "net", None), "{kind}");
    }
}

#[test]
fn what_the_runtime_rendered_goes_before_the_new_node_comes_and_the_cni_starts_after_it() {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.configured(
        "n2",
        "10.99.2.0/24",
        Some("containerd template of /etc/containerd/config.toml"),
    );
    world.daemon("n2", "flannel");
    world.find(Code::Pool02, "n2", &["n2"]);
    let plan = planned(&world);
    let kinds = kinds(only(&plan));
    let at = |kind: &str| kinds.iter().position(|one| *one == kind);
    assert!(
        at("drain") < at("remove-file") && at("remove-file") < at("recreate"),
        "{kinds:?}"
    );
    assert!(
        at("adopt") < at("restart-daemon") && at("restart-daemon") < at("verify"),
        "{kinds:?}"
    );
    assert_eq!(at("by-hand"), None);
}

#[test]
fn a_node_without_a_cidr_is_given_one_and_nothing_is_interrupted() {
    let mut world = World::of(3);
    world.node("n3").cidrs.clear();
    world.node("n3").ready = false;
    world.view("n3").facts = None;
    world.find(Code::Pool01, "n3", &["n3"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Assign, vec!["assign", "adopt", "verify"])
    );
    assert!(plan.interrupts.pods.is_empty() && plan.blocked.is_empty(), "{plan:#?}");
    assert!(
        plan.steps[0].text.contains("\"podCIDRs\":[\"10.244.255.0/24\"]"),
        "{}",
        plan.steps[0].text
    );
}

#[test]
fn a_node_without_a_cidr_shows_no_ipam_and_its_finding_has_judged_it() {
    let mut world = World::of(3);
    world.node("n3").cidrs.clear();
    world.view("n3").facts = None;
    world.view("n3").classification.as_mut().unwrap().authoritative = None;
    world.find(Code::Pool01, "n3", &["n3"]);
    assert_eq!(only(&planned(&world)).method, Method::Assign);
    // Leases that nobody has are no matter of its addresses.
    world.find(Code::Host05, "n3", &["n3"]);
    let facts = World::of(3).view("n3").facts.take();
    world.view("n3").facts = facts;
    world.leaks("n3", "/var/lib/cni/networks/net", &[("10.244.3.9", "gone")]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Assign, vec!["assign", "adopt", "remove-leases", "verify"])
    );
    world.ground.findings.pop();
    // What needs more than that does not rest on it.
    world.find(Code::Host03, "n3", &["n3"]);
    assert!(planned(&world).nodes.is_empty());
    // One whose addresses are known to be somebody else's is left to him.
    world.ground.findings.pop();
    world.view("n3").classification.as_mut().unwrap().authoritative = Some(false);
    assert!(planned(&world).nodes.is_empty());
}

/// The allocator chooses, so that nothing of the host can be kept for what it will have.
#[test]
fn whoever_wants_it_has_the_kubelet_register_the_node_anew() {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.configured("n2", "10.99.2.0/24", Some("containerd template"));
    world.find(Code::Pool02, "n2", &["n2"]);
    let wish = Wish {
        rotate: true,
        ..Wish::default()
    };
    let rotated = plan(&world.ground, &wish);
    let rotated = only(&rotated);
    assert_eq!(
        (rotated.method, &rotated.to, &rotated.blocked),
        (Method::Rotate, &nets(&[]), &Vec::new())
    );
    assert_eq!(
        kinds(rotated),
        [
            "cordon",
            "drain",
            "remove-file",
            "remove-link",
            "rotate",
            "adopt",
            "replace-pods",
            "verify",
            "uncordon"
        ]
    );
    assert!(
        rotated.steps[4].text.contains("on n2: systemctl restart kubelet"),
        "{:?}",
        rotated.steps[4]
    );
    // Only what needs other CIDRs is.
    let mut other = World::of(2);
    other.bridge("n2", "10.244.7.1/24");
    other.find(Code::Host02, "n2", &["n2"]);
    assert_eq!(only(&plan(&other.ground, &wish)).method, Method::Host);
    // Without a controller manager nobody would give it anything.
    world.ground.controllers = Some("none runs".to_owned());
    assert_eq!(only(&plan(&world.ground, &wish)).blocked.len(), 1);
}

#[test]
fn what_another_finding_explains_goes_with_it() {
    let mut world = World::of(2);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    // A consequence of a consequence, which comes before it.
    world.find(Code::Host03, "n2", &["n2"]).explained_by = vec!["SAND01/n2".to_owned()];
    world.find(Code::Sand01, "n2", &["n2"]).explained_by = vec!["POOL02/n2".to_owned()];
    world.find(Code::Sand01, "n1", &["n1"]).explained_by = vec!["HOST10/n1".to_owned()];
    let plan = planned(&world);
    assert_eq!(only(&plan).mends, ["POOL02/n2", "SAND01/n2", "HOST03/n2"]);
    assert!(
        plan.by_hand[0].why.starts_with("HOST10/n1 explains it"),
        "{:?}",
        plan.by_hand
    );
}

#[test]
fn what_is_not_sure_is_not_acted_on() {
    let mut world = World::of(2);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.find(Code::Pool02, "n2", &["n2"]).state = FindingState::Pending;
    assert!(planned(&world).by_hand[0].why.contains("not open yet"));
    world.ground.findings[0].state = FindingState::Open;
    world.ground.findings[0].stale = true;
    assert!(planned(&world).by_hand[0].why.contains("witness is quiet"));
    world.ground.findings[0].stale = false;
    world.view("n2").summary.report = crate::cluster::ReportState::Silent;
    blocked_by(only(&planned(&world)), "does not report");
}

#[test]
fn addresses_that_are_somebody_elses_matter_are_left_to_him() {
    let mut world = World::of(2);
    world.find(Code::Host03, "n2", &["n2"]);
    let ipam = world.view("n2").classification.as_mut().unwrap();
    (ipam.authoritative, ipam.why) = (Some(false), "Cilium's cluster pool".to_owned());
    world.view("n2").summary.plugin = "cilium-cni".to_owned();
    let plan = planned(&world);
    assert!(plan.nodes.is_empty());
    assert!(plan.by_hand[0].why.contains("CiliumNode"), "{plan:#?}");
    world.view("n2").classification.as_mut().unwrap().authoritative = None;
    assert!(planned(&world).by_hand[0].why.contains("cannot be told"));
}

#[test]
fn a_plan_may_be_for_some_nodes_only() {
    let mut world = drained();
    world.node("n3").cidrs = nets(&["10.99.3.0/24"]);
    world.find(Code::Pool02, "n3", &["n3"]);
    let wish = Wish {
        nodes: ["n3".to_owned()].into(),
        ..Wish::default()
    };
    let plan = super::plan(&world.ground, &wish);
    assert_eq!((only(&plan).node.as_str(), plan.by_hand.len()), ("n3", 0));
}

#[test]
fn what_another_node_must_do_is_said_where_only_one_was_asked_for() {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.244.1.0/24"]);
    world.route("n3", "10.244.1.0/24", "172.30.0.1");
    world.find(Code::Pool03, "10.244.1.0/24", &["n1", "n2"]);
    let wish = Wish {
        nodes: ["n1".to_owned()].into(),
        ..Wish::default()
    };
    let plan = super::plan(&world.ground, &wish);
    assert!(plan.nodes.is_empty());
    assert_eq!(plan.by_hand[0].why, "it is planned for n2, which was not asked for");
}

#[test]
fn nodes_that_nobody_uses_are_named_where_the_pool_is_full() {
    let mut world = World::of(3);
    world.pod("n1", "web", &[]);
    world.node("n3").ready = false;
    world.view("n3").summary.report = crate::cluster::ReportState::Silent;
    assert!(planned(&world).release.is_empty());
    world.find(Code::Pool04, "ipv4", &[]);
    let plan = planned(&world);
    let names: Vec<&str> = plan.release.iter().map(|row| row.node.as_str()).collect();
    // The dead one first, then the empty one.
    assert_eq!(names, ["n3", "n2"]);
    assert!(plan.by_hand[0].why.contains("the pool must grow"));
}

#[test]
fn a_saved_plan_is_read_as_it_was() {
    let mut world = drained();
    world.configured("n2", "10.99.2.0/24", Some("containerd template"));
    world.find(Code::Pool04, "ipv4", &[]);
    let wish = Wish {
        nodes: ["n2".to_owned()].into(),
        allowed: Allowed {
            unmanaged: true,
            scratch: true,
        },
        control_plane: true,
        managed: true,
        ..Wish::default()
    };
    let plan = super::plan(&world.ground, &wish);
    assert_eq!(plan.wish, wish);
    let text = serde_saphyr::to_string(&plan).unwrap();
    let read: Plan = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(read, plan, "{text}");
    assert!(serde_saphyr::from_str::<Plan>(&text.replace("madeAt", "madeWhen")).is_err());
    // A file from before that was saved allows nothing.
    let mut older = serde_json::to_value(&plan).unwrap();
    older.as_object_mut().unwrap().remove("wish").unwrap();
    let older: Plan = serde_json::from_value(older).unwrap();
    assert_eq!((older.wish, older.nodes), (Wish::default(), plan.nodes));
}
