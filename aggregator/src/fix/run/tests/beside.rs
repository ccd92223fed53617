//! What has no room on the Lease, in ConfigMaps beside it: it goes with its fix, whatever happens.

use serde_json::{Value, json};

use super::plan;
use super::play::{Play, outside};
use super::stage::{Asked, Store, refused};
use crate::fix::planner::Wish;
use crate::fix::run::{Held, Holder, LeaseError, Planned, Record, Want};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cidrift/leases/cidrift-fix";
const MAPS: &str = "/api/v1/namespaces/cidrift/configmaps";

/// A fix of so many nodes that its Lease has no room for them.
fn large(id: &str) -> Record {
    let queue = (0..6000).map(|n| Planned {
        node: format!("n{n}"),
        ..Planned::from(&plan())
    });
    Record {
        id: id.to_owned(),
        begun: jiff::Timestamp::UNIX_EPOCH,
        by: "me@here".to_owned(),
        wish: Wish::default(),
        queue: queue.collect(),
        work: None,
        over: Vec::new(),
        stopped: None,
    }
}

/// The same, once nothing of it is to come.
fn over(mut record: Record) -> Record {
    record.queue.clear();
    record
}

async fn take(play: &Play, want: Want) -> Result<(Held, Record), LeaseError> {
    Held::take(&play.stage.client(), "cidrift", want, &Holder::this(), &|_| {}).await
}

async fn begun(play: &Play, id: &str) -> Result<(Held, Record), LeaseError> {
    take(play, Want::New(Box::new(large(id)))).await
}

/// Names of those that are there, and what the Lease names.
fn there(play: &Play) -> (Vec<String>, Value) {
    play.stage.with(|store| {
        let paths = store.all.keys().filter_map(|path| path.strip_prefix(MAPS));
        let names = paths.map(|path| path.trim_start_matches('/').to_owned());
        let lease = store.all.get(LEASE).cloned().unwrap_or_default();
        let named = lease["metadata"]["annotations"]["cidrift.dev/fix-maps"].clone();
        let named = named
            .as_str()
            .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
        (names.collect(), named)
    })
}

fn none() -> (Vec<String>, Value) {
    (Vec::new(), Value::Null)
}

/// Every question like this one is refused.
fn never(play: &Play, start: &'static str) {
    play.stage.meanwhile(move |_, asked| {
        let refuses = asked.line.starts_with(start);
        refuses.then(|| refused(403, "you may not")).flatten()
    });
}

#[tokio::test]
async fn it_is_there_as_long_as_its_fix_and_named_on_the_lease() {
    let play = Play::of(outside(), &["n2"]);
    let (held, record) = begun(&play, "f1").await.unwrap();
    let (names, named) = there(&play);
    assert!(names.len() > 1, "{names:?}");
    assert_eq!(named, json!(names));
    held.release(&record).await.unwrap();
    assert_eq!(there(&play), (names.clone(), json!(names)), "it is not finished");
    let (held, again) = take(&play, Want::Go).await.unwrap();
    assert_eq!(again.queue, record.queue);
    assert_eq!(there(&play), (names.clone(), json!(names)));
    held.release(&over(again)).await.unwrap();
    assert_eq!(there(&play), none());
}

#[tokio::test]
async fn a_fix_that_gets_no_lease_leaves_nothing_beside_it() {
    for start in [
        "PUT /apis/coordination.k8s.io/",
        "POST /api/v1/namespaces/cidrift/configmaps",
    ] {
        let play = Play::of(outside(), &["n2"]);
        let mut maps = 0;
        play.stage.meanwhile(move |_, asked| {
            maps += usize::from(asked.line == format!("POST {MAPS}"));
            let refuses = asked.line.starts_with(start) && maps > 1;
            refuses.then(|| refused(403, "you may not")).flatten()
        });
        let why = begun(&play, "f1").await.unwrap_err().to_string();
        assert!(why.contains("you may not"), "{why}");
        assert!(
            play.stage.asked(&format!("DELETE {MAPS}/cidrift-fix-f1-")) > 0,
            "{start}"
        );
        assert_eq!(there(&play).0, [""; 0], "{start}");
    }
}

