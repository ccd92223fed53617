//! Becoming root of a user namespace of our own, where the machine allows it:
//! the lab then needs no root.

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// What making namespaces, configuring them and sending raw ICMP takes:
/// CAP_NET_ADMIN (12), CAP_NET_RAW (13), CAP_SYS_ADMIN (21).
const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;

/// Makes sure that this process may make network namespaces. Call it before
/// any thread starts: the kernel moves only single-threaded processes into a
/// new user namespace.
pub fn become_able() -> Result<(), String> {
    if able() {
        return Ok(());
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| help("a user namespace cannot be made", &error.into()))?;
    map("/proc/self/setgroups", "deny")?;
    map("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    map("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    if able() {
        Ok(())
    } else {
        Err(help(
            "the new user namespace has no rights over the network",
            &io::Error::from(io::ErrorKind::PermissionDenied),
        ))
    }
}

fn map(path: &str, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| help(&format!("{path} cannot be written"), &error))
}

/// Whether the capabilities are there already.
fn able() -> bool {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective(&status))
        .is_some_and(|effective| effective & NEEDED == NEEDED)
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn help(what: &str, error: &io::Error) -> String {
    let mut text =
        format!("{what}: {error}\nThe lab makes network namespaces. Run it as root, or allow user namespaces:");
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "10000"),
    ];
    let mut found = false;
    for (key, off, on) in switches {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        if fs::read_to_string(path).is_ok_and(|value| value.trim() == off) {
            text.push_str(&format!("\n  sudo sysctl {key}={on}"));
            found = true;
        }
    }
    if !found {
        text.push_str(
            "\n  in a container: --privileged, or a seccomp profile that lets unshare(CLONE_NEWUSER) through",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let root = "CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n";
        assert_eq!(effective(root).map(|set| set & NEEDED), Some(NEEDED));
        let nobody = "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n";
        assert_eq!(effective(nobody).map(|set| set & NEEDED), Some(0));
        assert_eq!(effective("Name:\tlab\n"), None);
    }
}
