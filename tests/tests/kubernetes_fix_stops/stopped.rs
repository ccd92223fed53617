//! Ctrl-C, and two fixes at once.

use crate::after::{cordoned, uid};
use crate::budgets;
use crate::ground::Ground;
use crate::running::{Running, fix};

/// A drain that lasts is interrupted, while another fix waits for its turn. What is interrupted is left for others to go on.
pub(crate) fn interrupted(ground: &Ground) {
    ground.phase("a fix that is interrupted");
    budgets::hold(ground);
    let before = uid(ground, "n2");
    let mut first = Running::start(ground, &["n2"]);
    first.says("waits for default/web-");
    fix(ground, &["--resume"]).is(2, &["a fix is under way", "renews Lease cidrift-fix"]);
    let second = fix(ground, &["n2"]);
    second.is(2, &["a fix is under way", "(pid "]);
    first.interrupt();
    let state = "Node n2 has 10.200.2.0/24, is Ready, cordoned";
    first
        .end()
        .is(1, &["it was interrupted", state, "kubectl cidrift fix --resume --yes"]);
    assert!(cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
    budgets::let_go(ground);
}
