//! Programs of Kubernetes that run in this host's network namespace, by procfs, and static pod manifests.
//!
//! Only this agent's own network namespace counts: the kubelet of a nested node (kind, a test cluster) is not this
//! host's. A host on which no such program runs has an empty list; it is `Unreadable` where the host's processes
//! cannot be seen at all, and never `Absent`.
//!
//! A look costs one listing of `/proc` and, for each program that was found, one `stat` and the state of the files
//! that it was told by. All else is read only of processes that are new, and of the others once a minute.

mod config;
mod flags;
mod found;
mod k3s;
mod kubelite;
mod manifest;
mod procfs;
mod rancher;
mod recognise;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod told;
mod unit;

use std::path::PathBuf;

use jiff::Timestamp;

use self::found::Table;
use self::procfs::{Net, Procfs};
use self::sources::Sources;
use super::root::HostRoot;
use crate::view::host::{Process, Program};
use crate::view::{Missing, Observed};

/// Where processes are read, in the host's own terms.
const SOURCE: &str = "/proc";

/// Finds and reads them.
#[derive(Debug)]
pub struct ProcessReader {
    root: HostRoot,
    procfs: Procfs,
    table: Table,
    manifests: Manifests,
}

/// Static pods, as their directories had them when they were last read.
#[derive(Debug, Default)]
struct Manifests {
    directories: Vec<PathBuf>,
    processes: Vec<Process>,
    problems: Vec<String>,
    sources: Sources,
}

impl ProcessReader {
    /// On the host whose `/` is at `root`: by the procfs at its `/proc`, or by this agent's own where it has none.
    pub fn new(root: HostRoot) -> Self {
        let procfs = Procfs::of(&root);
        Self::on(root, procfs)
    }

    fn on(root: HostRoot, procfs: Procfs) -> Self {
        Self {
            root,
            procfs,
            table: Table::default(),
            manifests: Manifests::default(),
        }
    }

    /// Looks at all processes.
    pub fn look(&mut self, now: Timestamp) -> Observed<Vec<Process>> {
        match self.procfs.list() {
            Ok(listed) => {
                self.table.update(&self.procfs, &listed);
                Observed::seen(now, SOURCE, self.read())
            }
            Err(why) => Observed::missing(now, SOURCE, Missing::Unreadable(why)),
        }
    }

    fn read(&mut self) -> Vec<Process> {
        let mut all = Vec::new();
        for found in self.table.ours() {
            let told = match found.told.take() {
                Some(told) if told.1.unchanged() => told,
                _ => settings::read(found, &self.procfs, &self.root),
            };
            let (processes, _) = found.told.insert(told);
            let mut processes = processes.clone();
            if let Net::Hidden(why) = &found.net {
                let doubt = format!(
                    "its network namespace may not be read ({why}): whether it is this host's is not known; CAP_SYS_PTRACE lets \
                     the agent see it"
                );
                processes.iter_mut().for_each(|process| add(process, &doubt));
            }
            all.extend(processes);
        }
        rivals(&mut all);
        self.read_manifests(&mut all);
        all.sort_by(|a, b| {
            let key = |process: &Process| (process.program, process.pid, process.embedded_in);
            key(a).cmp(&key(b)).then_with(|| sources_of(a).cmp(sources_of(b)))
        });
        all
    }

    /// Adds what static pod manifests say; one that cannot be listed is its kubelet's problem.
    fn read_manifests(&mut self, all: &mut Vec<Process>) {
        let mut directories: Vec<PathBuf> = manifest::DIRECTORIES.iter().map(PathBuf::from).collect();
        let named = |process: &Process| Some(PathBuf::from(&process.settings.get("pod-manifest-path")?.value));
        directories.extend(all.iter().filter_map(named).filter(|path| path.is_absolute()));
        directories.sort();
        directories.dedup();
        let known = &self.manifests;
        if known.directories != directories || !known.sources.unchanged() {
            let mut new = Manifests {
                directories,
                ..Manifests::default()
            };
            for dir in &new.directories {
                match manifest::read(&self.root, dir, &mut new.sources) {
                    Ok(found) => new.processes.extend(found),
                    Err(why) => new.problems.push(why),
                }
            }
            self.manifests = new;
        }
        let kubelets = all.iter_mut().filter(|process| process.program == Program::Kubelet);
        for kubelet in kubelets {
            self.manifests.problems.iter().for_each(|why| add(kubelet, why));
        }
        all.extend(self.manifests.processes.iter().cloned());
    }
}

/// Of these a host has one. Two cannot be told apart from here: the rules must not take one for the other.
fn rivals(all: &mut [Process]) {
    let single = [
        Program::Kubelet,
        Program::ControllerManager,
        Program::Proxy,
        Program::Flanneld,
    ];
    for program in single {
        let mut pids: Vec<u32> = all
            .iter()
            .filter(|process| process.program == program)
            .map(|process| process.pid)
            .collect();
        pids.sort_unstable();
        if pids.len() < 2 {
            continue;
        }
        let shown: Vec<String> = pids.iter().map(u32::to_string).collect();
        let why = format!(
            "{} of them run in this network namespace (pids {}), and it does not show which is this Node's",
            pids.len(),
            shown.join(", ")
        );
        all.iter_mut()
            .filter(|process| process.program == program)
            .for_each(|process| add(process, &why));
    }
}

fn add(process: &mut Process, why: &str) {
    process.problem = Some(match process.problem.take() {
        Some(before) => format!("{before}; {why}"),
        None => why.to_owned(),
    });
}

fn sources_of(process: &Process) -> impl Iterator<Item = &str> {
    process.settings.values().map(|setting| setting.source.as_str())
}
