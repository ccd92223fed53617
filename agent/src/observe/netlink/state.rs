//! The view while it is being kept: what an event does to it, what a dump
//! does to it, and what must be looked at again because of an event.

use std::collections::{BTreeMap, HashMap};

use cidrift_proto::landing::MacAddress;
use ipnet::IpNet;

use super::deciding::Gateways;
use super::decode::link::LinkState;
use super::dumped::{Dumped, Fdb, Neighbours, keep_vxlan};
use super::event::Event;
use super::netconf::Netconf;
use super::parts::Parts;
use super::{Part, deciding, fib};
use crate::view::{FdbEntry, Kernel, Link, LinkAddress, LinkDetail, Nexthop, Rule, Sysctls, Tables};

/// What an event or a dump did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Effects {
    /// The prefix whose routes changed.
    pub(super) prefix: Option<IpNet>,
    /// See [`crate::view::Changes::wide`].
    pub(super) wide: bool,
    /// See [`crate::view::Changes::links`].
    pub(super) links: bool,
    /// What the kernel may have changed without a message.
    pub(super) again: Parts,
}

/// What goes silently with a device, an address or a nexthop object: IPv4
/// routes, and the nexthop objects of the device.
const SILENT: Parts = Parts::of(&[Part::Routes, Part::Nexthops]);

/// The view, and what is needed to keep it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) kernel: Kernel,
    pub(super) netconf: Netconf,
    /// Link states as the messages told them, not as dumps did: a dump that is
    /// ahead of the messages must not hide a transition from them.
    pub(super) states: HashMap<u32, LinkState>,
    /// Of the routes and nexthop objects as they are; `None`: these have changed since.
    pub(super) gateways: Option<Gateways>,
}

impl State {
    /// Takes an event in. Repeating events that a dump already contains is harmless.
    pub(super) fn apply(&mut self, event: Event) -> Effects {
        match event {
            Event::Link(new) => {
                let before = self.states.insert(new.link.index, new.state);
                let moved = before.is_some_and(|before| before != new.state);
                let mut effects = self.link(new.link);
                if moved {
                    effects.again.add(SILENT);
                }
                effects
            }
            Event::LinkGone(index) => self.link_gone(index),
            Event::Address(device, address) => {
                let Some(link) = self.kernel.links.get_mut(&device) else {
                    return again(Parts::of(&[Part::Links]));
                };
                let mut effects = Effects::default();
                let v4 = address.net.addr().is_ipv4();
                match link.addresses.iter_mut().find(|known| known.net == address.net) {
                    Some(known) => {
                        effects.links = *known != address;
                        *known = address;
                    }
                    None => {
                        // The kernel's order within a family is by scope and primacy, which a message does not
                        // tell; a dump has IPv4 first.
                        let of_v4 = |known: &LinkAddress| known.net.addr().is_ipv4();
                        if link.addresses.iter().any(|known| of_v4(known) == v4) {
                            effects.again = Parts::of(&[Part::Links]);
                        }
                        let end = if v4 {
                            link.addresses.partition_point(of_v4)
                        } else {
                            link.addresses.len()
                        };
                        link.addresses.insert(end, address);
                        effects.links = true;
                    }
                }
                effects.wide = effects.links;
                effects
            }
            Event::AddressGone(device, address) => {
                let mut effects = again(SILENT);
                if let Some(link) = self.kernel.links.get_mut(&device) {
                    let before = link.addresses.len();
                    link.addresses.retain(|known| known.net != address.net);
                    effects.links = link.addresses.len() != before;
                    effects.wide = effects.links;
                    // A secondary address may have been promoted.
                    if !link.addresses.is_empty() {
                        effects.again.add(Parts::of(&[Part::Links]));
                    }
                }
                effects
            }
            Event::Route(route, how) => {
                self.gateways = None;
                let prefix = route.prefix;
                routed(prefix, fib::insert(&mut self.kernel.routes, route, how))
            }
            Event::RouteGone(route) => {
                self.gateways = None;
                routed(route.prefix, fib::remove(&mut self.kernel.routes, &route))
            }
            Event::RouteBySource => again(Parts::of(&[Part::Routes])),
            Event::Rule => again(Parts::of(&[Part::Rules])),
            Event::Nexthop(id, nexthop) => {
                self.gateways = None;
                Effects {
                    wide: self.kernel.nexthops.insert(id, nexthop.clone()) != Some(nexthop),
                    ..Effects::default()
                }
            }
            Event::NexthopGone(id) => {
                self.gateways = None;
                Effects {
                    wide: self.kernel.nexthops.remove(&id).is_some(),
                    ..again(SILENT)
                }
            }
            Event::Neighbour(device, address, new) => {
                let neighbours = &mut self.kernel.neighbours;
                let before = match new {
                    Some(new) => neighbours.insert((device, address), new),
                    None => neighbours.remove(&(device, address)),
                };
                Effects {
                    wide: before != new && deciding::decides(&self.kernel, &mut self.gateways, device, address),
                    ..Effects::default()
                }
            }
            Event::Fdb(device, mac, entry) => self.fdb(device, mac, entry),
            Event::FdbGone(device, mac, entry) => {
                let Some(entries) = self.kernel.fdb.get_mut(&(device, mac)) else {
                    return Effects::default();
                };
                let before = entries.len();
                entries.retain(|known| (known.destination, known.nexthop) != (entry.destination, entry.nexthop));
                let wide = entries.len() != before;
                if entries.is_empty() {
                    self.kernel.fdb.remove(&(device, mac));
                }
                Effects {
                    wide,
                    ..Effects::default()
                }
            }
            Event::Netconf(setting) => {
                if !self.netconf.set(setting) {
                    return Effects::default();
                }
                // Routes without a carrier become dead, or alive again.
                Effects {
                    wide: self.rename_sysctls(),
                    ..again(Parts::of(&[Part::Routes]))
                }
            }
        }
    }

