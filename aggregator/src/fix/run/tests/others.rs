//! Others take nodes away while a fix is under way.

use cidrift_proto::catalogue::Code;
use serde_json::json;

use super::play::{Play, outside, stopped};
use super::seer::Seer;
use super::stage::refused;
use crate::fix::fixture::World;
use crate::fix::run::Halt;

const EVICTS: &str = "POST /api/v1/namespaces/default/pods/web/eviction";

/// While pods of n2 end somebody cordons n3.
fn cordoned_meanwhile(play: &Play) {
    play.stage.meanwhile(|store, asked| {
        if asked.line == EVICTS {
            store.node("n3")["spec"]["unschedulable"] = json!(true);
        }
        None
    });
}

/// A budget never lets a pod go.
fn held(play: &Play) {
    play.stage.meanwhile(|_, asked| {
        let evicts = asked.line == EVICTS;
        evicts
            .then(|| refused(429, "it would violate the pod's disruption budget"))
            .flatten()
    });
}

fn is_mended(play: &Play) {
    let node = play.node("n2");
    assert_eq!(node["spec"]["podCIDR"], "10.244.255.0/24");
    assert_eq!(node["spec"]["unschedulable"], json!(null));
    assert_eq!(node["metadata"]["annotations"], json!(null));
}

#[tokio::test]
async fn a_node_is_not_deleted_while_another_one_is_out_and_is_once_that_is_back() {
    let play = Play::of(outside(), &["n2"]);
    cordoned_meanwhile(&play);
    let before = play.node("n2")["metadata"]["uid"].clone();
    let (record, ended) = play.fix().await;
    let why = "n3 is cordoned: a second node must not be unavailable at the same time";
    stopped(&ended, why);
    assert!(play.says(&format!("waits: {why}")) && play.says("Node n2 has 10.99.2.0/24, is Ready, cordoned"));
    assert_eq!(record.stopped.as_deref(), Some(why));
    // Nothing on the host went either, and it does not go on as long as that is so.
    stopped(&play.resume().await.1, why);
    assert_eq!(play.node("n2")["metadata"]["uid"], before);
    assert_eq!(play.stage.asked("DELETE /api/v1/nodes/"), 0);
    let said = play.said.borrow().clone();
    assert!(!said.iter().any(|said| said.starts_with("remove ")), "{said:#?}");
    play.stage
        .with(|store| store.node("n3")["spec"]["unschedulable"] = json!(false));
    assert_eq!(play.resume().await.1, Ok(()));
    is_mended(&play);
}

#[tokio::test]
async fn one_that_is_out_for_a_moment_is_waited_for() {
    let play = Play::of(outside(), &["n2"]);
    cordoned_meanwhile(&play);
    let mut looks = 0;
    play.stage.meanwhile(move |store, asked| {
        if asked.line == "GET /api/v1/nodes" && store.node("n3")["spec"]["unschedulable"] == true {
            looks += 1;
            if looks == 2 {
                store.node("n3")["spec"]["unschedulable"] = json!(false);
            }
        }
        None
    });
    assert_eq!(play.fix().await.1, Ok(()));
    assert!(play.says("waits: n3 is cordoned"));
    is_mended(&play);
}

/// A budget holds up the drain, and another node goes meanwhile.
#[tokio::test]
async fn nobody_is_evicted_while_another_node_is_out() {
    let play = Play::of(outside(), &["n2"]);
    cordoned_meanwhile(&play);
    held(&play);
    let mut play = play;
    // A budget is asked again after 2 s.
    play.settings.drain *= 3;
    play.settings.patience *= 10;
    let (_, ended) = play.fix().await;
    stopped(&ended, "and evicts none meanwhile: n3 is cordoned");
    assert_eq!(play.stage.asked(EVICTS), 1);
}

/// The drain has time left, and that node has not.
#[tokio::test]
async fn one_that_goes_during_the_drain_is_waited_for_as_long_as_a_node_may_be_away() {
    let mut play = Play::of(outside(), &["n2"]);
    cordoned_meanwhile(&play);
    held(&play);
    play.settings.drain *= 100;
    let (record, ended) = play.fix().await;
    let why = "n3 is cordoned: a second node must not be unavailable at the same time";
    assert_eq!(ended, Err(Halt::Stop(why.to_owned())));
    assert!(play.says(&format!("and evicts none meanwhile: {why}")));
    assert!(record.work.is_some_and(|work| work.cordoned && work.at == 1));
}

/// Somebody else has deleted them by then: who is away is no matter of these.
#[tokio::test]
async fn pods_that_are_ending_are_waited_for_whoever_is_away() {
    let mut play = Play::of(outside(), &["n2"]);
    play.settings.drain *= 3;
    cordoned_meanwhile(&play);
    held(&play);
    play.stage.meanwhile(|store, asked| {
        if asked.line == "GET /api/v1/nodes" && store.node("n3")["spec"]["unschedulable"] == true {
            let pod = store.all.get_mut("/api/v1/namespaces/default/pods/web").unwrap();
            pod["metadata"]["deletionTimestamp"] = json!("2026-12-01T00:00:00Z");
        }
        None
    });
    let (_, ended) = play.fix().await;
    assert!(play.says("and evicts none meanwhile: n3 is cordoned"));
    stopped(
        &ended,
        "the drain of n2 has not ended within 3.6s: it waits for default/web",
    );
    assert!(!ended.unwrap_err().to_string().contains("evicts none"));
}

/// n2 leaks: these are there by now.
fn leaks(leases: &[(&str, &str)]) -> World {
    let mut world = World::of(3);
    world.leaks("n2", "/var/lib/cni/networks/net", leases);
    world.find(Code::Host05, "n2", &["n2"]);
    world
}

const AGREED: (&str, &str) = ("10.244.2.7", "aa");

#[tokio::test]
async fn leases_that_come_before_their_node_is_begun_are_left_and_stand_no_fix_in_its_way() {
    for (now, said) in [
        (&[AGREED, ("10.244.2.9", "bb")][..], "n2: 1 lease has come since"),
        (&[("10.244.2.9", "bb")], "n2: nothing to do any more"),
    ] {
        let mut play = Play::of(leaks(&[AGREED]), &["n2"]);
        play.eyes = Seer::of(&play.stage, leaks(now).ground);
        play.stage.meanwhile(|_, asked| {
            let text = asked.body["spec"]["containers"].to_string();
            assert!(!text.contains("10.244.2.9"), "{text}");
            None
        });
        assert_eq!(play.fix().await.1, Ok(()));
        assert!(play.says(said), "{:#?}", play.said);
        let pods = "POST /api/v1/namespaces/cidrift/pods";
        assert_eq!(play.stage.asked(pods) > 0, now.contains(&AGREED));
    }
}

#[tokio::test]
async fn a_lease_that_is_another_sandboxs_by_now_stops_a_fix() {
    let mut play = Play::of(leaks(&[AGREED]), &["n2"]);
    play.eyes = Seer::of(&play.stage, leaks(&[("10.244.2.7", "bb")]).ground);
    stopped(
        &play.fix().await.1,
        "the ground has moved: n2 is to remove 1 lease from",
    );
}
