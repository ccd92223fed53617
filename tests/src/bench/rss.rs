//! The memory of a real agent on a host with many routes.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net};

use super::Figure;
use crate::binaries::Binaries;
use crate::client;
use crate::lab::{Lab, PATIENCE};
use crate::route::Route;
use crate::topology::{Dataplane, Plan};

/// Time for buffers of the first report to be given back.
const REST: Duration = Duration::from_secs(3);

/// Gives h1 `routes` more routes inside the pool, all of which its agent must
/// hold and report, waits until the aggregator has them and reads the agent's
/// memory.
pub fn run(binaries: Binaries, directory: &Path, routes: usize) -> Result<Vec<Figure>> {
    let plan = Plan {
        hosts: 3,
        dataplane: Dataplane::HostGw,
        dual_stack: false,
    };
    let mut lab = Lab::start(plan, binaries, directory)?;
    lab.wait_until_well()?;
    let few = memory(&lab)?;
    let gateway: IpAddr = "172.30.0.12".parse()?;
    let more: Vec<Route> = prefixes(routes)?
        .into_iter()
        .map(|prefix| Route::via(prefix, gateway, "eth0"))
        .collect();
    lab.world.topology.host("h1")?.ip.add_routes(&more)?;
    let start = Instant::now();
    while client::entries(&lab.world.topology.underlay, &lab.world.ca(), "h1")? < routes {
        if start.elapsed() > PATIENCE {
            bail!("the agent of h1 has not reported {routes} routes");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(REST);
    let many = memory(&lab)?;
    let at = |what: &str| format!("agent, {what}, {routes} routes");
    Ok(vec![
        Figure::new("agent, RSS, a few routes", few.rss, "MiB"),
        Figure::new(at("RSS"), many.rss, "MiB").aim_value(16.0),
        Figure::new(at("RSS of its own, without mapped files"), many.anonymous, "MiB"),
        Figure::new(at("highest RSS"), many.highest, "MiB"),
    ])
}

/// /29s of 10.244.16.0/20 and above: inside the pool, and nobody's.
fn prefixes(count: usize) -> Result<Vec<IpNet>> {
    let range: Ipv4Net = "10.244.0.0/16".parse()?;
    let first: Ipv4Net = "10.244.16.0/29".parse()?;
    let all: Vec<IpNet> = range
        .subnets(29)?
        .skip_while(|prefix| *prefix < first)
        .take(count)
        .map(IpNet::V4)
        .collect();
    if all.len() < count {
        bail!("{count} routes are more than the pool has room for");
    }
    Ok(all)
}

struct Memory {
    rss: f64,
    anonymous: f64,
    highest: f64,
}

fn memory(lab: &Lab) -> Result<Memory> {
    let agent = lab.programs.agents.get("h1").context("no agent in h1")?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let line = line.with_context(|| format!("no {key} in /proc/{}/status", agent.id()))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory {
        rss: mib("VmRSS:")?,
        anonymous: mib("RssAnon:")?,
        highest: mib("VmHWM:")?,
    })
}
