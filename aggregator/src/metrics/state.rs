//! The engine's state as figures, read at every scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::FindingState;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::engine::Engine;

/// Reads the engine.
#[derive(Debug)]
pub(super) struct Figures(pub(super) Arc<Engine>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (status, findings) = self.0.read(|state| (state.status(Timestamp::now()), state.findings()));
        let mut counts: BTreeMap<(Code, FindingLabel), u64> = BTreeMap::new();
        for finding in &findings {
            let label = match finding.state {
                FindingState::Pending => FindingLabel::Pending,
                _ if finding.stale => FindingLabel::Stale,
                _ => FindingLabel::Open,
            };
            *counts.entry((finding.claim.code, label)).or_default() += 1;
        }
        let mut standing = encoder.encode_descriptor(
            "findings",
            "Findings that stand, by code and state",
            None,
            MetricType::Gauge,
        )?;
        for ((code, label), count) in counts {
            let labels = [("code", code.as_str()), ("state", label.as_str())];
            ConstGauge::new(count).encode(standing.encode_family(&labels)?)?;
        }
        let mut pairs = encoder.encode_descriptor(
            "pairs",
            "Pairs of a source node and a pod CIDR, by what becomes of packets",
            None,
            MetricType::Gauge,
        )?;
        let of = status.pairs;
        for (standing, count) in [
            ("delivered", of.delivered),
            ("broken", of.broken),
            ("unknown", of.unknown),
        ] {
            ConstGauge::new(count).encode(pairs.encode_family(&[("standing", standing)])?)?;
        }
        for (name, help, value) in [
            ("nodes", "Nodes that the control plane or an agent names", status.nodes),
            ("nodes_reporting", "Nodes with a live report", status.nodes_reporting),
            (
                "control_plane_failing",
                "1 while the newest control-plane state cannot be had",
                status.control_plane_problem.is_some().into(),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FindingLabel {
    Open,
    Pending,
    Stale,
}

impl FindingLabel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pending => "pending",
            Self::Stale => "stale",
        }
    }
}
