//! How what is broken is mended.
//!
//! What flanneld (0.26.7, host-gw) really does when a Node is deleted and made anew decides what has to be started anew:
//! - Its peers drop the route to the old CIDR and make one to the new CIDR at once, as long as the new Node has flannel's
//!   annotations. Without them they hear of the Node when its own flanneld, started anew, has written them.
//! - The node's own flanneld keeps the lease, the `subnet.env` and the MTU that it began with; only a new pod reads the
//!   Node again. Meanwhile it takes the new Node for a peer, if that has the annotations, and makes a route for the node's
//!   own CIDR that leads back to the node. It puts that route back every 10 s, its successor leaves it alone, and the
//!   bridge's own route comes behind it: pods of the node are cut off until somebody removes it.
//! - That is so for IPv4 alone: no kernel takes an IPv6 route by an address that is the host's own.
//! - A Node with the very CIDRs that it began with it knows for its own. Of one that keeps its IPv4 CIDR and has another IPv6
//!   CIDR it takes both for a peer's, and the bridge's own route for one to be replaced: once its route is removed there is
//!   none, until the bridge is made anew.
//! - With `EnableIPv6` a Node that lacks a family is nobody's peer ("Missing IPv6 address on n.Spec.PodCIDRs"): those that
//!   hear of it anew have no route to it, of neither family.
//! - Outside of the `Network` of its configuration it ends at its next start, again and again; the routes of before stay.
//! - Of two Nodes with one CIDR the peers reach the one that they heard of last. When either goes they drop the only route
//!   that they have to that CIDR, and flanneld makes none to the other until it is started anew.
//! - A Node that gets a CIDR while it lives goes unnoticed: peers look at changes of flannel's annotations only. Each of
//!   them must be started anew, or the annotations be written anew.
//! - Its pod is made anew by the DaemonSet's controller, a part of kube-controller-manager: while that is down a flanneld
//!   whose pod is deleted is gone.

use cidrift_lab::kubernetes::flanneld::{NAMESPACE, routes};

use crate::ground::Ground;

/// What the program prints while it mends a node, or all that need it; it must come to a good end.
pub(crate) fn mend(ground: &Ground, which: &str) -> String {
    fix(ground, &[which, "--yes"])
}

/// The same with these arguments.
pub(crate) fn fix(ground: &Ground, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = ["fix"].iter().chain(arguments).copied().collect();
    let output = ground.mender.cidrift(&arguments).unwrap();
    let (told, wrong) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    eprintln!("{told}{wrong}");
    assert!(output.status.success(), "{}: {told}{wrong}", output.status);
    told
}

/// The DaemonSet makes flanneld's pod of a node anew.
pub(crate) fn restart_flanneld(ground: &Ground, node: &str) {
    let line = format!(
        "kubectl -n {NAMESPACE} delete pod -l app=flannel --field-selector spec.nodeName={node} --grace-period=1"
    );
    ground.typist().type_line(&line).unwrap();
}

/// Routes of a node that lead back to itself.
pub(crate) fn own_routes(ground: &Ground, node: &str) -> Vec<String> {
    let own = &ground.node(node).addresses;
    let all = routes(ground.node(node)).unwrap();
    let back = |line: &&str| own.iter().any(|address| line.contains(&format!(" via {address} ")));
    all.lines().filter(back).map(str::to_owned).collect()
}

/// Removes the routes of a node that lead back to itself; the flanneld that made them must be gone.
pub(crate) fn remove_own_routes(ground: &Ground, node: &str) {
    for route in own_routes(ground, node) {
        ground.typist().type_on(node, &format!("ip route del {route}")).unwrap();
    }
}
