//! Kernel settings that pod traffic depends on, from `/proc/sys/net` of this network namespace.
//!
//! procfs shows the settings of the namespace that the *reader* is in, so this is right wherever the host's `/` is
//! mounted. Two files say what holds for the host and are read with every look; three more for each device are read
//! when the device is new and once in a while.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;
use nix::libc;

use super::root::{HostRoot, ReadError};
use crate::view::Observed;
use crate::view::host::{Missing, Settings};

/// Where they are.
const NET: &str = "/proc/sys/net";

/// Devices that are asked for. A node has at most some hundred pods (kubelet's limit is 110 unless raised), and this
/// many are read in about 150 ms; of more, pods' own ports are left out first.
const DEVICES: usize = 4096;

/// Known devices are read again with every this many looks (one in 10 s, so once in a minute): three files for each of
/// 250 pods take less than 10 ms, and nobody changes one device's setting more often than that.
const SWEEP: u32 = 6;

/// A setting is a number and a newline.
const VALUE: u64 = 64;

/// How devices that pods are behind are called: CNI's bridge and ptp plugins, Calico, Cilium, AWS, Azure.
const POD_PORTS: [&str; 5] = ["veth", "cali", "lxc", "eni", "azv"];

/// Reads them.
#[derive(Debug)]
pub struct SettingReader {
    proc: HostRoot,
    /// [`DEVICES`].
    limit: usize,
    /// Looks since every device was read.
    looks: u32,
    /// `ip_forward` and `all/forwarding` as they were then: the kernel sets every device's when they are written.
    forward: (Option<bool>, Option<bool>),
    devices: BTreeMap<String, Device>,
}

/// The settings of one device; `None`: it has none (no IPv6), or it was gone before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Device {
    ipv4_forwarding: Option<bool>,
    ipv6_forwarding: Option<bool>,
    /// Linux 6.17 and later: forwards though `all` is off.
    ipv6_force: bool,
    rp_filter: Option<u8>,
}

impl SettingReader {
    /// Wherever the host's `/` is: the settings are those of this process' network namespace.
    pub fn new(_root: HostRoot) -> Self {
        Self::with_proc(HostRoot::new("/"))
    }

    fn with_proc(proc: HostRoot) -> Self {
        Self {
            proc,
            limit: DEVICES,
            looks: 0,
            forward: (None, None),
            devices: BTreeMap::new(),
        }
    }

    /// Reads all of them.
    pub fn look(&mut self, now: Timestamp) -> Observed<Settings> {
        match self.read() {
            Ok(settings) => Observed::seen(now, NET, settings),
            Err(why) => Observed::missing(now, NET, Missing::Unreadable(why)),
        }
    }

    fn read(&mut self) -> Result<Settings, String> {
        let Some(ipv4_forward) = self.flag("ipv4/ip_forward")? else {
            return Err("ipv4/ip_forward: No such file".to_owned());
        };
        let forward = (Some(ipv4_forward), self.flag("ipv6/conf/all/forwarding")?);
        let mut settings = Settings {
            ipv4_forward: forward.0,
            ipv6_forward: forward.1,
            rp_filter_all: self.value("ipv4/conf/all/rp_filter")?,
            bridge_nf_call_iptables: self.flag("bridge/bridge-nf-call-iptables")?,
            ..Settings::default()
        };
        if self.looks == 0 || self.forward != forward {
            self.devices.clear();
            self.looks = SWEEP;
        }
        self.looks -= 1;
        self.forward = forward;
        self.follow()?;
        let off = |of: fn(&Device) -> Option<bool>| {
            let devices = self.devices.iter().filter(move |(_, device)| of(device) == Some(false));
            devices.map(|(name, _)| name.clone()).collect()
        };
        if forward.0 == Some(true) {
            settings.ipv4_forward_off = off(|device| device.ipv4_forwarding);
        }
        match forward.1 {
            Some(true) => settings.ipv6_forward_off = off(|device| device.ipv6_forwarding),
            // Off for the host and on for some devices is neither.
            Some(false) if self.devices.values().any(|device| device.ipv6_force) => settings.ipv6_forward = None,
            Some(false) | None => {}
        }
        let filters = self.devices.iter().filter_map(|(name, device)| {
            let filter = device.rp_filter.filter(|filter| *filter != 0)?;
            Some((name.clone(), filter))
        });
        settings.rp_filter = filters.collect();
        Ok(settings)
    }

    /// Reads devices that are new and forgets those that are gone.
    fn follow(&mut self) -> Result<(), String> {
        let names = self.names()?;
        let mut devices = BTreeMap::new();
        for name in names {
            let device = match self.devices.get(&name) {
                Some(known) => *known,
                None => self.device(&name)?,
            };
            devices.insert(name, device);
        }
        self.devices = devices;
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, String> {
        let path = Path::new(NET).join("ipv4/conf");
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in self.proc.resolve(&path)?.read_dir()? {
                // The kernel takes any bytes for a device's name but '/' and white space.
                if let Ok(name) = entry?.file_name().into_string()
                    && name != "all"
                    && name != "default"
                {
                    names.push(name);
                }
            }
            Ok(names)
        };
        let mut names = list().map_err(|error| format!("ipv4/conf: {error}"))?;
        if names.len() > self.limit {
            names.sort_by_key(|name| POD_PORTS.iter().any(|port| name.starts_with(port)));
            names.truncate(self.limit);
        }
        Ok(names)
    }

    fn device(&self, name: &str) -> Result<Device, String> {
        let ipv6 = self.forward.1.is_some();
        let force = self.forward.1 == Some(false);
        let path = |family: &str, key: &str| format!("{family}/conf/{name}/{key}");
        Ok(Device {
            ipv4_forwarding: self.flag(&path("ipv4", "forwarding"))?,
            rp_filter: self.value(&path("ipv4", "rp_filter"))?,
            ipv6_forwarding: match ipv6 {
                true => self.flag(&path("ipv6", "forwarding"))?,
                false => None,
            },
            ipv6_force: force && self.flag(&path("ipv6", "force_forwarding"))? == Some(true),
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        Ok(self.value::<i32>(key)?.map(|value| value != 0))
    }

    /// `None` where there is no such setting, or no such device any more.
    fn value<T: FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let bytes = match self.proc.read(&Path::new(NET).join(key), VALUE) {
            Ok((bytes, _)) => bytes,
            Err(ReadError::Io(error)) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(format!("{key}: {error}")),
        };
        let text = String::from_utf8_lossy(&bytes);
        match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!("{key}: not a number: {:?}", text.trim())),
        }
    }
}

/// There is no such file; or the device went while its file was open (the kernel says ENODEV, or EINVAL while it
/// takes the directory down).
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::EINVAL | libc::ENOTDIR)
    )
}

#[cfg(test)]
mod tests;
