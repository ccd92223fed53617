//! k3s and rke2: kube-controller-manager is part of one program, whose arguments stand in an annotation (reference H).

use std::collections::BTreeMap;

use super::flags::{CommandLine, manager};
use super::text::clip;
use super::witness::silent;
use crate::cluster::objects::{RangeWitness, Resource};

/// Annotations with the arguments, as a JSON list.
const ARGUMENTS: [&str; 2] = ["k3s.io/node-args", "rke2.io/node-args"];

/// What both take where nothing is said.
const DEFAULT: &str = "10.42.0.0/16";

/// A server's word; `None`: it is no server of theirs. A server that states nothing
/// names the default, which is a weak word: `what` says so.
pub fn record(node: &str, annotations: &BTreeMap<String, String>) -> Option<RangeWitness> {
    let (key, text) = ARGUMENTS.iter().find_map(|key| Some((*key, annotations.get(*key)?)))?;
    let mut witness = silent(Resource::K3sNodes, format!("Node {node}, annotation {key}"));
    let words: Vec<String> = match serde_json::from_str(text) {
        Ok(words) => words,
        Err(_) => {
            witness.odd.push(clip(text, 64));
            return Some(witness);
        }
    };
    if words.first().map(String::as_str) != Some("server") {
        return None;
    }
    // Arguments for kube-controller-manager itself win over the server's own.
    let line = CommandLine::of(&words, "server", &|_| None);
    let own = manager(&line);
    let passed: Vec<String> = line
        .flags(&[])
        .into_iter()
        .filter(|(name, _)| name == "kube-controller-manager-arg")
        .filter_map(|(_, value)| Some(format!("--{}", value?.trim_start_matches('-'))))
        .collect();
    let passed = manager(&CommandLine::of_flags(passed));
    witness.ranges = if passed.cluster_cidr.is_empty() {
        own.cluster_cidr
    } else {
        passed.cluster_cidr
    };
    let services = line
        .flags(&[])
        .into_iter()
        .rev()
        .find(|(name, _)| name == "service-cidr");
    if let Some((_, Some(text))) = services {
        witness.service_ranges = super::text::prefixes(&text, &mut witness.odd);
    }
    if !passed.service_cidr.is_empty() {
        witness.service_ranges = passed.service_cidr;
    }
    witness.mask_v4 = passed.mask_v4.or(passed.mask.filter(|mask| *mask <= 32));
    witness.mask_v6 = passed.mask_v6;
    witness.odd.extend(own.odd.into_iter().chain(passed.odd));
    if witness.ranges.is_empty() && witness.odd.is_empty() {
        witness.what = format!("default of k3s and rke2 (Node {node} states no --cluster-cidr)");
        witness.ranges = DEFAULT.parse().into_iter().collect();
    }
    Some(witness)
}
