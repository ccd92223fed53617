//! How long sandboxes take, and how many fail: by what a real containerd logs, and by what it counts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cidrift_agent::observe::host::HostReader;
use cidrift_agent::observe::root::HostRoot;
use cidrift_agent::view::Host;
use cidrift_agent::view::host::{Missing, Program};
use cidrift_agent::view::setup::Counting;
use cidrift_lab::kubernetes::Containerd;
use cidrift_lab::runtime::RuntimeHost;
use cidrift_proto::facts::CniFacts;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::stage::{each, host};

/// Where containerd serves its metrics in this test.
const METRICS: &str = "127.0.0.1:1338";

/// One look at the whole host, from within its network namespace.
fn look(host: &RuntimeHost) -> Host {
    let mut reader = HostReader::new(HostRoot::new(host.root()));
    let look = || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reader.look(&CniFacts::default()))
    };
    host.netns().run(look).unwrap()
}

/// `cidrift-agent check` on the host, as JSON and as people read it.
fn check(host: &RuntimeHost) -> (Value, String) {
    let run = |more: &[&str]| {
        let arguments = [&["check", "--node-name", "h1", "--pod-cidr", "10.244.7.0/24"], more].concat();
        String::from_utf8(host.run(&host.binaries().agent, &arguments).unwrap().stdout).unwrap()
    };
    (serde_json::from_str(&run(&["-o", "json"])).unwrap(), run(&[]))
}

/// Has containerd serve its metrics, as its configuration of that version has it.
fn serve_metrics(host: &RuntimeHost, version: Containerd) {
    let directory = host.root().join("etc/containerd");
    let main = directory.join("config.toml");
    let text = fs::read_to_string(&main).unwrap();
    match version {
        Containerd::Debian => fs::write(main, format!("{text}[metrics]\naddress = \"{METRICS}\"\n")).unwrap(),
        // By its own plugin, in a file that is imported.
        Containerd::V2 => {
            fs::write(main, format!("imports = [\"/etc/containerd/conf.d/*.toml\"]\n{text}")).unwrap();
            let plugin =
                format!("version = 2\n[plugins.\"io.containerd.server.v1.metrics\"]\naddress = \"{METRICS}\"\n");
            fs::create_dir(directory.join("conf.d")).unwrap();
            fs::write(directory.join("conf.d/metrics.toml"), plugin).unwrap();
        }
    }
    host.containerd.restart().unwrap();
    host.wait_network_ready(true).unwrap();
}

#[test]
fn sandboxes_that_are_made_and_that_fail_show_in_log_and_metrics() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        let absent = look(&host);
        let [offered] = absent.operations.as_slice() else {
            panic!("{:?}", absent.operations);
        };
        assert!(
            matches!(&offered.value, Err(Missing::Absent(why)) if why.contains("names no address")),
            "{offered:?}"
        );
        assert!(
            matches!(absent.setups.value, Err(Missing::Absent(_))),
            "{:?}",
            absent.setups
        );

        serve_metrics(&host, version);
        let start = Instant::now();
        for name in ["a", "b", "c"] {
            host.run_sandbox(name).unwrap();
        }
        let three = start.elapsed();
        host.try_sandbox("proxy", true).unwrap();
        let bridge = host.plugins().join("bridge");
        let target = fs::read_link(&bridge).unwrap();
        fs::remove_file(&bridge).unwrap();
        for name in ["d", "e"] {
            host.try_sandbox(name, false).unwrap_err();
        }
        let seen = look(&host);
        let setups = seen.setups.value.as_ref().unwrap();
        for span in &setups.spans {
            assert_eq!((span.made, span.failed), (4, 2), "{setups:?}");
            // Each of them by itself took less than three one after the other.
            let slowest = Duration::from_millis(span.slowest_ms.unwrap().into());
            assert!(
                slowest > Duration::ZERO && slowest < three.max(Duration::from_secs(1)),
                "{slowest:?} of {three:?}"
            );
            assert!(span.median_ms <= span.slowest_ms && span.median_ms > Some(0));
            assert!(span.slowest_failed_ms.is_some());
            assert_eq!(span.percentile_95_ms, None);
        }
        assert_eq!((setups.waiting, setups.since.is_some()), (0, true));

        let [counted] = seen.operations.as_slice() else {
            panic!("{:?}", seen.operations);
        };
        assert_eq!(counted.source, format!("containerd's metrics at {METRICS}"));
        let operations = counted.value.as_ref().unwrap();
        assert_eq!(
            (operations.program, operations.of),
            (Program::Containerd, Counting::Networks)
        );
        // The pod of the host's network has none of its own.
        assert_eq!(
            (operations.total.calls, operations.total.failed),
            (5, 2),
            "{operations:?}"
        );
        assert!(
            operations
                .total
                .mean()
                .is_some_and(|mean| mean > Duration::ZERO && mean < three)
        );
        assert!(matches!(operations.total.slowest(), Some(Ok(_))), "{operations:?}");
        assert!(!seen.unreadable().iter().any(|(what, _)| what.contains("metrics")));

        // Two that fail while none succeeds are found by the log, never by what is counted; that is evidence.
        let (report, text) = check(&host);
        let findings = report["findings"].as_array().unwrap();
        let failing = findings.iter().find(|finding| finding["code"] == "SAND01").unwrap();
        let evidence = failing["evidence"].to_string();
        assert!(
            evidence.contains("4 sandboxes in 10 min, half of them within"),
            "{evidence}"
        );
        assert!(evidence.contains("2 tries failed"), "{evidence}");
        assert_eq!(report["setups"]["logged"]["spans"][0]["made"], 4);
        assert_eq!(report["setups"]["counted"][0]["total"]["failed"], 2);
        assert!(text.contains("\n last 10 min  4 "), "{text}");
        let counts =
            format!("containerd's metrics at {METRICS}: 5 calls to set up a pod's network since it started: 2 failed");
        assert!(text.contains(&counts), "{text}");

        // They come in the end: the figures tell of it all, and nothing is found.
        std::os::unix::fs::symlink(target, bridge).unwrap();
        for name in ["f", "d", "e"] {
            // 1.6 keeps the name of what failed until that is removed.
            let _ = host.try_sandbox(name, false);
        }
        let made = look(&host).setups.value.unwrap().spans[0].made;
        assert!(made >= 5, "{made}");
    });
}

