//! The real host-local plugin is the referee of what is read of its leases and reckoned of its ranges.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cidrift_agent::observe::addresses::{AddressReader, Addresses};
use cidrift_agent::observe::root::HostRoot;
use cidrift_agent::view::growth::LeaseHistory;
use cidrift_agent::view::host::{Lease, RangeSet};
use cidrift_lab::binaries;
use cidrift_lab::kubernetes::tools::CNI_PLUGINS;
use cidrift_lab::require::{Need, have};
use cidrift_proto::facts::{CniConfig, CniFacts};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

/// A name that no network of the machine has: its own leases are read too.
const NETWORK: &str = "cidrift-host-local";

/// A network whose leases lie in a directory of its own.
struct Network {
    dir: tempfile::TempDir,
    config: Value,
    reader: AddressReader,
}

impl Network {
    fn new(mut ipam: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        ipam["type"] = "host-local".into();
        ipam["dataDir"] = dir.path().join("leases").to_str().into();
        let config = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "ipam": ipam});
        std::fs::write(dir.path().join("10-x.conf"), config.to_string()).unwrap();
        Self {
            dir,
            config,
            reader: AddressReader::new(HostRoot::new("/")),
        }
    }

    /// Runs the plugin as libcni does; its answer, or what it complains of.
    fn run(&self, command: &str, container: &str) -> Result<Value, String> {
        let mut plugin = Command::new(Path::new(CNI_PLUGINS).join("host-local"))
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", "/var/run/netns/none")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", CNI_PLUGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = plugin.stdin.take().unwrap();
        stdin.write_all(self.config.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = plugin.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(answer);
        }
        Err(answer["msg"].as_str().unwrap_or_default().to_owned())
    }

    fn look(&mut self) -> Addresses {
        let cni = CniFacts {
            chosen: Some(CniConfig {
                path: self.dir.path().join("10-x.conf").display().to_string(),
                network: NETWORK.into(),
                cni_version: "1.0.0".into(),
                plugins: vec!["bridge".into()],
                ipam: Some("host-local".into()),
                ranges: Vec::new(),
                subnets: Vec::new(),
                bridge: None,
                generated_by: None,
                modified_at: None,
            }),
            ..CniFacts::default()
        };
        self.reader.look(&cni, Timestamp::now())
    }

    fn leases(&mut self) -> Vec<Lease> {
        let leases = self.look().leases.value.unwrap();
        leases.into_iter().filter(|lease| lease.network == NETWORK).collect()
    }

    fn sets(&mut self) -> Vec<RangeSet> {
        self.look().ranges.value.unwrap()
    }
}

/// An id as containerd gives it.
fn id(number: u128) -> String {
    format!("{number:064x}")
}

fn lines(leases: &[Lease]) -> Vec<String> {
    let line = |lease: &Lease| format!("{} {}", lease.address, lease.container);
    leases.iter().map(line).collect()
}

#[test]
fn its_leases_are_read_from_the_first_to_the_last() {
    if !have(Need::Containerd) {
        return;
    }
    let mut network = Network::new(json!({"ranges": [[{"subnet": "10.244.7.0/24"}], [{"subnet": "fd00:7::/64"}]]}));
    let before = Timestamp::now();
    network.run("ADD", &id(1)).unwrap();
    network.run("ADD", &id(2)).unwrap();
    let leases = network.leases();
    let (one, two) = (id(1), id(2));
    assert_eq!(
        lines(&leases),
        [
            format!("10.244.7.2 {one}"),
            format!("10.244.7.3 {two}"),
            format!("fd00:7::2 {one}"),
            format!("fd00:7::3 {two}"),
        ]
    );
    for lease in &leases {
        let age = before.duration_since(lease.given_at.unwrap()).abs();
        assert!(age.as_secs() < 60, "{lease:?}");
    }
    network.run("DEL", &id(1)).unwrap();
    assert_eq!(network.leases().len(), 4, "what has gone is told once more");
    assert_eq!(
        lines(&network.leases()),
        [format!("10.244.7.3 {two}"), format!("fd00:7::3 {two}")]
    );
}

#[test]
fn it_gives_out_as_many_addresses_as_are_reckoned_and_then_names_the_same_range() {
    if !have(Need::Containerd) {
        return;
    }
    for ipam in [
        json!({"subnet": "10.244.7.0/29"}),
        json!({"subnet": "10.244.7.0/30"}),
        json!({"ranges": [[{"subnet": "10.244.7.0/28", "gateway": "10.244.7.14"}]]}),
        json!({"ranges": [[{"subnet": "10.244.7.0/24", "rangeStart": "10.244.7.100", "rangeEnd": "10.244.7.104"}]]}),
        json!({"ranges": [[{"subnet": "10.244.7.0/24", "rangeStart": "10.244.7.1", "rangeEnd": "10.244.7.4"}]]}),
        json!({"ranges": [[{"subnet": "10.244.7.0/29"}, {"subnet": "10.244.8.0/29", "gateway": "10.244.9.1"}]]}),
        json!({"ranges": [[{"subnet": "fd00:7::/125"}]]}),
    ] {
        let mut network = Network::new(ipam.clone());
        let set = network.sets().remove(0);
        for number in 0..set.usable() {
            network
                .run("ADD", &id(number))
                .unwrap_or_else(|error| panic!("{ipam}: {number}: {error}"));
        }
        let error = network.run("ADD", &id(1 << 64)).unwrap_err();
        assert_eq!(
            error,
            format!("failed to allocate for range 0: no IP addresses available in range set: {set}"),
            "{ipam}"
        );
        let leases = network.leases();
        assert_eq!(leases.len() as u128, set.usable(), "{ipam}");
        assert!(leases.iter().all(|lease| set.contains(lease.address)), "{ipam}");
    }
}

