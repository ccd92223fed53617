//! Pods: the fields that are read of one, and the record that is kept. There may be 450,000.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::text::time;
use crate::cluster::around::{PodAddresses, PodRecord};

/// What is read of a pod; everything else is passed over while it is parsed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// `metadata`.
    pub metadata: PodMeta,
    /// `spec`.
    pub spec: Option<PodSpec>,
    /// `status`.
    pub status: Option<PodStatus>,
}

/// `metadata` of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMeta {
    /// `name`.
    pub name: Option<String>,
    /// `namespace`.
    pub namespace: Option<String>,
    /// `uid`.
    pub uid: Option<String>,
    /// `creationTimestamp`.
    pub creation_timestamp: Option<String>,
    /// `labels`.
    pub labels: Option<BTreeMap<String, String>>,
    /// `ownerReferences`.
    pub owner_references: Option<Vec<Owner>>,
}

/// An owner of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// "DaemonSet", "Node" (a static pod's) …
    pub kind: Option<String>,
}

/// `spec` of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// `nodeName`.
    pub node_name: Option<String>,
    /// `hostNetwork`.
    pub host_network: Option<bool>,
    /// `containers`.
    pub containers: Option<Vec<Container>>,
    /// `initContainers`.
    pub init_containers: Option<Vec<Container>>,
}

/// A container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// `name`.
    pub name: Option<String>,
    /// `command`.
    pub command: Option<Vec<String>>,
    /// `args`.
    pub args: Option<Vec<String>>,
    /// `env`.
    pub env: Option<Vec<Variable>>,
}

impl Container {
    /// `command` and `args`, one after the other.
    pub fn words(&self) -> Vec<String> {
        let parts = self.command.iter().chain(&self.args);
        parts.flatten().cloned().collect()
    }

    /// The value of a variable that is written out.
    pub fn variable(&self, name: &str) -> Option<String> {
        let mut all = self.env.iter().flatten();
        all.find(|variable| variable.name.as_deref() == Some(name))?
            .value
            .clone()
    }
}

/// An environment variable.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// `name`.
    pub name: Option<String>,
    /// `value`; absent where it comes from elsewhere.
    pub value: Option<String>,
}

/// `status` of a pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `phase`.
    pub phase: Option<String>,
    /// `podIP`.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// `podIPs`.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIp>>,
    /// `conditions`.
    pub conditions: Option<Vec<Condition>>,
    /// `containerStatuses`.
    pub container_statuses: Option<Vec<ContainerStatus>>,
    /// `initContainerStatuses`.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
}

/// An entry of `podIPs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// `ip`.
    pub ip: Option<String>,
}

/// A condition.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `status`.
    pub status: Option<String>,
    /// `lastTransitionTime`.
    pub last_transition_time: Option<String>,
}

/// How a container fares.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// `name`.
    pub name: Option<String>,
    /// `ready`.
    pub ready: Option<bool>,
    /// `restartCount`.
    pub restart_count: Option<i64>,
    /// `state`.
    pub state: Option<ContainerState>,
    /// `lastState`.
    pub last_state: Option<ContainerState>,
}

/// One state of a container: one of the three is set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It runs.
    pub running: Option<Running>,
    /// It waits.
    pub waiting: Option<Waiting>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// A running container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// `startedAt`.
    pub started_at: Option<String>,
}

/// A container that waits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// `reason`.
    pub reason: Option<String>,
    /// `message`.
    pub message: Option<String>,
}

/// A container that has ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// `exitCode`.
    pub exit_code: Option<i32>,
    /// `reason`.
    pub reason: Option<String>,
    /// `message`: the last words, where `terminationMessagePolicy` lets kubelet keep them.
    pub message: Option<String>,
    /// `startedAt`.
    pub started_at: Option<String>,
    /// `finishedAt`.
    pub finished_at: Option<String>,
}

impl Pod {
    /// "namespace/name".
    pub fn key(&self) -> String {
        super::key(self.metadata.namespace.as_deref(), self.metadata.name.as_deref())
    }

    /// The node that it is bound to.
    pub fn node(&self) -> Option<&str> {
        self.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// It uses the node's own network.
    pub fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// All its containers have ended for good: its addresses are free again.
    pub fn ended(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its containers.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.iter().flat_map(|spec| spec.containers.iter().flatten())
    }
}

/// Trims a pod. `None`: it has no place in the pod network (unbound, hostNetwork, ended).
pub fn record(pod: &Pod) -> Option<PodRecord> {
    pod.node()?;
    if pod.host_network() || pod.ended() || pod.metadata.name.is_none() {
        return None;
    }
    let status = pod.status.as_ref();
    let list = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let single = status.and_then(|status| status.pod_ip.as_deref());
    let mut addresses = PodAddresses::default();
    for text in list.iter().filter_map(|entry| entry.ip.as_deref()).chain(single) {
        match text.parse() {
            Ok(IpAddr::V4(address)) => _ = addresses.v4.get_or_insert(address),
            Ok(IpAddr::V6(address)) => _ = addresses.v6.get_or_insert(address),
            Err(_) => {}
        }
    }
    Some(PodRecord {
        name: pod.key().into(),
        uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
        addresses,
        sandbox_since: status.map(sandbox_since).unwrap_or_default(),
        created: seconds(pod.metadata.creation_timestamp.as_deref()),
    })
}

/// Since when it has a sandbox; 0: it has none.
fn sandbox_since(status: &PodStatus) -> i64 {
    let mut conditions = status.conditions.iter().flatten();
    let told = conditions.find(|condition| condition.kind.as_deref() == Some("PodReadyToStartContainers"));
    if let Some(condition) = told {
        if condition.status.as_deref() == Some("True") {
            return seconds(condition.last_transition_time.as_deref());
        }
        return 0;
    }
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    let starts = containers.flatten().filter_map(|container| {
        let state = container.state.as_ref()?;
        let running = state.running.as_ref().and_then(|state| state.started_at.as_deref());
        let ended = state.terminated.as_ref().and_then(|state| state.started_at.as_deref());
        Some(seconds(running.or(ended)))
    });
    starts.filter(|start| *start > 0).min().unwrap_or_default()
}

fn seconds(text: Option<&str>) -> i64 {
    time(text).map(|time| time.as_second()).unwrap_or_default()
}
