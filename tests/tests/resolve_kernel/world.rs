//! A namespace with devices of every state, and what is programmed into it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use cidrift_agent::observe::netlink::{Options, look};
use cidrift_agent::view::{Hop, Hops, Kernel, Link, Nexthop, Route, RouteKind, Rule};
use cidrift_lab::ip::Ip;
use cidrift_lab::netns::Netns;
use tokio::runtime::{Builder, Runtime};

use super::random::Random;
use super::tables::{self, Ground, Made};
use super::wire::Wire;

/// Devices for routes, each with subnets 192.168.N.0/24 and fd00:N::/64 by its place in this list.
const DEVICES: [&str; 6] = ["up0", "up1", "port0", "bridge0", "lost0", "bare0"];

/// Seen from inside: every call must be made on a thread in the namespace.
pub(crate) struct World {
    pub(crate) wire: Wire,
    pub(crate) ground: Ground,
    ip: Ip,
    runtime: Runtime,
    /// It has policy rules of its own.
    rules: bool,
    made: Vec<Made>,
    /// How many requests the kernel took and refused.
    pub(crate) taken: usize,
    pub(crate) refused: usize,
}

impl World {
    /// Makes the devices: two with a carrier, one behind the bridge's port, the
    /// bridge, one whose peer is down, and a bridge without ports.
    /// Without `rules` it never gets a policy rule.
    pub(crate) fn new(netns: &Netns, random: &mut Random, rules: bool) -> Self {
        let set = |name: &str, value: u8| fs::write(format!("/proc/sys/net/{name}"), value.to_string()).unwrap();
        for name in ["all", "default"] {
            set(&format!("ipv4/conf/{name}/rp_filter"), 0);
            set(&format!("ipv4/conf/{name}/accept_local"), 1);
            set(&format!("ipv6/conf/{name}/forwarding"), 1);
            set(&format!("ipv6/conf/{name}/accept_dad"), 0);
        }
        set("ipv4/ip_forward", 1);
        set("ipv4/nexthop_compat_mode", u8::from(random.percent(50)));
        let ip = Ip::new(netns).unwrap();
        ip.set_up("lo").unwrap();
        for name in ["up0", "up1", "port0", "lost0"] {
            ip.add_veth(name, &format!("{name}p"), netns).unwrap();
        }
        for name in ["bridge0", "bare0"] {
            ip.add_bridge(name).unwrap();
        }
        ip.set_master("port0p", "bridge0").unwrap();
        for name in ["up0p", "up1p", "port0p"].into_iter().chain(DEVICES) {
            ip.set_up(name).unwrap();
        }
        let devices: Vec<(u32, String, u8)> = DEVICES
            .iter()
            .zip(1..)
            .map(|(name, subnet)| (ip.index(name).unwrap(), (*name).to_owned(), subnet))
            .collect();
        for (_, name, _) in &devices {
            for ip_version in ["ipv4", "ipv6"] {
                let ignored = u8::from(random.percent(35));
                set(
                    &format!("{ip_version}/conf/{name}/ignore_routes_with_linkdown"),
                    ignored,
                );
            }
        }
        set(
            "ipv4/conf/all/ignore_routes_with_linkdown",
            u8::from(random.percent(10)),
        );
        let loopback = ip.index("lo").unwrap();
        let mut world = Self {
            wire: Wire::open(),
            ground: Ground {
                devices,
                loopback,
                objects_v6: random.percent(50),
            },
            ip,
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            rules,
            made: Vec::new(),
            taken: 0,
            refused: 0,
        };
        world.address_devices();
        if rules {
            world.send(&[false, true].map(tables::never_matching));
        } else if random.percent(50) {
            // This alone does not make the kernel ask the rules of IPv6.
            world.send(&[tables::without_initial_rule(random, true).add]);
        }
        world
    }

    fn address_devices(&mut self) {
        for (_, name, subnet) in &self.ground.devices {
            for net in [format!("192.168.{subnet}.1/24"), format!("fd00:{subnet}::1/64")] {
                self.ip.replace_addr(name, net.parse().unwrap()).unwrap();
            }
        }
    }

