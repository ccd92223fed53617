//! The cluster in a few figures.

use cidrift_proto::finding::{Finding, FindingState, Severity};

use super::Look;
use super::age::{age, ago};
use super::findings::ink;
use super::matrix::{MATRIX, matrix};
use super::text::{Grid, Ink, clean, plain, wrap};
use crate::query::answer::{NodeAnswer, StatusAnswer};
use crate::summary::{Health, Status};

/// Where values begin.
const COLUMN: usize = 16;

/// Figures, the matrix of few nodes (`nodes` is empty for many), and findings in a line each.
pub fn status(answer: &StatusAnswer, findings: &[Finding], nodes: &[NodeAnswer], look: &Look) -> String {
    let status = &answer.status;
    let (word, ink) = match status.health {
        Health::Healthy => ("healthy: nothing of what is judged is wrong", Ink::Good),
        Health::Findings => ("findings", Ink::Bad),
        Health::Unknown => (doubt(status, findings), Ink::Doubt),
    };
    let mut out = format!("{:<COLUMN$}{}\n", "Health", ink.paint(word, look));
    for unknown in &status.unknowns {
        out += &wrap(
            &format!("{:<COLUMN$}", "  not seen"),
            &" ".repeat(COLUMN),
            unknown,
            look,
        );
    }
    let source = match status.control_plane_source.is_empty() {
        true => "not read yet".to_owned(),
        false => format!(
            "{}, read {}",
            status.control_plane_source,
            ago(status.control_plane_at, look.now)
        ),
    };
    out += &field("Control plane", &source, look);
    if let Some(problem) = &status.control_plane_problem {
        out += &field("  problem", problem, look);
    }
    let nodes_line = format!("{}, {} of them reporting", status.nodes, status.nodes_reporting);
    out += &field("Nodes", &nodes_line, look);
    let pairs = &status.pairs;
    let total = pairs
        .delivered
        .saturating_add(pairs.broken)
        .saturating_add(pairs.unknown);
    out += &field(
        "Ways",
        &format!(
            "{total} (node to pod CIDR): {} delivered, {} broken, {} unknown",
            pairs.delivered, pairs.broken, pairs.unknown
        ),
        look,
    );
    out += &field("Findings", &counts(status), look);
    out += &field("Aggregator", &answer.aggregator_version, look);
    if let Some(warning) = &answer.identity_warning {
        out += &field("  trust", warning, look);
    }
    if nodes.is_empty() && status.nodes as usize > MATRIX {
        out += "\n`kubectl cidrift nodes` shows every node, `kubectl cidrift node NAME` its ways.\n";
    }
    out += &matrix(nodes, look);
    out + &lines(findings, look)
}

/// Why it is neither healthy nor wrong.
fn doubt(status: &Status, findings: &[Finding]) -> &'static str {
    let wrong = |finding: &Finding| finding.claim.severity > Severity::Info;
    if findings.iter().any(|f| wrong(f) && f.state == FindingState::Pending) {
        "unknown: something looks wrong, but has not lasted long enough to count (pending)"
    } else if status.pairs.broken > 0 {
        "unknown: some ways are broken, but no finding that counts says so yet"
    } else {
        "unknown: nothing is known to be wrong, but not everything could be seen"
    }
}

/// "1 critical, 2 error open; 1 pending": what there is none of is left out.
fn counts(status: &Status) -> String {
    let open: Vec<String> = [
        (status.critical, "critical"),
        (status.errors, "error"),
        (status.warnings, "warning"),
        (status.infos, "info"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, severity)| format!("{n} {severity}"))
    .collect();
    let open = match open.is_empty() {
        true => "none".to_owned(),
        false => open.join(", "),
    };
    match status.pending {
        0 => format!("{open} open"),
        n => format!("{open} open; {n} pending"),
    }
}

fn field(name: &str, value: &str, look: &Look) -> String {
    wrap(&format!("{name:<COLUMN$}"), &" ".repeat(COLUMN), value, look)
}

fn lines(findings: &[Finding], look: &Look) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(["SEVERITY", "CODE", "STATE", "AGE", "FINDING"]);
    for finding in findings {
        let claim = &finding.claim;
        let state = match (finding.state, finding.stale) {
            (FindingState::Pending, _) => "pending",
            (_, true) => "stale",
            _ => "open",
        };
        let explained = match finding.explained_by.is_empty() {
            true => String::new(),
            false => format!(" (explained by {})", finding.explained_by.join(", ")),
        };
        grid.row([
            (claim.severity.to_string(), ink(claim.severity)),
            plain(claim.code),
            plain(state),
            plain(age(finding.opened_at.unwrap_or(finding.first_seen), look.now)),
            plain(format!("{}{explained}", clean(&claim.summary))),
        ]);
    }
    format!(
        "\n{}`kubectl cidrift findings` has evidence and remedies.\n",
        grid.print("", look)
    )
}
