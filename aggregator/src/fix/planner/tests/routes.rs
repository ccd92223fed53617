//! Routes that are too much.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, FindingState};
use cidrift_proto::landing::{Discard, Landing, RouteMatch};

use super::super::super::plan::{Does, Hop, Method};
use super::{kinds, only, planned};
use crate::fix::fixture::World;
use crate::fix::planner::Wish;

/// n1 has such a route, as `ip route add` leaves it.
fn routed(world: &mut World, prefix: &str, landing: Landing) {
    world.lands("n1", prefix, landing);
    let entry = world.view("n1").entries.last_mut().unwrap();
    entry.route = Some(RouteMatch {
        prefix: entry.prefix,
        table: 254,
        metric: 0,
        protocol: 3,
    });
}

fn found(world: &mut World, code: Code, prefix: &str, owner: Option<&str>) {
    let claim = &mut world.find(code, "n1", &["n1"]).claim;
    claim.affected.push(Affected {
        prefix: Some(prefix.parse().unwrap()),
        node: owner.map(str::to_owned),
        detail: String::new(),
    });
    claim.affected_total = 1;
}

fn by_hand(world: &World) -> String {
    let plan = planned(world);
    assert!(plan.nodes.is_empty(), "{plan:#?}");
    plan.by_hand[0].why.clone()
}

fn stale() -> World {
    let mut world = World::of(3);
    led(&mut world, "10.244.9.0/24", "172.30.0.9");
    found(&mut world, Code::Path03, "10.244.9.0/24", Some("n9"));
    world
}

/// n1 has a route by that next hop.
fn led(world: &mut World, prefix: &str, by: &str) {
    world.route("n1", prefix, by);
    let entry = world.view("n1").entries.pop().unwrap();
    routed(world, prefix, entry.landing);
}

#[test]
fn a_route_for_what_no_node_has_is_removed_by_its_next_hop_and_nothing_else_is_done() {
    let plan = planned(&stale());
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Host, vec!["remove-route", "verify"])
    );
    assert_eq!(
        plan.steps[0].does,
        Does::RemoveRoute {
            prefix: "10.244.9.0/24".parse().unwrap(),
            by: Hop::Via("172.30.0.9".parse().unwrap())
        }
    );
    assert!(
        plan.blocked.is_empty() && plan.interrupts.pods.is_empty() && !plan.probes(),
        "{plan:#?}"
    );
    assert!(plan.risks[0].contains("no Node any more"), "{plan:#?}");
    // Nobody has to make anything anew.
    let mut world = stale();
    world.ground.controllers = Some("no kube-controller-manager runs".to_owned());
    assert!(only(&planned(&world)).blocked.is_empty());
}

#[test]
fn a_route_stays_by_which_somebody_may_be_reached_or_that_somebody_looks_after() {
    type Change = fn(&mut World);
    let changes: [(Change, &str); 17] = [
        (
            |world| world.pod("n3", "left", &["10.244.9.5"]).deleting = true,
            "pod default/left has an address of it",
        ),
        (
            |world| world.bridge("n3", "10.244.9.1/24"),
            "n3 is set up for pods of 10.244.9.0/24",
        ),
        (
            |world| world.configured("n3", "10.244.9.0/24", None),
            "n3 is set up for pods of",
        ),
        (
            |world| world.view("n3").summary.report = crate::cluster::ReportState::Silent,
            "the agent of n3 does not report",
        ),
        (
            |world| world.node("n3").cidrs = vec!["10.244.8.0/22".parse().unwrap()],
            "whose route it is cannot be told",
        ),
        (
            |world| world.ground.pool.ranges.clear(),
            "whose route it is cannot be told",
        ),
        (
            |world| world.node("n3").addresses.push("10.244.9.7".parse().unwrap()),
            "is the address of Node n3",
        ),
        (
            |world| world.link("n3", "eth1", "10.244.9.7/16"),
            "n3 has 10.244.9.7 of it on eth1 itself",
        ),
        (
            |world| {
                world.lands(
                    "n3",
                    "10.244.9.7/32",
                    Landing::Host {
                        device: "lo".to_owned(),
                    },
                )
            },
            "n3 has 10.244.9.7/32 of it itself",
        ),
        (
            |world| {
                world.view("n3").facts.as_mut().unwrap().cni.chosen = None;
                world.flannel("n3", "10.244.0.0/16", "10.244.9.0/24");
            },
            "n3 is set up for pods of",
        ),
        // Its Node is gone; it runs on.
        (|world| _ = world.stray(9), "n9 is set up for pods of"),
        (
            |world| world.ground.findings[0].claim.affected[0].node = None,
            "172.30.0.9 is no Node's, and no Node is known to have had",
        ),
        (
            |world| {
                let how = Discard::Blackhole;
                world.view("n1").entries[0].landing = Landing::Discard { how };
                world.ground.findings[0].claim.affected[0].node = None;
            },
            "somebody may want that dropped",
        ),
        (
            |world| world.ground.findings[0].claim.affected_total = 70,
            "70 prefixes",
        ),
        (
            |world| world.view("n1").entries.clear(),
            "whose route it is cannot be told",
        ),
        (|world| route(world).table = 100, "is of table 100"),
        (|world| route(world).protocol = 12, "made by a daemon (protocol 12)"),
    ];
    for (change, why) in changes {
        let mut world = stale();
        change(&mut world);
        let told = by_hand(&world);
        assert!(
            told.contains(why) || told.replace("of 10.244.9.0/24", "of it").contains(why),
            "{why}: {told}"
        );
    }
}

