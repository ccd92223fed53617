//! A host with a runtime, and the agent's reader that looks at it from within.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_agent::observe::cri::CriReader;
use cidrift_agent::observe::root::HostRoot;
use cidrift_agent::view::Observed;
use cidrift_agent::view::host::{Runtime, Sandbox};
use cidrift_lab::kubernetes::Containerd;
use cidrift_lab::kubernetes::cni::bridge;
use cidrift_lab::netns::Netns;
use cidrift_lab::require::{Need, have};
use cidrift_lab::runtime::RuntimeHost;
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Builder;

/// containerd's socket on the host.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Runs a test with each version, one after the other.
pub(crate) fn each(test: impl Fn(Containerd)) {
    if !have(Need::Containerd) {
        return;
    }
    for version in [Containerd::Debian, Containerd::V2] {
        eprintln!("containerd: {version:?}");
        test(version);
    }
}

/// A host whose pods get addresses of this range.
pub(crate) fn host(version: Containerd, range: &str) -> RuntimeHost {
    let host = RuntimeHost::start(version).unwrap();
    host.write_conflist(&conflist(range)).unwrap();
    host
}

/// A bridge with host-local, as [`bridge`] makes it.
pub(crate) fn conflist(range: &str) -> Value {
    bridge(&[range.parse().unwrap()])
}

/// Looks from within the host's network namespace, as an agent does.
pub(crate) fn look(host: &RuntimeHost, reader: &mut CriReader) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
    look_in(host.netns(), reader)
}

/// Looks from within any.
pub(crate) fn look_in(netns: &Netns, reader: &mut CriReader) -> (Observed<Runtime>, Observed<Vec<Sandbox>>) {
    let look = || {
        // The connection lives in a task of this runtime: each look makes its own.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reader.look(&Observed::not_yet(), Timestamp::now()))
    };
    netns.run(look).unwrap()
}

/// A new reader of the host's runtime.
pub(crate) fn reader(host: &RuntimeHost) -> CriReader {
    CriReader::new(HostRoot::new(host.root()))
}

/// One look, whose answer must be whole.
pub(crate) fn read(host: &RuntimeHost) -> (Runtime, Vec<Sandbox>) {
    let (runtime, sandboxes) = look(host, &mut reader(host));
    assert_eq!((runtime.source.as_str(), sandboxes.source.as_str()), (SOCKET, SOCKET));
    (runtime.value.unwrap(), sandboxes.value.unwrap())
}

/// The addresses on `eth0` in a network namespace, link-local ones left out.
pub(crate) fn addresses_in(netns: &Netns) -> BTreeSet<IpAddr> {
    let all = netns
        .run(|| nix::ifaddrs::getifaddrs().unwrap().collect::<Vec<_>>())
        .unwrap();
    let on_eth0 = all.into_iter().filter(|one| one.interface_name == "eth0");
    let addresses = on_eth0.filter_map(|one| {
        let address = one.address?;
        let ipv4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses
        .filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        })
        .collect()
}

/// The ranges of what the runtime has loaded, as the agent reads it.
pub(crate) fn loaded(host: &RuntimeHost) -> Vec<String> {
    let networks = read(host).0.networks;
    let ranges = networks.iter().flat_map(|network| &network.ranges);
    ranges.map(ToString::to_string).collect()
}
