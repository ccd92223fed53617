//! Findings, as a compiler prints its errors.

use cidrift_proto::finding::{Evidence, Finding, FindingState, ROWS, Severity};

use super::Look;
use super::age::age;
use super::text::{Ink, clean, wrap};
use crate::query::answer::WatchEvent;
use crate::summary::Health;

/// Evidence and affected rows shown unless everything is asked for.
const SHOWN: usize = 8;

pub(super) fn ink(severity: Severity) -> Ink {
    match severity {
        Severity::Info => Ink::Faint,
        Severity::Warning => Ink::Doubt,
        Severity::Error | Severity::Critical => Ink::Bad,
    }
}

/// A list of findings, and what its shortness is worth.
pub fn findings(findings: &[Finding], health: Health, unknowns: &[String], look: &Look) -> String {
    let mut out = String::new();
    for each in findings {
        out += &finding(each, look);
        out.push('\n');
    }
    out += &counts(findings);
    if health == Health::Unknown || !unknowns.is_empty() {
        out += &Ink::Doubt.paint("Not everything could be seen:", look);
        out.push('\n');
        for unknown in unknowns {
            out += &wrap("  - ", "    ", unknown, look);
        }
        if unknowns.is_empty() {
            out += "  - `kubectl cidrift nodes` shows which nodes are unknown\n";
        }
    }
    out
}

/// "2 findings open (1 error, 1 warning), 1 pending."
fn counts(findings: &[Finding]) -> String {
    let state = |state: FindingState| findings.iter().filter(move |f| f.state == state);
    let open = state(FindingState::Open).count();
    let by_severity: Vec<String> = [Severity::Critical, Severity::Error, Severity::Warning, Severity::Info]
        .into_iter()
        .filter_map(|severity| {
            match state(FindingState::Open)
                .filter(|f| f.claim.severity == severity)
                .count()
            {
                0 => None,
                n => Some(format!("{n} {severity}")),
            }
        })
        .collect();
    let mut text = match open {
        0 => "No finding is open".to_owned(),
        1 => format!("1 finding is open ({})", by_severity.join(", ")),
        n => format!("{n} findings are open ({})", by_severity.join(", ")),
    };
    let pending = state(FindingState::Pending).count();
    if pending > 0 {
        text += &format!("; {pending} pending");
    }
    let past = state(FindingState::Resolved).count() + state(FindingState::Withdrawn).count();
    if past > 0 {
        text += &format!("; {past} of the past");
    }
    text + ".\n"
}

/// One finding with everything.
pub fn finding(finding: &Finding, look: &Look) -> String {
    let claim = &finding.claim;
    let entry = claim.code.entry();
    let label = match finding.state {
        FindingState::Open => format!("{}[{}]", claim.severity, claim.code),
        other => format!("{other} {}[{}]", claim.severity, claim.code),
    };
    let ink = match finding.state {
        FindingState::Open | FindingState::Pending => ink(claim.severity),
        FindingState::Resolved | FindingState::Withdrawn => Ink::Good,
    };
    let mut out = ink.paint(&label, look);
    // The colour's letters take no room on the screen.
    let shown = format!("{label} {}: {}", entry.name, claim.summary);
    out += &wrap("", "    ", &shown, look)[label.len()..];
    out += &place(finding, look);
    out += "   |\n";
    for evidence in claim.evidence.iter().take(limit(look)) {
        out += &wrap("   | ", "   |     ", &evidence_line(evidence, look), look);
    }
    out += &rest(claim.evidence.len(), "   | ", "more pieces of evidence", look);
    out += "   |\n";
    for row in claim.affected.iter().take(limit(look)) {
        let prefix = row.prefix.map(|p| p.to_string());
        let node = row.node.as_ref().map(|n| format!("of {n}"));
        let what: Vec<String> = prefix.into_iter().chain(node).collect();
        let line = match what.is_empty() {
            true => row.detail.clone(),
            false => format!("{}: {}", what.join(" "), row.detail),
        };
        out += &note("affected", &line, look);
    }
    let total = (claim.affected_total as usize).max(claim.affected.len());
    out += &rest(total, "   = affected: ", "more", look);
    for unseen in &claim.unseen {
        out += &note("unseen", unseen, look);
    }
    if !claim.cause.is_empty() {
        out += &note("cause", &claim.cause, look);
    }
    if !claim.remedy.is_empty() {
        // Never broken: it holds commands, and what a terminal folds can still be copied whole.
        out += &note("help", &claim.remedy, &Look { wide: true, ..*look });
    }
    if !finding.explained_by.is_empty() {
        out += &note("explained by", &finding.explained_by.join(", "), look);
    }
    for text in life(finding, look) {
        out += &note("note", &text, look);
    }
    out += &note("page", &format!("kubectl cidrift explain {}", claim.code), look);
    out
}