#[test]
fn of_such_routes_only_those_go_that_are_named_and_by_nodes_that_there_are_without_a_former_owner() {
    let mut world = stale();
    led(&mut world, "10.244.10.0/24", "172.30.0.2");
    led(&mut world, "10.244.11.0/24", "172.30.0.2");
    world.ground.findings[0].claim.affected.push(Affected {
        prefix: Some("10.244.10.0/24".parse().unwrap()),
        node: None,
        detail: String::new(),
    });
    world.ground.findings[0].claim.affected_total = 2;
    // One that does not report any more is nobody's host.
    world.stray(9).summary.report = crate::cluster::ReportState::Silent;
    let plan = planned(&world);
    let routes = only(&plan).steps.iter().filter_map(|step| match &step.does {
        Does::RemoveRoute { prefix, .. } => Some(prefix.to_string()),
        _ => None,
    });
    assert_eq!(routes.collect::<Vec<_>>(), ["10.244.9.0/24", "10.244.10.0/24"]);
}

#[test]
fn what_is_too_much_on_a_node_that_is_swapped_goes_before_and_does_not_keep_it_open() {
    for rotate in [false, true] {
        let mut world = stale();
        world.node("n1").cidrs = vec!["10.200.1.0/24".parse().unwrap()];
        world.leaks("n1", "/var/lib/cni/networks/net", &[("10.244.1.9", "gone")]);
        world.find(Code::Pool02, "n1", &["n1"]);
        world.find(Code::Host05, "n1", &["n1"]);
        let wish = Wish {
            rotate,
            ..Wish::default()
        };
        let plan = crate::fix::planner::plan(&world.ground, &wish);
        let plan = only(&plan);
        assert_eq!(
            kinds(plan)[..4],
            ["remove-leases", "remove-route", "cordon", "drain"],
            "{plan:#?}"
        );
        let alike = kinds(plan)
            .iter()
            .filter(|kind| kind.starts_with("remove-route"))
            .count();
        assert_eq!((plan.mends.len(), alike), (3, 1), "{plan:#?}");
    }
}

#[test]
fn a_route_that_follows_from_what_is_mended_lasts_and_is_not_taken_to_go_with_that() {
    let mut world = stale();
    world.find(Code::Pool02, "n2", &["n2"]);
    world.node("n2").cidrs = vec!["10.200.2.0/24".parse().unwrap()];
    world.ground.findings[0].explained_by = vec!["POOL02/n2".to_owned()];
    let nodes: Vec<String> = planned(&world).nodes.into_iter().map(|plan| plan.node).collect();
    assert_eq!(nodes, ["n1", "n2"]);
    world.ground.findings[0].state = FindingState::Pending;
    let plan = planned(&world);
    assert_eq!(only(&plan).mends, ["POOL02/n2"]);
    assert!(plan.by_hand[0].why.starts_with("it is not open yet"), "{plan:#?}");
}

fn route(world: &mut World) -> &mut RouteMatch {
    world.view("n1").entries.last_mut().unwrap().route.as_mut().unwrap()
}

fn dropping(prefix: &str) -> World {
    let mut world = World::of(3);
    let how = Discard::Blackhole;
    routed(&mut world, prefix, Landing::Discard { how });
    found(&mut world, Code::Path04, "10.244.2.0/24", Some("n2"));
    world
}

