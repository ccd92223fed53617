//! How sandboxes are set up on a host.

use cidrift_proto::facts::{LoggedSetups, SetupFacts, seconds};

use super::super::Look;
use super::super::age::age;
use super::super::text::{Grid, Ink, plain, wrap};

/// A row for each span, and who counts what below. What failed stands out; it is no finding by itself, since a pod may
/// fail for reasons of its own, and start in the end.
pub(super) fn table(setups: &SetupFacts, look: &Look) -> String {
    let mut out = String::new();
    if let Some(logged) = &setups.logged {
        out += &format!("\n{}", spans(logged, look));
        let mut text = logged.source.clone();
        if let Some(since) = logged.since {
            text += &format!(", known for {}", age(since, look.now));
        }
        if let Some(waits) = logged.waits() {
            text += &format!("; {waits}");
        }
        text += &format!("; read {} ago", age(setups.observed_at, look.now));
        out += &wrap("by: ", "  ", &text, look);
    }
    for row in &setups.counted {
        let text = format!("{}; read {} ago", row.words(), age(row.observed_at, look.now));
        out += &wrap(&format!("{}: ", row.source), "  ", &text, look);
    }
    out
}

fn spans(logged: &LoggedSetups, look: &Look) -> String {
    let mut grid = Grid::new([
        "SANDBOXES",
        "MADE",
        "HALF WITHIN",
        "95 % WITHIN",
        "SLOWEST",
        "FAILED TRIES",
        "SLOWEST",
    ]);
    let time = |millis: Option<u32>| plain(millis.map_or_else(|| "-".to_owned(), seconds));
    for span in &logged.spans {
        let ink = if span.failed == 0 { Ink::Plain } else { Ink::Doubt };
        grid.row(vec![
            plain(format!("last {} min", span.seconds / 60)),
            plain(span.made.to_string()),
            time(span.median_ms),
            time(span.percentile_95_ms),
            time(span.slowest_ms),
            (span.failed.to_string(), ink),
            time(span.slowest_failed_ms),
        ]);
    }
    grid.print("", look)
}
