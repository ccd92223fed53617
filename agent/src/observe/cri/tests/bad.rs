//! Runtimes that do not answer as they should, and sockets that are none of this host's.

use std::os::unix::fs::PermissionsExt;

use nix::unistd::{Uid, setfsuid};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tonic::Status;

use super::fake::listen;
use super::*;

#[tokio::test]
async fn no_socket_is_a_host_without_a_runtime() {
    let mut host = Host::new();
    let (runtime, sandboxes) = host.look().await;
    assert_eq!(why(&runtime).0, "absent");
    assert_eq!(why(&runtime), why(&sandboxes));
}

#[tokio::test]
async fn a_runtime_that_hangs_costs_one_call() {
    for (call, whole) in [("Version", false), ("ListPodSandbox", true)] {
        let mut host = Host::new();
        let fake = Fake::default();
        fake.with(|content| content.hangs = call);
        let _listening = fake.serve(host.root(), CONTAINERD);
        let start = Instant::now();
        let (runtime, sandboxes) = host.look().await;
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        assert_eq!(runtime.get().is_some(), whole);
        assert_eq!(why(&sandboxes), ("unreadable", "it did not answer within 4 s"));
        // It comes round: nothing is left of it.
        fake.with(|content| content.hangs = "");
        assert!(host.look().await.1.get().is_some());
    }
}

#[tokio::test]
async fn sandboxes_that_hang_cost_one_call_and_the_rest_waits() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.with(|content| content.hangs = "PodSandboxStatus");
    for number in 0..100 {
        fake.add(
            &number.to_string(),
            &format!("default/p{number}"),
            true,
            Some("10.1.2.3"),
        );
    }
    let _listening = fake.serve(host.root(), CONTAINERD);
    let start = Instant::now();
    let (runtime, sandboxes) = host.look().await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(runtime.get().is_some());
    assert_eq!(
        why(&sandboxes).1,
        "100 of its sandboxes are not known: it did not answer within 4 s"
    );
}

#[tokio::test]
async fn a_socket_that_accepts_nobody_costs_one_call() {
    let mut host = Host::new();
    let (_path, _listener) = listen(host.root(), CONTAINERD);
    let start = Instant::now();
    let (runtime, _) = host.look().await;
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(why(&runtime), ("unreadable", "it did not answer within 4 s"));
}

#[tokio::test]
async fn rubbish_and_a_closed_door_are_reasons() {
    for rubbish in [&b""[..], b"\0\xff\x01 not http/2 at all\n", &[0; 4096]] {
        let mut host = Host::new();
        let (_path, listener) = listen(host.root(), CONTAINERD);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(rubbish).await;
            }
        });
        let (runtime, sandboxes) = host.look().await;
        assert!(why(&runtime).1.starts_with("the connection broke: "), "{runtime:?}");
        assert_eq!(why(&sandboxes).0, "unreadable");
        task.abort();
    }
}

#[tokio::test]
async fn more_sandboxes_than_are_read_are_none() {
    let mut host = Host::new();
    let fake = Fake::default();
    for number in 0..5000 {
        fake.add(&number.to_string(), "default/p", false, None);
    }
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (runtime, sandboxes) = host.look().await;
    assert!(runtime.get().is_some());
    assert_eq!(
        why(&sandboxes),
        ("unreadable", "it has 5000 sandboxes, more than the 4096 that are read")
    );
}

#[tokio::test]
async fn an_answer_larger_than_any_runtimes_is_not_taken() {
    let mut host = Host::new();
    let fake = Fake::default();
    fake.add("a", "default/web", true, Some("10.244.1.5"));
    fake.with(|content| content.items[0].id = "x".repeat(17 << 20));
    let _listening = fake.serve(host.root(), CONTAINERD);
    let (_, sandboxes) = host.look().await;
    assert!(why(&sandboxes).1.contains("too large"), "{sandboxes:?}");
}

#[tokio::test]
async fn a_containerd_without_cri_is_not_kubernetes_and_the_next_socket_is_asked() {
    let mut host = Host::new();
    let docker = Fake::default();
    docker.with(|content| content.refuses = Some(Status::unimplemented("unknown service runtime.v1.RuntimeService")));
    let _docker = docker.serve(host.root(), CONTAINERD);
    let (runtime, _) = host.look().await;
    assert_eq!(
        why(&runtime),
        (
            "absent",
            "it does not serve CRI v1: unknown service runtime.v1.RuntimeService"
        )
    );
    // The kubelet's own must.
    let (runtime, _) = host.look_with(&kubelet(CONTAINERD)).await;
    assert_eq!(why(&runtime).0, "unreadable");
    assert!(why(&runtime).1.starts_with("the kubelet uses it"), "{runtime:?}");

    let fake = Fake::default();
    let _fake = fake.serve(host.root(), "/run/cri-dockerd.sock");
    assert_eq!(host.look().await.0.source, "/run/cri-dockerd.sock");
}

#[tokio::test]
async fn what_may_be_the_kubelets_is_not_passed_over_for_one_that_answers() {
    let mut host = Host::new();
    let containerd = Fake::default();
    let _containerd = containerd.serve(host.root(), CONTAINERD);
    // k3s' containerd has crashed: its socket is still there.
    drop(listen(host.root(), "/run/k3s/containerd/containerd.sock"));
    let (runtime, _) = host.look().await;
    assert_eq!(runtime.source, "/run/k3s/containerd/containerd.sock");
    assert!(
        why(&runtime)
            .1
            .starts_with("the socket cannot be opened: Connection refused"),
        "{runtime:?}"
    );
    // Where the kubelet names another, it is of no account.
    assert!(host.look_with(&kubelet(CONTAINERD)).await.0.get().is_some());
}

#[tokio::test]
async fn a_runtime_that_is_gone_for_a_moment_is_not_replaced_by_another() {
    let mut host = Host::new();
    let (k3s, containerd) = (Fake::default(), Fake::default());
    let _containerd = containerd.serve(host.root(), CONTAINERD);
    let listening = k3s.serve(host.root(), "/run/k3s/containerd/containerd.sock");
    assert!(host.look().await.0.get().is_some());
    drop(listening);
    for _ in 0..29 {
        let (runtime, _) = host.look().await;
        assert_eq!(why(&runtime).0, "unreadable");
        assert_eq!(runtime.source, "/run/k3s/containerd/containerd.sock");
    }
    let (runtime, _) = host.look().await;
    assert_eq!(runtime.source, CONTAINERD);
    assert!(runtime.get().is_some());
}

#[tokio::test]
async fn a_socket_that_may_not_be_opened_is_said() {
    let mut host = Host::new();
    let fake = Fake::default();
    let _listening = fake.serve(host.root(), CONTAINERD);
    let socket = host.root().join(CONTAINERD.trim_start_matches('/'));
    std::fs::set_permissions(host.root(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o000)).unwrap();
    // Root may open anything; this thread is nobody to the filesystem for a moment.
    let before = setfsuid(Uid::from_raw(65534));
    let (runtime, sandboxes) = host.look().await;
    setfsuid(before);
    assert!(
        why(&runtime)
            .1
            .starts_with("the socket cannot be opened: Permission denied"),
        "{runtime:?}"
    );
    assert_eq!(why(&sandboxes).0, "unreadable");
}
