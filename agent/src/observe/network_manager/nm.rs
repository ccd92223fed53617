//! NetworkManager: devices that it manages, by the state that it keeps of each.
//!
//! `managed=true` stands there also for devices that others set up and that it only shows ("connected (externally)"):
//! for those it made itself a profile that says so, and leaves the device alone.

use std::collections::BTreeSet;
use std::path::Path;

use super::{device_name, ifindex, ini, list, running::Service};
use crate::observe::root::HostRoot;
use crate::view::host::NetworkManager;

/// The service.
pub(super) const SERVICE: Service = Service {
    name: "NetworkManager",
    cgroup: "/sys/fs/cgroup/system.slice/NetworkManager.service",
    cgroup_v1: "/sys/fs/cgroup/systemd/system.slice/NetworkManager.service",
};

/// A state file for every device, by ifindex.
pub(super) const DEVICES: &str = "/run/NetworkManager/devices";

/// Profiles that it made itself.
const PROFILES: &str = "/run/NetworkManager/system-connections";

/// As many state files as devices are looked at (see `setting`).
const LIMIT: usize = 4096;
/// Real files have some hundred bytes.
const FILE: u64 = 64 * 1024;

/// The devices that it manages; nothing where there are none.
pub(super) fn read(root: &HostRoot) -> Result<Vec<NetworkManager>, String> {
    let mut watched_only = None;
    let mut devices = Vec::new();
    for name in list(root, DEVICES, LIMIT)? {
        let Some(index) = ifindex(&name) else { continue };
        let Ok((bytes, _)) = root.read(&Path::new(DEVICES).join(&name), FILE) else {
            continue;
        };
        let state = ini::parse(&bytes);
        if ini::last(&state, "device", "managed").and_then(ini::boolean) != Some(true) {
            continue;
        }
        let uuid = ini::last(&state, "device", "connection-uuid").unwrap_or_default();
        if watched_only
            .get_or_insert_with(|| external(root))
            .as_ref()
            .map_err(Clone::clone)?
            .contains(uuid)
        {
            continue;
        }
        devices.extend(device_name(index));
    }
    devices.sort();
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![NetworkManager {
        name: SERVICE.name.to_owned(),
        setting: "managed=true".to_owned(),
        file: Some(DEVICES.to_owned()),
        devices,
    }])
}

/// UUIDs of the profiles that it made for devices that others set up.
fn external(root: &HostRoot) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    for name in list(root, PROFILES, LIMIT)? {
        let path = Path::new(PROFILES).join(&name);
        // They are for root alone: without them nobody can say which devices it only watches.
        let (bytes, _) = match root.read(&path, FILE) {
            Ok(read) => read,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let profile = ini::parse(&bytes);
        let says = |key| ini::last(&profile, ".nmmeta", key).and_then(ini::boolean) == Some(true);
        // Before 1.22 there was no "external".
        if (says("external") || (says("nm-generated") && says("volatile")))
            && let Some(uuid) = ini::last(&profile, "connection", "uuid")
        {
            found.insert(uuid.to_owned());
        }
    }
    Ok(found)
}
