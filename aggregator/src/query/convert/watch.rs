//! Messages of a watch.

use cidrift_proto::v1::finding_event::Kind;
use cidrift_proto::{Malformed, v1};

use crate::query::answer::WatchEvent;

/// From the wire; `None`: a kind of message that this build does not know, which a watcher may pass over.
pub fn event_from_wire(wire: &v1::FindingEvent) -> Result<Option<WatchEvent>, Malformed> {
    Ok(match &wire.kind {
        Some(Kind::Finding(finding)) => Some(WatchEvent::Finding {
            finding: Box::new(finding.try_into()?),
        }),
        Some(Kind::Synced(_)) => Some(WatchEvent::Synced),
        Some(Kind::Lagged(missed)) => Some(WatchEvent::Lagged { missed: *missed }),
        None => None,
    })
}
