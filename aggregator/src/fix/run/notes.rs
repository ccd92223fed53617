//! What is written on the Lease: the record, who holds it, and what stands in place of nodes that have no room on it.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::agreed::Planned;
use super::holder::Holder;
use super::lease::{DURATION, LeaseError};
use super::record::Record;
use super::shelf::{self, Shelf, without_nodes};

/// Holds the [`Record`].
const RECORD: &str = "cidrift.dev/fix";

/// Holds the [`Holder`].
pub(super) const HOLDER: &str = "cidrift.dev/fix-holder";

/// Names the ConfigMaps that lie beside it, until they are deleted.
const BESIDE: &str = "cidrift.dev/fix-maps";

/// What a new record may take, bytes. All annotations of an object together are let have 256 KiB (reference:
/// `TotalAnnotationSizeLimitB`), and what becomes of the first node is yet to come.
const ROOM: usize = 96 << 10;

/// The same with a node that is to be begun: its plan, and its Node with annotations of its own. What comes later is short: why
/// it stopped, and whose the Lease is. So whatever is too long is so before anything was done to that node.
const WHOLE: usize = 192 << 10;

/// The same where all but that node takes more than a new record may, as those of earlier versions do.
const UTMOST: usize = 240 << 10;

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

/// Whether the Lease has room for a new record.
pub(super) fn roomy(record: &Record) -> Result<bool, LeaseError> {
    Ok(text(record, None)?.len() <= ROOM)
}

fn text(record: &Record, shelf: Option<&Shelf>) -> Result<String, LeaseError> {
    let odd = |error: serde_json::Error| LeaseError::Odd(error.to_string());
    let Some(shelf) = shelf else {
        return serde_json::to_string(&once(record)).map_err(odd);
    };
    let Some((short, shelf)) = shelf.short(record) else {
        return serde_json::to_string(&without_nodes(record)).map_err(odd);
    };
    let mut value = serde_json::to_value(&short).map_err(odd)?;
    value["queue"] = json!(Elsewhere { shelf });
    Ok(value.to_string())
}

/// A record in which the node that is worked on stands once: what was agreed to of it has become its plan.
fn once(record: &Record) -> Cow<'_, Record> {
    let worked_on = |next: &Planned| record.work.as_ref().is_some_and(|work| work.plan.node == next.node);
    if !record.queue.iter().any(worked_on) {
        return Cow::Borrowed(record);
    }
    let mut once = record.clone();
    once.queue.retain(|next| !worked_on(next));
    Cow::Owned(once)
}

pub(super) fn note(lease: &mut Lease, record: &Record, shelf: Option<&Shelf>) -> Result<(), LeaseError> {
    let text = text(record, shelf)?;
    lease.annotations_mut().insert(RECORD.to_owned(), text);
    Ok(())
}

/// Whether a record has room with the node that is to be begun.
pub(super) fn fits(record: &Record, shelf: Option<&Shelf>) -> Result<(), LeaseError> {
    let long = text(record, shelf)?.len();
    let Some(work) = record.work.as_ref().filter(|_| long > WHOLE) else {
        return Ok(());
    };
    let odd = |error: serde_json::Error| LeaseError::Odd(error.to_string());
    let whole = serde_json::to_string(work).map_err(odd)?.len();
    if long <= UTMOST && long.saturating_sub(whole) > ROOM {
        return Ok(());
    }
    let node = serde_json::to_string(&work.saved).map_err(odd)?.len();
    let plan = whole.saturating_sub(node);
    Err(LeaseError::TooLong { long, plan, node })
}

/// Whether it says this very record.
pub(super) fn says(lease: &Lease, record: &Record, shelf: Option<&Shelf>) -> bool {
    text(record, shelf).is_ok_and(|text| lease.annotations().get(RECORD) == Some(&text))
}

/// The ConfigMaps that lie beside it. Others may write on it: what no fix can have made is not named by one.
pub(super) fn beside(lease: &Lease) -> Vec<String> {
    let names = lease.annotations().get(BESIDE);
    let names = names.and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let mut names = names.unwrap_or_default();
    names.retain(|name| shelf::named(name));
    names
}