fn limit(look: &Look) -> usize {
    if look.wide { ROWS } else { SHOWN }
}

fn rest(total: usize, head: &str, what: &str, look: &Look) -> String {
    match total.saturating_sub(limit(look)) {
        0 => String::new(),
        n if look.wide => format!("{head}… and {n} {what}\n"),
        n => format!("{head}… and {n} {what} (-o wide)\n"),
    }
}

fn note(name: &str, text: &str, look: &Look) -> String {
    let head = format!("   = {name}: ");
    let rest = " ".repeat(head.chars().count());
    wrap(&head, &rest, text, look)
}

/// "  --> node-a, node-b (open for 3m)"
fn place(finding: &Finding, look: &Look) -> String {
    let nodes = &finding.claim.nodes;
    let mut where_ = match nodes.is_empty() {
        true => finding.claim.subject.clone(),
        false => nodes.iter().take(limit(look)).cloned().collect::<Vec<_>>().join(", "),
    };
    if nodes.len() > limit(look) {
        where_ += &format!(" and {} more", nodes.len() - limit(look));
    }
    let since = match (finding.state, finding.opened_at, finding.resolved_at) {
        (FindingState::Pending, ..) => format!("pending, first seen {} ago", age(finding.first_seen, look.now)),
        (FindingState::Open, Some(opened), _) => format!("open for {}", age(opened, look.now)),
        (state, _, Some(ended)) => format!("{state} {} ago", age(ended, look.now)),
        (state, ..) => format!("{state}, first seen {} ago", age(finding.first_seen, look.now)),
    };
    wrap("  --> ", "      ", &format!("{where_} ({since})"), look)
}

fn evidence_line(evidence: &Evidence, look: &Look) -> String {
    let mut source = evidence.source.clone();
    if let Some(at) = evidence.observed_at {
        source += &format!(", {} ago", age(at, look.now));
    }
    if evidence.stale {
        source += ", stale";
    }
    format!("{source}: {}", evidence.text)
}

/// What its life adds to what it says.
fn life(finding: &Finding, _look: &Look) -> Vec<String> {
    let mut notes = Vec::new();
    if finding.state == FindingState::Pending {
        notes.push("pending: it does not count yet, it must last first".to_owned());
    }
    if finding.stale {
        notes.push(
            "stale: its witness cannot say now whether it is still so, what stands here may be outdated".to_owned(),
        );
    }
    if let Some(resolution) = &finding.resolution {
        notes.push(format!("{}: {resolution}", finding.state));
    }
    if finding.episode > 1 {
        notes.push(format!("it has come back: this is time {}", finding.episode));
    }
    notes
}

/// A line for each message of a watch; everything of a finding where everything is asked for.
pub fn event(event: &WatchEvent, look: &Look) -> String {
    match event {
        WatchEvent::Finding { finding: f } if look.wide => finding(f, look) + "\n",
        WatchEvent::Finding { finding } => {
            let claim = &finding.claim;
            let at = finding.updated_at.strftime("%H:%M:%S.%3fZ");
            let state = format!("{:<9}", finding.state);
            let severity = format!("{:<8}", claim.severity);
            let ink = match finding.stands() {
                true => ink(claim.severity),
                false => Ink::Good,
            };
            format!(
                "{at}  {}  {}  {} {}  {}: {}\n",
                ink.paint(&state, look),
                severity,
                claim.code,
                claim.code.entry().name,
                one_line(&claim.subject),
                one_line(finding.resolution.as_deref().unwrap_or(&claim.summary)),
            )
        }
        WatchEvent::Synced => "-- all that stands has been shown; waiting for changes\n".to_owned(),
        WatchEvent::Lagged { missed } => {
            format!("-- {missed} changes were missed: too slow; what stands is shown anew\n")
        }
    }
}

fn one_line(text: &str) -> String {
    clean(text).replace('\n', " ")
}
