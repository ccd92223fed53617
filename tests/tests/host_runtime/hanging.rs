//! A runtime that is there and does nothing.

use std::time::{Duration, Instant};

use cidrift_agent::view::host::Missing;
use cidrift_lab::frozen::freeze;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{each, host, look, read, reader};

#[test]
fn a_stopped_containerd_costs_bounded_time_and_comes_back() {
    each(|version| {
        let host = host(version, "10.244.1.0/24");
        host.run_sandbox("web").unwrap();
        let mut reader = reader(&host);
        let (_, before) = look(&host, &mut reader);
        let pid = Pid::from_raw(host.containerd.pid().unwrap().cast_signed());
        freeze(pid).unwrap();
        // With the connection of before, and with a new one.
        for _ in 0..2 {
            let start = Instant::now();
            let (runtime, sandboxes) = look(&host, &mut reader);
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
            let expected = Missing::Unreadable("it did not answer within 4 s".to_owned());
            assert_eq!(runtime.value.unwrap_err(), expected);
            assert_eq!(sandboxes.value.unwrap_err(), expected);
        }
        kill(pid, Signal::SIGCONT).unwrap();
        let (_, after) = look(&host, &mut reader);
        assert!(after.same(&before), "{after:?}");
        assert_eq!(read(&host).1.len(), 1);
    });
}
