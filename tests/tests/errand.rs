//! `cidrift-errand` as a program: devices in a network namespace, and the process that does nothing.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cidrift_lab::binaries::{self, Binaries};
use cidrift_lab::image::{self, oci::Entry};
use cidrift_lab::ip::{Ip, Vxlan};
use cidrift_lab::netns::Netns;
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use cidrift_proto::landing::MacAddress;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static PROGRAMS: OnceLock<Binaries> = OnceLock::new();

/// Far more than any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn programs() -> &'static Binaries {
    PROGRAMS.get_or_init(|| binaries::find(|text| eprintln!("{text}")).unwrap())
}

fn errand() -> Command {
    let mut command = Command::new(&programs().errand);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A network namespace with devices, and what `remove-link` says and leaves there.
struct Host {
    netns: Netns,
    ip: Ip,
}

impl Host {
    fn new() -> Self {
        let netns = Netns::new("h1").unwrap();
        let ip = Ip::new(&netns).unwrap();
        Self { netns, ip }
    }

    fn remove(&self, arguments: &[&str]) -> Output {
        self.run("remove-link", arguments)
    }

    fn run(&self, what: &str, arguments: &[&str]) -> Output {
        let mut command = errand();
        command.arg(what).args(arguments);
        self.netns.spawn(&mut command).unwrap().wait_with_output().unwrap()
    }

    /// One line, by which it was done.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.remove(arguments);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
        stdout
    }

    /// One line, by which it was not.
    fn failed(&self, arguments: &[&str]) -> String {
        let output = self.remove(arguments);
        let (stdout, stderr) = texts(&output);
        assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{arguments:?}");
        stderr
    }

    fn has(&self, name: &str) -> bool {
        self.ip.index(name).is_ok()
    }
}

/// What was said on stdout and stderr, each at most one line.
fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.lines().count() <= 1, "{text}");
        text.trim_end().to_owned()
    };
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn devices_that_cnis_make_are_removed_and_are_gone_then() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    let pod = Netns::new("pod").unwrap();
    host.ip.add_bridge("cni0").unwrap();
    host.ip.add_veth("veth1", "eth0", &pod).unwrap();
    let vxlan = Vxlan {
        vni: 1,
        device: "cni0".to_owned(),
        local: "10.0.0.1".parse().unwrap(),
        port: 8472,
        address: MacAddress([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
    };
    host.ip.add_vxlan("flannel.1", &vxlan).unwrap();
    for (name, kind) in [("flannel.1", "vxlan"), ("cni0", "bridge"), ("veth1", "veth")] {
        assert_eq!(host.done(&[name]), format!("cidrift-errand: removed {name}, a {kind}"));
        assert!(!host.has(name), "{name}");
        let gone = format!("cidrift-errand: there is no device {name} any more");
        assert_eq!(host.done(&[name, "--address", "10.244.1.1/24"]), gone);
    }
}

#[test]
fn a_device_of_the_machine_and_one_under_another_name_stay() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    let told = host.failed(&["lo", "--with-ports"]);
    assert!(
        told.contains("lo is no virtual device: only these are removed: bridge, vxlan, dummy, veth"),
        "{told}"
    );
    host.ip.add_bridge("br0").unwrap();
    host.ip.add_altname("br0", "cni0").unwrap();
    assert_eq!(host.done(&["cni0"]), "cidrift-errand: there is no device cni0 any more");
    assert!(host.has("br0") && host.has("lo"));
}

#[test]
fn a_device_that_was_configured_anew_is_left_alone() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    host.ip.add_bridge("cni0").unwrap();
    host.ip.add_bridge("other").unwrap();
    host.ip.add_addr("other", "10.244.3.1/24".parse().unwrap()).unwrap();
    let stale = ["cni0", "--address", "10.244.3.1/24", "--address", "fd00:3::1/64"];
    let told = host.done(&stale);
    assert!(
        told.contains("(its addresses: none)") && told.contains("left alone"),
        "{told}"
    );

    host.ip.add_addr("cni0", "10.244.9.1/24".parse().unwrap()).unwrap();
    let told = host.done(&stale);
    assert!(
        told.contains("cni0 does not have 10.244.3.1/24, fd00:3::1/64 (its addresses: 10.244.9.1)"),
        "{told}"
    );
    assert!(host.has("cni0"));

    // One of them is enough, whatever its length.
    host.ip.add_addr("cni0", "fd00:3::1/112".parse().unwrap()).unwrap();
    assert_eq!(host.done(&stale), "cidrift-errand: removed cni0, a bridge");
    assert!(!host.has("cni0") && host.has("other"));
}

