//! A full dump with everything resolved, beside a dump of the same tables that
//! only receives.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use anyhow::{Context, Result};
use cidrift_agent::observe::netlink::{self, Options};
use cidrift_agent::resolve::{Fib, Scope};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

use super::{Figure, ms, percentile, raw};
use crate::ip::Ip;
use crate::netns::Netns;
use crate::route::Route;

/// Looks of each kind, one after the other in turn, so that a busy moment of
/// the machine hits both; the median counts.
const ROUNDS: usize = 15;
/// Next hops that the routes are spread over.
const GATEWAYS: u32 = 200;

/// Measures with `routes` /24s of 10.0.0.0/8, at most 65,536.
pub fn run(routes: u32) -> Result<Vec<Figure>> {
    let (host, _peer) = host(routes)?;
    let samples = host.run(|| sample(routes))??;
    let Samples {
        mut whole,
        mut dumped,
        mut resolved,
        mut raw,
    } = samples;
    let raw = percentile(&mut raw, 0.5);
    let figure = |what: &str, samples: &mut Vec<f64>| {
        Figure::new(format!("{what}, {routes} routes"), percentile(samples, 0.5), "ms").beside(raw)
    };
    Ok(vec![
        figure("dump and resolve", &mut whole).aim_ratio(2.0),
        figure("of it the dump", &mut dumped),
        figure("of it the resolving", &mut resolved),
    ])
}

/// A host with that many routes, and what is at the other end of its cable.
fn host(routes: u32) -> Result<(Netns, Netns)> {
    let (host, peer) = (Netns::new("host")?, Netns::new("peer")?);
    let (ip, peer_ip) = (Ip::new(&host)?, Ip::new(&peer)?);
    ip.add_veth("eth0", "eth0", &peer)?;
    ip.add_addr("eth0", "172.30.0.1/16".parse()?)?;
    ip.set_up("lo")?;
    ip.set_up("eth0")?;
    peer_ip.set_up("eth0")?;
    let route = |number: u32| {
        let prefix = Ipv4Net::new(Ipv4Addr::from_bits(10 << 24 | number << 8), 24).map(IpNet::V4)?;
        let gateway = Ipv4Addr::from_bits(u32::from_be_bytes([172, 30, 1, 0]) + number % GATEWAYS);
        anyhow::Ok(Route::via(prefix, IpAddr::V4(gateway), "eth0"))
    };
    let all = (0..routes).map(route).collect::<Result<Vec<_>>>()?;
    ip.add_routes(&all)?;
    Ok((host, peer))
}

#[derive(Default)]
struct Samples {
    whole: Vec<f64>,
    dumped: Vec<f64>,
    resolved: Vec<f64>,
    raw: Vec<f64>,
}

/// In the calling thread's namespace.
fn sample(routes: u32) -> Result<Samples> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let messages = raw::dump()?;
        samples.raw.push(ms(start.elapsed()));

        let start = Instant::now();
        let kernel = runtime.block_on(netlink::dump(&Options::default()))?;
        let dumped = start.elapsed();
        let mut fib = Fib::new();
        fib.set_scope(Scope::everything());
        fib.rebuild(&kernel, Timestamp::now());
        let whole = start.elapsed();
        samples.dumped.push(ms(dumped));
        samples.resolved.push(ms(whole - dumped));
        samples.whole.push(ms(whole));

        let expected = routes as usize;
        if messages < expected || fib.len() < expected {
            let text = format!("{messages} messages and {} entries for {routes} routes", fib.len());
            return Err(io::Error::other(text).into());
        }
    }
    Ok(samples)
}
