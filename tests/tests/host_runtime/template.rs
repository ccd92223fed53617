//! containerd's `conf_template`: rendered while no CNI configuration loads, and never again.

use std::fs;

use cidrift_lab::runtime::RuntimeHost;

use crate::stage::{each, loaded, read};

const CONFLIST: &str = "10-containerd-net.conflist";

#[test]
fn a_template_is_rendered_once_and_not_again() {
    each(|version| {
        let host = RuntimeHost::start_with_template(version).unwrap();
        let (runtime, _) = read(&host);
        assert_eq!(runtime.template.as_deref(), Some("/etc/containerd/cni.template"));
        assert_eq!(runtime.networks, []);
        assert!(!runtime.network_ready.unwrap().ok);

        host.cri.update("10.244.3.0/24").unwrap();
        host.wait_network_ready(true).unwrap();
        assert_eq!(loaded(&host), ["10.244.3.0/24"]);
        let path = host.cni_directory().join(CONFLIST);
        let rendered = fs::read_to_string(&path).unwrap();

        // The Node gets another CIDR, and its kubelet says so.
        host.cri.update("10.244.9.0/24").unwrap();
        assert!(host.containerd.log_contains("skip generating cni config from template"));
        assert_eq!(fs::read_to_string(&path).unwrap(), rendered);
        assert_eq!(loaded(&host), ["10.244.3.0/24"]);
        host.containerd.restart().unwrap();
        host.wait_network_ready(true).unwrap();
        host.cri.update("10.244.9.0/24").unwrap();
        assert_eq!(loaded(&host), ["10.244.3.0/24"]);

        // What the agent says of it, on the host.
        let agent = &host.binaries().agent;
        let check = [
            "check",
            "--node-name",
            "h1",
            "--pod-cidr",
            "10.244.9.0/24",
            "--internal-ip",
            "172.30.0.11",
        ];
        let output = host.run(agent, &check).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("HOST01") && text.contains("10.244.3.0/24"), "{text}");

        // The remedy: the file goes, containerd starts, the kubelet tells it the CIDR.
        host.delete_conflists().unwrap();
        host.containerd.restart().unwrap();
        host.wait_network_ready(false).unwrap();
        host.cri.update("10.244.9.0/24").unwrap();
        host.wait_network_ready(true).unwrap();
        assert_eq!(loaded(&host), ["10.244.9.0/24"]);
    });
}
