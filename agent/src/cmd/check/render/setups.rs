//! How sandboxes are set up, for people.

use cidrift_proto::facts::{LoggedSetups, SetupFacts, seconds};
use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// A row for each span, and who counts what in lines below.
pub(super) fn table(setups: &SetupFacts) -> String {
    let mut lines = Vec::new();
    if let Some(logged) = &setups.logged {
        lines.push(spans(logged));
        let from = logged.since.map(|since| format!(", from {since:.0} on"));
        lines.push(format!(" by {}{}", logged.source, from.unwrap_or_default()));
        lines.extend(logged.waits().map(|text| format!(" {text}")));
    }
    for row in &setups.counted {
        lines.push(format!(" {}: {}", row.source, row.words()));
    }
    lines.join("\n")
}

fn spans(logged: &LoggedSetups) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "SANDBOXES",
        "MADE",
        "HALF WITHIN",
        "95 % WITHIN",
        "SLOWEST",
        "FAILED TRIES",
        "SLOWEST",
    ]);
    let time = |millis: Option<u32>| millis.map_or_else(|| "-".to_owned(), seconds);
    for span in &logged.spans {
        table.add_row([
            format!("last {} min", span.seconds / 60),
            span.made.to_string(),
            time(span.median_ms),
            time(span.percentile_95_ms),
            time(span.slowest_ms),
            span.failed.to_string(),
            time(span.slowest_failed_ms),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use cidrift_proto::facts::{CountedSetups, SetupCounts, SetupSpan};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn every_span_has_a_row_and_every_program_a_line() {
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let span = |seconds, made| SetupSpan {
            seconds,
            made,
            failed: 9,
            median_ms: Some(310),
            percentile_95_ms: None,
            slowest_ms: Some(41_000),
            slowest_failed_ms: Some(4_000),
        };
        let setups = SetupFacts {
            observed_at: at(0),
            logged: Some(LoggedSetups {
                source: "/var/log/containerd.log".into(),
                since: Some(at(-900)),
                spans: vec![span(600, 12), span(3600, 250)],
                waiting: 2,
                waiting_since: Some(at(-120)),
            }),
            counted: vec![CountedSetups {
                program: "containerd".into(),
                source: "containerd's metrics at 127.0.0.1:1338".into(),
                observed_at: at(0),
                networks: true,
                total: SetupCounts {
                    calls: 6,
                    failed: 1,
                    mean_ms: Some(17),
                    slowest_within_ms: Some(50),
                    slowest_beyond_ms: None,
                },
                grown: None,
            }],
        };
        insta::assert_snapshot!(table(&setups), @"
        SANDBOXES    MADE  HALF WITHIN  95 % WITHIN  SLOWEST  FAILED TRIES  SLOWEST
        last 10 min  12    0.3 s        -            41 s     9             4.0 s
        last 60 min  250   0.3 s        -            41 s     9             4.0 s
        by /var/log/containerd.log, from 2026-09-21T13:58:20Z on
        2 that were asked for since 2026-09-21T14:11:20Z have neither come nor failed
        containerd's metrics at 127.0.0.1:1338: 6 calls to set up a pod's network since it started: 1 failed, 0.02 s on average, none longer than 0.05 s
        ");
        let bare = SetupFacts {
            logged: None,
            counted: vec![],
            ..setups
        };
        assert_eq!(table(&bare), "");
    }
}
