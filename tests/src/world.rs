//! Hosts, their files and the control plane's Nodes together: all that the
//! programs under test look at, and the one place that changes it.

use std::path::{Path, PathBuf};

use crate::host_files;
use crate::ip::Error;
use crate::snapshot::{Node, Snapshot, replace_file};
use crate::step::Step;
use crate::topology::{Plan, Topology};

/// A cluster without programs.
#[derive(Debug)]
pub struct World {
    /// The kernels.
    pub topology: Topology,
    /// The Nodes.
    pub snapshot: Snapshot,
    directory: PathBuf,
}

impl World {
    /// Builds it; files go below `directory`, which must exist.
    pub fn build(plan: Plan, directory: &Path) -> Result<Self, Error> {
        let mut world = Self {
            topology: Topology::build(plan)?,
            snapshot: Snapshot::default(),
            directory: directory.to_owned(),
        };
        let identities: Vec<_> = world.topology.hosts.iter().map(|host| host.identity.clone()).collect();
        for identity in &identities {
            world.furnish(&identity.name)?;
            for file in host_files::of(identity, plan.dataplane) {
                world.apply(&file)?;
            }
            let node = Node::of(identity, plan.dataplane, 1);
            world.snapshot.nodes.insert(node.name.clone(), node);
        }
        world.snapshot.write(&world.cluster_state())?;
        Ok(world)
    }

    /// Makes the directories that every host has: one that lacks them looks like one of which they are not mounted.
    fn furnish(&self, host: &str) -> Result<(), Error> {
        for directory in ["etc", "opt", "run", "usr", "var/lib", "var/log"] {
            let directory = self.host_path(host, directory);
            std::fs::create_dir_all(&directory).map_err(|source| Error::Io {
                what: format!("make {}", directory.display()),
                source,
            })?;
        }
        Ok(())
    }

    /// The file that stands in for the API server.
    pub fn cluster_state(&self) -> PathBuf {
        self.directory.join("nodes.yaml")
    }

    /// The directory in which the aggregator keeps its CA.
    pub fn tls(&self) -> PathBuf {
        self.directory.join("tls")
    }

    /// What agents and askers believe.
    pub fn ca(&self) -> PathBuf {
        self.tls().join("ca.crt")
    }

    /// The directory that a host's agent takes for the host's root.
    pub fn host_root(&self, host: &str) -> PathBuf {
        self.directory.join("hosts").join(host)
    }

    /// Makes one change.
    pub fn apply(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Kernel { host, verb } => verb.apply(&self.topology.host(host)?.ip),
            Step::WriteFile { host, path, text } => {
                let path = self.host_path(host, path);
                let directory = path.parent().unwrap_or(&self.directory);
                std::fs::create_dir_all(directory).map_err(|source| Error::Io {
                    what: format!("make {}", directory.display()),
                    source,
                })?;
                replace_file(&path, text)
            }
            Step::RemoveFile { host, path } => {
                let path = self.host_path(host, path);
                std::fs::remove_file(&path).map_err(|source| Error::Io {
                    what: format!("remove {}", path.display()),
                    source,
                })
            }
            Step::PutNode(node) => {
                self.snapshot.nodes.insert(node.name.clone(), node.clone());
                self.snapshot.write(&self.cluster_state())
            }
            Step::DeleteNode(name) => {
                self.snapshot.nodes.remove(name);
                self.snapshot.write(&self.cluster_state())
            }
        }
    }

    /// Makes all of them, in order.
    pub fn apply_all(&mut self, steps: &[Step]) -> Result<(), Error> {
        steps.iter().try_for_each(|step| self.apply(step))
    }

    fn host_path(&self, host: &str, path: &str) -> PathBuf {
        self.host_root(host).join(path.trim_start_matches('/'))
    }
}