    /// Takes an event in again, over a newer dump, and says only what remains
    /// uncertain. The link states are left alone: they are ahead already.
    pub(super) fn replay(&mut self, event: Event) -> Parts {
        match event {
            Event::Link(new) => {
                self.link(new.link);
                Parts::NONE
            }
            Event::LinkGone(index) => {
                let state = self.states.remove(&index);
                self.link_gone(index);
                self.states.extend(state.map(|state| (index, state)));
                Parts::NONE
            }
            Event::Route(..) | Event::RouteGone(_) => self.apply(event).again,
            other => {
                self.apply(other);
                Parts::NONE
            }
        }
    }

    fn link(&mut self, mut new: Link) -> Effects {
        let before = self.kernel.links.get(&new.index);
        let mut effects = Effects::default();
        match before {
            Some(before) => {
                new.addresses.clone_from(&before.addresses);
                effects.links = *before != new;
                effects.wide = !alike(before, &new);
            }
            None => {
                effects.links = true;
                effects.wide = true;
            }
        }
        // Its entries may have come before it did, on another socket.
        if is_vxlan(&new) && !before.is_some_and(is_vxlan) {
            effects.again.add(Parts::of(&[Part::Fdb]));
        }
        self.kernel.links.insert(new.index, new);
        effects.wide |= self.rename_sysctls();
        effects
    }

    fn link_gone(&mut self, index: u32) -> Effects {
        self.states.remove(&index);
        self.netconf.forget(index);
        self.kernel.neighbours.retain(|(device, _), _| *device != index);
        self.kernel.fdb.retain(|(device, _), _| *device != index);
        let known = self.kernel.links.remove(&index).is_some();
        self.rename_sysctls();
        Effects {
            wide: known,
            links: known,
            ..again(SILENT)
        }
    }

    fn fdb(&mut self, device: u32, mac: MacAddress, entry: FdbEntry) -> Effects {
        if !self.kernel.links.get(&device).is_some_and(is_vxlan) {
            return Effects::default();
        }
        let entries = self.kernel.fdb.entry((device, mac)).or_default();
        let before = entries.clone();
        // Only the default and group MACs may have several destinations; a
        // station has one, and a message that names another replaced it.
        let several = mac.0 == [0; 6] || mac.0[0] & 1 != 0;
        let known = entries
            .iter_mut()
            .find(|known| (known.destination, known.nexthop) == (entry.destination, entry.nexthop));
        match known {
            Some(known) => *known = entry,
            None if several => entries.push(entry),
            None => *entries = vec![entry],
        }
        Effects {
            wide: *entries != before,
            ..Effects::default()
        }
    }

