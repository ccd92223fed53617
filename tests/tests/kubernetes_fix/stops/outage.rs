//! The API server is away for a while.

use std::time::Duration;

use super::after::nothing_is_left;
use super::others;
use super::running::Running;
use crate::ground::Ground;

/// What a restart of an API server takes.
const AWAY: Duration = Duration::from_secs(10);

/// What is going on meanwhile: whoever looks at the cluster sees nothing then.
const PHASE: &str = "the API server is away";

/// Goes on with a node that has been swapped; the API server ends just before that is verified.
pub(crate) fn api_server_is_away(ground: &Ground) {
    ground.phase(PHASE);
    let server = &ground.cluster.plane().apiserver;
    let mut running = Running::start(ground, &["--resume", "-o", "json", "--after-command", "sleep 8"]);
    let verifies = running.until(|happened| happened.text == "verify");
    assert!(verifies.is_some());
    server.stop().unwrap();
    std::thread::sleep(AWAY);
    server.start_again().unwrap();
    running.end().is(0, &[]);
    nothing_is_left(ground);
    ground.is_whole();
}

/// Ends it, as [`Ground::end`] does. While there is no API server nothing is seen, and kubelets cannot say that they live:
/// what is seen of that right afterwards is the outage's.
pub(crate) fn end(ground: Ground) {
    ground.mark("all is done");
    let seen = ground.watch.end();
    eprintln!("{} looks, the longest gap {:.1?}", seen.looks, seen.longest);
    let theirs =
        |what: &str| what.starts_with(others::PHASE) && what.ends_with(": n2, n3 are not available at the same time");
    assert!(
        seen.violations.iter().any(|what| theirs(what)),
        "{:#?}",
        seen.violations
    );
    let rest = |all: &[String]| -> Vec<String> {
        let rest = all.iter().filter(|what| !what.starts_with(PHASE) && !theirs(what));
        rest.cloned().collect()
    };
    assert_eq!(rest(&seen.violations), [""; 0]);
    assert_eq!(rest(&seen.blind), [""; 0]);
    assert!(seen.looks > 100, "{seen:?}");
    ground.deployed.remove().unwrap();
}
