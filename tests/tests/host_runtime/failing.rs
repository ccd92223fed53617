//! Sandboxes that fail: the runtimes' own words, and the class that they are put in.

use std::fs;

use cidrift_lab::runtime::RuntimeHost;
use cidrift_proto::signature::Signature;

use crate::stage::{conflist, each, host, read};

/// What the runtime says when it cannot make a sandbox, and that none is ready then: 1.6 may keep what failed.
fn refusal(host: &RuntimeHost, name: &str) -> String {
    let status = host.try_sandbox(name, false).unwrap_err();
    let failed = read(host)
        .1
        .into_iter()
        .find(|sandbox| sandbox.pod == format!("default/{name}"));
    assert!(failed.is_none_or(|failed| !failed.ready && failed.addresses.is_empty()));
    status.message().to_owned()
}

fn assert_says(text: &str, parts: &[&str], signature: Signature) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(Signature::of(text), signature, "{text}");
}

#[test]
fn a_range_that_is_used_up() {
    each(|version| {
        let host = host(version, "10.244.7.0/29");
        let mut ids = Vec::new();
        for number in 1..=5 {
            ids.push(host.run_sandbox(&format!("p{number}")).unwrap());
        }
        let text = refusal(&host, "late");
        let says = [
            "failed to setup network for sandbox \"",
            "plugin type=\"bridge\"",
            "failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.7.1-10.244.7.6",
        ];
        assert_says(&text, &says, Signature::AddressesExhausted);
        assert_eq!(read(&host).1.iter().filter(|sandbox| sandbox.ready).count(), 5);
        host.remove_sandbox(&ids[0]).unwrap();
        host.run_sandbox("late").unwrap();
    });
}

#[test]
fn a_bridge_with_another_address() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        host.ip.add_bridge("cni0").unwrap();
        host.ip.add_addr("cni0", "10.244.3.1/24".parse().unwrap()).unwrap();
        let text = refusal(&host, "web");
        let says = ["failed to set bridge addr: \"cni0\" already has an IP address different from 10.244.7.1/24"];
        assert_says(&text, &says, Signature::BridgeAddress);
        // host-local takes its address back.
        let leases = fs::read_dir(host.leases("bench")).unwrap();
        let names = leases.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("10.")).count(), 0);
    });
}

#[test]
fn a_plugin_without_a_binary() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        fs::remove_file(host.plugins().join("bridge")).unwrap();
        // containerd does not notice until it needs it.
        assert!(read(&host).0.network_ready.unwrap().ok);
        let text = refusal(&host, "web");
        let says = ["failed to find plugin \"bridge\" in path [/var/lib/cni-plugins]"];
        assert_says(&text, &says, Signature::PluginMissing);
    });
}

#[test]
fn no_configuration_at_all() {
    each(|version| {
        let host = RuntimeHost::start(version).unwrap();
        let text = refusal(&host, "web");
        assert_says(&text, &["cni plugin not initialized"], Signature::NotInitialised);
        host.write_conflist(&conflist("10.244.7.0/24")).unwrap();
        // 1.6 keeps the name of what failed until that is removed.
        host.run_sandbox("later").unwrap();
    });
}