    /// Names the sysctls' devices anew. True when that changed something.
    fn rename_sysctls(&mut self) -> bool {
        let sysctls = self.netconf.sysctls(&self.kernel.links);
        let changed = sysctls != self.kernel.sysctls;
        self.kernel.sysctls = sysctls;
        changed
    }

    /// Puts what a dump brought in the place of what was known, and hands back
    /// what was known.
    pub(super) fn take(&mut self, mut dumped: Dumped, trust_states: bool) -> Before {
        self.gateways = None;
        let kernel = &mut self.kernel;
        let links = dumped.links.map(|(links, states)| {
            if trust_states {
                self.states = states;
            }
            std::mem::replace(&mut kernel.links, links)
        });
        if let Some(fdb) = &mut dumped.fdb {
            keep_vxlan(fdb, &kernel.links);
        }
        let before = Before {
            links,
            routes: swap(&mut kernel.routes, dumped.routes),
            rules: swap(&mut kernel.rules, dumped.rules),
            nexthops: swap(&mut kernel.nexthops, dumped.nexthops),
            neighbours: swap(&mut kernel.neighbours, dumped.neighbours),
            fdb: swap(&mut kernel.fdb, dumped.fdb),
            sysctls: kernel.sysctls.clone(),
        };
        swap(&mut self.netconf, dumped.netconf);
        self.rename_sysctls();
        before
    }

    /// What changed since, routes left out.
    pub(super) fn compare(&self, before: &Before) -> Effects {
        let now = &self.kernel;
        let links = before.links.as_ref().is_some_and(|links| *links != now.links);
        let wide = before.links.as_ref().is_some_and(|links| !all_alike(links, &now.links))
            || differs(before.rules.as_ref(), &now.rules)
            || differs(before.nexthops.as_ref(), &now.nexthops)
            || (before.neighbours.as_ref()).is_some_and(|before| deciding::moved(now, before))
            || differs(before.fdb.as_ref(), &now.fdb)
            || before.sysctls != now.sysctls;
        Effects {
            links,
            wide,
            ..Effects::default()
        }
    }
}

/// What was known before a dump took its place.
#[derive(Debug)]
pub(super) struct Before {
    links: Option<BTreeMap<u32, Link>>,
    pub(super) routes: Option<Tables>,
    rules: Option<Vec<Rule>>,
    nexthops: Option<HashMap<u32, Nexthop>>,
    neighbours: Option<Neighbours>,
    fdb: Option<Fdb>,
    sysctls: Sysctls,
}

fn swap<T>(known: &mut T, new: Option<T>) -> Option<T> {
    new.map(|new| std::mem::replace(known, new))
}

fn differs<T: PartialEq>(before: Option<&T>, now: &T) -> bool {
    before.is_some_and(|before| before != now)
}

fn all_alike(a: &BTreeMap<u32, Link>, b: &BTreeMap<u32, Link>) -> bool {
    a.len() == b.len() && a.values().zip(b.values()).all(|(a, b)| alike(a, b))
}

fn again(parts: Parts) -> Effects {
    Effects {
        again: parts,
        ..Effects::default()
    }
}

fn routed(prefix: IpNet, outcome: fib::Outcome) -> Effects {
    Effects {
        prefix: outcome.changed.then_some(prefix),
        again: if outcome.certain {
            Parts::NONE
        } else {
            Parts::of(&[Part::Routes])
        },
        ..Effects::default()
    }
}

fn is_vxlan(link: &Link) -> bool {
    matches!(link.detail, LinkDetail::Vxlan { .. })
}

/// Alike in all that can move a landing: the MTU cannot.
fn alike(a: &Link, b: &Link) -> bool {
    a == b || {
        let same_mtu = Link {
            mtu: b.mtu,
            ..a.clone()
        };
        same_mtu == *b
    }
}
