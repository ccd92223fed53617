//! Who reaches whom, measured: from a pod of every host to a pod of every other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use crate::ip::Error;
use crate::ping::ping;
use crate::topology::{Host, Topology};

/// The direct way from pod to pod has two routers, so a packet that may make
/// three hops arrives; one that takes a detour over a third host does not.
const DIRECT: u32 = 3;

/// The answers, by source and destination host; `None`: no answer.
pub type Reach = BTreeMap<(String, String), Option<Duration>>;

/// Pings from the first pod of every host to the first of every other, all at
/// once; IPv6 too where there is some, and then both must answer.
pub fn measure(topology: &Topology) -> Result<Reach, Error> {
    thread::scope(|scope| {
        let mut running = Vec::new();
        for from in &topology.hosts {
            for to in topology.hosts.iter().filter(|to| to.identity != from.identity) {
                let pinger = scope.spawn(move || pair(from, to));
                running.push(((from.identity.name.clone(), to.identity.name.clone()), pinger));
            }
        }
        running
            .into_iter()
            .map(|(names, pinger)| {
                let answer = pinger.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok((names, answer))
            })
            .collect()
    })
}

/// The pairs that did not answer.
pub fn silent(reach: &Reach) -> Vec<(String, String)> {
    let silent = reach.iter().filter(|(_, answer)| answer.is_none());
    silent.map(|(pair, _)| pair.clone()).collect()
}

/// "h1->h2, h2->h1", or "nowhere".
pub fn pairs(pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return "nowhere".to_owned();
    }
    let pairs: Vec<String> = pairs.iter().map(|(from, to)| format!("{from}->{to}")).collect();
    pairs.join(", ")
}

/// The slowest answer of all families, or `None` where one is missing.
fn pair(from: &Host, to: &Host) -> Result<Option<Duration>, Error> {
    let (Some(source), Some(target)) = (from.pods.first(), to.pods.first()) else {
        return Ok(None);
    };
    let mut slowest = Duration::ZERO;
    for &address in &target.addresses {
        let answer = ping(&source.netns, address, DIRECT).map_err(|error| failed(&source.name, address, error))?;
        match answer {
            Some(time) => slowest = slowest.max(time),
            None => return Ok(None),
        }
    }
    Ok(Some(slowest))
}

fn failed(pod: &str, address: IpAddr, source: std::io::Error) -> Error {
    Error::Io {
        what: format!("{pod}: ping {address}"),
        source,
    }
}
