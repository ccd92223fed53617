//! What must not be begun as things are, and what may be lost.

use cidrift_proto::catalogue::Code;

use super::super::super::drain::Allowed;
use super::super::super::ground::{Budget, Owner, Room};
use super::super::super::place::Taint;
use super::super::Wish;
use super::{blocked_by, kinds, only, planned};
use crate::fix::fixture::{World, nets};

/// n2 is to be drained.
pub(super) fn drained() -> World {
    let mut world = World::of(3);
    world.node("n2").cidrs = nets(&["10.99.2.0/24"]);
    world.find(Code::Pool02, "n2", &["n2"]);
    world
}

#[test]
fn pods_that_would_be_lost_need_the_operators_word() {
    let mut world = drained();
    world.pod("n2", "bare", &[]).owner = None;
    world.pod("n2", "scratch", &[]).scratch = true;
    let plan = planned(&world);
    blocked_by(only(&plan), "default/bare has no controller");
    blocked_by(only(&plan), "default/scratch has an emptyDir");
    let wish = Wish {
        allowed: Allowed {
            unmanaged: true,
            scratch: true,
        },
        ..Wish::default()
    };
    let plan = super::super::plan(&world.ground, &wish);
    assert!(only(&plan).blocked.is_empty());
    assert_eq!(
        only(&plan)
            .risks
            .iter()
            .filter(|risk| risk.contains("default/"))
            .count(),
        2
    );
}

#[test]
fn a_pod_that_tolerates_a_cordon_may_come_back_and_that_is_said() {
    let mut world = drained();
    world.pod("n2", "stubborn", &[]).returns = true;
    let plan = planned(&world);
    assert!(only(&plan).blocked.is_empty());
    assert!(
        only(&plan)
            .risks
            .iter()
            .any(|risk| risk.contains("default/stubborn tolerates a cordon"))
    );
}

#[test]
fn nobody_makes_anew_what_has_no_controller_though_it_tolerates_a_cordon() {
    let mut world = drained();
    let pod = world.pod("n2", "bare", &[]);
    (pod.returns, pod.owner) = (true, None);
    let plan = planned(&world);
    blocked_by(only(&plan), "default/bare has no controller");
    assert!(!only(&plan).risks.iter().any(|risk| risk.contains("tolerates a cordon")));
}

/// A pod that only n2 may have.
fn bound(world: &mut World, name: &str) {
    world.node("n2").labels.insert("disk".to_owned(), "ssd".to_owned());
    let selector = [("disk".to_owned(), "ssd".to_owned())].into();
    world.pod("n2", name, &[]).place.selector = selector;
}

#[test]
fn a_pod_that_may_go_nowhere_else_is_away_until_the_node_is_back() {
    let mut world = drained();
    bound(&mut world, "db");
    let risk =
        "pod default/db may run on no other node (node selector, affinity, taints): it stays Pending until n2 is back";
    let told = |world: &World| {
        let plan = planned(world);
        assert_eq!(only(&plan).blocked, [""; 0]);
        only(&plan).risks.iter().any(|line| line == risk)
    };
    assert!(told(&world));
    world.node("n3").labels.insert("disk".to_owned(), "ssd".to_owned());
    assert!(!told(&world));
    // A taint that it does not tolerate; but not one that goes when the node is well.
    let taint = |key: &str| Taint {
        key: key.to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    };
    world.node("n3").taints = vec![taint("node.kubernetes.io/memory-pressure")];
    assert!(!told(&world));
    world.node("n3").taints = vec![taint("for-others")];
    assert!(told(&world));
}

