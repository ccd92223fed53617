//! What every scenario stands on: a real cluster, an aggregator that watches it,
//! an agent on each of its nodes, and a subscriber who hears every finding.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cidrift_lab::binaries::{self, Binaries};
use cidrift_lab::kubernetes::control_plane::Kcm;
use cidrift_lab::kubernetes::{self, Api, Cluster, Scenario, Service};
use cidrift_lab::programs::{AGGREGATOR, AGGREGATOR_HTTP};
use cidrift_lab::subscriber::{Board, Subscriber};
use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Finding, FindingState, Severity};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use serde_json::json;

/// What a finding may take: an idle machine needs 3 s from the cause to the open finding, a loaded one a multiple.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing else may open until the picture counts: longer than `--settle`, which holds back what is new.
const CALM: Duration = Duration::from_secs(4);

/// How patient the aggregator is told to be. Real kubelets take some seconds to follow the control plane.
const FLAGS: [(&str, &str); 3] = [("--hold", "500ms"), ("--settle", "3s"), ("--silence", "6s")];

/// Clusters at a time: each wants a core.
const CLUSTERS: u32 = 2;

static RUNNING: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

/// The right to run a cluster.
struct Turn;

impl Turn {
    fn take() -> Self {
        let mut running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= CLUSTERS {
            running = RUNNING.1.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// What a finding has to say.
#[derive(Default)]
pub(crate) struct Says<'a> {
    /// How bad it is; `None`: as it likes.
    pub(crate) severity: Option<Severity>,
    /// Part of its line.
    pub(crate) summary: &'a [&'a str],
    /// Who shows it, and what they say: parts of a row's source and text.
    pub(crate) evidence: &'a [(&'a str, &'a str)],
    /// Parts of the cause.
    pub(crate) cause: &'a [&'a str],
    /// Parts of the remedy.
    pub(crate) remedy: &'a [&'a str],
    /// Findings that explain it, all of them.
    pub(crate) explained_by: Option<&'a [&'a str]>,
}

impl Says<'_> {
    /// What of it a finding does not say.
    fn missing(&self, finding: &Finding) -> Vec<String> {
        let claim = &finding.claim;
        let mut missing = Vec::new();
        if self.severity.is_some_and(|severity| severity != claim.severity) {
            missing.push(format!("severity {:?}", self.severity));
        }
        for (said, parts) in [
            (&claim.summary, self.summary),
            (&claim.cause, self.cause),
            (&claim.remedy, self.remedy),
        ] {
            missing.extend(
                parts
                    .iter()
                    .filter(|part| !said.contains(**part))
                    .map(|part| (*part).to_owned()),
            );
        }
        for (source, text) in self.evidence {
            let mut rows = claim.evidence.iter();
            if !rows.any(|row| row.source.contains(source) && row.text.contains(text)) {
                missing.push(format!("{source}: {text}"));
            }
        }
        if let Some(ids) = self.explained_by.filter(|ids| finding.explained_by != *ids) {
            missing.push(format!("explained by {ids:?}"));
        }
        missing
    }
}

/// A cluster with the right to run it.
pub(crate) struct Ground {
    // Dropped in this order: the next one starts when this one is gone.
    cluster: Cluster,
    _turn: Turn,
}

impl Deref for Ground {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// A cluster under cidrift's eyes.
pub(crate) struct Stage {
    // In this order they are dropped: who uses others goes before them.
    findings: Subscriber,
    agents: Vec<Service>,
    aggregator: Service,
    cluster: Arc<Ground>,
    name: &'static str,
    began: Instant,
    took: Vec<String>,
}

impl Stage {
    /// Starts the cluster and all of cidrift. `name` is the scenario's, for the line that says how long it took.
    pub(crate) fn start(name: &'static str, scenario: Scenario) -> Self {
        Self::start_with(name, scenario, &[])
    }

