//! What the aggregator costs on the largest supported cluster: recorded lists of Nodes
//! and Pods go in as the control plane's events, and every step is timed. No agent
//! reports in the first part; in the second, all nodes of a smaller cluster do. In the
//! third an operator asks.

mod cluster;
mod operator;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cidrift_aggregator::cluster::{NodeRecord, PlaneEvent};
use cidrift_aggregator::engine::Engine;
use cidrift_aggregator::metrics::Metrics;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Figure, ms, percentile};
use cluster::Cluster;

/// Nodes of the largest supported cluster, and pods of each: 450,000.
const LARGEST: (u32, u32) = (15_000, 30);

/// Nodes of the cluster whose hosts all report.
const REPORTING: u32 = 1_000;

/// Samples of one kind of change, and how long they may take together.
const SAMPLES: usize = 400;
const PATIENCE: Duration = Duration::from_secs(8);

/// How far apart changes are: the aggregator's own tick, so that each is followed by one.
const APART: Duration = Duration::from_millis(100);

/// Which cluster a process measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Part {
    /// 15,000 Nodes and 450,000 Pods, no agents.
    ControlPlane,
    /// 1,000 nodes whose agents all report.
    Agents,
    /// What an operator's questions cost there.
    Operator1000,
    /// The same with 5,000 nodes: minutes and gigabytes, and so no part of `bench scale`.
    Operator5000,
}

/// Measures all parts, each in a process of its own, so that its memory is its own.
pub fn run() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for part in ["control-plane", "agents", "operator1000"] {
        let program = std::env::current_exe().context("this program's own path")?;
        let output = Command::new(program)
            .args(["measure-scale", part])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run the measuring process")?;
        if !output.status.success() {
            bail!("the measuring process ended with {}", output.status);
        }
        let rows: Vec<Row> = serde_json::from_slice(&output.stdout).context("figures of the measuring process")?;
        figures.extend(rows.into_iter().map(Row::figure));
    }
    Ok(figures)
}

/// A figure on its way from the measuring process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    what: String,
    value: f64,
    /// In MiB, not in ms.
    memory: bool,
    aim: Option<f64>,
}

impl Row {
    fn figure(self) -> Figure {
        let figure = Figure::new(self.what, self.value, if self.memory { "MiB" } else { "ms" });
        match self.aim {
            Some(aim) => figure.aim_value(aim),
            None => figure,
        }
    }
}

/// Measures one part in this process.
pub fn measure(part: Part) -> Result<Vec<Row>> {
    match part {
        Part::ControlPlane => control_plane(LARGEST),
        Part::Agents => agents(REPORTING),
        Part::Operator1000 => operator::measure(REPORTING),
        Part::Operator5000 => operator::measure(5_000),
    }
}

/// An engine, the lists it was fed, the clock, and the figures so far.
struct Run {
    engine: Arc<Engine>,
    cluster: Cluster,
    now: Timestamp,
    rows: Vec<Row>,
    label: String,
}

impl Run {
    fn new(cluster: Cluster, label: String) -> Self {
        Self {
            engine: Engine::new(cluster.config()),
            now: cluster.start,
            cluster,
            rows: Vec::new(),
            label,
        }
    }

    fn add(&mut self, what: &str, value: f64, memory: bool, aim: Option<f64>) {
        let what = format!("{}, {what}", self.label);
        self.rows.push(Row {
            what,
            value,
            memory,
            aim,
        });
    }

    fn time(&mut self, what: &str, aim: Option<f64>, work: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        work(self);
        let took = ms(start.elapsed());
        self.add(what, took, false, aim);
    }

    /// Times one event of many up to its claims, and with the tick that follows it, in which what was put off is done and the
    /// next Nodes are looked at again because of their age; `aim` is for the 99th percentile of the event.
    fn each(&mut self, what: &str, aim: Option<f64>, mut event: impl FnMut(&mut Cluster, usize) -> PlaneEvent) {
        let begun = Instant::now();
        let (mut samples, mut ways) = (Vec::new(), Vec::new());
        while samples.len() < SAMPLES && (samples.len() < 3 || begun.elapsed() < PATIENCE) {
            self.now += APART;
            let event = event(&mut self.cluster, samples.len());
            let start = Instant::now();
            self.engine.plane_event(event, self.now);
            samples.push(ms(start.elapsed()));
            self.engine.tick(self.now);
            ways.push(ms(start.elapsed()));
        }
        self.add(&format!("{what}, p50"), percentile(&mut samples, 0.5), false, None);
        self.add(&format!("{what}, p99"), percentile(&mut samples, 0.99), false, aim);
        self.add(
            &format!("{what}, with the tick after it, p99"),
            percentile(&mut ways, 0.99),
            false,
            None,
        );
    }