#[test]
fn room_is_only_where_a_pod_may_go() {
    let mut world = drained();
    bound(&mut world, "db");
    world.node("n3").labels.insert("disk".to_owned(), "ssd".to_owned());
    world.node("n3").allocatable.cpu = 1000;
    world.ground.pods.last_on("n2").requests.cpu = 2000;
    // n1 has four cores free.
    blocked_by(
        only(&planned(&world)),
        "the other nodes have no room for its pods: 1 pod, 2000m CPU, 0 MiB wanted, 110 pods, 1000m CPU",
    );
    world.pod("n2", "anywhere", &[]);
    blocked_by(
        only(&planned(&world)),
        "no other node has room for pod default/db (1 pod, 2000m CPU",
    );
    // Nobody makes it anew: it needs no room.
    world.ground.pods.remove("default/anywhere");
    world.ground.pods.last_on("n2").owner = None;
    let wish = Wish {
        allowed: Allowed {
            unmanaged: true,
            scratch: false,
        },
        ..Wish::default()
    };
    assert_eq!(only(&super::super::plan(&world.ground, &wish)).blocked, [""; 0]);
}

#[test]
fn without_an_aggregator_nothing_could_show_whether_it_worked() {
    let mut world = drained();
    bound(&mut world, "aggregator");
    world.ground.pods.last_on("n2").aggregator = true;
    blocked_by(
        only(&planned(&world)),
        "pod default/aggregator may run on no other node (node selector, affinity, taints), and is the aggregator",
    );
    // Another one is elsewhere, and goes on.
    world.pod("n1", "second", &[]).aggregator = true;
    let plan = planned(&world);
    assert_eq!(only(&plan).blocked, [""; 0]);
    assert!(
        only(&plan)
            .risks
            .iter()
            .any(|risk| risk.contains("stays Pending until n2 is back"))
    );
    world.ground.pods.last_on("n1").deleting = true;
    blocked_by(only(&planned(&world)), "is the aggregator");
    // It may go elsewhere.
    world.ground.pods.last_on("n2").place.selector.clear();
    assert_eq!(only(&planned(&world)).blocked, [""; 0]);
}

#[test]
fn pods_of_daemons_and_static_pods_are_not_evicted() {
    let mut world = drained();
    for (name, kind) in [("daemon", "DaemonSet"), ("static", "Node")] {
        let owner = Owner {
            kind: kind.to_owned(),
            name: "x".to_owned(),
        };
        world.pod("n2", name, &["10.99.2.7"]).owner = Some(owner);
    }
    let plan = planned(&world);
    // The DaemonSet's is made anew afterwards: its address goes with the CIDR.
    assert_eq!(only(&plan).interrupts.pods, ["default/daemon"]);
    assert!(kinds(only(&plan)).contains(&"replace-pods"));
}

#[test]
fn a_budget_that_can_never_be_met_is_found_before_anything_is_begun() {
    let mut world = drained();
    world.pod("n2", "web", &[]).budgets = vec!["default/web".to_owned()];
    let mut budget = Budget {
        allowed: 0,
        desired: 2,
        healthy: 2,
        expected: 2,
        current: true,
    };
    world.ground.budgets.insert("default/web".to_owned(), budget.clone());
    blocked_by(
        only(&planned(&world)),
        "can never allow an eviction (2 of 2 pods are healthy, 2 must be)",
    );
    // One that only waits for its pods is no obstacle, but a delay.
    (budget.desired, budget.expected, budget.healthy) = (2, 3, 2);
    world.ground.budgets.insert("default/web".to_owned(), budget.clone());
    let plan = planned(&world);
    assert!(only(&plan).blocked.is_empty());
    assert!(
        only(&plan)
            .risks
            .iter()
            .any(|risk| risk.contains("allows no eviction now"))
    );
    budget.current = false;
    world.ground.budgets.insert("default/web".to_owned(), budget);
    blocked_by(only(&planned(&world)), "not yet looked at");
    world.ground.pods.last_on("n2").budgets = vec!["default/web".to_owned(), "default/other".to_owned()];
    blocked_by(only(&planned(&world)), "several PodDisruptionBudgets");
}

