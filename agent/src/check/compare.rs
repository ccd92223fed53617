//! What was compared with what: one row a witness.

use std::net::IpAddr;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{Agrees, Compared};
use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::{Input, Judged, Lookup, Ranges, list, model};
use crate::view::host::{Process, Program};
use crate::view::{Link, Missing, Observed};

/// Addresses that are named; of more, only how many there are is said.
const NAMED: usize = 3;

/// All witnesses, the Node first.
pub fn rows(input: &Input<'_>, judged: &Judged) -> Vec<Compared> {
    let mut table = Table {
        judged,
        rows: Vec::new(),
    };
    node(input, &mut table);
    files(input, &mut table);
    devices(input, &mut table);
    routes(input, &mut table);
    kubelet(input, &mut table);
    pods(input, &mut table);
    record(input, &mut table);
    table.rows
}

struct Table<'a> {
    judged: &'a Judged,
    rows: Vec<Compared>,
}

impl Table<'_> {
    fn add(&mut self, what: &str, value: String, source: &str, agrees: Agrees) {
        self.rows.push(Compared {
            what: what.to_owned(),
            value,
            source: source.to_owned(),
            agrees,
        });
    }

    /// What `code` says of the witness that `is_it` picks out of its rows.
    fn agrees(&self, code: Code, is_it: impl Fn(&cidrift_proto::finding::Affected) -> bool) -> Agrees {
        let mut affected = self
            .judged
            .claims
            .iter()
            .filter(|claim| claim.code == code)
            .flat_map(|claim| &claim.affected);
        if affected.any(is_it) {
            Agrees::No
        } else if self.judged.unjudged.iter().any(|row| row.code == code) {
            Agrees::Unknown
        } else {
            Agrees::Yes
        }
    }
}

fn node(input: &Input<'_>, table: &mut Table<'_>) {
    match input.expectation {
        None => table.add("podCIDRs", "unknown".to_owned(), "", Agrees::Unknown),
        Some(told) if !told.node_known => {
            table.add("podCIDRs", "no such Node".to_owned(), &told.source, Agrees::Unknown)
        }
        Some(told) if told.pod_cidrs.is_empty() => {
            table.add("podCIDRs", "none".to_owned(), &told.source, Agrees::Unknown)
        }
        Some(told) => table.add("podCIDRs", list(&told.pod_cidrs), &told.source, Agrees::Nothing),
    }
}

fn files(input: &Input<'_>, table: &mut Table<'_>) {
    let cni = input.cni;
    let ranges = model(cni).map(|model| model.ranges);
    match &cni.chosen {
        None => table.add("CNI config", "unknown".to_owned(), &cni.directory, Agrees::Unknown),
        Some(config) => {
            let plugin = config.plugins.first().map_or("?", String::as_str);
            let ipam = config.ipam.as_ref().map(|ipam| format!(", {ipam}")).unwrap_or_default();
            let named = if config.ranges.is_empty() {
                String::new()
            } else {
                format!(": {}", list(&config.ranges))
            };
            let agrees = match ranges {
                // flannel's file names no range: subnet.env does.
                Ok(Ranges::SubnetEnv) => Agrees::Nothing,
                _ => table.agrees(Code::Host01, |row| row.detail.contains(&config.path)),
            };
            table.add("CNI config", format!("{plugin}{ipam}{named}"), &config.path, agrees);
        }
    }
    if ranges == Ok(Ranges::SubnetEnv) {
        match &cni.flannel {
            None => table.add(
                "subnet.env",
                "unknown".to_owned(),
                "/run/flannel/subnet.env",
                Agrees::Unknown,
            ),
            Some(env) => {
                let agrees = table.agrees(Code::Host01, |row| row.detail.contains(&env.path));
                table.add("subnet.env", list(&env.subnets), &env.path, agrees);
            }
        }
    }
}