    /// Takes about half of what was made away and makes as much anew, and
    /// sometimes moves a device.
    pub(crate) fn shuffle(&mut self, random: &mut Random) {
        let mut requests = Vec::new();
        for made in std::mem::take(&mut self.made) {
            if random.percent(50) {
                requests.push(made.remove);
            } else {
                self.made.push(made);
            }
        }
        self.send(&requests);
        for (name, chance) in [("up1", 10), ("up1p", 10), ("port0p", 10)] {
            if random.percent(chance) {
                self.ip.set_down(name).unwrap();
            } else if random.percent(60) {
                self.ip.set_up(name).unwrap();
            }
        }
        self.address_devices();
        let mut requests = tables::objects(random, &self.ground);
        let mut fresh = Vec::new();
        for ipv6 in [false, true] {
            fresh.extend((0..5 + random.below(30)).map(|_| tables::route(random, &self.ground, ipv6)));
            if self.rules {
                fresh.extend((0..random.below(7)).map(|_| tables::rule(random, &self.ground, ipv6)));
                if random.percent(10) {
                    fresh.push(tables::without_initial_rule(random, ipv6));
                }
            }
        }
        requests.extend(fresh.iter().map(|made| made.add.clone()));
        self.made.extend(fresh);
        self.send(&requests);
    }

    fn send(&mut self, requests: &[super::wire::Request]) {
        for answer in self.wire.ask(requests) {
            match answer {
                Ok(_) => self.taken += 1,
                Err(_) => self.refused += 1,
            }
        }
    }

    /// What the observer sees, once the kernel has told its routes of every
    /// change of carrier (it does so from a work queue).
    pub(crate) fn view(&self) -> Kernel {
        for _ in 0..200 {
            let look = self.runtime.block_on(look(&Options::default())).unwrap();
            assert!(look.gaps.is_empty(), "gaps in the view: {:?}", look.gaps);
            if settled(&look.kernel) {
                return look.kernel;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("routes and devices disagree on carriers for 4 s");
    }
}

fn settled(kernel: &Kernel) -> bool {
    let agrees = |hop: &Hop| {
        let link = hop.device.and_then(|device| kernel.links.get(&device));
        link.is_none_or(|link| !link.up || hop.linkdown != link.carrier)
    };
    let route = |route: &Route| match &route.hops {
        _ if route.kind != RouteKind::Unicast => true,
        Hops::One(hop) => agrees(hop),
        Hops::Many(hops) => hops.iter().all(agrees),
        Hops::None | Hops::Object(_) => true,
    };
    let v4 = kernel.routes.v4.values().flat_map(|map| map.values());
    let v6 = kernel.routes.v6.values().flat_map(|map| map.values());
    v4.chain(v6).flatten().all(route)
}

/// All that lookups depend on, in an order of its own.
#[derive(PartialEq)]
pub(crate) struct Picture {
    routes: BTreeMap<(u32, ipnet::IpNet), Vec<Route>>,
    rules: Vec<Rule>,
    nexthops: BTreeMap<u32, Nexthop>,
    links: BTreeMap<u32, Link>,
}

impl From<&Kernel> for Picture {
    fn from(kernel: &Kernel) -> Self {
        let mut routes = BTreeMap::new();
        for (table, map) in &kernel.routes.v4 {
            let of_table = map.iter().map(|(net, routes)| ((*table, net.into()), routes.clone()));
            routes.extend(of_table);
        }
        for (table, map) in &kernel.routes.v6 {
            let of_table = map.iter().map(|(net, routes)| ((*table, net.into()), routes.clone()));
            routes.extend(of_table);
        }
        Self {
            routes,
            rules: kernel.rules.clone(),
            nexthops: kernel
                .nexthops
                .iter()
                .map(|(id, nexthop)| (*id, nexthop.clone()))
                .collect(),
            links: kernel.links.clone(),
        }
    }
}

/// Addresses that routes of the view begin or end with, and others.
pub(crate) fn destinations(kernel: &Kernel, random: &mut Random, count: usize) -> Vec<IpAddr> {
    let v4 = kernel
        .routes
        .v4
        .values()
        .flat_map(|map| map.keys().map(ipnet::IpNet::V4));
    let v6 = kernel
        .routes
        .v6
        .values()
        .flat_map(|map| map.keys().map(ipnet::IpNet::V6));
    let mut prefixes: Vec<ipnet::IpNet> = v4.chain(v6).collect();
    prefixes.sort();
    prefixes.retain(|prefix| match prefix {
        ipnet::IpNet::V4(net) => net.prefix_len() > 0 && !net.addr().is_loopback() && !net.addr().is_multicast(),
        ipnet::IpNet::V6(net) => {
            net.prefix_len() > 0
                && !net.addr().is_loopback()
                && !net.addr().is_multicast()
                && !net.addr().is_unicast_link_local()
        }
    });
    (0..count)
        .map(|_| {
            if random.percent(60) {
                let ipv6 = random.percent(50);
                return tables::address(random, ipv6);
            }
            let prefix = random.pick(&prefixes);
            if random.percent(50) {
                prefix.network()
            } else {
                prefix.broadcast()
            }
        })
        .collect()
}
