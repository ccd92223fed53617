//! Events of the allocator and of sandboxes, of core/v1 and of events.k8s.io. Matched by reason, never by type (reference A).

use jiff::Timestamp;
use serde::Deserialize;

use super::text::{clip, time};
use crate::cluster::around::Told;

/// Bytes kept of a message: the reason of a CNI error stands at its end, after some 300 of them.
const MESSAGE: usize = 1024;

/// What is read of an event.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// `metadata`.
    pub metadata: super::Meta,
    /// `involvedObject`, or `regarding`.
    #[serde(alias = "regarding")]
    pub involved_object: Option<Involved>,
    /// `reason`.
    pub reason: Option<String>,
    /// `message`, or `note`.
    #[serde(alias = "note")]
    pub message: Option<String>,
    /// `source`.
    #[serde(alias = "deprecatedSource")]
    pub source: Option<Source>,
    /// `reportingComponent`, or `reportingController`.
    #[serde(alias = "reportingController")]
    pub reporting_component: Option<String>,
    /// `reportingInstance`.
    pub reporting_instance: Option<String>,
    /// `count`.
    #[serde(alias = "deprecatedCount")]
    pub count: Option<i64>,
    /// `firstTimestamp`.
    #[serde(alias = "deprecatedFirstTimestamp")]
    pub first_timestamp: Option<String>,
    /// `lastTimestamp`.
    #[serde(alias = "deprecatedLastTimestamp")]
    pub last_timestamp: Option<String>,
    /// `eventTime`.
    pub event_time: Option<String>,
    /// `series`.
    pub series: Option<Series>,
}

/// Whom an event is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Involved {
    /// `kind`.
    pub kind: Option<String>,
    /// `namespace`.
    pub namespace: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `uid`.
    pub uid: Option<String>,
}

/// Who says it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Source {
    /// `component`.
    pub component: Option<String>,
    /// `host`.
    pub host: Option<String>,
}

/// Repetitions of an event of events.k8s.io.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Series {
    /// `count`.
    pub count: Option<i64>,
    /// `lastObservedTime`.
    pub last_observed_time: Option<String>,
}

/// What an event says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Of a node's CIDR or route: the node's name, the UID that the event bears, what, and how often.
    Node(String, String, About, Told),
    /// Of a pod whose sandbox could not be made: the node, if the event says it, "namespace/name", the pod's UID.
    Sandbox(Option<String>, String, String, Told),
}

/// What an event about a node says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// `CIDRNotAvailable`.
    NotAvailable,
    /// `CIDRAssignmentFailed`.
    AssignmentFailed,
    /// `FailedToCreateRoute`.
    RouteFailed,
}

/// What this event says; `None`: nothing of interest here.
pub fn said(event: &Event) -> Option<Said> {
    let involved = event.involved_object.as_ref()?;
    let name = involved.name.clone().filter(|name| !name.is_empty())?;
    let uid = involved.uid.clone().unwrap_or_default();
    let about = match (event.reason.as_deref()?, involved.kind.as_deref()?) {
        ("FailedCreatePodSandBox", "Pod") => {
            let pod = super::key(involved.namespace.as_deref(), Some(&name));
            let host = event.source.as_ref().and_then(|source| source.host.clone());
            let host = host.or_else(|| event.reporting_instance.clone());
            return Some(Said::Sandbox(
                host.filter(|host| !host.is_empty()),
                pod,
                uid,
                told(event),
            ));
        }
        ("CIDRNotAvailable", "Node") => About::NotAvailable,
        ("CIDRAssignmentFailed", "Node") => About::AssignmentFailed,
        ("FailedToCreateRoute", "Node") => About::RouteFailed,
        _ => return None,
    };
    Some(Said::Node(name, uid, about, told(event)))
}

fn told(event: &Event) -> Told {
    let series = event.series.as_ref();
    let count = event
        .count
        .max(series.and_then(|series| series.count))
        .unwrap_or(1)
        .max(1);
    let once = time(event.event_time.as_deref());
    let last = time(event.last_timestamp.as_deref())
        .max(series.and_then(|series| time(series.last_observed_time.as_deref())))
        .max(once);
    let component = event.source.as_ref().and_then(|source| source.component.clone());
    Told {
        component: component
            .filter(|text| !text.is_empty())
            .or_else(|| event.reporting_component.clone())
            .unwrap_or_default(),
        message: clip(event.message.as_deref().unwrap_or_default(), MESSAGE),
        count: u32::try_from(count).unwrap_or(u32::MAX),
        first: time(event.first_timestamp.as_deref()).or(once).or(last),
        last,
    }
}

/// Several events of one reason about one object, as one.
pub fn joined<'a>(all: impl IntoIterator<Item = &'a Told>) -> Option<Told> {
    let earliest = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let mut all = all.into_iter();
    let mut joined = all.next()?.clone();
    for told in all {
        let (count, first) = (
            joined.count.saturating_add(told.count),
            earliest(joined.first, told.first),
        );
        if told.last >= joined.last {
            joined = told.clone();
        }
        (joined.count, joined.first) = (count, first);
    }
    Some(joined)
}
