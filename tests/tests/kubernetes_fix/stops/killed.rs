//! A fix that is killed at every line that it writes, and goes on each time from another process.

use std::collections::BTreeSet;

use serde_json::json;

use super::after::nothing_is_left;
use super::running::{Happened, Running};
use crate::ground::Ground;

/// More kills than a fix has lines: one that gets nowhere ends.
const KILLS: usize = 100;

/// What a swap of a node whose flanneld is down consists of.
const STEPS: [&str; 11] = [
    "cordon",
    "drain",
    "remove-file",
    "remove-link",
    "recreate",
    "adopt",
    "restart-daemon",
    "remove-route",
    "announce",
    "verify",
    "uncordon",
];

/// Mends n2, for which a swap is planned.
pub(crate) fn killed_everywhere(ground: &Ground) {
    ground.phase("a fix that is killed at every line");
    ground.found(&["POOL02/n2"]);
    let row = ground.planned("n2", "swap");
    let steps: Vec<&str> = row["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["does"]["do"].as_str().unwrap())
        .collect();
    for step in STEPS {
        assert!(steps.contains(&step), "{step}: {steps:?}");
    }
    let mut killed = BTreeSet::new();
    let mut arguments = vec!["n2", "-o", "json"];
    loop {
        assert!(killed.len() < KILLS, "{killed:#?}");
        let mut running = Running::start(ground, &arguments);
        let Some(at) = running.until(|happened| killed.insert(key(happened))) else {
            let ended = running.end();
            let last = killed.contains(&(0, "done".to_owned()));
            // Killed after its last word, it may have written the end down all the same.
            if last && ended.code == Some(2) {
                ended.is(2, &["no fix is unfinished"]);
            } else {
                ended.is(0, &[]);
            }
            break;
        };
        running.kill();
        eprintln!("killed at {}: {}", at.step, at.text);
        arguments = vec!["--resume", "-o", "json"];
    }
    for (at, step) in (1..).zip(&steps) {
        assert!(killed.iter().any(|(number, _)| *number == at), "{step}: {killed:#?}");
    }
    let recreate = (1..).zip(&steps).find(|(_, step)| **step == "recreate").unwrap().0;
    for text in [
        "its Node is saved on the Lease",
        "its Node is deleted",
        "its Node is made again",
    ] {
        assert!(killed.contains(&(recreate, text.to_owned())), "{text}: {killed:#?}");
    }
    eprintln!("killed {} times: {killed:#?}", killed.len());
    assert_eq!(json!([ground.cidr("n2")]), row["to"]);
    nothing_is_left(ground);
    ground.is_whole();
}

/// What a line is about, without names that differ from one try to the next.
pub(crate) fn key(happened: &Happened) -> (u64, String) {
    let text = &happened.text;
    let end = [":", "waits for ", "a new pod gets "]
        .iter()
        .filter_map(|part| text.find(part).map(|at| at + part.len()))
        .min();
    (happened.step, text[..end.unwrap_or(text.len())].to_owned())
}
