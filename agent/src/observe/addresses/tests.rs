//! Both stores, as the real plugins leave them.

use std::os::unix::fs::{PermissionsExt, symlink};

use cidrift_proto::facts::CniConfig;
use serde_json::json;

use super::*;

struct Host {
    dir: tempfile::TempDir,
    reader: AddressReader,
    cni: CniFacts,
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

impl Host {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // What every host has.
        for directory in ["run", "var/lib", "var/run"] {
            std::fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        let mut host = Self {
            reader: AddressReader::new(HostRoot::new(dir.path())),
            dir,
            cni: CniFacts::default(),
        };
        host.write("/etc/cni/net.d/10-x.conflist", config.as_bytes());
        host.cni.chosen = Some(CniConfig {
            path: "/etc/cni/net.d/10-x.conflist".into(),
            network: "kindnet".into(),
            cni_version: "0.3.1".into(),
            plugins: vec!["ptp".into()],
            ipam: Some("host-local".into()),
            ranges: vec![],
            subnets: vec![],
            bridge: None,
            generated_by: None,
            modified_at: None,
        });
        host
    }

    fn bare() -> Self {
        Self::new(r#"{"name": "kindnet", "plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}]}"#)
    }

    fn kind() -> Self {
        let config = json!({"name": "kindnet", "plugins": [{"type": "ptp", "ipam": {
            "type": "host-local", "dataDir": "/run/cni-ipam-state", "ranges": [[{"subnet": "10.244.1.0/24"}]]}}]});
        Self::new(&config.to_string())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn look(&mut self) -> Addresses {
        self.reader.look(&self.cni, NOW)
    }

    /// A line for each lease.
    fn leases(&mut self) -> Vec<String> {
        let leases = self.look().leases.value.unwrap();
        let line = |lease: &Lease| {
            assert!(lease.given_at.is_some());
            format!("{} {} {}", lease.network, lease.address, lease.container)
        };
        leases.iter().map(line).collect()
    }
}

#[test]
fn leases_of_all_networks_are_read_and_host_locals_own_files_are_none() {
    let mut host = Host::bare();
    for (name, content) in [
        ("10.244.1.2", "aa\r\neth0"),
        ("fd00:1::2", "aa\r\neth0"),
        ("10.244.1.3", "bb"),
        ("last_reserved_ip.0", "10.244.1.3"),
        ("lock", ""),
    ] {
        host.write(&format!("/var/lib/cni/networks/kindnet/{name}"), content.as_bytes());
    }
    host.write("/var/lib/cni/networks/podman/10.88.0.2", b"cc\r\neth0");
    assert_eq!(
        host.leases(),
        [
            "kindnet 10.244.1.2 aa",
            "kindnet 10.244.1.3 bb",
            "kindnet fd00:1::2 aa",
            "podman 10.88.0.2 cc"
        ]
    );
    assert_eq!(host.look().leases.source, "/var/lib/cni/networks");
}

#[test]
fn kinds_leases_are_where_its_file_says_and_those_of_former_days_are_not_told() {
    let mut host = Host::kind();
    host.write("/run/cni-ipam-state/kindnet/10.244.1.2", b"aa\r\neth0");
    host.write("/var/lib/cni/networks/kindnet/10.244.1.9", b"old\r\neth0");
    host.write("/var/lib/cni/networks/podman/10.88.0.2", b"cc\r\neth0");
    assert_eq!(host.leases(), ["kindnet 10.244.1.2 aa", "podman 10.88.0.2 cc"]);
    let ranges = host.look().ranges;
    assert_eq!(ranges.value.unwrap()[0].to_string(), "10.244.1.1-10.244.1.254");
}

#[test]
fn a_lease_being_written_is_taken_by_nobody_until_it_is_written() {
    let mut host = Host::bare();
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", b"");
    assert_eq!(host.leases(), ["kindnet 10.244.1.2 "]);
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", b"aa\r\neth0");
    assert_eq!(host.leases(), ["kindnet 10.244.1.2 aa"]);
}

#[test]
fn a_lease_too_long_to_be_one_is_taken_all_the_same() {
    let mut host = Host::bare();
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", &[b'a'; 5000]);
    assert_eq!(host.leases(), ["kindnet 10.244.1.2 "]);
}

#[test]
fn a_lease_that_has_gone_is_told_once_more() {
    let mut host = Host::bare();
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", b"aa\r\neth0");
    host.leases();
    std::fs::remove_file(host.at("/var/lib/cni/networks/kindnet/10.244.1.2")).unwrap();
    assert_eq!(host.leases(), ["kindnet 10.244.1.2 aa"]);
    assert_eq!(host.leases(), [""; 0]);
    std::fs::remove_dir_all(host.at("/var/lib/cni/networks/kindnet")).unwrap();
    assert_eq!(host.leases(), [""; 0]);
}

#[test]
fn without_directories_there_is_nothing_and_that_is_no_fault() {
    let mut host = Host::kind();
    let looked = host.look();
    assert_eq!(
        looked.leases,
        absent(NOW, "/run/cni-ipam-state", "there is no such directory")
    );
    assert_eq!(looked.results, absent(NOW, RESULTS, "there is no such directory"));
    host.cni = CniFacts::default();
    assert_eq!(host.look().leases, absent(NOW, LEASES, "there is no such directory"));
    assert_eq!(host.look().ranges, absent(NOW, "", "no configuration of host-local"));
}

#[test]
fn directories_that_are_not_mounted_for_the_agent_are_unreadable_and_not_absent() {
    let mut host = Host::bare();
    std::fs::remove_dir_all(host.at("/var/lib")).unwrap();
    let looked = host.look();
    for why in [looked.leases.unreadable(), looked.results.unreadable()] {
        assert!(why.unwrap().ends_with("it is not mounted there"), "{why:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_leaves_the_leases_unknown() {
    let mut host = Host::new("{");
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", b"aa\r\neth0");
    let why = host.look().leases.unreadable().unwrap().to_owned();
    assert!(why.starts_with("where leases are kept is not known: EOF"), "{why}");
}

#[test]
fn what_may_not_be_read_is_said_and_not_taken_for_empty() {
    let mut host = Host::bare();
    host.write("/var/lib/cni/networks/kindnet/10.244.1.2", b"aa\r\neth0");
    // A link in a circle cannot be read by root either.
    symlink("results", host.at("/var/lib/cni/results")).unwrap();
    let looked = host.look();
    assert!(looked.results.unreadable().unwrap().contains("/var/lib/cni/results: "));
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let lease = host.at("/var/lib/cni/networks/kindnet/10.244.1.2");
    std::fs::set_permissions(lease, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut anew = AddressReader::new(HostRoot::new(host.dir.path()));
    assert!(
        anew.look(&host.cni, NOW)
            .leases
            .unreadable()
            .unwrap()
            .contains("run as root")
    );
}

#[test]
fn crowds_are_refused_with_their_number() {
    let mut host = Host::bare();
    for network in 0..=NETWORKS {
        std::fs::create_dir_all(host.at(&format!("/var/lib/cni/networks/n{network}"))).unwrap();
    }
    assert_eq!(
        host.look().leases.unreadable(),
        Some("/var/lib/cni/networks has more than 64 entries: it is not read")
    );
}

#[test]
fn a_torn_result_is_counted_and_read_once_it_is_whole() {
    let mut host = Host::bare();
    let whole = result::tests::file("cbr0", "3f2a", "web", &json!({"ips": [{"address": "10.244.1.2/24"}]}));
    host.write("/var/lib/cni/results/cbr0-3f2a-eth0", &whole);
    host.write("/var/lib/cni/results/cbr0-77aa-eth0", &whole[..50]);
    let looked = host.look().results;
    assert_eq!(
        looked.source,
        "/var/lib/cni/results (without 1 of 2: cbr0-77aa-eth0: EOF while parsing a string at line 1 column 50)"
    );
    assert_eq!(looked.value.unwrap().len(), 1);
    host.write("/var/lib/cni/results/cbr0-77aa-eth0", &whole);
    let looked = host.look().results;
    assert_eq!((looked.source.as_str(), looked.value.unwrap().len()), (RESULTS, 2));
}
