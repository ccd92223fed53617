//! Somebody else acts on Nodes.

use crate::after::{cordoned, node, nothing_is_left, uid};
use crate::ground::Ground;
use crate::running::fix;

/// While another node takes no pods none is taken away.
pub(crate) fn another_is_cordoned(ground: &Ground) {
    ground.phase("another node is cordoned");
    let (typist, before) = (ground.typist(), uid(ground, "n2"));
    typist.type_line("kubectl cordon n3").unwrap();
    fix(ground, &["n2"]).is(
        1,
        &[
            "n3 is unschedulable: never two nodes at a time",
            "No node may be begun as things are.",
        ],
    );
    assert!(!cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    nothing_is_left(ground);
    typist.type_line("kubectl uncordon n3").unwrap();
}

/// n2 has its new CIDR and is cordoned by a fix, which only has to be verified: somebody uncordons it, and when he has
/// taken that back, deletes its Node.
pub(crate) fn uncordoned_and_deleted(ground: &Ground) {
    ground.phase("somebody uncordons the node");
    let (typist, made, cidr) = (ground.typist(), uid(ground, "n2"), ground.cidr("n2"));
    assert!(cordoned(ground, "n2"));
    let ended = fix(ground, &["--resume", "--after-command", "kubectl uncordon {node}"]);
    let state = format!("Node n2 has {cidr}, is Ready");
    ended.is(1, &["somebody uncordoned n2", &state]);
    assert!(!ended.said.contains(&format!("{state}, cordoned")), "{ended:#?}");
    assert!(!cordoned(ground, "n2"));
    // Nor does it go on as long as that is so.
    fix(ground, &["--resume"]).is(1, &["somebody uncordoned n2"]);
    assert!(!cordoned(ground, "n2"));
    typist.type_line("kubectl cordon n2").unwrap();

    ground.phase("somebody deletes the Node");
    let ended = fix(ground, &["--resume", "--after-command", "kubectl delete node {node}"]);
    ended.is(1, &["somebody deleted Node n2", "there is no Node n2"]);
    assert!(node(ground, "n2").is_none());
    fix(ground, &["--abort"]).is(0, &["made again with its new CIDRs, cordoned"]);
    assert_ne!(uid(ground, "n2"), made);
    assert_eq!(ground.cidr("n2"), cidr);
    assert!(cordoned(ground, "n2"));
    nothing_is_left(ground);
    ground.rendered("n2");
    typist.type_line("kubectl uncordon n2").unwrap();
    ground.is_whole();
}
