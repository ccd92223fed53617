//! What is told of sandboxes, and when it is told.

use super::*;

#[tokio::test]
async fn each_sandbox_is_asked_for_once_and_told_with_its_address() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("b", "kube-system/proxy", true, None);
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    fake.add("c", "default/done", false, Some("10.244.1.6"));
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (runtime, sandboxes) = host.look().await;
    assert_eq!(
        (runtime.source.as_str(), runtime.get().unwrap().name.as_str()),
        (CONTAINERD, "fake")
    );
    assert_eq!(sandboxes.at, host.now);
    insta::assert_debug_snapshot!(sandboxes.get().unwrap(), @r#"
    [
        Sandbox {
            id: "a",
            pod: "default/web",
            uid: "uid-web",
            created_at: Some(
                2025-11-24T07:00:00Z,
            ),
            ready: true,
            host_network: false,
            addresses: [
                10.244.1.5,
            ],
        },
        Sandbox {
            id: "b",
            pod: "kube-system/proxy",
            uid: "uid-proxy",
            created_at: Some(
                2025-11-24T07:00:00Z,
            ),
            ready: true,
            host_network: true,
            addresses: [],
        },
        Sandbox {
            id: "c",
            pod: "default/done",
            uid: "uid-done",
            created_at: Some(
                2025-11-24T07:00:00Z,
            ),
            ready: false,
            host_network: false,
            addresses: [],
        },
    ]
    "#);
    let (again_runtime, again) = host.look().await;
    assert!(again.same(&sandboxes) && again_runtime.same(&runtime));
    // They are asked for at the same time.
    fake.with(|content| {
        content.asked.sort();
        assert_eq!(content.asked, ["a", "b"]);
    });
}

#[tokio::test]
async fn one_that_ends_keeps_its_address_and_one_that_is_removed_is_forgotten() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    let _listening = fake.serve(host.root(), CONTAINERD);
    host.look().await;
    fake.with(|content| content.items[0].state = v1::PodSandboxState::SandboxNotready.into());
    let (_, sandboxes) = host.look().await;
    let ended = &sandboxes.get().unwrap()[0];
    assert!(!ended.ready);
    assert_eq!(ended.addresses.len(), 1);
    fake.with(|content| content.items.clear());
    assert_eq!(host.look().await.1.get().unwrap().len(), 0);
    assert_eq!(host.reader.sandboxes.known_ids(), 0);
}

#[tokio::test]
async fn an_address_that_comes_later_is_asked_for_again() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some(""));
    let _listening = fake.serve(host.root(), CONTAINERD);
    assert_eq!(host.look().await.1.get().unwrap()[0].addresses.len(), 0);
    fake.add("a", "default/web", true, Some("fd00::5"));
    fake.with(|content| content.items.truncate(1));
    let (_, sandboxes) = host.look().await;
    assert_eq!(sandboxes.get().unwrap()[0].addresses[0].to_string(), "fd00::5");
}

#[tokio::test]
async fn a_list_that_is_not_whole_is_not_told() {
    let mut host = Host::new();
    let fake = Fake::default();
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (_, empty) = host.look().await;
    assert_eq!(empty.get().unwrap().len(), 0);
    for number in 0..600 {
        fake.add(
            &format!("{number:03}"),
            &format!("default/p{number}"),
            true,
            Some("10.1.2.3"),
        );
    }
    // 512 are known now, and the list of before still stands, with its time.
    assert_eq!(host.look().await.1, empty);
    assert_eq!(host.look().await.1.get().unwrap().len(), 600);
    fake.with(|content| assert_eq!(content.asked.len(), 600));

    let mut other = Host::new();
    let _listening = fake.serve(other.root(), CONTAINERD);
    assert_eq!(other.look().await.1.value, Err(Missing::NotYet));
    assert_eq!(other.look().await.1.get().unwrap().len(), 600);
}

#[tokio::test]
async fn one_sandbox_that_cannot_be_read_leaves_the_last_list_for_a_minute_and_then_none() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (_, whole) = host.look().await;
    fake.add("broken", "default/new", true, Some("10.244.1.6"));
    for _ in 0..5 {
        let (runtime, sandboxes) = host.look().await;
        assert!(runtime.get().is_some());
        assert_eq!(sandboxes, whole);
    }
    let (_, sandboxes) = host.look().await;
    assert_eq!(
        why(&sandboxes),
        (
            "unreadable",
            "1 of its sandboxes are not known: PodSandboxStatus failed: Unknown error: its shim does not answer"
        )
    );
    fake.with(|content| content.items.truncate(1));
    assert_eq!(host.look().await.1.get().unwrap().len(), 1);
}

#[tokio::test]
async fn one_that_is_removed_while_it_is_asked_for_is_not_in_the_list() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    fake.add("b", "default/gone", true, Some("10.244.1.6"));
    fake.with(|content| content.statuses.remove("b"));
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (_, sandboxes) = host.look().await;
    let ids: Vec<&str> = sandboxes.get().unwrap().iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["a"]);
}

#[tokio::test]
async fn what_is_no_address_is_no_sandbox_without_one() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5/24"));
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (_, sandboxes) = host.look().await;
    assert!(
        why(&sandboxes).1.ends_with("\"10.244.1.5/24\" is no address"),
        "{sandboxes:?}"
    );
}

#[tokio::test]
async fn a_restart_between_two_looks_is_not_noticed() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    let listening = fake.serve(host.root(), CONTAINERD);
    let (runtime, sandboxes) = host.look().await;
    drop(listening);
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (runtime_after, after) = host.look().await;
    assert!(runtime_after.same(&runtime), "{runtime_after:?}");
    assert!(after.same(&sandboxes));
    fake.with(|content| {
        assert_eq!(content.asked, ["a"]);
        assert_eq!(content.connections, 2);
    });
}
