//! What CRI says of sandboxes and of the runtime's network, against what there is.

use std::path::Path;
use std::time::Duration;

use cidrift_agent::view::host::Missing;
use cidrift_lab::kubernetes::Containerd;
use cidrift_lab::kubernetes::cni::{self, bridge};
use cidrift_lab::kubernetes::leftovers::Traces;
use cidrift_lab::netns::Netns;

use crate::stage::{addresses_in, conflist, each, host, look_in, read, reader};

#[test]
fn a_sandboxs_addresses_are_those_in_its_namespace() {
    each(|version| {
        let host = host(version, "10.244.1.0/24");
        let both = ["10.244.1.0/24", "fd00:244:0:1::/64"].map(|range| range.parse().unwrap());
        host.write_conflist(&bridge(&both)).unwrap();
        let web = host.run_sandbox("web").unwrap();
        let proxy = host.try_sandbox("proxy", true).unwrap();
        let done = host.run_sandbox("done").unwrap();
        host.cri.stop(&done).unwrap();

        let (runtime, sandboxes) = read(&host);
        assert_eq!(runtime.name, "containerd");
        let expected = match version {
            Containerd::Debian => "1.6.",
            Containerd::V2 => "2.4.2",
        };
        assert!(runtime.version.contains(expected), "{}", runtime.version);
        assert!(runtime.runtime_ready.as_ref().is_some_and(|ready| ready.ok));
        assert!(runtime.network_ready.as_ref().is_some_and(|ready| ready.ok));
        assert_eq!((&runtime.load_problem, &runtime.template), (&None, &None));
        assert_eq!(runtime.plugin_dirs, ["/var/lib/cni-plugins"]);
        assert_eq!(runtime.networks.len(), 1, "{:?}", runtime.networks);
        assert_eq!(runtime.networks[0].name, "bench");
        assert_eq!(runtime.networks[0].plugins, ["bridge"]);
        assert_eq!(runtime.networks[0].ranges, both);

        let of = |id: &str| sandboxes.iter().find(|sandbox| sandbox.id == id).unwrap();
        assert_eq!(sandboxes.len(), 3);
        let inside = addresses_in(&host.sandbox_netns("web").unwrap());
        assert_eq!(inside.len(), 2, "{inside:?}");
        assert_eq!(
            of(&web)
                .addresses
                .iter()
                .copied()
                .collect::<std::collections::BTreeSet<_>>(),
            inside
        );
        assert_eq!(
            (of(&web).pod.as_str(), of(&web).uid.as_str()),
            ("default/web", "uid-web")
        );
        assert!(of(&web).ready && !of(&web).host_network);
        assert!(of(&proxy).ready && of(&proxy).host_network);
        assert_eq!(of(&proxy).addresses, [] as [std::net::IpAddr; 0]);
        assert!(!of(&done).ready);
        let age = jiff::Timestamp::now().duration_since(of(&web).created_at.unwrap());
        assert!(age.as_secs() < 60, "{age}");

        // It is made again where it is: another daemon process, the same sandboxes.
        host.containerd.kill();
        host.containerd.start_again().unwrap();
        host.wait_network_ready(true).unwrap();
        assert_eq!(read(&host).1, sandboxes);
        host.remove_sandbox(&web).unwrap();
        assert_eq!(read(&host).1.len(), 2);
    });
}

#[test]
fn a_missing_conflist_is_said_and_its_return_too() {
    each(|version| {
        let host = host(version, "10.244.1.0/24");
        assert!(read(&host).0.network_ready.unwrap().ok);
        host.delete_conflists().unwrap();
        // It has nothing once it starts anew.
        host.containerd.restart().unwrap();
        let told = host.wait_network_ready(false).unwrap();
        let (runtime, sandboxes) = read(&host);
        let network = runtime.network_ready.unwrap();
        assert!(!network.ok);
        assert_eq!(network.message, told);
        assert_eq!(network.reason, "NetworkPluginNotReady");
        assert_eq!(
            network.message,
            "Network plugin returns error: cni plugin not initialized"
        );
        assert_eq!(runtime.networks, []);
        let problem = runtime.load_problem.unwrap();
        assert!(
            problem.contains("no network config found in /etc/cni/net.d"),
            "{problem}"
        );
        assert_eq!(sandboxes, []);
        assert!(runtime.runtime_ready.unwrap().ok);

        // It comes back, and containerd sees it by itself.
        cni::write_conflist(&host.cni_directory(), cni::CONFLIST, &conflist("10.244.1.0/24")).unwrap();
        host.wait_network_ready(true).unwrap();
        let (runtime, _) = read(&host);
        assert!(runtime.network_ready.unwrap().ok);
        assert_eq!(runtime.load_problem, None);
    });
}

#[test]
fn a_runtime_in_another_network_namespace_is_not_this_hosts() {
    each(|version| {
        let host = host(version, "10.244.1.0/24");
        let elsewhere = Netns::new("elsewhere").unwrap();
        let (runtime, sandboxes) = look_in(&elsewhere, &mut reader(&host));
        for missing in [runtime.value.unwrap_err(), sandboxes.value.unwrap_err()] {
            let Missing::Absent(why) = missing else {
                panic!("{missing:?}")
            };
            assert!(why.contains("is in another network namespace"), "{why}");
        }
    });
}

#[test]
fn nothing_is_left_of_a_host_after_a_panic() {
    each(|version| {
        let mut traces = None;
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let host = host(version, "10.244.1.0/24");
            host.run_sandbox("web").unwrap();
            traces = Some((Traces::of_directory(host.directory()), host.directory().to_owned()));
            panic!("a test fails");
        }));
        assert!(failed.is_err());
        let (traces, directory) = traces.unwrap();
        assert_eq!(traces.wait_processes(Duration::from_secs(10)), Vec::<String>::new());
        assert_eq!(traces.cgroups().unwrap(), Vec::<&Path>::new());
        assert!(!directory.exists());
    });
}
