//! What of a cluster is still on the machine: for tests of its teardown.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::error::Result;
use crate::kubernetes::place::cgroup_mounts;

/// By what a cluster's things are known.
#[derive(Debug, Clone)]
pub struct Traces {
    directory: PathBuf,
    cgroup: String,
    /// Inodes of network namespaces, where they are known.
    namespaces: Vec<u64>,
}

impl Traces {
    /// Of a cluster and these namespaces beside its own.
    pub fn of(cluster: &Cluster, pods: &[&crate::netns::Netns]) -> Self {
        let own = cluster.nodes().iter().map(|node| node.netns());
        let all = own.chain([&cluster.plane().netns]).chain(pods.iter().copied());
        let inodes = all.filter_map(|netns| netns.file().metadata().ok().map(|metadata| metadata.ino()));
        Self {
            namespaces: inodes.collect(),
            ..Self::of_directory(cluster.directory())
        }
    }

    /// Of a cluster of which only its directory is known.
    pub fn of_directory(directory: &Path) -> Self {
        let id = directory.file_name().unwrap_or_default().to_string_lossy();
        Self {
            directory: directory.to_owned(),
            cgroup: format!("cidrift-{id}"),
            namespaces: Vec::new(),
        }
    }

    /// Processes that were started for it, are below its cgroup, see its
    /// mounts or are in its namespaces; a line each.
    pub fn processes(&self) -> Vec<String> {
        let own = std::process::id().to_string();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && *name != own)
            .filter_map(|pid| self.why(&pid).map(|why| format!("process {pid}: {why}")))
            .collect()
    }

    /// Cgroups that are still there.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        let paths = cgroup_mounts()?.into_iter().map(|mount| mount.join(&self.cgroup));
        Ok(paths.filter(|path| path.exists()).collect())
    }

    /// Waits until no process is left; returns those that are.
    pub fn wait_processes(&self, patience: Duration) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() || start.elapsed() >= patience {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn why(&self, pid: &str) -> Option<String> {
        let process = Path::new("/proc").join(pid);
        // What cannot be read any more has ended in the meantime.
        let text = |name: &str| {
            let bytes = fs::read(process.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let directory = self.directory.to_string_lossy();
        if text("cmdline").contains(&*directory) {
            return Some(format!("command line {}", text("cmdline")));
        }
        if text("cgroup").contains(&self.cgroup) {
            return Some(format!("cgroup, {}", text("cmdline")));
        }
        if let Some(line) = text("mountinfo").lines().find(|line| line.contains(&*directory)) {
            return Some(format!("mount {line}, {}", text("cmdline")));
        }
        let inode = fs::metadata(process.join("ns/net")).ok()?.ino();
        self.namespaces
            .contains(&inode)
            .then(|| format!("network namespace {inode}"))
    }
}