fn devices(input: &Input<'_>, table: &mut Table<'_>) {
    let Ok(model) = model(input.cni) else { return };
    let links = || input.kernel.links.values();
    if let Some(name) = model.delivery.device() {
        match links().find(|link| link.name == name) {
            Some(link) => device("bridge", link, table),
            None if input.kernel_gaps.is_empty() => {
                table.add(
                    &format!("bridge {name}"),
                    "not there yet".to_owned(),
                    "kernel",
                    Agrees::Nothing,
                );
            }
            None => table.add(
                &format!("bridge {name}"),
                "unknown".to_owned(),
                "kernel",
                Agrees::Unknown,
            ),
        }
    }
    if model.is_flannel() {
        for link in links().filter(|link| link.name.starts_with("flannel.") || link.name.starts_with("flannel-")) {
            device("tunnel", link, table);
        }
    }
}

fn device(what: &str, link: &Link, table: &mut Table<'_>) {
    let nets: Vec<_> = link.addresses.iter().map(|address| address.net).collect();
    let value = match (nets.is_empty(), link.up) {
        (true, _) => "no address".to_owned(),
        (false, true) => list(&nets),
        (false, false) => format!("{} (down)", list(&nets)),
    };
    let prefix = format!("{} has ", link.name);
    let agrees = table.agrees(Code::Host02, |row| row.detail.starts_with(&prefix));
    table.add(&format!("{what} {}", link.name), value, "kernel", agrees);
}

fn routes(input: &Input<'_>, table: &mut Table<'_>) {
    let Some(told) = input.expectation else { return };
    for cidr in &told.pod_cidrs {
        let what = format!("to {cidr}");
        let agrees = table.agrees(Code::Host04, |row| {
            row.prefix.is_some_and(|prefix| cidr.contains(&prefix))
        });
        let coverage = Lookup::coverage(input.lookup, *cidr).filter(|_| input.kernel_gaps.is_empty());
        match coverage.map(|coverage| (coverage.base, coverage.specifics.len())) {
            None => table.add(&what, "unknown".to_owned(), "kernel", Agrees::Unknown),
            Some((None, parts)) => table.add(&what, format!("{parts} routes for its parts"), "kernel", agrees),
            Some((Some(base), _)) => {
                // Nothing is wrong with a CIDR that has no bridge yet, but where its packets
                // go meanwhile is no agreement.
                let agrees = match (agrees, &base.landing) {
                    (Agrees::Yes, Landing::Host { .. } | Landing::Local { .. } | Landing::Onlink { .. }) => Agrees::Yes,
                    (Agrees::Yes, _) => Agrees::Nothing,
                    (other, _) => other,
                };
                table.add(&what, base.landing.to_string(), "kernel", agrees);
            }
        }
    }
}

/// A witness that could not be asked; one that does not exist has no row.
fn unknown<T>(what: &str, observed: &Observed<T>, table: &mut Table<'_>) {
    match &observed.value {
        Ok(_) | Err(Missing::Absent(_)) => {}
        Err(Missing::NotYet) => table.add(what, "not looked at yet".to_owned(), &observed.source, Agrees::Unknown),
        Err(Missing::Unreadable(why)) => table.add(what, format!("unknown: {why}"), &observed.source, Agrees::Unknown),
    }
}

fn kubelet(input: &Input<'_>, table: &mut Table<'_>) {
    let observed = &input.host.kubelet;
    let runs = |process: &Process| process.program == Program::Kubelet && process.pid != 0;
    let told = match &observed.value {
        Ok(told) => told,
        // A kubelet runs and does not show it: its log was rotated away, or there is none.
        Err(Missing::Absent(why)) if input.host.processes.get().is_some_and(|all| all.iter().any(runs)) => {
            return table.add("kubelet", format!("unknown: {why}"), &observed.source, Agrees::Unknown);
        }
        Err(_) => return unknown("kubelet", observed, table),
    };
    let mut cidrs = told.cidrs.clone();
    cidrs.sort();
    let wanted = input
        .expectation
        .filter(|expected| expected.node_known)
        .map(|expected| {
            let mut wanted = expected.pod_cidrs.clone();
            wanted.sort();
            wanted
        });
    let agrees = match (wanted, table.agrees(Code::Host08, |_| true)) {
        (Some(wanted), _) if wanted == cidrs => Agrees::Yes,
        // It differs, and may be about to follow.
        (Some(_), Agrees::Yes) | (None, _) => Agrees::Unknown,
        (Some(_), other) => other,
    };
    table.add("kubelet", list(&told.cidrs), &observed.source, agrees);
}

