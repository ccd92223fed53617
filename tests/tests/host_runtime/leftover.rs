//! Sandboxes that end without their network being taken down: host-local's file stays.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{each, host, look, read, reader};

/// The process that looks after a sandbox, by its id on the command line.
fn shim_of(id: &str) -> Pid {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_str()?.parse::<i32>().ok()
    });
    let mut shims = pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("containerd-shim-runc-v2") && line.contains(id)
    });
    Pid::from_raw(shims.next().unwrap())
}

#[test]
fn a_lease_outlives_a_sandbox_whose_shim_is_killed_and_that_is_forgotten() {
    each(|version| {
        let host = host(version, "10.244.1.0/24");
        let id = host.run_sandbox("web").unwrap();
        let mut reader = reader(&host);
        let before = look(&host, &mut reader).1.value.unwrap();
        let lease = host.leases("bench").join(before[0].addresses[0].to_string());
        assert!(fs::read_to_string(&lease).unwrap().starts_with(&id));

        // The shim dies as the machine's memory runs out: the sandbox is not ready any more, its lease is there.
        kill(shim_of(&id), Signal::SIGKILL).unwrap();
        let ended = host.wait("the sandbox is not ready", Duration::from_secs(20), || {
            let sandboxes = look(&host, &mut reader).1.value.unwrap();
            Ok(sandboxes.into_iter().find(|sandbox| !sandbox.ready))
        });
        let ended = ended.unwrap();
        assert_eq!(
            (ended.id.as_str(), &ended.addresses),
            (id.as_str(), &before[0].addresses)
        );
        assert!(lease.exists());

        // And then what containerd knows of it is lost, as when somebody cleans up by hand.
        host.containerd.stop().unwrap();
        for state in [
            "var/lib/containerd/io.containerd.metadata.v1.bolt",
            "var/lib/containerd/io.containerd.grpc.v1.cri",
        ] {
            let _ = fs::remove_dir_all(host.root().join(state));
        }
        host.containerd.start_again().unwrap();
        host.wait_network_ready(true).unwrap();
        assert_eq!(read(&host).1, []);
        assert!(fs::read_to_string(&lease).unwrap().starts_with(&id));
    });
}
