//! Everything that a host tells besides its networking state: each part by an observer of its own, in a fixed order,
//! since some follow what others found (logs and sockets are those of the processes that run here).

mod watch;

use cidrift_proto::facts::CniFacts;
use jiff::Timestamp;

use super::addresses::AddressReader;
use super::cri::CriReader;
use super::logs::LogReader;
use super::network_manager::NetworkManagerReader;
use super::plugins::PluginReader;
use super::process::ProcessReader;
use super::root::HostRoot;
use super::setting::SettingReader;
use crate::view::Host;

pub use self::watch::HostWatcher;

/// Looks at a host, again and again; what has not changed is not read again.
#[derive(Debug)]
pub struct HostReader {
    slow: Option<Slow>,
    cri: CriReader,
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
            }),
            cri: CriReader::new(root),
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
                ..Host::default()
            };
            (slow, host)
        });
        // A reader that panicked is gone: what it would have said stays unknown.
        let Ok((mut slow, mut host)) = first.await else {
            return Host::default();
        };
        (host.runtime, host.sandboxes) = self.cri.look(&host.processes, now).await;
        let second = tokio::task::spawn_blocking(move || {
            let given = slow.addresses.look(&config, now);
            (host.ranges, host.leases, host.results) = (given.ranges, given.leases, given.results);
            host.plugins = slow.plugins.look(&config, &host.runtime, now);
            (host.failures, host.kubelet) = slow.logs.look(&host.processes, now);
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
