//! The agent's own figures. Where a figure has a log line, one function makes both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cidrift_proto::facts::LinkRole;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind;
use ipnet::IpNet;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tracing::{debug, error, info, warn};

use crate::facts::Growth;
use crate::observe::netlink::{Counters, ObserveError};
use crate::report::stream::{Problem, ProblemKind};
use crate::view::setup::Setups;

type Label = [(&'static str, &'static str); 1];

/// What a device is to pod traffic, and which way; of when something is, and what.
type Way = [(&'static str, &'static str); 2];

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    entries: Gauge,
    claims: Gauge,
    gaps: Gauge,
    verified_at: Gauge<f64, AtomicU64>,
    netlink: Netlink,
    kernel_failures: Counter,
    lookups: Counter,
    disagreements: Counter,
    connected: Gauge,
    problems: Family<Label, Counter>,
    messages: Family<Label, Counter>,
    resyncs: Counter,
    kept: Gauge,
    kept_bytes: Gauge,
    delay: Histogram,
    traffic: Traffic,
    setups: SetUp,
}

/// How sandboxes are set up: by the runtime's log, of the last ten minutes and the last hour.
#[derive(Debug)]
struct SetUp {
    ended: Family<Way, Gauge>,
    seconds: Family<Way, Gauge<f64, AtomicU64>>,
    waiting: Family<[(&'static str, &'static str); 1], Gauge>,
}

/// What devices counted since this agent started, by what they are to pod traffic: never by name, pods' ports have new
/// ones all the time.
#[derive(Debug)]
struct Traffic {
    bytes: Family<Way, Counter>,
    packets: Family<Way, Counter>,
    errors: Family<Way, Counter>,
    dropped: Family<Way, Counter>,
    /// The reading that is in them.
    read_at: Mutex<Option<Timestamp>>,
}

#[derive(Debug, Default)]
struct Netlink {
    events: Counter,
    redumps: Counter,
    overruns: Counter,
    interrupted: Counter,
    unknown: Counter,
    undecodable: Counter,
}

/// Registers and hands back, so that each metric is named once.
fn add<M: Metric + Clone + std::fmt::Debug>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("cidrift");
        let build = [("program", "cidrift-agent"), ("version", cidrift_proto::version())];
        registry.register("build", "Version of this program", Info::new(build));
        let r = registry.sub_registry_with_prefix("agent");
        let count = |r: &mut Registry, name: &str, help: &str| add(r, name, help, Counter::default());
        let gauge = |r: &mut Registry, name: &str, help: &str| add(r, name, help, Gauge::default());
        Self {
            entries: gauge(r, "entries", "Entries of the effective forwarding table"),
            claims: gauge(r, "claims", "What is wrong with this host"),
            gaps: gauge(r, "gaps", "What could not be looked at or judged"),
            verified_at: add(
                r,
                "kernel_verified_timestamp_seconds",
                "When the kernel's state was last proven whole by a dump",
                Gauge::default(),
            ),
            netlink: Netlink {
                events: count(r, "netlink_events", "Messages that the kernel sent on its own"),
                redumps: count(r, "netlink_redumps", "Dumps after the first one"),
                overruns: count(r, "netlink_overruns", "Times that the kernel dropped messages"),
                interrupted: count(
                    r,
                    "netlink_interrupted_dumps",
                    "Dumps that were repeated because they were interrupted",
                ),
                unknown: count(r, "netlink_unknown_messages", "Messages of unknown types"),
                undecodable: count(r, "netlink_undecodable_messages", "Messages that could not be read"),
            },
            kernel_failures: count(r, "kernel_failures", "Times that the kernel's state could not be had"),
            lookups: count(r, "referee_lookups", "Losses that the kernel was asked about"),
            disagreements: count(
                r,
                "referee_disagreements",
                "Losses that the kernel denied: everything was read anew",
            ),
            connected: gauge(r, "report_connected", "1 while the aggregator has welcomed this agent"),
            problems: add(
                r,
                "report_problems",
                "Ended and failed streams, by why",
                Family::default(),
            ),
            messages: add(r, "report_messages", "Messages sent, by kind", Family::default()),
            resyncs: count(r, "report_resyncs", "Snapshots that the aggregator asked for"),
            kept: gauge(r, "report_kept_deltas", "Deltas that are not acknowledged yet"),
            kept_bytes: gauge(r, "report_kept_bytes", "Their size"),
            delay: add(
                r,
                "report_delay_seconds",
                "From reading a change to handing it to the connection",
                // 0.1 ms to 1.6 s: the aim is 2 ms.
                Histogram::new(exponential_buckets(0.000_1, 2.0, 15)),
            ),
            traffic: Traffic {
                bytes: add(r, "link_bytes", "Bytes that passed devices", Family::default()),
                packets: add(r, "link_packets", "Packets that passed devices", Family::default()),
                errors: add(
                    r,
                    "link_errors",
                    "Packets that devices could not take or send",
                    Family::default(),
                ),
                dropped: add(r, "link_dropped", "Packets that devices threw away", Family::default()),
                read_at: Mutex::default(),
            },
            setups: SetUp {
                ended: add(
                    r,
                    "sandboxes",
                    "Tries to make a pod's sandbox that ended within the last while",
                    Family::default(),
                ),
                seconds: add(
                    r,
                    "sandbox_seconds",
                    "How long sandboxes took that were made within the last while",
                    Family::default(),
                ),
                waiting: add(
                    r,
                    "sandboxes_waiting",
                    "Sandboxes that were asked for a while ago and have neither come nor failed",
                    Family::default(),
                ),
            },
            registry,
        }
    }
}

