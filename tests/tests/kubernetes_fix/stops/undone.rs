//! `--abort`, killed at every line that it says and begun again each time from another process: it comes to the same.

use std::collections::BTreeSet;
use std::fs;

use cidrift_lab::kubernetes::deployed::NAMESPACE;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::after::{cordoned, node, nothing_is_left, uid};
use super::killed::key;
use super::running::{Happened, Running, fix};
use crate::ground::{CONFLIST, Ground};
use crate::same::Same;

/// Where a fix keeps its record, and its mark.
const RECORD: &str = "cidrift.dev/fix";

/// More kills than an abort has lines: one that gets nowhere ends.
const KILLS: usize = 20;

/// What an abort leaves of n2.
#[derive(Debug, PartialEq)]
struct Left {
    same: Same,
    cidr: String,
    cordoned: bool,
    marked: bool,
    conflist: String,
}

impl Left {
    fn of(ground: &Ground) -> Self {
        let marks = node(ground, "n2").unwrap().metadata.annotations.unwrap_or_default();
        Self {
            same: Same::of(&ground.cluster, "n2"),
            cidr: ground.cidr("n2").to_string(),
            cordoned: cordoned(ground, "n2"),
            marked: marks.contains_key(RECORD),
            conflist: ground.conflist("n2"),
        }
    }
}

/// Takes a fix back, has the cluster as it was before (`back`, and the fix's record), and takes it back once more, killed
/// everywhere.
pub(crate) fn everywhere(ground: &Ground, texts: &[&str], back: &dyn Fn()) {
    let before = record(ground);
    fix(ground, &["--abort"]).is(0, texts);
    let whole = Left::of(ground);
    again(ground, &before);
    back();
    let (mut killed, mut said) = (BTreeSet::new(), String::new());
    let mut new = |happened: &Happened| {
        said += &format!("{}\n", happened.text);
        killed.insert(key(happened))
    };
    for kills in 0.. {
        assert!(kills < KILLS, "{said}");
        let mut running = Running::start(ground, &["--abort", "-o", "json"]);
        if running.until(&mut new).is_none() {
            let ended = running.end();
            // Killed after its last word, it may have written the end down all the same.
            assert!(matches!(ended.code, Some(0 | 2)), "{ended:#?}");
            if ended.code == Some(2) {
                ended.is(2, &["no fix is unfinished"]);
            }
            break;
        }
        running.kill();
    }
    for text in texts {
        assert!(said.contains(text), "{text}: {said}");
    }
    eprintln!("an abort that is killed:\n{said}");
    assert_eq!(Left::of(ground), whole);
}

/// A fix is killed when the file is gone that the runtime had rendered. Returns the steps that it had, of which the bridge may
/// have gone, too.
pub(crate) fn file_removed(ground: &Ground) -> Value {
    ground.phase("a fix that is taken back when a file is gone");
    let steps = ground.planned("n2", "swap")["steps"].clone();
    let (before, old) = (Left::of(ground), uid(ground, "n2"));
    let mut running = Running::start(ground, &["n2", "-o", "json"]);
    let removed = running.until(|happened| happened.text == "remove device cni0");
    assert!(removed.is_some());
    running.kill();
    let gone = || {
        let file = ground.node("n2").root().join(CONFLIST);
        assert!(!file.exists());
    };
    gone();
    let text = format!("has /{CONFLIST} rendered again");
    everywhere(ground, &["uncordoned", &text], &|| {
        cordon(ground);
        ground.node("n2").delete_conflist().unwrap();
        gone();
    });
    assert_eq!((Left::of(ground), uid(ground, "n2")), (before, old));
    nothing_is_left(ground);
    steps
}

/// A fix of n2's host is killed when the file is gone that the runtime had rendered, and taken back: the runtime renders it
/// for the CIDR that the Node has. Leaves all as it was, the stale file too.
pub(crate) fn of_a_host(ground: &Ground) {
    let (stale, before) = (ground.conflist("n2"), Left::of(ground));
    let mut running = Running::start(ground, &["n2", "-o", "json"]);
    let rendering = format!("have /{CONFLIST} rendered anew");
    assert!(running.until(|happened| happened.text == rendering).is_some());
    running.kill();
    let again = format!("has /{CONFLIST} rendered again");
    fix(ground, &["--abort"]).is(0, &["uncordoned", &again, "n2 not mended: taken back"]);
    nothing_is_left(ground);
    assert!(ground.conflist("n2").contains(&ground.cidr("n2").to_string()));
    let file = ground.node("n2").root().join(CONFLIST);
    fs::write(file, stale).unwrap();
    assert_eq!(Left::of(ground), before);
    ground.found(&["HOST01/n2", "HOST02/n2"]);
    ground.planned("n2", "host");
}

/// A fix that has made the Node anew, and verifies it. Leaves it as it is.
pub(crate) fn made_anew(ground: &Ground) {
    ground.phase("a fix that is taken back when the Node was made anew");
    let (before, made) = (record(ground), uid(ground, "n2"));
    everywhere(ground, &["it keeps its new CIDRs and the cordon"], &|| mark(ground));
    assert!(cordoned(ground, "n2"));
    assert_eq!(uid(ground, "n2"), made);
    nothing_is_left(ground);
    again(ground, &before);
    mark(ground);
}

/// n2 is cordoned by the fix on the Lease.
pub(crate) fn cordon(ground: &Ground) {
    ground.typist().type_line("kubectl cordon n2").unwrap();
    mark(ground);
}

/// n2 carries the mark of the fix on the Lease.
fn mark(ground: &Ground) {
    let record: Value = serde_json::from_str(&record(ground)).unwrap();
    let line = format!(
        "kubectl annotate --overwrite node n2 {RECORD}={}",
        record["id"].as_str().unwrap()
    );
    ground.typist().type_line(&line).unwrap();
}

fn record(ground: &Ground) -> String {
    let api = ground.cluster.api();
    let leases: kube::Api<Lease> = kube::Api::namespaced(api.client(), NAMESPACE);
    let lease = api.block_on(leases.get("cidrift-fix")).unwrap();
    lease.metadata.annotations.unwrap()[RECORD].clone()
}

/// The Lease tells of that fix again.
fn again(ground: &Ground, record: &str) {
    let api = ground.cluster.api();
    let leases: kube::Api<Lease> = kube::Api::namespaced(api.client(), NAMESPACE);
    let change = Patch::Merge(json!({"metadata": {"annotations": {RECORD: record}}}));
    api.block_on(leases.patch("cidrift-fix", &PatchParams::default(), &change))
        .unwrap();
}