#[test]
fn a_bridge_that_pods_hang_on_is_removed_only_when_that_is_said() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    let pod = Netns::new("pod").unwrap();
    host.ip.add_bridge("cni0").unwrap();
    host.ip.add_bridge("docker0").unwrap();
    for (name, peer, bridge) in [
        ("veth1", "eth1", "cni0"),
        ("veth2", "eth2", "cni0"),
        ("veth3", "eth3", "docker0"),
    ] {
        host.ip.add_veth(name, peer, &pod).unwrap();
        host.ip.set_master(name, bridge).unwrap();
    }
    let told = host.failed(&["cni0"]);
    assert!(
        told.contains("pods may hang on: veth1, veth2; with --with-ports"),
        "{told}"
    );
    assert!(host.has("cni0"));
    assert_eq!(
        host.done(&["cni0", "--with-ports"]),
        "cidrift-errand: removed cni0, a bridge"
    );
    assert!(!host.has("cni0") && host.has("veth1") && host.has("docker0"));
}

#[test]
fn wrong_usage_is_told_apart_from_a_failure() {
    let output = errand()
        .args(["remove-file", "--host-root", "/", "../etc/x"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("must begin with /"), "{stderr}");
    let output = errand()
        .args(["remove-file", "--host-root", "/nonexistent", "/etc/x"])
        .output()
        .unwrap();
    let (stdout, stderr) = texts(&output);
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        "cidrift-errand: /etc is not there below /nonexistent: is the host's directory mounted?"
    );
}

/// The agent's and the errand's code are one library: what is not called is not in a program.
#[test]
fn only_the_errand_can_tell_a_runtime_anything() {
    let has = |program: &Path, call: &str| {
        let bytes = std::fs::read(program).unwrap();
        let path = format!("/runtime.v1.RuntimeService/{call}");
        memchr::memmem::find(&bytes, path.as_bytes()).is_some()
    };
    let Binaries { agent, errand, .. } = programs();
    assert!(has(agent, "Status") && !has(agent, "UpdateRuntimeConfig"));
    assert!(has(errand, "UpdateRuntimeConfig") && !has(errand, "ListPodSandbox"));
}

#[test]
fn the_agents_image_has_it_in_every_release_and_the_aggregators_has_not() {
    if !have(Need::Containerd) {
        return;
    }
    for (programs, version) in [
        (programs().clone(), image::CURRENT),
        (programs().older().unwrap(), image::OLDER),
    ] {
        let output = Command::new(&programs.errand).arg("--version").output().unwrap();
        assert_eq!(texts(&output).0, format!("cidrift-errand {version}"));
        let path = Path::new("usr/bin/cidrift-errand");
        let agent = image::agent(&programs, version).unwrap();
        assert!(matches!(agent.files.get(path), Some(Entry::Program(bytes)) if !bytes.is_empty()));
        assert_eq!(agent.entrypoint, "/usr/bin/cidrift-agent");
        let aggregator = image::aggregator(&programs, version).unwrap();
        assert!(!aggregator.files.contains_key(path));
    }
}

#[test]
fn it_holds_until_it_is_told_to_end() {
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let child = errand().arg("hold").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        std::thread::sleep(Duration::from_millis(500));
        end(pid, signal, child, name);
    }
}

/// A container's first process gets no signal that it does not handle.
#[test]
fn it_ends_as_the_first_process_of_a_pid_namespace_too() {
    if !have(Need::Netns) {
        return;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(errand().get_program())
        .arg("hold")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let start = Instant::now();
    let first = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Ok(pid) = text.trim().parse() {
            break pid;
        }
        assert!(start.elapsed() < PATIENCE, "unshare starts nothing");
        std::thread::sleep(Duration::from_millis(20));
    };
    std::thread::sleep(Duration::from_millis(500));
    end(Pid::from_raw(first), Signal::SIGTERM, child, "SIGTERM");
}

