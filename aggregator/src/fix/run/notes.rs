//! What is written on the Lease: the record, who holds it, and what stands in place of nodes that have no room on it.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::holder::Holder;
use super::lease::{DURATION, LeaseError};
use super::record::Record;
use super::shelf::{Shelf, without_nodes};

/// Holds the [`Record`].
const RECORD: &str = "cidrift.dev/fix";

/// Holds the [`Holder`].
pub(super) const HOLDER: &str = "cidrift.dev/fix-holder";

/// What the queue may take, bytes.
const ROOM: usize = 192 << 10;

/// A record, and where its nodes are kept that have no room on the Lease.
#[derive(Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) shelf: Option<Shelf>,
}

impl Stored {
    /// Nodes are elsewhere only as long as they are to come.
    pub(super) fn unfinished(&self) -> bool {
        self.record.unfinished() || self.shelf.is_some()
    }
}

/// Who holds it; `None`: nobody does.
pub(super) fn identity(lease: &Lease) -> Option<String> {
    let identity = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    identity.filter(|identity| !identity.is_empty())
}

pub(super) fn holder(lease: &Lease) -> Option<Holder> {
    serde_json::from_str(lease.annotations().get(HOLDER)?).ok()
}

/// What stands in place of the nodes that are still to come, where the Lease has no room for them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    shelf: Shelf,
}

pub(super) fn record(lease: &Lease) -> Result<Option<Stored>, LeaseError> {
    let odd = |error: serde_json::Error| LeaseError::Odd(error.to_string());
    let Some(text) = lease.annotations().get(RECORD) else {
        return Ok(None);
    };
    let mut value: Value = serde_json::from_str(text).map_err(odd)?;
    let mut shelf = None;
    if let Some(queue) = value.get_mut("queue").filter(|queue| queue.is_object()) {
        let elsewhere: Elsewhere = serde_json::from_value(queue.take()).map_err(odd)?;
        *queue = json!([]);
        shelf = Some(elsewhere.shelf);
    }
    let record: Record = serde_json::from_value(value).map_err(odd)?;
    record.sound().map_err(LeaseError::Odd)?;
    Ok(Some(Stored { record, shelf }))
}

/// Where the nodes of a new record are, if the Lease has no room for them.
pub(super) async fn shelved(maps: &Api<ConfigMap>, record: &Record) -> Result<Option<Shelf>, LeaseError> {
    if text(record, None)?.len() <= ROOM {
        return Ok(None);
    }
    Shelf::fill(maps, record).await.map(Some)
}

fn text(record: &Record, shelf: Option<&Shelf>) -> Result<String, LeaseError> {
    let odd = |error: serde_json::Error| LeaseError::Odd(error.to_string());
    let Some(shelf) = shelf else {
        return serde_json::to_string(record).map_err(odd);
    };
    let Some((short, shelf)) = shelf.short(record) else {
        return serde_json::to_string(&without_nodes(record)).map_err(odd);
    };
    let mut value = serde_json::to_value(&short).map_err(odd)?;
    value["queue"] = json!(Elsewhere { shelf });
    Ok(value.to_string())
}

pub(super) fn note(lease: &mut Lease, record: &Record, shelf: Option<&Shelf>) -> Result<(), LeaseError> {
    let text = text(record, shelf)?;
    // The node that is worked on comes on top, with its Node and plan.
    if record.work.is_none() && text.len() > ROOM {
        return Err(LeaseError::TooMany(record.queue.len()));
    }
    lease.annotations_mut().insert(RECORD.to_owned(), text);
    Ok(())
}

/// The record and whose it is from now on.
pub(super) fn write(lease: &mut Lease, me: &Holder, record: &Record, shelf: Option<&Shelf>) -> Result<(), LeaseError> {
    note(lease, record, shelf)?;
    let text = serde_json::to_string(me).map_err(|error| LeaseError::Odd(error.to_string()))?;
    lease.annotations_mut().insert(HOLDER.to_owned(), text);
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    let now = MicroTime(Timestamp::now());
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_string()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions.unwrap_or(0).saturating_add(1)),
        ..LeaseSpec::default()
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::record::Planned;
    use super::super::tests::{plan, work};
    use super::*;
    use crate::fix::planner::Wish;

    fn of(nodes: usize) -> Record {
        Record {
            id: "f1".to_owned(),
            begun: Timestamp::UNIX_EPOCH,
            by: "me@here".to_owned(),
            wish: Wish::default(),
            queue: vec![Planned::from(&plan()); nodes],
            work: None,
            over: Vec::new(),
            stopped: None,
        }
    }

    #[test]
    fn what_is_written_is_read_and_says_whose_it_is() {
        let (mut lease, me) = (Lease::default(), Holder::this());
        write(&mut lease, &me, &of(3), None).unwrap();
        assert_eq!(record(&lease).unwrap().unwrap().record, of(3));
        assert_eq!(holder(&lease), Some(me));
        assert_eq!(lease.spec.as_ref().and_then(|spec| spec.lease_transitions), Some(1));
        lease.annotations_mut().insert(RECORD.to_owned(), "{".to_owned());
        assert!(matches!(record(&lease), Err(LeaseError::Odd(_))));
        assert_eq!(record(&Lease::default()).unwrap(), None);
    }

    /// A queue that leaves no room for the node that is worked on is refused before anything is done.
    #[test]
    fn more_nodes_than_a_lease_holds_are_refused_at_the_start_and_not_half_way() {
        let mut lease = Lease::default();
        assert!(matches!(
            note(&mut lease, &of(5000), None),
            Err(LeaseError::TooMany(5000))
        ));
        assert!(lease.annotations().is_empty());
        assert!(note(&mut lease, &of(1000), None).is_ok());
        let begun = Record {
            work: Some(work()),
            ..of(1000)
        };
        assert!(note(&mut lease, &begun, None).is_ok());
    }
}
