//! The command line of `cidrift-errand`. Whoever starts it says everything: no flag comes from the environment.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use ipnet::IpNet;

use crate::observe::addresses::lease::is_id;

/// How long `render` may wait at most; what takes longer is no longer a moment's errand.
const LONGEST: Duration = Duration::from_secs(600);

/// The longest name of a device (IFNAMSIZ without the byte that ends it).
const NAME_LIMIT: usize = 15;

/// One change to this host: made, said in one line, done.
#[derive(Debug, Parser)]
#[command(
    name = "cidrift-errand",
    version = cidrift_proto::version(),
    after_help = "What is done already is success. Exit status: 0 done or left alone, 1 failed, 2 wrong usage."
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) errand: Errand,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Errand {
    /// Remove one regular file of the host.
    RemoveFile(RemoveFile),
    /// Remove a bridge, vxlan, dummy or veth device of this network namespace.
    RemoveLink(RemoveLink),
    /// Remove a route of table main of this network namespace.
    RemoveRoute(RemoveRoute),
    /// Have containerd write its CNI configuration from its template, as a kubelet's start does.
    Render(Render),
    /// Wait for SIGTERM or SIGINT, then end.
    Hold,
    /// Remove host-local's leases of sandboxes that are gone.
    RemoveLeases(RemoveLeases),
}

/// Arguments of `remove-file`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveFile {
    /// Where the host's `/` is mounted, or only the file's directory at its place below
    #[arg(long, value_name = "DIR")]
    pub(super) host_root: PathBuf,
    /// Only if the file still contains this; otherwise it is left alone
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) containing: Option<String>,
    /// The file, as the host names it
    #[arg(value_name = "PATH", value_parser = host_path)]
    pub(super) path: PathBuf,
}

/// Arguments of `remove-link`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveLink {
    /// The device
    #[arg(value_name = "NAME", value_parser = device)]
    pub(super) name: String,
    /// Only if the device still has this address, or one of several; otherwise it is left alone
    #[arg(long, value_name = "CIDR")]
    pub(super) address: Vec<IpNet>,
    /// Even if it is a bridge that has ports: pods may hang on them
    #[arg(long)]
    pub(super) with_ports: bool,
}

/// Arguments of `remove-route`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveRoute {
    /// Only the route by this next hop
    #[arg(long, value_name = "ADDRESS", required_unless_present = "kind")]
    pub(super) via: Option<IpAddr>,
    /// Only the route of this type, which has no next hop
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "via")]
    pub(super) kind: Option<Dropping>,
    /// Where the route leads
    #[arg(value_name = "CIDR", value_parser = prefix)]
    pub(super) prefix: IpNet,
}

/// Types of routes that lead nowhere, as iproute2 calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Dropping {
    /// Drops silently.
    Blackhole,
    /// Answers that the host is unreachable.
    Unreachable,
    /// Answers that it is forbidden.
    Prohibit,
    /// Ends the look-up in this table.
    Throw,
}

impl std::fmt::Display for Dropping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
            Self::Throw => "throw",
        })
    }
}

/// Arguments of `render`.
#[derive(Debug, clap::Args)]
pub(super) struct Render {
    /// The runtime's socket, as the host names it, such as unix:///run/containerd/containerd.sock
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub(super) endpoint: PathBuf,
    /// Where the host's `/` is mounted, or only the directories of socket and file at their places below
    #[arg(long, value_name = "DIR")]
    pub(super) host_root: PathBuf,
    /// What containerd renders, as the host names it
    #[arg(long, value_name = "PATH", value_parser = host_path, default_value = "/etc/cni/net.d/10-containerd-net.conflist")]
    pub(super) path: PathBuf,
    /// The node's pod CIDR, or both, IPv4 and IPv6, in the Node's order
    #[arg(long, value_name = "CIDR", value_parser = prefix, required = true)]
    pub(super) pod_cidr: Vec<IpNet>,
    /// How long to try, at most 10m
    #[arg(long, value_name = "DURATION", value_parser = timeout, default_value = "30s")]
    pub(super) timeout: Duration,
}

/// Arguments of `remove-leases`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveLeases {
    /// Where the host's `/` is mounted, or only the leases' directory at its place below
    #[arg(long, value_name = "DIR")]
    pub(super) host_root: PathBuf,
    /// host-local's directory of one network, as the host names it
    #[arg(long, value_name = "DIR", value_parser = host_path)]
    pub(super) directory: PathBuf,
    /// Addresses, each with the container whose lease it must still be; otherwise it is left alone
    #[arg(value_name = "ADDRESS=CONTAINER", value_parser = held, required = true)]
    pub(super) leases: Vec<Held>,
}

/// An address and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The address.
    pub(super) address: IpAddr,
    /// The id of the container, which for Kubernetes is the sandbox's.
    pub(super) container: String,
}

/// What the words of a command line say. The error is clap's: it has the text and the exit code.
pub(super) fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(words)?;
    if let Errand::Render(render) = &cli.errand
        && let Some(why) = no_pair(&render.pod_cidr)
    {
        return Err(Cli::command().error(ErrorKind::ValueValidation, why));
    }
    Ok(cli)
}

