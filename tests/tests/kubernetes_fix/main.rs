//! What is broken on a real Kubernetes with a real data plane, what is planned for it, and that it is whole afterwards.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod breaks;
mod ground;
mod mend;
mod migrate;
mod ping;
mod quiet;
mod same;
mod stops;
mod watch;

use std::fs;

use cidrift_lab::kubernetes::client::pod_cidrs;
use cidrift_lab::kubernetes::flanneld::routes;
use cidrift_lab::require::{Need, have};
use serde_json::{Value, json};

use breaks::LATE;
use ground::{Ground, PATIENCE};
use mend::{fix, mend, own_routes};
use stops::running::Running;

#[test]
fn breaks_are_planned_for_and_mended_while_somebody_watches() {
    if !have(Need::Kubernetes) {
        return;
    }
    let ground = Ground::start();
    quiet::mended_without_a_drain(&ground);
    foreign_bridge(&ground);
    out_of_pool(&ground);
    duplicate(&ground);
    without_cidr(&ground);
    stale_template(&ground);
    rotated(&ground);
    by_hand(&ground);
    ground.end();
}

fn foreign_bridge(ground: &Ground) {
    ground.phase("a foreign bridge");
    breaks::foreign_bridge(ground);
    assert!(ping::missing(&ground.cluster).contains(&"n1 -> n3".to_owned()));
    ground.found(&["HOST02/n3"]);
    ground.planned("n3", "host");
    // Without --yes it is only shown.
    let shown = ground.deployed.cidrift(&["fix", "n3"]).unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("Nothing was done"), "{text}");
    assert!(text.contains("ip link delete cni0"), "{text}");
    mend(ground, "n3");
    let typist = ground.typist();
    let line = format!("kubectl rollout status deployment/{LATE} --timeout=60s");
    typist.type_line(&line).unwrap();
    typist.type_line(&format!("kubectl delete deployment {LATE}")).unwrap();
    ground.is_whole();
}

fn out_of_pool(ground: &Ground) {
    ground.phase("a node outside of the pool");
    breaks::out_of_pool(ground);
    ground.found(&["POOL02/n2"]);
    let row = ground.planned("n2", "swap");
    assert_eq!(row["from"], json!(["10.200.2.0/24"]));
    // By a saved plan: what was agreed to is what is done.
    let typist = ground.typist();
    typist.type_line("kubectl cidrift plan n2 -o yaml > plan.yaml").unwrap();
    typist.type_line("kubectl cidrift fix -f plan.yaml --yes").unwrap();
    assert_eq!(own_routes(ground, "n2"), [""; 0]);
    assert_eq!(json!([ground.cidr("n2").to_string()]), row["to"]);
    ground.is_whole();
    // The same plan once more: its ground has moved.
    let again = typist
        .type_line("! kubectl cidrift fix -f plan.yaml --yes 2>&1")
        .unwrap();
    assert!(again.contains("the plan's ground has moved"), "{again}");
}

/// flanneld of n1 drops its only route to the CIDR when one of both Nodes goes, and hears nothing of the other.
fn duplicate(ground: &Ground) {
    ground.phase("two nodes of one CIDR");
    breaks::duplicate(ground);
    // Without flannel's annotations n3's old flanneld did not take the new Node for a peer, and n1 heard of it from the new.
    let cidr = ground.cidr("n2");
    assert_eq!(own_routes(ground, "n3"), [""; 0]);
    let followed = format!("{cidr} via {} ", ground.node("n3").addresses[0]);
    assert!(routes(ground.node("n1")).unwrap().contains(&followed));
    ground.found(&[&format!("POOL03/{cidr}")]);
    // Most reach n3 by it.
    let row = ground.planned("n2", "swap");
    assert_eq!(row["from"], json!([cidr.to_string()]));
    let told = mend(ground, "n2");
    assert!(told.contains("n1 does not look again by itself"), "{told}");
    assert_eq!(own_routes(ground, "n2"), [""; 0]);
    assert!(routes(ground.node("n1")).unwrap().contains(&followed));
    ground.is_whole();
}