impl Metrics {
    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        encode(&mut text, &self.registry).ok();
        text
    }

    pub(crate) fn view(&self, (entries, claims, gaps): (usize, usize, usize)) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.entries, entries);
        set(&self.claims, claims);
        set(&self.gaps, gaps);
    }

    pub(crate) fn kernel(&self, counters: Counters, verified_at: Timestamp) {
        let store = |counter: &Counter, value: u64| counter.inner().store(value, Ordering::Relaxed);
        store(&self.netlink.events, counters.events);
        store(&self.netlink.redumps, counters.redumps);
        store(&self.netlink.overruns, counters.overruns);
        store(&self.netlink.interrupted, counters.interrupted_dumps);
        store(&self.netlink.unknown, counters.unknown_messages);
        store(&self.netlink.undecodable, counters.undecodable_messages);
        self.verified_at.set(verified_at.as_duration().as_secs_f64());
    }

    pub(crate) fn kernel_failed(&self, error: &ObserveError, retry_s: u64) {
        self.kernel_failures.inc();
        error!("the kernel's networking state cannot be had, next try in {retry_s} s: {error}");
    }

    pub(crate) fn asked(&self, lookups: usize) {
        self.lookups.inc_by(lookups as u64);
    }

    pub(crate) fn disagreed(&self, prefix: IpNet, reason: &str) {
        self.disagreements.inc();
        warn!(%prefix, "the kernel denies a loss, reading everything anew: {reason}");
    }

    pub(crate) fn connected(&self, applied: u64, revision: u64) {
        self.connected.set(1);
        info!(applied, revision, "report stream is up");
    }

    pub(crate) fn problem(&self, problem: &Problem) {
        let before = self.connected.set(0);
        let kind = problem.kind.as_str();
        self.problems.get_or_create(&[("kind", kind)]).inc();
        match problem.kind {
            ProblemKind::Protocol | ProblemKind::Displaced | ProblemKind::Refused => {
                error!(kind, "no report stream: {problem}");
            }
            // A token that ends in good order, while the next one is there already.
            ProblemKind::Credentials if before == 1 => info!(kind, "the report stream has ended: {problem}"),
            _ => warn!(kind, "no report stream: {problem}"),
        }
    }

    pub(crate) fn resync(&self, reason: &str) {
        self.resyncs.inc();
        info!("the aggregator asks for a snapshot: {reason}");
    }

    pub(crate) fn sent(&self, message: &v1::AgentMessage) {
        let kind = match &message.kind {
            Some(Kind::Hello(_)) | None => return,
            Some(Kind::Snapshot(chunk)) => {
                if chunk.index == 0 {
                    info!(sequence = chunk.sequence, "sending a snapshot");
                }
                "snapshot"
            }
            Some(Kind::Delta(delta)) => {
                debug!(
                    sequence = delta.sequence,
                    upserts = delta.upserts.len(),
                    removed = delta.removed.len(),
                    "delta"
                );
                "delta"
            }
            Some(Kind::Heartbeat(_)) => "heartbeat",
        };
        self.messages.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn outbox(&self, (deltas, bytes): (usize, usize)) {
        self.kept.set(i64::try_from(deltas).unwrap_or(i64::MAX));
        self.kept_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Adds what a reading of the counters grew by, once.
    pub(crate) fn traffic(&self, read_at: Timestamp, grown: &[Growth]) {
        let mut last = self.traffic.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(read_at) == Some(read_at) {
            return;
        }
        for (role, received, sent) in grown {
            let role = match role {
                LinkRole::Uplink => "uplink",
                LinkRole::Bridge => "bridge",
                LinkRole::Tunnel => "tunnel",
                LinkRole::PodPort => "pod-port",
                LinkRole::Loopback | LinkRole::Other => continue,
            };
            for (direction, counts) in [("received", received), ("sent", sent)] {
                let way = [("role", role), ("direction", direction)];
                self.traffic.bytes.get_or_create(&way).inc_by(counts.bytes);
                self.traffic.packets.get_or_create(&way).inc_by(counts.packets);
                self.traffic.errors.get_or_create(&way).inc_by(counts.errors);
                self.traffic.dropped.get_or_create(&way).inc_by(counts.dropped);
            }
        }
    }

    /// Shows how sandboxes are set up; `None`: that is not known, and no series of it is shown.
    pub(crate) fn setups(&self, setups: Option<&Setups>) {
        self.setups.ended.clear();
        self.setups.seconds.clear();
        self.setups.waiting.clear();
        if let Some(setups) = setups {
            let row = [("since", "30s")];
            self.setups.waiting.get_or_create(&row).set(setups.waiting.into());
        }
        for span in setups.into_iter().flat_map(|setups| &setups.spans) {
            // Two spans, and so two values of the label.
            let window = if span.seconds <= 600 { "10m" } else { "1h" };
            for (result, count) in [("made", span.made), ("failed", span.failed)] {
                let row = [("window", window), ("result", result)];
                self.setups.ended.get_or_create(&row).set(count.into());
            }
            let quantiles = [
                ("0.5", span.median_ms),
                ("0.95", span.percentile_95_ms),
                ("1", span.slowest_ms),
            ];
            for (quantile, millis) in quantiles {
                if let Some(millis) = millis {
                    let row = [("window", window), ("quantile", quantile)];
                    self.setups.seconds.get_or_create(&row).set(f64::from(millis) / 1000.0);
                }
            }
        }
    }

    pub(crate) fn delay(&self, seconds: f64) {
        self.delay.observe(seconds);
    }
}

#[cfg(test)]
mod tests {
    use cidrift_proto::facts::Direction;

    use super::*;

    #[test]
    fn a_reading_is_counted_once_and_by_role_alone() {
        let metrics = Metrics::default();
        let received = Direction {
            packets: 7,
            dropped: 2,
            ..Direction::default()
        };
        let grown = [
            (LinkRole::PodPort, received, Direction::default()),
            (LinkRole::Other, received, received),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        metrics.traffic(at(60), &grown);
        metrics.traffic(at(60), &grown);
        metrics.traffic(at(120), &grown);
        let text = metrics.text();
        let line = |wanted: &str| text.lines().any(|line| line == wanted);
        assert!(line(
            "cidrift_agent_link_packets_total{role=\"pod-port\",direction=\"received\"} 14"
        ));
        assert!(line(
            "cidrift_agent_link_dropped_total{role=\"pod-port\",direction=\"received\"} 4"
        ));
        assert!(!text.contains("role=\"other\""));
    }

    #[test]
    fn how_sandboxes_are_set_up_is_shown_as_long_as_it_is_known() {
        let metrics = Metrics::default();
        let span = |seconds, made| cidrift_proto::facts::SetupSpan {
            seconds,
            made,
            failed: 9,
            slowest_ms: Some(41_500),
            ..Default::default()
        };
        let setups = Setups {
            spans: vec![span(600, 12), span(3600, 80)],
            waiting: 2,
            ..Setups::default()
        };
        metrics.setups(Some(&setups));
        let text = metrics.text();
        for wanted in [
            "cidrift_agent_sandboxes{window=\"10m\",result=\"made\"} 12",
            "cidrift_agent_sandboxes{window=\"1h\",result=\"failed\"} 9",
            "cidrift_agent_sandbox_seconds{window=\"1h\",quantile=\"1\"} 41.5",
            "cidrift_agent_sandboxes_waiting{since=\"30s\"} 2",
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted} is not in {text}");
        }
        assert!(!text.contains("quantile=\"0.5\""));
        metrics.setups(None);
        let text = metrics.text();
        assert!(
            !text.contains("window=") && !text.contains("sandboxes_waiting{"),
            "{text}"
        );
    }
}
