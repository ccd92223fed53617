//! What the demo prints.

use std::time::Duration;

use anyhow::Result;
use cidrift_proto::finding::Finding;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client;
use crate::drill::Outcome;
use crate::programs::PATIENCE;
use crate::reach::{measure, pairs};
use crate::world::World;

/// Evidence lines shown of one finding; `kubectl cidrift` shows the rest.
const EVIDENCE: usize = 6;

/// Where it goes: a spinner at a terminal, plain lines everywhere else.
#[derive(Debug)]
pub struct Screen {
    bar: ProgressBar,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// On stdout, with the spinner on stderr where that is a terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Something begins.
    pub fn step(&self, text: &str) {
        self.say(&format!("==> {text}"));
        self.bar.set_message(text.to_owned());
    }

    /// Prints lines.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Every host against every pod CIDR: the aggregator's verdict and a real ping.
pub fn matrix(world: &World) -> Result<String> {
    let topology = &world.topology;
    let reach = measure(topology)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut header = vec!["from host".to_owned()];
    let owners: Vec<_> = topology
        .hosts
        .iter()
        .flat_map(|host| {
            host.identity
                .cidrs
                .iter()
                .map(|cidr| (host.identity.name.clone(), *cidr))
        })
        .collect();
    header.extend(owners.iter().map(|(owner, cidr)| format!("{cidr} ({owner})")));
    table.set_header(header);
    for host in &topology.hosts {
        let name = &host.identity.name;
        let verdicts = client::verdicts(&topology.underlay, &world.ca(), name)?;
        let mut row = vec![name.clone()];
        for (owner, cidr) in &owners {
            let verdict = verdicts.iter().find(|verdict| verdict.cidr == *cidr);
            let verdict = verdict.map_or("no verdict".to_owned(), |verdict| verdict.verdict.to_string());
            let ping = match reach.get(&(name.clone(), owner.clone())) {
                None => String::new(),
                Some(None) => ", no ping".to_owned(),
                Some(Some(time)) => format!(", ping {}", millis(*time)),
            };
            row.push(format!("{verdict}{ping}"));
        }
        table.add_row(row);
    }
    Ok(table.to_string())
}

/// What came of one break.
pub fn outcome(outcome: &Outcome) -> String {
    let mut lines = Lines::default();
    for step in &outcome.plan.steps {
        lines.add("did", &step.to_string());
    }
    if let Some(finding) = &outcome.finding {
        finding_lines(&mut lines, finding);
    }
    if let (Some(visible), Some(open)) = (outcome.visible, outcome.open) {
        let (hold, settle) = (PATIENCE[0], PATIENCE[1]);
        lines.add(
            "when",
            &format!(
                "seen by a subscriber {} after the change, counted after {} ({} {}, {} {})",
                millis(visible),
                millis(open),
                hold.0,
                hold.1,
                settle.0,
                settle.1
            ),
        );
    }
    for other in &outcome.others {
        let why = outcome
            .plan
            .companions
            .iter()
            .find(|companion| companion.code == other.claim.code);
        let why = why.map_or(String::new(), |companion| format!(" ({})", companion.why));
        let explained = if other.explained_by.is_empty() {
            String::new()
        } else {
            format!(", explained by {}", other.explained_by.join(", "))
        };
        lines.add(
            "also",
            &format!(
                "{} {}: {}{why}{explained}",
                other.id, other.claim.severity, other.claim.summary
            ),
        );
    }
    for verdict in &outcome.verdicts {
        lines.add("verdict", verdict);
    }
    lines.add("ping", &format!("fails {}", pairs(&outcome.silent)));
    for step in &outcome.plan.undo {
        lines.add("undid", &step.to_string());
    }
    if let Some(resolved) = outcome.resolved {
        let why = outcome.resolution.as_deref().unwrap_or("no reason given");
        lines.add("resolved", &format!("after {}: {why}", millis(resolved)));
    }
    if outcome.faults.is_empty() {
        lines.add("ok", "found, agreed to by ping, resolved; all pairs answer again");
    }
    for fault in &outcome.faults {
        lines.add("FAILED", fault);
    }
    lines.0
}

fn finding_lines(lines: &mut Lines, finding: &Finding) {
    let claim = &finding.claim;
    lines.add(
        "found",
        &format!(
            "{} {} {} on {}: {}",
            claim.code,
            claim.code.entry().name,
            claim.severity,
            claim.subject,
            claim.summary
        ),
    );
    for evidence in claim.evidence.iter().take(EVIDENCE) {
        let at = evidence
            .observed_at
            .map_or(String::new(), |at| format!(" at {}", at.strftime("%H:%M:%S%.3f")));
        lines.add("evidence", &format!("{}{at}: {}", evidence.source, evidence.text));
    }
    let more = claim.evidence.len().saturating_sub(EVIDENCE);
    if more > 0 {
        lines.add("", &format!("and {more} more"));
    }
    lines.add("cause", &claim.cause);
    lines.add("remedy", &claim.remedy);
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    /// A line with its label; further lines of the text are set below the first.
    fn add(&mut self, label: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            if !self.0.is_empty() {
                self.0.push('\n');
            }
            let label = if number == 0 { label } else { "" };
            self.0.push_str(&format!("    {label:<9} {line}"));
        }
    }
}

/// All breaks in a table.
pub fn summary(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "break",
        "expected",
        "seen after",
        "counted after",
        "resolved after",
        "pings failed",
        "",
    ]);
    let time = |time: Option<Duration>| time.map_or("never".to_owned(), millis);
    for outcome in outcomes {
        let expected = &outcome.plan.expected;
        table.add_row([
            outcome.which.name().to_owned(),
            format!("{} on {}", expected.code, expected.subject),
            time(outcome.visible),
            time(outcome.open),
            time(outcome.resolved),
            pairs(&outcome.silent),
            if outcome.faults.is_empty() { "ok" } else { "FAILED" }.to_owned(),
        ]);
    }
    table.to_string()
}

/// "0.12 ms", "14 ms", "2.3 s".
pub fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1e3),
    }
}
