//! Everything that a host tells besides its networking state: each part by an observer of its own, in a fixed order,
//! since some follow what others found (logs and sockets are those of the processes that run here).

mod watch;

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use super::addresses::AddressReader;
use super::cri::CriReader;
use super::logs::{LogReader, Told};
use super::metrics::MetricsReader;
use super::network_manager::NetworkManagerReader;
use super::plugins::PluginReader;
use super::process::ProcessReader;
use super::root::HostRoot;
use super::setting::SettingReader;
use super::traffic::TrafficReader;
use crate::view::{Host, Missing};

pub use self::watch::HostWatcher;

/// Looks at a host, again and again; what has not changed is not read again.
#[derive(Debug)]
pub struct HostReader {
    slow: Option<Slow>,
    cri: CriReader,
    metrics: MetricsReader,
}

/// The observers that block.
#[derive(Debug)]
struct Slow {
    processes: ProcessReader,
    addresses: AddressReader,
    plugins: PluginReader,
    logs: LogReader,
    settings: SettingReader,
    managers: NetworkManagerReader,
    traffic: TrafficReader,
}

impl HostReader {
    /// For the host whose `/` is at `root`.
    pub fn new(root: HostRoot) -> Self {
        Self {
            slow: Some(Slow {
                processes: ProcessReader::new(root.clone()),
                addresses: AddressReader::new(root.clone()),
                plugins: PluginReader::new(root.clone()),
                logs: LogReader::new(root.clone()),
                settings: SettingReader::new(root.clone()),
                managers: NetworkManagerReader::new(root.clone()),
                traffic: TrafficReader::new(),
            }),
            cri: CriReader::new(root.clone()),
            metrics: MetricsReader::new(root),
        }
    }

    /// Looks at everything once. `cni` is the CNI configuration as it is now.
    pub async fn look(&mut self, cni: &CniFacts) -> Host {
        let now = Timestamp::now();
        let Some(mut slow) = self.slow.take() else {
            return Host::default();
        };
        let config = cni.clone();
        let first = tokio::task::spawn_blocking(move || {
            let host = Host {
                processes: slow.processes.look(now),
                settings: slow.settings.look(now),
                traffic: slow.traffic.look(now),
                ..Host::default()
            };
            (slow, host)
        });
        // A reader that panicked is gone: what it would have said stays unknown.
        let Ok((mut slow, mut host)) = first.await else {
            return Host::default();
        };
        let (runtime, operations) = tokio::join!(
            self.cri.look(&host.processes, now),
            self.metrics.look(&host.processes, now)
        );
        (host.runtime, host.sandboxes) = runtime;
        host.operations = operations;
        hidden(&mut host);
        let second = tokio::task::spawn_blocking(move || {
            let given = slow.addresses.look(&config, now);
            (host.ranges, host.leases, host.results) = (given.ranges, given.leases, given.results);
            host.plugins = slow.plugins.look(&config, &host.runtime, now);
            if host.processes.get().is_some() {
                let told = slow.logs.look(&host.processes, now);
                (host.failures, host.kubelet, host.setups) = (told.failures, told.kubelet, told.setups);
            }
            host.managers = slow.managers.look(&config, now);
            (slow, host)
        });
        let Ok((slow, host)) = second.await else {
            return Host::default();
        };
        self.slow = Some(slow);
        host
    }
}

/// A runtime that answers runs somewhere: where not one program of Kubernetes is to be seen, it is that this agent sees
/// only its own processes, and not that there are none.
fn hidden(host: &mut Host) {
    let none = host
        .processes
        .get()
        .is_some_and(|all| all.iter().all(|process| process.pid == 0));
    if none && host.runtime.get().is_some() {
        let why = format!(
            "a runtime answers at {}, and none of its processes is to be seen here: run the agent with the host's pid \
             namespace, or with the host's /proc below --host-root",
            host.runtime.source
        );
        host.processes.value = Err(Missing::Unreadable(why));
    }
    // Logs are those of the processes that run here.
    if let Some(why) = host.processes.unreadable().map(str::to_owned) {
        let (at, source) = (host.processes.at, host.processes.source.clone());
        let told = Told::missing(at, &source, &Missing::Unreadable(why));
        (host.failures, host.kubelet, host.setups) = (told.failures, told.kubelet, told.setups);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Observed;
    use crate::view::host::{Process, Program, Runtime};

    fn host(processes: Vec<Process>, runtime: bool) -> Host {
        let at = Timestamp::UNIX_EPOCH;
        let mut host = Host::bare(at);
        host.processes = Observed::seen(at, "/proc", processes);
        if runtime {
            let runtime = Runtime {
                name: "containerd".into(),
                version: "2.4.2".into(),
                runtime_ready: None,
                network_ready: None,
                networks: Vec::new(),
                load_problem: None,
                template: None,
                plugin_dirs: Vec::new(),
            };
            host.runtime = Observed::seen(at, "/run/containerd/containerd.sock", runtime);
        }
        hidden(&mut host);
        host
    }

    fn process(pid: u32) -> Process {
        Process {
            program: Program::Containerd,
            embedded_in: None,
            pid,
            started_at: None,
            settings: Default::default(),
            problem: None,
        }
    }

    #[test]
    fn a_runtime_that_answers_from_nowhere_shows_that_processes_are_hidden() {
        let why = host(vec![], true).processes.unreadable().map(str::to_owned);
        assert!(why.unwrap().contains("containerd.sock"));
        // A static pod's manifest is no process.
        assert!(host(vec![process(0)], true).processes.unreadable().is_some());
    }

    #[test]
    fn processes_that_are_seen_and_a_host_without_a_runtime_are_as_they_are() {
        assert_eq!(host(vec![process(7)], true).processes.unreadable(), None);
        assert_eq!(host(vec![], false).processes.unreadable(), None);
    }
}