#[test]
fn evicted_pods_need_room_elsewhere() {
    let mut world = drained();
    let much = Room {
        cpu: 3000,
        memory: 1 << 20,
        pods: 1,
    };
    // 4 cores a node: each pod fits, and both together do, if nobody else is there.
    world.pod("n2", "one", &[]).requests = much;
    world.pod("n2", "two", &[]).requests = much;
    assert!(only(&planned(&world)).blocked.is_empty());
    world.pod("n1", "here", &[]).requests = much;
    blocked_by(only(&planned(&world)), "no room for its pods");
    world.ground.pods.remove("default/two");
    assert!(only(&planned(&world)).blocked.is_empty());
    // Two free cores here and two there hold no pod of three.
    for name in ["n1", "n3"] {
        world.node(name).allocatable.cpu = 2000;
    }
    world.ground.pods.remove("default/here");
    blocked_by(only(&planned(&world)), "no other node has room for pod default/one");
}

#[test]
fn nodes_that_are_unavailable_for_any_reason_count() {
    let mut world = drained();
    world.node("n3").unschedulable = true;
    blocked_by(only(&planned(&world)), "n3 is unschedulable");
    world.node("n3").unschedulable = false;
    world.node("n3").ready = false;
    blocked_by(only(&planned(&world)), "n3 is not Ready");
    // One that waits to be mended itself is not made worse; else nobody could begin.
    world.node("n3").cidrs.clear();
    world.find(Code::Pool01, "n3", &["n3"]);
    let plan = planned(&world);
    assert!(plan.nodes.iter().all(|node| node.blocked.is_empty()), "{plan:#?}");
}

#[test]
fn the_control_plane_comes_last_and_only_if_it_is_said() {
    let mut world = World::of(3);
    for name in ["n1", "n2"] {
        world.node(name).cidrs = nets(&["10.99.2.0/24"]);
        world.find(Code::Pool02, name, &[name]);
    }
    let label = "node-role.kubernetes.io/control-plane".to_owned();
    world.node("n1").labels.insert(label, String::new());
    let plan = planned(&world);
    assert_eq!(plan.nodes[1].node, "n1");
    blocked_by(&plan.nodes[1], "--include-control-plane");
    let wish = Wish {
        control_plane: true,
        ..Wish::default()
    };
    let plan = super::super::plan(&world.ground, &wish);
    assert_eq!((plan.nodes[1].node.as_str(), plan.nodes[1].blocked.len()), ("n1", 0));
}

#[test]
fn a_node_that_cannot_be_made_anew_at_once_is_not_deleted() {
    let mut world = drained();
    world.node("n2").finalizers = vec!["example.com/keep".to_owned()];
    blocked_by(only(&planned(&world)), "example.com/keep");
    world.node("n2").finalizers.clear();
    world.node("n2").provider = "aws:///us-east-1a/i-1".to_owned();
    blocked_by(only(&planned(&world)), "AWS owns the instance");
    let wish = Wish {
        managed: true,
        ..Wish::default()
    };
    assert!(only(&super::super::plan(&world.ground, &wish)).blocked.is_empty());
}

/// Its fix is over, or somebody deleted its Lease.
#[test]
fn a_cordon_that_a_fix_has_left_behind_is_told_and_stays() {
    let mut world = drained();
    world.node("n2").unschedulable = true;
    world.node("n2").fix = Some("f0".to_owned());
    let plan = planned(&world);
    let left = |risk: &&String| risk.contains("n2 was cordoned by fix f0") && risk.contains("kubectl uncordon n2");
    assert_eq!(only(&plan).risks.iter().filter(left).count(), 1);
    assert!(!kinds(only(&plan)).contains(&"uncordon"));
    let mut world = drained();
    world.node("n3").unschedulable = true;
    world.node("n3").fix = Some("f0".to_owned());
    blocked_by(
        only(&planned(&world)),
        "n3 is unschedulable, by fix f0: never two nodes at a time",
    );
    // One that was uncordoned since then is as any other.
    world.node("n3").unschedulable = false;
    assert!(only(&planned(&world)).blocked.is_empty());
}
