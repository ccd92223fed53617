//! `cidrift-errand`: what it has a real containerd render, and that it is in the agent's image and starts there.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use cidrift_lab::frozen::freeze;
use cidrift_lab::image;
use cidrift_lab::kubernetes::Containerd;
use cidrift_lab::runtime::RuntimeHost;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stage::{each, loaded, read};

const PATH: &str = "/etc/cni/net.d/10-containerd-net.conflist";

/// Runs an errand on the host, as a Pod with the host's network does.
fn errand(host: &RuntimeHost, arguments: &[&str]) -> Output {
    let root = host.root().to_str().unwrap();
    let words: Vec<&str> = [arguments[0], "--host-root", root]
        .into_iter()
        .chain(arguments[1..].iter().copied())
        .collect();
    host.run(&host.binaries().errand, &words).unwrap()
}

fn render(host: &RuntimeHost, cidrs: &[&str], timeout: &str) -> Result<String, String> {
    let mut words = vec![
        "render",
        "--endpoint",
        "unix:///run/containerd/containerd.sock",
        "--path",
        PATH,
    ];
    words.extend(["--timeout", timeout]);
    words.extend(cidrs.iter().flat_map(|cidr| ["--pod-cidr", cidr]));
    said(&errand(host, &words))
}

fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(1) => Err(text(&output.stderr)),
        other => panic!("{other:?}: {}", text(&output.stderr)),
    }
}

#[test]
fn a_template_is_rendered_anew_once_its_file_is_removed() {
    each(|version| {
        let host = RuntimeHost::start_with_template(version).unwrap();
        let first = render(&host, &["10.244.3.0/24"], "30s").unwrap();
        assert_eq!(first, format!("cidrift-errand: {PATH} was rendered for 10.244.3.0/24"));
        host.wait_network_ready(true).unwrap();
        assert_eq!(loaded(&host), ["10.244.3.0/24"]);
        let rendered = fs::read(host.root().join(&PATH[1..])).unwrap();

        // The Node gets others. Over what is there nothing is rendered.
        let both = ["10.244.9.0/24", "fd00:244:9::/64"];
        let told = render(&host, &both, "30s").unwrap_err();
        assert!(
            told.contains("names 10.244.3.0/24, not 10.244.9.0/24, fd00:244:9::/64")
                && told.contains("remove it first"),
            "{told}"
        );
        assert_eq!(fs::read(host.root().join(&PATH[1..])).unwrap(), rendered);

        // containerd is not restarted: its watch tells it that the file is gone.
        let told = said(&errand(&host, &["remove-file", "--containing", "10.244.3.0/24", PATH])).unwrap();
        assert_eq!(told, format!("cidrift-errand: removed {PATH}"));
        let told = render(&host, &both, "30s").unwrap();
        assert!(
            told.ends_with("was rendered for 10.244.9.0/24, fd00:244:9::/64"),
            "{told}"
        );
        let done = || Ok((loaded(&host) == both).then_some(()));
        host.wait("containerd has loaded both", Duration::from_secs(20), done)
            .unwrap();
        let web = host.run_sandbox("web").unwrap();
        let addresses: Vec<_> = read(&host)
            .1
            .into_iter()
            .find(|sandbox| sandbox.id == web)
            .unwrap()
            .addresses;
        assert_eq!(addresses.len(), 2);
        assert!(addresses.iter().all(|address| {
            both.iter()
                .any(|cidr| cidr.parse::<ipnet::IpNet>().unwrap().contains(address))
        }));

        // Once more: it is done, and what was written anew is not removed for what it was.
        let told = render(&host, &both, "30s").unwrap();
        assert!(told.ends_with("already"), "{told}");
        let told = said(&errand(&host, &["remove-file", "--containing", "10.244.3.0/24", PATH])).unwrap();
        assert!(told.ends_with("is left alone"), "{told}");
    });
}

#[test]
fn a_configuration_that_keeps_containerd_from_rendering_is_named() {
    each(|version| {
        let host = RuntimeHost::start_with_template(version).unwrap();
        host.write_conflist(&crate::stage::conflist("10.244.3.0/24")).unwrap();
        let told = render(&host, &["10.244.9.0/24"], "2s").unwrap_err();
        assert!(
            told.contains("was not rendered within 2 s") && told.ends_with("there is 10-bridge.conflist"),
            "{told}"
        );
        assert!(!host.root().join(&PATH[1..]).exists());
    });
}

#[test]
fn a_stopped_containerd_costs_bounded_time() {
    each(|version| {
        let host = RuntimeHost::start_with_template(version).unwrap();
        let pid = Pid::from_raw(host.containerd.pid().unwrap().cast_signed());
        freeze(pid).unwrap();
        let start = Instant::now();
        let told = render(&host, &["10.244.9.0/24"], "3s").unwrap_err();
        let took = start.elapsed();
        kill(pid, Signal::SIGCONT).unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(told.contains("it did not answer"), "{told}");
        let told = render(&host, &["10.244.9.0/24"], "30s").unwrap();
        assert!(told.contains("rendered for") || told.ends_with("already"), "{told}");
    });
}

/// In a container of the agent's image, as a Pod would have it: with a directory of the host and a termination log.
#[test]
fn it_is_in_the_agents_image_and_starts_there() {
    each(|version| {
        let host = RuntimeHost::start(version).unwrap();
        let [archive, _] = image::kept(host.binaries(), image::CURRENT).unwrap();
        let mut words = vec!["images", "import", "--snapshotter", "native", archive.to_str().unwrap()];
        if version == Containerd::V2 {
            // Its daemon does not unpack for the native snapshotter; ctr itself does.
            words.insert(2, "--local");
        }
        let output = host.ctr(&words).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let log = host.directory().join("termination-log");
        fs::write(&log, "").unwrap();
        let directory = host.cni_directory();
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("stale.conflist"), "10.244.3.0/24").unwrap();
        let name = format!("{}:{}", image::AGENT, image::CURRENT);
        let run = |id: &str, arguments: &[&str]| {
            let mounts = [
                format!(
                    "type=bind,src={},dst=/dev/termination-log,options=rbind:rw",
                    log.display()
                ),
                format!(
                    "type=bind,src={},dst=/host/etc/cni/net.d,options=rbind:rw",
                    directory.display()
                ),
            ];
            let mut words = vec!["run", "--rm", "--net-host", "--snapshotter", "native"];
            words.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
            words.extend([name.as_str(), id, "/usr/bin/cidrift-errand"]);
            words.extend(arguments);
            said(&host.ctr(&words).unwrap())
        };
        assert_eq!(
            run("one", &["--version"]),
            Ok(format!("cidrift-errand {}", image::CURRENT))
        );
        let remove = ["remove-file", "--host-root", "/host", "/etc/cni/net.d/stale.conflist"];
        assert_eq!(
            run("two", &remove),
            Ok("cidrift-errand: removed /etc/cni/net.d/stale.conflist".to_owned())
        );
        assert!(!directory.join("stale.conflist").exists());
        let told = run("three", &["remove-link", "lo"]).unwrap_err();
        assert!(told.contains("lo is no virtual device"), "{told}");
        // ctr says something of its own before it.
        assert_eq!(Some(fs::read_to_string(&log).unwrap().trim_end()), told.lines().last());
    });
}
