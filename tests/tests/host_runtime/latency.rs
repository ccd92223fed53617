//! How long sandboxes take, and how many fail: by what a real containerd logs, and by what it counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use cidrift_agent::observe::metrics::MetricsReader;
use cidrift_agent::observe::root::HostRoot;
use cidrift_agent::view::Observed;
use cidrift_agent::view::host::{Missing, Process, Program};
use cidrift_agent::view::setup::{Counting, Operations};
use cidrift_lab::kubernetes::Containerd;
use cidrift_lab::runtime::RuntimeHost;
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Builder;

use crate::stage::{each, host};

/// Where containerd serves its metrics in this test.
const METRICS: &str = "127.0.0.1:1338";

/// What containerd's metrics say, read from within the host's network namespace.
fn counted(host: &RuntimeHost) -> Observed<Operations> {
    let containerd = Process {
        program: Program::Containerd,
        embedded_in: None,
        pid: host.containerd.pid().unwrap(),
        started_at: None,
        settings: BTreeMap::new(),
        problem: None,
    };
    let processes = Observed::seen(Timestamp::now(), "/proc", vec![containerd]);
    let mut reader = MetricsReader::new(HostRoot::new(host.root()));
    let look = || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(reader.look(&processes, Timestamp::now()))
    };
    let mut rows = host.netns().run(look).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// What `cidrift-agent check` says on the host.
fn check(host: &RuntimeHost, more: &[&str]) -> String {
    let arguments = [&["check", "--node-name", "h1", "--pod-cidr", "10.244.7.0/24"], more].concat();
    let output = host.run(&host.binaries().agent, &arguments).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn report(host: &RuntimeHost) -> Value {
    serde_json::from_str(&check(host, &["-o", "json"])).unwrap()
}

/// A finding of the report.
fn finding<'a>(report: &'a Value, code: &str) -> Option<&'a Value> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.into_iter().find(|finding| finding["code"] == code)
}

/// Writes it down as configurations of that version have it: at the top, or in a file that is imported, as its own
/// plugin's.
fn name_metrics(host: &RuntimeHost, version: Containerd) {
    let directory = host.root().join("etc/containerd");
    let main = directory.join("config.toml");
    let text = fs::read_to_string(&main).unwrap();
    match version {
        Containerd::Debian => fs::write(main, format!("{text}[metrics]\naddress = \"{METRICS}\"\n")).unwrap(),
        Containerd::V2 => {
            let imports = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
            fs::write(main, format!("{imports}{text}")).unwrap();
            let plugin = "[plugins.\"io.containerd.server.v1.metrics\"]";
            fs::create_dir(directory.join("conf.d")).unwrap();
            let text = format!("version = 2\n{plugin}\naddress = \"{METRICS}\"\n");
            fs::write(directory.join("conf.d/metrics.toml"), text).unwrap();
        }
    }
}

