//! A step for the operator's own hands.

use super::play::{Play, outside};
use crate::fix::run::Halt;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cidrift/leases/cidrift-fix";

const WORDS: &str = "on n2: /etc/cni/net.d/10-net.conflist hands out of 10.99.2.0/24; write it for 10.244.255.0/24";

/// As [`outside`], and somebody wrote the file himself.
fn written() -> Play {
    let mut world = outside();
    world.configured("n2", "10.99.2.0/24", None);
    Play::of(world, &["n2"])
}

/// That it stopped for that, and took nothing away but the pods.
fn waits(play: &Play, ended: &Result<(), Halt>, more: &str) {
    let words = format!("{WORDS}; then go on ({more})");
    assert_eq!(*ended, Err(Halt::Hand(words)));
    assert!(play.says(&format!("waits for you: {WORDS}")));
    assert_eq!(play.stage.asked("DELETE /api/v1/nodes/"), 0);
    assert_eq!(play.node("n2")["spec"]["unschedulable"], true);
}

const STALE: &str = "/etc/cni/net.d/10-net.conflist hands out of 10.99.2.0/24";

#[tokio::test]
async fn it_is_over_only_when_the_agent_sees_that_it_is_done_however_often_it_is_gone_on_with() {
    let play = written();
    waits(&play, &play.fix().await.1, STALE);
    // As an earlier version wrote it down once it had shown the step.
    play.stage.with(|store| {
        let record = &mut store.all.get_mut(LEASE).unwrap()["metadata"]["annotations"]["cidrift.dev/fix"];
        let text = record.as_str().unwrap().to_owned();
        let told = text.replacen("\"deleting\":", "\"told\":true,\"deleting\":", 1);
        assert_ne!(told, text);
        *record = told.into();
    });
    waits(&play, &play.resume().await.1, STALE);
    // For a range that is nobody's of this Node.
    play.stage.with(|store| store.write("n2", "10.244.9.0/24"));
    let other = "/etc/cni/net.d/10-net.conflist hands out of 10.244.9.0/24";
    waits(&play, &play.resume().await.1, other);
    play.stage.with(|store| store.write("n2", "10.244.255.0/24"));
    assert_eq!(play.resume().await.1, Ok(()));
    assert_eq!(play.node("n2")["spec"]["podCIDR"], "10.244.255.0/24");
}

#[tokio::test]
async fn it_goes_on_by_itself_once_that_is_seen() {
    let mut play = written();
    play.settings.patience *= 50;
    let (mut evicted, mut looks) = (false, 0);
    play.stage.meanwhile(move |store, asked| {
        evicted |= asked.line.ends_with("/eviction");
        looks += u32::from(evicted && asked.line == "GET /api/v1/nodes/n2");
        if looks == 6 {
            store.write("n2", "10.244.255.0/24");
        }
        None
    });
    assert_eq!(play.fix().await.1, Ok(()));
    assert!(play.says(&format!("waits for you: {WORDS}")));
    assert_eq!(play.node("n2")["spec"]["podCIDR"], "10.244.255.0/24");
}

#[tokio::test]
async fn whoever_interrupts_it_is_told_too() {
    let mut play = written();
    play.settings.patience *= 50;
    let cancel = play.cancel.clone();
    let (mut evicted, mut looks) = (false, 0);
    play.stage.meanwhile(move |_, asked| {
        evicted |= asked.line.ends_with("/eviction");
        looks += u32::from(evicted && asked.line == "GET /api/v1/nodes/n2");
        if looks == 6 {
            cancel.cancel();
        }
        None
    });
    waits(&play, &play.fix().await.1, "it was interrupted");
}
