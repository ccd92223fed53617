//! The sysctls that change a lookup, by ifindex as netlink tells them.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::netconf::Decoded;
use crate::view::{Link, Sysctls};

/// `ignore_routes_with_linkdown` of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct IgnoreLinkdown {
    all: bool,
    devices: BTreeSet<u32>,
}

/// The settings of both families.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Netconf {
    v4: IgnoreLinkdown,
    v6: IgnoreLinkdown,
    /// Why they are not known.
    pub(super) unreadable: Option<String>,
}

impl Netconf {
    /// Takes a setting in. True when it changed something.
    pub(super) fn set(&mut self, setting: Decoded) -> bool {
        let Some(on) = setting.ignore_linkdown else {
            return false;
        };
        let family = if setting.ipv6 { &mut self.v6 } else { &mut self.v4 };
        match setting.device {
            None => std::mem::replace(&mut family.all, on) != on,
            Some(device) if on => family.devices.insert(device),
            Some(device) => family.devices.remove(&device),
        }
    }

    /// A device is gone.
    pub(super) fn forget(&mut self, device: u32) {
        self.v4.devices.remove(&device);
        self.v6.devices.remove(&device);
    }

    /// The settings by device name.
    pub(super) fn sysctls(&self, links: &BTreeMap<u32, Link>) -> Sysctls {
        let names = |family: &IgnoreLinkdown| {
            let mut names: Vec<String> = family
                .devices
                .iter()
                .filter_map(|index| links.get(index))
                .map(|link| link.name.clone())
                .collect();
            names.sort();
            names
        };
        Sysctls {
            ipv4_ignore_linkdown_all: self.v4.all,
            ipv4_ignore_linkdown: names(&self.v4),
            ipv6_ignore_linkdown_all: self.v6.all,
            ipv6_ignore_linkdown: names(&self.v6),
            unreadable: self.unreadable.clone(),
        }
    }
}
