//! By default both families reach agent and aggregator; where a host has one only, that one.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cidrift_lab::binaries;
use cidrift_lab::ip::Ip;
use cidrift_lab::netns::Netns;
use cidrift_lab::require::{Need, have};
use cidrift_lab::topology;

/// Far more than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);

const STATE: &str = r#"
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Node
    metadata: {name: n1, uid: u1}
    spec: {podCIDR: "fd00:244:1::/64", podCIDRs: ["fd00:244:1::/64"]}
"#;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(netns: &Netns, program: &Path, arguments: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    Running(netns.spawn(&mut command).unwrap())
}

fn get(netns: &Netns, address: &str, path: &str) -> std::io::Result<String> {
    netns.run(|| {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })?
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = Instant::now();
    while !look() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts both by their defaults, the agent told of `aggregator`; checks that each port is `reached` by these
/// addresses, and by these it is `not`.
fn serve(netns: &Netns, aggregator: &str, reached: &[&str], not: &[&str]) {
    let programs = binaries::find(|text| eprintln!("{text}")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state.yaml");
    std::fs::write(&state, STATE).unwrap();
    let state = format!("--cluster-state={}", state.display());
    let url = format!("http://{aggregator}:7440");
    let serving = start(netns, &programs.aggregator, &[&state, "--plaintext"]);
    let agent = start(netns, &programs.agent, &["run", "--node-name=n1", "--aggregator", &url]);
    for address in reached {
        for port in [7440, 7441, 7442] {
            let what = format!("{address}:{port}");
            until(&what, || netns.run(|| TcpStream::connect(&what)).unwrap().is_ok());
        }
    }
    for address in not {
        for port in [7440, 7441, 7442] {
            let what = format!("{address}:{port}");
            assert!(netns.run(|| TcpStream::connect(&what)).unwrap().is_err(), "{what}");
        }
    }
    let metrics = format!("{}:7441", reached[0]);
    until("the agent reports", || {
        get(netns, &metrics, "/metrics").is_ok_and(|text| text.contains("cidrift_aggregator_nodes_reporting 1"))
    });
    drop((serving, agent));
}

#[test]
fn both_families_reach_agent_and_aggregator() {
    if !have(Need::Netns) {
        return;
    }
    let netns = Netns::new("both").unwrap();
    Ip::new(&netns).unwrap().set_up("lo").unwrap();
    // Programs that leave it to the system listen on IPv6 alone then.
    topology::sysctl(&netns, "ipv6/bindv6only", "1").unwrap();
    serve(&netns, "127.0.0.1", &["127.0.0.1", "[::1]"], &[]);
}

#[test]
fn a_host_of_ipv6_is_reached_by_ipv6_and_one_without_ipv6_by_ipv4() {
    if !have(Need::Netns) {
        return;
    }
    let six = Netns::new("six").unwrap();
    let ip = Ip::new(&six).unwrap();
    ip.set_up("lo").unwrap();
    ip.add_addr("lo", "fd00::1/128".parse().unwrap()).unwrap();
    serve(&six, "[fd00::1]", &["[fd00::1]"], &[]);

    let four = Netns::new("four").unwrap();
    topology::sysctl(&four, "ipv6/conf/all/disable_ipv6", "1").unwrap();
    Ip::new(&four).unwrap().set_up("lo").unwrap();
    serve(&four, "127.0.0.1", &["127.0.0.1"], &["[::1]"]);
}
