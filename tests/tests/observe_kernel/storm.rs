//! More changes than anyone reads, changes under a dump, and changes at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cidrift_agent::observe::netlink::Options;
use cidrift_agent::view::Hops;
use cidrift_lab::require::{Need, have};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::RouteType;
use tokio::time::timeout;

use crate::follow::events_only;
use crate::host::{Host, How, leg, to};

/// eth0 and eth1, an address each, and a VXLAN device.
async fn busy_host(name: &str) -> (Host, [u32; 2], u32) {
    let host = Host::new(name).await;
    let eth0 = host.veth("eth0", "switch0").await;
    host.add_address(eth0, "172.18.0.2/24").await;
    host.add_address(eth0, "fd00:18::2/64").await;
    let eth1 = host.veth("eth1", "switch1").await;
    host.add_address(eth1, "172.19.0.2/24").await;
    host.add_address(eth1, "fd00:19::2/64").await;
    let vxlan = host.vxlan("flannel.1", 1, [172, 18, 0, 2].into()).await;
    (host, [eth0, eth1], vxlan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_messages_end_in_an_exact_view() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = busy_host("overrun").await;
    let doomed = to("10.66.0.0/24", Some("172.18.0.3"), None);
    host.route(How::Add, doomed.build()).await.unwrap();
    let options = Options {
        receive_buffer: 4096,
        ..events_only()
    };
    let mut watcher = host.watch_with(options).await;
    host.follow(&mut watcher).await;
    for round in 0..3u8 {
        // Nobody reads meanwhile.
        for index in 0..1500u16 {
            let [high, low] = index.to_be_bytes();
            let prefix = format!("10.{}.{high}.{low}/32", 100 + round);
            host.route(How::Add, to(&prefix, Some("172.18.0.3"), None).build())
                .await
                .unwrap();
        }
        if round == 1 {
            host.set_up("eth0", false).await;
            host.set_up("eth0", true).await;
        }
        let changes = host.follow(&mut watcher).await;
        assert!(changes.prefixes.len() >= 1000, "{}", changes.prefixes.len());
    }
    assert!(watcher.counters().overruns > 0);
    assert!(
        watcher
            .kernel()
            .routes
            .at(254, &"10.66.0.0/24".parse().unwrap())
            .is_empty()
    );
    assert_eq!(watcher.gaps(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_before_lost_messages_are_made_up_for() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = busy_host("held").await;
    let options = Options {
        receive_buffer: 4096,
        ..events_only()
    };
    let mut watcher = host.watch_with(options).await;
    host.follow(&mut watcher).await;
    for index in 0..1000u16 {
        let [high, low] = index.to_be_bytes();
        let prefix = format!("10.100.{high}.{low}/32");
        host.route(How::Add, to(&prefix, Some("172.18.0.3"), None).build())
            .await
            .unwrap();
    }
    // The first word already has them all.
    let changes = watcher.changed().await.unwrap();
    assert!(watcher.counters().overruns > 0);
    assert_eq!(changes.prefixes.len(), 1000);
    host.follow(&mut watcher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_was_interrupted_is_repeated_until_it_is_whole() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = busy_host("interrupted").await;
    // More than fits a datagram: only a dump of several can be interrupted.
    for index in 0..60 {
        host.veth(&format!("pod{index}"), &format!("peer{index}")).await;
    }
    let mut watcher = host.watch().await;
    let stop = Arc::new(AtomicBool::new(false));
    let host = Arc::new(host);
    let churn = tokio::spawn({
        let (host, stop) = (Arc::clone(&host), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                host.veth("fleeting", "ephemeral").await;
                host.delete_link("fleeting").await;
            }
        }
    });
    let mut interrupted = 0;
    for _ in 0..2000 {
        let look = host.look().await;
        interrupted += look.counters.interrupted_dumps;
        let pods = look.kernel.links.values().filter(|link| link.name.starts_with("pod"));
        assert!(!look.gaps.is_empty() || pods.count() == 60, "{:?}", look.kernel.links);
        if interrupted >= 5 {
            break;
        }
        let _ = timeout(Duration::from_millis(1), watcher.changed()).await;
    }
    stop.store(true, Ordering::Relaxed);
    churn.await.unwrap();
    assert!(interrupted >= 5, "{interrupted} dumps were interrupted");
    host.follow(&mut watcher).await;
    assert_eq!(watcher.gaps(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_dump_has_every_route_in_order() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = busy_host("long").await;
    // Some 60 bytes each: well beyond what one thread reads alone.
    for index in 0..12_000u16 {
        let [high, low] = index.to_be_bytes();
        let prefix = format!("10.100.{high}.{low}/32");
        let gateway = format!("172.18.0.{}", 3 + low % 100);
        host.route(How::Add, to(&prefix, Some(&gateway), None).build())
            .await
            .unwrap();
    }
    let look = host.look().await;
    assert_eq!(look.gaps, []);
    for index in 0..12_000u16 {
        let [high, low] = index.to_be_bytes();
        let prefix = format!("10.100.{high}.{low}/32").parse().unwrap();
        let routes = look.kernel.routes.at(254, &prefix);
        assert_eq!(routes.len(), 1, "{prefix}");
        let gateway = match &routes[0].hops {
            Hops::One(hop) => hop.gateway,
            other => panic!("{other:?}"),
        };
        assert_eq!(gateway, Some([172, 18, 0, 3 + low % 100].into()));
    }
}

/// xorshift: the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One random act. Many fail (nothing to delete, no such gateway): that is as good.
async fn act(host: &Host, random: &mut Random, devices: [u32; 2], vxlan: u32) {
    let which = usize::try_from(random.below(2)).unwrap();
    let (device, name) = (devices[which], ["eth0", "eth1"][which]);
    let subnet = 18 + which;
    let number = random.below(4);
    let host_part = 3 + random.below(3);
    let how = [How::Add, How::Replace, How::Append][usize::try_from(random.below(3)).unwrap()];
    let metric = u32::try_from(random.below(2)).unwrap() * 50;
    let four = format!("10.{number}.0.0/16");
    let six = format!("fd00:{number}::/32");
    let gateway4 = format!("172.{subnet}.0.{host_part}");
    let gateway6 = format!("fd00:{subnet}::{host_part}");
    let _ = match random.below(18) {
        0..=3 => {
            let route = to(&four, Some(&gateway4), None).priority(metric);
            host.route(how, route.build()).await
        }
        4 => {
            let route = to(&four, None, None).priority(metric);
            host.delete_route(route.build()).await
        }
        5 => {
            let legs = vec![leg("172.18.0.3", devices[0]), leg("172.19.0.3", devices[1])];
            host.route(how, to(&four, None, None).multipath(legs).build()).await
        }
        6 => {
            let route = to(&four, None, None).kind(RouteType::BlackHole).priority(metric);
            host.route(how, route.build()).await
        }
        7..=9 => {
            let route = to(&six, Some(&gateway6), None).priority(1024 + metric);
            host.route(how, route.build()).await
        }
        10 => {
            let route = to(&six, Some(&gateway6), None).priority(1024 + metric);
            host.delete_route(route.build()).await
        }
        11 => {
            host.set_up(name, random.below(4) != 0).await;
            Ok(())
        }
        12 => {
            let peer = ["switch0", "switch1"][which];
            host.set_up(peer, random.below(4) != 0).await;
            Ok(())
        }
        13 => {
            let address = [172, u8::try_from(subnet).unwrap(), 0, 2].into();
            host.ip.address().add(device, address, 24).execute().await
        }
        14 => {
            let route = to(&four, None, Some(device)).table_id(1000).priority(metric);
            host.route(how, route.build()).await
        }
        15 => {
            let mac = [2, 0, 0, 0, 0, u8::try_from(number).unwrap()];
            host.fdb(vxlan, mac, &gateway4).await;
            host.neighbour(vxlan, &format!("10.{number}.0.0"), mac, NeighbourState::Permanent)
                .await;
            Ok(())
        }
        16 => {
            let priority = 100 + u32::try_from(number).unwrap();
            let rule = host.ip.rule().add().v4().table_id(1000).priority(priority);
            rule.execute().await
        }
        _ => {
            let address = format!("172.{subnet}.0.2/24");
            host.try_delete_address(device, &address).await
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_random_changes_the_view_is_what_a_dump_says() {
    if !have(Need::Netns) {
        return;
    }
    for seed in 1..=3u64 {
        let (host, devices, vxlan) = busy_host("random").await;
        let mut watcher = host.watch().await;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..3 {
            for _ in 0..200 {
                act(&host, &mut random, devices, vxlan).await;
                // Sometimes read at once, sometimes let several queue up.
                if random.below(3) == 0 {
                    let _ = timeout(Duration::from_micros(300), watcher.changed()).await;
                }
            }
            eprintln!("seed {seed}: {:?}", watcher.counters());
            host.follow(&mut watcher).await;
        }
        assert_eq!(watcher.counters().undecodable_messages, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_route_is_believed_although_others_change_all_the_time() {
    if !have(Need::Netns) {
        return;
    }
    let (host, ..) = busy_host("churn").await;
    let doomed = to("10.66.0.0/24", Some("172.18.0.3"), None);
    host.route(How::Add, doomed.build()).await.unwrap();
    let mut watcher = host.watch().await;
    host.follow(&mut watcher).await;
    let stop = AtomicBool::new(false);
    let churn = async {
        while !stop.load(Ordering::Relaxed) {
            for gateway in ["172.19.0.3", "172.19.0.4"] {
                let route = to("10.67.0.0/24", Some(gateway), None);
                host.route(How::Replace, route.build()).await.unwrap();
            }
        }
    };
    let wait = async {
        host.set_up("eth0", false).await;
        while !watcher
            .kernel()
            .routes
            .at(254, &"10.66.0.0/24".parse().unwrap())
            .is_empty()
        {
            let changes = timeout(Duration::from_secs(20), watcher.changed()).await;
            changes.expect("the route is gone for long").unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(churn, wait);
    host.follow(&mut watcher).await;
}

#[test]
fn a_watcher_that_is_dropped_leaves_no_thread() {
    if !have(Need::Netns) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let dumpers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("netlink-dump")).count()
    };
    runtime.block_on(async {
        let host = Host::new("dropped").await;
        for _ in 0..50 {
            drop(host.watch().await);
        }
    });
    // Other tests have watchers of their own; fifty are not among them.
    for _ in 0..100 {
        if dumpers() < 40 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{} dumping threads", dumpers());
}
