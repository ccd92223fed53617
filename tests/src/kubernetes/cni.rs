//! CNI configurations, and what libcni keeps of the pods that it made.

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kubernetes::error::{Error, Result, io};
use crate::kubernetes::node::Node;
use crate::kubernetes::pki::write;
use crate::route::Route;

/// Where the bench writes its conflist, below `etc/cni/net.d`.
pub const CONFLIST: &str = "10-bridge.conflist";

/// For containerd's `conf_template`: it fills in the pod CIDRs that kubelet
/// tells it, in Go's template language.
pub const TEMPLATE: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "k8s-pod-network",
  "plugins": [{
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": true,
    "hairpinMode": true,
    "ipam": {
      "type": "host-local",
      "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}],
      "routes": [{{range $i, $route := .Routes}}{{if $i}}, {{end}}{"dst": "{{$route}}"}{{end}}]
    }
  }]
}
"#;

/// A bridge with host-local addresses out of these subnets, one a family.
pub fn bridge(subnets: &[IpNet]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    let everywhere = |subnet: &IpNet| if subnet.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let routes: Vec<Value> = subnets
        .iter()
        .map(|subnet| json!({"dst": everywhere(subnet)}))
        .collect();
    json!({
        "cniVersion": "0.4.0",
        "name": "bench",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        }],
    })
}

/// What flannel's CNI plugin delegates to: a bridge with the subnet and MTU of
/// flanneld's `subnet.env`.
pub fn flannel(subnet_env: &str) -> Result<Value> {
    let value = |key: &str| {
        let found = subnet_env
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.ok_or_else(|| Error::Malformed(format!("no {key} in subnet.env")))
    };
    let malformed = |what: &str| Error::Malformed(format!("{what} of subnet.env"));
    // It is the bridge's own address with the subnet's length.
    let subnet: IpNet = value("FLANNEL_SUBNET")?
        .parse()
        .map_err(|_| malformed("FLANNEL_SUBNET"))?;
    let mtu: u32 = value("FLANNEL_MTU")?.parse().map_err(|_| malformed("FLANNEL_MTU"))?;
    let mut conflist = bridge(&[subnet.trunc()]);
    conflist["name"] = json!("cbr0");
    conflist["plugins"][0]["mtu"] = json!(mtu);
    Ok(conflist)
}

/// Writes a conflist as tools do that mean well: whole or not at all, under
/// its name only once it is complete.
pub fn write_conflist(directory: &Path, name: &str, conflist: &Value) -> Result<()> {
    let fresh = directory.join(format!(".{name}.new"));
    write(&fresh, &format!("{conflist:#}\n"), 0o644)?;
    fs::rename(&fresh, directory.join(name)).map_err(io(format!("rename {}", fresh.display())))
}

/// What a runtime would look at, in its order: by name, without hidden files.
pub fn conflists(directory: &Path) -> Result<Vec<PathBuf>> {
    let what = || io(format!("read {}", directory.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(what())? {
        let path = entry.map_err(what())?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let known = path
            .extension()
            .is_some_and(|end| ["conf", "conflist", "json"].iter().any(|known| end == *known));
        if known && !hidden {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Makes every node's way to the others' pods: `CIDR via NODE dev eth0`, for
/// those whose CIDRs are given. What was there for the same prefix is replaced.
pub fn peer_routes(nodes: &[(&Node, Vec<IpNet>)]) -> Result<()> {
    for (node, _) in nodes {
        for (peer, cidrs) in nodes.iter().filter(|(peer, _)| peer.name != node.name) {
            for &cidr in cidrs {
                let ipv4 = cidr.addr().is_ipv4();
                let via = peer.addresses.iter().find(|address| address.is_ipv4() == ipv4);
                if let Some(&via) = via {
                    node.ip.replace_route(&Route::via(cidr, via, "eth0"))?;
                }
            }
        }
    }
    Ok(())
}

/// What libcni keeps of each pod's interface (`/var/lib/cni/results`).
#[derive(Debug, Deserialize)]
struct Cached {
    #[serde(rename = "cniArgs")]
    arguments: Vec<(String, String)>,
    result: Made,
}

#[derive(Debug, Deserialize)]
struct Made {
    interfaces: Vec<Interface>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    /// The namespace that it is in; none for those of the host.
    #[serde(default)]
    sandbox: PathBuf,
}

/// Where a pod's network namespace is, on its node.
pub(crate) fn netns_of(results: &Path, namespace: &str, pod: &str) -> Result<PathBuf> {
    let what = || io(format!("read {}", results.display()));
    for entry in fs::read_dir(results).map_err(what())? {
        let path = entry.map_err(what())?.path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(cached) = serde_json::from_str::<Cached>(&text) else {
            continue;
        };
        let says = |key: &str, value: &str| cached.arguments.iter().any(|(k, v)| k == key && v == value);
        // Every sandbox has a loopback too, of the same namespace.
        if says("K8S_POD_NAMESPACE", namespace) && says("K8S_POD_NAME", pod) {
            let inside = cached.result.interfaces.into_iter().map(|interface| interface.sandbox);
            if let Some(netns) = inside.into_iter().find(|sandbox| !sandbox.as_os_str().is_empty()) {
                return Ok(netns);
            }
        }
    }
    Err(Error::Malformed(format!(
        "no sandbox of {namespace}/{pod} in {}",
        results.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflist_has_a_range_and_a_default_route_a_family() {
        let subnets: Vec<IpNet> = ["10.244.1.0/24", "fd00:244:0:1::/64"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let ipam = &bridge(&subnets)["plugins"][0]["ipam"];
        assert_eq!(
            ipam["ranges"],
            json!([[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:0:1::/64"}]])
        );
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
    }

    #[test]
    fn flannels_conflist_has_what_flanneld_was_given() {
        let env = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\n";
        let bridge = &flannel(env).unwrap()["plugins"][0];
        assert_eq!(bridge["mtu"], 1450);
        assert_eq!(bridge["ipam"]["ranges"], json!([[{"subnet": "10.244.3.0/24"}]]));
        assert!(flannel("FLANNEL_MTU=1450\n").is_err());
    }

    #[test]
    fn the_first_by_name_comes_first_and_what_is_half_written_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "20-b.conflist",
            "10-a.conf",
            ".10-a.conf.new",
            "readme.txt",
            ".hidden.conflist",
        ] {
            fs::write(directory.path().join(name), "{}").unwrap();
        }
        let names: Vec<String> = conflists(directory.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["10-a.conf", "20-b.conflist"]);
    }
}
