//! Objects of the Kubernetes API, trimmed to what matters: one file a kind, all of
//! them pure. The API's watches and the snapshot file share them.

pub mod antrea;
pub mod aws;
pub mod azure;
pub mod calico;
pub mod cilium;
pub mod cluster_cidr;
pub mod daemon;
pub mod event;
pub mod flags;
pub mod flannel;
pub mod k3s;
pub mod kube_proxy;
pub mod kubeadm;
pub mod manager;
pub mod metrics;
pub mod node;
pub mod openshift;
pub mod pod;
pub mod prometheus;
pub mod text;
pub mod witness;

#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// An object that can be read as whatever a record needs of it, more than once: an
/// attempt that fails leaves it whole.
pub trait Object {
    /// Reads it; the error says where it is not as expected.
    fn read<T: DeserializeOwned>(&self) -> Result<T, String>;
}

impl Object for RawValue {
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.get()).map_err(|error| error.to_string())
    }
}

impl Object for Value {
    fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(self).map_err(|error| error.to_string())
    }
}

/// The name of an object; read of those that cannot be read otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Named {
    /// `metadata`.
    #[serde(default)]
    pub metadata: Meta,
}

/// The part of `metadata` that names an object.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Meta {
    /// `name`.
    #[serde(default)]
    pub name: Option<String>,
    /// `namespace`.
    #[serde(default)]
    pub namespace: Option<String>,
}

impl Meta {
    /// "namespace/name", or the name alone; empty where it has none.
    pub fn key(&self) -> String {
        key(self.namespace.as_deref(), self.name.as_deref())
    }
}

/// "namespace/name", or the name alone; empty without a name.
pub fn key(namespace: Option<&str>, name: Option<&str>) -> String {
    match (namespace.filter(|text| !text.is_empty()), name.unwrap_or_default()) {
        (_, "") => String::new(),
        (Some(namespace), name) => format!("{namespace}/{name}"),
        (None, name) => name.to_owned(),
    }
}
