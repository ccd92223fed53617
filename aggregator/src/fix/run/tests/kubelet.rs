//! A kubelet that is started anew, and what it renders as it starts.

use cidrift_proto::catalogue::Code;
use serde_json::{Value, json};

use super::play::{Play, stale, stopped};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cidrift/leases/cidrift-fix";

/// Its file is removed, and its kubelet, which followed before that, is to be started next: as earlier versions planned it.
async fn removed() -> Play {
    let mut world = stale();
    world.follows("n2");
    world.find(Code::Host08, "n2", &["n2"]);
    let play = Play::of(world, &["n2"]);
    play.stage.falls_at(|asked| {
        asked
            .line
            .starts_with("DELETE /api/v1/namespaces/cidrift/pods/cidrift-errand-")
    });
    assert!(play.killed(false).await);
    let play = play.again();
    play.stage.with(|store| {
        let notes = &mut store.all.get_mut(LEASE).unwrap()["metadata"]["annotations"];
        let mut record: Value = serde_json::from_str(notes["cidrift.dev/fix"].as_str().unwrap()).unwrap();
        let steps = record["work"]["plan"]["steps"].as_array_mut().unwrap();
        let kinds: Vec<&Value> = steps.iter().map(|step| &step["does"]["do"]).collect();
        assert_eq!(kinds, ["restart-kubelet", "remove-file", "render", "verify"]);
        steps.remove(2);
        steps.swap(0, 1);
        notes["cidrift.dev/fix"] = json!(record.to_string());
    });
    play
}

#[tokio::test]
async fn one_that_followed_before_its_file_went_is_started_all_the_same_until_that_is_there_again() {
    let mut play = removed().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let started = || std::fs::read_to_string(file.path()).unwrap();
    play.settings.restart = Some(format!("echo {{node}} >> {}", file.path().display()));
    let (_, ended) = play.resume().await;
    let why = "n2 after the restart of its kubelet: its runtime has no CNI configuration: there is none";
    stopped(&ended, why);
    assert_eq!(started(), "n2\n");
    play.stage.with(|store| store.write("n2", "10.244.2.0/24"));
    assert_eq!(play.resume().await.1, Ok(()));
    assert_eq!(started(), "n2\n", "it is there again");
}