    /// The same, with more flags for the aggregator; a later one wins.
    pub(crate) fn start_with(name: &'static str, scenario: Scenario, flags: &[&str]) -> Self {
        let turn = Turn::take();
        let say = |text: &str| eprintln!("{text}");
        let programs = binaries::find(say).unwrap_or_else(|error| panic!("{error}"));
        let began = Instant::now();
        let cluster = Cluster::start(scenario, &say).unwrap_or_else(|error| panic!("{error}"));
        let aggregator = aggregator(&cluster, &programs, flags);
        let agents = cluster
            .nodes()
            .iter()
            .map(|node| agent(node, &programs, &ca(&cluster)))
            .collect();
        let findings = Subscriber::start(&cluster.plane().netns, ca(&cluster)).unwrap();
        let mut stage = Self {
            findings,
            agents,
            aggregator,
            cluster: Arc::new(Ground { cluster, _turn: turn }),
            name,
            began,
            took: Vec::new(),
        };
        stage
            .findings
            .wait(PATIENCE, |board| board.synced.then_some(()))
            .unwrap();
        // A young controller manager takes some seconds: what has to wait for that is no fault to be told.
        if stage.cluster.scenario().allocate_node_cidrs {
            stage
                .kcm()
                .wait_log("\"Starting range CIDR allocator\"", PATIENCE)
                .unwrap();
        }
        stage.mark("cluster");
        stage
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> Arc<Ground> {
        Arc::clone(&self.cluster)
    }

    /// Its API server.
    pub(crate) fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// Its controller manager.
    pub(crate) fn kcm(&self) -> &Kcm {
        self.cluster.kcm()
    }

    /// Changes a Node without a machine, as kubelets do all the time: controllers look at it again.
    pub(crate) fn touch(&self, node: &str) {
        let nodes: kube::Api<Node> = kube::Api::all(self.api().client());
        let stamp = self.began.elapsed().as_millis().to_string();
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"bench/touched": stamp}}}));
        let parameters = PatchParams::default();
        let patched = self.api().block_on(nodes.patch(node, &parameters, &patch));
        assert!(patched.is_ok(), "{patched:?}");
    }

    /// Notes how long it took to get here.
    pub(crate) fn mark(&mut self, what: &str) {
        self.took
            .push(format!("{what} {:.1} s", self.began.elapsed().as_secs_f64()));
    }

    /// Waits until a finding is open and says all of this; returns it.
    pub(crate) fn open(&self, id: &str, says: &Says<'_>) -> Arc<Finding> {
        let found = self.findings.wait(PATIENCE, |board| {
            let finding = board.standing.get(id)?;
            (finding.state == FindingState::Open && says.missing(finding).is_empty()).then(|| Arc::clone(finding))
        });
        found.unwrap_or_else(|| {
            let standing = self.findings.look(|board| board.standing.get(id).cloned());
            let missing = standing.map(|finding| says.missing(&finding));
            panic!("{id} does not open, or does not say {missing:?}; {}", self.picture())
        })
    }

    /// Waits until these findings are open and no others, and sees it stay so for longer than what is new is held back.
    pub(crate) fn only(&self, ids: &[&str]) {
        let wanted: BTreeSet<&str> = ids.iter().copied().collect();
        let end = Instant::now() + PATIENCE;
        let mut calm: Option<Instant> = None;
        loop {
            let right = self
                .findings
                .look(|board| board.synced && open_ids(board, &wanted) == wanted);
            match (right, calm) {
                (true, None) => calm = Some(Instant::now()),
                (true, Some(since)) if since.elapsed() >= CALM => return,
                (false, _) => calm = None,
                (true, Some(_)) => {}
            }
            assert!(
                calm.is_some() || Instant::now() < end,
                "open should be {wanted:?}; {}",
                self.picture()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills the aggregator and all agents as crashes do, starts them again, and sees exactly these
    /// findings open again: what was found is found once more from what there is to see.
    pub(crate) fn crash(&mut self, ids: &[&str]) {
        self.aggregator.kill();
        for agent in &self.agents {
            agent.kill();
        }
        let ended = self.findings.wait(PATIENCE, |board| (!board.synced).then_some(()));
        assert!(
            ended.is_some(),
            "the subscriber does not notice that the aggregator is gone"
        );
        self.aggregator.start_again().unwrap();
        for agent in &self.agents {
            agent.start_again().unwrap();
        }
        self.only(ids);
        self.mark("restarted");
    }

    /// Says how long all took, and fails when anything ever opened that is not among `expected`.
    pub(crate) fn end(mut self, expected: &[&str]) {
        self.mark("end");
        let expected: BTreeSet<&str> = expected.iter().copied().collect();
        let strange: Vec<String> = self.findings.look(|board| {
            let opened = board.log.iter().filter(|seen| seen.finding.state == FindingState::Open);
            let strange = opened.filter(|seen| !expected.contains(seen.finding.id.as_str()) && !is_race(&seen.finding));
            strange.map(|seen| words(&seen.finding)).collect()
        });
        assert!(strange.is_empty(), "false alarms on the way: {strange:#?}");
        let faults = self.findings.look(|board| board.faults.clone());
        assert!(faults.is_empty(), "{faults:?}");
        for service in self.agents.iter().chain([&self.aggregator]) {
            service.check().unwrap_or_else(|error| panic!("{error}"));
        }
        // Past the test harness, which shows what is printed only when a test fails.
        let line = format!("scenario {}: {}\n", self.name, self.took.join(", "));
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }

    /// All that stands, for messages.
    pub(crate) fn picture(&self) -> String {
        let standing: Vec<String> = self
            .findings
            .look(|board| board.standing.values().map(|finding| words(finding)).collect());
        format!(
            "so far {}; {} findings stand:\n{}\n{}",
            self.took.join(", "),
            standing.len(),
            standing.join("\n"),
            self.aggregator.tail()
        )
    }
}

/// What is open, without races that nobody expects.
fn open_ids<'a>(board: &'a Board, wanted: &BTreeSet<&str>) -> BTreeSet<&'a str> {
    let open = board
        .standing
        .values()
        .filter(|finding| finding.state == FindingState::Open)
        .filter(|finding| wanted.contains(finding.id.as_str()) || !is_race(finding));
    open.map(|finding| finding.id.as_str()).collect()
}

