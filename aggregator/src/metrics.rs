//! The aggregator's own figures. Where a figure has a log line, one function
//! makes both.

mod state;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cidrift_proto::time::from_wire;
use cidrift_proto::v1;
use cidrift_proto::v1::agent_message::Kind;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing::{debug, info, warn};

use crate::engine::Engine;
use crate::folded::{Folded, Kind as Said};
use crate::identity::Refusal;
use crate::identity::checked::Party;
use crate::ingest::session::{Outcome, Step};
use crate::trust::figures::Figures;

type Label<const N: usize> = [(&'static str, &'static str); N];

/// How a report stream ended; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The agent closed it.
    Closed,
    /// The connection broke, or a message could not be read.
    Broken,
    /// What was said was refused too often.
    Refused,
    /// A newer stream for the same node took over.
    Displaced,
    /// It was refused at its Hello.
    Unwelcome,
    /// It did not show who it is, or spoke for somebody else.
    Unidentified,
    /// The token that it rested on has ended.
    Expired,
    /// There was no room for it.
    Overloaded,
    /// The aggregator stops.
    Shutdown,
}

impl Ended {
    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Displaced => "displaced",
            Self::Unwelcome => "unwelcome",
            Self::Unidentified => "unidentified",
            Self::Expired => "expired",
            Self::Overloaded => "overloaded",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where the answer to "who is this?" came from; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answered {
    /// From the API server.
    Asked,
    /// From memory, where it is fresh.
    Remembered,
    /// From memory, because the API server could not be asked.
    Kept,
    /// From nowhere: too much of what came from there was refused.
    Throttled,
    /// From nowhere.
    Unavailable,
}

impl Answered {
    fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Remembered => "remembered",
            Self::Kept => "kept",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Everything that `/metrics` shows of ingest.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    streams: Gauge,
    streams_began: Counter,
    streams_ended: Family<Label<1>, Counter>,
    displaced: Counter,
    messages: Family<Label<2>, Counter>,
    entries: Counter<u64, AtomicU64>,
    resyncs: Family<Label<1>, Counter>,
    delta_age: Histogram,
    control_plane_states: Family<Label<1>, Counter>,
    tls: Arc<Figures>,
    identity_checks: Family<Label<2>, Counter>,
    identity_refusals: Family<Label<2>, Counter>,
    /// Lines on callers that were not heard.
    refusals: Mutex<Folded>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::with_prefix("cidrift");
        let build = [("program", "cidrift-aggregator"), ("version", cidrift_proto::version())];
        root.register("build", "Version of this program", Info::new(build));
        let registry = root.sub_registry_with_prefix("aggregator");
        let metrics = Self {
            registry: Registry::default(),
            streams: Gauge::default(),
            streams_began: Counter::default(),
            streams_ended: Family::default(),
            displaced: Counter::default(),
            messages: Family::default(),
            entries: Counter::default(),
            resyncs: Family::default(),
            // 0.25 ms to 4 s: the aim is 20 ms from the kernel to a subscriber.
            delta_age: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            control_plane_states: Family::default(),
            tls: Arc::default(),
            identity_checks: Family::default(),
            identity_refusals: Family::default(),
            refusals: Mutex::default(),
        };
        registry.register("report_streams", "Report streams now", metrics.streams.clone());
        registry.register(
            "report_streams_began",
            "Report streams that were welcomed",
            metrics.streams_began.clone(),
        );
        registry.register(
            "report_streams_ended",
            "Report streams that ended or were not let in, by how",
            metrics.streams_ended.clone(),
        );
        registry.register(
            "report_streams_displaced",
            "Streams that took over a node's seat from a live one",
            metrics.displaced.clone(),
        );
        registry.register(
            "report_messages",
            "Messages of agents by kind and what became of them",
            metrics.messages.clone(),
        );
        registry.register("report_entries", "Forwarding entries received", metrics.entries.clone());
        registry.register(
            "report_resyncs",
            "Snapshots asked for, by what the asking followed",
            metrics.resyncs.clone(),
        );
        registry.register(
            "report_delta_age_seconds",
            "From an agent's reading of a change to its arrival; two hosts' clocks",
            metrics.delta_age.clone(),
        );
        registry.register(
            "control_plane_states",
            "States that the control plane's source handed on, by whether they were good",
            metrics.control_plane_states.clone(),
        );
        registry.register(
            "identity_checks",
            "Credentials and rights looked at, by whose and by where the answer came from",
            metrics.identity_checks.clone(),
        );
        registry.register(
            "identity_refusals",
            "Agents and operators that were not heard, by why",
            metrics.identity_refusals.clone(),
        );
        metrics.tls.register(registry);
        Self {
            registry: root,
            ..metrics
        }
    }
}

impl Metrics {
    /// Shows this engine's state too.
    pub fn with_engine(mut self, engine: Arc<Engine>) -> Self {
        let registry = self.registry.sub_registry_with_prefix("aggregator");
        registry.register_collector(Box::new(state::Figures(engine)));
        self
    }

    /// The figures of TLS.
    pub fn tls(&self) -> Arc<Figures> {
        Arc::clone(&self.tls)
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        encode(&mut text, &self.registry).ok();
        text
    }

