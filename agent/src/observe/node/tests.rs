//! Snapshot files, kubeconfigs and API servers, good and bad.

use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LIST: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: node-a}
  status: gone
- apiVersion: v1
  kind: Node
  metadata:
    name: node-a
    annotations:
      flannel.alpha.coreos.com/kube-subnet-manager: \"true\"
  spec:
    podCIDR: 10.244.1.0/24
    podCIDRs:
    - 10.244.1.0/24
    - fd00:1::/64
  status:
    addresses:
    - {address: node-a, type: Hostname}
    - {address: 10.0.0.11, type: InternalIP}
";

fn read(text: &str) -> Result<Option<NodeFacts>, NodeError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    from_cluster_state(file.path(), "node-a").map(|(facts, _)| facts)
}

#[test]
fn a_list_a_single_node_and_several_documents_are_read() {
    let facts = read(LIST).unwrap().unwrap();
    assert_eq!(
        facts,
        NodeFacts {
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
            internal_ips: vec!["10.0.0.11".parse().unwrap()],
            kube_router_cidrs: vec![],
            kube_subnet_manager: Some(true),
        }
    );
    let one = "kind: Node\nmetadata: {name: node-a}\nspec: {podCIDR: 10.244.1.0/24}\n";
    assert_eq!(read(one).unwrap().unwrap().pod_cidrs, facts.pod_cidrs[..1]);
    let several = format!("kind: Node\nmetadata: {{name: node-b}}\n---\n{one}");
    assert_eq!(read(&several).unwrap().unwrap().pod_cidrs, facts.pod_cidrs[..1]);
    let json = r#"{"kind": "NodeList", "items": [{"metadata": {"name": "node-a"}, "spec": {}}]}"#;
    assert_eq!(read(json).unwrap().unwrap().pod_cidrs, []);
}

#[test]
fn a_pipe_is_read_to_its_end() {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let (reader, mut writer) = std::io::pipe().unwrap();
    // More than a pipe holds: the writer has to be waited for.
    let text = format!("# {}\n{LIST}", "x".repeat(200_000));
    let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()));
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let (facts, from) = from_cluster_state(Path::new(&path), "node-a").unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!((facts, from), (read(LIST).unwrap(), path));
    let error = read(" \n").unwrap_err().to_string();
    assert!(error.ends_with("prints: it is empty"), "{error}");
}

#[test]
fn kube_routers_annotations_are_read() {
    let text = "kind: Node\nmetadata:\n  name: node-a\n  annotations: {kube-router.io/pod-cidrs: \"10.9.0.0/24,fd00:9::/64\"}\n";
    let facts = read(text).unwrap().unwrap();
    let expected: Vec<IpNet> = vec!["10.9.0.0/24".parse().unwrap(), "fd00:9::/64".parse().unwrap()];
    assert_eq!(facts.kube_router_cidrs, expected);
}

#[test]
fn a_node_that_is_not_there_is_not_an_error() {
    assert_eq!(read("kind: List\nitems: []\n").unwrap(), None);
}

#[test]
fn a_list_of_thousands_of_nodes_is_no_surprise() {
    let mut text = String::from("kind: List\nitems:\n");
    for at in 0..6000 {
        text += &format!(
            "- kind: Node\n  metadata:\n    name: node-{at}\n    labels: {{a: b, c: d, e: f, g: h, i: j, k: l, m: n, o: p, q: r, s: t, u: v}}\n"
        );
    }
    text += "- kind: Node\n  metadata: {name: node-a}\n";
    assert!(read(&text).unwrap().is_some());
}

#[test]
fn nonsense_is_an_error_that_says_what_was_expected() {
    for text in ["", "just words", "{\"kind\": ", "a: [", "- 1\n- 2\n"] {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.contains("is not what `kubectl get nodes -o yaml` prints"),
            "{text:?}: {error}"
        );
    }
    let error = read("kind: Node\nmetadata: {name: node-a}\nspec: {podCIDR: 10.244.1.0}\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "Node \"node-a\": podCIDR \"10.244.1.0\" is not a prefix"
    );
}

/// A kubeconfig below a root of its own, as the kubelet keeps it, for a server at `port`.
fn host(port: u16) -> (tempfile::TempDir, HostRoot) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("etc/kubernetes")).unwrap();
    std::fs::write(dir.path().join("etc/kubernetes/token"), "secret").unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             users: [{{name: u, user: {{tokenFile: /etc/kubernetes/token}}}}]\n"
    );
    std::fs::write(dir.path().join("etc/kubernetes/kubelet.conf"), text).unwrap();
    let root = HostRoot::new(dir.path());
    (dir, root)
}

/// Answers one request and returns it.
async fn answer(status: &str, body: &str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let got = stream.read(&mut request).await.unwrap();
        stream.write_all(reply.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..got]).into_owned()
    });
    (port, served)
}

#[tokio::test]
async fn the_kubelets_kubeconfig_of_a_mounted_host_is_used() {
    let body = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}, "spec": {"podCIDRs": ["10.244.1.0/24"]}}"#;
    let (port, served) = answer("200 OK", body).await;
    let (_dir, root) = host(port);
    let (facts, server) = from_kubeconfig(&root, None, "node-a").await.unwrap();
    assert_eq!(facts.unwrap().pod_cidrs, ["10.244.1.0/24".parse().unwrap()]);
    assert_eq!(server, format!("http://127.0.0.1:{port}/"));
    let request = served.await.unwrap().to_lowercase();
    assert!(request.starts_with("get /api/v1/nodes/node-a"), "{request}");
    assert!(request.contains("authorization: bearer secret"), "{request}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_next() {
    let body = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": "nodes \"node-a\" is forbidden: node \"node-b\" cannot read \"node-a\", only its own Node object"}"#;
    let (port, _served) = answer("403 Forbidden", body).await;
    let (_dir, root) = host(port);
    let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
    assert!(error.contains("only its own Node object"), "{error}");
    assert!(error.contains("--cluster-state"), "{error}");
}

#[tokio::test]
async fn a_node_that_the_api_server_does_not_know_is_not_an_error() {
    let body = r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "code": 404,
            "message": "nodes \"node-a\" not found"}"#;
    let (port, _served) = answer("404 Not Found", body).await;
    let (_dir, root) = host(port);
    let (facts, _) = from_kubeconfig(&root, None, "node-a").await.unwrap();
    assert_eq!(facts, None);
}

#[tokio::test]
async fn an_api_server_that_is_not_there_and_a_missing_kubeconfig_are_told_apart() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let (_dir, root) = host(port);
    let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
    assert!(
        error.contains("refused") && error.contains("--cluster-state"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = from_kubeconfig(&HostRoot::new(empty.path()), None, "node-a")
        .await
        .unwrap_err();
    assert!(matches!(error, NodeError::NoKubeconfig));
}

#[tokio::test]
async fn a_program_of_a_mounted_host_is_never_run() {
    let (dir, root) = host(1);
    let path = dir.path().join("etc/kubernetes/kubelet.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace(
            "tokenFile: /etc/kubernetes/token",
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}",
        ),
    )
    .unwrap();
    let error = from_kubeconfig(&root, None, "node-a").await.unwrap_err().to_string();
    assert!(error.contains("running a program of the host"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "[\\[\\]{}:,a-z\"'#&*!|>\n -]{0,120}") {
        let _ = parse(&text);
    }
}
