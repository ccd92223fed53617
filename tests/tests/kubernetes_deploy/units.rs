//! The units for hosts outside of any cluster. systemd judges them; and as nothing here is started by systemd, their
//! commands are, with their environment, where they would run: the agents on the nodes, the aggregator beside the API server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use cidrift_lab::kubernetes::kubectl::workspace;
use cidrift_lab::kubernetes::{Cluster, Node, Service};
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use cidrift_lab::{forward, topology};
use serde_json::Value;

use crate::removal;
use crate::stage::{PATIENCE, Stage};

/// A unit's text.
fn unit(name: &str) -> String {
    fs::read_to_string(workspace().join("deploy/systemd").join(name)).unwrap()
}

/// The values of a setting, in their order.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let begins = format!("{key}=");
    unit.lines()
        .filter_map(|line| line.strip_prefix(begins.as_str()))
        .collect()
}

/// Its environment, `%d` and `%H` being what systemd makes of them; what its EnvironmentFile says comes last.
fn environment(unit: &str, credentials: &Path, host: &str, file: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = settings(unit, "Environment").into_iter().map(|line| {
        let (key, value) = line.split_once('=').unwrap();
        let value = value
            .replace("%d", &credentials.display().to_string())
            .replace("%H", host);
        (key.to_owned(), value)
    });
    let file = file.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
    own.chain(file).collect()
}

/// The arguments of its command, which is `program`.
fn arguments(unit: &str, program: &str) -> Vec<OsString> {
    let [line] = settings(unit, "ExecStart")[..] else {
        panic!("one ExecStart: {unit}")
    };
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some(format!("/usr/local/bin/{program}").as_str()));
    words.map(OsString::from).collect()
}

