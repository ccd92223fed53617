//! etcd, spoken to behind the API server's back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use cidrift_lab::kubernetes::Cluster;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

/// Asks its JSON gateway.
fn post(cluster: &Cluster, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = || {
        let mut stream = TcpStream::connect("127.0.0.1:2379")?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = cluster.plane().netns.run(exchange).unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Deletes what is stored under this key, and everything that was before it from its history.
pub(crate) fn delete_and_forget(cluster: &Cluster, key: &str) {
    let key = ByteString(key.as_bytes().to_vec());
    let gone = post(cluster, "/v3/kv/deleterange", &json!({"key": key}));
    assert_eq!(gone["deleted"], "1", "{gone}");
    let revision = &gone["header"]["revision"];
    post(
        cluster,
        "/v3/kv/compaction",
        &json!({"revision": revision, "physical": true}),
    );
}
