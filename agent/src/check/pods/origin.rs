//! Where the address of a pod came from, as far as records of it are left.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cidrift_proto::finding::Evidence;

use crate::check::{Case, Ranges, list};
use crate::view::Host;
use crate::view::host::{CachedResult, Lease, Sandbox};

/// Where an address came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A range that the CNI's files still name.
    HandedOut,
    /// A CNI network of another name than the present one.
    Network(String),
    /// A range that the configuration named then, and does not now; or the file was written since.
    FormerConfig,
    /// From before the Node's present podCIDR, as far as is known.
    FormerCidr,
    /// From after it, and nothing tells why.
    Unknown,
}

/// What CNI leaves on the host of the pods that it set up.
pub(super) struct Records<'a> {
    host: &'a Host,
}

impl<'a> Records<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self { host }
    }

    fn result(&self, sandbox: &Sandbox, address: IpAddr) -> Option<&'a CachedResult> {
        self.host
            .results
            .get()?
            .iter()
            .find(|result| result.container == sandbox.id && result.addresses.iter().any(|net| net.addr() == address))
    }

    fn lease(&self, sandbox: &Sandbox, address: IpAddr) -> Option<&'a Lease> {
        let mut leases = self.host.leases.get()?.iter();
        leases.find(|lease| lease.container == sandbox.id && lease.address == address)
    }

    /// Whether the present network gave it.
    pub(super) fn given_by(&self, case: &Case<'_>, sandbox: &Sandbox, address: IpAddr) -> bool {
        let present = |network: &String| Some(network) == case.input.cni.chosen.as_ref().map(|config| &config.network);
        self.result(sandbox, address)
            .is_some_and(|result| present(&result.network))
            || self
                .lease(sandbox, address)
                .is_some_and(|lease| present(&lease.network))
    }

    /// Every address on record, with who has it.
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, String)> + 'a {
        let host = self.host;
        let results = host.results.get().into_iter().flatten().flat_map(move |result| {
            let pod = result.pod.as_deref().unwrap_or(&result.container);
            let of = format!("{pod} in {}", host.results.source);
            result.addresses.iter().map(move |net| (net.addr(), of.clone()))
        });
        let leases = host
            .leases
            .get()
            .into_iter()
            .flatten()
            .map(move |lease| (lease.address, format!("{} in {}", lease.container, host.leases.source)));
        results.chain(leases)
    }

    pub(super) fn evidence(&self, case: &Case<'_>, sandbox: &Sandbox, address: IpAddr) -> Vec<Evidence> {
        let mut rows = Vec::new();
        if let Some(result) = self.result(sandbox, address) {
            let ranges = match result.ranges.as_slice() {
                [] => String::new(),
                ranges => format!(", of the ranges {}", list(ranges)),
            };
            let at = result.made_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            let text = format!("{}: network {} gave {address}{at}{ranges}", sandbox.pod, result.network);
            rows.push(case.input.observed_evidence(&self.host.results, text));
        }
        if let Some(lease) = self.lease(sandbox, address) {
            let at = lease.given_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            let text = format!("{}/{address}: given{at} to {}", lease.network, sandbox.pod);
            rows.push(case.input.observed_evidence(&self.host.leases, text));
        }
        rows
    }

    /// Records that are there and could not be read.
    pub(super) fn unseen(&self) -> Vec<String> {
        let results = self
            .host
            .results
            .unreadable()
            .map(|why| format!("{}: {why}", self.host.results.source));
        let leases = self
            .host
            .leases
            .unreadable()
            .map(|why| format!("{}: {why}", self.host.leases.source));
        results.into_iter().chain(leases).collect()
    }
}

/// Pods may ask Multus for another network in place of the default one.
pub(super) fn behind_multus(case: &Case<'_>) -> bool {
    let by = case
        .input
        .cni
        .chosen
        .as_ref()
        .and_then(|config| config.generated_by.as_deref());
    by.is_some_and(|by| by.starts_with("delegate of Multus"))
}

/// Where this address came from; the surest witness first.
pub(super) fn of(case: &Case<'_>, records: &Records<'_>, sandbox: &Sandbox, address: IpAddr) -> Origin {
    let cni = case.input.cni;
    let named = match case.model.ranges {
        Ranges::Config => cni.chosen.as_ref().map_or(&[][..], |config| &config.ranges),
        Ranges::SubnetEnv => cni.flannel.as_ref().map_or(&[][..], |env| &env.subnets),
        Ranges::Node | Ranges::Agent => &[],
    };
    if named.iter().any(|range| range.contains(&address)) {
        return Origin::HandedOut;
    }
    let result = records.result(sandbox, address);
    let network = result.map(|result| &result.network);
    let network = network.or_else(|| records.lease(sandbox, address).map(|lease| &lease.network));
    let present = cni.chosen.as_ref().map(|config| &config.network);
    if let Some(network) = network.filter(|network| Some(*network) != present) {
        return Origin::Network(network.clone());
    }
    let named_then = result.is_some_and(|result| result.ranges.iter().any(|range| range.contains(&address)));
    let written = cni.chosen.as_ref().and_then(|config| config.modified_at);
    let before =
        |then: Option<jiff::Timestamp>| matches!((sandbox.created_at, then), (Some(made), Some(then)) if made < then);
    if named_then || (case.model.ranges == Ranges::Config && before(written)) {
        return Origin::FormerConfig;
    }
    let since = case.expectation.since;
    if since.is_none() || sandbox.created_at.is_none() || before(since) {
        return Origin::FormerCidr;
    }
    Origin::Unknown
}

/// A sentence for each origin that there is.
pub(super) fn causes<'a>(case: &Case<'_>, origins: impl Iterator<Item = &'a Origin>) -> String {
    let origins: BTreeSet<&Origin> = origins.collect();
    let several = origins.len() > 1;
    let sentence = |origin: &&Origin| {
        let they = if several { "Some" } else { "They" };
        match origin {
            Origin::HandedOut => format!(
                "{they} have addresses of a range that {} still names (HOST01): pods that start now get such addresses too.",
                file(case).unwrap_or("the CNI's configuration")
            ),
            Origin::Network(network) => format!(
                "{they} got their addresses from the CNI network {network:?}: another configuration came first then."
            ),
            Origin::FormerConfig => format!(
                "{they} started under an earlier CNI configuration. A sandbox keeps the address that it was given."
            ),
            Origin::FormerCidr => format!(
                "{they} may be older than the Node's present podCIDR (POOL12). A sandbox keeps the address that it was given."
            ),
            Origin::Unknown => format!(
                "{they} started when the Node had its present podCIDR already, and no file names such a range now: what gave \
                 out their addresses has been mended or removed since."
            ),
        }
    };
    origins.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

fn file<'a>(case: &Case<'a>) -> Option<&'a str> {
    let cni = case.input.cni;
    match case.model.ranges {
        Ranges::SubnetEnv => cni.flannel.as_ref().map(|env| env.path.as_str()),
        _ => cni.chosen.as_ref().map(|config| config.path.as_str()),
    }
}

/// What the CNI's file names now.
pub(super) fn file_evidence(case: &Case<'_>) -> Option<Evidence> {
    let cni = case.input.cni;
    let text = match case.model.ranges {
        Ranges::Config => format!("host-local ranges {}", list(&cni.chosen.as_ref()?.ranges)),
        Ranges::SubnetEnv => format!("FLANNEL_SUBNET {}", list(&cni.flannel.as_ref()?.subnets)),
        Ranges::Node | Ranges::Agent => return None,
    };
    Some(case.input.file_evidence(file(case)?, text))
}