fn os(environment: BTreeMap<String, String>) -> Vec<(OsString, OsString)> {
    environment
        .into_iter()
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// A kubelet's certificate and key in one file, as the kubelet itself keeps it: of its kubeconfig, which has them here.
fn kubelet_certificate(node: &Node) {
    let text = fs::read_to_string(node.root().join("etc/kubernetes/kubelet.conf")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let user = &config["users"][0]["user"];
    let pem = ["client-certificate-data", "client-key-data"].map(|key| {
        let engine = base64::engine::general_purpose::STANDARD;
        String::from_utf8(engine.decode(user[key].as_str().unwrap()).unwrap()).unwrap()
    });
    fs::write(
        node.root().join("var/lib/kubelet/pki/kubelet-client-current.pem"),
        pem.concat(),
    )
    .unwrap();
}

fn aggregator(stage: &Stage, state: &Path) -> Service {
    let cluster = stage.cluster();
    let unit = unit("cidrift-aggregator.service");
    assert_eq!(
        settings(&unit, "LoadCredential"),
        ["kubeconfig:/etc/cidrift/kubeconfig"]
    );
    // The rights that the README names: those of the base's ClusterRole.
    let role = fs::read_to_string(workspace().join("deploy/base/cluster-role-aggregator.yaml")).unwrap();
    let path = state.join("role.yaml");
    fs::write(&path, role.split("\n---\n").next().unwrap()).unwrap();
    stage.kubectl(&["apply", "-f", &path.to_string_lossy()]);
    let bind = "--clusterrole=cidrift-aggregator";
    stage.kubectl(&[
        "create",
        "clusterrolebinding",
        "cidrift-outside",
        bind,
        "--user=outside",
    ]);
    let kubeconfig = cluster.kubeconfig_for("outside", None, true).unwrap();
    let credentials = state.join("credentials");
    fs::create_dir_all(&credentials).unwrap();
    fs::copy(kubeconfig, credentials.join("kubeconfig")).unwrap();
    let mut environment = environment(&unit, &credentials, "", &[]);
    // StateDirectory: this test's own.
    assert_eq!(settings(&unit, "StateDirectory"), ["cidrift"]);
    let kept = environment.get_mut("CIDRIFT_TLS_DIRECTORY").unwrap();
    *kept = kept.replace("/var/lib/cidrift", &state.display().to_string());
    let arguments = arguments(&unit, "cidrift-aggregator");
    let program = &stage.programs.aggregator;
    let name = "unit-aggregator";
    cluster
        .start_program(name, program, arguments, os(environment))
        .unwrap()
}

fn agent(cluster: &Cluster, node: &Node, program: &Path, ca: &Path) -> Service {
    let unit = unit("cidrift-agent.service");
    kubelet_certificate(node);
    fs::create_dir_all(node.root().join("etc/cidrift")).unwrap();
    fs::copy(ca, node.root().join("etc/cidrift/ca.crt")).unwrap();
    let address = format!("https://{}:7440", topology::GATEWAY);
    // All nodes here have the machine's name: agent.env has the Node's.
    let file = [
        ("CIDRIFT_AGGREGATOR", address.as_str()),
        ("CIDRIFT_NODE_NAME", node.name.as_str()),
    ];
    let environment = environment(&unit, cluster.directory(), "machine", &file);
    let arguments = arguments(&unit, "cidrift-agent");
    node.start_program("unit-agent", program, arguments, os(environment))
        .unwrap()
}

#[test]
fn the_units_commands_see_hosts_and_find_a_break() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::empty();
    let cluster = stage.cluster();
    let state: PathBuf = cluster.directory().join("units");
    fs::create_dir_all(&state).unwrap();
    let serving = aggregator(&stage, &state);
    let ca = state.join("tls/ca.crt");
    let made = cluster.api().wait("it has a CA", PATIENCE, || {
        serving.check()?;
        Ok(ca.is_file().then_some(()))
    });
    made.unwrap_or_else(|error| panic!("{error}; {}", serving.tail()));
    let nodes = cluster.nodes().iter();
    let agents: Vec<Service> = nodes
        .map(|node| agent(cluster, node, &stage.programs.agent, &ca))
        .collect();

    let target = SocketAddr::new(topology::GATEWAY.into(), 7440);
    let forward = forward::open(&cluster.plane().netns, 0, target).unwrap();
    let near = stage.at(format!("https://{}", forward.address()), ca);
    let tails = || {
        agents
            .iter()
            .chain([&serving])
            .map(Service::tail)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let healthy = || {
        near.wait_healthy(cluster, PATIENCE)
            .unwrap_or_else(|error| panic!("{error}; {}", tails()))
    };
    healthy();
    let [n2, n3] = ["n2", "n3"].map(|name| cluster.node(name).unwrap());
    let cidr = cluster.api().wait_cidrs("n3", PATIENCE).unwrap()[0];
    let route = Route::via(cidr, n3.addresses[0], "eth0");
    n2.ip.del_route(&route).unwrap();
    let found = near.wait_open(cluster, &["PATH01/n2"], false, PATIENCE);
    found.unwrap_or_else(|error| panic!("{error}; {}", tails()));
    n2.ip.add_route(&route).unwrap();
    healthy();
    drop((agents, serving));
    stage.kubectl(&["delete", "clusterrolebinding", "cidrift-outside"]);
    stage.kubectl(&["delete", "clusterrole", "cidrift-aggregator"]);
    removal::gone(&stage);
}

/// With the programs where they are built: they need not be installed on the machine of the test.
#[test]
fn systemd_takes_the_units() {
    if !have(Need::Kubernetes) {
        return;
    }
    let programs = cidrift_lab::binaries::find(|text| eprintln!("{text}")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for name in ["cidrift-agent.service", "cidrift-aggregator.service"] {
        let beside = programs.lab.parent().unwrap().display().to_string();
        let path = directory.path().join(name);
        fs::write(&path, unit(name).replace("/usr/local/bin", &beside)).unwrap();
        paths.push(path);
    }
    let judged = Command::new("systemd-analyze")
        .arg("verify")
        .args(&paths)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&judged.stderr);
    // It only warns of settings that it does not know.
    assert!(judged.status.success() && !said.contains("cidrift-"), "{said}");
}
