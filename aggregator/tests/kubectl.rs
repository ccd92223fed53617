//! The operator's program as it is run: what it prints, and what it ends with.

mod support;

use std::process::{Output, Stdio};
use std::time::Duration;

use cidrift_aggregator::cluster::HostEvent;
use support::{HOLD, World, name, nothing};
use tokio::process::Command;

fn kubectl(server: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-cidrift"));
    command.env("CIDRIFT_SERVER", server).stdin(Stdio::null());
    command
}

async fn run(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let server = world.address.to_string();
    ended(kubectl(&server).args(arguments).output().await.expect("it runs"))
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("no signal");
    (code, text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_0_where_everything_was_seen_and_is_right() {
    let world = World::healthy().await;
    for arguments in [
        &["status"][..],
        &["node", "node-a"],
        &["findings"],
        &["path", "node-a", "10.244.1.2"],
        &["path", "--to", "node-a"],
        &["nodes"],
        &["pool"],
        &["version"],
    ] {
        let (code, text, errors) = run(&world, arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {text}{errors}");
        assert!(!text.is_empty());
        assert_eq!(errors, "");
        assert!(!text.contains('\x1b'), "colours without a terminal: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_1_where_findings_are_open() {
    let mut world = World::healthy().await;
    world.change(0, 2, vec![nothing(1, world.now)]);
    world.pass(HOLD * 2);
    for arguments in [
        &["status"][..],
        &["node", "node-a"],
        &["findings", "--code", "PATH01"],
        &["path", "node-a", "node-b"],
        &["path", "--to", "10.244.1.9"],
    ] {
        let (code, text, errors) = run(&world, arguments).await;
        assert_eq!(code, 1, "{arguments:?}: {text}{errors}");
    }
    let (_, text, _) = run(&world, &["findings"]).await;
    assert!(text.contains("error[PATH01] route-missing: "), "{text}");
    let (code, text, _) = run(&world, &["-o", "json", "findings"]).await;
    assert_eq!(code, 1);
    let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["health"], "findings");
    let ids = document["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| &f["id"]);
    assert!(ids.into_iter().any(|id| id == "PATH01/node-a"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_3_where_not_everything_could_be_seen() {
    let mut world = World::healthy().await;
    world.tell(2, HostEvent::Lost { reason: "a gap".into() });
    for arguments in [
        &["status"][..],
        &["node", "node-c"],
        &["findings"],
        &["path", "node-c", "node-a"],
        &["path", "--to", "node-a"],
    ] {
        let (code, text, errors) = run(&world, arguments).await;
        assert_eq!(code, 3, "{arguments:?}: {text}{errors}");
        assert!(!text.contains("healthy:"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_2_and_says_what_to_do_where_it_cannot_ask() {
    // A port that was free a moment ago: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let server = free.local_addr().expect("bound").to_string();
    drop(free);
    for arguments in [&["status"][..], &["nodes"], &["findings", "--watch"], &["version"]] {
        let output = kubectl(&server).args(arguments).output().await.expect("it runs");
        let (code, text, errors) = ended(output);
        assert_eq!((code, text.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains("goes through the Kubernetes API"), "{errors}");
    }
    let output = kubectl(&server)
        .args(["explain", "PATH01"])
        .output()
        .await
        .expect("it runs");
    assert_eq!(ended(output).0, 0, "explain asks nobody");

    let world = World::healthy().await;
    for arguments in [
        &["node", "node-x"][..],
        &["findings", "--code", "PATH99"],
        &["explain", "PATH99"],
        &["bogus"],
    ] {
        let (code, text, errors) = run(&world, arguments).await;
        assert_eq!((code, text.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: "), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_silent_is_given_up() {
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let server = mute.local_addr().expect("bound").to_string();
    let output = kubectl(&server).args(["--timeout", "200ms", "status"]).output().await;
    let (code, _, errors) = ended(output.expect("it runs"));
    assert_eq!(code, 2);
    assert!(errors.contains("did not answer within 200ms"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_is_no_failure() {
    let world = World::healthy().await;
    for arguments in [&["explain"][..], &["status"], &["-o", "json", "nodes"]] {
        let mut child = kubectl(&world.address.to_string())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        drop(child.stdout.take());
        let (code, _, errors) = ended(child.wait_with_output().await.expect("it ends"));
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_prints_a_json_document_a_line_and_ends_with_its_server() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut world = World::healthy().await;
    let mut child = kubectl(&world.address.to_string())
        .args(["findings", "--watch", "-o", "json", "--code", "PATH01"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let line = line.expect("in time").expect("read").expect("a line");
        serde_json::from_str::<serde_json::Value>(&line).expect("one document")
    };
    assert_eq!(next().await["event"], "synced");
    world.change(0, 2, vec![nothing(1, world.now)]);
    let event = next().await;
    assert_eq!(
        (&event["event"], &event["finding"]["state"]),
        (&"finding".into(), &"pending".into())
    );
    assert_eq!(event["finding"]["nodes"][0], name(0).as_str());
    world.stop.cancel();
    let (code, _, errors) = ended(child.wait_with_output().await.expect("it ends"));
    assert_eq!(code, 2);
    assert!(errors.contains("ended the watch"), "{errors}");
}