/// Names those that lie beside it.
pub(super) fn set_beside(lease: &mut Lease, names: &[String]) {
    if names.is_empty() {
        lease.annotations_mut().remove(BESIDE);
    } else {
        lease
            .annotations_mut()
            .insert(BESIDE.to_owned(), json!(names).to_string());
    }
}

/// Names these, too.
pub(super) fn add_beside(lease: &mut Lease, more: &[String]) {
    let mut names = beside(lease);
    let new = more.iter().filter(|name| !names.contains(name)).cloned();
    let new: Vec<String> = new.collect();
    names.extend(new);
    set_beside(lease, &names);
}

/// The record and whose it is from now on.
pub(super) fn write(lease: &mut Lease, me: &Holder, record: &Record, shelf: Option<&Shelf>) -> Result<(), LeaseError> {
    note(lease, record, shelf)?;
    if let Some(shelf) = shelf {
        add_beside(lease, &shelf.names(&record.id));
    }
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
    use super::super::tests::{agreed, work};
    use super::*;
    use crate::fix::planner::Wish;

    fn planned(n: usize) -> Planned {
        agreed(&format!("w{n}"))
    }

    fn of(nodes: usize) -> Record {
        Record {
            id: "f1".to_owned(),
            begun: Timestamp::UNIX_EPOCH,
            by: "me@here".to_owned(),
            wish: Wish::default(),
            queue: (0..nodes).map(planned).collect(),
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

    /// A queue that leaves no room for the node that is worked on is put beside it before anything is done.
    #[test]
    fn what_leaves_no_room_for_the_node_that_is_worked_on_is_known_at_the_start_and_not_half_way() {
        assert!(roomy(&of(100)).unwrap());
        assert!(!roomy(&of(1000)).unwrap());
        let mut begun = Record {
            work: Some(work()),
            ..of(100)
        };
        assert!(fits(&begun, None).is_ok());
        let long = "x".repeat(WHOLE);
        if let Some(work) = &mut begun.work {
            let notes = work.saved.metadata.annotations.get_or_insert_default();
            notes.insert("somebodys".to_owned(), long);
        }
        let why = fits(&begun, None).unwrap_err().to_string();
        let part = "its plan takes 0 KiB, the Node 192 (its annotations, say)";
        assert!(
            why.contains("has no room on Lease cidrift-fix (2") && why.contains(part),
            "{why}"
        );
        // What was begun by another version is written whatever it takes: only the API server refuses that.
        assert!(note(&mut Lease::default(), &begun, None).is_ok());
    }

    #[test]
    fn a_queue_of_an_earlier_version_that_is_longer_than_a_new_one_may_be_is_gone_on_with() {
        let one = serde_json::to_string(&planned(100)).unwrap().len();
        let queue = |bytes: usize| Record {
            work: Some(work()),
            ..of(bytes / one)
        };
        let room = |bytes| fits(&queue(bytes), None).is_ok();
        assert!(room(ROOM) && room(WHOLE + (8 << 10)));
        assert!(!room(UTMOST + (8 << 10)));
    }

    #[test]
    fn the_node_that_is_worked_on_stands_once_on_the_lease() {
        let mut begun = Record {
            work: Some(work()),
            ..of(2)
        };
        begun.queue[0].node = "n2".to_owned();
        let mut lease = Lease::default();
        note(&mut lease, &begun, None).unwrap();
        let read = record(&lease).unwrap().unwrap().record;
        assert_eq!((&read.work, &read.queue[..]), (&begun.work, &begun.queue[1..]));
        assert!(says(&lease, &begun, None) && says(&lease, &read, None));
    }

    #[test]
    fn only_what_a_fix_can_have_made_is_named_beside_it() {
        let mut lease = Lease::default();
        let names = [
            "cidrift-fix-f1-0",
            "kube-root-ca.crt",
            "cidrift-fix-f1",
            "cidrift-fix-../x-0",
            "cidrift-fix-f1-x",
        ];
        set_beside(&mut lease, &names.map(str::to_owned));
        assert_eq!(beside(&lease), ["cidrift-fix-f1-0"]);
        set_beside(&mut lease, &[]);
        assert!(lease.annotations().is_empty());
        lease.annotations_mut().insert(BESIDE.to_owned(), "{".to_owned());
        assert_eq!(beside(&lease), [""; 0]);
    }
}