fn end(pid: Pid, signal: Signal, mut child: Child, name: &str) {
    assert!(child.try_wait().unwrap().is_none(), "it does not hold");
    let start = Instant::now();
    kill(pid, signal).unwrap();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("it does not end by {name}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(0), None));
    assert_eq!(texts(&output).0, format!("cidrift-errand: held until {name}"));
}

#[test]
fn a_route_goes_by_its_next_hop_alone_whatever_else_it_has() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    host.ip.add_bridge("eth0").unwrap();
    host.ip.add_addr("eth0", "172.30.0.12/24".parse().unwrap()).unwrap();
    host.ip.add_addr("eth0", "fd00:30::c/64".parse().unwrap()).unwrap();
    host.ip.set_up("eth0").unwrap();
    goes_by_its_next_hop(
        &host,
        ["10.244.1.0/24", "10.244.2.0/24"],
        ["172.30.0.13", "172.30.0.14", "172.30.0.99"],
    );
    goes_by_its_next_hop(
        &host,
        ["fd00:244:0:1::/64", "fd00:244:0:2::/64"],
        ["fd00:30::d", "fd00:30::e", "fd00:30::99"],
    );
    let output = host.run("remove-route", &["--via=fd00::1", "10.244.1.0/24"]);
    assert_eq!(output.status.code(), Some(1));
    let (_, text) = texts(&output);
    assert!(text.contains("different families"), "{text}");
}

/// Two routes, by a next hop each, and nothing by the third.
fn goes_by_its_next_hop(host: &Host, [one, other]: [&str; 2], [by, by_other, nobody]: [&str; 3]) {
    let route = |prefix: &str, via: &str| Route::via(prefix.parse().unwrap(), via.parse().unwrap(), "eth0");
    host.ip.add_routes(&[route(one, by), route(other, by_other)]).unwrap();
    let said = |prefix: &str, via: &str| {
        let output = host.run("remove-route", &[&format!("--via={via}"), prefix]);
        let (stdout, stderr) = texts(&output);
        let text = format!("{stdout}{stderr}");
        assert_eq!(output.status.code(), Some(0), "{text}");
        text
    };
    let text = said(one, nobody);
    assert!(
        text.contains(&format!("there is no route {one} via {nobody}")),
        "{text}"
    );
    let text = said(one, by);
    assert!(text.contains(&format!("removed the route {one} via {by}")), "{text}");
    let text = said(one, by);
    assert!(text.contains("there is no route"), "done already: {text}");
    // The other one is there still.
    let text = said(other, by_other);
    assert!(text.contains("removed"), "{text}");
}

#[test]
fn a_route_that_drops_goes_by_its_type_and_the_one_that_leads_there_stays() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new();
    host.ip.add_bridge("eth0").unwrap();
    host.ip.add_addr("eth0", "172.30.0.12/24".parse().unwrap()).unwrap();
    host.ip.add_addr("eth0", "fd00:30::12/64".parse().unwrap()).unwrap();
    host.ip.set_up("eth0").unwrap();
    for (family, prefix, via) in [
        ("-4", "10.244.2.0/24", "172.30.0.13"),
        ("-6", "fd00:2::/64", "fd00:30::13"),
    ] {
        let ip = |line: &str| {
            let mut command = Command::new("ip");
            command.arg(family).args(line.split(' ')).stdout(Stdio::piped());
            let output = host.netns.spawn(&mut command).unwrap().wait_with_output().unwrap();
            assert!(output.status.success(), "ip {family} {line}");
            String::from_utf8(output.stdout).unwrap()
        };
        ip(&format!("route add {prefix} via {via} metric 100"));
        // Of the same metric, too, and in another table.
        ip(&format!("route append blackhole {prefix} metric 100"));
        ip(&format!("route add blackhole {prefix} table 7"));
        for (kind, metric) in [("unreachable", 50), ("prohibit", 51), ("throw", 52)] {
            ip(&format!("route append {kind} {prefix} metric {metric}"));
        }
        let mut left = 5;
        for kind in ["blackhole", "unreachable", "prohibit", "throw"] {
            assert_eq!(ip(&format!("route show {prefix}")).lines().count(), left);
            let arguments = ["--type", kind, prefix];
            let output = host.run("remove-route", &arguments);
            assert_eq!(
                texts(&output).0,
                format!("cidrift-errand: removed the route {kind} {prefix}")
            );
            assert!(!ip(&format!("route show {prefix}")).contains(kind));
            let again = host.run("remove-route", &arguments);
            assert_eq!(
                texts(&again).0,
                format!("cidrift-errand: there is no route {kind} {prefix}")
            );
            left -= 1;
        }
        let rest = ip(&format!("route show {prefix}"));
        assert!(
            rest.contains(&format!("via {via}")) && rest.lines().count() == 1,
            "{rest}"
        );
        assert!(ip("route show table 7").contains("blackhole"));
    }
}