#[test]
fn it_refuses_what_is_said_to_be_refused() {
    if !have(Need::Containerd) {
        return;
    }
    for ipam in [
        json!({"subnet": "10.244.7.0/31"}),
        json!({"subnet": "10.244.7.9/24"}),
        json!({"subnet": "10.244.7.0/24", "rangeEnd": "10.244.8.1"}),
        json!({"ranges": [[{}]]}),
    ] {
        let mut network = Network::new(ipam.clone());
        assert!(network.look().ranges.unreadable().is_some(), "{ipam}");
        assert!(network.run("ADD", &id(1)).is_err(), "{ipam}");
    }
}

/// A lease that a crash cut short is never given back, and never given out again.
#[test]
fn an_empty_lease_is_taken_for_good() {
    if !have(Need::Containerd) {
        return;
    }
    let mut network = Network::new(json!({"subnet": "10.244.7.0/30"}));
    let directory = network.dir.path().join("leases").join(NETWORK);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("10.244.7.2"), "").unwrap();
    assert!(
        network
            .run("ADD", &id(1))
            .unwrap_err()
            .contains("no IP addresses available")
    );
    network.run("DEL", &id(1)).unwrap();
    assert_eq!(lines(&network.leases()), ["10.244.7.2 "]);
}

/// Half an hour of a clock of its own, in which pods come faster than they go.
#[test]
fn its_leases_are_counted_as_they_grow() {
    if !have(Need::Containerd) {
        return;
    }
    let mut network = Network::new(json!({"ranges": [[{"subnet": "10.244.7.0/24"}], [{"subnet": "fd00:7::/64"}]]}));
    let sets = network.sets();
    let mut history = LeaseHistory::default();
    network.run("ADD", &id(1000)).unwrap();
    for minute in 0..=20_u32 {
        network.run("ADD", &id(minute.into())).unwrap();
        if minute % 4 == 1 {
            network.run("DEL", &id((minute - 1).into())).unwrap();
            // What has gone is told once more.
            network.leases();
        }
        let leases = network.leases();
        let at = Timestamp::from_second(i64::from(minute) * 60).unwrap();
        history.note(NETWORK, &sets, &leases, at);
    }
    let growth: Vec<_> = history
        .growth()
        .iter()
        .map(|row| (row.set.to_string(), row.over.as_mins(), row.before, row.now))
        .collect();
    let wanted = |set: &RangeSet| (set.to_string(), 20, 2, 17);
    assert_eq!(growth, [wanted(&sets[0]), wanted(&sets[1])]);
}

fn remove_leases(network: &Network, leases: &[String]) -> String {
    let errand = binaries::find(|text| eprintln!("{text}")).unwrap().errand;
    let directory = network.dir.path().join("leases").join(NETWORK);
    let output = Command::new(errand)
        .args(["remove-leases", "--host-root", "/", "--directory"])
        .arg(directory)
        .args(leases)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_address_whose_lease_an_errand_removed_is_given_out_again() {
    if !have(Need::Containerd) {
        return;
    }
    let one = json!({"subnet": "fd00:7::/64", "rangeStart": "fd00:7::2", "rangeEnd": "fd00:7::2"});
    let network = Network::new(json!({"ranges": [[{"subnet": "10.244.7.0/30"}], [one]]}));
    let pod = network.run("ADD", &id(1)).unwrap();
    assert!(network.run("ADD", &id(2)).is_err());
    let leases = |container: u128| ["10.244.7.2", "fd00:7::2"].map(|address| format!("{address}={}", id(container)));
    let told = remove_leases(&network, &leases(2));
    assert!(
        told.contains(&format!("left alone: 10.244.7.2 (it is {}'s now)", id(1))),
        "{told}"
    );
    assert!(network.run("ADD", &id(2)).is_err());
    let told = remove_leases(&network, &leases(1));
    assert!(told.contains("removed: 10.244.7.2, fd00:7::2"), "{told}");
    assert_eq!(network.run("ADD", &id(2)).unwrap(), pod);
}

/// What an errand holds while it removes leases is what host-local itself waits for, and the other way round.
#[test]
fn it_waits_for_whoever_has_its_lock() {
    if !have(Need::Containerd) {
        return;
    }
    let network = Network::new(json!({"subnet": "10.244.7.0/24"}));
    network.run("ADD", &id(1)).unwrap();
    let lock = network.dir.path().join("leases").join(NETWORK).join("lock");
    let held = Flock::lock(File::open(lock).unwrap(), FlockArg::LockExclusive).unwrap();
    std::thread::scope(|scope| {
        let adds = scope.spawn(|| network.run("ADD", &id(2)));
        let removes = scope.spawn(|| remove_leases(&network, &[format!("10.244.7.2={}", id(1))]));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!adds.is_finished() && !removes.is_finished());
        drop(held);
        adds.join().unwrap().unwrap();
        assert!(removes.join().unwrap().contains("removed: 10.244.7.2"));
    });
}
