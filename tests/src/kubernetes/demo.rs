//! `cidrift-lab kubernetes demo`: a real Kubernetes, cidrift in it as real pods, and real breaks, each with what was
//! found and how it cleared.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::{self, Binaries};
use crate::kubernetes::deployed::{Deployed, id};
use crate::kubernetes::mishap::{self, Mishap, Step};
use crate::kubernetes::swap::swap;
use crate::kubernetes::{Cluster, Cni, Scenario, kubeadm};
use crate::show::{Screen, millis};
use crate::stop;

/// How patient the aggregator is told to be: real kubelets take some seconds to follow the control plane.
const FLAGS: [&str; 3] = ["--hold=500ms", "--settle=3s", "--silence=6s"];

/// What a finding may take to come, and to go.
const PATIENCE: Duration = Duration::from_secs(90);

/// Evidence lines shown of one finding.
const EVIDENCE: usize = 5;

/// The pool: four blocks /24, so that the fifth node finds none.
pub const POOL: &str = "10.244.0.0/22";

/// Runs it. `hold`: keeps the cluster, healthy, until a signal. `Ok(false)`: something was not found, or did not clear.
///
/// # Errors
///
/// The cluster or cidrift in it does not start.
pub fn run(hold: bool) -> Result<bool> {
    let screen = Screen::new();
    let start = Instant::now();
    let programs = binaries::find(|text| screen.step(text))?;
    let (stopped, stop) = std::sync::mpsc::channel();
    stop::on_signal(move || {
        // The receiver is gone only when the demo is ending anyway.
        let _ = stopped.send(());
    })?;
    screen.step("a real Kubernetes: etcd, kube-apiserver, kube-controller-manager, three kubelets with containerd");
    let scenario = Scenario {
        nodes: 3,
        cluster_cidr: vec![POOL.parse().context("the pool")?],
        ..Scenario::default()
    };
    let say = |text: &str| screen.say(&format!("    {text}"));
    let cluster = Cluster::start(scenario, &say)?;
    kubeadm::record(
        cluster.api(),
        &cluster.scenario().cluster_cidr,
        &cluster.scenario().service_cidr,
        &[],
    )?;
    screen.step("cidrift, as its README says: images onto the nodes, kubectl apply -k deploy/base");
    let deployed = Deployed::install(&cluster, &programs, &FLAGS, &[], &say)?;
    for node in cluster.nodes() {
        let name = format!("on-{}", node.name);
        cluster.api().create_pod(&name, Some(&node.name))?;
        cluster.api().wait_running(&name, PATIENCE)?;
    }
    deployed.wait_healthy(&cluster, PATIENCE)?;
    screen.say(&text(
        &deployed.kubectl.run(&["-n", "cidrift", "get", "pods", "-o", "wide"])?,
    ));
    screen.say(&text(&String::from_utf8_lossy(&deployed.cidrift(&["status"])?.stdout)));
    if hold {
        screen.say(&how_to_try(&cluster, &deployed));
        // An error says that nobody can send any more: the end, too.
        let _ = stop.recv();
        screen.step("the cluster ends");
        return Ok(true);
    }
    let mut missed = Vec::new();
    for (number, mishap) in Mishap::ALL.iter().enumerate() {
        if stop.try_recv().is_ok() {
            bail!("ended by a signal");
        }
        screen.step(&format!(
            "break {} of {}, {}",
            number + 1,
            Mishap::ALL.len(),
            mishap.description()
        ));
        if let Err(error) = drill(&cluster, &deployed, *mishap, &screen) {
            screen.say(&format!("    FAILED   {error:#}"));
            missed.push(mishap.description());
            // What is broken may hide what comes next: no more breaks.
            break;
        }
    }
    screen.step("kubectl delete -k");
    deployed.remove()?;
    drop(cluster);
    if missed.is_empty()
        && let Err(error) = template(&programs, &screen)
    {
        screen.say(&format!("    FAILED   {error:#}"));
        missed.push("template-stale");
    }
    let all = Mishap::ALL.len() + 1;
    let found = if missed.is_empty() { "all" } else { "not all" };
    screen.say(&format!(
        "{found} of {all} breaks found and cleared; {:.0} s in all",
        start.elapsed().as_secs_f64()
    ));
    Ok(missed.is_empty())
}