    /// `before`: the problem of the state before this one.
    pub(crate) fn control_plane(&self, source: &str, nodes: usize, problem: Option<&str>, before: Option<&str>) {
        let result = if problem.is_some() { "problem" } else { "good" };
        self.control_plane_states.get_or_create(&[("result", result)]).inc();
        match problem {
            Some(problem) if before != Some(problem) => {
                warn!(
                    source,
                    nodes, "the control plane's newest state cannot be had, the last good one stands: {problem}"
                );
            }
            None if before.is_some() => info!(source, nodes, "the control plane's state can be had again"),
            _ => debug!(source, nodes, "control plane"),
        }
    }

    pub(crate) fn stream_began(&self, node: &str, instance: &str, applied: u64) {
        self.streams.inc();
        self.streams_began.inc();
        info!(node, instance, applied, "report stream is up");
    }

    /// A stream of a node that was let in.
    pub(crate) fn stream_ended(&self, node: &str, how: Ended, text: &str) {
        self.streams_ended.get_or_create(&[("how", how.as_str())]).inc();
        match how {
            Ended::Refused | Ended::Unidentified => {
                warn!(node, how = how.as_str(), "report stream closed: {text}");
            }
            _ => info!(node, how = how.as_str(), "report stream ended: {text}"),
        }
        self.streams.dec();
    }

    /// One that never was; `what`: why, in a word.
    pub(crate) fn stream_not_taken(&self, from: Option<IpAddr>, how: Ended, what: &'static str, text: &str) {
        self.streams_ended.get_or_create(&[("how", how.as_str())]).inc();
        if self.news(from, what) {
            warn!(peer = %told(from), how = how.as_str(), "report stream not taken: {text}");
        }
    }

    fn news(&self, from: Option<IpAddr>, what: &'static str) -> bool {
        // Counts cannot be half changed.
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.note(Said { from, what }, Instant::now())
    }

    /// Says how often what was said a minute ago happened since. To be called several times a minute.
    pub(crate) fn tell_more(&self) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let due = refusals.due(Instant::now());
        drop(refusals);
        for (kind, more) in due {
            match kind {
                Some(Said { from, what }) => {
                    warn!(peer = %told(from), what, more, "not heard: the same again in the last minute")
                }
                None => warn!(more, "not heard: others from more addresses in the last minute"),
            }
        }
        self.tls.tell_more();
    }

    /// `why`: what keeps the API server from answering.
    pub(crate) fn checked(&self, party: Party, answered: Answered, why: Option<&str>) {
        let labels = [("who", party.as_str()), ("answer", answered.as_str())];
        self.identity_checks.get_or_create(&labels).inc();
        match (answered, why) {
            (Answered::Kept, Some(why)) => debug!(who = party.as_str(), "an earlier answer counts: {why}"),
            (_, Some(why)) => warn!(who = party.as_str(), "it cannot be checked who this is: {why}"),
            (_, None) => {}
        }
    }

    /// An agent that is not heard; the end of its stream is logged with the same words.
    pub(crate) fn agent_refused(&self, refusal: &Refusal) {
        let labels = [("who", Party::Agent.as_str()), ("why", refusal.as_str())];
        self.identity_refusals.get_or_create(&labels).inc();
    }

    /// An operator that is not answered.
    pub(crate) fn operator_refused(&self, from: Option<IpAddr>, refusal: &Refusal) {
        let labels = [("who", Party::Operator.as_str()), ("why", refusal.as_str())];
        self.identity_refusals.get_or_create(&labels).inc();
        if self.news(from, refusal.as_str()) {
            info!(peer = %told(from), why = refusal.as_str(), "question not answered: {refusal}");
        }
    }

    pub(crate) fn displaced(&self, node: &str, peer: &str) {
        self.displaced.inc();
        warn!(
            node,
            peer, "a newer report stream takes over from one that was still up"
        );
    }

    pub(crate) fn message(&self, message: &v1::AgentMessage, step: &Step, now: Timestamp) {
        let kind = match &message.kind {
            Some(Kind::Hello(_)) => "hello",
            Some(Kind::Snapshot(chunk)) => {
                self.entries.inc_by(chunk.entries.len() as u64);
                "snapshot"
            }
            Some(Kind::Delta(delta)) => {
                self.entries.inc_by(delta.upserts.len() as u64);
                if let (Outcome::Applied, Some(at)) = (step.outcome, delta.observed_at.and_then(from_wire)) {
                    self.delta_age.observe(now.duration_since(at).as_secs_f64());
                }
                "delta"
            }
            Some(Kind::Heartbeat(_)) => "heartbeat",
            None => "unknown",
        };
        let labels = [("kind", kind), ("outcome", step.outcome.as_str())];
        self.messages.get_or_create(&labels).inc();
    }

    pub(crate) fn resync(&self, node: &str, after: Outcome, reason: &str) {
        self.resyncs.get_or_create(&[("after", after.as_str())]).inc();
        match after {
            Outcome::Applied => debug!(node, "snapshot asked for: {reason}"),
            _ => warn!(node, "snapshot asked for: {reason}"),
        }
    }
}

fn told(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "unknown".to_owned(), |from| from.to_string())
}
