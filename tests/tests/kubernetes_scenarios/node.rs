//! What is done to a node, and how it shows.

use cidrift_lab::kubernetes::{Cluster, Node};
use ipnet::IpNet;

use crate::stage::PATIENCE;

/// What cidrift is told of the bench's ranges.
pub(crate) const RANGES: [&str; 4] = ["--cluster-cidr", "10.244.0.0/16", "--service-cidr", "10.96.0.0/12"];

/// A prefix that is written in a test.
pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Deletes a Node and makes it again at once with this pod CIDR. The kubelet never notices and takes the new one as its
/// own; returns once it has said so.
pub(crate) fn swap(cluster: &Cluster, name: &str, cidr: IpNet) {
    cidrift_lab::kubernetes::swap::swap(cluster, name, &[cidr], PATIENCE).unwrap();
}

/// Runs a program on the node that must succeed.
pub(crate) fn run(node: &Node, program: &str, arguments: &[&str]) -> String {
    let output = node.run(program, arguments).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The bridge goes, as our remedy says; the next pod makes it anew.
pub(crate) fn delete_bridge(node: &Node) {
    run(node, "/sbin/ip", &["link", "delete", "cni0"]);
}
