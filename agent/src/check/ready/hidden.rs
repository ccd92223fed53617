//! A package's default network that comes before the CNI meant for pods.
//!
//! That is certain only where all of it shows: the file in use is known to be a package's default, a file behind it
//! is a CNI's own, and that CNI is at work here, since it has its device. Where the Node has a podCIDR, HOST01 says it:
//! the default's range is not the Node's.

use std::path::Path;

use cidrift_proto::facts::CniConfig;
use cidrift_proto::finding::Severity;

use super::super::{Input, list};
use super::daemon::Daemon;
use super::{Trouble, chain, without_cidr};

/// Networks that packages bring along: name, and whose it is.
const DEFAULTS: [(&str, &str); 5] = [
    ("podman", "podman's default"),
    ("crio", "CRI-O's default"),
    ("crio-bridge", "CRI-O's default"),
    ("crio-ipv4-bridge", "CRI-O's default"),
    ("containerd-net", "containerd's example"),
];

pub(super) fn judge(input: &Input<'_>, config: &CniConfig) -> Option<Trouble> {
    let (_, whose) = DEFAULTS.iter().find(|(network, _)| *network == config.network)?;
    without_cidr(input)?;
    let (other, daemon, device) = input.cni.others.iter().find_map(|other| {
        let name = Path::new(other).file_name()?.to_str()?;
        let daemon = Daemon::of_file(name)?;
        Some((other, daemon, daemon.device(input)?))
    })?;
    let path = &config.path;
    Some(Trouble {
        severity: Severity::Warning,
        summary: format!(
            "{path}, {whose}, comes before {other}: new pods get addresses of {}, not of {}",
            list(&config.ranges),
            daemon.name
        ),
        evidence: vec![
            input.file_evidence(path, format!("{}, ranges {}", chain(config), list(&config.ranges))),
            input.file_evidence(&input.cni.directory, format!("also there: {}", list(&input.cni.others))),
            input.kernel_evidence(format!("{device}, a device of {}", daemon.name)),
        ],
        unseen: Vec::new(),
        cause: "The runtime takes the first file in byte order.".to_owned(),
        remedy: format!(
            "Move {path} out of the directory, then replace the pods that have addresses of {}.",
            list(&config.ranges)
        ),
        changed_at: config.modified_at.max(input.cni_changed_at),
    })
}