/// While the controller manager is down a CIDR is given, and nothing is deleted that nobody would make anew.
fn without_cidr(ground: &Ground) {
    ground.phase("a node without a CIDR");
    let (cidr, _) = (ground.cidr("n2"), breaks::without_cidr(ground));
    ground.found(&["POOL01/n2"]);
    let down = || {
        let row = ground.row(&ground.deployed.ask(&["plan", "n2"])?, "n2");
        let steps = row["steps"].as_array().cloned().unwrap_or_default();
        let waits = steps.iter().any(|step| step["does"]["do"] == "controllers");
        Ok(waits.then_some(row))
    };
    let api = ground.cluster.api();
    let row = api
        .wait("it is seen that no controller manager runs", PATIENCE, down)
        .unwrap();
    assert_eq!((&row["method"], &row["blocked"]), (&json!("assign"), &Value::Null));
    assert_eq!(
        row["to"],
        json!([cidr.to_string()]),
        "what its host hands out of already"
    );
    let told = std::thread::scope(|scope| {
        let fixing = scope.spawn(|| mend(ground, "n2"));
        let given = || {
            let node = api.node("n2")?.map(|node| pod_cidrs(&node)).unwrap_or_default();
            Ok((node == [cidr]).then_some(()))
        };
        api.wait("n2 has a CIDR", PATIENCE, given).unwrap();
        ground.cluster.kcm().start_again().unwrap();
        fixing.join().unwrap()
    });
    assert!(told.contains("no kube-controller-manager runs"), "{told}");
    assert_eq!(ground.cidr("n2"), cidr);
    ground.is_whole();
}

/// File, bridge, pods and flanneld of n2 are of the CIDR from before; and its flanneld leads its own pods away.
fn stale_template(ground: &Ground) {
    ground.phase("a template that was rendered for another CIDR");
    breaks::stale_template(ground);
    assert!(ping::missing(&ground.cluster).contains(&"n1 -> n2".to_owned()));
    ground.found(&["HOST01/n2", "HOST02/n2", "HOST03/n2", "HOST04/n2", "POOL12/n2"]);
    let row = ground.planned("n2", "host");
    let mends = row["mends"].as_array().unwrap();
    for id in ["HOST01/n2", "HOST02/n2", "HOST03/n2", "HOST04/n2", "POOL12/n2"] {
        assert!(mends.contains(&json!(id)), "{id}: {row:#}");
    }
    stops::undone::of_a_host(ground);
    mend(ground, "--all");
    assert_eq!(own_routes(ground, "n2"), [""; 0]);
    ground.is_whole();
}

/// The classic way: its kubelet is restarted by hand, and the controller manager gives it a CIDR.
fn rotated(ground: &Ground) {
    ground.phase("a node that is registered anew");
    breaks::out_of_pool(ground);
    ground.found(&["POOL02/n2"]);
    let api = ground.cluster.api();
    let told = std::thread::scope(|scope| {
        let fixing = scope.spawn(|| fix(ground, &["n2", "--rotate", "--yes"]));
        let gone = || Ok(api.node("n2")?.is_none().then_some(()));
        api.wait("Node n2 is deleted", PATIENCE, gone).unwrap();
        ground.node("n2").kubelet.restart().unwrap();
        fixing.join().unwrap()
    });
    assert!(
        told.contains("waits for you: on n2: systemctl restart kubelet"),
        "{told}"
    );
    let pool = &ground.cluster.scenario().cluster_cidr[0];
    assert!(pool.contains(&ground.cidr("n2")), "{}", ground.cidr("n2"));
    ground.is_whole();
}

/// Somebody wrote the CNI configuration of n2, which is outside of the pool, himself: he writes it anew in the middle.
fn by_hand(ground: &Ground) {
    ground.phase("a configuration that is for the operator's own hands");
    breaks::out_of_pool(ground);
    let own = breaks::own_configuration(ground);
    ground.found(&["POOL02/n2"]);
    let row = ground.planned("n2", "swap");
    let steps = row["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["does"]["do"] == "by-hand").unwrap();
    let (from, to) = ("10.200.2.0/24", row["to"][0].as_str().unwrap());
    let asked = format!("on n2: /etc/cni/net.d/05-own.conflist hands out of {from}; write it for {to}");
    assert_eq!(step["text"], json!(asked));
    let mut running = Running::start(ground, &["n2"]);
    running.says(&format!("waits for you: {asked}"));
    assert_eq!(ground.cidr("n2").to_string(), from, "its Node waits for that");
    let text = fs::read_to_string(&own).unwrap();
    // At once: nobody reads half of it.
    let fresh = own.with_extension("new");
    fs::write(&fresh, text.replace(from, to)).unwrap();
    fs::rename(&fresh, &own).unwrap();
    running.end().is(0, &["n2 mended"]);
    assert_eq!(ground.cidr("n2").to_string(), to);
    ground.is_whole();
}
