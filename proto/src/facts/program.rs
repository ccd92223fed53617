//! Programs of Kubernetes on a host, and its container runtime.

use jiff::Timestamp;
use serde::Serialize;

use super::optional;
use crate::time::{from_wire, to_wire};
use crate::v1;

/// A program that runs, or a static pod manifest that starts one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramFact {
    /// "kubelet", "kube-controller-manager", "k3s", …
    pub name: String,
    /// The program that it is a part of, where that is another.
    pub embedded_in: Option<String>,
    /// Process id; `None`: a manifest.
    pub pid: Option<u32>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// What it was told, by name; only what says something of pod ranges and of CNI.
    pub settings: Vec<SettingFact>,
    /// What of it could not be read.
    pub problem: Option<String>,
}

/// What a program was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingFact {
    /// Flag without dashes, or the key of a configuration file.
    pub name: String,
    /// As written.
    pub value: String,
    /// "command line", "/var/lib/kubelet/config.yaml".
    pub source: String,
}

/// The container runtime, as it answers over CRI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeFact {
    /// "containerd", "cri-o".
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its socket.
    pub socket: String,
    /// `NetworkReady`, where it says so.
    pub network_ready: Option<bool>,
    /// Reason and message, where the network is not ready.
    pub why: Option<String>,
}

impl From<&ProgramFact> for v1::Program {
    fn from(fact: &ProgramFact) -> Self {
        let settings = fact.settings.iter().map(|setting| v1::ProgramSetting {
            name: setting.name.clone(),
            value: setting.value.clone(),
            source: setting.source.clone(),
        });
        Self {
            name: fact.name.clone(),
            embedded_in: fact.embedded_in.clone().unwrap_or_default(),
            pid: fact.pid.unwrap_or_default(),
            started_at: fact.started_at.map(to_wire),
            settings: settings.collect(),
            problem: fact.problem.clone().unwrap_or_default(),
        }
    }
}

impl From<&v1::Program> for ProgramFact {
    fn from(wire: &v1::Program) -> Self {
        let settings = wire.settings.iter().map(|setting| SettingFact {
            name: setting.name.clone(),
            value: setting.value.clone(),
            source: setting.source.clone(),
        });
        Self {
            name: wire.name.clone(),
            embedded_in: optional(&wire.embedded_in),
            pid: (wire.pid != 0).then_some(wire.pid),
            started_at: wire.started_at.and_then(from_wire),
            settings: settings.collect(),
            problem: optional(&wire.problem),
        }
    }
}

impl From<&RuntimeFact> for v1::RuntimeFact {
    fn from(fact: &RuntimeFact) -> Self {
        Self {
            name: fact.name.clone(),
            version: fact.version.clone(),
            socket: fact.socket.clone(),
            network_ready: fact.network_ready,
            why: fact.why.clone().unwrap_or_default(),
        }
    }
}

impl From<&v1::RuntimeFact> for RuntimeFact {
    fn from(wire: &v1::RuntimeFact) -> Self {
        Self {
            name: wire.name.clone(),
            version: wire.version.clone(),
            socket: wire.socket.clone(),
            network_ready: wire.network_ready,
            why: optional(&wire.why),
        }
    }
}
