//! What a test needs of the machine. A test that cannot run says what is
//! missing, and fails where `CIDRIFT_REQUIRE` (a comma list) names the need.

use std::fmt;

use crate::kubernetes::tools;

/// Something that a machine may or may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The right to make network namespaces.
    Netns,
    /// Root, containerd, runc and CNI plugins: nodes whose pods really run.
    Containerd,
    /// All that a real Kubernetes takes: the above, etcd, and Go or ready programs.
    Kubernetes,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netns => "netns",
            Self::Containerd => "containerd",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// True when the machine has it. Otherwise says so on stderr and returns
/// false, or panics when `CIDRIFT_REQUIRE` names it.
#[must_use]
pub fn have(need: Need) -> bool {
    let missing = match need {
        Need::Netns => crate::netns::Netns::new("probe").err().map(|error| {
            format!(
                "network namespaces cannot be made ({error}); run as root, or under `unshare --user --map-root-user`"
            )
        }),
        Need::Containerd => not_root("containerd").or_else(tools::missing_for_containerd),
        Need::Kubernetes => not_root("a real Kubernetes").or_else(tools::missing_for_kubernetes),
    };
    missing.is_none_or(|missing| {
        lacks(need, &missing);
        false
    })
}

/// Says what is missing of a need, for what a test alone wants; panics when `CIDRIFT_REQUIRE` names the need.
pub fn lacks(need: Need, missing: &str) {
    let required = std::env::var("CIDRIFT_REQUIRE").unwrap_or_default();
    let named = required.split(',').any(|word| word.trim() == need.to_string());
    assert!(!named, "CIDRIFT_REQUIRE names {need}, but: {missing}");
    eprintln!("NOT RUN: {missing}");
}

/// Mounts, cgroups and pods' devices are not a user namespace's to make.
fn not_root(what: &str) -> Option<String> {
    // The whole range of user ids is mapped only outside of user namespaces.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let root = nix::unistd::geteuid().is_root();
    (!root || !whole).then(|| format!("{what} needs root, outside of any user namespace; run as root"))
}
