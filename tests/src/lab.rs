//! A whole lab: hosts, control plane, programs and a subscriber.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binaries::Binaries;
use crate::client;
use crate::programs::Programs;
use crate::reach::{measure, pairs, silent};
use crate::subscriber::Subscriber;
use crate::topology::Plan;
use crate::world::World;

/// How long the lab waits for anything that should come. All of it takes a few
/// seconds on an idle machine; this is for one that builds something meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Measurements of who reaches whom before a difference is believed.
const TRIES: usize = 3;
/// Between two questions to the aggregator.
const POLL: Duration = Duration::from_millis(50);

/// The lab. Dropping it ends everything.
#[derive(Debug)]
pub struct Lab {
    /// First, so that it ends before the aggregator does.
    pub subscriber: Subscriber,
    /// The programs.
    pub programs: Programs,
    /// Hosts, files, Nodes.
    pub world: World,
}

impl Lab {
    /// Builds the hosts and starts the programs; files go below `directory`.
    pub fn start(plan: Plan, binaries: Binaries, directory: &Path) -> Result<Self> {
        let world = World::build(plan, directory)?;
        let programs = Programs::start(&world, binaries, &logs(directory)).context("start the programs")?;
        let subscriber = Subscriber::start(&world.topology.underlay, world.ca()).context("start the subscriber")?;
        Ok(Self {
            subscriber,
            programs,
            world,
        })
    }

    /// Waits until the aggregator says that every agent reports, every pair is
    /// delivered, and nothing stands; then until pods really reach each other.
    pub fn wait_until_well(&mut self) -> Result<()> {
        let hosts = self.world.topology.hosts.len() as u64;
        let start = Instant::now();
        loop {
            let state = self.well(hosts);
            match state {
                Ok(()) => break,
                Err(missing) if start.elapsed() > PATIENCE => {
                    bail!("not well after {} s: {missing}", PATIENCE.as_secs())
                }
                Err(_) => {}
            }
            if let Some(fallen) = self.programs.fallen() {
                bail!("{fallen}");
            }
            std::thread::sleep(POLL);
        }
        let silent = self.pings(&[])?;
        if !silent.is_empty() {
            bail!(
                "the aggregator says that all is delivered, but pings fail from {}",
                pairs(&silent)
            );
        }
        Ok(())
    }

    /// The pairs whose pings fail, measured up to three times while they
    /// are others than `expected`: on a busy machine an answer may come too late.
    pub fn pings(&self, expected: &[(String, String)]) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for _ in 0..TRIES {
            found = silent(&measure(&self.world.topology)?);
            if found == expected {
                break;
            }
        }
        Ok(found)
    }

    /// What is missing, if anything is.
    fn well(&self, hosts: u64) -> Result<(), String> {
        let status =
            client::status(&self.world.topology.underlay, &self.world.ca()).map_err(|error| error.to_string())?;
        let standing: Vec<String> = self.subscriber.look(|board| board.standing.keys().cloned().collect());
        if u64::from(status.nodes_reporting) != hosts {
            return Err(format!("{} of {hosts} agents report", status.nodes_reporting));
        }
        // Every host to every other's CIDR at the least.
        if status.pairs < hosts * (hosts - 1) || status.delivered != status.pairs {
            return Err(format!(
                "{} of {} pairs delivered, {} broken, {} unknown; {}",
                status.delivered,
                status.pairs,
                status.broken,
                status.unknown,
                status.unknowns.join("; ")
            ));
        }
        if !self.subscriber.look(|board| board.synced) {
            return Err("the subscriber has not been told what stands".to_owned());
        }
        if !standing.is_empty() {
            return Err(format!("standing: {}", standing.join(", ")));
        }
        Ok(())
    }
}

/// Where the programs' logs are.
pub fn logs(directory: &Path) -> PathBuf {
    directory.join("logs")
}
