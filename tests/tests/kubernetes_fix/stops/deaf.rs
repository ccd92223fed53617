//! A peer that does not converge.

use super::after::{cordoned, uid};
use super::running::{Running, fix};
use crate::ground::Ground;

/// n1 drops packets for both halves of the new CIDR, whatever its flanneld does. Leaves n2 swapped and cordoned, and a fix
/// that has announced it.
pub(crate) fn peer_is_deaf(ground: &Ground) {
    ground.phase("a peer that does not converge");
    let (typist, before) = (ground.typist(), uid(ground, "n2"));
    let mut running = Running::start(ground, &["n2", "-o", "json", "--verify-timeout=20s"]);
    // The CIDR is chosen by now: one that a host has a route for would not have been.
    assert!(running.until(|happened| happened.text == "drain").is_some());
    let record = typist
        .type_line("kubectl -n cidrift get lease cidrift-fix -o jsonpath='{.metadata.annotations.cidrift\\.dev/fix}'")
        .unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let to: ipnet::IpNet = record["work"]["plan"]["to"][0].as_str().unwrap().parse().unwrap();
    let halves: Vec<_> = to.subnets(to.prefix_len() + 1).unwrap().collect();
    for half in &halves {
        typist.type_on("n1", &format!("ip route add blackhole {half}")).unwrap();
    }
    let ended = running.end();
    ended.is(
        1,
        &[
            "n1 does not look again by itself: restarts kube-flannel/",
            "packets of n1 do not reach n2",
        ],
    );
    assert!(cordoned(ground, "n2"));
    assert_ne!(uid(ground, "n2"), before);
    assert_eq!(ground.cidr("n2"), to);
    for half in &halves {
        typist.type_on("n1", &format!("ip route del blackhole {half}")).unwrap();
    }
    // It goes on from there, until something else stops it.
    let ended = fix(ground, &["--resume", "--after-command", "exit 3"]);
    ended.is(
        1,
        &[
            "\"exit 3\" failed (exit status: 3)",
            &format!("Node n2 has {to}, is Ready, cordoned"),
        ],
    );
    assert!(cordoned(ground, "n2"));
}