/// What listens where containerd's configuration says that its metrics are.
fn listen(host: &RuntimeHost) -> TcpListener {
    host.netns().run(|| TcpListener::bind(METRICS).unwrap()).unwrap()
}

#[test]
fn a_port_that_hangs_or_says_anything_else_is_a_reason_within_seconds() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        // It is written down and not in effect: containerd was not restarted since.
        let path = host.root().join("etc/containerd/config.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}[metrics]\naddress = \"{METRICS}\"\n")).unwrap();
        let reason = |host: &RuntimeHost| {
            let start = Instant::now();
            let seen = look(host);
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
            let [counted] = seen.operations.as_slice() else {
                panic!("{:?}", seen.operations);
            };
            let told = seen.unreadable();
            let alarm = told
                .iter()
                .any(|(what, _)| what == &format!("containerd's metrics at {METRICS}"));
            // Everything else is there all the same.
            assert!(seen.runtime.get().is_some() && seen.processes.get().is_some());
            (counted.value.clone().unwrap_err(), alarm)
        };
        let closed = Missing::Absent("nothing listens there".to_owned());
        assert_eq!(reason(&host), (closed, false));
        for (answer, rest, expected) in [
            (None, "", "it did not answer within 3 s"),
            (
                Some("HTTP/1.1 200 OK\r\n\r\n<html>no</html>\n"),
                "",
                "it answers with something else than metrics",
            ),
            (
                Some("HTTP/1.1 301 Moved Permanently\r\nLocation: http://192.0.2.1/\r\n\r\n"),
                "",
                "it answers 301",
            ),
            (Some("SSH-2.0-x\r\n"), "", "it does not speak HTTP as it should"),
            (
                Some("HTTP/1.1 200 OK\r\n\r\n"),
                "some_metric_of_others 12345678\n",
                "its answer is longer than the 32 MiB",
            ),
        ] {
            let listener = listen(&host);
            let stop = OwnedFd::from(listener.try_clone().unwrap());
            let server = std::thread::spawn(move || {
                let mut kept = Vec::new();
                while let Ok((mut stream, _)) = listener.accept() {
                    if let Some(answer) = answer {
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = stream.write_all(answer.as_bytes());
                        let block = rest.repeat(4096);
                        // 100 MB and more, until nobody listens any more.
                        for _ in 0..if rest.is_empty() { 0 } else { 1000 } {
                            if stream.write_all(block.as_bytes()).is_err() {
                                break;
                            }
                        }
                        continue;
                    }
                    kept.push(stream);
                }
            });
            let (missing, alarm) = reason(&host);
            let Missing::Unreadable(why) = missing else {
                panic!("{missing:?}");
            };
            // On a machine that is very busy the time is over first.
            let late = !rest.is_empty() && why.contains("within 3 s");
            assert!(why.starts_with(expected) || late, "{why}");
            assert!(alarm, "what is offered and cannot be read is said");
            nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&stop), nix::sys::socket::Shutdown::Both)
                .unwrap();
            drop(stop);
            server.join().unwrap();
        }
    });
}
