//! From an older release to this one, back, and through every mixture of the two: the same command again.

use std::collections::BTreeSet;

use cidrift_lab::image::{AGENT, AGGREGATOR, CURRENT, OLDER};
use cidrift_lab::kubernetes::deployed::{NAMESPACE, import};
use cidrift_lab::kubernetes::{Result, Wanted};
use cidrift_lab::require::{Need, have};
use cidrift_lab::route::Route;
use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage, wanted};
use crate::watching::watching;

/// What stands while everything is made anew: a route that is missing, and so packets go one way only.
const BROKEN: [&str; 2] = ["PATH01/n2", "PATH07/n2"];

/// Of these releases, with agents going one after another, as the base has them go where nodes are few.
fn release(aggregator: &str, agent: &str) -> Wanted {
    let one = json!([{"op": "replace", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "10%"}]);
    Wanted {
        aggregator: Some(aggregator.to_owned()),
        agent: Some(agent.to_owned()),
        patches: vec![json!({"target": {"kind": "DaemonSet"}, "patch": one.to_string()})],
        ..wanted()
    }
}

/// `kubectl cidrift version`: the aggregator's, and each agents' version with how many of them report.
fn versions(stage: &Stage) -> Result<(String, Vec<(String, u64)>)> {
    let answer = stage.ask(&["version"])?;
    assert_eq!(answer["client"], CURRENT);
    let agents = answer["agents"].as_array().unwrap().iter();
    let agents = agents.map(|one| (text(&one["version"]), one["reporting"].as_u64().unwrap()));
    Ok((text(&answer["aggregator"]), agents.collect()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// All objects of the namespace that an upgrade must neither add nor take: no pods, which are made anew, and none of what
/// Deployments and DaemonSets keep to go back to.
fn objects(stage: &Stage) -> BTreeSet<String> {
    let kinds = "serviceaccounts,roles,rolebindings,configmaps,secrets,services,deployments,daemonsets,\
poddisruptionbudgets,networkpolicies,leases";
    let format = "-o=jsonpath={range .items[*]}{.kind}/{.metadata.name}{\"\\n\"}{end}";
    let all = stage.kubectl(&["-n", NAMESPACE, "get", kinds, format]);
    all.lines().map(str::to_owned).collect()
}

fn trust(stage: &Stage) -> String {
    stage.kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "cidrift-trust",
        "-o=jsonpath={.data.ca\\.crt}",
    ])
}

/// There are the pods of these releases, none of which ever failed, and no other.
fn whole(stage: &Stage, aggregator: &str, agent: &str) {
    let pods = stage.kubectl(&["-n", NAMESPACE, "get", "pods", "-o=json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let mut images = Vec::new();
    for pod in pods["items"].as_array().unwrap() {
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!(container["restartCount"], 0, "{container:#}");
        images.push(text(&container["image"]));
    }
    images.sort();
    let mut wanted = vec![format!("{AGENT}:{agent}"); 3];
    wanted.push(format!("{AGGREGATOR}:{aggregator}"));
    assert_eq!(images, wanted);
}

#[test]
fn an_upgrade_by_the_same_command_opens_nothing_loses_nothing_and_leaves_nothing() {
    if !have(Need::Kubernetes) {
        return;
    }
    let stage = Stage::empty();
    let cluster = stage.cluster();
    import(cluster.nodes(), &stage.programs.older().unwrap(), OLDER).unwrap();
    stage.install(&release(OLDER, OLDER));
    stage.healthy();
    assert_eq!(
        versions(&stage).unwrap(),
        (OLDER.to_owned(), vec![(OLDER.to_owned(), 3)])
    );

    let [n2, n3] = ["n2", "n3"].map(|name| cluster.node(name).unwrap());
    let cidr = cluster.api().wait_cidrs("n3", PATIENCE).unwrap()[0];
    let route = Route::via(cidr, n3.addresses[0], "eth0");
    n2.ip.del_route(&route).unwrap();
    stage.open(&BROKEN);
    let (before, believed) = (objects(&stage), trust(&stage));

    // All at once, as people do it; and what comes before it is through, either part being the first.
    for (aggregator, agent) in [(CURRENT, CURRENT), (CURRENT, OLDER), (OLDER, CURRENT)] {
        let wanted = (aggregator.to_owned(), vec![(agent.to_owned(), 3)]);
        let ((), seen) = watching(&stage, || {
            stage.install(&release(aggregator, agent));
            let what = format!("{wanted:?} report, and what was open is open");
            let waited = cluster
                .api()
                .wait(&what, PATIENCE, || Ok((versions(&stage)? == wanted).then_some(())));
            waited.unwrap_or_else(|error| panic!("{error}; {:?}", versions(&stage)));
            stage.open(&BROKEN);
        });
        eprintln!("to {wanted:?}: {} answers, none for {:.1?}", seen.answers, seen.dark);
        let broken: BTreeSet<String> = BROKEN.map(str::to_owned).into();
        assert_eq!(seen.open, broken, "to {wanted:?}: {seen:?}");
        assert_eq!(objects(&stage), before);
        assert_eq!(trust(&stage), believed, "who was believed is believed");
        whole(&stage, aggregator, agent);
    }

    n2.ip.add_route(&route).unwrap();
    stage.nothing_open();
    stage.healthy();
    stage.remove().unwrap();
}
