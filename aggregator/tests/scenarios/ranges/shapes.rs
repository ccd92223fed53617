//! POOL06 and POOL07: one family of two, and other masks than asked for.

use cidrift_aggregator::cluster::PoolConfig;
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::Severity;

use super::*;

fn dual(world: &mut World, count: usize) {
    for n in 0..count {
        node(
            world,
            &format!("n{n:03}"),
            &[&format!("10.244.{n}.0/24"), &format!("fd00:0:0:{n}::/64")],
            50,
        );
    }
}

#[test]
fn a_node_of_one_family_in_a_dual_stack_cluster_is_told_until_it_is_swapped() {
    for ranges in [&["10.244.0.0/16", "fd00::/56"][..], &[]] {
        let mut world = World::bare(Plane::Vxlan, pool_of(ranges));
        dual(&mut world, 4);
        node(&mut world, "n900", &["10.244.90.0/24"], 1).internal_ips = vec![ip("172.30.0.90")];
        settle(&mut world);
        assert_eq!(of(&world, Code::Pool06), ["POOL06/n900 open"], "{ranges:?}");
        let claim = world.finding("POOL06/n900").claim.clone();
        assert_eq!(claim.severity, Severity::Error);
        assert_eq!(
            claim.summary,
            "n900 has 10.244.90.0/24 and no IPv6 pod CIDR, in a dual-stack cluster"
        );
        node(&mut world, "n900", &["10.244.90.0/24", "fd00:0:0:90::/64"], 0);
        world.publish();
        assert_eq!(of(&world, Code::Pool06), Vec::<String>::new());
        assert!(world.resolved().contains(&"POOL06/n900".to_owned()));
    }
}

#[test]
fn one_family_is_right_in_a_single_stack_cluster_and_where_the_cni_allocates() {
    let mut single = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    dual(&mut single, 1);
    nodes(&mut single, 10, 13, 50);
    settle(&mut single);
    assert_eq!(of(&single, Code::Pool06), Vec::<String>::new());
    let mut delegated = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/56"]));
    nodes(&mut delegated, 0, 3, 50);
    delegate(&mut delegated);
    settle(&mut delegated);
    assert_eq!(of(&delegated, Code::Pool06), Vec::<String>::new());
}

#[test]
fn a_missing_family_is_explained_by_its_exhausted_pool() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/62"]));
    dual(&mut world, 4);
    node(&mut world, "n900", &["10.244.90.0/24"], 1);
    settle(&mut world);
    assert_eq!(world.finding("POOL06/n900").explained_by, ["POOL04/ipv6"]);
}

#[test]
fn a_cluster_on_its_way_to_two_families_is_a_warning() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16", "fd00::/56"]));
    dual(&mut world, 1);
    nodes(&mut world, 10, 13, 50);
    settle(&mut world);
    assert_eq!(of(&world, Code::Pool06).len(), 3);
    assert_eq!(world.finding("POOL06/n010").claim.severity, Severity::Warning);
}

#[test]
fn a_mask_changed_on_a_living_cluster_names_who_has_the_old_one() {
    let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
    node(&mut world, "n-old", &["10.244.1.0/26"], 200);
    node(&mut world, "n-wide", &["10.244.8.0/21"], 200);
    node(&mut world, "n-new", &["10.244.2.0/24"], 1);
    settle(&mut world);
    let claim = world.finding("POOL07/ipv4").claim.clone();
    assert_eq!(claim.severity, Severity::Info, "it costs room, and there is plenty");
    assert_eq!(claim.nodes, ["n-old", "n-wide"]);
    assert!(
        claim.cause.starts_with("The mask was changed on a living cluster"),
        "{}",
        claim.cause
    );
    let details: Vec<_> = claim.affected.iter().map(|row| row.detail.as_str()).collect();
    assert_eq!(
        details,
        [
            "/26 where /24 is asked for: it keeps a whole /24 from others",
            "/21 where /24 is asked for: it holds 8 blocks"
        ]
    );
    let range = world.engine.read(|state| state.pool_report()).ranges[0].clone();
    assert_eq!((range.used, range.partial, range.free), (10, 1, 246));
    // A second one in the same block: whichever goes first frees it under the other.
    node(&mut world, "n-old2", &["10.244.1.64/26"], 200);
    world.publish();
    assert_eq!(world.finding("POOL07/ipv4").claim.severity, Severity::Warning);
    for name in ["n-old", "n-old2", "n-wide"] {
        world.nodes.remove(name);
    }
    world.publish();
    assert_eq!(of(&world, Code::Pool07), Vec::<String>::new());
    assert!(world.resolved().contains(&"POOL07/ipv4".to_owned()));
}

#[test]
fn a_finding_with_many_rows_ends_at_the_price_of_one_look_at_all_nodes() {
    let mut world = World::bare(Plane::Vxlan, PoolConfig::default());
    for n in 0..2_000u32 {
        let cidr = format!("10.{}.{}.0/26", n / 256, n % 256);
        node(&mut world, &format!("n{n:04}"), &[&cidr], 100);
    }
    let mut publish = |mask: u8| {
        let mut flags = allocating(&["10.0.0.0/8"]);
        flags.mask_v4 = Some(mask);
        manager(&mut world, "kcm", flags);
        let begun = std::time::Instant::now();
        world.publish();
        (begun.elapsed(), of(&world, Code::Pool07).len())
    };
    // The best of some, since others use the machine too.
    let (mut changes, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        assert_eq!(publish(24).1, 1);
        let (change, stands) = publish(25);
        let (end, ended) = publish(26);
        assert_eq!((stands, ended), (1, 0));
        changes.push(change);
        ends.push(end);
    }
    let (change, end) = (changes.iter().min(), ends.iter().min());
    assert!(
        end < change.map(|change| *change * 2).as_ref(),
        "{end:?} for the end, {change:?} for a change"
    );
}

#[test]
fn many_masks_are_normal_on_gke_with_cluster_cidrs_and_where_nobody_states_one() {
    let masks = |change: &dyn Fn(&mut World)| {
        let mut world = World::bare(Plane::Vxlan, pool_of(&["10.244.0.0/16"]));
        nodes(&mut world, 0, 3, 50);
        node(&mut world, "n-odd", &["10.244.9.0/26"], 50);
        change(&mut world);
        settle(&mut world);
        of(&world, Code::Pool07)
    };
    assert_eq!(masks(&|_| {}), ["POOL07/ipv4 open"], "the control");
    let gke = masks(&|world| {
        for node in world.nodes.values_mut() {
            node.labels
                .insert("cloud.google.com/gke-nodepool".to_owned(), "p".to_owned());
        }
    });
    assert!(gke.is_empty());
    assert!(masks(&delegate).is_empty());
    let mut objects = World::bare(Plane::Vxlan, PoolConfig::default());
    nodes(&mut objects, 0, 3, 50);
    node(&mut objects, "n-odd", &["10.244.9.0/26"], 50);
    cluster_cidr(&mut objects, "10.244.0.0/16");
    settle(&mut objects);
    assert_eq!(of(&objects, Code::Pool07), Vec::<String>::new());
    let mut unstated = World::bare(Plane::Vxlan, pool());
    nodes(&mut unstated, 0, 3, 50);
    node(&mut unstated, "n-odd", &["10.244.9.0/26"], 50);
    settle(&mut unstated);
    assert_eq!(of(&unstated, Code::Pool07), Vec::<String>::new());
}
