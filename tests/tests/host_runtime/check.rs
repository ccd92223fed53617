//! `cidrift-agent check` on a host with a real runtime: what it finds, by which witnesses, and that it is gone once mended.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use cidrift_lab::runtime::RuntimeHost;
use serde_json::Value;

use crate::stage::{conflist, each, host};

/// What one look comes to, with this as the Node's CIDR.
struct Report(Value);

impl Report {
    fn of(host: &RuntimeHost, cidr: &str) -> Self {
        let arguments = ["check", "--node-name", "h1", "--pod-cidr", cidr, "-o", "json"];
        let output = host.run(&host.binaries().agent, &arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let report = serde_json::from_str(&text);
        Self(report.unwrap_or_else(|error| panic!("{error}: {output:?}")))
    }

    fn codes(&self) -> Vec<&str> {
        let findings = self.0["findings"].as_array().unwrap().iter();
        findings.map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    fn finding(&self, code: &str) -> &Value {
        let findings = self.0["findings"].as_array().unwrap().iter();
        let mut found = findings.filter(|finding| finding["code"] == code);
        found.next().unwrap_or_else(|| panic!("no {code} in {:#}", self.0))
    }

    /// What a witness says, and whether that agrees with the Node.
    fn witness(&self, what: &str) -> (&str, &str) {
        let rows = self.0["compared"].as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["what"] == what);
        let row = found.next().unwrap_or_else(|| panic!("no {what} in {:#}", self.0));
        (row["value"].as_str().unwrap(), row["agrees"].as_str().unwrap())
    }

    fn assert_nothing_wrong(&self) {
        assert_eq!(self.codes(), Vec::<&str>::new(), "{:#}", self.0);
    }
}

#[test]
fn pods_of_the_nodes_cidr_are_right_by_every_witness() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        host.run_sandbox("web").unwrap();
        let report = Report::of(&host, "10.244.7.0/24");
        report.assert_nothing_wrong();
        for (what, value) in [
            ("CNI config", "bridge, host-local: 10.244.7.0/24"),
            ("bridge cni0", "10.244.7.1/24"),
            ("to 10.244.7.0/24", "on-link dev cni0"),
            ("running pods", "10.244.7.2"),
            ("CNI's record", "10.244.7.2"),
        ] {
            let (said, agrees) = report.witness(what);
            // The bridge has a link-local address besides.
            assert!(said.starts_with(value) && agrees == "yes", "{what}: {said}, {agrees}");
        }
        assert_eq!(report.0["unjudged"], Value::Array(Vec::new()), "{:#}", report.0);
    });
}

#[test]
fn pods_of_another_range_are_told_until_they_are_replaced() {
    each(|version| {
        let host = host(version, "10.244.9.0/24");
        let id = host.run_sandbox("web").unwrap();
        let report = Report::of(&host, "10.244.7.0/24");
        assert_eq!(report.codes(), ["HOST01", "HOST02", "HOST03"], "{:#}", report.0);
        let text = report.finding("HOST03").to_string();
        for part in ["default/web", "10.244.9.2", "SANDBOX_READY"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let (value, agrees) = report.witness("running pods");
        assert_eq!((value, agrees), ("1 address, 1 outside: 10.244.9.2", "no"));

        host.remove_sandbox(&id).unwrap();
        host.ip.del_link("cni0").unwrap();
        host.write_conflist(&conflist("10.244.7.0/24")).unwrap();
        // The runtime hears of the file by inotify.
        let again = host.wait("a pod of the new range", Duration::from_secs(20), || {
            let made = host.run_sandbox("web")?;
            let report = Report::of(&host, "10.244.7.0/24");
            if report.codes().is_empty() {
                return Ok(Some(report));
            }
            host.remove_sandbox(&made)?;
            let _ = host.ip.del_link("cni0");
            Ok(None)
        });
        assert_eq!(again.unwrap().witness("running pods"), ("10.244.7.2", "yes"));
    });
}

#[test]
fn a_range_that_is_full_explains_the_sandboxes_that_fail() {
    each(|version| {
        let host = host(version, "10.244.7.0/29");
        let ids: Vec<String> = (1..=5)
            .map(|number| host.run_sandbox(&format!("p{number}")).unwrap())
            .collect();
        // As a kubelet goes on trying.
        for _ in 0..4 {
            for name in ["late-1", "late-2"] {
                host.try_sandbox(name, false).unwrap_err();
            }
        }
        let report = Report::of(&host, "10.244.7.0/29");
        assert_eq!(report.codes(), ["HOST05", "SAND01"], "{:#}", report.0);
        let sandboxes = report.finding("SAND01").to_string();
        for part in [
            "2 pods of h1 get no sandbox: the node's address range is used up",
            "no IP addresses available in range set: 10.244.7.1-10.244.7.6",
            "default/late-1",
            "containerd",
        ] {
            assert!(sandboxes.contains(part), "{part} in {sandboxes}");
        }
        assert_eq!(report.finding("HOST05")["severity"], "error");
        assert_eq!(report.witness("CNI's record"), ("5 addresses", "yes"));

        for id in &ids[..3] {
            host.remove_sandbox(id).unwrap();
        }
        for name in ["late-1", "late-2"] {
            host.run_sandbox(name).unwrap();
        }
        let report = Report::of(&host, "10.244.7.0/29");
        assert!(!report.codes().contains(&"SAND01"), "{:#}", report.0);
    });
}

#[test]
fn leases_that_nobody_has_are_leaked_once_they_are_old() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        host.run_sandbox("web").unwrap();
        let leases = host.leases("bench");
        for number in 50..70 {
            let id = format!("{number:064x}");
            fs::write(leases.join(format!("10.244.7.{number}")), format!("{id}\r\neth0")).unwrap();
        }
        Report::of(&host, "10.244.7.0/24").assert_nothing_wrong();
        let old = SystemTime::now() - Duration::from_secs(3600);
        for number in 50..70 {
            let file = File::options()
                .write(true)
                .open(leases.join(format!("10.244.7.{number}")));
            file.unwrap().set_modified(old).unwrap();
        }
        let report = Report::of(&host, "10.244.7.0/24");
        assert_eq!(report.codes(), ["HOST05"], "{:#}", report.0);
        let text = report.finding("HOST05").to_string();
        assert!(text.contains("20") && text.contains("10.244.7.50"), "{text}");
        for number in 50..70 {
            fs::remove_file(leases.join(format!("10.244.7.{number}"))).unwrap();
        }
        Report::of(&host, "10.244.7.0/24").assert_nothing_wrong();
    });
}

#[test]
fn a_plugin_that_is_missing_is_told_before_a_pod_fails() {
    each(|version| {
        let host = host(version, "10.244.7.0/24");
        host.run_sandbox("web").unwrap();
        let (there, away) = (host.plugins().join("host-local"), host.plugins().join("away"));
        fs::rename(&there, &away).unwrap();
        let report = Report::of(&host, "10.244.7.0/24");
        assert_eq!(report.codes(), ["HOST06"], "{:#}", report.0);
        let text = report.finding("HOST06").to_string();
        assert!(text.contains("host-local"), "{text}");
        fs::rename(&away, &there).unwrap();
        Report::of(&host, "10.244.7.0/24").assert_nothing_wrong();
    });
}
