//! The programs under test: an aggregator on the underlay, an agent in each host.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::binaries::Binaries;
use crate::process::Process;
use crate::world::World;

/// Where the aggregator listens, on the underlay.
pub const AGGREGATOR: &str = "172.30.0.1:7440";
/// Where its HTTP side does.
pub const AGGREGATOR_HTTP: &str = "172.30.0.1:7441";

/// How patient the aggregator is told to be. Its defaults are for clusters
/// where agents and control plane take seconds; the lab's take milliseconds.
pub const PATIENCE: [(&str, &str); 3] = [("--hold", "200ms"), ("--settle", "2s"), ("--silence", "5s")];

/// All running programs.
#[derive(Debug)]
pub struct Programs {
    binaries: Binaries,
    logs: PathBuf,
    /// The aggregator.
    pub aggregator: Process,
    /// The agents, by host.
    pub agents: BTreeMap<String, Process>,
}

impl Programs {
    /// Starts them; logs go to `logs`.
    pub fn start(world: &World, binaries: Binaries, logs: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(logs)?;
        let mut programs = Self {
            aggregator: aggregator(world, &binaries, logs)?,
            agents: BTreeMap::new(),
            binaries,
            logs: logs.to_owned(),
        };
        for host in &world.topology.hosts {
            programs.start_agent(world, &host.identity.name)?;
        }
        Ok(programs)
    }

    /// Starts the aggregator anew, after [`Process::kill`].
    pub fn restart_aggregator(&mut self, world: &World) -> io::Result<()> {
        self.aggregator = aggregator(world, &self.binaries, &self.logs)?;
        Ok(())
    }

    /// Starts a host's agent.
    pub fn start_agent(&mut self, world: &World, host: &str) -> io::Result<()> {
        let netns = &world.topology.host(host).map_err(io::Error::other)?.netns;
        let arguments = [
            "run".into(),
            "--aggregator".into(),
            format!("https://{AGGREGATOR}").into(),
            "--ca".into(),
            world.ca().into_os_string(),
            "--node-name".into(),
            host.into(),
            "--host-root".into(),
            world.host_root(host).into_os_string(),
        ];
        let log = self.logs.join(format!("agent-{host}.log"));
        let agent = Process::start(netns, &self.binaries.lab, &self.binaries.agent, &arguments, &log)?;
        self.agents.insert(host.to_owned(), agent);
        Ok(())
    }

    /// A program that has ended by itself, with the end of its log.
    pub fn fallen(&mut self) -> Option<String> {
        let all = std::iter::once(&mut self.aggregator).chain(self.agents.values_mut());
        for process in all {
            if let Some(status) = process.ended() {
                return Some(format!("{} ended ({status}); {}", process.name(), process.log_tail()));
            }
        }
        None
    }
}

fn aggregator(world: &World, binaries: &Binaries, logs: &Path) -> io::Result<Process> {
    let mut arguments: Vec<OsString> = vec![
        "--listen".into(),
        AGGREGATOR.into(),
        "--http-listen".into(),
        AGGREGATOR_HTTP.into(),
        "--cluster-state".into(),
        world.cluster_state().into_os_string(),
        "--tls-directory".into(),
        world.tls().into_os_string(),
        "--cluster-cidr".into(),
        if world.topology.plan.dual_stack {
            "10.244.0.0/16,fd00:244::/48".into()
        } else {
            "10.244.0.0/16".into()
        },
        "--service-cidr".into(),
        "10.96.0.0/12".into(),
    ];
    arguments.extend(PATIENCE.iter().flat_map(|&(flag, value)| [flag.into(), value.into()]));
    let log = logs.join("aggregator.log");
    Process::start(
        &world.topology.underlay,
        &binaries.lab,
        &binaries.aggregator,
        &arguments,
        &log,
    )
}