/// Breaks, waits for the finding, mends, waits until nothing is wrong.
fn drill(cluster: &Cluster, deployed: &Deployed, mishap: Mishap, screen: &Screen) -> Result<()> {
    let began = Instant::now();
    let did = mishap.apply(cluster, PATIENCE)?;
    for Step(text) in &did.steps {
        screen.say(&format!("    did      {text}"));
    }
    let broken = Instant::now();
    let found = deployed.wait_open(cluster, mishap.expected(), false, PATIENCE)?;
    let took = broken.elapsed();
    for finding in &found {
        let expected = mishap.expected().contains(&id(finding));
        screen.say(&lines(finding, expected));
    }
    screen.say(&format!(
        "    when     counted {} after it was done (asked every 200 ms; {})",
        millis(took),
        FLAGS.join(" ")
    ));
    for Step(text) in did.undo(cluster, PATIENCE)? {
        screen.say(&format!("    undid    {text}"));
    }
    let mended = Instant::now();
    deployed.wait_healthy(cluster, PATIENCE)?;
    screen.say(&format!(
        "    resolved after {}; {} in all",
        millis(mended.elapsed()),
        millis(began.elapsed())
    ));
    Ok(())
}

/// A cluster of its own, whose containerd renders the CNI configuration by `conf_template`, once.
fn template(programs: &Binaries, screen: &Screen) -> Result<()> {
    screen.step(
        "the last break, template-stale: a node whose containerd fills a conf_template, and its Node gets another CIDR",
    );
    let scenario = Scenario {
        nodes: 1,
        cni: Cni::Template,
        cluster_cidr: vec![POOL.parse().context("the pool")?],
        ..Scenario::default()
    };
    let say = |text: &str| screen.say(&format!("    {text}"));
    let cluster = Cluster::start(scenario, &say)?;
    let (api, scenario) = (cluster.api(), cluster.scenario());
    kubeadm::record(api, &scenario.cluster_cidr, &scenario.service_cidr, &[])?;
    let deployed = Deployed::install(&cluster, programs, &FLAGS, &[], &say)?;
    deployed.wait_healthy(&cluster, PATIENCE)?;
    let was = api.wait_cidrs("n1", PATIENCE)?;
    let was = *was.first().context("n1 has no CIDR")?;
    let now = mishap::free(&cluster, PATIENCE)?;
    swap(&cluster, "n1", &[now], PATIENCE)?;
    screen.say(&format!(
        "    did      kubectl delete node n1 && kubectl create -f n1.yaml   # podCIDR {was} -> {now}"
    ));
    let words = cluster
        .node("n1")?
        .containerd
        .wait_log("skip generating cni config from template", PATIENCE)?;
    screen.say(&format!("    did      containerd: {}", words.trim()));
    for finding in deployed.wait_open(&cluster, &["HOST01/n1"], false, PATIENCE)? {
        screen.say(&lines(&finding, id(&finding) == "HOST01/n1"));
    }
    swap(&cluster, "n1", &[was], PATIENCE)?;
    screen.say(&format!("    undid    the same once more, with podCIDR {was}"));
    let mended = Instant::now();
    deployed.wait_healthy(&cluster, PATIENCE)?;
    screen.say(&format!("    resolved after {}", millis(mended.elapsed())));
    Ok(())
}

/// A finding; one that was not asked for in one line.
fn lines(finding: &Value, whole: bool) -> String {
    let word = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let head = format!("{} {}: {}", id(finding), word("severity"), word("summary"));
    if !whole {
        return format!("    also     {head}");
    }
    let mut lines = vec![format!("    found    {head}")];
    let evidence = finding["evidence"].as_array().cloned().unwrap_or_default();
    for row in evidence.iter().take(EVIDENCE) {
        let part = |name: &str| row[name].as_str().unwrap_or_default();
        lines.push(format!("    evidence {}: {}", part("source"), part("text")));
    }
    lines.push(format!("    cause    {}", word("cause")));
    lines.push(format!("    remedy   {}", word("remedy")));
    lines.join("\n")
}

/// Set in, as the rest.
fn text(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

fn how_to_try(cluster: &Cluster, deployed: &Deployed) -> String {
    let logs = cluster.directory().join("log");
    format!(
        "\
The cluster is up. In another terminal:
  export KUBECONFIG={}
  {}
  kubectl cidrift status
  kubectl cidrift findings --watch
A route goes (n2 to the pods of n3), and comes back:
  kubectl get node n3 -o jsonpath={{.spec.podCIDR}}
  nsenter --net --target $(pgrep -f hostname-override=n2 | tail -1) ip route del CIDR
Logs: {}
End it with Ctrl-C.",
        cluster.kubeconfig().display(),
        deployed.kubectl.how_to_call(),
        logs.display(),
    )
}