/// Why these are no Node's pod CIDRs: it has one a family.
fn no_pair(cidrs: &[IpNet]) -> Option<&'static str> {
    let ipv4 = cidrs.iter().filter(|cidr| cidr.addr().is_ipv4()).count();
    (ipv4 > 1 || cidrs.len() - ipv4 > 1).then_some("--pod-cidr: a Node has one a family, IPv4 and IPv6")
}

/// A path that leads nowhere but down, to something that has a name.
fn host_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err("it must begin with /: it is the host's own path".to_owned());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("it must not contain ..".to_owned());
    }
    if path.file_name().is_none() {
        return Err("it is the root directory".to_owned());
    }
    Ok(path.to_owned())
}

fn endpoint(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    host_path(path).map_err(|_| "it is no unix socket; unix:///run/containerd/containerd.sock is one".to_owned())
}

/// What the kernel takes for a device's name (`dev_valid_name`).
fn device(text: &str) -> Result<String, String> {
    let strange = |letter: char| letter == '/' || letter == ':' || letter.is_whitespace();
    if text.is_empty() || text.len() > NAME_LIMIT || text == "." || text == ".." || text.contains(strange) {
        return Err("no device can have this name".to_owned());
    }
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| "it is not a prefix; 10.244.1.0/24 is one".to_owned())?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("it has host bits set; {} is meant?", net.trunc()))
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; \"30s\" is one"))?;
    let duration = Duration::try_from(signed).map_err(|_| "a duration cannot be negative".to_owned())?;
    if duration.is_zero() || duration > LONGEST {
        return Err(format!("it must be more than 0 s and at most {} s", LONGEST.as_secs()));
    }
    Ok(duration)
}

fn held(text: &str) -> Result<Held, String> {
    let wanted = || "it is not ADDRESS=CONTAINER, such as 10.244.1.7=3f2ab1".to_owned();
    let (address, container) = text.split_once('=').ok_or_else(wanted)?;
    let address = address.parse().map_err(|_| wanted())?;
    if !is_id(container) {
        return Err(wanted());
    }
    Ok(Held {
        address,
        container: container.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(line: &str) -> String {
        let words = ["cidrift-errand"].into_iter().chain(line.split(' '));
        let error = parse(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn paths_lead_down_from_the_hosts_root() {
        for (path, why) in [
            ("etc/cni/net.d/x.conf", "must begin with /"),
            ("/etc/cni/../shadow", "must not contain .."),
            ("/..", "must not contain .."),
            ("/", "is the root directory"),
        ] {
            let told = wrong(&format!("remove-file --host-root /host {path}"));
            assert!(told.contains(why), "{path}: {told}");
        }
    }

    #[test]
    fn what_is_said_of_a_dual_stack_node_is_taken_in_its_order() {
        let line = "cidrift-errand render --endpoint unix:///s --host-root /host --pod-cidr fd00:1::/64 --pod-cidr 10.244.1.0/24";
        let Errand::Render(render) = parse(line.split(' ')).unwrap().errand else {
            panic!("it was told to render")
        };
        let cidrs: Vec<String> = render.pod_cidr.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["fd00:1::/64", "10.244.1.0/24"]);
        assert_eq!(render.endpoint, Path::new("/s"));
        assert_eq!(render.path, Path::new("/etc/cni/net.d/10-containerd-net.conflist"));
        assert_eq!(render.timeout, Duration::from_secs(30));
    }

    #[test]
    fn what_cannot_be_meant_is_wrong_usage() {
        for line in [
            "remove-file --host-root /host --containing= /etc/x",
            "remove-file /etc/x",
            "remove-link a/b",
            "remove-link 0123456789abcdef",
            "remove-link cni0 --address 10.244.1.1",
            "remove-route 10.244.1.0/24",
            "remove-route --type unicast 10.244.1.0/24",
            "remove-route --type blackhole --via 172.30.0.12 10.244.1.0/24",
            "remove-route --type blackhole 10.244.1.7/24",
            "remove-leases --host-root /host --directory /var/lib/cni/networks/x",
            "remove-leases --host-root /host --directory /var/lib/cni/networks/x 10.244.1.7",
            "remove-leases --host-root /host --directory /var/lib/cni/networks/x lock=a",
            "remove-leases --host-root /host --directory /var/lib/cni/networks/x 10.244.1.7=",
            "remove-leases --host-root /host --directory /var/lib/cni/networks/x 10.244.1.7=a/b",
            "render --endpoint tcp://h:1 --host-root /host --pod-cidr 10.244.1.0/24",
            "render --endpoint unix:///s --host-root /host",
            "render --endpoint unix:///s --host-root /host --pod-cidr 10.244.1.7/24",
            "render --endpoint unix:///s --host-root /host --pod-cidr 10.244.1.0/24 --pod-cidr 10.244.2.0/24",
            "render --endpoint unix:///s --host-root /host --pod-cidr fd00:1::/64 --pod-cidr fd00:2::/64",
            "render --endpoint unix:///s --host-root /host --pod-cidr 10.244.1.0/24 --timeout 0s",
            "render --endpoint unix:///s --host-root /host --pod-cidr 10.244.1.0/24 --timeout 11m",
            "hold on",
        ] {
            wrong(line);
        }
    }
}