#[test]
fn sandboxes_that_are_made_and_that_fail_show_in_log_and_metrics() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        let none = "containerd's configuration names no address for its metrics";
        assert_eq!(counted(&host).value, Err(Missing::Absent(none.to_owned())));
        let before = report(&host);
        assert_eq!(before.get("setups"), None, "nothing was asked for");
        assert_eq!(before["findings"].as_array().unwrap().len(), 0, "{before:#}");

        name_metrics(&host, version);
        host.containerd.restart().unwrap();
        host.wait_network_ready(true).unwrap();
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

        let seen = counted(&host);
        assert_eq!(seen.source, format!("containerd's metrics at {METRICS}"));
        let operations = seen.value.unwrap();
        let what = (operations.program, operations.of);
        assert_eq!(what, (Program::Containerd, Counting::Networks));
        // The pod of the host's network has none of its own.
        let total = &operations.total;
        assert_eq!((total.calls, total.failed), (5, 2), "{total:?}");
        let mean = total.mean().unwrap();
        assert!(mean > Duration::ZERO && mean < three, "{mean:?} of {three:?}");
        assert!(matches!(total.slowest(), Some(Ok(_))), "{total:?}");

        // Two that fail while none succeeds are found by the log; how all fare is evidence.
        let report = report(&host);
        let failing = finding(&report, "SAND01").unwrap();
        let evidence = failing["evidence"].to_string();
        assert!(
            evidence.contains("4 sandboxes in 10 min, half of them within"),
            "{evidence}"
        );
        assert!(evidence.contains("2 tries failed"), "{evidence}");
        assert_eq!(finding(&report, "SEEN02"), None);
        let spans = report["setups"]["logged"]["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 2);
        for span in spans {
            let number = |name: &str| span[name].as_u64().unwrap();
            assert_eq!((number("made"), number("failed")), (4, 2), "{span}");
            // One after the other they took that long.
            let slowest = u128::from(number("slowest_ms"));
            assert!(
                slowest > 0 && slowest <= three.as_millis().max(2000),
                "{span} of {three:?}"
            );
            assert!(number("median_ms") > 0 && number("median_ms") <= number("slowest_ms"));
            assert!(number("slowest_failed_ms") > 0);
            assert_eq!(span["percentile_95_ms"], Value::Null, "{span}");
        }
        assert_eq!(report["setups"]["logged"]["waiting"], 0);
        assert_eq!(report["setups"]["counted"][0]["total"]["failed"], 2);

        let text = check(&host, &[]);
        assert!(text.contains("last 10 min  4 "), "{text}");
        let counts =
            format!("containerd's metrics at {METRICS}: 5 calls to set up a pod's network since it started: 2 failed");
        assert!(text.contains(&counts), "{text}");
        eprintln!("{text}");

        // What fails no more is no finding, and stays in the figures.
        std::os::unix::fs::symlink(target, bridge).unwrap();
        host.run_sandbox("f").unwrap();
        let after = self::report(&host);
        assert_eq!(after["setups"]["logged"]["spans"][0]["made"], 5);
        assert_eq!(after["setups"]["logged"]["spans"][0]["failed"], 2);
        assert_eq!(after["setups"]["counted"][0]["total"]["calls"], 6);
        assert_eq!(finding(&after, "SAND01"), None, "{after:#}");
    });
}

/// Somebody else, where containerd's configuration says that its metrics are: he answers so, and goes on with `rest` to
/// 100 MB. `None`: he only listens.
struct Impostor {
    socket: OwnedFd,
    thread: std::thread::JoinHandle<()>,
}

impl Impostor {
    fn start(host: &RuntimeHost, answer: Option<&'static str>, rest: &'static str) -> Self {
        let listener = host.netns().run(|| TcpListener::bind(METRICS).unwrap()).unwrap();
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let Some(answer) = answer else {
                    silent.push(stream);
                    continue;
                };
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer.as_bytes());
                let block = rest.repeat(4096);
                let blocks = (100_usize << 20).checked_div(block.len()).unwrap_or(0);
                // Until nobody reads any more.
                let _ = (0..blocks).try_for_each(|_| stream.write_all(block.as_bytes()));
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { socket, thread }
    }

    fn stop(self) {
        nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn a_port_that_hangs_or_says_anything_else_is_a_reason_within_seconds() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        // It is written down and not in effect: containerd was not restarted since.
        name_metrics(&host, version);
        let closed = Missing::Absent("nothing listens there".to_owned());
        assert_eq!(counted(&host).value, Err(closed));
        assert_eq!(
            finding(&report(&host), "SEEN02"),
            None,
            "a port that is closed is no alarm"
        );

        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        for (answer, rest, expected) in [
            (None, "", "it did not answer within 3 s"),
            (
                Some("HTTP/1.1 200 OK\r\n\r\n<html>no</html>\n"),
                "",
                "it answers with something else than metrics",
            ),
            (
                Some("HTTP/1.1 301 Moved\r\nLocation: http://192.0.2.1/\r\n\r\n"),
                "",
                "it answers 301",
            ),
            (Some("SSH-2.0-x\r\n"), "", "it does not speak HTTP as it should"),
            (
                Some(ok),
                "some_metric 12345678\n",
                "its answer is longer than the 32 MiB that are read",
            ),
        ] {
            let impostor = Impostor::start(&host, answer, rest);
            let start = Instant::now();
            let seen = counted(&host);
            assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
            let why = seen.unreadable().unwrap().to_owned();
            // On a machine that is very busy the time is over first.
            let late = !rest.is_empty() && why.contains("within 3 s");
            assert!(why.starts_with(expected) || late, "{why}");
            if answer.is_none() {
                // The whole look says it, and everything else that it has always said.
                let report = report(&host);
                let told = finding(&report, "SEEN02").unwrap().to_string();
                assert!(
                    told.contains(&format!("containerd's metrics at {METRICS}: {expected}")),
                    "{told}"
                );
                assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{report:#}");
            }
            impostor.stop();
        }
    });
}
