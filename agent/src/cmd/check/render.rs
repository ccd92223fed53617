//! The look, for people: what was compared, then the findings as a compiler
//! would put them, then what could not be judged.

mod setups;
mod traffic;
mod wrap;

use std::fmt::Write;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{Agrees, Compared};
use cidrift_proto::finding::Claim;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use self::wrap::wrap;
use super::{Outcome, Report};
use crate::check::by_reason;

/// Columns that are filled where the output is no terminal.
const WIDTH: u16 = 120;

/// Columns that sentences fill at least and at most, on whichever terminal: with less every word has its own line, and
/// nobody reads longer ones.
const SENTENCES: (usize, usize) = (40, WIDTH as usize);

pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    let (least, most) = SENTENCES;
    let width = Table::new().width().unwrap_or(WIDTH);
    // Writing into a String cannot fail.
    let _ = write(&mut out, report, usize::from(width).clamp(least, most));
    out
}

fn write(out: &mut String, report: &Report, width: usize) -> std::fmt::Result {
    writeln!(out, "{}", headline(report))?;
    writeln!(out, "\n{}\n", table(&report.compared))?;
    if let Some(traffic) = &report.traffic {
        writeln!(out, "{}\n", traffic::table(traffic))?;
    }
    if let Some(setups) = &report.setups {
        writeln!(out, "{}\n", setups::table(setups))?;
    }
    for problem in &report.problems {
        writeln!(out, "{}", wrap("problem: ", "  ", problem, width))?;
    }
    for claim in &report.findings {
        finding(out, claim, report.explained_by.get(&claim.code), width)?;
    }
    if !report.unjudged.is_empty() {
        writeln!(out, "could not be judged:")?;
        for (codes, reason) in by_reason(&report.unjudged) {
            out.push_str(&wrap("  ", "    ", &format!("{codes}: {reason}"), width));
        }
    }
    Ok(())
}

fn headline(report: &Report) -> String {
    let node = &report.node;
    match (report.outcome, report.findings.len()) {
        (Outcome::Healthy, _) => format!("{node}: as it should be"),
        (Outcome::Unknown, _) => format!("{node}: unknown, not everything could be judged"),
        (Outcome::Findings, 1) => format!("{node}: 1 finding"),
        (Outcome::Findings, count) => format!("{node}: {count} findings"),
    }
}

fn table(rows: &[Compared]) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    table.set_header(["WHAT", "SAYS", "SOURCE", "AGREES"]);
    for row in rows {
        let agrees = match row.agrees {
            Agrees::Yes => "yes",
            Agrees::No => "NO",
            Agrees::Unknown => "unknown",
            Agrees::Nothing => "-",
        };
        table.add_row([row.what.as_str(), row.value.as_str(), row.source.as_str(), agrees]);
    }
    table.trim_fmt()
}

fn finding(out: &mut String, claim: &Claim, explained_by: Option<&Vec<Code>>, width: usize) -> std::fmt::Result {
    writeln!(out, "{}[{}]: {}", claim.severity, claim.code, claim.code.entry().name)?;
    out.push_str(&wrap("  ", "  ", &claim.summary, width));
    let mut source = None;
    for row in &claim.evidence {
        if source != Some(&row.source) {
            let at = row.observed_at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
            writeln!(out, "  --> {}{at}", row.source)?;
            source = Some(&row.source);
        }
        // As the host has it: lines of files, routes.
        writeln!(out, "   |  {}", row.text)?;
    }
    for unseen in &claim.unseen {
        out.push_str(&wrap("   = not seen: ", "     ", unseen, width));
    }
    if let Some(codes) = explained_by {
        let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        out.push_str(&wrap("   = explained by: ", "     ", &codes.join(", "), width));
    }
    out.push_str(&wrap("   = why: ", "     ", &claim.cause, width));
    writeln!(out, "{}", wrap("   = help: ", "     ", &claim.remedy, width))
}