/// The addresses of running pods.
fn pods(input: &Input<'_>, table: &mut Table<'_>) {
    let observed = &input.host.sandboxes;
    let Some(sandboxes) = observed.get() else {
        return unknown("running pods", observed, table);
    };
    let running = sandboxes.iter().filter(|pod| pod.ready && !pod.host_network);
    let addresses: Vec<IpAddr> = running.flat_map(|pod| pod.addresses.iter().copied()).collect();
    let agrees = match (addresses.is_empty(), model(input.cni)) {
        (true, _) | (_, Err(_)) => Agrees::Nothing,
        (false, Ok(_)) => table.agrees(Code::Host03, |_| true),
    };
    table.add("running pods", inside(input, &addresses), &observed.source, agrees);
}

/// What the CNI itself has written down: the addresses that host-local has given out.
fn record(input: &Input<'_>, table: &mut Table<'_>) {
    let observed = &input.host.leases;
    let Some(leases) = observed.get() else {
        return unknown("CNI's record", observed, table);
    };
    let Some(network) = input.cni.chosen.as_ref().map(|config| config.network.as_str()) else {
        let why = "unknown: no CNI configuration names its network".to_owned();
        return table.add("CNI's record", why, &observed.source, Agrees::Unknown);
    };
    let leases = leases.iter().filter(|lease| lease.network == network);
    let addresses: Vec<IpAddr> = leases.map(|lease| lease.address).collect();
    let agrees = match (
        addresses.is_empty(),
        model(input.cni),
        foreign(input, &addresses).is_empty(),
    ) {
        (true, _, _) | (_, Err(_), _) => Agrees::Nothing,
        (false, Ok(_), true) => Agrees::Yes,
        // A lease may outlive its pod: whether it counts is for the rules to say.
        (false, Ok(_), false) => match table.agrees(Code::Host03, |_| true) {
            Agrees::Yes => Agrees::Nothing,
            other => other,
        },
    };
    table.add("CNI's record", inside(input, &addresses), &observed.source, agrees);
}

/// The addresses that none of the Node's CIDRs of their family holds, where it has one of that family.
fn foreign(input: &Input<'_>, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let cidrs: &[IpNet] = input.expectation.map_or(&[], |told| &told.pod_cidrs);
    let of_family = |address: &IpAddr| cidrs.iter().any(|cidr| cidr.addr().is_ipv4() == address.is_ipv4());
    let outside = |address: &IpAddr| !cidrs.iter().any(|cidr| cidr.contains(address));
    let found = addresses
        .iter()
        .filter(|address| of_family(address) && outside(address));
    found.copied().collect()
}

/// "14 addresses, 2 outside: 10.244.7.5, 10.244.7.6".
fn inside(input: &Input<'_>, addresses: &[IpAddr]) -> String {
    let total = match addresses.len() {
        0 => return "none".to_owned(),
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let foreign = foreign(input, addresses);
    if foreign.is_empty() {
        return match addresses.len() <= NAMED {
            true => list(addresses),
            false => total,
        };
    }
    let named = list(&foreign[..foreign.len().min(NAMED)]);
    let more = if foreign.len() > NAMED { ", …" } else { "" };
    format!("{total}, {} outside: {named}{more}", foreign.len())
}
