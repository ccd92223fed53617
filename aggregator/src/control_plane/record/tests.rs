//! Records of objects as Kubernetes, kubeadm and the CNIs write them.

mod allocators;
mod configs;
mod events;
mod managers;
mod pods;
mod robust;
mod words;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object as YAML.
fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

fn object(text: &str) -> Value {
    yaml(text)
}

fn nets(list: &[ipnet::IpNet]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}
