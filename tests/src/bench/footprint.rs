//! What a real agent costs while nothing happens, with everything that it looks at: a real containerd with a full
//! node's pods, their leases, results, logs and metrics, and thousands of routes.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::{IpNet, Ipv4Net};
use serde_json::json;

use super::Figure;
use crate::kubernetes::Containerd;
use crate::kubernetes::cni::bridge;
use crate::process::Process;
use crate::route::Route;
use crate::runtime::RuntimeHost;

/// Pods of a full node.
const PODS: usize = 250;

/// Routes, as many as a cluster of that many nodes has.
const ROUTES: usize = 5_000;

/// Sandboxes that are made at a time: each waits for its plugins mostly.
const AT_ONCE: usize = 4;

/// Until the first look at everything is through, and what it took is given back.
const REST: Duration = Duration::from_secs(25);

/// Six looks of the agent, and one whole dump of the kernel's state.
const WINDOW: Duration = Duration::from_secs(60);

/// Clock ticks a second in `/proc/PID/stat` (USER_HZ, 100 on every Linux).
const TICKS: f64 = 100.0;

const SERVER: &str = "127.0.0.1:7440";

/// Measures; `directory` is for files of the run.
pub fn run(directory: &Path) -> Result<Vec<Figure>> {
    let host = RuntimeHost::start(Containerd::Debian)?;
    serve_metrics(&host)?;
    // containerd starts anew with it.
    host.write_conflist(&bridge(&["10.244.0.0/22".parse()?]))?;
    host.wait_network_ready(true)?;
    fill(&host)?;
    let gateway: IpAddr = "10.244.0.2".parse()?;
    let range: Ipv4Net = "10.244.128.0/17".parse()?;
    let more: Vec<Route> = range
        .subnets(30)?
        .take(ROUTES)
        .map(|prefix| Route::via(IpNet::V4(prefix), gateway, "cni0"))
        .collect();
    host.ip.add_routes(&more)?;
    let (aggregator, agent) = programs(&host, directory)?;
    std::thread::sleep(REST);
    for program in [&aggregator, &agent] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", program.id()));
        if status.is_err() {
            bail!("{} has ended: {}", program.name(), program.log_tail());
        }
    }
    let (start, before) = (Instant::now(), cpu(&agent)?);
    std::thread::sleep(WINDOW);
    let share = (cpu(&agent)? - before) / start.elapsed().as_secs_f64() * 100.0;
    let label = |what: &str| format!("agent with all observers, {ROUTES} routes, {PODS} pods: {what}");
    Ok(vec![
        Figure::new(label("idle CPU of one core"), share, "%").aim_value(0.2),
        Figure::new(label("RSS"), memory(&agent, "VmRSS:")?, "MiB").aim_value(24.0),
        Figure::new(label("RSS of its own"), memory(&agent, "RssAnon:")?, "MiB"),
        Figure::new(label("highest RSS"), memory(&agent, "VmHWM:")?, "MiB"),
    ])
}

/// Has containerd serve its metrics: 13 KiB of each pod, which the agent reads once a minute.
fn serve_metrics(host: &RuntimeHost) -> Result<()> {
    let path = host.root().join("etc/containerd/config.toml");
    let mut text = std::fs::read_to_string(&path).context("read containerd's configuration")?;
    text += "[metrics]\naddress = \"127.0.0.1:1338\"\n";
    std::fs::write(&path, text).context("write containerd's configuration")
}

/// Makes the pods.
fn fill(host: &RuntimeHost) -> Result<()> {
    std::thread::scope(|scope| {
        let make = |first: usize| {
            (first..PODS).step_by(AT_ONCE).try_for_each(|at| {
                let made = host.run_sandbox(&format!("pod-{at:03}"));
                made.map(drop)
            })
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || make(first))).collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.context("make a sandbox")
        })
    })
}

/// An aggregator that knows the host's Node, and the agent.
fn programs(host: &RuntimeHost, directory: &Path) -> Result<(Process, Process)> {
    let nodes = json!({"kind": "NodeList", "apiVersion": "v1", "items": [{
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": "h1", "uid": "uid-h1", "creationTimestamp": "2026-11-01T08:00:00Z"},
        "spec": {"podCIDR": "10.244.0.0/22", "podCIDRs": ["10.244.0.0/22"]},
    }]});
    let state = directory.join("nodes.json");
    std::fs::write(&state, nodes.to_string()).context("write the Nodes")?;
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut arguments = words(&[
        "--listen",
        SERVER,
        "--http-listen",
        "127.0.0.1:7441",
        "--cluster-cidr",
        "10.244.0.0/16",
    ]);
    arguments.extend(["--cluster-state".into(), state.into_os_string()]);
    let tls = directory.join("tls");
    arguments.extend(["--tls-directory".into(), tls.clone().into_os_string()]);
    let binaries = host.binaries();
    let start = |program: &Path, arguments: &[OsString], log: &str| {
        Process::start(host.netns(), &binaries.lab, program, arguments, &directory.join(log))
    };
    let aggregator = start(&binaries.aggregator, &arguments, "aggregator.log")?;
    let mut arguments = words(&["run", "--aggregator", &format!("https://{SERVER}"), "--node-name", "h1"]);
    arguments.extend(["--ca".into(), tls.join("ca.crt").into_os_string()]);
    arguments.extend(["--host-root".into(), host.root().as_os_str().to_owned()]);
    let agent = start(&binaries.agent, &arguments, "agent.log")?;
    Ok((aggregator, agent))
}

/// Seconds of CPU that a program has used, its own and the kernel's for it.
fn cpu(program: &Process) -> Result<f64> {
    let path = format!("/proc/{}/stat", program.id());
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // Behind the name in brackets, which may hold anything, utime and stime are the 12th and 13th.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: f64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / TICKS)
}

fn memory(program: &Process, key: &str) -> Result<f64> {
    let path = format!("/proc/{}/status", program.id());
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kib: f64 = line
        .with_context(|| format!("no {key} in {path}"))?
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib / 1024.0)
}
