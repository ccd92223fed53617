//! The control plane of the lab: Node objects in a file, as
//! `kubectl get nodes -o yaml` prints them.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ip::Error;
use crate::topology::{Dataplane, Identity};

/// A Node object, as far as the lab sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created_at: Timestamp,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.podCIDRs`; `spec.podCIDR` is the first.
    pub pod_cidrs: Vec<IpNet>,
    /// InternalIPs.
    pub internal_ips: Vec<IpAddr>,
    /// The Ready condition.
    pub ready: bool,
}

impl Node {
    /// The Node of a lab host, `generation` counting how often it was created.
    pub fn of(host: &Identity, dataplane: Dataplane, generation: u32) -> Self {
        Self {
            name: host.name.clone(),
            uid: uid(host.number, generation),
            created_at: Timestamp::now(),
            annotations: annotations(host, dataplane),
            pod_cidrs: host.cidrs.clone(),
            internal_ips: host.underlay.clone(),
            ready: true,
        }
    }

    fn object(&self) -> Value {
        let mut addresses: Vec<Value> = self
            .internal_ips
            .iter()
            .map(|ip| json!({"address": ip, "type": "InternalIP"}))
            .collect();
        addresses.push(json!({"address": self.name, "type": "Hostname"}));
        // Whole seconds, as the API server prints times.
        let created = self.created_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "annotations": self.annotations,
                "creationTimestamp": created,
                "labels": {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux"},
                "name": self.name,
                "uid": self.uid,
            },
            "spec": {
                "podCIDR": self.pod_cidrs.first(),
                "podCIDRs": self.pod_cidrs,
            },
            "status": {
                "addresses": addresses,
                "conditions": [{
                    "lastHeartbeatTime": created,
                    "lastTransitionTime": created,
                    "message": if self.ready { "kubelet is posting ready status" } else { "Kubelet stopped posting node status." },
                    "reason": if self.ready { "KubeletReady" } else { "NodeStatusUnknown" },
                    "status": if self.ready { "True" } else { "Unknown" },
                    "type": "Ready",
                }],
            },
        })
    }
}

/// UIDs that tell host and generation at a glance.
fn uid(number: u8, generation: u32) -> String {
    format!("00000000-0000-4000-8000-{generation:06x}{number:06x}")
}

fn annotations(host: &Identity, dataplane: Dataplane) -> BTreeMap<String, String> {
    let prefix = "flannel.alpha.coreos.com";
    let mut annotations = BTreeMap::new();
    let mut set = |key: &str, value: String| annotations.insert(format!("{prefix}/{key}"), value);
    set("kube-subnet-manager", "true".to_owned());
    set("backend-type", dataplane.to_string());
    for &cidr in &host.cidrs {
        let (data, public) = if cidr.addr().is_ipv4() {
            ("backend-data", "public-ip")
        } else {
            ("backend-v6-data", "public-ipv6")
        };
        let backend = match dataplane {
            Dataplane::Vxlan => json!({"VNI": 1, "VtepMAC": host.vtep(cidr)}).to_string(),
            Dataplane::HostGw => "null".to_owned(),
        };
        set(data, backend);
        if let Some(address) = host.underlay_for(cidr) {
            set(public, address.to_string());
        }
    }
    annotations
}

/// The Nodes, by name.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// By name.
    pub nodes: BTreeMap<String, Node>,
}

impl Snapshot {
    /// As `kubectl get nodes -o yaml` prints it.
    pub fn yaml(&self) -> Result<String, Error> {
        let items: Vec<Value> = self.nodes.values().map(Node::object).collect();
        let list = json!({
            "apiVersion": "v1",
            "items": items,
            "kind": "List",
            "metadata": {"resourceVersion": ""},
        });
        serde_saphyr::to_string(&list).map_err(|error| Error::Malformed(format!("Nodes as YAML: {error}")))
    }

    /// Writes it in one step: a reader sees the old file or the new one.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        replace_file(path, &self.yaml()?)
    }
}

/// Writes a file beside `path` and renames it over.
pub fn replace_file(path: &Path, text: &str) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Error::Io {
        what: format!("write {}", path.display()),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_as_a_list_of_nodes_with_strings_where_strings_belong() {
        let host = Identity::new(2, true);
        let mut snapshot = Snapshot::default();
        snapshot
            .nodes
            .insert("h2".to_owned(), Node::of(&host, Dataplane::Vxlan, 1));
        let list: Value = serde_saphyr::from_str(&snapshot.yaml().unwrap()).unwrap();
        assert_eq!(list["kind"], "List");
        let node = &list["items"][0];
        assert_eq!(node["kind"], "Node");
        assert_eq!(node["spec"]["podCIDR"], "10.244.2.0/24");
        assert_eq!(node["spec"]["podCIDRs"][1], "fd00:244:0:2::/64");
        assert_eq!(node["status"]["conditions"][0]["status"], "True");
        let annotations = &node["metadata"]["annotations"];
        assert_eq!(annotations["flannel.alpha.coreos.com/kube-subnet-manager"], "true");
        assert_eq!(
            annotations["flannel.alpha.coreos.com/backend-data"],
            r#"{"VNI":1,"VtepMAC":"0a:58:0a:f4:02:04"}"#
        );
    }
}
