//! Ctrl-C, two fixes at once, and a window that is not open.

use jiff::{SignedDuration, Zoned};

use super::after::{cordoned, uid};
use super::running::{Running, fix};
use crate::ground::Ground;

/// Goes on with a drain that a budget holds up, and is interrupted, while another fix waits for its turn. Leaves a fix that is
/// to go on, and the budget in its way.
pub(crate) fn interrupted(ground: &Ground) {
    ground.phase("a fix that is interrupted");
    let before = uid(ground, "n2");
    let mut first = Running::start(ground, &["--resume"]);
    first.says("waits for default/web-");
    let second = fix(ground, &["n2"]);
    second.is(2, &["a fix is under way", "(pid ", "renews Lease cidrift-fix"]);
    first.interrupt();
    let state = "Node n2 has 10.200.2.0/24, is Ready, cordoned";
    first
        .end()
        .is(1, &["it was interrupted", state, "kubectl cidrift fix --resume --yes"]);
    assert!(cordoned(ground, "n2"));
    // Its window is hours away, whatever the time.
    let now = Zoned::now();
    let hour = |hours: i64| (&now + SignedDuration::from_hours(hours)).strftime("%H:%M").to_string();
    let window = format!("{}-{}", hour(8), hour(10));
    let waits = format!("n2 is not gone on with outside of the window {window}");
    fix(ground, &["--resume", "--window", &window]).is(1, &[&waits, state, &format!("--window {window}")]);
    assert!(cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), before);
}