#[test]
fn a_route_that_drops_a_part_goes_and_the_one_behind_it_is_right() {
    let mut world = dropping("10.244.2.128/25");
    world.route("n1", "10.244.2.0/24", "172.30.0.2");
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(
        (plan.method, kinds(plan)),
        (Method::Host, vec!["remove-route", "verify"])
    );
    let by = Hop::Type(Discard::Blackhole);
    let prefix = "10.244.2.128/25".parse().unwrap();
    assert_eq!(plan.steps[0].does, Does::RemoveRoute { prefix, by });
    assert!(plan.steps[0].text.ends_with("ip route del blackhole 10.244.2.128/25"));
    // Where that one leads elsewhere, somebody has to make it.
    let last = world.view("n1").entries.last_mut().unwrap();
    if let Landing::Underlay { address, .. } = &mut last.landing {
        *address = "172.30.0.3".parse().unwrap();
    }
    assert!(by_hand(&world).contains("no route for 10.244.2.0/24 is seen behind it"));
}

/// The host's own finding of the same route comes before.
#[test]
fn a_route_that_drops_inside_of_a_peers_is_the_cause_of_what_is_lost() {
    let mut world = dropping("10.244.2.128/25");
    world.route("n1", "10.244.2.0/24", "172.30.0.2");
    world.ground.findings[0].explained_by = vec!["HOST10/n1".to_owned()];
    found(&mut world, Code::Host10, "10.244.2.128/25", None);
    let plan = planned(&world);
    assert_eq!(only(&plan).mends, ["HOST10/n1", "PATH04/n1"]);
    assert_eq!(kinds(only(&plan)), ["remove-route", "verify"]);
    // Not where that is not all of it.
    let more = world.ground.findings[1].claim.affected[0].clone();
    let more = Affected {
        prefix: Some("10.244.3.0/24".parse().unwrap()),
        ..more
    };
    world.ground.findings[1].claim.affected.push(more);
    assert!(
        planned(&world)
            .by_hand
            .iter()
            .any(|hand| hand.why.contains("more than routes that drop"))
    );
}

#[test]
fn what_lies_behind_a_route_for_all_of_it_is_seen_once_that_is_gone() {
    let mut world = dropping("10.244.2.0/24");
    assert!(by_hand(&world).contains("no pod on n1 is known to make one"));
    world.daemon("n1", "flannel");
    let plan = planned(&world);
    let plan = only(&plan);
    assert_eq!(kinds(plan), ["remove-route", "reach", "verify"]);
    let nodes = vec!["n2".to_owned()];
    assert_eq!(plan.steps[1].does, Does::Reach { nodes });
    assert!(plan.verify[0].contains("land there"), "{plan:#?}");
    // It may have its pod made anew.
    world.ground.controllers = Some("no kube-controller-manager runs".to_owned());
    assert_eq!(only(&planned(&world)).blocked.len(), 1);
}

#[test]
fn what_somebody_wants_dropped_or_no_route_drops_is_not_for_a_fix() {
    assert!(by_hand(&dropping("10.244.0.0/16")).contains("meant for more than a node's CIDR"));
    let mut world = dropping("10.244.2.0/24");
    world.view("n1").summary.plugin = "calico".to_owned();
    assert!(by_hand(&world).starts_with("calico sets routes that drop"));
    let mut world = dropping("10.244.2.0/24");
    world.view("n1").entries[0].route = None;
    assert!(by_hand(&world).contains("a policy rule drops them"));
    let mut world = dropping("10.244.2.0/24");
    world.ground.findings[0].claim.affected_total = 70;
    assert!(by_hand(&world).contains("70 prefixes"));
}

#[test]
fn of_a_tunnel_the_daemon_makes_anew_what_is_missing_and_of_a_wire_nobody_does() {
    let lost = |device: &str| {
        let mut world = World::of(3);
        world.daemon("n1", "flannel");
        world.tunnel("n1", "flannel.1", "10.244.1.0/32");
        let landing = Landing::UnresolvedNeighbour {
            device: device.to_owned(),
            gateway: "10.244.2.0".parse().unwrap(),
            reason: "no neighbour entry".to_owned(),
        };
        routed(&mut world, "10.244.2.0/24", landing);
        found(&mut world, Code::Path04, "10.244.2.0/24", Some("n2"));
        world
    };
    let plan = planned(&lost("flannel.1"));
    assert_eq!(kinds(only(&plan)), ["restart-daemon", "verify"]);
    assert!(by_hand(&lost("eth0")).contains("10.244.2.0 does not answer"));
}