    fn memory(&mut self, when: &str, aim: Option<f64>) -> Result<()> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        for (key, aim) in [("VmRSS:", aim), ("VmHWM:", None)] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib: f64 = line.context(key)?.trim().trim_end_matches(" kB").parse()?;
            self.add(
                &format!("{} {when}", key.trim_end_matches(':')),
                kib / 1024.0,
                true,
                aim,
            );
        }
        Ok(())
    }

    /// Changes of single Nodes, of every kind.
    fn node_changes(&mut self, aim: Option<f64>) {
        self.each("a Node says the same again", aim, |cluster, at| {
            PlaneEvent::Node(Box::new(cluster.node(spread(at, cluster.count))))
        });
        self.each("a Node's Ready and labels change", aim, |cluster, at| {
            let mut node = cluster.node(spread(at, cluster.count));
            node.ready = Some(false);
            node.labels.insert("kubernetes.io/os".to_owned(), format!("linux-{at}"));
            PlaneEvent::Node(Box::new(node))
        });
        self.each("a Node comes without CIDR", aim, |cluster, at| {
            PlaneEvent::Node(Box::new(NodeRecord {
                pod_cidr: None,
                pod_cidrs_raw: Vec::new(),
                pod_cidrs: Vec::new(),
                ..cluster.node(cluster.count + index(at))
            }))
        });
        self.each("a new Node gets its CIDR", aim, |cluster, at| {
            PlaneEvent::Node(Box::new(cluster.node(cluster.count + index(at))))
        });
        self.each("a Node is deleted", aim, |cluster, at| {
            PlaneEvent::NodeGone(cluster.name(cluster.count + index(at)))
        });
        self.each("a Node is added, CIDR and all", aim, |cluster, at| {
            PlaneEvent::Node(Box::new(cluster.node(cluster.count + index(at))))
        });
    }

    /// Every agent sends its view.
    fn report(&mut self) {
        for node in 0..self.cluster.count {
            let name = self.cluster.name(node);
            let revision = self.engine.expectation(&name).borrow().revision;
            for event in self.cluster.report(node, revision) {
                self.engine.host_event(&name, event, self.now);
            }
        }
        self.engine.tick(self.now);
    }

    /// What people and scrapers ask for.
    fn questions(&mut self) {
        let now = self.now;
        let metrics = Metrics::default().with_engine(Arc::clone(&self.engine));
        self.time("tick with nothing due", None, |run| run.engine.tick(now));
        self.time("status", None, |run| {
            std::hint::black_box(run.engine.read(|state| state.status(now)));
        });
        self.time("nodes", None, |run| {
            std::hint::black_box(run.engine.read(|state| state.node_summaries(now)));
        });
        self.time("pool", None, |run| {
            std::hint::black_box(run.engine.read(|state| state.pool_report()));
        });
        self.time("one node", None, |run| {
            let name = run.cluster.name(7);
            std::hint::black_box(run.engine.read(|state| state.node(&name, now)));
        });
        self.time("metrics scrape", None, |_| {
            std::hint::black_box(metrics.text());
        });
    }
}

/// Nodes all over the list, not neighbours.
fn spread(at: usize, count: u32) -> u32 {
    (index(at) * 7_919) % count
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn control_plane((nodes, pods): (u32, u32)) -> Result<Vec<Row>> {
    let mut run = Run::new(
        Cluster::new(nodes),
        format!("{nodes} Nodes, {} Pods", u64::from(nodes) * u64::from(pods)),
    );
    run.memory("before", None)?;
    let (all, of_all) = (run.cluster.nodes(), run.cluster.all_pods(pods));
    run.memory("of the lists alone", None)?;
    let now = run.now;
    run.time(
        "first full judgement after the lists arrived",
        Some(5_000.0),
        move |run| {
            run.engine
                .plane_event(PlaneEvent::Source("recorded lists".to_owned()), now);
            run.engine.plane_event(PlaneEvent::Nodes(all, BTreeSet::new()), now);
            run.engine.plane_event(PlaneEvent::AllPods(of_all), now);
            run.engine.tick(now);
        },
    );
    run.time("ticks of a minute in which every node's SEEN01 opens", None, |run| {
        // Shorter steps than what is taken for a machine that slept.
        for _ in 0..15 {
            run.now += Duration::from_secs(4);
            run.engine.tick(run.now);
        }
    });
    run.memory("after it", Some(256.0))?;
    run.node_changes(Some(1.0));
    run.each("Pods of a node change", Some(1.0), |cluster, at| {
        let node = spread(at, cluster.count);
        let pods = cluster.pods(node, pods - 1);
        PlaneEvent::Pods(vec![(cluster.name(node), Some(Arc::new(pods)))])
    });
    run.questions();
    run.memory("at the end", Some(256.0))?;
    Ok(run.rows)
}

fn agents(nodes: u32) -> Result<Vec<Row>> {
    let mut run = Run::new(Cluster::new(nodes), format!("{nodes} nodes with agents"));
    let all = run.cluster.nodes();
    let now = run.now;
    run.time("the Nodes are listed", None, move |run| {
        run.engine.plane_event(PlaneEvent::Nodes(all, BTreeSet::new()), now);
    });
    run.time("all agents send their views", None, Run::report);
    let status = run.engine.read(|state| state.status(run.now));
    if status.pairs.delivered != u64::from(nodes) * u64::from(nodes) {
        bail!("not every pair is delivered: {:?} {:?}", status.pairs, status.unknowns);
    }
    run.memory("after that", None)?;
    run.time("a heartbeat", None, |run| {
        let name = run.cluster.name(5);
        let verified_at = Some(run.now);
        let event = cidrift_aggregator::cluster::HostEvent::Heartbeat { verified_at };
        run.engine.host_event(&name, event, run.now);
    });
    run.time("a host's route breaks", None, |run| {
        let name = run.cluster.name(5);
        let revision = run.engine.expectation(&name).borrow().revision;
        let event = run.cluster.breaks(5, 9, revision);
        run.engine.host_event(&name, event, run.now);
    });
    run.node_changes(None);
    run.questions();
    Ok(run.rows)
}
