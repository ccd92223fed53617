use std::fs;

use super::*;

struct Proc(tempfile::TempDir);

impl Proc {
    /// A host that forwards both families, with these devices.
    fn new(devices: &[&str]) -> Self {
        let proc = Self(tempfile::tempdir().unwrap());
        proc.set("ipv4/ip_forward", "1");
        proc.set("ipv4/conf/default/forwarding", "0");
        proc.set("ipv4/conf/all/rp_filter", "0");
        proc.set("ipv6/conf/all/forwarding", "1");
        for name in devices {
            proc.device(name);
        }
        proc
    }

    fn device(&self, name: &str) {
        self.set(&format!("ipv4/conf/{name}/forwarding"), "1");
        self.set(&format!("ipv4/conf/{name}/rp_filter"), "0");
        self.set(&format!("ipv6/conf/{name}/forwarding"), "1");
    }

    fn set(&self, key: &str, value: &str) {
        let path = self.0.path().join("proc/sys/net").join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    fn reader(&self) -> SettingReader {
        SettingReader::with_proc(HostRoot::new(self.0.path()))
    }
}

fn look(reader: &mut SettingReader) -> Settings {
    reader.look(Timestamp::UNIX_EPOCH).value.unwrap()
}

#[test]
fn a_host_that_forwards_has_no_device_that_does_not() {
    let proc = Proc::new(&["eth0", "cni0"]);
    let settings = look(&mut proc.reader());
    assert_eq!(
        settings,
        Settings {
            ipv4_forward: Some(true),
            ipv6_forward: Some(true),
            rp_filter_all: Some(0),
            ..Settings::default()
        }
    );
}

#[test]
fn a_device_that_does_not_forward_and_one_that_filters_are_named() {
    let proc = Proc::new(&["eth0", "flannel.1", "cni0"]);
    proc.set("ipv4/conf/flannel.1/forwarding", "0");
    proc.set("ipv6/conf/eth0/forwarding", "0");
    proc.set("ipv4/conf/cni0/rp_filter", "2");
    let settings = look(&mut proc.reader());
    assert_eq!(settings.ipv4_forward_off, ["flannel.1"]);
    assert_eq!(settings.ipv6_forward_off, ["eth0"]);
    assert_eq!(settings.rp_filter, BTreeMap::from([("cni0".to_owned(), 2)]));
}

#[test]
fn where_the_host_does_not_forward_its_devices_are_not_named_one_by_one() {
    let proc = Proc::new(&["eth0"]);
    proc.set("ipv4/ip_forward", "0");
    proc.set("ipv4/conf/eth0/forwarding", "0");
    let settings = look(&mut proc.reader());
    assert_eq!(
        (settings.ipv4_forward, settings.ipv4_forward_off.len()),
        (Some(false), 0)
    );
}

#[test]
fn a_host_without_ipv6_and_without_br_netfilter_has_no_word_on_them() {
    let proc = Proc::new(&["eth0"]);
    fs::remove_dir_all(proc.0.path().join("proc/sys/net/ipv6")).unwrap();
    let settings = look(&mut proc.reader());
    assert_eq!((settings.ipv6_forward, settings.bridge_nf_call_iptables), (None, None));
    proc.set("bridge/bridge-nf-call-iptables", "0");
    assert_eq!(look(&mut proc.reader()).bridge_nf_call_iptables, Some(false));
}

#[test]
fn ipv6_that_is_forced_on_for_a_device_is_neither_on_nor_off() {
    let proc = Proc::new(&["eth0"]);
    proc.set("ipv6/conf/all/forwarding", "0");
    assert_eq!(look(&mut proc.reader()).ipv6_forward, Some(false));
    proc.set("ipv6/conf/eth0/force_forwarding", "1");
    assert_eq!(look(&mut proc.reader()).ipv6_forward, None);
}

#[test]
fn new_devices_are_read_at_once_known_ones_with_the_next_sweep_and_gone_ones_forgotten() {
    let proc = Proc::new(&["eth0", "cni0"]);
    let mut reader = proc.reader();
    look(&mut reader);
    proc.set("ipv4/conf/cni0/forwarding", "0");
    proc.device("veth1");
    proc.set("ipv4/conf/veth1/forwarding", "0");
    assert_eq!(look(&mut reader).ipv4_forward_off, ["veth1"]);
    fs::remove_dir_all(proc.0.path().join("proc/sys/net/ipv4/conf/veth1")).unwrap();
    for _ in 2..SWEEP {
        assert!(look(&mut reader).ipv4_forward_off.is_empty());
    }
    assert_eq!(look(&mut reader).ipv4_forward_off, ["cni0"]);
}

#[test]
fn a_change_of_the_whole_hosts_setting_has_every_device_read_again() {
    let proc = Proc::new(&["eth0"]);
    let mut reader = proc.reader();
    look(&mut reader);
    proc.set("ipv4/ip_forward", "0");
    proc.set("ipv4/conf/eth0/forwarding", "0");
    look(&mut reader);
    proc.set("ipv4/ip_forward", "1");
    assert_eq!(look(&mut reader).ipv4_forward_off, ["eth0"]);
}

#[test]
fn pods_own_ports_give_way_where_there_are_too_many_devices() {
    let proc = Proc::new(&[]);
    for at in 0..8 {
        proc.device(&format!("veth{at}"));
    }
    proc.device("vxlan.calico");
    proc.set("ipv4/conf/vxlan.calico/forwarding", "0");
    let mut reader = proc.reader();
    reader.limit = 4;
    assert_eq!(look(&mut reader).ipv4_forward_off, ["vxlan.calico"]);
    assert_eq!(reader.devices.len(), 4);
}

#[test]
fn rubbish_and_a_missing_proc_are_a_reason() {
    let proc = Proc::new(&["eth0"]);
    proc.set("ipv4/conf/eth0/rp_filter", "x");
    let observed = proc.reader().look(Timestamp::UNIX_EPOCH);
    assert_eq!(
        observed.unreadable(),
        Some("ipv4/conf/eth0/rp_filter: not a number: \"x\"")
    );
    let empty = tempfile::tempdir().unwrap();
    let mut reader = SettingReader::with_proc(HostRoot::new(empty.path()));
    let observed = reader.look(Timestamp::UNIX_EPOCH);
    assert_eq!(observed.unreadable(), Some("ipv4/ip_forward: No such file"));
}

#[test]
fn the_settings_of_this_very_namespace_can_be_read() {
    let mut reader = SettingReader::new(HostRoot::new("/nowhere"));
    assert_eq!(look(&mut reader), look(&mut reader));
}

proptest::proptest! {
    // Each case makes files.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_a_file_holds_nothing_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        let proc = Proc::new(&["eth0"]);
        fs::write(proc.0.path().join("proc/sys/net/ipv4/conf/eth0/rp_filter"), &bytes).unwrap();
        let _ = proc.reader().look(Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn a_value_is_read_as_it_was_written(filter in 0u8..3) {
        let proc = Proc::new(&["eth0"]);
        proc.set("ipv4/conf/eth0/rp_filter", &filter.to_string());
        let found = look(&mut proc.reader()).rp_filter.get("eth0").copied();
        proptest::prop_assert_eq!(found.unwrap_or(0), filter);
    }
}
