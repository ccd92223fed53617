//! `cidrift-agent check`, the real program, on hosts with real bridges and
//! tunnels and a filesystem of their own.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use cidrift_lab::binaries;
use cidrift_lab::breaks::Break;
use cidrift_lab::host_files::{self, CONFLIST, SUBNET_ENV};
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use cidrift_lab::step::Step;
use cidrift_lab::topology::{Dataplane, Plan, sysctl};
use cidrift_lab::world::World;
use ipnet::IpNet;
use serde_json::Value;

/// The agent's program, built once for all tests here.
fn agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| binaries::find(|_| ()).unwrap().agent)
}

/// Three hosts with flannel, as it should be.
struct Cluster {
    world: World,
    _directory: tempfile::TempDir,
}

impl Cluster {
    fn new(dataplane: Dataplane, dual_stack: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan {
            hosts: 3,
            dataplane,
            dual_stack,
        };
        Self {
            world: World::build(plan, directory.path()).unwrap(),
            _directory: directory,
        }
    }

    fn names(&self) -> Vec<String> {
        let hosts = self.world.topology.hosts.iter();
        hosts.map(|host| host.identity.name.clone()).collect()
    }

    /// Runs the program on a host; exit status and what it printed.
    fn run(&self, host: &str, extra: &[&str]) -> (i32, String) {
        self.run_as(host, host, extra)
    }

    /// The same with a name for the Node.
    fn run_as(&self, host: &str, node: &str, extra: &[&str]) -> (i32, String) {
        let mut command = Command::new(agent());
        command
            .args(["check", "--node-name", node, "--host-root"])
            .arg(self.world.host_root(host))
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let netns = &self.world.topology.host(host).unwrap().netns;
        let mut child = netns.spawn(&mut command).unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        (child.wait().unwrap().code().unwrap(), text)
    }

    /// Exit status and the codes found, by the snapshot file.
    fn check(&self, host: &str) -> (i32, Vec<String>) {
        let state = self.world.cluster_state();
        let (status, text) = self.run(host, &["-o", "json", "--cluster-state", state.to_str().unwrap()]);
        let report: Value = serde_json::from_str(&text).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let codes = findings
            .iter()
            .map(|finding| finding["code"].as_str().unwrap().to_owned());
        let codes: Vec<String> = codes.collect();
        if status == 2 {
            assert_eq!(report["outcome"], "unknown", "{text}");
        }
        (status, codes)
    }

    fn assert_healthy(&self, when: &str) {
        for host in self.names() {
            let (status, codes) = self.check(&host);
            assert_eq!((status, codes.len()), (0, 0), "{host} {when}: {codes:?}");
        }
    }

    fn apply(&mut self, steps: &[Step]) {
        self.world.apply_all(steps).unwrap();
    }
}

fn found(codes: &[&str]) -> (i32, Vec<String>) {
    (1, codes.iter().map(|code| (*code).to_owned()).collect())
}

#[test]
fn hosts_as_flannel_makes_them_are_healthy_on_every_dataplane() {
    if !have(Need::Netns) {
        return;
    }
    for (dataplane, dual_stack) in [
        (Dataplane::Vxlan, false),
        (Dataplane::HostGw, false),
        (Dataplane::Vxlan, true),
    ] {
        Cluster::new(dataplane, dual_stack).assert_healthy(&format!("{dataplane}, dual stack {dual_stack}"));
    }
}

#[test]
fn every_break_is_found_by_the_host_that_it_is_on_and_by_no_other() {
    if !have(Need::Netns) {
        return;
    }
    let mut cluster = Cluster::new(Dataplane::Vxlan, false);
    for which in Break::ALL {
        // What one host can know of it; all else is between hosts.
        let expected: &[&str] = match which {
            Break::CniConfigOld | Break::SubnetEnvOld => &["HOST01"],
            Break::NodeRecreated => &["HOST01", "HOST02"],
            _ => &[],
        };
        let plan = which.plan(&cluster.world).unwrap();
        cluster.apply(&plan.steps);
        let mut blamed = Vec::new();
        for host in cluster.names() {
            match cluster.check(&host) {
                (0, _) => {}
                (2, _) => assert!(
                    !cluster.world.snapshot.nodes.contains_key(&host),
                    "{host}: {}",
                    which.name()
                ),
                other => {
                    assert_eq!(other, found(expected), "{host}: {}", which.name());
                    blamed.push(host);
                }
            }
        }
        if expected.is_empty() {
            assert_eq!(blamed, Vec::<String>::new(), "{}", which.name());
        } else {
            assert_eq!(blamed, std::slice::from_ref(&plan.expected.subject), "{}", which.name());
        }
        cluster.apply(&plan.undo);
        cluster.assert_healthy(&format!("after {} was undone", which.name()));
    }
}

#[test]
fn a_bridge_that_kept_its_address_when_the_node_and_flannel_moved_on_is_found() {
    if !have(Need::Netns) {
        return;
    }
    let mut cluster = Cluster::new(Dataplane::HostGw, false);
    let plan = Break::NodeRecreated.plan(&cluster.world).unwrap();
    cluster.apply(&plan.steps);
    let host = plan.expected.subject;
    let identity = cluster.world.topology.host(&host).unwrap().identity.clone();
    let cidrs: Vec<IpNet> = cluster.world.snapshot.nodes[&host].pod_cidrs.clone();
    // flanneld was restarted: the file follows the Node, the bridge does not.
    let text = host_files::subnet_env(&cidrs, Dataplane::HostGw);
    cluster.apply(&[host_files::write(&identity, SUBNET_ENV, text)]);
    assert_eq!(cluster.check(&host), found(&["HOST02"]));
}

