//! Nodes that were made anew while their hosts kept what they had, and what flannel's daemons make of it.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Affected;
use cidrift_proto::landing::Landing;

use super::super::super::plan::{Does, Hop, Method};
use super::{kinds, only, planned};
use crate::fix::fixture::World;
use crate::fix::ground::Pods;

/// n2 has 10.244.2.0/24 now; file, bridge and pods are of 10.244.77.0/24, and flannel's daemon leads its own pods away.
fn reborn() -> World {
    let mut world = World::of(3);
    for node in ["n1", "n2", "n3"] {
        world.daemon(node, "flannel");
    }
    world.configured("n2", "10.244.77.0/24", Some("containerd template"));
    world.bridge("n2", "10.244.77.1/24");
    world.pod("n2", "web-1", &["10.244.77.5"]);
    world.route("n2", "10.244.2.0/24", "172.30.0.2");
    let finding = world.find(Code::Pool12, "n2", &["n2"]);
    finding.claim.affected.push(Affected {
        prefix: Some("10.244.77.0/24".parse().unwrap()),
        node: Some("n2".to_owned()),
        detail: "still has it".to_owned(),
    });
    world
}

#[test]
fn all_that_its_own_host_kept_goes_and_consequences_go_with_it() {
    let mut world = reborn();
    for code in [Code::Host01, Code::Host02, Code::Host03] {
        world.find(code, "n2", &["n2"]).explained_by = vec!["POOL12/n2".to_owned()];
    }
    world.find(Code::Host04, "n2", &["n2"]);
    let plan = planned(&world);
    assert_eq!(plan.by_hand, []);
    let plan = only(&plan);
    assert_eq!(plan.method, Method::Host);
    assert_eq!(
        kinds(plan),
        [
            "cordon",
            "drain",
            "remove-file",
            "render",
            "remove-link",
            "restart-daemon",
            "remove-route",
            "replace-pods",
            "verify",
            "uncordon"
        ]
    );
    assert_eq!(plan.mends.len(), 5, "{:?}", plan.mends);
    let file = plan.steps.iter().find_map(|step| match &step.does {
        Does::RemoveFile { containing, .. } => Some(containing.as_str()),
        _ => None,
    });
    assert_eq!(file, Some("10.244.77.0/24"), "only as long as it says that");
}

#[test]
fn a_route_that_leads_a_nodes_own_pods_away_goes_after_its_daemon_was_started_anew() {
    let mut world = World::of(2);
    world.daemon("n2", "flannel");
    world.route("n2", "10.244.2.0/24", "172.30.0.2");
    world.find(Code::Host04, "n2", &["n2"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Host, vec!["restart-daemon", "remove-route", "verify"])
    );
    assert_eq!(
        plan.steps[1].does,
        Does::RemoveRoute {
            prefix: "10.244.2.0/24".parse().unwrap(),
            by: Hop::Via("172.30.0.2".parse().unwrap())
        }
    );
    // As the kernel of such a host tells it: nobody is asked on the way.
    let mut told = World::of(2);
    told.daemon("n2", "flannel");
    let device = "eth0".to_owned();
    told.lands("n2", "10.244.2.0/24", Landing::Onlink { device });
    told.find(Code::Host04, "n2", &["n2"]);
    assert_eq!(
        kinds(only(&planned(&told))),
        ["restart-daemon", "remove-route", "verify"]
    );
    // Without flannel somebody may mean it so.
    told.ground.pods = Pods::default();
    assert_eq!(planned(&told).nodes, []);
    // Another host's address is another matter.
    let mut other = World::of(2);
    other.daemon("n2", "flannel");
    other.route("n2", "10.244.2.0/24", "172.30.0.1");
    other.find(Code::Host04, "n2", &["n2"]);
    assert_eq!(planned(&other).nodes, []);
}

/// Daemons forget the route that twins share with the Node that goes.
#[test]
fn after_a_twin_has_gone_the_other_one_is_looked_for_too() {
    let mut world = World::of(3);
    for node in ["n1", "n2", "n3"] {
        world.daemon(node, "flannel");
    }
    world.node("n3").cidrs = vec!["10.244.2.0/24".parse().unwrap()];
    world.route("n1", "10.244.2.0/24", "172.30.0.2");
    world.find(Code::Pool03, "10.244.2.0/24", &["n2", "n3"]);
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!((plan.node.as_str(), plan.method), ("n3", Method::Swap));
    let announced = plan.steps.iter().find_map(|step| match &step.does {
        Does::Announce { nodes } => Some(nodes.clone()),
        _ => None,
    });
    assert_eq!(announced, Some(vec!["n3".to_owned(), "n2".to_owned()]));
    // Where no daemon makes routes there is nobody who could look again.
    world.ground.pods = Pods::default();
    let plan = planned(&world);
    assert!(!kinds(only(&plan)).contains(&"announce"));
}

/// Its daemon, started anew, would leave it: what shows that it worked would never come.
#[test]
fn who_routes_what_a_node_had_before_is_not_started_anew_for_a_route_that_stays() {
    let mut world = reborn();
    let row = Affected {
        node: Some("n1".to_owned()),
        ..world.ground.findings[0].claim.affected[0].clone()
    };
    let claim = &mut world.ground.findings[0].claim;
    claim.nodes.extend(["n1", "n3"].map(str::to_owned));
    claim.affected = vec![
        row.clone(),
        Affected {
            node: Some("n3".to_owned()),
            ..row.clone()
        },
    ];
    claim.affected_total = 2;
    let nodes = |world: &World| -> Vec<String> { planned(world).nodes.into_iter().map(|plan| plan.node).collect() };
    assert_eq!(nodes(&world), ["n1", "n3"]);
    // n1's stands as stale, and cannot be removed: nobody knows such a part of the pool.
    let stale = world.find(Code::Path03, "n1", &["n1"]);
    stale.explained_by = vec!["POOL12/n2".to_owned()];
    stale.claim.affected = vec![row];
    stale.claim.affected_total = 1;
    assert_eq!(nodes(&world), ["n3"]);
    let why = planned(&world).by_hand.into_iter().map(|row| (row.finding, row.why));
    let why: Vec<(String, String)> = why.collect();
    assert!(
        why[0].0 == "PATH03/n1" && why[0].1.contains("cannot be told"),
        "{why:?}"
    );
    // Where there is nobody else, it is for the same reason that nothing is done.
    world.ground.findings[0].claim.nodes.pop();
    let plan = planned(&world);
    assert_eq!((plan.nodes.len(), plan.by_hand.len()), (0, 2), "{plan:#?}");
}
