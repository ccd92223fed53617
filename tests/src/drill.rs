//! One break from end to end: made, found, agreed to by ping, undone, resolved.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cidrift_proto::finding::{Finding, FindingState, Severity};

use crate::breaks::{Break, Companion, Expected, Plan};
use crate::client;
use crate::lab::{Lab, PATIENCE};
use crate::reach::pairs;
use crate::subscriber::{Board, Seen};

/// How long after the expected finding counts others may still begin to: the
/// aggregator's `--hold` of the lab and as much again.
const OTHERS: Duration = Duration::from_millis(400);

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Which break.
    pub which: Break,
    /// What was planned.
    pub plan: Plan,
    /// The expected finding as it counted, if it did.
    pub finding: Option<Arc<Finding>>,
    /// From just before the change until a subscriber saw the finding.
    pub visible: Option<Duration>,
    /// Until it counted.
    pub open: Option<Duration>,
    /// The aggregator's verdicts that were not good: "h1 to 10.244.2.0/24: no route".
    pub verdicts: Vec<String>,
    /// Pairs whose pings failed while it was broken.
    pub silent: Vec<(String, String)>,
    /// Other findings that counted meanwhile, with what explains them.
    pub others: Vec<Arc<Finding>>,
    /// From the undoing until it was resolved.
    pub resolved: Option<Duration>,
    /// What the aggregator gave as the reason.
    pub resolution: Option<String>,
    /// Everything that was not as it must be. Empty: the drill passed.
    pub faults: Vec<String>,
}

/// Runs a break. An error means that the lab itself failed; what the programs
/// under test got wrong stands in [`Outcome::faults`].
pub fn run(lab: &mut Lab, which: Break) -> Result<Outcome> {
    let plan = which
        .plan(&lab.world)
        .with_context(|| format!("{} does not apply to this lab", which.name()))?;
    let id = cidrift_proto::finding::finding_id(plan.expected.code, &plan.expected.subject);
    let mut outcome = Outcome {
        which,
        finding: None,
        visible: None,
        open: None,
        verdicts: Vec::new(),
        silent: Vec::new(),
        others: Vec::new(),
        resolved: None,
        resolution: None,
        faults: Vec::new(),
        plan,
    };

    let seen_before = lab.subscriber.look(|board| board.log.len());
    let start = Instant::now();
    lab.world.apply_all(&outcome.plan.steps)?;
    let opened = lab.subscriber.wait(PATIENCE, |board| {
        since(board, seen_before, &id)
            .find(|seen| seen.finding.state == FindingState::Open)
            .cloned()
    });
    if let Some(opened) = opened {
        outcome.open = Some(opened.at.duration_since(start));
        outcome.finding = Some(opened.finding);
    } else {
        let text = format!("{id} was not found within {} s", PATIENCE.as_secs());
        outcome.faults.push(text);
    }
    outcome.visible = lab.subscriber.look(|board| {
        since(board, seen_before, &id)
            .next()
            .map(|seen| seen.at.duration_since(start))
    });
    std::thread::sleep(OTHERS);
    outcome.verdicts = broken_verdicts(lab)?;
    outcome.silent = lab.pings(&outcome.plan.silent)?;
    judge_finding(&mut outcome);
    judge_pings(&mut outcome);

    let seen_before_undo = lab.subscriber.look(|board| board.log.len());
    let undone = Instant::now();
    lab.world.apply_all(&outcome.plan.undo)?;
    if outcome.finding.is_some() {
        let resolved = lab.subscriber.wait(PATIENCE, |board| {
            since(board, seen_before_undo, &id)
                .find(|seen| seen.finding.state == FindingState::Resolved)
                .cloned()
        });
        match resolved {
            Some(resolved) => {
                outcome.resolved = Some(resolved.at.duration_since(undone));
                outcome.resolution = resolved.finding.resolution.clone();
            }
            None => {
                let text = format!("{id} did not resolve within {} s of the undoing", PATIENCE.as_secs());
                outcome.faults.push(text);
            }
        }
    }
    outcome.others = lab
        .subscriber
        .look(|board| others(board, seen_before..seen_before_undo, &id));
    judge_others(&mut outcome);
    if let Err(error) = lab.wait_until_well() {
        outcome.faults.push(format!("after the undoing: {error:#}"));
    }
    outcome.faults.extend(lab.subscriber.look(|board| board.faults.clone()));
    Ok(outcome)
}

fn since<'a>(board: &'a Board, from: usize, id: &'a str) -> impl Iterator<Item = &'a Seen> {
    let log = board.log.get(from..).unwrap_or_default();
    log.iter().filter(move |seen| seen.finding.id == id)
}

/// Everything else that counted, as it last stood before the undoing; what
/// began to count only then too, as it began.
fn others(board: &Board, broken: Range<usize>, id: &str) -> Vec<Arc<Finding>> {
    let mut others = BTreeMap::new();
    for (number, seen) in board.log.iter().enumerate().skip(broken.start) {
        if seen.finding.state != FindingState::Open || seen.finding.id == id {
            continue;
        }
        if number < broken.end || !others.contains_key(&seen.finding.id) {
            others.insert(seen.finding.id.clone(), Arc::clone(&seen.finding));
        }
    }
    others.into_values().collect()
}

fn broken_verdicts(lab: &Lab) -> Result<Vec<String>> {
    use cidrift_proto::verdict::Standing;
    let topology = &lab.world.topology;
    let mut broken = Vec::new();
    for name in lab.world.snapshot.nodes.keys() {
        let Ok(verdicts) = client::verdicts(&topology.underlay, &lab.world.ca(), name) else {
            broken.push(format!("{name}: not known"));
            continue;
        };
        for verdict in verdicts {
            if verdict.verdict.standing() != Standing::Delivered {
                broken.push(format!("{name} to {}: {}", verdict.cidr, verdict.verdict));
            }
        }
    }
    Ok(broken)
}

fn judge_finding(outcome: &mut Outcome) {
    let Some(finding) = &outcome.finding else { return };
    let Expected { nodes, .. } = &outcome.plan.expected;
    let mut faults = Vec::new();
    for node in nodes {
        if !finding.claim.nodes.contains(node) {
            faults.push(format!("{} does not name {node}", finding.id));
        }
    }
    if finding.claim.evidence.is_empty() {
        faults.push(format!("{} has no evidence", finding.id));
    }
    if finding.claim.remedy.is_empty() {
        faults.push(format!("{} has no remedy", finding.id));
    }
    outcome.faults.extend(faults);
}

fn judge_pings(outcome: &mut Outcome) {
    if outcome.silent != outcome.plan.silent {
        outcome.faults.push(format!(
            "pings failed from {}, expected {}",
            pairs(&outcome.silent),
            pairs(&outcome.plan.silent)
        ));
    }
}

fn judge_others(outcome: &mut Outcome) {
    let Plan { companions, .. } = &outcome.plan;
    let declared = |finding: &Finding| {
        companions
            .iter()
            .any(|&Companion { code, .. }| code == finding.claim.code)
    };
    let unexpected: Vec<String> = outcome
        .others
        .iter()
        .filter(|finding| finding.claim.severity >= Severity::Error && !declared(finding))
        .map(|finding| {
            format!(
                "{} was found too, but should not: {}",
                finding.id, finding.claim.summary
            )
        })
        .collect();
    outcome.faults.extend(unexpected);
}