#[test]
fn an_own_cidr_that_leads_to_a_peer_is_found_with_the_command_that_mends_it() {
    if !have(Need::Netns) {
        return;
    }
    let cluster = Cluster::new(Dataplane::HostGw, false);
    let host = cluster.world.topology.host("h1").unwrap();
    let peer = cluster.world.topology.host("h2").unwrap();
    let away = Route::via(host.identity.cidrs[0], peer.identity.underlay[0], "eth0");
    host.ip.replace_route(&away).unwrap();
    assert_eq!(cluster.check("h1"), found(&["HOST04"]));
    let state = cluster.world.cluster_state();
    let (_, text) = cluster.run("h1", &["--cluster-state", state.to_str().unwrap()]);
    assert!(
        text.contains("ip route replace 10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1."),
        "{text}"
    );
    host.ip.del_route(&away).unwrap();
    assert_eq!(
        cluster.check("h1"),
        found(&["HOST04"]),
        "the route is gone, but nothing took its place"
    );
    // The kernel puts the connected route back when the bridge comes up.
    host.ip.set_down("cni0").unwrap();
    host.ip.set_up("cni0").unwrap();
    cluster.assert_healthy("with its connected route back");
}

#[test]
fn a_bridge_set_down_under_its_pods_is_found() {
    if !have(Need::Netns) {
        return;
    }
    let cluster = Cluster::new(Dataplane::Vxlan, false);
    cluster.world.topology.host("h1").unwrap().ip.set_down("cni0").unwrap();
    assert_eq!(cluster.check("h1"), found(&["HOST04"]));
    cluster.world.topology.host("h1").unwrap().ip.set_up("cni0").unwrap();
    cluster.assert_healthy("with the bridge up again");
}

#[test]
fn a_host_that_does_not_forward_and_a_tunnel_that_does_not_fit_are_found() {
    if !have(Need::Netns) {
        return;
    }
    let cluster = Cluster::new(Dataplane::Vxlan, true);
    let host = cluster.world.topology.host("h1").unwrap();
    for (key, off, on) in [
        ("ipv4/ip_forward", "0", "1"),
        ("ipv4/conf/cni0/forwarding", "0", "1"),
        ("ipv4/conf/flannel.1/forwarding", "0", "1"),
        ("ipv6/conf/all/forwarding", "0", "1"),
    ] {
        sysctl(&host.netns, key, off).unwrap();
        assert_eq!(cluster.check("h1"), found(&["HOST07"]), "{key}");
        sysctl(&host.netns, key, on).unwrap();
        cluster.assert_healthy(&format!("with {key} on again"));
    }
    // IPv6 asks no device, and a strict filter does no harm where the way back is the way in.
    sysctl(&host.netns, "ipv6/conf/cni0/forwarding", "0").unwrap();
    sysctl(&host.netns, "ipv4/conf/all/rp_filter", "1").unwrap();
    cluster.assert_healthy("with settings that change nothing");
    host.ip.set_mtu("eth0", 1499).unwrap();
    assert_eq!(cluster.check("h1"), found(&["HOST07"]));
    host.ip.set_mtu("eth0", 1500).unwrap();
    cluster.assert_healthy("with the MTU as it was");
}

#[test]
fn torn_files_and_a_missing_node_are_unknown_and_never_healthy() {
    if !have(Need::Netns) {
        return;
    }
    let cluster = Cluster::new(Dataplane::Vxlan, false);
    for path in [CONFLIST, SUBNET_ENV] {
        let at = cluster.world.host_root("h1").join(path.trim_start_matches('/'));
        let whole = std::fs::read_to_string(&at).unwrap();
        std::fs::write(&at, &whole[..whole.len() / 2]).unwrap();
        assert_eq!(cluster.check("h1"), (2, vec![]), "{path}");
        std::fs::write(&at, whole).unwrap();
    }
    let state = cluster.world.cluster_state();
    let state = state.to_str().unwrap();
    let (status, text) = cluster.run_as("h1", "h9", &["--cluster-state", state]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("the control plane knows no Node \"h9\""), "{text}");
    let (status, text) = cluster.run("h1", &["--cluster-state", "/no/such/file"]);
    assert_eq!(status, 2);
    assert!(text.contains("problem: /no/such/file: No such file"), "{text}");
    let (status, text) = cluster.run("h1", &[]);
    assert_eq!(status, 2);
    assert!(text.contains("no kubelet kubeconfig found"), "{text}");
}

#[test]
fn a_pod_cidr_given_by_hand_needs_nobody_else() {
    if !have(Need::Netns) {
        return;
    }
    let cluster = Cluster::new(Dataplane::Vxlan, false);
    let own = cluster.world.topology.host("h1").unwrap().identity.cidrs[0].to_string();
    let (status, text) = cluster.run("h1", &["--pod-cidr", &own]);
    assert_eq!(status, 0, "{text}");
    assert!(text.starts_with("h1: as it should be"), "{text}");
    let (status, text) = cluster.run("h1", &["--pod-cidr", "10.99.0.0/24"]);
    assert_eq!(status, 1);
    assert!(text.contains("error[HOST01]: cni-config-stale"), "{text}");
}
