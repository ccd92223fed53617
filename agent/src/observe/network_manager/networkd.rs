//! systemd-networkd: whether it removes routes and policy rules that it did not make, and on which devices.
//!
//! Since systemd 246 `ManageForeignRoutes=`, since 249 `ManageForeignRoutingPolicyRules=`, both yes unless said
//! otherwise; before that it always did. Routes it removes on devices that it configures, and those that name no one
//! device (IPv4 multipath, discards); devices that no .network file matches it leaves alone. Rules belong to no device.
//! Those with protocol "kernel" stay (networkd.conf(5), systemd's link_mark_routes).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::{device_name, ifindex, ini, list, running::Service};
use crate::observe::root::{HostRoot, ReadError};
use crate::view::host::NetworkManager;

/// The service.
pub(super) const SERVICE: Service = Service {
    name: "systemd-networkd",
    cgroup: "/sys/fs/cgroup/system.slice/systemd-networkd.service",
    cgroup_v1: "/sys/fs/cgroup/systemd/system.slice/systemd-networkd.service",
};

/// A state file for every device, by ifindex.
pub(super) const LINKS: &str = "/run/systemd/netif/links";

/// Directories of configuration; the first that has a file of some name has the say on that name.
const PLACES: [&str; 4] = [
    "/etc/systemd",
    "/run/systemd",
    "/usr/local/lib/systemd",
    "/usr/lib/systemd",
];

/// What is asked for, in words that name no device twice.
const SETTINGS: [&str; 2] = ["ManageForeignRoutes", "ManageForeignRoutingPolicyRules"];

/// As many state files as devices are looked at (see `setting`).
const DEVICES: usize = 4096;
/// Distributions ship one drop-in or two.
const DROP_INS: usize = 256;
/// systemd itself takes no line above 1 MiB; real files have some hundred bytes.
const FILE: u64 = 256 * 1024;

/// Every setting by which it may remove something.
pub(super) fn read(root: &HostRoot) -> Result<Vec<NetworkManager>, String> {
    let values = settings(root)?;
    let devices = devices(root)?;
    let mut found = Vec::new();
    for key in SETTINGS {
        let (on, file) = match values.get(key) {
            Some((on, file)) => (*on, Some(file.clone())),
            None => (true, None),
        };
        if on {
            found.push(NetworkManager {
                name: SERVICE.name.to_owned(),
                setting: match file {
                    Some(_) => format!("{key}=yes"),
                    None => format!("{key}=yes (default)"),
                },
                file,
                devices: devices.clone(),
            });
        }
    }
    Ok(found)
}

/// What the files say, each with the one that says it: the main file, then drop-ins in order of their names.
fn settings(root: &HostRoot) -> Result<BTreeMap<&'static str, (bool, String)>, String> {
    let mut values = BTreeMap::new();
    for path in files(root)? {
        let bytes = match root.read(Path::new(&path), FILE) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.is_not_found() => continue,
            // A link to /dev/null masks a drop-in.
            Err(ReadError::NotAFile) => continue,
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let parsed = ini::parse(&bytes);
        for key in SETTINGS {
            let said = parsed
                .iter()
                .filter(|(section, name, _)| section == "Network" && name == key);
            // What is no boolean it passes over, and keeps what was said before.
            if let Some(on) = said.filter_map(|(_, _, value)| ini::boolean(value)).next_back() {
                values.insert(key, (on, path.clone()));
            }
        }
    }
    Ok(values)
}

fn files(root: &HostRoot) -> Result<Vec<String>, String> {
    let main = PLACES.iter().map(|place| format!("{place}/networkd.conf"));
    // Only the first that is there counts.
    let mut files: Vec<String> = main.filter(|path| root.exists(Path::new(path))).take(1).collect();
    let mut drop_ins: BTreeMap<OsString, String> = BTreeMap::new();
    for place in PLACES {
        let directory = format!("{place}/networkd.conf.d");
        for name in list(root, &directory, DROP_INS)? {
            let Some(text) = name.to_str().filter(|text| text.ends_with(".conf")) else {
                continue;
            };
            let path = format!("{directory}/{text}");
            drop_ins.entry(name).or_insert(path);
        }
    }
    files.extend(drop_ins.into_values());
    Ok(files)
}

/// Devices that it configures, by name.
fn devices(root: &HostRoot) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for name in list(root, LINKS, DEVICES)? {
        let Some(index) = ifindex(&name) else { continue };
        // A state file that goes while it is read is of a device that went.
        let Ok((bytes, _)) = root.read(&Path::new(LINKS).join(&name), FILE) else {
            continue;
        };
        let state = ini::parse(&bytes);
        // "unmanaged": no .network file matches; "pending", "initialized", "linger", "failed": it does nothing there.
        if let Some("configuring" | "configured") = ini::last(&state, "", "ADMIN_STATE") {
            found.extend(device_name(index));
        }
    }
    found.sort();
    Ok(found)
}
