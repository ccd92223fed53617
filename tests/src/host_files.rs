//! A host's files as flannel and its installer leave them, below a directory
//! that the agent takes for the host's root.

use ipnet::IpNet;
use serde_json::json;

use crate::dataplane::pod_mtu;
use crate::step::Step;
use crate::topology::{Dataplane, Identity, first_address};

/// Where flannel's CNI configuration is.
pub const CONFLIST: &str = "/etc/cni/net.d/10-flannel.conflist";
/// Where flanneld tells its CNI plugin the node's range.
pub const SUBNET_ENV: &str = "/run/flannel/subnet.env";
/// A conflist that the runtime prefers to flannel's: the first by name wins.
pub const LEFTOVER: &str = "/etc/cni/net.d/05-bridge.conflist";

/// All files of a host.
pub fn of(host: &Identity, dataplane: Dataplane) -> Vec<Step> {
    vec![
        write(host, CONFLIST, flannel_conflist()),
        write(host, SUBNET_ENV, subnet_env(&host.cidrs, dataplane)),
    ]
}

/// A file of a host.
pub fn write(host: &Identity, path: &str, text: String) -> Step {
    Step::WriteFile {
        host: host.name.clone(),
        path: path.to_owned(),
        text,
    }
}

/// As kube-flannel's ConfigMap has it.
fn flannel_conflist() -> String {
    let config = json!({
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            {"type": "flannel", "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

/// As flanneld writes it for a node that has these CIDRs.
pub fn subnet_env(cidrs: &[IpNet], dataplane: Dataplane) -> String {
    let mut lines = Vec::new();
    for &cidr in cidrs {
        let (network, family) = if cidr.addr().is_ipv4() {
            ("10.244.0.0/16", "")
        } else {
            ("fd00:244::/48", "IPV6_")
        };
        lines.push(format!("FLANNEL_{family}NETWORK={network}"));
        lines.push(format!("FLANNEL_{family}SUBNET={}", first_address(cidr)));
    }
    lines.push(format!("FLANNEL_MTU={}", pod_mtu(dataplane)));
    lines.push("FLANNEL_IPMASQ=true".to_owned());
    lines.join("\n") + "\n"
}

/// A bridge configuration with a range of its own, as an installer that was
/// there before flannel leaves it.
pub fn bridge_conflist(range: IpNet) -> String {
    let config = json!({
        "name": "k8s-pod-network",
        "cniVersion": "1.0.0",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": true,
            "ipMasq": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": range}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    });
    format!("{config:#}\n")
}
