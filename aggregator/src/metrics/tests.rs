//! What is counted of callers that are not heard, and what is logged of them.

use std::io;
use std::sync::Arc;

use super::*;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_thousand_refusals_of_one_address_are_a_thousand_in_the_figures_and_one_line() {
    let (log, metrics) = (Log::default(), Metrics::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let refusal = Refusal::Token("unknown token".to_owned());
    tracing::subscriber::with_default(subscriber, || {
        for address in ["10.0.0.1", "10.0.0.2"] {
            let from = Some(address.parse().unwrap());
            for _ in 0..1_000 {
                metrics.agent_refused(&refusal);
                metrics.stream_not_taken(from, Ended::Unidentified, refusal.as_str(), "unknown token");
            }
        }
        let denied = Refusal::NamelessOperator;
        metrics.operator_refused(Some("10.0.0.1".parse().unwrap()), &denied);
        // Nothing is due yet.
        metrics.tell_more();
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(
        lines[0].contains("report stream not taken: unknown token") && lines[0].contains("peer=10.0.0.1"),
        "{log}"
    );
    assert!(
        lines[1].contains("peer=10.0.0.2") && lines[2].contains("question not answered"),
        "{log}"
    );
    let text = metrics.text();
    for figure in [
        "cidrift_aggregator_identity_refusals_total{who=\"agent\",why=\"token\"} 2000",
        "cidrift_aggregator_report_streams_ended_total{how=\"unidentified\"} 2000",
        // They never were: what was not let in takes nothing from the streams that are.
        "cidrift_aggregator_report_streams 0",
    ] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
}

#[test]
fn a_stream_that_is_ended_because_its_token_was_revoked_is_no_stream_any_more() {
    let metrics = Metrics::default();
    metrics.stream_began("node-a", "1", 0);
    metrics.stream_ended("node-a", Ended::Unidentified, "the API server does not take the token");
    let text = metrics.text();
    assert!(text.contains("cidrift_aggregator_report_streams 0"), "{text}");
}