/// Two workers of the real allocator take up the same new Node every now and then, and its event says so: no scenario
/// can rule that out, and it is told as what it is, information.
fn is_race(finding: &Finding) -> bool {
    finding.claim.code == Code::Pool11 && finding.claim.severity == Severity::Info
}

/// A finding in full, for messages.
fn words(finding: &Finding) -> String {
    let claim = &finding.claim;
    let evidence: Vec<String> = claim
        .evidence
        .iter()
        .map(|row| format!("    {}: {}", row.source, row.text))
        .collect();
    format!(
        "{} {} {} (explained by {:?}): {}\n  cause: {}\n  remedy: {}\n  unseen: {:?}\n  affected: {:?}\n{}",
        finding.id,
        finding.state,
        claim.severity,
        finding.explained_by,
        claim.summary,
        claim.cause,
        claim.remedy,
        claim.unseen,
        claim.affected,
        evidence.join("\n")
    )
}

/// Where the aggregator keeps its CA.
fn tls(cluster: &Cluster) -> PathBuf {
    cluster.directory().join("cidrift-tls")
}

/// What agents and askers believe.
pub(crate) fn ca(cluster: &Cluster) -> PathBuf {
    tls(cluster).join("ca.crt")
}

fn aggregator(cluster: &Cluster, programs: &Binaries, flags: &[&str]) -> Service {
    let kubeconfig = cluster.kubeconfig_for("cidrift", Some("system:masters"), true).unwrap();
    let mut arguments: Vec<OsString> = vec![
        "--listen".into(),
        AGGREGATOR.into(),
        "--http-listen".into(),
        AGGREGATOR_HTTP.into(),
        "--kubeconfig".into(),
        kubeconfig.into(),
        "--tls-directory".into(),
        tls(cluster).into_os_string(),
        // Agents here have no pods that could give them tokens.
        "--identity".into(),
        "none".into(),
    ];
    // clap takes a flag once only: those given here replace the stage's own.
    let own = FLAGS.iter().filter(|(name, _)| !flags.contains(name));
    arguments.extend(own.flat_map(|&(name, value)| [name.into(), value.into()]));
    arguments.extend(flags.iter().map(OsString::from));
    cluster
        .start_program("cidrift-aggregator", &programs.aggregator, arguments, Vec::new())
        .unwrap()
}

fn agent(node: &kubernetes::Node, programs: &Binaries, ca: &Path) -> Service {
    let arguments = [
        "run",
        "--aggregator",
        &format!("https://{AGGREGATOR}"),
        "--node-name",
        &node.name,
        "--ca",
    ];
    let arguments = arguments.iter().map(OsString::from).chain([ca.into()]).collect();
    node.start_program("cidrift-agent", &programs.agent, arguments, Vec::new())
        .unwrap()
}
