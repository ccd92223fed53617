//! `cidrift-lab kubernetes demo`: a real Kubernetes, cidrift in it as real pods, and real breaks, each with what was
//! found and how it cleared.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries;
use crate::kubernetes::deployed::{Deployed, id};
use crate::kubernetes::mishap::{Mishap, Step};
use crate::kubernetes::{Cluster, Scenario, kubeadm};
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
    screen.say(&format!(
        "{} of {} breaks found and cleared; {:.0} s in all",
        Mishap::ALL.len() - missed.len(),
        Mishap::ALL.len(),
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
  export CIDRIFT_SERVER={}
  {}
  kubectl cidrift status
  kubectl cidrift findings --watch
A route goes (n2 to the pods of n3), and comes back:
  kubectl get node n3 -o jsonpath={{.spec.podCIDR}}
  nsenter --net --target $(pgrep -f hostname-override=n2 | tail -1) ip route del CIDR
Logs: {}
End it with Ctrl-C.",
        cluster.kubeconfig().display(),
        deployed.server(),
        deployed.kubectl.how_to_call(),
        logs.display(),
    )
}