#[tokio::test]
async fn what_was_written_beside_it_by_one_that_ended_before_it_had_the_lease_goes_with_the_next() {
    for last in [1, 2] {
        let play = Play::of(outside(), &["n2"]);
        let mut maps = 0;
        play.stage.falls_at(move |asked| {
            maps += usize::from(asked.line == format!("POST {MAPS}"));
            maps == last
        });
        tokio::select! {
            biased;
            () = play.stage.fallen() => {}
            _ = begun(&play, "f1") => panic!("it has begun"),
        }
        let next = play.again();
        let (names, named) = there(&next);
        assert_eq!(names.len(), last);
        assert!(
            names
                .iter()
                .all(|name| named.as_array().unwrap().contains(&json!(name)))
        );
        begun(&next, "f2").await.unwrap();
        let (names, named) = there(&next);
        assert!(
            names.iter().all(|name| name.starts_with("cidrift-fix-f2-")),
            "{names:?}"
        );
        assert_eq!(named, json!(names));
    }
}

/// The first answer is lost.
fn lost(play: &Play, is: fn(&Asked) -> bool, does: fn(&mut Store, &Asked)) {
    let mut first = true;
    play.stage.meanwhile(move |store, asked| {
        if !is(asked) || !std::mem::take(&mut first) {
            return None;
        }
        does(store, asked);
        refused(503, "it goes down")
    });
}

#[tokio::test]
async fn a_lease_that_was_made_though_nobody_heard_of_it_is_had_and_so_is_what_lies_beside_it() {
    let play = Play::of(outside(), &["n2"]);
    let makes = |asked: &Asked| asked.line == "POST /apis/coordination.k8s.io/v1/namespaces/cidrift/leases";
    lost(&play, makes, |store, asked| drop(store.put(LEASE, asked.body.clone())));
    let (held, record) = begun(&play, "f1").await.unwrap();
    let (names, named) = there(&play);
    assert_eq!((names.is_empty(), &named), (false, &json!(names)));
    held.release(&over(record)).await.unwrap();
    assert_eq!(there(&play), none());
}

#[tokio::test]
async fn what_could_not_be_deleted_goes_with_the_next_fix() {
    let play = Play::of(outside(), &["n2"]);
    never(&play, "DELETE /api/v1/namespaces/cidrift/configmaps/cidrift-fix-f1-0");
    let (held, record) = begun(&play, "f1").await.unwrap();
    held.release(&over(record)).await.unwrap();
    let left = "cidrift-fix-f1-0".to_owned();
    assert_eq!(there(&play), (vec![left.clone()], json!([left])));
    // Before another server it is let; what others write there is none of a fix's.
    let next = play.again();
    let others = json!("[\"cidrift-fix-f1-0\",\"kube-root-ca.crt\"]");
    next.stage.with(|store| {
        store.put(
            &format!("{MAPS}/kube-root-ca.crt"),
            json!({"metadata": {"name": "kube-root-ca.crt"}}),
        );
        store.all.get_mut(LEASE).unwrap()["metadata"]["annotations"]["cidrift.dev/fix-maps"] = others;
    });
    let (held, record) = begun(&next, "f2").await.unwrap();
    let (names, named) = there(&next);
    let (own, others): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| name.starts_with("cidrift-fix-f2-"));
    assert_eq!((json!(own), json!(others)), (named, json!(["kube-root-ca.crt"])));
    held.release(&over(record)).await.unwrap();
    assert_eq!(there(&next), (vec!["kube-root-ca.crt".to_owned()], Value::Null));
}

#[tokio::test]
async fn nodes_that_cannot_be_called_so_are_refused_beside_the_lease_too_and_do_not_matter_to_an_abort() {
    let play = Play::of(outside(), &["n2"]);
    let (held, record) = begun(&play, "f1").await.unwrap();
    held.release(&record).await.unwrap();
    play.stage.with(|store| {
        let data = &mut store.all.get_mut(&format!("{MAPS}/cidrift-fix-f1-0")).unwrap()["data"]["nodes"];
        *data = json!(data.as_str().unwrap().replacen("\"n0\"", "\"n0;x\"", 1));
    });
    let why = take(&play, Want::Go).await.unwrap_err().to_string();
    assert!(why.contains("\"n0;x\" is no Node's name"), "{why}");
    let (held, record) = take(&play, Want::Back).await.unwrap();
    assert_eq!(record.queue, []);
    held.release(&record).await.unwrap();
    assert_eq!(there(&play), none());
}
